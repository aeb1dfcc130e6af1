//! Requests that wait for the operator's answer.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use bot_bottle_core::gateway_config::GatewayEvent;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::limits::MAX_QUESTIONS;

/// The questions that are open, and the way to the launcher, which puts them to the operator.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    open: Mutex<HashMap<u64, oneshot::Sender<bool>>>,
    launcher: OnceLock<mpsc::Sender<GatewayEvent>>,
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Allowed,
    Refused,
    /// The deadline passed, or there is no launcher to ask.
    Unanswered,
    /// Too many questions are open.
    TooMany,
}

impl Questions {
    /// The events for the launcher; can be taken once.
    pub(crate) fn events(&self) -> Option<mpsc::Receiver<GatewayEvent>> {
        // A question and its withdrawal for each, so that sending never waits.
        let (sender, receiver) = mpsc::channel(2 * MAX_QUESTIONS);
        self.launcher.set(sender).ok().map(|()| receiver)
    }

    /// Asks, and waits for the answer until the deadline. Dropping the future withdraws the question.
    pub(crate) async fn ask(&self, exchange: u64, question: GatewayEvent, deadline: Duration) -> Answer {
        let Some(launcher) = self.launcher.get() else { return Answer::Unanswered };
        let (sender, answer) = oneshot::channel();
        {
            let mut open = self.lock();
            if open.len() >= MAX_QUESTIONS {
                return Answer::TooMany;
            }
            open.insert(exchange, sender);
        }
        let asked = Asked { questions: self, exchange };
        if launcher.try_send(question).is_err() {
            return Answer::Unanswered;
        }
        let answer = match timeout(deadline, answer).await {
            Ok(Ok(true)) => Answer::Allowed,
            Ok(Ok(false)) => Answer::Refused,
            Ok(Err(_)) | Err(_) => Answer::Unanswered,
        };
        drop(asked);
        answer
    }

    /// Passes the operator's answer on to the request that waits for it, if it still does.
    pub(crate) fn answer(&self, exchange: u64, allow: bool) {
        if let Some(waiting) = self.lock().remove(&exchange) {
            // Ignored: the request has gone away in this moment.
            let _ = waiting.send(allow);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<bool>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that was asked: closed when it is dropped, and withdrawn if it was not answered.
struct Asked<'a> {
    questions: &'a Questions,
    exchange: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let was_open = self.questions.lock().remove(&self.exchange).is_some();
        if was_open && let Some(launcher) = self.questions.launcher.get() {
            // Ignored: without a launcher there is nobody who would still show the question.
            let _ = launcher.try_send(GatewayEvent::Withdrawn { exchange: self.exchange });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(600);

    fn question(exchange: u64) -> GatewayEvent {
        let (method, host, path) = ("GET".to_owned(), "open.test".to_owned(), "/".to_owned());
        GatewayEvent::Question { exchange, method, host, port: 443, path }
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_answer_or_a_launcher_the_answer_is_no() {
        let questions = Questions::default();
        assert_eq!(questions.ask(1, question(1), DEADLINE).await, Answer::Unanswered);
        let mut events = questions.events().expect("the events");
        assert!(questions.events().is_none(), "there is one launcher");
        let began = tokio::time::Instant::now();
        assert_eq!(questions.ask(2, question(2), DEADLINE).await, Answer::Unanswered);
        assert!(began.elapsed() >= DEADLINE);
        assert_eq!(events.recv().await, Some(question(2)));
        assert_eq!(events.recv().await, Some(GatewayEvent::Withdrawn { exchange: 2 }));
        drop(events);
        assert_eq!(questions.ask(3, question(3), DEADLINE).await, Answer::Unanswered);
        assert!(questions.lock().is_empty());
    }

    #[tokio::test]
    async fn there_may_be_so_many_questions_and_not_one_more() {
        let questions = Arc::new(Questions::default());
        let mut events = questions.events().expect("the events");
        let most = u64::try_from(MAX_QUESTIONS).expect("a number");
        let waiting: Vec<_> = (0..most)
            .map(|exchange| {
                let questions = Arc::clone(&questions);
                tokio::spawn(async move { questions.ask(exchange, question(exchange), DEADLINE).await })
            })
            .collect();
        for _ in 0..most {
            events.recv().await.expect("a question");
        }
        assert_eq!(questions.ask(most, question(most), DEADLINE).await, Answer::TooMany);
        for exchange in 0..most {
            questions.answer(exchange, exchange % 2 == 0);
        }
        for (exchange, waiting) in waiting.into_iter().enumerate() {
            let expected = if exchange % 2 == 0 { Answer::Allowed } else { Answer::Refused };
            assert_eq!(waiting.await.expect("no panic"), expected);
        }
        assert!(events.try_recv().is_err(), "what was answered is not withdrawn");
    }
}
