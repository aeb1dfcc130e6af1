//! Git other than through the git gate.

use crate::{
    attempt::Attempt,
    client::{get, request, send_to_gateway, through_plain_tunnel, through_tls_tunnel},
    context::Context,
    outcome::Observation,
};

const SMART_HTTP: &str = "https://git-scm.com/docs/http-protocol";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "git.push-advertisement",
        promise: 8,
        what: "begins a push over HTTPS to a host where all else is allowed",
        source: SMART_HTTP,
        run: |s| {
            Observation::all(
                [
                    "/app.git/info/refs?service=git-receive-pack",
                    "/app.git/info/refs?x=1&service=git-receive-pack",
                    "/app.git/info/refs?service=git%2Dreceive%2dpack",
                    "/app.git/info/refs?service=git-upload-pack&service=git-receive-pack",
                ]
                .map(|path| open(s, &get(s, &s.open_host, path))),
            )
        },
    },
    Attempt {
        id: "git.push-pack",
        promise: 8,
        what: "pushes a pack over HTTPS to a host where all else is allowed",
        source: SMART_HTTP,
        run: |s| {
            let headers = "Content-Type: application/x-git-receive-pack-request\r\n";
            Observation::all(
                [
                    "/app.git/git-receive-pack",
                    "/app.git/git%2dreceive-pack",
                    "/app.git//git-receive-pack",
                    "/app.git/git-receive-pack/",
                ]
                .map(|path| open(s, &request(s, "POST", &s.open_host, path, headers, b"0000"))),
            )
        },
    },
    Attempt {
        id: "git.push-disguised",
        promise: 8,
        what: "pushes to paths that servers read as git's, by parameters, escapes, blanks, dots, slashes, case and path info",
        source: "https://tomcat.apache.org/tomcat-10.1-doc/config/http.html",
        run: |s| {
            let headers = "Content-Type: application/octet-stream\r\n";
            let push = [
                "/app/git-receive-pack;x",
                "/app/git-receive-pack%20",
                "/app/git-receive-pack%00",
                "/app/git-receive-pack.",
                "/app/x/..;/git-receive-pack",
                "/app%2fgit-receive-pack",
                "/app/git%252dreceive-pack",
                "/app\\git-receive-pack",
                "/app/GIT-Receive-Pack",
                "/app/git-receive-pack/info",
                "/index.php?/app/git-receive-pack",
            ]
            .map(|path| open(s, &request(s, "POST", &s.open_host, path, headers, b"0000")));
            let ask = [
                "/app/info/refs;x?service=git-receive-pack",
                "/app/info//refs?service=git-receive-pack",
                "/app/info/refs?service=git-upload-pack;service=git-receive-pack",
                "/app/info/refs%3Fservice=git-receive-pack",
            ]
            .map(|path| open(s, &get(s, &s.open_host, path)));
            Observation::all(push.into_iter().chain(ask))
        },
    },
    Attempt {
        id: "git.push-by-other-means",
        promise: 8,
        what: "writes to a repository by content type alone, by WebDAV as git-http-push does, and by git LFS",
        source: "https://git-scm.com/docs/git-http-push",
        run: |s| {
            let pack = "Content-Type: application/x-git-receive-pack-request\r\n";
            Observation::all(
                [
                    ("POST", "/digital", pack),
                    ("LOCK", "/app.git/info/refs", ""),
                    ("MKCOL", "/app.git/objects/ab/", ""),
                    ("PUT", "/app.git/refs/heads/main", ""),
                    ("MOVE", "/digital", "Destination: /app.git/refs/heads/main\r\n"),
                    ("PUT", "/app.git/info/lfs/objects/0", ""),
                    ("POST", "/digital", "X-Original-URL: /app.git/git-receive-pack\r\n"),
                ]
                .map(|(method, path, headers)| {
                    open(s, &request(s, method, &s.open_host, path, headers, b"0000"))
                }),
            )
        },
    },
    Attempt {
        id: "git.push-cleartext",
        promise: 8,
        what: "begins a push over plain HTTP",
        source: SMART_HTTP,
        run: |s| {
            let target = format!("http://{}/app.git/info/refs?service=git-receive-pack", s.open_host);
            send_to_gateway(s, &get(s, &s.open_host, &target))
        },
    },
    Attempt {
        id: "git.fetch-unlisted",
        promise: 2,
        what: "fetches from a host whose route does not allow git",
        source: SMART_HTTP,
        run: |s| open(s, &get(s, &s.open_host, "/app.git/info/refs?service=git-upload-pack")),
    },
    Attempt {
        id: "git.daemon",
        promise: 8,
        what: "speaks git's own protocol through a tunnel, to the allowed host and an unlisted one",
        source: "https://git-scm.com/docs/gitprotocol-pack",
        run: |s| {
            let hello = format!("0040git-receive-pack /app.git\0host={}\0{}", s.open_host, s.tag());
            Observation::all([
                through_plain_tunnel(s, &format!("{}:443", s.open_host), hello.as_bytes()),
                through_plain_tunnel(s, &format!("{}:9418", s.open_host), hello.as_bytes()),
                through_plain_tunnel(s, &format!("{}:9418", s.unlisted_host), hello.as_bytes()),
            ])
        },
    },
    Attempt {
        id: "git.over-ssh",
        promise: 8,
        what: "pushes over SSH through a tunnel, on port 443 and on port 22",
        source: "https://docs.github.com/en/authentication/troubleshooting-ssh/using-ssh-over-the-https-port",
        run: |s| {
            let banner = format!("SSH-2.0-OpenSSH_9.2 {}\r\n", s.tag());
            Observation::all(
                [443, 22].map(|port| {
                    through_plain_tunnel(s, &format!("{}:{port}", s.open_host), banner.as_bytes())
                }),
            )
        },
    },
];

fn open(context: &Context, request: &[u8]) -> Observation {
    through_tls_tunnel(context, &format!("{}:443", context.open_host), Some(&context.open_host), request)
}
