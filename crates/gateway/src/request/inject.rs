//! What is put into a request. The last step before the relay, so that nothing that looks at a request sees what
//! we added.

use http::{HeaderMap, HeaderValue, header};

/// Puts the route's credential in. The agent's own is gone already.
pub(crate) fn credential(headers: &mut HeaderMap, credential: Option<&HeaderValue>) {
    if let Some(credential) = credential {
        headers.insert(header::AUTHORIZATION, credential.clone());
    }
}
