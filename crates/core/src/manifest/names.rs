//! Names of variables, headers and authentication schemes.

use crate::{
    provider::{BaseUrl, BaseUrlError},
    secret::SecretRef,
};

use super::{
    diagnostic::Problem,
    reader::Reader,
    source::{printable, quoted},
    yaml::Node,
};

/// Prefixes of well-known tokens that are also valid names of variables.
const TOKEN_PREFIXES: [&str; 8] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "npm_", "hf_"];

/// The shortest such token.
const SHORTEST_TOKEN: usize = 30;

/// Whether `name` can be the name of a variable of the environment (POSIX.1-2017, 8.1).
pub(super) fn is_variable(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(first) && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

/// Whether `text` is a token in the sense of RFC 9110, section 5.6.2: a method, a header's name, a scheme.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The name of a host variable that holds a secret. Messages conceal any other value, because it may be the
/// secret itself, pasted by mistake.
pub(super) fn secret_ref(reader: &mut Reader, node: &Node, key: &str) -> Option<SecretRef> {
    let text = reader.text(node, key)?;
    let is_secret =
        text.len() >= SHORTEST_TOKEN && TOKEN_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    if is_variable(text) && !is_secret {
        return Some(SecretRef::new(text));
    }
    let message = if is_secret {
        format!("`{key}` looks like a token itself, not like the name of a variable that holds one")
    } else {
        format!("`{key}` is not the name of a variable of the environment")
    };
    reader.report(Problem::at(node.span, message).concealed().hint(format!(
        "put the token into a variable of the host, and write the variable's name: `{key}: MY_TOKEN`"
    )));
    None
}

/// Where a model is asked.
pub(super) fn base_url(reader: &mut Reader, node: &Node, key: &str) -> Option<BaseUrl> {
    let text = reader.text(node, key)?;
    let error = match text.parse() {
        Ok(url) => return Some(url),
        Err(error) => error,
    };
    let problem = Problem::at(
        node.span,
        format!("`{key}`: {}", error.to_string().chars().map(printable).collect::<String>()),
    );
    // The line has a password.
    let problem = if error == BaseUrlError::Credential { problem.concealed() } else { problem };
    reader.report(problem.hint(
        "write `https://HOST`, with `:PORT` and the path before `/v1` where it has them, such as \
         `https://llm.example.org/anthropic`",
    ));
    None
}

/// The reference of an image: names joined by `/`, with `:tag` and `@sha256:…`. Whether there is one, its registry
/// says. Or the absolute path of an archive or a folder, which the backend may take or not.
pub(super) fn image_reference(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    reader.parsed(node, key, |text| {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:/@".contains(&byte);
        let is_plain = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let is_reference = text.bytes().all(is_allowed) && is_plain(text);
        if is_reference || text.strip_prefix('/').is_some_and(is_plain) {
            return Ok(text.to_owned());
        }
        let hint =
            "name an image, or an archive of one by its absolute path; a Dockerfile is named by the key \
                    `dockerfile`"
                .to_owned();
        Err((format!("{} is not the name of an image", quoted(text)), Some(hint)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_tokens() {
        assert!(is_variable("_A1") && is_variable("path"));
        assert!(!is_variable("") && !is_variable("1A") && !is_variable("A-B") && !is_variable("Ä"));
        assert!(is_token("X-Kind") && is_token("PATCH"));
        assert!(!is_token("") && !is_token("a b") && !is_token("a:") && !is_token("ä"));
    }
}
