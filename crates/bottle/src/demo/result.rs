//! The result of the demo, as data and as text.

use anstyle::Style;
use bot_bottle_probe::{Judgement, Observation, Verdict};
use serde::Serialize;

use super::evidence::Evidence;
use crate::ui::{BAD, FAINT, GOOD, STRONG, Table, WARNING};

/// The judgement of the run and the evidence on the host.
#[derive(Debug, Serialize)]
pub(super) struct DemoResult {
    /// Whether every step worked, every attempt was blocked and all evidence agrees.
    pub(super) holds: bool,
    #[serde(flatten)]
    judgement: Judgement,
    evidence: Vec<Evidence>,
}

impl DemoResult {
    pub(super) fn new(judgement: Judgement, evidence: Vec<Evidence>) -> Self {
        let holds = judgement.holds()
            && !judgement.steps.is_empty()
            && judgement.attempts.len() == super::ATTEMPTS.len()
            && evidence.iter().all(|one| one.holds);
        Self { holds, judgement, evidence }
    }

    /// A table for the terminal.
    pub(super) fn text(&self) -> String {
        let mut table = Table::default();
        let heading = |text: &str| [(text.to_owned(), STRONG)];
        table.row(heading("work"));
        for step in &self.judgement.steps {
            table.row([mark(step.worked, "done", "failed"), plain(&step.what), faint(&step.detail)]);
        }
        table.row(heading(""));
        table.row(heading("way out"));
        for attempt in &self.judgement.attempts {
            let verdict = match attempt.verdict {
                Verdict::Blocked => ("  refused".to_owned(), GOOD),
                Verdict::Escaped => ("  ESCAPED".to_owned(), BAD),
                Verdict::Inconclusive => ("  inconclusive".to_owned(), WARNING),
            };
            let seen = attempt.seen_outside.first().map(|leak| format!("seen by {}", leak.canary));
            let why = match &attempt.outcome.observation {
                Observation::Refused(how) => seen.unwrap_or_else(|| how.clone()),
                Observation::Reached(what) => seen.map_or(what.clone(), |seen| format!("{what}; {seen}")),
                Observation::Inconclusive(why) => why.clone(),
            };
            table.row([verdict, plain(&attempt.outcome.what), faint(&why)]);
        }
        table.row(heading(""));
        table.row(heading("outside"));
        for one in &self.evidence {
            table.row([mark(one.holds, "so", "NOT SO"), plain(one.what), faint(&one.detail)]);
        }
        format!("{}\n{}\n", table.render(), self.summary())
    }

    fn summary(&self) -> String {
        let blocked = self.judgement.with(Verdict::Blocked).count();
        let (made, worked) =
            (super::ATTEMPTS.len(), self.judgement.steps.iter().filter(|step| step.worked).count());
        let steps = self.judgement.steps.len();
        let counts =
            format!("{worked} of {steps} ordinary steps worked, {blocked} of {made} ways out were refused");
        if self.holds {
            format!("{GOOD}✓{GOOD:#} {counts}.")
        } else if self.judgement.complete {
            format!("{BAD}✗{BAD:#} {counts}. This bottle does not hold; do not trust it with a credential.")
        } else {
            format!("{BAD}✗{BAD:#} {counts}. The report broke off, so this proves nothing.")
        }
    }
}

fn mark(good: bool, word: &str, otherwise: &str) -> (String, Style) {
    if good { (format!("  {word}"), GOOD) } else { (format!("  {otherwise}"), BAD) }
}

fn plain(text: &str) -> (String, Style) {
    (text.to_owned(), Style::new())
}

fn faint(text: &str) -> (String, Style) {
    (text.to_owned(), FAINT)
}

#[cfg(test)]
mod tests {
    use bot_bottle_probe::{judge, table};

    use super::*;

    fn result(report: &str) -> DemoResult {
        let evidence = vec![Evidence { what: "so", holds: true, detail: String::new() }];
        DemoResult::new(judge(report, Vec::new()), evidence)
    }

    fn report(observation: &str) -> String {
        let step = r#"{"line":"step","id":"a","what":"works","worked":true,"detail":""}"#;
        let attempts = super::super::ATTEMPTS.map(|id| {
            assert!(table::find(id).is_some(), "{id} is not in the table");
            format!(
                r#"{{"line":"attempt","id":"{id}","group":"names","promise":1,"what":"x","observation":"{observation}","detail":"y"}}"#
            )
        });
        format!("{step}\n{}\n{}", attempts.join("\n"), r#"{"line":"done"}"#)
    }

    #[test]
    fn only_a_whole_report_of_refusals_is_a_success() {
        let good = report("refused");
        assert!(result(&good).holds);
        for bad in [
            report("reached"),
            report("inconclusive"),
            good.replace("true", "false"),
            good.replace(r#"{"line":"done"}"#, ""),
            good.lines().skip(1).collect::<Vec<_>>().join("\n"),
            good.lines().filter(|line| !line.contains("kernel.mount")).collect::<Vec<_>>().join("\n"),
            format!("{good}\nsomething else"),
            String::new(),
        ] {
            assert!(!result(&bad).holds, "{bad}");
        }
        assert!(result(&report("reached")).text().contains("ESCAPED"));
    }
}
