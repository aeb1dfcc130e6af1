//! The question to the policy.

use bot_bottle_core::{
    decision::Decision,
    policy::{Headers, Policy, RequestFacts, same_field},
};
use http::{HeaderMap, request::Parts};

use super::destination::Destination;

#[derive(Debug)]
struct RequestHeaders<'a>(&'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn each_value(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.0
            .iter()
            .filter(|(field, _)| same_field(field.as_str(), name))
            .for_each(|(_, value)| visit(value.as_bytes()));
    }
}

/// Asks the policy about a request, as it will be sent.
pub(crate) fn decide(policy: &Policy, request: &Parts, destination: &Destination) -> Decision {
    policy.decide(&RequestFacts {
        host: &destination.host,
        port: destination.port,
        encrypted: destination.encrypted,
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query(),
        headers: &RequestHeaders(&request.headers),
    })
}
