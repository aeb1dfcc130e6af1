//! What an attempt came to: what was seen inside and what was seen outside, together.

use serde::Serialize;

use crate::{
    outcome::{Line, Observation, Outcome, StepReport},
    stage::Sighting,
};

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Refused inside, and nothing was seen outside.
    Held,
    /// It reached something, or something was seen outside.
    Escaped,
    /// It could not be made, or was never reported. Not held.
    NotMade,
}

/// An attempt with its verdict.
#[derive(Debug, Clone, Serialize)]
pub struct JudgedAttempt {
    /// What was seen inside.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What was seen outside of it, and where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub seen_outside: Vec<Sighting>,
    /// Both together.
    pub verdict: Verdict,
}

/// Everything that one run has shown.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Judgement {
    /// Honest work, in order.
    pub steps: Vec<StepReport>,
    /// Attempts, in order.
    pub attempts: Vec<JudgedAttempt>,
    /// What was seen outside and belongs to no attempt.
    pub unattributed: Vec<Sighting>,
    /// Lines of the report that are none, cut short.
    pub unreadable: Vec<String>,
    /// Whether the report reached its end. One that broke off proves nothing about what it does not tell.
    pub complete: bool,
}

/// The longest part of an unreadable line that is kept, in characters.
const MAX_UNREADABLE: usize = 200;

/// Judges a report by what the stage saw.
#[must_use]
pub fn judge(report: &str, sightings: Vec<Sighting>) -> Judgement {
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
    let mut sightings = sightings;
    for outcome in outcomes {
        let mine = |sighting: &Sighting| sighting.attempt.as_deref() == Some(outcome.id.as_str());
        let seen_outside: Vec<Sighting> = sightings.iter().filter(|one| mine(one)).cloned().collect();
        sightings.retain(|one| !mine(one));
        let verdict = match (&outcome.observation, seen_outside.is_empty()) {
            (Observation::Refused(_), true) => Verdict::Held,
            (Observation::NotMade(_), true) => Verdict::NotMade,
            (Observation::Reached(_), _) | (_, false) => Verdict::Escaped,
        };
        judgement.attempts.push(JudgedAttempt { outcome, seen_outside, verdict });
    }
    judgement.unattributed = sightings;
    judgement
}

impl Judgement {
    /// Whether the run shows what it should: every honest step worked, every attempt was held, nothing else
    /// was seen outside, and the report is whole.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.complete
            && self.unattributed.is_empty()
            && self.unreadable.is_empty()
            && self.steps.iter().all(|step| step.worked)
            && self.attempts.iter().all(|attempt| attempt.verdict == Verdict::Held)
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

    fn sighting(attempt: Option<&str>) -> Sighting {
        Sighting { place: "a service".into(), attempt: attempt.map(str::to_owned), text: String::new() }
    }

    #[test]
    fn a_refusal_inside_and_silence_outside_is_held() {
        let judgement = judge(REPORT, Vec::new());
        assert!(judgement.holds());
        assert_eq!(judgement.with(Verdict::Held).count(), 1);
    }

    #[test]
    fn what_was_seen_outside_is_an_escape_whatever_the_inside_says() {
        let judgement = judge(REPORT, vec![sighting(Some("names.a"))]);
        assert_eq!(judgement.with(Verdict::Escaped).count(), 1);
        assert!(!judgement.holds());
        assert!(!judge(REPORT, vec![sighting(None)]).holds(), "nobody's sighting counts too");
    }

    #[test]
    fn a_report_that_broke_off_proves_nothing() {
        let first = REPORT.lines().next().unwrap_or_default();
        assert!(!judge(first, Vec::new()).holds());
        assert!(!judge("", Vec::new()).holds());
        assert!(!judge(&REPORT.replace("done", "dun"), Vec::new()).holds());
    }
}
