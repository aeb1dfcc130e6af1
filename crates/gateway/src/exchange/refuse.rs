//! Refusals: their receipt, status and body.

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason, RefusalBody},
    receipt::{MAX_PATH_BYTES, RequestSummary},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::{body::ResponseBody, hop_by_hop::Upgrade};
use crate::{
    limits::{MAX_HOST_ECHO, MAX_METHOD_ECHO},
    receipts::{Details, ReceiptNotWritten, Receipts, RefusalNotWritten, cut},
};

/// A refusal on its way to the client.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) decision: Decision,
    pub(crate) status: StatusCode,
    /// The exchange that it ends, where that has a line in the receipts already.
    exchange: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, source: DecidedBy) -> Self {
        Decision::refuse(reason, source).into()
    }

    pub(crate) fn malformed() -> Self {
        Self::new(Reason::MalformedRequest, DecidedBy::Protocol)
    }

    pub(crate) fn internal() -> Self {
        Self::new(Reason::Internal, DecidedBy::Limits)
    }

    pub(super) fn in_exchange(self, number: u64) -> Self {
        Self { exchange: Some(number), ..self }
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Refused WebSocket upgrades are answered 426: clients then fall back to plain requests at once, where
    /// they retry a 403 for seconds.
    pub(super) fn for_upgrade(self, upgrade: Upgrade) -> Self {
        match (upgrade, self.status) {
            (Upgrade::WebSocket, StatusCode::FORBIDDEN) => self.with_status(StatusCode::UPGRADE_REQUIRED),
            _ => self,
        }
    }

    /// The response, for a request of this summary.
    pub(crate) fn response(&self, request: RequestSummary<'_>) -> Response<ResponseBody> {
        let reason = self.decision.reason;
        let body = serde_json::to_vec(&RefusalBody {
            reason,
            host: cut(request.host, MAX_HOST_ECHO),
            method: cut(request.method, MAX_METHOD_ECHO),
            path: cut(request.path, MAX_PATH_BYTES),
            hint: reason.hint(),
        })
        .unwrap_or_default();
        let length = body.len();
        let body = if request.method == Method::HEAD.as_str() {
            ResponseBody::empty()
        } else {
            ResponseBody::whole(Bytes::from(body))
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 section 15.5.22 wants to be told what to speak instead.
            headers.insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        response
    }
}

/// Writes down a refusal and answers it.
pub(crate) fn refuse(
    receipts: &Receipts,
    request: RequestSummary<'_>,
    refusal: Refusal,
) -> Response<ResponseBody> {
    let status = Some(refusal.status.as_u16());
    let written = match refusal.exchange {
        // An exchange that has a line ends with one.
        exchange @ Some(_) => {
            let details = Details { status, exchange, ..Details::default() };
            receipts.record(request, &refusal.decision, details).map(drop).map_err(Refusal::from)
        }
        None => receipts.refuse(request, &refusal.decision, status).map_err(Refusal::from),
    };
    written.map_or_else(|instead| instead, |()| refusal).response(request)
}

impl From<ReceiptNotWritten> for Refusal {
    fn from(ReceiptNotWritten: ReceiptNotWritten) -> Self {
        Self::internal()
    }
}

impl From<RefusalNotWritten> for Refusal {
    fn from(not_written: RefusalNotWritten) -> Self {
        match not_written {
            RefusalNotWritten::Failed(failed) => failed.into(),
            RefusalNotWritten::TooMany => Self::new(Reason::LimitReached, DecidedBy::Limits),
        }
    }
}

impl From<Decision> for Refusal {
    fn from(decision: Decision) -> Self {
        let status = status_of(decision.reason);
        Self { decision, status, exchange: None }
    }
}

/// Told in `docs/egress.md`, "What a refusal says".
fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::MalformedRequest | Reason::MalformedHost | Reason::UnknownProtocol => StatusCode::BAD_REQUEST,
        Reason::HostMismatch => StatusCode::MISDIRECTED_REQUEST,
        Reason::NameUnresolvable
        | Reason::UpstreamUnreachable
        | Reason::UpstreamTls
        | Reason::UpstreamProtocol => StatusCode::BAD_GATEWAY,
        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        // What is refused for what it is, rather than for how it was asked.
        _ => StatusCode::FORBIDDEN,
    }
}
