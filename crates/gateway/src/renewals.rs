//! Secrets of which the launcher is asked for another value, and the requests that wait for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bot_bottle_core::{
    gateway_config::{GatewayEvent, RenewalCause},
    secret::SecretRef,
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, timeout_at},
};

use crate::limits::{MAX_UNREAD_RENEWALS, MAX_WAITING_FOR_RENEWAL, RENEWAL_INTERVAL, RENEWAL_TIMEOUT};

/// The questions to the launcher. All requests with one secret share one, and there is one a minute at most: each may
/// run a command of the operator's, and a bottle can have as many requests refused as it likes.
#[derive(Debug)]
pub(crate) struct Renewals {
    /// The last question about each secret that routes inject.
    asked: Mutex<HashMap<SecretRef, Question>>,
    /// Permits for requests that wait.
    places: Semaphore,
    launcher: OnceLock<mpsc::Sender<GatewayEvent>>,
}

#[derive(Debug)]
struct Question {
    since: Instant,
    cause: RenewalCause,
    answer: watch::Sender<Option<Answer>>,
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What the launcher has is in force.
    Renewed,
    /// It has nothing else: why, as text that can be shown.
    NotRenewed(Arc<str>),
    /// The time for an answer has passed, or there is no launcher to ask.
    Unanswered,
    /// Too many requests wait.
    TooMany,
}

impl Default for Renewals {
    fn default() -> Self {
        let places = Semaphore::new(MAX_WAITING_FOR_RENEWAL);
        Self { asked: Mutex::default(), places, launcher: OnceLock::new() }
    }
}

impl Renewals {
    /// The questions for the launcher; can be taken once.
    pub(crate) fn events(&self) -> Option<mpsc::Receiver<GatewayEvent>> {
        let (sender, receiver) = mpsc::channel(MAX_UNREAD_RENEWALS);
        self.launcher.set(sender).ok().map(|()| receiver)
    }

    /// Whether there is a launcher to ask.
    pub(crate) fn has_launcher(&self) -> bool {
        self.launcher.get().is_some()
    }

    /// Asks, unless that was done in the last minute, and waits for the answer to the last question.
    pub(crate) async fn wait(&self, reference: &SecretRef, cause: RenewalCause) -> Answer {
        let (mut answer, since) = match self.ask(reference, cause) {
            Ok(open) => open,
            Err(answer) => return answer,
        };
        let Ok(_place) = self.places.try_acquire() else { return Answer::TooMany };
        let answered = timeout_at(since + RENEWAL_TIMEOUT, answer.wait_for(Option::is_some)).await;
        match answered {
            Ok(Ok(answer)) => answer.clone().unwrap_or(Answer::Unanswered),
            Ok(Err(_)) | Err(_) => Answer::Unanswered,
        }
    }

    /// Asks, unless that was done in the last minute. An error is the answer that is there already.
    pub(crate) fn ask(
        &self,
        reference: &SecretRef,
        cause: RenewalCause,
    ) -> Result<(watch::Receiver<Option<Answer>>, Instant), Answer> {
        let launcher = self.launcher.get().ok_or(Answer::Unanswered)?;
        let now = Instant::now();
        let mut asked = self.lock();
        if let Some(question) = asked.get(reference) {
            let answer = question.answer.borrow().clone();
            match answer {
                None if now < question.since + RENEWAL_TIMEOUT => {
                    return Ok((question.answer.subscribe(), question.since));
                }
                Some(answer) if now < question.since + RENEWAL_INTERVAL => return Err(answer),
                _ => {}
            }
        }
        let needed = GatewayEvent::RenewalNeeded { reference: reference.clone(), cause };
        launcher.try_send(needed).map_err(|_| Answer::Unanswered)?;
        let (answer, receiver) = watch::channel(None);
        asked.insert(reference.clone(), Question { since: now, cause, answer });
        Ok((receiver, now))
    }

    /// Passes an answer on to the requests that wait for it; what the question was asked for, if it was open.
    pub(crate) fn answer(&self, reference: &SecretRef, answer: Answer) -> Option<RenewalCause> {
        let asked = self.lock();
        let question = asked.get(reference)?;
        let before = question.answer.send_replace(Some(answer));
        before.is_none().then_some(question.cause)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SecretRef, Question>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const _: () = assert!(RENEWAL_INTERVAL.as_millis() < RENEWAL_TIMEOUT.as_millis());

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;

    const REFUSED: RenewalCause = RenewalCause::Refused;

    fn reference() -> SecretRef {
        SecretRef::new("TOKEN")
    }

    fn needed(cause: RenewalCause) -> GatewayEvent {
        GatewayEvent::RenewalNeeded { reference: reference(), cause }
    }

    fn with_launcher() -> (Arc<Renewals>, mpsc::Receiver<GatewayEvent>) {
        let renewals = Arc::new(Renewals::default());
        let events = renewals.events().expect("the events");
        (renewals, events)
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_launcher_nothing_is_waited_for() {
        let renewals = Renewals::default();
        let began = Instant::now();
        assert!(!renewals.has_launcher());
        assert_eq!(renewals.wait(&reference(), REFUSED).await, Answer::Unanswered);
        drop(renewals.events().expect("the events"));
        assert!(renewals.events().is_none(), "there is one launcher");
        assert_eq!(renewals.wait(&reference(), REFUSED).await, Answer::Unanswered, "which is gone");
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_launcher_that_is_silent_is_waited_for_until_the_limit_and_then_asked_again() {
        let (renewals, mut events) = with_launcher();
        let began = Instant::now();
        let first = tokio::spawn({
            let renewals = Arc::clone(&renewals);
            async move { renewals.wait(&reference(), REFUSED).await }
        });
        assert_eq!(events.recv().await, Some(needed(REFUSED)));
        advance(RENEWAL_TIMEOUT - Duration::from_secs(1)).await;
        // The second joins the question of the first, and waits no longer than that.
        assert_eq!(renewals.wait(&reference(), RenewalCause::Expiring).await, Answer::Unanswered);
        assert_eq!(first.await.expect("no panic"), Answer::Unanswered);
        assert_eq!(began.elapsed().as_secs(), RENEWAL_TIMEOUT.as_secs());
        assert!(events.try_recv().is_err());
        let token = reference();
        let third = timeout(Duration::from_secs(1), renewals.wait(&token, RenewalCause::Expiring));
        assert!(third.await.is_err(), "a new question");
        assert_eq!(events.recv().await, Some(needed(RenewalCause::Expiring)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_holds_for_a_minute_from_its_question() {
        let (renewals, mut events) = with_launcher();
        for answer in [Answer::NotRenewed("no login".into()), Answer::Renewed] {
            let waiting: Vec<_> = (0..100)
                .map(|_| {
                    let renewals = Arc::clone(&renewals);
                    tokio::spawn(async move { renewals.wait(&reference(), REFUSED).await })
                })
                .collect();
            assert_eq!(events.recv().await, Some(needed(REFUSED)));
            advance(Duration::from_secs(5)).await;
            assert_eq!(renewals.answer(&SecretRef::new("OTHER"), Answer::Renewed), None);
            assert_eq!(renewals.answer(&reference(), answer.clone()), Some(REFUSED));
            assert_eq!(renewals.answer(&reference(), answer.clone()), None, "it is open no more");
            for waiting in waiting {
                assert_eq!(waiting.await.expect("no panic"), answer);
            }
            advance(RENEWAL_INTERVAL - Duration::from_secs(6)).await;
            assert_eq!(renewals.wait(&reference(), REFUSED).await, answer);
            assert!(events.try_recv().is_err(), "nothing was asked again");
            advance(Duration::from_secs(2)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_requests_wait_and_not_one_more() {
        let (renewals, mut events) = with_launcher();
        let waiting: Vec<_> = (0..MAX_WAITING_FOR_RENEWAL)
            .map(|_| {
                let renewals = Arc::clone(&renewals);
                tokio::spawn(async move { renewals.wait(&reference(), REFUSED).await })
            })
            .collect();
        while renewals.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(renewals.wait(&reference(), REFUSED).await, Answer::TooMany);
        // What cannot be waited for is asked for in any case.
        assert_eq!(renewals.wait(&SecretRef::new("OTHER"), REFUSED).await, Answer::TooMany);
        events.recv().await.expect("the first question");
        events.recv().await.expect("the second question");
        // A request whose client goes away gives its place back.
        waiting[0].abort();
        while renewals.places.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        renewals.answer(&reference(), Answer::Renewed);
        for waiting in waiting.into_iter().skip(1) {
            assert_eq!(waiting.await.expect("no panic"), Answer::Renewed);
        }
    }
}
