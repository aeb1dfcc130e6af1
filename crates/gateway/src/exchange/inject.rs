//! Puts the route's credential in. The last stage before the relay, so that no other stage sees it.

use http::{HeaderMap, HeaderValue, header};

/// Sets `Authorization`. `strip` has removed the agent's own.
pub(super) fn inject(headers: &mut HeaderMap, credential: Option<&HeaderValue>) {
    if let Some(credential) = credential {
        headers.insert(header::AUTHORIZATION, credential.clone());
    }
}
