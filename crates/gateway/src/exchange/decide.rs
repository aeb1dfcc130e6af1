//! Asks the policy.

use bot_bottle_core::{
    decision::{Decision, Verdict},
    policy::{Headers, Policy, RequestFacts, same_field},
};
use http::{HeaderMap, request::Parts};

use super::{normalise::Destination, refuse::Refusal};

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

/// Asks the policy about a request, as it will be sent. A refusal is an error; the decision may be to ask.
pub(super) fn decide(
    policy: &Policy,
    request: &Parts,
    destination: &Destination,
) -> Result<Decision, Refusal> {
    let decision = policy.decide(&RequestFacts {
        host: &destination.host,
        port: destination.port,
        encrypted: destination.tls,
        method: request.method.as_str(),
        path: request.uri.path(),
        query: request.uri.query(),
        headers: &RequestHeaders(&request.headers),
    });
    if decision.verdict == Verdict::Refuse { Err(decision.into()) } else { Ok(decision) }
}
