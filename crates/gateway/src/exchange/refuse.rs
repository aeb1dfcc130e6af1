//! Refusals: their receipt, status and body.

use std::{fmt::Write as _, sync::Arc};

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason, RefusalBody},
    receipt::{MAX_PATH_BYTES, RequestSummary},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::ext::ReasonPhrase;

use super::{hop_by_hop::Upgrade, response_body::ResponseBody};
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
    form: Form,
    /// What the operator's side said of it: printable, and no longer than [`crate::limits::MAX_RENEWAL_WHY`].
    why: Option<Arc<str>>,
}

/// How a refusal is written for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One JSON object, for whoever reads the body.
    Json,
    /// A sentence: git prints the body of an error only if it is plain text (`show_http_message` in git's
    /// `remote-curl.c`).
    Text,
    /// Status and message of gRPC, in a response that has nothing but headers: other responses are "unknown" to
    /// its clients, whatever their body says.
    Grpc,
}

impl Form {
    /// What the client of this request understands.
    pub(super) fn for_request<B>(request: &Request<B>) -> Self {
        let begins_with = |name: HeaderName, start: &[u8]| {
            let value = request.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
            value.get(..start.len()).is_some_and(|value| value.eq_ignore_ascii_case(start))
        };
        if request.version() == Version::HTTP_2 && begins_with(header::CONTENT_TYPE, b"application/grpc") {
            Self::Grpc
        } else if begins_with(header::USER_AGENT, b"git/") {
            Self::Text
        } else {
            Self::Json
        }
    }
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

    pub(super) fn because(self, why: Option<Arc<str>>) -> Self {
        Self { why, ..self }
    }

    pub(crate) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    pub(super) fn in_form(self, form: Form) -> Self {
        Self { form, ..self }
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
        let (content_type, body) = match self.form {
            Form::Json => ("application/json", self.json(request)),
            Form::Text => ("text/plain", format!("{}\n", self.sentence()).into_bytes()),
            Form::Grpc => return self.grpc_response(),
        };
        let length = body.len();
        let body = if request.method == Method::HEAD.as_str() {
            ResponseBody::empty()
        } else {
            ResponseBody::whole(Bytes::from(body))
        };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 section 15.5.22 wants to be told what to speak instead.
            headers.insert(header::UPGRADE, HeaderValue::from_static("HTTP/1.1"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        // Package managers print this and no body. HTTP/2 has none (RFC 9113 section 8.3.2).
        if let Ok(phrase) = ReasonPhrase::try_from(format!("Refused by bot-bottle: {reason}").into_bytes()) {
            response.extensions_mut().insert(phrase);
        }
        response
    }

    fn json(&self, request: RequestSummary<'_>) -> Vec<u8> {
        let reason = self.decision.reason;
        serde_json::to_vec(&RefusalBody {
            reason,
            host: cut(request.host, MAX_HOST_ECHO),
            method: cut(request.method, MAX_METHOD_ECHO),
            path: cut(request.path, MAX_PATH_BYTES),
            hint: reason.hint(),
            why: self.why.as_deref(),
        })
        .unwrap_or_default()
    }

    fn sentence(&self) -> String {
        let reason = self.decision.reason;
        let why = self.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("bot-bottle refused this, {reason}: {}{why}", reason.hint())
    }

    /// "Trailers-Only" in gRPC's protocol over HTTP/2, whose status is always 200.
    fn grpc_response(&self) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(grpc_status(self.status)));
        if let Ok(message) = HeaderValue::try_from(grpc_message(&self.sentence())) {
            headers.insert("grpc-message", message);
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
        Self { decision, status, exchange: None, form: Form::Json, why: None }
    }
}

/// "Percent-Encoded" in gRPC's protocol over HTTP/2: all but printable ASCII, and the percent sign.
fn grpc_message(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut message, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => message.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(message, "%{byte:02X}")),
        }
        message
    })
}

/// The codes of gRPC that its clients make of a status of HTTP (`http-grpc-status-mapping.md`), but for one: a
/// request that is refused for its form is refused for good, where `INTERNAL` may be tried again.
fn grpc_status(status: StatusCode) -> u16 {
    const INVALID_ARGUMENT: u16 = 3;
    const PERMISSION_DENIED: u16 = 7;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    match status {
        StatusCode::BAD_REQUEST | StatusCode::MISDIRECTED_REQUEST => INVALID_ARGUMENT,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => UNAVAILABLE,
        StatusCode::INTERNAL_SERVER_ERROR => INTERNAL,
        _ => PERMISSION_DENIED,
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
        | Reason::UpstreamProtocol
        | Reason::ProxyRefused
        | Reason::ProxyFailed => StatusCode::BAD_GATEWAY,
        Reason::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Reason::LimitReached => StatusCode::TOO_MANY_REQUESTS,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        // What is refused for what it is, rather than for how it was asked.
        _ => StatusCode::FORBIDDEN,
    }
}
