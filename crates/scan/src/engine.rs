//! Finds what rules describe: one pass of an automaton over all keywords, and a rule's expression only near
//! its own.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde::Serialize;

use crate::{
    entropy,
    rules::{Candidate, Rule, RuleSet},
};

/// How far before and after a keyword a match may reach, for an expression without a bound of its own, in
/// bytes.
pub const UNBOUNDED_REACH: usize = 8 << 10;
/// The most findings in one text; there is no use in more.
pub const MAX_FINDINGS: usize = 10_000;

/// Something that was found. It holds no secret: only where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's name.
    pub rule: String,
    /// Where the secret is, in bytes.
    pub secret: Range<usize>,
    /// Where the whole match is, in bytes.
    pub matched: Range<usize>,
}

/// Where a text comes from, for rules and allowlists about files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Source<'a> {
    /// The file, with `/` between its parts.
    pub path: Option<&'a str>,
    /// The commit, in hexadecimal.
    pub commit: Option<&'a str>,
}

/// A compiled set of rules.
#[derive(Debug)]
pub struct Engine {
    set: RuleSet,
    keywords: AhoCorasick,
    /// For each keyword of the automaton, the rules that have it.
    rules_of_keyword: Vec<Vec<usize>>,
    /// Rules without a keyword.
    everywhere: Vec<usize>,
}

/// The keywords cannot be put into one automaton.
#[derive(Debug, thiserror::Error)]
#[error("the rules' keywords are too many: {0}")]
pub struct BuildError(#[from] aho_corasick::BuildError);

impl Engine {
    /// Compiles `set`.
    ///
    /// # Errors
    /// The keywords need a larger automaton than there can be.
    pub fn new(set: RuleSet) -> Result<Self, BuildError> {
        let mut words: Vec<String> = Vec::new();
        let mut rules_of_keyword: Vec<Vec<usize>> = Vec::new();
        let mut places = std::collections::HashMap::new();
        let mut everywhere = Vec::new();
        for (index, rule) in set.rules.iter().enumerate() {
            if rule.regex.is_none() {
                continue;
            }
            if rule.keywords.iter().all(String::is_empty) {
                everywhere.push(index);
            }
            for word in rule.keywords.iter().filter(|word| !word.is_empty()) {
                let place = *places.entry(word.clone()).or_insert_with(|| {
                    words.push(word.clone());
                    rules_of_keyword.push(Vec::new());
                    words.len() - 1
                });
                rules_of_keyword[place].push(index);
            }
        }
        let keywords = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&words)?;
        Ok(Self { set, keywords, rules_of_keyword, everywhere })
    }

    /// The rules.
    pub fn rules(&self) -> &RuleSet {
        &self.set
    }

    /// All findings in `text`, in order of their place; at most [`MAX_FINDINGS`].
    pub fn find(&self, text: &[u8], source: Source<'_>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (rule, window) in self.windows(text) {
            if findings.len() >= MAX_FINDINGS {
                break;
            }
            self.find_rule(rule, text, window, source, &mut findings);
        }
        findings.sort_by(|left, right| {
            (left.secret.start, left.secret.end, &left.rule).cmp(&(
                right.secret.start,
                right.secret.end,
                &right.rule,
            ))
        });
        findings.dedup();
        findings
    }

    /// Where each rule's expression has to be tried.
    fn windows(&self, text: &[u8]) -> Vec<(usize, Range<usize>)> {
        let mut windows: Vec<(usize, Range<usize>)> =
            self.everywhere.iter().map(|rule| (*rule, 0..text.len())).collect();
        let mut last: Vec<Option<usize>> = vec![None; self.set.rules.len()];
        for hit in self.keywords.find_overlapping_iter(text) {
            for rule in &self.rules_of_keyword[hit.pattern().as_usize()] {
                let reach = self.set.rules[*rule].longest.unwrap_or(UNBOUNDED_REACH).min(UNBOUNDED_REACH);
                let window = hit.start().saturating_sub(reach)..(hit.end() + reach + 1).min(text.len());
                match last[*rule].map(|at| &mut windows[at].1) {
                    Some(open) if open.end >= window.start => open.end = window.end.max(open.end),
                    _ => {
                        last[*rule] = Some(windows.len());
                        windows.push((*rule, window));
                    }
                }
            }
        }
        windows
    }

    fn find_rule(
        &self,
        index: usize,
        text: &[u8],
        window: Range<usize>,
        source: Source<'_>,
        findings: &mut Vec<Finding>,
    ) {
        let rule = &self.set.rules[index];
        let Some(regex) = &rule.regex else { return };
        if let Some(path) = &rule.path
            && !source.path.is_some_and(|at| path.is_match(at.as_bytes()))
        {
            return;
        }
        let mut from = window.start;
        let text_of_window = &text[..window.end];
        while from <= window.end {
            // The expression without groups is several times cheaper, and mostly says no.
            if regex.shortest_match_at(text_of_window, from).is_none() {
                return;
            }
            let Some(groups) = regex.captures_at(text_of_window, from) else { return };
            let whole = groups.get(0).expect("group 0 is the match").range();
            let secret = match rule.secret_group {
                0 => {
                    groups.iter().skip(1).flatten().find(|group| !group.is_empty()).map(|group| group.range())
                }
                group => groups.get(group).map(|group| group.range()),
            }
            .unwrap_or_else(|| whole.clone());
            from = if whole.is_empty() { whole.end + 1 } else { whole.end };
            if self.counts(rule, text, &secret, &whole, source) {
                findings.push(Finding { rule: rule.id.clone(), secret, matched: whole });
                if findings.len() >= MAX_FINDINGS {
                    return;
                }
            }
        }
    }

    fn counts(
        &self,
        rule: &Rule,
        text: &[u8],
        secret: &Range<usize>,
        matched: &Range<usize>,
        source: Source<'_>,
    ) -> bool {
        let bytes = &text[secret.clone()];
        if bytes.is_empty()
            || rule.entropy.is_some_and(|least| entropy::shannon(bytes) < least)
            || rule.check.is_some_and(|check| !check.passes(bytes))
        {
            return false;
        }
        let candidate = Candidate {
            rule: &rule.id,
            secret: bytes,
            matched: &text[matched.clone()],
            line: line_of(text, matched),
            path: source.path,
            commit: source.commit,
        };
        !rule.allowlists.iter().chain(&self.set.allowlists).any(|allowlist| allowlist.allows(&candidate))
    }
}

/// The longest line that an allowlist is shown, on each side of the match, in bytes.
const LINE_REACH: usize = 4 << 10;

fn line_of<'a>(text: &'a [u8], matched: &Range<usize>) -> &'a [u8] {
    let from = matched.start.saturating_sub(LINE_REACH);
    let to = (matched.end + LINE_REACH).min(text.len());
    let start =
        text[from..matched.start].iter().rposition(|byte| *byte == b'\n').map_or(from, |at| from + at + 1);
    let end = text[matched.end..to].iter().position(|byte| *byte == b'\n').map_or(to, |at| matched.end + at);
    &text[start..end]
}
