//! Request smuggling: requests that the gateway's parser and the server's parser could read differently.

use crate::{attempt::Attempt, context::Context, outcome::Observation};

use super::http::allowed;

const SMUGGLING: &str = "https://portswigger.net/web-security/request-smuggling";
const DESYNC: &str = "https://portswigger.net/research/http-desync-attacks-request-smuggling-reborn";
const FRAMING: &str = "https://www.rfc-editor.org/rfc/rfc9112#section-6.3";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "http.smuggle-cl-te",
        promise: 9,
        what: "hides a request behind a Content-Length and a Transfer-Encoding that contradict each other",
        source: SMUGGLING,
        run: |s| {
            let hidden = hidden(s);
            Observation::all([
                outer(
                    s,
                    &format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", hidden.len() + 5),
                    &format!("0\r\n\r\n{hidden}"),
                ),
                outer(
                    s,
                    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                    &format!("5c\r\n{hidden}\r\n0\r\n\r\n"),
                ),
            ])
        },
    },
    Attempt {
        id: "http.smuggle-two-lengths",
        promise: 9,
        what: "hides a request behind two different Content-Lengths",
        source: FRAMING,
        run: |s| {
            let hidden = hidden(s);
            Observation::all([
                outer(s, &format!("Content-Length: 0\r\nContent-Length: {}\r\n", hidden.len()), &hidden),
                outer(s, &format!("Content-Length: 0, {}\r\n", hidden.len()), &hidden),
            ])
        },
    },
    Attempt {
        id: "http.smuggle-odd-length",
        promise: 9,
        what: "writes Content-Lengths that parsers read differently: +5, 0x5, -1, 5 5, too large",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2021-40346",
        run: |s| {
            Observation::all(
                [
                    "+0",
                    "0x0",
                    "-1",
                    "0 0",
                    "00000000000000000000000000000000000000000000",
                    "18446744073709551616",
                ]
                .map(|length| outer(s, &format!("Content-Length: {length}\r\n"), &hidden(s))),
            )
        },
    },
    Attempt {
        id: "http.smuggle-te-obfuscated",
        promise: 9,
        what: "hides the Transfer-Encoding from one parser by odd spellings of it",
        source: DESYNC,
        run: |s| {
            Observation::all(
                [
                    "Transfer-Encoding: xchunked\r\n",
                    "Transfer-Encoding : chunked\r\n",
                    "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
                    "Transfer-Encoding:\u{b}chunked\r\n",
                    "Transfer-Encoding: identity, chunked, identity\r\n",
                    " Transfer-Encoding: chunked\r\n",
                    "X: x\nTransfer-Encoding: chunked\r\n",
                ]
                .map(|header| {
                    let hidden = hidden(s);
                    outer(
                        s,
                        &format!("{header}Content-Length: {}\r\n", hidden.len() + 5),
                        &format!("0\r\n\r\n{hidden}"),
                    )
                }),
            )
        },
    },
    Attempt {
        id: "http.smuggle-chunk-extension",
        promise: 9,
        what: "hides a request behind chunk sizes that parsers read differently",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2025-55315",
        run: |s| {
            Observation::all(["0;a\nb", "0x0", "-0", "00000000000000000", "0\n"].map(|size| {
                outer(s, "Transfer-Encoding: chunked\r\n", &format!("{size}\r\n\r\n{}", hidden(s)))
            }))
        },
    },
    Attempt {
        id: "http.pipelined",
        promise: 2,
        what: "sends a request that is not allowed right behind one that is, in one write",
        source: "https://www.rfc-editor.org/rfc/rfc9112#section-9.3.2",
        run: |s| {
            let first = format!(
                "GET /v1/items HTTP/1.1\r\nHost: {}\r\nX-Attempt: {}\r\n\r\n",
                s.allowed_host,
                s.tag()
            );
            allowed(s, format!("{first}{}", hidden(s)).as_bytes())
        },
    },
    Attempt {
        id: "http.two-host-headers",
        promise: 9,
        what: "sends two Host headers, the allowed one and an unlisted one, in both orders",
        source: "https://www.rfc-editor.org/rfc/rfc9112#section-3.2",
        run: |s| {
            let (a, b) = (&s.allowed_host, &s.unlisted_host);
            Observation::all([
                outer(s, &format!("Host: {b}\r\n"), ""),
                raw(s, &format!("GET /v1/items HTTP/1.1\r\nHost: {b}\r\nHost: {a}\r\n")),
                raw(s, &format!("GET /v1/items HTTP/1.1\r\nHost: {a}\r\n Host: {b}\r\n")),
                raw(s, &format!("GET /v1/items HTTP/1.1\r\nHost: {a}, {b}\r\n")),
            ])
        },
    },
    Attempt {
        id: "http.no-host",
        promise: 9,
        what: "sends no Host header, an empty one, and HTTP/1.0 and 0.9, on a path that is not allowed",
        source: "https://www.rfc-editor.org/rfc/rfc9112#section-3.2",
        run: |s| {
            Observation::all([
                raw(s, "GET /private/no-host HTTP/1.1\r\n"),
                raw(s, "GET /private/no-host HTTP/1.1\r\nHost: \r\n"),
                raw(s, "GET /private/no-host HTTP/1.0\r\n"),
                allowed(s, b"GET /private/no-host\r\n"),
            ])
        },
    },
    Attempt {
        id: "http.broken-lines",
        promise: 9,
        what: "ends lines by LF or CR alone and folds headers, so that parsers see different headers",
        source: "https://www.rfc-editor.org/rfc/rfc9112#section-2.2",
        run: |s| {
            let (a, b) = (&s.allowed_host, &s.unlisted_host);
            Observation::all([
                raw(s, &format!("GET /private/lines HTTP/1.1\nHost: {a}\n")),
                raw(s, &format!("GET /v1/items HTTP/1.1\r\nHost: {a}\rHost: {b}\r\n")),
                raw(
                    s,
                    &format!("GET /v1/items HTTP/1.1\r\nHost: {a}\r\nX: y\r\n Host: {b}\r\nHost : {b}\r\n"),
                ),
                raw(s, &format!("GET /v1/items HTTP/1.1\r\nHost: {a}\0{b}\r\n")),
            ])
        },
    },
    Attempt {
        id: "http.broken-request-line",
        promise: 9,
        what: "writes request lines that parsers split differently",
        source: "https://www.rfc-editor.org/rfc/rfc9112#section-3",
        run: |s| {
            let a = &s.allowed_host;
            Observation::all([
                raw(s, &format!("GET /v1/items /private/line HTTP/1.1\r\nHost: {a}\r\n")),
                raw(s, &format!("GET  /private/line  HTTP/1.1\r\nHost: {a}\r\n")),
                raw(s, &format!("GET\t/private/line\tHTTP/1.1\r\nHost: {a}\r\n")),
                raw(s, &format!("GET private/line HTTP/1.1\r\nHost: {a}\r\n")),
                raw(s, &format!("GET /private/line HTTP/9.9\r\nHost: {a}\r\n")),
                raw(s, &format!("GET * HTTP/1.1\r\nHost: {a}\r\n")),
            ])
        },
    },
    Attempt {
        id: "http.hop-by-hop",
        promise: 9,
        what: "has the gateway remove its own headers by naming Host and Authorization in Connection, on a refused path",
        source: "https://nathandavison.com/blog/abusing-http-hop-by-hop-request-headers",
        run: |s| {
            raw(
                s,
                &format!(
                    "GET /private/hop HTTP/1.1\r\nHost: {}\r\nConnection: close, Host, Authorization\r\n",
                    s.allowed_host
                ),
            )
        },
    },
];

/// The smuggled request, which must not reach the host.
fn hidden(context: &Context) -> String {
    format!(
        "GET /private/hidden HTTP/1.1\r\nHost: {}\r\nX-Attempt: {}\r\nConnection: close\r\n\r\n",
        context.allowed_host,
        context.tag()
    )
}

/// An allowed request with these further headers and this body.
fn outer(context: &Context, headers: &str, body: &str) -> Observation {
    let head = format!(
        "POST /v1/items HTTP/1.1\r\nHost: {}\r\nX-Attempt: {}\r\n{headers}\r\n",
        context.allowed_host,
        context.tag()
    );
    allowed(context, format!("{head}{body}").as_bytes())
}

fn raw(context: &Context, head: &str) -> Observation {
    allowed(context, format!("{head}X-Attempt: {}\r\n\r\n", context.tag()).as_bytes())
}
