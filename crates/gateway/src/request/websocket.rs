//! WebSockets: asked for like any other request, then relayed as bytes.

use http::{Method, StatusCode, Version, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use crate::limits::UPGRADE_BUFFER;

use super::strip::Upgrade;

/// What a request wants to become. Only WebSockets are relayed; any other upgrade is a wish that a server may
/// ignore (RFC 9110 section 7.8), and so do we, by not passing it on.
pub(crate) fn wanted(request: &Parts) -> Upgrade {
    let is_websocket = request.version == Version::HTTP_11
        && request.method == Method::GET
        && names(request, header::CONNECTION, b"upgrade")
        && request.headers.get_all(header::UPGRADE).iter().count() == 1
        && names(request, header::UPGRADE, b"websocket");
    if is_websocket { Upgrade::WebSocket } else { Upgrade::None }
}

fn names(request: &Parts, header: header::HeaderName, token: &[u8]) -> bool {
    request
        .headers
        .get_all(header)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Whether the upstream granted what was asked for. It must not switch protocols unasked.
pub(crate) fn answered(status: StatusCode, asked: Upgrade) -> Result<Upgrade, UnaskedUpgrade> {
    match (status, asked) {
        (StatusCode::SWITCHING_PROTOCOLS, Upgrade::WebSocket) => Ok(Upgrade::WebSocket),
        (StatusCode::SWITCHING_PROTOCOLS, Upgrade::None) => Err(UnaskedUpgrade),
        _ => Ok(Upgrade::None),
    }
}

/// The upstream switched protocols although nobody asked it to.
#[derive(Debug)]
pub(crate) struct UnaskedUpgrade;

/// Copies in both directions until both have ended, or one stalls (the connections themselves bound that).
pub(crate) async fn relay(client: OnUpgrade, upstream: OnUpgrade) {
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok((client, upstream)) => (client, upstream),
        Err(error) => {
            tracing::debug!(%error, "a WebSocket could not be set up");
            return;
        }
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    let copied =
        copy_bidirectional_with_sizes(&mut client, &mut upstream, UPGRADE_BUFFER, UPGRADE_BUFFER).await;
    match copied {
        Ok((sent, received)) => tracing::debug!(sent, received, "a WebSocket ended"),
        Err(error) => tracing::debug!(%error, "a WebSocket broke off"),
    }
}
