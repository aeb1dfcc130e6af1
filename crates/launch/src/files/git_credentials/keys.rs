//! Which keys of git's configuration hold a credential, or lead to one of the host.

use super::{Treatment, git_config::Entry};

/// Keys that are removed because of what they hold, or because a bottle lacks what they ask for, as section and key; `*` is every key. Subsections do not matter: most of these can
/// be written for one URL (git-config(1), `http.<url>.*`). Each with its source.
const KEYS: &[(&str, &str, &str)] = &[
    ("commit", "gpgsign", "git-config(1): asks for a private key, and no bottle has one"),
    ("core", "askpass", "git-config(1): a program that answers with a password"),
    ("core", "gitproxy", "git-config(1): a program that connects"),
    ("core", "sshcommand", "git-config(1): a program with the host's keys"),
    ("credential", "*", "gitcredentials(7): programs that hand out credentials, and names of users"),
    ("git-p4", "password", "git-p4(1)"),
    ("git-p4", "user", "git-p4(1)"),
    ("gitcvs", "dbpass", "git-cvsserver(1)"),
    ("gitcvs", "dbuser", "git-cvsserver(1)"),
    ("http", "cookiefile", "git-config(1): a file with cookies, or a cookie itself"),
    ("http", "extraheader", "git-config(1): a header, mostly Authorization"),
    ("http", "proxysslkey", "git-config(1): a file with a private key"),
    ("http", "sslkey", "git-config(1): a file with a private key"),
    ("imap", "pass", "git-imap-send(1)"),
    ("imap", "tunnel", "git-imap-send(1): a program that logs in"),
    ("imap", "user", "git-imap-send(1)"),
    ("push", "gpgsign", "git-config(1): asks for a private key, and no bottle has one"),
    ("sendemail", "smtppass", "git-send-email(1)"),
    ("sendemail", "smtpuser", "git-send-email(1)"),
    ("tag", "forcesignannotated", "git-config(1): asks for a private key, and no bottle has one"),
    ("tag", "gpgsign", "git-config(1): asks for a private key, and no bottle has one"),
];

/// Ends of keys of other programs, which keep tokens in git's configuration by these names (`github.token`,
/// `hub.oauthtoken`, `gitlab.apikey`).
const ENDS: &[&str] = &["token", "password", "passwd", "passphrase", "secret", "apikey", "api-key"];

/// Names of headers with credentials, in commands of aliases, filters and the like. RFC 9110, section 11.6.2,
/// and the headers of GitLab's API.
const HEADERS: &[&str] = &["authorization:", "private-token:", "job-token:", "cookie:"];

/// What goes from an entry.
pub(super) enum Removal {
    Nothing,
    Entry,
    /// The value without it.
    UserInfo(Vec<u8>),
}

/// Whether the entry ties the metadata to the place of its working tree.
pub(super) fn is_place(entry: &Entry) -> bool {
    section(entry) == b"core" && matches!(entry.key.as_slice(), b"worktree" | b"bare")
}

pub(super) fn removal(entry: &Entry) -> Removal {
    let section = section(entry);
    let listed = KEYS
        .iter()
        .any(|(name, key, _)| name.as_bytes() == section && (*key == "*" || key.as_bytes() == entry.key));
    let Some(value) = &entry.value else { return if listed { Removal::Entry } else { Removal::Nothing } };
    let lower = value.to_ascii_lowercase();
    let header = |name: &&str| lower.windows(name.len()).any(|part| part == name.as_bytes());
    if listed || ENDS.iter().any(|end| entry.key.ends_with(end.as_bytes())) || HEADERS.iter().any(header) {
        return Removal::Entry;
    }
    if let Some(stripped) = strip_user_info(value, |_| false) {
        return Removal::UserInfo(stripped);
    }
    // curl(1), `--proxy`: a proxy can be written without a scheme.
    if entry.key == b"proxy"
        && let Some(at) = value.iter().rposition(|byte| *byte == b'@')
    {
        return Removal::UserInfo(value[at + 1..].to_vec());
    }
    Removal::Nothing
}

/// A file that the entry names, as it is written, and what is done with it: what is included is configuration
/// too (git-config(1), "Includes"; conditions are not looked at), what holds credentials is left out.
pub(super) fn named_file(entry: &Entry) -> Option<(Vec<u8>, Treatment)> {
    let value = entry.value.as_deref()?;
    match (section(entry), entry.key.as_slice()) {
        (b"include" | b"includeif", b"path") => Some((value.to_vec(), Treatment::Config)),
        (b"http", b"cookiefile" | b"sslkey" | b"proxysslkey") => Some((value.to_vec(), Treatment::LeaveOut)),
        // git-credential-store(1): `store --file=<path>`, the path last.
        (b"credential", b"helper") => {
            let at = value.windows(6).position(|part| part == b"--file")? + 6;
            let path = value[at..].trim_ascii().strip_prefix(b"=").unwrap_or(value[at..].trim_ascii());
            let path = path.trim_ascii_start();
            let quote = path.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
            let end = |byte: &u8| quote.map_or(byte.is_ascii_whitespace(), |quote| *byte == quote);
            let path = &path[usize::from(quote.is_some())..];
            Some((path.split(end).next()?.to_vec(), Treatment::LeaveOut))
        }
        _ => None,
    }
}

/// The section without a subsection in the old style, `[http.example]`.
fn section(entry: &Entry) -> &[u8] {
    entry.section.name.split(|byte| *byte == b'.').next().unwrap_or_default()
}

/// The whole name of a key.
pub(super) fn name(entry: &Entry) -> String {
    let parts = [Some(&entry.section.name), entry.section.subsection.as_ref(), Some(&entry.key)];
    let parts: Vec<_> = parts.into_iter().flatten().map(|part| String::from_utf8_lossy(part)).collect();
    parts.join(".")
}

/// The text without the user info of the URLs in it (RFC 3986, section 3.2.1); `None` if there is none. `ends`
/// says which other bytes end a URL. For SSH the user name stays, because it is part of the address.
pub(super) fn strip_user_info(text: &[u8], ends: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut stripped = Vec::with_capacity(text.len());
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = text[at..].windows(3).position(|part| part == b"://") {
        let start = at + found + 3;
        at = start;
        let rest = &text[start..];
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#') || ends(*byte));
        let authority = &rest[..end.unwrap_or(rest.len())];
        let Some(sign) = authority.iter().rposition(|byte| *byte == b'@') else { continue };
        let name = text[..start - 3]
            .iter()
            .rev()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        let mut scheme: Vec<u8> = name.map(u8::to_ascii_lowercase).collect();
        scheme.reverse();
        let user = if scheme.windows(3).any(|part| part == b"ssh") {
            match authority[..sign].iter().position(|byte| *byte == b':') {
                Some(colon) => colon,
                None => continue,
            }
        } else {
            0
        };
        stripped.extend(&text[copied..start + user]);
        // With a user name the sign that separates it from the host stays too.
        copied = start + sign + usize::from(user == 0);
        at = copied;
    }
    if copied == 0 {
        return None;
    }
    stripped.extend(&text[copied..]);
    Some(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_goes_and_the_rest_of_the_url_stays() {
        for (text, stripped) in [
            ("https://me:FAKE@github.com/me/x.git", Some("https://github.com/me/x.git")),
            ("https://FAKE@h", Some("https://h")),
            ("https://a:b@c@h:8443/x@y", Some("https://h:8443/x@y")),
            ("HTTPS://me:FA KE@h/x https://FAKE@i/", Some("HTTPS://h/x https://i/")),
            ("ssh://git:FAKE@h/x", Some("ssh://git@h/x")),
            ("ssh://git@h/x", None),
            ("git@github.com:me/x.git", None),
            ("https://h/x@y", None),
            ("://", None),
        ] {
            let found = strip_user_info(text.as_bytes(), |_| false);
            assert_eq!(found.as_deref(), stripped.map(str::as_bytes), "{text}");
        }
        let line = b"pull https://me:FAKE@h/x: ff\npull https://h and me@example.com";
        let found = strip_user_info(line, |byte| byte.is_ascii_whitespace());
        assert_eq!(found.as_deref(), Some(&b"pull https://h/x: ff\npull https://h and me@example.com"[..]));
    }

    #[test]
    fn every_key_is_written_as_git_compares_it() {
        assert!(KEYS.is_sorted());
        for (section, key, source) in KEYS {
            assert_eq!((section.to_lowercase(), key.to_lowercase()), ((*section).into(), (*key).into()));
            assert!(source.contains("(1)") || source.contains("(7)"), "{key}");
        }
    }
}
