//! What of a request's body the decision depends on.

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};

use super::{Policy, RequestFacts, git, overrides};
use crate::decision::Reason;

/// Why a body is looked at before the request goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyCheck {
    /// A batch request of git LFS: its body says whether it is for downloads or for uploads.
    LargeFileBatch,
    /// A form on a route with `matches`: a field of it may name another method than the request line.
    Form {
        /// A server may read it as `application/x-www-form-urlencoded`.
        urlencoded: bool,
        /// A server may read it as `multipart/form-data`.
        multipart: bool,
    },
}

impl Policy {
    /// What is to be looked for in the body of a request that the policy allows.
    #[must_use]
    pub fn body_check(&self, request: &RequestFacts<'_>) -> Option<BodyCheck> {
        if git::is_large_file_batch(request) {
            return Some(BodyCheck::LargeFileBatch);
        }
        let route = self.decide_destination(request.host, request.port).ok()?;
        let types = overrides::values_of(&["content-type"], request).join(",").to_ascii_lowercase();
        let urlencoded = types.contains("form-urlencoded");
        let multipart = types.contains("multipart/form-data");
        let is_judged = (urlencoded || multipart) && !route.matches.is_empty();
        is_judged.then_some(BodyCheck::Form { urlencoded, multipart })
    }

    /// Why a request may not go on whose form has this field, `name=value` as a query has it.
    #[must_use]
    pub fn refusal_of_form_field(&self, request: &RequestFacts<'_>, field: &str) -> Option<Reason> {
        let decision = self.decide(&RequestFacts { query: Some(field), ..*request });
        (decision.reason == Reason::OverrideNotAllowed).then_some(decision.reason)
    }
}

/// Why a batch request of git LFS with this body may not go on: it is for uploads, or servers could read it
/// as one.
///
/// An upload goes where the batch's answer says, to a host of its own where no other sign of git is left.
/// Go's JSON takes the last of several keys, in whatever case, so there may be one alone (git LFS API,
/// `docs/api/batch.md`).
#[must_use]
pub fn refusal_of_large_file_batch(body: &[u8]) -> Option<Reason> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let operations = reader.deserialize_map(Operations).and_then(|found| reader.end().map(|()| found));
    match operations.as_deref() {
        Ok([operation]) if operation == "download" => None,
        _ => Some(Reason::GitPush),
    }
}

/// Collects the value of each key `operation`.
struct Operations;

impl<'de> Visitor<'de> for Operations {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object with one `operation`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<String>, A::Error> {
        let mut found = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("operation") {
                found.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_for_downloads_alone_or_refused() {
        for download in [
            r#"{"operation":"download","objects":[{"oid":"1","size":1}]}"#,
            r#" {"transfers":["basic"], "operation": "download"} "#,
        ] {
            assert_eq!(refusal_of_large_file_batch(download.as_bytes()), None, "{download}");
        }
        for other in [
            "",
            "{}",
            "[]",
            r#"{"operation":"upload"}"#,
            r#"{"operation":"download","operation":"upload"}"#,
            r#"{"operation":"download","Operation":"upload"}"#,
            r#"{"oper\u0061tion":"upload"}"#,
            r#"{"operation":"download"}{"operation":"upload"}"#,
            r#"{"operation":["download"]}"#,
            r#"{"operation":"download""#,
            "operation=upload",
        ] {
            assert_eq!(refusal_of_large_file_batch(other.as_bytes()), Some(Reason::GitPush), "{other}");
        }
    }
}
