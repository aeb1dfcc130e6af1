//! From a TOML file to rules.

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use toml::Spanned;

use super::{Allowlist, Condition, Rule, RuleSet, Target, Warning};
use crate::checksum::Check;

/// The longest rule file that is read, in bytes; betterleaks' own has 0.4 MB.
pub const MAX_RULE_FILE: usize = 8 << 20;
/// The largest compiled expression, in bytes.
const MAX_COMPILED: usize = 32 << 20;
/// The syntax of these expressions, which Go's engine and Rust's share: repetition bounds above it are a
/// mistake.
const NESTING: u32 = 128;

/// Why a rule file does not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is too long.
    #[error("{file}: {length} bytes is more than a rule file may have ({MAX_RULE_FILE})")]
    TooLong {
        /// The file.
        file: String,
        /// Its length.
        length: usize,
    },
    /// It is not TOML, or not of gitleaks' form.
    #[error("{file}: {problem}")]
    Syntax {
        /// The file.
        file: String,
        /// What is wrong, with the line.
        problem: String,
    },
    /// One rule is wrong.
    #[error("{file}:{line}: rule \"{rule}\": {problem}")]
    Rule {
        /// The file.
        file: String,
        /// The line of the rule's `id`, from 1.
        line: usize,
        /// The rule.
        rule: String,
        /// What is wrong.
        problem: String,
    },
    /// A global allowlist is wrong.
    #[error("{file}: allowlist: {problem}")]
    Allowlist {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "title")]
    _title: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "minVersion")]
    _min_version: Option<String>,
    extend: Option<Extend>,
    #[serde(default)]
    allowlists: Vec<AllowlistEntry>,
    allowlist: Option<AllowlistEntry>,
    #[serde(default)]
    rules: Vec<RuleEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Extend {
    #[serde(default)]
    use_default: bool,
    path: Option<String>,
    #[serde(default)]
    disabled_rules: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleEntry {
    id: Spanned<String>,
    #[serde(default)]
    description: String,
    regex: Option<String>,
    #[serde(default)]
    secret_group: usize,
    entropy: Option<f64>,
    #[serde(default)]
    keywords: Vec<String>,
    path: Option<String>,
    #[serde(rename = "tags")]
    _tags: Option<Vec<String>>,
    #[serde(default)]
    allowlists: Vec<AllowlistEntry>,
    allowlist: Option<AllowlistEntry>,
    /// Ours.
    check: Option<Check>,
    /// Ours: what a test expands and tries.
    #[serde(rename = "examples")]
    _examples: Option<Vec<String>>,
    /// Ours: what the rule must not find.
    #[serde(rename = "counterexamples")]
    _counterexamples: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AllowlistEntry {
    #[serde(rename = "description")]
    _description: Option<String>,
    condition: Option<String>,
    regex_target: Option<String>,
    #[serde(default)]
    regexes: Vec<String>,
    #[serde(default)]
    stopwords: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    commits: Vec<String>,
    #[serde(default)]
    target_rules: Vec<String>,
}

/// Reads a rule file. `file` is its name, for errors.
///
/// # Errors
/// The file is too long, not TOML, or a rule of it cannot be compiled; with the rule and its line.
pub fn load(text: &str, file: &str) -> Result<RuleSet, LoadError> {
    if text.len() > MAX_RULE_FILE {
        return Err(LoadError::TooLong { file: file.to_owned(), length: text.len() });
    }
    let syntax =
        |error: toml::de::Error| LoadError::Syntax { file: file.to_owned(), problem: error.to_string() };
    let mut ignored = Vec::new();
    let parsed: File = serde_ignored::deserialize(toml::Deserializer::parse(text).map_err(syntax)?, |path| {
        ignored.push(path.to_string());
    })
    .map_err(syntax)?;

    let mut set = RuleSet::default();
    let warn = |what: String| Warning { file: file.to_owned(), what };
    for path in ignored {
        // `rules.12.filter`: the number means nothing to a person, the rule's name does.
        let mut parts = path.splitn(3, '.');
        let what =
            match (parts.next(), parts.next().and_then(|part| part.parse::<usize>().ok()), parts.next()) {
                (Some("rules"), Some(index), Some(key)) => format!(
                    "rule \"{}\": \"{key}\" is not honoured",
                    parsed.rules.get(index).map_or("?", |rule| rule.id.as_ref().as_str())
                ),
                _ => format!("\"{path}\" is not honoured"),
            };
        set.warnings.push(warn(what));
    }
    let mut disabled = Vec::new();
    if let Some(extend) = parsed.extend {
        if extend.use_default {
            let built_in = RuleSet::built_in();
            set.rules.extend(built_in.rules);
            set.allowlists.extend(built_in.allowlists);
        }
        if let Some(path) = extend.path {
            set.warnings.push(warn(format!("\"extend.path\" is not followed: {path}")));
        }
        disabled = extend.disabled_rules;
    }
    set.rules.retain(|rule| !disabled.contains(&rule.id));
    for entry in parsed.rules {
        let line = text[..entry.id.span().start].matches('\n').count() + 1;
        let id = entry.id.as_ref().clone();
        let rule = rule(entry).map_err(|problem| LoadError::Rule {
            file: file.to_owned(),
            line,
            rule: id,
            problem,
        })?;
        // As in gitleaks: a rule of the same name takes the place of the one that was extended.
        set.rules.retain(|other| other.id != rule.id);
        set.rules.push(rule);
    }
    for entry in parsed.allowlists.into_iter().chain(parsed.allowlist) {
        let allowlist =
            allowlist(entry).map_err(|problem| LoadError::Allowlist { file: file.to_owned(), problem })?;
        set.allowlists.push(allowlist);
    }
    Ok(set)
}

fn rule(entry: RuleEntry) -> Result<Rule, String> {
    if entry.regex.is_none() && entry.path.is_none() {
        return Err("has neither a regex nor a path".to_owned());
    }
    let (regex, longest) = match &entry.regex {
        Some(pattern) => {
            let (regex, longest) = compile(pattern)?;
            (Some(regex), longest)
        }
        None => (None, None),
    };
    if let Some(regex) = &regex
        && entry.secret_group >= regex.captures_len()
    {
        return Err(format!(
            "secretGroup is {}, but the regex has {} groups",
            entry.secret_group,
            regex.captures_len() - 1
        ));
    }
    Ok(Rule {
        id: entry.id.into_inner(),
        description: entry.description,
        regex,
        longest,
        secret_group: entry.secret_group,
        entropy: entry.entropy.filter(|bits| *bits > 0.0),
        keywords: entry.keywords.iter().map(|word| word.to_ascii_lowercase()).collect(),
        path: entry.path.as_deref().map(compile).transpose()?.map(|(regex, _)| regex),
        allowlists: entry
            .allowlists
            .into_iter()
            .chain(entry.allowlist)
            .map(allowlist)
            .collect::<Result<_, _>>()?,
        check: entry.check,
    })
}

fn allowlist(entry: AllowlistEntry) -> Result<Allowlist, String> {
    let compile_all = |patterns: Vec<String>| -> Result<Vec<Regex>, String> {
        patterns.iter().map(|pattern| compile(pattern).map(|(regex, _)| regex)).collect()
    };
    Ok(Allowlist {
        condition: match entry.condition.as_deref().map(str::to_ascii_uppercase).as_deref() {
            None | Some("" | "OR" | "||") => Condition::Any,
            Some("AND" | "&&") => Condition::All,
            Some(other) => return Err(format!("condition \"{other}\" is neither AND nor OR")),
        },
        target: match entry.regex_target.as_deref() {
            None | Some("" | "secret") => Target::Secret,
            Some("match") => Target::Match,
            Some("line") => Target::Line,
            Some(other) => return Err(format!("regexTarget \"{other}\" is none of secret, match, line")),
        },
        paths: compile_all(entry.paths)?,
        regexes: compile_all(entry.regexes)?,
        stopwords: entry.stopwords.iter().map(|word| word.to_ascii_lowercase()).collect(),
        commits: entry.commits,
        rules: entry.target_rules,
    })
}

/// Compiles as Go does: classes such as `\w` are ASCII. Only an expression that needs Unicode gets it.
fn compile(pattern: &str) -> Result<(Regex, Option<usize>), String> {
    let build = |unicode: bool| {
        RegexBuilder::new(pattern).unicode(unicode).size_limit(MAX_COMPILED).nest_limit(NESTING).build()
    };
    let parse = |unicode: bool| {
        regex_syntax::ParserBuilder::new()
            .unicode(unicode)
            .utf8(false)
            .nest_limit(NESTING)
            .build()
            .parse(pattern)
            .ok()
            .and_then(|hir| hir.properties().maximum_len())
    };
    let (regex, longest) = match build(false) {
        Ok(regex) => (regex, parse(false)),
        Err(_) => (build(true).map_err(|error| error.to_string())?, parse(true)),
    };
    Ok((regex, longest))
}
