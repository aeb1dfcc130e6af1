//! Observations, as they travel from the inside to the outside: one JSON object per line.

use serde::{Deserialize, Serialize};

use crate::attempt::Group;

/// The result of an attempt as seen from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "observation", content = "detail", rename_all = "snake_case")]
pub enum Observation {
    /// The attempt was refused, with how.
    Refused(String),
    /// The attempt succeeded, with what it reached.
    Reached(String),
    /// The attempt could not be made here, with why. Never counts as blocked.
    Inconclusive(String),
}

/// One attempt and its observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The attempt's id.
    pub id: String,
    /// The attempt's group.
    pub group: Group,
    /// The promise that the attempt tests.
    pub promise: u8,
    /// The action.
    pub what: String,
    /// The observation.
    #[serde(flatten)]
    pub observation: Observation,
}

/// One step of ordinary work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Stable and unique.
    pub id: String,
    /// The action.
    pub what: String,
    /// Whether it worked.
    pub worked: bool,
    /// The result in words, or why the step failed.
    pub detail: String,
}

/// One line of the report from inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// Honest work.
    Step(StepReport),
    /// An attempt to get out.
    Attempt(Outcome),
    /// The end of the report. Without this line the report is truncated.
    Done,
}

impl Observation {
    /// Refused, with how.
    pub fn refused(how: impl Into<String>) -> Self {
        Self::Refused(how.into())
    }

    /// Reached, with what.
    pub fn reached(what: impl Into<String>) -> Self {
        Self::Reached(what.into())
    }

    /// Inconclusive, with why.
    pub fn inconclusive(why: impl Into<String>) -> Self {
        Self::Inconclusive(why.into())
    }

    /// The text of either variant.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Refused(detail) | Self::Reached(detail) | Self::Inconclusive(detail) => detail,
        }
    }

    /// Combines several tries into one observation. The first try that reached something decides; else the
    /// attempt is refused if at least one try was, and inconclusive if none could be made.
    #[must_use]
    pub fn all(tries: impl IntoIterator<Item = Self>) -> Self {
        let (mut refused, mut inconclusive): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for one in tries {
            match one {
                Self::Reached(_) => return one,
                Self::Refused(how) if !refused.contains(&how) => refused.push(how),
                Self::Refused(_) => {}
                Self::Inconclusive(why) => inconclusive.push(why),
            }
        }
        match refused.as_slice() {
            [] if inconclusive.is_empty() => Self::inconclusive("nothing to try"),
            [] => Self::Inconclusive(inconclusive.join("; ")),
            [one] => Self::refused(one.clone()),
            [first, ..] => Self::Refused(format!("{first}, and others")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_success_among_many_tries_is_a_success() {
        let refused = || Observation::refused("EPERM");
        let reached = Observation::reached("a file");
        assert_eq!(Observation::all([refused(), reached.clone(), refused()]), reached);
        assert_eq!(Observation::all([refused(), refused()]), refused());
        assert!(matches!(Observation::all([]), Observation::Inconclusive(_)));
        assert!(matches!(
            Observation::all([Observation::inconclusive("no tool")]),
            Observation::Inconclusive(_)
        ));
    }

    #[test]
    fn a_line_is_flat_json() {
        let line = Line::Attempt(Outcome {
            id: "names.unlisted".into(),
            group: Group::Names,
            promise: 2,
            what: "asks".into(),
            observation: Observation::refused("403"),
        });
        let json = serde_json::to_string(&line).expect("it can be written");
        assert_eq!(
            json,
            r#"{"line":"attempt","id":"names.unlisted","group":"names","promise":2,"what":"asks","observation":"refused","detail":"403"}"#
        );
        assert_eq!(serde_json::from_str::<Line>(&json).expect("it can be read"), line);
    }
}
