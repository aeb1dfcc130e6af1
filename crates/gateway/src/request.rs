//! The way of one request: destination → strip → decide → (scan) → inject → relay.

use std::sync::Arc;

use bot_bottle_core::{
    decision::{Decision, Reason, Source},
    receipt::RequestSummary,
};
use http::{Request, Response, StatusCode, Uri, Version, header, request::Parts, uri};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use crate::{
    body::{RequestBody, ResponseBody},
    flow::Flow,
    gateway::Gateway,
    limits::MAX_HEADERS,
    receipts::ReceiptNotWritten,
    refusal::Denial,
    upstream::{Key, Offer},
};

mod decide;
pub(crate) mod destination;
mod inject;
pub(crate) mod strip;
mod websocket;

use destination::Destination;
use strip::Upgrade;

/// Answers a request: with the upstream's response, or with a refusal.
pub(crate) async fn answer(
    gateway: &Arc<Gateway>,
    flow: &Flow,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let (mut parts, body) = request.into_parts();
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    let upgrade = websocket::wanted(&parts);
    let asked = Asked::of(&parts, flow);
    let outcome = relay(gateway, flow, &asked, parts, body, upgrade, on_upgrade).await;
    outcome.unwrap_or_else(|denial| {
        let denial = if upgrade == Upgrade::WebSocket { denial.of_upgrade() } else { denial };
        gateway.refuse(asked.summary(), denial)
    })
}

/// What was asked for, kept for receipts and refusals while the request itself moves on.
struct Asked {
    method: http::Method,
    uri: Uri,
    host: String,
    port: u16,
}

impl Asked {
    fn of(parts: &Parts, flow: &Flow) -> Self {
        let (host, port) = match (&flow.tunnel, parts.uri.authority()) {
            (Some(tunnel), _) => (tunnel.host.to_string(), tunnel.port),
            (None, Some(authority)) => {
                let port = if parts.uri.scheme() == Some(&uri::Scheme::HTTPS) { 443 } else { 80 };
                let host = authority.as_str().rsplit('@').next().unwrap_or_default();
                let named = crate::flow::Target::parse(host, Some(port)).ok();
                let port = named.as_ref().map_or(port, |target| target.port);
                (named.map_or_else(|| host.to_owned(), |target| target.host.to_string()), port)
            }
            (None, None) => (String::new(), 0),
        };
        Self { method: parts.method.clone(), uri: parts.uri.clone(), host, port }
    }

    fn summary(&self) -> RequestSummary<'_> {
        RequestSummary {
            method: self.method.as_str(),
            host: &self.host,
            port: self.port,
            path: self.uri.path(),
        }
    }
}

async fn relay(
    gateway: &Arc<Gateway>,
    flow: &Flow,
    asked: &Asked,
    mut parts: Parts,
    body: Incoming,
    upgrade: Upgrade,
    on_upgrade: Option<OnUpgrade>,
) -> Result<Response<ResponseBody>, Denial> {
    let _place = Arc::clone(&gateway.requests).try_acquire_owned().map_err(|_| limit_reached())?;
    if parts.headers.len() > MAX_HEADERS {
        return Err(limit_reached().with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    let destination = destination::of(&parts, flow)?;
    // What is decided on is what will be sent; the credential alone comes after it.
    strip::request(&mut parts.headers, upgrade);
    parts.headers.insert(header::HOST, destination.host_header()?);
    let policy = gateway.policy.load_full();
    let decision = decide::decide(&policy.policy, &parts, &destination);
    if !decision.allows() {
        return Err(decision.into());
    }
    // Here the scanner will look at the request, before anything of it is sent.
    let (key, offer) = route_to(&destination, upgrade)?;
    let target = absolute(&parts.uri, &destination)?;
    let upstream = &gateway.upstream;
    let connection = upstream.connection(key, offer).await.map_err(|error| {
        tracing::info!(host = %destination.host, %error, "no connection to an upstream");
        Denial::from_upstream(&error, &decision)
    })?;
    gateway.record(asked.summary(), &decision)?;

    inject::credential(&mut parts.headers, policy.credential(&decision));
    parts.uri = target;
    let body = RequestBody::relayed(body, policy.headers_decided_on(&decision));
    let request = Request::from_parts(parts, body);
    let (mut response, lease) = upstream.send(connection, request, offer).await.map_err(|error| {
        tracing::info!(host = %destination.host, %error, "an upstream failed");
        Denial::from_upstream(&error, &decision)
    })?;

    let granted = websocket::answered(response.status(), upgrade)
        .map_err(|_| Denial::new(Reason::UpstreamProtocol, Source::Upstream))?;
    strip::response(response.headers_mut(), granted);
    *response.version_mut() = Version::HTTP_11;
    match (granted, on_upgrade) {
        (Upgrade::WebSocket, Some(client)) => {
            let upstream = hyper::upgrade::on(&mut response);
            tokio::spawn(websocket::relay(client, upstream));
            Ok(response.map(|_| ResponseBody::empty()))
        }
        (Upgrade::WebSocket, None) => Err(Denial::internal()),
        (Upgrade::None, _) => Ok(response.map(|incoming| ResponseBody::relayed(incoming, lease))),
    }
}

fn route_to(destination: &Destination, upgrade: Upgrade) -> Result<(Key, Offer), Denial> {
    // The policy has refused address literals already; without a name there is nothing to dial.
    let host = destination.host.name().cloned().ok_or_else(Denial::internal)?;
    let key = Key { host, port: destination.port, encrypted: destination.encrypted };
    let offer = match upgrade {
        Upgrade::WebSocket => Offer::Http1,
        Upgrade::None => Offer::Any,
    };
    Ok((key, offer))
}

/// The request's URI with the destination that was agreed on, in its one spelling.
fn absolute(written: &Uri, destination: &Destination) -> Result<Uri, Denial> {
    let scheme = if destination.encrypted { uri::Scheme::HTTPS } else { uri::Scheme::HTTP };
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(destination.authority().parse().map_err(|_| Denial::internal())?);
    parts.path_and_query =
        Some(written.path_and_query().cloned().unwrap_or_else(|| uri::PathAndQuery::from_static("/")));
    Uri::from_parts(parts).map_err(|_| Denial::malformed())
}

fn limit_reached() -> Denial {
    Denial::new(Reason::LimitReached, Source::Limits)
}

impl Gateway {
    /// Writes down that a request goes on. If that fails, it does not.
    fn record(&self, request: RequestSummary<'_>, decision: &Decision) -> Result<(), Denial> {
        self.receipts.record(request, decision, None).map_err(|ReceiptNotWritten| Denial::internal())
    }

    /// Writes down a refusal and words it.
    pub(crate) fn refuse(&self, request: RequestSummary<'_>, denial: Denial) -> Response<ResponseBody> {
        let written = self.receipts.record(request, &denial.decision, Some(denial.status.as_u16()));
        let denial = written.map_or_else(|ReceiptNotWritten| Denial::internal(), |()| denial);
        denial.response(request)
    }
}
