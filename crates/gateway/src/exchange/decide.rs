//! Asks the policy.

use bot_bottle_core::{
    decision::{Decision, Verdict},
    policy::Policy,
};

use super::{
    Exchange,
    facts::{RequestHeaders, facts},
    normalise::Destination,
    refuse::Refusal,
};

/// Asks the policy about a request, as it will be sent. A refusal is an error; the decision may be to ask.
pub(super) fn decide(
    policy: &Policy,
    exchange: &Exchange,
    destination: &Destination,
) -> Result<Decision, Refusal> {
    let headers = RequestHeaders(&exchange.parts.headers);
    let decision = policy.decide(&facts(&exchange.parts, destination, &headers));
    if decision.verdict == Verdict::Refuse { Err(decision.into()) } else { Ok(decision) }
}
