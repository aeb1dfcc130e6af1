//! What was observed, as it travels from the inside to the outside: one JSON object per line.

use serde::{Deserialize, Serialize};

use crate::attempt::Group;

/// What an attempt saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "observation", content = "detail", rename_all = "snake_case")]
pub enum Observation {
    /// It was refused; how.
    Refused(String),
    /// It got somewhere; what it reached.
    Reached(String),
    /// It could not be made here; why. Never counts as held.
    NotMade(String),
}

/// One attempt and what it saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The attempt's id.
    pub id: String,
    /// The attempt's group.
    pub group: Group,
    /// The promise that it tests.
    pub promise: u8,
    /// What it did.
    pub what: String,
    /// What it saw.
    #[serde(flatten)]
    pub observation: Observation,
}

/// One step of honest work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Stable and unique.
    pub id: String,
    /// What it did.
    pub what: String,
    /// Whether it worked.
    pub worked: bool,
    /// What came of it.
    pub detail: String,
}

/// One line of what the inside reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// Honest work.
    Step(StepReport),
    /// An attempt to get out.
    Attempt(Outcome),
    /// The script is done. A report without this line is one that broke off.
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

    /// Could not be made, with why.
    pub fn not_made(why: impl Into<String>) -> Self {
        Self::NotMade(why.into())
    }

    /// How, what or why.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Refused(detail) | Self::Reached(detail) | Self::NotMade(detail) => detail,
        }
    }

    /// Several tries that make one attempt: the first that reached something tells; else all must be
    /// refused, and what could not be tried is left out as long as something was.
    #[must_use]
    pub fn all(tries: impl IntoIterator<Item = Self>) -> Self {
        let (mut refused, mut not_made): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for one in tries {
            match one {
                Self::Reached(_) => return one,
                Self::Refused(how) if !refused.contains(&how) => refused.push(how),
                Self::Refused(_) => {}
                Self::NotMade(why) => not_made.push(why),
            }
        }
        match refused.as_slice() {
            [] if not_made.is_empty() => Self::not_made("nothing to try"),
            [] => Self::NotMade(not_made.join("; ")),
            [one] => Self::refused(one.clone()),
            [first, ..] => Self::Refused(format!("{first}, and others")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_out_of_many_is_a_way_out() {
        let refused = || Observation::refused("EPERM");
        let reached = Observation::reached("a file");
        assert_eq!(Observation::all([refused(), reached.clone(), refused()]), reached);
        assert_eq!(Observation::all([refused(), refused()]), refused());
        assert!(matches!(Observation::all([]), Observation::NotMade(_)));
        assert!(matches!(Observation::all([Observation::not_made("no tool")]), Observation::NotMade(_)));
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
