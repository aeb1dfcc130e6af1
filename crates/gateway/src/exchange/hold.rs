//! Holds a request until the operator has answered.

use std::sync::Arc;

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason, Verdict},
    gateway_config::GatewayEvent,
};

use super::{Asked, ClientConnection, Exchange, record::Entry, refuse::Refusal};
use crate::{limits::ANSWER_TIMEOUT, questions::Answer, state::State};

/// Lets an exchange pass whose decision is not to ask. Otherwise asks, and writes the answer down.
///
/// The request's permit is given back meanwhile, so that requests that wait hold up no others, and the
/// client's connection counts as used when the answer is there.
pub(super) async fn hold(
    state: &State,
    client: &ClientConnection,
    asked: &Asked,
    exchange: &mut Exchange,
    decision: &Decision,
    entry: Entry,
) -> Result<Entry, Refusal> {
    if decision.verdict != Verdict::Ask {
        return Ok(entry);
    }
    exchange.permit = None;
    let summary = asked.summary();
    let question = GatewayEvent::Question {
        exchange: entry.exchange(),
        method: summary.method.to_owned(),
        host: summary.host.to_owned(),
        port: summary.port,
        path: summary.path.to_owned(),
    };
    let answer = state.questions.ask(entry.exchange(), question, ANSWER_TIMEOUT).await;
    client.activity.touch();
    let refused = |entry: Entry, reason, source| {
        let refused = Decision { verdict: Verdict::Refuse, reason, source, ..decision.clone() };
        Refusal::from(refused).in_exchange(entry.superseded())
    };
    match answer {
        Answer::Allowed => {}
        Answer::Refused | Answer::Unanswered => {
            return Err(refused(entry, Reason::NotApproved, DecidedBy::Operator));
        }
        Answer::TooMany => {
            return Err(refused(entry, Reason::LimitReached, DecidedBy::Limits));
        }
    }
    exchange.permit = Arc::clone(&state.requests).try_acquire_owned().ok();
    if exchange.permit.is_none() {
        return Err(refused(entry, Reason::LimitReached, DecidedBy::Limits));
    }
    let approved = Decision {
        verdict: Verdict::Allow,
        reason: Reason::Approved,
        source: DecidedBy::Operator,
        ..decision.clone()
    };
    entry.decided(summary, &approved)?;
    Ok(entry)
}
