//! `git` of a bottle: author identity and remotes.

use std::collections::BTreeMap;

use base64::Engine as _;

use crate::{
    bottle::{CiFiles, GitKey},
    host::Host,
};

use super::{
    diagnostic::Problem,
    layer::{PushLayer, RemoteLayer, UserLayer},
    names,
    reader::{Keys, Reader},
    source::quoted,
    yaml::{Entry, Node},
};

/// `git` of one file.
#[derive(Debug, Default)]
pub(super) struct GitFile {
    pub(super) user: UserLayer,
    pub(super) remotes: BTreeMap<String, RemoteLayer>,
}

const KEYS: Keys = Keys { accepted: &["user", "remotes"], also: &["repos"], retired: &[] };
const USER_KEYS: Keys = Keys { accepted: &["name", "email"], also: &[], retired: &[] };
const PUSH_KEYS: Keys =
    Keys { accepted: &["branches", "tags", "force", "delete", "ci_files"], also: &[], retired: &[] };
const STATIC_KEYS: Keys = Keys { accepted: &["provider", "path"], also: &[], retired: &[] };

const REMOTE_KEYS: Keys = Keys {
    accepted: &["url", "host_key", "key", "token_ref", "push"],
    also: &[],
    retired: &[
        (
            "identity",
            "`identity` is a key of an older format",
            "write `key: {provider: static, path: ~/.ssh/id_ed25519}`",
        ),
        (
            "provisioned_key",
            "`provisioned_key` is a key of an older format",
            "write `key: {provider: gitea, token_ref: NAME}`",
        ),
    ],
};

const RETIRED_TOKEN: &str = "`token_ref` names the variable of the host now";

const FORGE_KEYS: Keys = Keys {
    accepted: &["provider", "token_ref"],
    also: &[],
    retired: &[
        ("forge_token_env", RETIRED_TOKEN, "write `token_ref: NAME`"),
        ("provisioner_token", RETIRED_TOKEN, "write `token_ref: NAME`"),
        ("token_env", RETIRED_TOKEN, "write `token_ref: NAME`"),
        ("path", "`path` is for `provider: static`", "a deploy key is made for this run; take `path` out"),
    ],
};

#[derive(Clone, Copy, PartialEq)]
enum KeyProvider {
    Static,
    Gitea,
    Github,
}

const KEY_PROVIDERS: [(&str, KeyProvider); 3] =
    [("static", KeyProvider::Static), ("gitea", KeyProvider::Gitea), ("github", KeyProvider::Github)];

const CI_FILES: [(&str, CiFiles); 3] =
    [("allow", CiFiles::Allow), ("approve", CiFiles::Approve), ("refuse", CiFiles::Refuse)];

/// The longest name of a remote, in bytes.
const MAX_REMOTE_NAME: usize = 64;

pub(super) fn read(reader: &mut Reader, node: Option<&Node>) -> GitFile {
    let Some(table) = reader.optional_table(node, "`git`", &KEYS) else { return GitFile::default() };
    let user = read_user(reader, table.get("user"));
    let remotes = reader.either(&table, "remotes", "repos");
    GitFile { user, remotes: remotes.map(|node| read_remotes(reader, node)).unwrap_or_default() }
}

pub(super) fn read_user(reader: &mut Reader, node: Option<&Node>) -> UserLayer {
    let Some(table) = reader.optional_table(node, "`git.user`", &USER_KEYS) else {
        return UserLayer::default();
    };
    UserLayer {
        name: reader.optional(&table, "name", identity_text).value().flatten(),
        email: reader.optional(&table, "email", identity_text).value().flatten(),
    }
}

/// A field of the author's identity; `None` if it is empty, so that it overrides nothing.
fn identity_text(reader: &mut Reader, node: &Node, key: &str) -> Option<Option<String>> {
    let text = reader.text(node, key)?.trim();
    // Git strips these from identities silently, so the commit would show another name than the preflight.
    if text.chars().any(|c| c.is_control() || c == '<' || c == '>') {
        reader.report(
            Problem::at(node.span, format!("`{key}` contains a character that git does not keep"))
                .hint("take out `<`, `>` and control characters"),
        );
        return None;
    }
    Some(Some(text.to_owned()).filter(|text| !text.is_empty()))
}

fn read_remotes(reader: &mut Reader, node: &Node) -> BTreeMap<String, RemoteLayer> {
    let mut remotes = BTreeMap::new();
    if node.is_null() {
        return remotes;
    }
    let Some(entries) = reader.entries(node, "`git.remotes`") else { return remotes };
    for entry in entries {
        if !is_remote_name(&entry.key.text) {
            reader.report(
                Problem::at(entry.key.span, format!("{} cannot be a remote's name", quoted(&entry.key.text)))
                    .hint(
                        "names of remotes are letters, digits, `.`, `_` and `-`, begin with a letter or digit, \
                         and do not end in `.git` or `.lock`",
                    ),
            );
        }
        if let Some(remote) = read_remote(reader, entry) {
            remotes.insert(entry.key.text.clone(), remote);
        }
    }
    remotes
}

fn is_remote_name(name: &str) -> bool {
    name.len() <= MAX_REMOTE_NAME
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !name.contains("..")
        && ![".git", ".lock", "."].iter().any(|end| name.ends_with(end))
}

fn read_remote(reader: &mut Reader, entry: &Entry) -> Option<RemoteLayer> {
    let table = reader.table(&entry.value, "a remote", &REMOTE_KEYS)?;
    Some(RemoteLayer {
        at: reader.at(entry.key.span),
        url: reader.optional(&table, "url", url),
        host_key: reader.optional(&table, "host_key", |reader, node, key| reader.parsed(node, key, host_key)),
        key: reader.optional(&table, "key", |reader, node, _| read_key(reader, node)),
        token_ref: reader.optional(&table, "token_ref", names::secret_ref),
        push: read_push(reader, table.get("push")),
    })
}

fn read_push(reader: &mut Reader, node: Option<&Node>) -> PushLayer {
    let Some(table) = reader.optional_table(node, "`push`", &PUSH_KEYS) else { return PushLayer::default() };
    PushLayer {
        branches: reader.optional(&table, "branches", branches),
        tags: reader.optional(&table, "tags", Reader::boolean),
        force: reader.optional(&table, "force", Reader::boolean),
        delete: reader.optional(&table, "delete", Reader::boolean),
        ci_files: reader
            .optional(&table, "ci_files", |reader, node, key| reader.choice(node, key, &CI_FILES)),
    }
}

fn branches(reader: &mut Reader, node: &Node, key: &str) -> Option<Vec<String>> {
    let items = reader.list(node, key)?;
    let globs = items.iter().map(|item| {
        reader.parsed(item, key, |text| {
            // A glob with characters that no branch may contain (git-check-ref-format(1)) would match
            // nothing.
            if text.contains([' ', '~', '^', ':', '\\']) || text.contains("..") || text.starts_with("refs/") {
                let hint = "write names or patterns of branches, such as `main` or `agent/*`";
                return Err((format!("{} matches no branch", quoted(text)), Some(hint.to_owned())));
            }
            Ok(text.to_owned())
        })
    });
    let globs: Vec<Option<String>> = globs.collect();
    globs.into_iter().collect()
}

fn read_key(reader: &mut Reader, node: &Node) -> Option<GitKey> {
    let any = Keys { accepted: &["provider", "path", "token_ref"], ..FORGE_KEYS };
    // The accepted keys depend on `provider`, so read it before checking the keys.
    let problems = reader.problems.len();
    let table = reader.table(node, "`key`", &any)?;
    reader.problems.truncate(problems);
    let provider = match table.get("provider") {
        Some(node) => reader.choice(node, "provider", &KEY_PROVIDERS)?,
        None => KeyProvider::Static,
    };
    if provider == KeyProvider::Static {
        let table = reader.table(node, "a `key` with `provider: static`", &STATIC_KEYS)?;
        let Some(path) = table.get("path") else {
            reader.report(
                Problem::at(node.span, "`key` has no `path`")
                    .hint("write `key: {provider: static, path: ~/.ssh/id_ed25519}`"),
            );
            return None;
        };
        return Some(GitKey::Static { path: reader.path(path, "path")? });
    }
    let table = reader.table(node, "a `key` that is made for this run", &FORGE_KEYS)?;
    let Some(token) = table.get("token_ref") else {
        reader.report(
            Problem::at(node.span, "`key` has no `token_ref`")
                .hint("write the variable of the host that holds the forge's API token: `token_ref: NAME`"),
        );
        return None;
    };
    let token_ref = names::secret_ref(reader, token, "token_ref")?;
    Some(match provider {
        KeyProvider::Github => GitKey::Github { token_ref },
        KeyProvider::Gitea | KeyProvider::Static => GitKey::Gitea { token_ref },
    })
}

fn url(reader: &mut Reader, node: &Node, key: &str) -> Option<String> {
    let text = reader.line(node, key)?;
    match check_url(text) {
        Ok(()) => Some(text.to_owned()),
        Err((message, hint)) => {
            // `https://user:token@host/` would put a token into the manifest.
            let mut problem = Problem::at(node.span, format!("`{key}`: {message}")).hint(hint);
            if text.contains("://") && text.contains('@') && !text.starts_with("ssh://") {
                problem = problem.concealed();
            }
            reader.report(problem);
            None
        }
    }
}

/// The problem of an address, and what to write instead.
fn check_url(text: &str) -> Result<(), (String, String)> {
    const EXAMPLE: &str = "write `ssh://git@host/path.git` or `https://host/path.git`";
    let wrong = |message: &str| (message.to_owned(), EXAMPLE.to_owned());
    let Some((scheme, rest)) = text.split_once("://") else {
        // The short form of scp(1), which git takes for ssh.
        return Err(match text.split_once(':') {
            Some((host, path))
                if !host.is_empty() && !host.contains('/') && !text.contains(char::is_whitespace) =>
            {
                (
                    format!("{} is not a URL", quoted(text)),
                    format!("write `ssh://{host}/{}`", path.trim_start_matches('/')),
                )
            }
            _ => (format!("{} is not a URL", quoted(text)), EXAMPLE.to_owned()),
        });
    };
    if !matches!(scheme, "ssh" | "https") {
        return Err((format!("{} is neither ssh nor https", quoted(scheme)), EXAMPLE.to_owned()));
    }
    if rest.contains(char::is_whitespace) {
        return Err(wrong("there is a space in the address"));
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.is_empty() {
        return Err(wrong("the address has no path"));
    }
    if path.contains(['?', '#']) {
        return Err(wrong("the address of a repository has neither `?` nor `#`"));
    }
    let (user, host_and_port) =
        authority.rsplit_once('@').map_or((None, authority), |(user, rest)| (Some(user), rest));
    match user {
        Some(_) if scheme == "https" => {
            return Err((
                "the address carries a user or a credential".to_owned(),
                "take it out, and name the variable of the host that holds the token with `token_ref`"
                    .to_owned(),
            ));
        }
        // A user that begins with `-` would be an option of ssh (CVE-2017-1000117).
        Some(user) if !names::is_token(user) || user.starts_with('-') => {
            return Err(wrong("the user in the address is not one"));
        }
        Some(_) | None => {}
    }
    let bracketed_end = host_and_port.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match host_and_port[bracketed_end..].split_once(':') {
        Some((host_end, port)) => (&host_and_port[..bracketed_end + host_end.len()], Some(port)),
        None => (host_and_port, None),
    };
    Host::parse(host).map_err(|error| (error.to_string(), EXAMPLE.to_owned()))?;
    let good_port = |port: &str| {
        port.bytes().all(|digit| digit.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if port.is_some_and(|port| !good_port(port)) {
        return Err(wrong("the port in the address is not from 1 to 65535"));
    }
    Ok(())
}

/// A public key as in `known_hosts`, without the host: `ssh-ed25519 AAAA…`, with or without a comment.
fn host_key(text: &str) -> Result<String, (String, Option<String>)> {
    const HINT: &str = "write the kind and the key, such as `ssh-ed25519 AAAAC3Nza…`";
    let wrong = |message: &str| (message.to_owned(), Some(HINT.to_owned()));
    let is_kind = |word: &str| ["ssh-", "ecdsa-", "sk-"].iter().any(|start| word.starts_with(start));
    let words: Vec<&str> = text.split_whitespace().collect();
    let (kind, key) = match words.as_slice() {
        [kind, key, ..] if is_kind(kind) => (*kind, *key),
        [_, kind, key, ..] if is_kind(kind) => {
            let hint = format!("leave the host out: `{kind} {key}`");
            return Err(("it begins with a host's name".to_owned(), Some(hint)));
        }
        _ => return Err(wrong("it is not a public key")),
    };
    if kind == "ssh-dss" {
        return Err(wrong("DSA keys are not believed any more"));
    }
    // RFC 4253, section 6.6: a length of four bytes, which is less than 2^16, and the kind once more.
    let decoder = base64::engine::general_purpose::STANDARD;
    if !key.starts_with("AAAA") || decoder.decode(key).is_err() {
        return Err(wrong("the second word is not a key in base64"));
    }
    Ok(format!("{kind} {key}"))
}
