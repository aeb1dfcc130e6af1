//! WebSockets: asked for like any other request, then relayed as bytes.

use std::{io, sync::atomic::Ordering};

use http::{Method, Request, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{io::copy_bidirectional_with_sizes, sync::OwnedSemaphorePermit};
use tokio_util::io::InspectReader;

use crate::limits::UPGRADE_BUFFER;

use super::{hop_by_hop::Upgrade, record::Entry};

/// The upgrade that a request asks for. Only WebSockets are relayed; any other upgrade is a wish that a
/// server may ignore (RFC 9110 section 7.8), and so do we, by not passing it on.
pub(super) fn requested<B>(request: &Request<B>) -> Upgrade {
    let is_websocket = request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && names(request, header::CONNECTION, b"upgrade")
        && request.headers().get_all(header::UPGRADE).iter().count() == 1
        && names(request, header::UPGRADE, b"websocket");
    if is_websocket { Upgrade::WebSocket } else { Upgrade::None }
}

fn names<B>(request: &Request<B>, header: header::HeaderName, token: &[u8]) -> bool {
    request
        .headers()
        .get_all(header)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// Whether the upstream granted what was asked for. It must not switch protocols unasked.
pub(super) fn granted(status: StatusCode, asked: Upgrade) -> Result<Upgrade, UnaskedUpgrade> {
    match (status, asked) {
        (StatusCode::SWITCHING_PROTOCOLS, Upgrade::WebSocket) => Ok(Upgrade::WebSocket),
        (StatusCode::SWITCHING_PROTOCOLS, Upgrade::None) => Err(UnaskedUpgrade),
        _ => Ok(Upgrade::None),
    }
}

/// The upstream switched protocols although nobody asked it to.
#[derive(Debug)]
pub(super) struct UnaskedUpgrade;

/// Copies in both directions until both have ended, or one stalls (the connections themselves bound that).
/// A WebSocket has its place among the requests as long as it lives.
pub(super) async fn relay(
    client: OnUpgrade,
    upstream: OnUpgrade,
    mut entry: Entry,
    permit: Option<OwnedSemaphorePermit>,
) {
    let _permit = permit;
    let (client, upstream) = match tokio::try_join!(client, upstream) {
        Ok((client, upstream)) => (client, upstream),
        Err(error) => {
            tracing::debug!(%error, "a WebSocket could not be set up");
            return;
        }
    };
    let sent = entry.sent();
    let mut client = InspectReader::new(TokioIo::new(client), |bytes| {
        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    });
    let mut upstream = InspectReader::new(TokioIo::new(upstream), |bytes| entry.received(bytes.len() as u64));
    let copied =
        copy_bidirectional_with_sizes(&mut client, &mut upstream, UPGRADE_BUFFER, UPGRADE_BUFFER).await;
    drop(upstream);
    match copied {
        Ok(_) => entry.complete(),
        // TLS that ends without a word (RFC 8446 section 6.1): many servers close a WebSocket so.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => entry.complete(),
        Err(error) => tracing::debug!(%error, "a WebSocket broke off"),
    }
}
