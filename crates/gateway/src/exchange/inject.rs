//! Puts the route's credential in. The last stage before the relay, so that no other stage sees it.

use http::request::Parts;

use super::{query, refuse::Refusal};
use crate::credential::Credential;

/// Puts the credential where the route says. `strip` has removed what the agent had there.
pub(super) fn inject(parts: &mut Parts, credential: &Credential) -> Result<(), Refusal> {
    match credential {
        Credential::Header(name, value) => {
            parts.headers.insert(name, value.clone());
            Ok(())
        }
        Credential::Parameter { name, value } => {
            let with = query::with(parts.uri.query(), name, value);
            query::set(&mut parts.uri, &with)
        }
    }
}
