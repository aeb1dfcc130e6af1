//! A request as the policy sees it.

use bot_bottle_core::policy::{Headers, RequestFacts, same_field};
use http::{HeaderMap, request::Parts};

use super::normalise::Destination;

/// The headers of a request, by names that servers may take for one.
#[derive(Debug)]
pub(super) struct RequestHeaders<'a>(pub(super) &'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn each_value(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0
            .iter()
            .filter(|(field, _)| same_field(field.as_str(), name))
            .for_each(|(_, value)| visit(value.as_bytes()));
    }
}

/// Destination, line and headers of a request, as it will be sent.
pub(super) fn facts<'a>(
    parts: &'a Parts,
    destination: &'a Destination,
    headers: &'a RequestHeaders<'a>,
) -> RequestFacts<'a> {
    RequestFacts {
        host: &destination.host,
        port: destination.port,
        encrypted: destination.tls,
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers,
    }
}
