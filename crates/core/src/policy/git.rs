//! What git asks for over HTTP, however a server may read the request that asks for it.
//!
//! Servers split, decode and trim targets in many ways: parameters (`;x`), escapes decoded once or twice,
//! backslashes, repeated slashes, blanks, NUL, another case, a path in the query. Rather than to follow each
//! of them, a target is cut into words at every character that any of them could take for a border. A server
//! that finds `git-receive-pack` in it has one of these words before it.

use super::{RequestFacts, overrides};

/// What a git client asks of a server (git's `gitprotocol-http`, and the protocol of git LFS).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GitService {
    /// Reads a repository.
    Fetch,
    /// Writes to one.
    Push,
}

/// Services by their name in a path, in `service=`, or in `application/x-<name>-request`. Those with `ssh-`
/// are what GitLab's workhorse serves to its own shell.
const SERVICES: [(&str, GitService); 5] = [
    ("git-receive-pack", GitService::Push),
    ("ssh-receive-pack", GitService::Push),
    ("git-upload-pack", GitService::Fetch),
    ("git-upload-archive", GitService::Fetch),
    ("ssh-upload-pack", GitService::Fetch),
];

/// Methods that change nothing (RFC 9110 section 9.2.1). TRACE is refused before.
const SAFE: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// Methods by which git pushes to a server that knows no git, only WebDAV (`git-http-push`).
const WEBDAV: [&str; 9] =
    ["PUT", "DELETE", "MKCOL", "LOCK", "UNLOCK", "MOVE", "COPY", "PROPFIND", "PROPPATCH"];

/// What git would have a server do by this request, if anything. A push anywhere in it wins.
pub(super) fn service(request: &RequestFacts<'_>) -> Option<GitService> {
    let method = Method::of(request);
    let mut targets = overrides::targets(request);
    targets.extend(overrides::destinations(request));
    targets.push(format!("{}?{}", request.path, request.query.unwrap_or_default()));
    let in_target = targets.iter().filter_map(|target| {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // The one that is decoded less often stays what it was last.
        let (paths, queries) = (overrides::decodings(path), overrides::decodings(query));
        let pairs = (0..paths.len().max(queries.len())).filter_map(|at| {
            let path = paths.get(at).or(paths.last())?;
            let query = queries.get(at).or(queries.last())?;
            by_words(&method, &words(path), &words(query))
        });
        pairs.max()
    });
    in_target.max().max(by_content_type(request))
}

/// What the method may be to a server.
struct Method {
    is_safe: bool,
    is_webdav: bool,
    is_delete_alone: bool,
}

impl Method {
    fn of(request: &RequestFacts<'_>) -> Self {
        let mut named = overrides::methods(request);
        named.push(request.method.to_ascii_uppercase());
        Self {
            is_safe: named.iter().all(|method| SAFE.contains(&method.as_str())),
            is_webdav: named.iter().any(|method| WEBDAV.contains(&method.as_str())),
            is_delete_alone: named.iter().all(|method| method == "DELETE"),
        }
    }
}

/// GitLab's workhorse goes by the content type on whatever path, and every server insists on it.
fn by_content_type(request: &RequestFacts<'_>) -> Option<GitService> {
    let types = overrides::values_of(&["content-type"], request).join(",").to_ascii_lowercase();
    SERVICES
        .iter()
        .filter(|(name, _)| types.contains(&format!("x-{name}")))
        .map(|(_, service)| *service)
        .max()
}

fn by_words(method: &Method, path: &[String], query: &[String]) -> Option<GitService> {
    let has = |word: &str| path.iter().any(|found| found == word);
    let is_below_repository = path.iter().any(|word| word.len() > 4 && word.ends_with(".git"));
    let asks_for_refs = has("info") && has("refs");
    let named = |words: &[String]| {
        SERVICES
            .iter()
            .filter(|(name, _)| words.iter().any(|word| word == name))
            .map(|(_, service)| *service)
            .max()
    };
    let in_path = named(path);
    let in_query = named(query);
    let smart = match method.is_safe {
        // A service is asked for by POST; its name alone is the address of its manual page, too.
        true if asks_for_refs => in_path.max(in_query),
        true if is_below_repository => in_path,
        true => None,
        false => in_path.max(in_query),
    };
    let plain_refs = path.windows(2).any(|pair| pair == ["info", "refs"]).then_some(GitService::Fetch);
    let written = (method.is_webdav && (is_below_repository || is_in_repository(path, method)))
        .then_some(GitService::Push);
    smart.max(plain_refs).max(written).max(large_files(method, path))
}

/// Whether a path is that of a file in a repository whose name does not say that it is one.
fn is_in_repository(path: &[String], method: &Method) -> bool {
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    // SHA-1 without the two digits that name the folder; http-push puts the name of a lock behind it.
    let is_object = |word: &String| word.get(..38).is_some_and(is_hex);
    (0..path.len()).any(|at| match (path[at].as_str(), path.get(at + 1).map_or("", String::as_str)) {
        ("info", "refs") | ("objects", "pack" | "info") => true,
        ("objects", folder) if folder.len() == 2 && is_hex(folder) => path.get(at + 2).is_none_or(is_object),
        // The APIs of forges delete branches by this path; none puts one.
        ("refs", "heads" | "tags" | "remotes" | "notes") => !method.is_delete_alone,
        _ => false,
    })
}

/// Git LFS. Whether a batch is for up- or download is in its body ([`is_large_file_batch`]). Uploads are PUT
/// where the batch's answer says, and locks are writes.
fn large_files(method: &Method, path: &[String]) -> Option<GitService> {
    let at = path.windows(2).position(|pair| pair == ["info", "lfs"])?;
    let is_batch = path[at + 2..].iter().map(String::as_str).eq(BATCH) && !method.is_webdav;
    Some(if method.is_safe || is_batch { GitService::Fetch } else { GitService::Push })
}

/// Where a batch is sent, below `info/lfs`.
const BATCH: [&str; 2] = ["objects", "batch"];

/// Whether some server may take a request for a batch of git LFS: by its address, or by the content type that
/// the API asks for at whatever address (`lfs.url`).
pub(super) fn is_large_file_batch(request: &RequestFacts<'_>) -> bool {
    let types = overrides::values_of(&["content-type"], request).join(",").to_ascii_lowercase();
    let mut targets = overrides::targets(request);
    targets.push(format!("{}?{}", request.path, request.query.unwrap_or_default()));
    let mut readings = targets.iter().flat_map(|target| overrides::decodings(target));
    let is_named = types.contains("vnd.git-lfs")
        || readings.any(|target| {
            words(&target).windows(4).any(|four| four[..2] == ["info", "lfs"] && four[2..] == BATCH)
        });
    is_named && !Method::of(request).is_safe
}

/// The words of a text, in lower case: runs of what names in git's protocol are made of.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~')))
        .map(|word| word.trim_end_matches('.'))
        // Trailing dots are dropped by Windows; `.` and `..` are no names.
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect()
}

#[cfg(test)]
mod tests;
