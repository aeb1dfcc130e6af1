//! Counts a request and bounds its head.

use std::sync::Arc;

use bot_bottle_core::decision::{DecidedBy, Reason};
use http::{Request, StatusCode};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use super::{Exchange, body::RequestBody, hop_by_hop::Upgrade, refuse::Refusal};
use crate::{limits::MAX_HEADERS, state::State};

/// Takes a request apart, if there is a permit for it.
pub(super) fn read(state: &State, request: Request<Incoming>, upgrade: Upgrade) -> Result<Exchange, Refusal> {
    let limit_reached = || Refusal::new(Reason::LimitReached, DecidedBy::Limits);
    let permit = Arc::clone(&state.requests).try_acquire_owned().map_err(|_| limit_reached())?;
    let (mut parts, body) = request.into_parts();
    // HTTP/2 bounds the bytes of a head, not the number of its fields.
    if parts.headers.len() > MAX_HEADERS {
        return Err(limit_reached().with_status(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
    }
    let version = parts.version;
    let on_upgrade = parts.extensions.remove::<OnUpgrade>();
    Ok(Exchange { parts, body: RequestBody::of(body, version), upgrade, on_upgrade, permit: Some(permit) })
}
