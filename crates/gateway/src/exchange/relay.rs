//! Connects to the upstream, sends the request and streams both ways.

use bot_bottle_core::decision::{DecidedBy, Reason};
use http::{Request, Response, Version};
use hyper::upgrade::OnUpgrade;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Answered, Asked, ClientConnection,
    body::RequestBody,
    hop_by_hop::{self, Upgrade},
    normalise::Destination,
    record::Entry,
    refuse::Refusal,
    response_body::{Begun, ResponseBody},
    websocket,
};
use crate::{
    state::State,
    upstream::{self, Alpn},
};

/// Sends a request that was let out, and waits for the head of the answer.
pub(super) async fn send(
    state: &State,
    client: &ClientConnection,
    request: Request<RequestBody>,
    destination: &Destination,
    upgrade: Upgrade,
    entry: &Entry,
) -> Result<Answered, Refusal> {
    let (parts, mut body) = request.into_parts();
    body.count_into(entry.sent(), state.in_flight.share());
    let finding = body.finding();
    let request = Request::from_parts(parts, upstream::RequestBody::new(body));
    let alpn = match upgrade {
        Upgrade::WebSocket => Alpn::Http1,
        Upgrade::None => Alpn::Any,
    };
    let sent = state.upstream.send(destination.origin()?, alpn, &client.party, request).await;
    let answered = sent
        .map_err(|error| {
            tracing::info!(host = %destination.host, %error, "an upstream failed");
            let (reason, decided_by) = error.reason();
            Refusal::new(reason, decided_by)
        })
        .and_then(|response| granted(response, upgrade));
    // The upstream has seen a body that breaks off, and may have answered that.
    answered
        .map_err(|refusal| finding.reason().map_or(refusal, |reason| Refusal::new(reason, DecidedBy::Policy)))
}

/// Passes the answer on. A failure of the upstream ends the exchange's entry and becomes a refusal.
pub(super) fn pass_on(
    state: &State,
    asked: &Asked,
    answered: Result<Answered, Refusal>,
    on_upgrade: Option<OnUpgrade>,
    permit: Option<OwnedSemaphorePermit>,
    mut entry: Entry,
) -> Response<ResponseBody> {
    let refusal = match answered {
        Ok(Answered { mut response, granted, begun }) => {
            entry.answered(response.status());
            match (granted, on_upgrade) {
                (Upgrade::None, _) => {
                    let in_flight = state.in_flight.share();
                    return response.map(|body| ResponseBody::relayed(begun, body, entry, permit, in_flight));
                }
                (Upgrade::WebSocket, Some(client)) => {
                    let upstream = hyper::upgrade::on(&mut response);
                    tokio::spawn(websocket::relay(client, upstream, entry, permit));
                    return response.map(|_| ResponseBody::empty());
                }
                (Upgrade::WebSocket, None) => Refusal::internal(),
            }
        }
        Err(refusal) => refusal,
    };
    let refusal = refusal.for_upgrade(asked.upgrade).in_form(asked.form);
    entry.refused(refusal.status, refusal.decision.reason, refusal.decision.source);
    refusal.response(asked.summary())
}

fn granted(mut response: Response<upstream::Body>, upgrade: Upgrade) -> Result<Answered, Refusal> {
    let granted = websocket::granted(response.status(), upgrade)
        .map_err(|_| Refusal::new(Reason::UpstreamProtocol, DecidedBy::Upstream))?;
    hop_by_hop::response(response.headers_mut(), granted);
    *response.version_mut() = Version::HTTP_11;
    Ok(Answered { response, granted, begun: Begun::new() })
}
