//! The question to the policy.

use bot_bottle_core::{
    decision::Decision,
    policy::{Headers, Policy, RequestFacts},
};
use http::{HeaderMap, request::Parts};

use super::destination::Destination;

#[derive(Debug)]
struct RequestHeaders<'a>(&'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn each_value(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for value in self.0.get_all(name) {
            visit(value.as_bytes());
        }
    }
}

/// Asks the policy about a request, as the client sent it.
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
