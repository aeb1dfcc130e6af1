//! Puts the route's credential in. The last stage before the relay, so that no other stage sees it.

use http::request::Parts;

use super::{query, record::Entry, refuse::Refusal};
use crate::credential::Credential;

/// Puts the credential where the route says. `strip` has removed what the agent had there.
pub(super) fn inject(
    parts: &mut Parts,
    credential: Option<&Credential>,
    entry: Entry,
) -> Result<Entry, Refusal> {
    match credential {
        None => {}
        Some(Credential::Header(name, value)) => {
            parts.headers.insert(name, value.clone());
        }
        Some(Credential::Parameter { name, value }) => {
            let with = query::with(parts.uri.query(), name, value);
            if let Err(refusal) = query::set(&mut parts.uri, &with) {
                return Err(refusal.in_exchange(entry.superseded()));
            }
        }
    }
    Ok(entry)
}
