//! Rules as data: gitleaks' TOML syntax, so that an operator's own files load as they are. What a file asks
//! for and this scanner cannot do is an error or a named [`Warning`], never passed over in silence.

use regex::bytes::Regex;

use crate::checksum::Check;

mod load;

pub use load::{LoadError, MAX_RULE_FILE, load};

/// The rules that come with the program.
const BUILT_IN: &str = include_str!("rules/built_in.toml");

/// A loaded set of rules.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    /// The rules, in the file's order.
    pub rules: Vec<Rule>,
    /// What is allowed whichever rule finds it.
    pub allowlists: Vec<Allowlist>,
    /// What the file asks for and this scanner does not do.
    pub warnings: Vec<Warning>,
}

impl RuleSet {
    /// The rules that come with the program.
    ///
    /// # Panics
    /// Never: the tests load the file that is compiled in.
    pub fn built_in() -> Self {
        load(BUILT_IN, "built-in rules").expect("the built-in rules load: a test does it")
    }
}

/// One kind of credential.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, as findings carry it.
    pub id: String,
    /// What it is, for a person.
    pub description: String,
    /// What it looks like. A rule without one is about paths alone.
    pub regex: Option<Regex>,
    /// The longest text that the expression can match, in bytes, if there is a bound.
    pub longest: Option<usize>,
    /// Which group is the secret; 0 is the first group that takes part, or the whole match without groups.
    pub secret_group: usize,
    /// The least entropy of the secret, in bits per byte.
    pub entropy: Option<f64>,
    /// One of these, in any case, must be near. None: the expression is tried everywhere.
    pub keywords: Vec<String>,
    /// Files that the rule is about.
    pub path: Option<Regex>,
    /// What is allowed although it matches.
    pub allowlists: Vec<Allowlist>,
    /// What must hold besides.
    pub check: Option<Check>,
}

/// What is no finding although it matches.
#[derive(Debug, Clone)]
pub struct Allowlist {
    /// Whether each kind of condition that is given must hold, or one is enough.
    pub condition: Condition,
    /// Files.
    pub paths: Vec<Regex>,
    /// Expressions on [`Allowlist::target`].
    pub regexes: Vec<Regex>,
    /// Words in the secret, lower case.
    pub stopwords: Vec<String>,
    /// Commits, for histories.
    pub commits: Vec<String>,
    /// What the expressions are tried on.
    pub target: Target,
    /// The rules that it is about; empty means all.
    pub rules: Vec<String>,
}

/// How the conditions of an allowlist are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// One is enough.
    Any,
    /// Each kind that is given must hold.
    All,
}

/// What an allowlist's expressions are tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The secret alone.
    Secret,
    /// All that the rule's expression matched.
    Match,
    /// The line, or lines, that the match is on.
    Line,
}

/// What a candidate is, for an allowlist.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// The secret.
    pub secret: &'a [u8],
    /// The whole match.
    pub matched: &'a [u8],
    /// Its line.
    pub line: &'a [u8],
    /// The file, if there is one.
    pub path: Option<&'a str>,
    /// The commit, if there is one.
    pub commit: Option<&'a str>,
}

impl Allowlist {
    /// Whether it allows `candidate`.
    pub fn allows(&self, candidate: &Candidate<'_>) -> bool {
        if !self.rules.is_empty() && !self.rules.iter().any(|rule| rule == candidate.rule) {
            return false;
        }
        let target = match self.target {
            Target::Secret => candidate.secret,
            Target::Match => candidate.matched,
            Target::Line => candidate.line,
        };
        let conditions = [
            (!self.paths.is_empty()).then(|| {
                candidate
                    .path
                    .is_some_and(|path| self.paths.iter().any(|regex| regex.is_match(path.as_bytes())))
            }),
            (!self.commits.is_empty())
                .then(|| candidate.commit.is_some_and(|commit| self.commits.iter().any(|one| one == commit))),
            (!self.regexes.is_empty()).then(|| self.regexes.iter().any(|regex| regex.is_match(target))),
            (!self.stopwords.is_empty()).then(|| {
                let secret = candidate.secret.to_ascii_lowercase();
                self.stopwords.iter().any(|word| contains(&secret, word.as_bytes()))
            }),
        ];
        let mut given = conditions.into_iter().flatten();
        match self.condition {
            Condition::Any => given.any(|holds| holds),
            Condition::All => {
                let given: Vec<bool> = given.collect();
                !given.is_empty() && given.iter().all(|holds| *holds)
            }
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    !word.is_empty() && text.windows(word.len()).any(|part| part == word)
}

/// Something in a rule file that is not honoured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {what}")]
pub struct Warning {
    /// The file's name, as the caller gave it.
    pub file: String,
    /// What is not honoured.
    pub what: String,
}
