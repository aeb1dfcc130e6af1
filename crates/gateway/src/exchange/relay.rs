//! Connects to the upstream, sends the request and streams both ways.

use bot_bottle_core::decision::{DecidedBy, Reason};
use http::{Request, Response, Version};

use super::{
    Asked, ClientConnection, Exchange,
    body::ResponseBody,
    hop_by_hop::{self, Upgrade},
    normalise::Destination,
    record::Entry,
    refuse::Refusal,
    websocket,
};
use crate::{
    state::State,
    upstream::{self, Alpn, RequestBody},
};

/// Relays an exchange that was let out. A failure of the upstream ends its entry and becomes a refusal.
pub(super) async fn relay(
    state: &State,
    client: &ClientConnection,
    asked: &Asked,
    exchange: Exchange,
    destination: &Destination,
    mut entry: Entry,
) -> Response<ResponseBody> {
    let Exchange { parts, mut body, upgrade, on_upgrade, permit, .. } = exchange;
    body.count_into(entry.sent(), state.in_flight.share());
    let finding = body.finding();
    let request = Request::from_parts(parts, RequestBody::new(body));
    let answered = send(state, client, request, destination, upgrade).await.map_err(|refusal| {
        // The upstream has seen a body that breaks off, and may have answered that.
        finding.reason().map_or(refusal, |reason| Refusal::new(reason, DecidedBy::Policy))
    });
    let refusal = match answered {
        Ok((mut response, granted)) => {
            entry.answered(response.status());
            match (granted, on_upgrade) {
                (Upgrade::None, _) => {
                    let in_flight = state.in_flight.share();
                    return response.map(|body| ResponseBody::relayed(body, entry, permit, in_flight));
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
    let refusal = refusal.for_upgrade(upgrade).in_form(asked.form);
    entry.refused(refusal.status, refusal.decision.reason, refusal.decision.source);
    refusal.response(asked.summary())
}

async fn send(
    state: &State,
    client: &ClientConnection,
    request: Request<RequestBody>,
    destination: &Destination,
    upgrade: Upgrade,
) -> Result<(Response<upstream::Body>, Upgrade), Refusal> {
    let alpn = match upgrade {
        Upgrade::WebSocket => Alpn::Http1,
        Upgrade::None => Alpn::Any,
    };
    let sent = state.upstream.send(destination.origin()?, alpn, &client.party, request).await;
    let mut response = sent.map_err(|error| {
        tracing::info!(host = %destination.host, %error, "an upstream failed");
        let (reason, decided_by) = error.reason();
        Refusal::new(reason, decided_by)
    })?;
    let granted = websocket::granted(response.status(), upgrade)
        .map_err(|_| Refusal::new(Reason::UpstreamProtocol, DecidedBy::Upstream))?;
    hop_by_hop::response(response.headers_mut(), granted);
    *response.version_mut() = Version::HTTP_11;
    Ok((response, granted))
}
