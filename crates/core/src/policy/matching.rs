//! The `matches` of a route, modelled on the Gateway API's HTTPRoute.

use regex::Regex;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::RequestFacts;

/// One entry: every field that it has must be for the request. Fields with several values mean any of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestMatch {
    /// Any of these paths; none at all means any path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathMatch>,
    /// Any of these methods, upper case; none at all means any method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Every one of these headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
}

/// A rule for a path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case", deny_unknown_fields)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole segments from the start: `/a/b` is for `/a/b` and `/a/b/c`, not for `/a/bc`.
    Prefix(String),
    /// A regular expression that has to be for the whole path.
    Regex(AnchoredRegex),
}

/// A rule for a header: one of its values has to fit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// In lower case.
    pub name: String,
    /// What the value has to be.
    #[serde(flatten)]
    pub value: TextMatch,
}

/// A rule for a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum TextMatch {
    /// The whole text.
    Exact(String),
    /// The start of the text.
    Prefix(String),
    /// A regular expression that has to be for the whole text.
    Regex(AnchoredRegex),
}

/// A regular expression that matches whole texts only, in time linear to their length.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AnchoredRegex {
    written: String,
    compiled: Regex,
}

/// A regular expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{written}` is not a regular expression that can be used: {why}")]
pub struct TextMatchError {
    written: String,
    why: String,
}

impl AnchoredRegex {
    /// Compiles an expression.
    ///
    /// # Errors
    /// When it is not one, or would take too much memory.
    pub fn new(written: &str) -> Result<Self, TextMatchError> {
        let error = |why: String| TextMatchError { written: written.to_owned(), why };
        // Compiled on its own first: `a)|(b` is an error, not two halves of an anchored group.
        let compile = |pattern: &str| {
            regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|why| {
                error(
                    why.to_string()
                        .lines()
                        .last()
                        .unwrap_or_default()
                        .trim_start_matches("error: ")
                        .to_owned(),
                )
            })
        };
        compile(written)?;
        // The line break ends a trailing `(?x)` comment, which would swallow the closing bracket.
        let compiled = compile(&format!("\\A(?:{written})\\z"))
            .or_else(|_| compile(&format!("\\A(?:{written}\n)\\z")))?;
        Ok(Self { written: written.to_owned(), compiled })
    }

    fn is_for(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
}

impl PartialEq for AnchoredRegex {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl TryFrom<String> for AnchoredRegex {
    type Error = TextMatchError;

    fn try_from(written: String) -> Result<Self, Self::Error> {
        Self::new(&written)
    }
}

impl From<AnchoredRegex> for String {
    fn from(regex: AnchoredRegex) -> Self {
        regex.written
    }
}

impl RequestMatch {
    pub(super) fn is_for_all_but_the_path(&self, method: &str, request: &RequestFacts<'_>) -> bool {
        // Methods are case-sensitive (RFC 9110 section 9.1): `get` is not `GET`, and no route means it.
        (self.methods.is_empty() || self.methods.iter().any(|allowed| allowed == method))
            && self.headers.iter().all(|header| header.is_for(request))
    }

    /// Whether one of the entry's paths is for this reading of a path.
    pub(super) fn is_for_path(&self, reading: &str) -> bool {
        self.paths.is_empty() || self.paths.iter().any(|path| path.is_for(reading))
    }
}

impl PathMatch {
    fn is_for(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Regex(regex) => regex.is_for(path),
        }
    }
}

impl HeaderMatch {
    fn is_for(&self, request: &RequestFacts<'_>) -> bool {
        // Every value has to fit, and there has to be one: otherwise a second value would ride along unseen.
        let (mut any, mut all) = (false, true);
        request.headers.each_value(&self.name, &mut |value| {
            any = true;
            all &= std::str::from_utf8(value).is_ok_and(|value| self.value.is_for(value));
        });
        any && all
    }
}

impl TextMatch {
    fn is_for(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::Regex(regex) => regex.is_for(text),
        }
    }
}
