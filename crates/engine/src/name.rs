//! Names that become part of a request's path.

use crate::EngineError;

/// Most bytes of a name or reference, with room above what the engines accept (255 and 4096).
const MAX_NAME: usize = 4096;

/// The name or id of a container, a volume or a network: the engine's own rule, so that no name selects
/// another path of the API.
pub(crate) fn object(name: &str) -> Result<&str, EngineError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_name = name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() <= MAX_NAME
        && name.bytes().all(is_allowed);
    if is_name { Ok(name) } else { Err(EngineError::InvalidName(name.to_owned())) }
}

/// An image reference or id: names joined by `/`, with `:tag` and `@sha256:…`.
pub(crate) fn reference(text: &str) -> Result<&str, EngineError> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:/@".contains(&byte);
    let is_reference = !text.is_empty()
        && text.len() <= MAX_NAME
        && text.bytes().all(is_allowed)
        && text.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if is_reference { Ok(text) } else { Err(EngineError::InvalidName(text.to_owned())) }
}

/// Repository and tag or digest of a reference. The tag is `latest` where there is none, as for `docker`: the
/// engine itself would pull every tag.
pub(crate) fn repository_and_tag(reference: &str) -> (&str, &str) {
    if let Some((repository, digest)) = reference.split_once('@') {
        return (repository, digest);
    }
    match reference.rsplit_once(':') {
        // A colon before a slash belongs to the port of a registry.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_in_a_path() {
        for name in ["a", "bot-bottle_1.x", "0123abcdef"] {
            assert!(object(name).is_ok(), "{name}");
        }
        for name in ["", "..", ".a", "a/b", "a?b", "a b", "a%2f", "ä", "-a"] {
            assert!(object(name).is_err(), "{name}");
        }
        for text in ["a", "localhost:5000/a/b:1.2", "a@sha256:00ff", "sha256:00ff"] {
            assert!(reference(text).is_ok(), "{text}");
        }
        for text in ["", "a/../b", "/a", "a//b", "a?x", "a b", "a#b", "%2e"] {
            assert!(reference(text).is_err(), "{text}");
        }
    }

    #[test]
    fn references_are_split_at_their_tag() {
        for (text, expected) in [
            ("a", ("a", "latest")),
            ("a:1", ("a", "1")),
            ("host:5000/a", ("host:5000/a", "latest")),
            ("host:5000/a:1", ("host:5000/a", "1")),
            ("a@sha256:00", ("a", "sha256:00")),
        ] {
            assert_eq!(repository_and_tag(text), expected, "{text}");
        }
    }
}
