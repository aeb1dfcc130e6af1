//! Has a credential renewed that has come to its end or was refused, and sends on what waited for it.
//!
//! An upstream that answers 401 has done nothing about the request (RFC 9110 section 15.5.2), so that it can be sent
//! once more. It is sent as it was before the injection: what was checked goes again through `inject` and `relay`, to
//! the same destination.

use std::sync::Arc;

use bot_bottle_core::{
    decision::{DecidedBy, Decision, Reason, Verdict},
    gateway_config::RenewalCause,
};
use http::{StatusCode, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::{Answered, ClientConnection, Exchange, body::RequestBody, refuse::Refusal};
use crate::{
    clock::UnixTime,
    credential::Injected,
    kept_body::{KeptBody, Passed},
    limits::{MAX_UNAUTHORIZED_BODY, UNAUTHORIZED_BODY_TIMEOUT},
    renewals::Answer,
    state::{ActivePolicy, State},
};

/// A request as it was before the injection.
pub(super) struct Retained {
    parts: Parts,
    body: KeptBody,
    injected: Arc<Injected>,
}

/// A request to send once more, without a credential yet.
pub(super) struct Repetition {
    pub(super) parts: Parts,
    pub(super) body: RequestBody,
    pub(super) injected: Arc<Injected>,
}

/// Waits for another value where the route's credential has expired, and refuses the request if there is none.
pub(super) async fn unexpired(
    state: &State,
    client: &ClientConnection,
    policy: &Arc<ActivePolicy>,
    decision: &Decision,
) -> Result<(), Refusal> {
    if policy.credential(decision).is_none_or(|injected| injected.expires.is_none()) {
        return Ok(());
    }
    let expired = || state.credential(policy, decision).filter(|newest| newest.has_expired(UnixTime::now()));
    let Some(injected) = expired() else { return Ok(()) };
    let answer = Box::pin(state.renewals.wait(&injected.origin.token_ref, RenewalCause::Expiring)).await;
    client.activity.touch();
    if expired().is_none() {
        return Ok(());
    }
    let refused = |reason, source| {
        Refusal::from(Decision { verdict: Verdict::Refuse, reason, source, ..decision.clone() })
    };
    Err(match answer {
        Answer::NotRenewed(why) => {
            refused(Reason::CredentialExpired, DecidedBy::Credential).because(Some(why))
        }
        Answer::Renewed | Answer::Unanswered => refused(Reason::CredentialExpired, DecidedBy::Credential),
        Answer::TooMany => refused(Reason::LimitReached, DecidedBy::Limits),
    })
}

/// Keeps a request that gets this credential, if there is a launcher to ask for another.
pub(super) fn retain(
    state: &State,
    exchange: &mut Exchange,
    injected: Option<&Arc<Injected>>,
) -> Option<Box<Retained>> {
    let injected = injected.filter(|_| state.renewals.has_launcher())?;
    let body = exchange.body.keep(&state.kept_bodies);
    Some(Box::new(Retained { parts: exchange.parts.clone(), body, injected: Arc::clone(injected) }))
}

/// Waits for another value of the credential of a request that was answered 401, and says what to send then; `None`
/// where the answer goes to the client: there is no other value, or the request was not kept.
pub(super) async fn after_401(
    state: &State,
    client: &ClientConnection,
    decision: &Decision,
    retained: Retained,
    answered: &mut Answered,
) -> Option<Repetition> {
    let Retained { parts, body, injected } = retained;
    let reference = &injected.origin.token_ref;
    let newer = || state.renewed(decision, &injected);
    let passed = body.passed();
    let renewed = match (newer(), &passed) {
        // It was renewed while this request was on its way.
        (Some(newer), _) => newer,
        // The client is still sending, and may be waiting for the answer.
        (None, Passed::Unfinished) => {
            // Ignored: who waits for it is the client's next request.
            let _ = state.renewals.ask(reference, RenewalCause::Refused);
            return None;
        }
        (None, Passed::Whole(_) | Passed::NotKept) => {
            let (_, _) = tokio::join!(
                state.renewals.wait(reference, RenewalCause::Refused),
                timeout(UNAUTHORIZED_BODY_TIMEOUT, read_on(answered)),
            );
            client.activity.touch();
            newer()?
        }
    };
    match passed {
        Passed::Whole(body) => Some(Repetition { parts, body: RequestBody::again(body), injected: renewed }),
        Passed::NotKept | Passed::Unfinished => None,
    }
}

/// Whether an upstream refuses the credential of a request.
pub(super) fn is_refused(answered: &Answered) -> bool {
    answered.response.status() == StatusCode::UNAUTHORIZED
}

/// Reads on in the body of an answer, so that other requests can have its connection meanwhile.
async fn read_on(answered: &mut Answered) {
    let mut bytes = 0;
    while bytes < MAX_UNAUTHORIZED_BODY && !answered.response.body().is_end_stream() {
        let Some(frame) = answered.response.body_mut().frame().await else { return };
        bytes += frame.as_ref().ok().and_then(|frame| frame.data_ref()).map_or(0, bytes::Bytes::len);
        let has_failed = frame.is_err();
        answered.begun.push_back(frame);
        if has_failed {
            return;
        }
    }
}
