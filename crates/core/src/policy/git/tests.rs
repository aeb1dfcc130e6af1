use super::{super::same_field, *};
use crate::{host::Host, policy::Headers};

#[derive(Debug)]
struct List<'a>(&'a [(&'a str, &'a str)]);

impl Headers for List<'_> {
    fn each_value(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        let named = self.0.iter().filter(|(header, _)| same_field(header, name));
        named.for_each(|(_, value)| visit(value.as_bytes()));
    }
}

fn asked(method: &str, target: &str, headers: &[(&str, &str)]) -> Option<GitService> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let host = Host::parse("forge.example.org").expect("a host");
    let headers = List(headers);
    service(&RequestFacts { host: &host, port: 443, encrypted: true, method, path, query, headers: &headers })
}

/// Spellings of a segment that some server reads as the segment alone.
const DISGUISES: &[&str] = &[
    "{}",
    "{};x",
    "{};x=y;z",
    "%3B/{}",
    "{}%3bx",
    "{}/",
    "{}//",
    "//{}",
    "./{}",
    "x/../{}",
    "{}/.",
    "{}/x/..",
    "{}%20",
    "%20{}",
    "{}%09",
    "{}%00",
    "{}%00.html",
    "{}%0a",
    "{}.",
    "{}...",
    "{}%2e",
    "%2f{}",
    "%252f{}",
    "\\{}",
    "%5c{}",
    "%255c{}",
    "{}%3f",
    "{}%23",
    "{}%253Bx",
    "{}/info",
    "{}%u003bx",
    "{}%c0%af",
    "{},x",
    "{}\u{a0}",
    "{}%a0",
];

fn escaped(word: &str, times: usize) -> String {
    let escape = format!("%{}", "25".repeat(times - 1));
    word.bytes().map(|byte| format!("{escape}{byte:02x}")).collect()
}

#[test]
fn a_service_is_found_in_every_reading_of_the_path() {
    for (name, service) in SERVICES {
        let upper = name.to_ascii_uppercase();
        let spelled =
            [name.to_owned(), upper, escaped(name, 1), escaped(name, 2), name.replace('-', "%u002d")];
        for spelling in spelled {
            for disguise in DISGUISES {
                let segment = disguise.replace("{}", &spelling);
                for target in [
                    format!("/a/b/{segment}"),
                    format!("/a/b.git/{segment}"),
                    format!("/index.php?/a/b/{segment}"),
                    format!("/index.php/a/b/{segment}?x=1"),
                ] {
                    assert_eq!(asked("POST", &target, &[]), Some(service), "POST {target}");
                }
                let target = format!("/a/b.git/{segment}");
                assert_eq!(asked("GET", &target, &[]), Some(service), "GET {target}");
            }
        }
    }
}

#[test]
fn an_advertisement_is_found_in_every_reading_of_path_and_query() {
    for refs in [
        "info/refs",
        "info/refs;x",
        "info;x/refs",
        "INFO/Refs",
        "info//refs",
        "info/./refs",
        "info/x/../refs",
        "info%2frefs",
        "info%252frefs",
        "info\\refs",
        "info/refs/",
        "info/refs%20",
        "info/refs%00",
        "%69nfo/re%66s",
        "info/refs.",
        "info/refs%3Bx",
    ] {
        for query in [
            "?service=git-receive-pack",
            "?x=1&service=git-receive-pack",
            "?x=1;service=git-receive-pack",
            "?service=git-upload-pack&service=git-receive-pack",
            "?service=git-receive-pack&service=git-upload-pack",
            "?service=git%2Dreceive%2dpack",
            "?service=git%252Dreceive-pack",
            "?%73ervice=git-receive-pack",
            "?service[]=git-receive-pack",
            "?service=+git-receive-pack+",
            "?service=%20git-receive-pack%00",
            "?SERVICE=GIT-RECEIVE-PACK",
            "%3Fservice=git-receive-pack",
            "%3Fservice%3Dgit-receive-pack",
            "?service=%27git-receive-pack%27",
            "?service=git-receive-pack#x",
        ] {
            for method in ["GET", "HEAD", "get"] {
                let target = format!("/a/b/{refs}{query}");
                assert_eq!(asked(method, &target, &[]), Some(GitService::Push), "{method} {target}");
            }
        }
    }
    for target in [
        "/a/b/info/refs",
        "/a/b/info/refs?service=git-upload-pack",
        "/a/b/info/refs?service=git-upload-archive",
    ] {
        assert_eq!(asked("GET", target, &[]), Some(GitService::Fetch), "{target}");
    }
}

#[test]
fn other_ways_in_which_git_writes_are_found() {
    for (method, target, headers) in [
        ("POST", "/anything", &[("Content-Type", "application/x-git-receive-pack-request")][..]),
        ("POST", "/anything", &[("content-type", "Application/X-Git-Receive-Pack-Request; charset=utf-8")]),
        ("GET", "/anything", &[("Content_Type", " application/x-git-receive-pack-request")]),
        ("PUT", "/a/objects/ab/0123456789abcdef0123456789abcdef012345_opaquelocktoken", &[]),
        ("MKCOL", "/a/objects/ab/", &[]),
        ("MKCOL", "/a.git%2fobjects/ab", &[]),
        ("LOCK", "/a.git/info/refs", &[]),
        ("LOCK", "/a/refs/heads/main", &[]),
        ("lock", "/a/refs/heads/main", &[]),
        ("PUT", "/a/refs/heads/main", &[]),
        ("PUT", "/a/info/refs", &[]),
        ("PUT", "/a/objects/pack/pack-0.pack", &[]),
        ("PROPFIND", "/a.git/", &[]),
        ("PROPFIND", "/a.GIT;x/", &[]),
        (
            "MOVE",
            "/x",
            &[("Destination", "https://forge/a/objects/ab/0123456789abcdef0123456789abcdef012345")],
        ),
        ("MOVE", "/x", &[("Destination", "https://forge/a.git/refs/heads/main")]),
        ("COPY", "/x", &[("Destination", "/a%2egit/refs/heads/main")]),
        ("DELETE", "/a.git/refs/heads/main", &[]),
        ("POST", "/a.git/objects/ab/cd", &[("X-HTTP-Method-Override", "put")]),
        ("GET", "/a/b/git-receive-pack", &[("X_HTTP_Method", "POST")]),
        ("POST", "/", &[("X-Original-URL", "/a/b/git-receive-pack")]),
        ("GET", "/", &[("X-Rewrite-URL", "/a/b/info/refs?service=git-receive-pack")]),
        ("PUT", "/a/b/info/lfs/objects/0123", &[]),
        ("PUT", "/g/p.git/gitlab-lfs/objects/0123/42", &[]),
        ("POST", "/a/b.git/info/lfs/locks", &[]),
        ("POST", "/a/b.git/info/lfs/locks/1/unlock", &[]),
        ("POST", "/a/b.git/info/lfs/verify", &[]),
    ] {
        assert_eq!(asked(method, target, headers), Some(GitService::Push), "{method} {target} {headers:?}");
    }
    for (method, target) in [
        ("POST", "/a/b.git/info/lfs/objects/batch"),
        ("GET", "/a/b.git/info/lfs/objects/0123"),
        ("GET", "/a/b.git/info/lfs/locks"),
    ] {
        assert_eq!(asked(method, target, &[]), Some(GitService::Fetch), "{method} {target}");
    }
}

#[test]
fn daily_work_with_forges_is_not_git() {
    for (method, target) in [
        ("GET", "/api/v4/projects/group%2Fproject"),
        ("GET", "/api/v4/projects/group%2Fproject/repository/branches/feature%2Fx"),
        ("GET", "/api/v4/projects/group%2Fproject/repository/files/src%2Fgit.rs/raw?ref=main"),
        ("POST", "/api/v4/projects/group%2Fproject/repository/commits"),
        ("PUT", "/api/v4/projects/group%2Fproject/repository/files/info%2Frefs.md"),
        ("POST", "/api/v4/projects/1/merge_requests"),
        ("PUT", "/api/v4/projects/1/merge_requests/2/merge"),
        ("DELETE", "/api/v4/projects/1/repository/branches/feature"),
        ("DELETE", "/api/v4/projects/1/repository/tags/v1"),
        ("POST", "/api/v4/projects/1/trigger/pipeline"),
        ("PUT", "/api/v4/projects/1/packages/generic/app/1.0/app.tar.gz"),
        ("GET", "/group/project.git"),
        ("GET", "/repos/me/app.git/contents/src"),
        ("GET", "/repos/me/app/git/refs/heads/main"),
        ("POST", "/repos/me/app/git/refs"),
        ("PATCH", "/repos/me/app/git/refs/heads/main"),
        ("DELETE", "/repos/me/app/git/refs/heads/feature"),
        ("POST", "/repos/me/app/git/blobs"),
        ("GET", "/repos/me/app/git/trees/main?recursive=1"),
        ("PUT", "/repos/me/app/contents/docs/git-receive-pack.md"),
        ("GET", "/repos/me/app/info"),
        ("POST", "/repos/me/app/issues"),
        ("PUT", "/repos/me/app/pulls/1/merge"),
        ("POST", "/graphql"),
        ("GET", "/git/git/blob/master/builtin/receive-pack.c"),
        ("GET", "/docs/git-receive-pack"),
        ("GET", "/docs/git-upload-pack/de"),
        ("GET", "/search?q=git-receive-pack&type=code"),
        ("GET", "/me/app/archive/refs/heads/main.tar.gz"),
        ("GET", "/me/app/releases/download/v1/app.tar.gz"),
        ("GET", "/me/app/raw/main/.git/objects/pack"),
        ("PUT", "/bucket/objects/2026/report.json"),
        ("PUT", "/bucket/objects/ab/report.json"),
        ("DELETE", "/bucket/objects/report.json"),
        ("PUT", "/remote.php/dav/files/me/notes.md"),
        ("PROPFIND", "/remote.php/dav/files/me/"),
        ("PUT", "/@scope%2fpackage"),
        ("DELETE", "/2.0/repositories/me/app/refs/branches/feature"),
        ("POST", "/v1/messages?beta=true"),
        ("PUT", "/v2/me/app/blobs/uploads/1?digest=sha256:0"),
    ] {
        assert_eq!(asked(method, target, &[("Content-Type", "application/json")]), None, "{method} {target}");
    }
}
