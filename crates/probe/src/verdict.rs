//! Verdicts: the report from inside the bottle, checked against the canaries outside.

use serde::Serialize;

use crate::{
    canaries::Leak,
    outcome::{Line, Observation, Outcome, StepReport},
};

/// The verdict on one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Refused inside, and no canary saw it.
    Blocked,
    /// It reached something, or a canary saw it.
    Escaped,
    /// It could not be made. This does not count as blocked.
    Inconclusive,
}

/// An attempt with its verdict.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedAttempt {
    /// The report from inside.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Leaks that carry its id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seen_outside: Vec<Leak>,
    /// From both.
    pub verdict: Verdict,
}

/// The result of one run.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Judgement {
    /// Steps of ordinary work, in order.
    pub steps: Vec<StepReport>,
    /// Attempts, in order.
    pub attempts: Vec<JudgedAttempt>,
    /// Leaks that carry no attempt's id.
    pub unattributed: Vec<Leak>,
    /// Lines of the report that could not be parsed, cut short.
    pub unreadable: Vec<String>,
    /// Whether the report reached its end. A truncated report proves nothing about the attempts it lacks.
    pub complete: bool,
}

/// The longest part of an unreadable line that is kept, in characters.
const MAX_UNREADABLE: usize = 200;

/// Judges a report by what the canaries saw.
#[must_use]
pub fn judge(report: &str, leaks: Vec<Leak>) -> Judgement {
    let mut judgement = Judgement::default();
    let mut outcomes = Vec::new();
    for line in report.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str(line) {
            Ok(Line::Step(step)) => judgement.steps.push(step),
            Ok(Line::Attempt(outcome)) => outcomes.push(outcome),
            Ok(Line::Done) => judgement.complete = true,
            Err(_) => judgement.unreadable.push(line.chars().take(MAX_UNREADABLE).collect()),
        }
    }
    let mut leaks = leaks;
    for outcome in outcomes {
        let mine = |leak: &Leak| leak.attempt.as_deref() == Some(outcome.id.as_str());
        let seen_outside: Vec<Leak> = leaks.iter().filter(|one| mine(one)).cloned().collect();
        leaks.retain(|one| !mine(one));
        let verdict = match (&outcome.observation, seen_outside.is_empty()) {
            (Observation::Refused(_), true) => Verdict::Blocked,
            (Observation::Inconclusive(_), true) => Verdict::Inconclusive,
            (Observation::Reached(_), _) | (_, false) => Verdict::Escaped,
        };
        judgement.attempts.push(JudgedAttempt { outcome, seen_outside, verdict });
    }
    judgement.unattributed = leaks;
    judgement
}

impl Judgement {
    /// Whether the run shows what it should: every ordinary step worked, every attempt was blocked, nothing
    /// else was seen outside, and the report is whole.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.complete
            && self.unattributed.is_empty()
            && self.unreadable.is_empty()
            && self.steps.iter().all(|step| step.worked)
            && self.attempts.iter().all(|attempt| attempt.verdict == Verdict::Blocked)
    }

    /// The attempts with this verdict.
    pub fn with(&self, verdict: Verdict) -> impl Iterator<Item = &JudgedAttempt> {
        self.attempts.iter().filter(move |attempt| attempt.verdict == verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = concat!(
        r#"{"line":"attempt","id":"names.a","group":"names","promise":2,"what":"a","observation":"refused","detail":"403"}"#,
        "\n",
        r#"{"line":"done"}"#
    );

    fn leak(attempt: Option<&str>) -> Leak {
        Leak { canary: "a service".into(), attempt: attempt.map(str::to_owned), text: String::new() }
    }

    #[test]
    fn refused_inside_without_a_leak_is_blocked() {
        let judgement = judge(REPORT, Vec::new());
        assert!(judgement.holds());
        assert_eq!(judgement.with(Verdict::Blocked).count(), 1);
    }

    #[test]
    fn a_leak_is_an_escape_even_if_the_inside_reports_a_refusal() {
        let judgement = judge(REPORT, vec![leak(Some("names.a"))]);
        assert_eq!(judgement.with(Verdict::Escaped).count(), 1);
        assert!(!judgement.holds());
        assert!(!judge(REPORT, vec![leak(None)]).holds(), "an unattributed leak counts too");
    }

    #[test]
    fn a_truncated_report_does_not_hold() {
        let first = REPORT.lines().next().unwrap_or_default();
        assert!(!judge(first, Vec::new()).holds());
        assert!(!judge("", Vec::new()).holds());
        assert!(!judge(&REPORT.replace("done", "dun"), Vec::new()).holds());
    }
}
