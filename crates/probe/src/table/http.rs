//! Requests to an allowed host that its route does not allow.

use crate::{
    attempt::Attempt,
    client::{get, request, send_to_gateway, through_plain_tunnel, through_tls_tunnel},
    context::Context,
    outcome::Observation,
};

const PATHS: &str = "https://cwe.mitre.org/data/definitions/22.html";
const OWN_CREDENTIAL: &str = "https://embracethered.com/blog/posts/2025/claude-abusing-network-access-and-anthropic-api-for-data-exfiltration/";
const ENCODED: &str = "https://cwe.mitre.org/data/definitions/177.html";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "http.method",
        promise: 2,
        what: "uses methods that the route does not allow: DELETE, PUT, PATCH, TRACE, an invented one",
        source: "https://cwe.mitre.org/data/definitions/650.html",
        run: |s| {
            Observation::all(
                ["DELETE", "PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "FROBNICATE", "get"]
                    .map(|method| allowed(s, &request(s, method, &s.allowed_host, "/v1/items", "", b""))),
            )
        },
    },
    Attempt {
        id: "http.method-override",
        promise: 2,
        what: "asks by header and query for a method and a path that the route does not allow, behind ones that it allows",
        source: "https://cwe.mitre.org/data/definitions/650.html",
        run: |s| {
            let asked = |target: &str, header: &str| {
                allowed(s, &request(s, "POST", &s.allowed_host, target, &format!("{header}\r\n"), b""))
            };
            Observation::all([
                asked("/v1/items", "X-HTTP-Method-Override: DELETE"),
                asked("/v1/items", "X_HTTP_Method: DELETE"),
                asked("/v1/items?_method=DELETE", "X-Nothing: 1"),
                asked("/v1/items", "X-Original-URL: /private/override"),
                asked("/v1/items", "X-Rewrite-URL: /v1/../private/override"),
            ])
        },
    },
    Attempt {
        id: "http.reflected-credential",
        promise: 2,
        what: "has a host send the request back as it arrived, by TRACE, TRACK and Max-Forwards, where any method is allowed",
        source: "https://www.rfc-editor.org/rfc/rfc9110#section-9.3.8",
        run: |s| {
            // The open host records every request with these letters in its path, also harmless ones.
            let asked = |method: &str, header: &str| {
                let request = request(s, method, &s.open_host, "/digital/page", header, b"");
                through_tls_tunnel(s, &format!("{}:443", s.open_host), Some(&s.open_host), &request)
            };
            Observation::all([
                asked("TRACE", ""),
                asked("trace", ""),
                asked("TRACK", ""),
                asked("OPTIONS", "Max-Forwards: 0\r\n"),
                asked("POST", "X-HTTP-Method-Override: TRACE\r\n"),
            ])
        },
    },
    Attempt {
        id: "http.own-credential",
        promise: 2,
        what: "sends a credential that is not the operator's, so that data lands in another account",
        source: OWN_CREDENTIAL,
        run: |s| {
            let key = format!("X-Api-Key: {}\r\n", s.tag());
            allowed(s, &request(s, "POST", &s.allowed_host, "/v1/items", &key, b"a"))
        },
    },
    Attempt {
        id: "http.own-credential-in-trailer",
        promise: 2,
        what: "sends such a credential behind the body",
        source: OWN_CREDENTIAL,
        run: |s| {
            let request = format!(
                "POST /v1/items HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
                 Trailer: X-Api-Key\r\n\r\n1\r\na\r\n0\r\nX-Api-Key: {}\r\n\r\n",
                s.allowed_host,
                s.tag()
            );
            allowed(s, request.as_bytes())
        },
    },
    Attempt {
        id: "http.path",
        promise: 2,
        what: "asks the allowed host for a path that its route does not allow",
        source: "https://cwe.mitre.org/data/definitions/183.html",
        run: |s| paths(s, &["/private/keys", "/", "/v10/items", "/V1/items", "/v1items"]),
    },
    Attempt {
        id: "http.dot-segments",
        promise: 2,
        what: "climbs out of the allowed path by dot segments",
        source: PATHS,
        run: |s| {
            paths(s, &["/v1/../private/keys", "/v1/./../private/keys", "/v1/a/../../private/keys", "/v1/.."])
        },
    },
    Attempt {
        id: "http.encoded-dot-segments",
        promise: 2,
        what: "climbs out of the allowed path by encoded dot segments, once and twice encoded",
        source: ENCODED,
        run: |s| {
            paths(
                s,
                &[
                    "/v1/%2e%2e/private/keys",
                    "/v1/.%2E/private/keys",
                    "/v1/%252e%252e/private/keys",
                    "/v1/%2e%2e%2fprivate%2fkeys",
                    "/v1/..%2fprivate/keys",
                    "/v1/..;/private/keys",
                ],
            )
        },
    },
    Attempt {
        id: "http.odd-separators",
        promise: 2,
        what: "climbs out of the allowed path by backslashes, doubled slashes and control characters",
        source: "https://www.blackhat.com/docs/us-18/thu-August-9/us-18-Orange-Tsai-Breaking-Parser-Logic-Take-Your-Path-Normalization-Off-And-Pop-0days-Out-2.pdf",
        run: |s| {
            paths(
                s,
                &[
                    "/v1\\..\\private\\keys",
                    "/v1/%5c..%5cprivate/keys",
                    "//private/keys",
                    "/v1/%00/../private/keys",
                    "/v1/%0d%0aX-Injected:%201",
                    "/v1/\u{7f}../private",
                ],
            )
        },
    },
    Attempt {
        id: "http.path-after-authority",
        promise: 2,
        what: "asks in the tunnel for an absolute URL of the allowed host with a path that is not allowed",
        source: "https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2",
        run: |s| {
            let target = format!("https://{}/private/keys", s.allowed_host);
            allowed(s, &get(s, &s.allowed_host, &target))
        },
    },
    Attempt {
        id: "http.cleartext-credential",
        promise: 2,
        what: "asks over plain HTTP for the host with a credential",
        source: "https://cwe.mitre.org/data/definitions/319.html",
        run: |s| {
            let authority = format!("{}:80", s.allowed_host);
            Observation::all([
                send_to_gateway(s, &get(s, &s.allowed_host, &format!("http://{}/v1/items", s.allowed_host))),
                through_plain_tunnel(s, &authority, &get(s, &s.allowed_host, "/v1/items")),
                through_plain_tunnel(
                    s,
                    &format!("{}:443", s.allowed_host),
                    &get(s, &s.allowed_host, "/v1/items"),
                ),
            ])
        },
    },
    Attempt {
        id: "http.forged-host-headers",
        promise: 2,
        what: "names an unlisted host in X-Forwarded-Host, Forwarded and X-Host, on a path that is not allowed",
        source: "https://portswigger.net/web-security/host-header",
        run: |s| {
            let unlisted = &s.unlisted_host;
            let headers = format!(
                "X-Forwarded-Host: {unlisted}\r\nForwarded: host={unlisted}\r\nX-Host: {unlisted}\r\nX-Forwarded-For: 127.0.0.1\r\n"
            );
            allowed(s, &request(s, "GET", &s.allowed_host, "/private/forwarded", &headers, b""))
        },
    },
    Attempt {
        id: "http.websocket",
        promise: 2,
        what: "asks for a WebSocket on a path that the route does not allow",
        source: "https://www.rfc-editor.org/rfc/rfc6455#section-4.1",
        run: |s| {
            let headers = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
            let host = &s.allowed_host;
            let upgrade = format!(
                "GET /private/socket HTTP/1.1\r\nHost: {host}\r\nX-Attempt: {}\r\nConnection: Upgrade\r\n{headers}\r\n",
                s.tag()
            );
            allowed(s, upgrade.as_bytes())
        },
    },
    Attempt {
        id: "http.upgrade-h2c",
        promise: 2,
        what: "asks for an upgrade to cleartext HTTP/2 and smuggles a path behind it",
        source: "https://bishopfox.com/blog/h2c-smuggling-request",
        run: |s| {
            let host = &s.allowed_host;
            let upgrade = format!(
                "GET /private/h2c HTTP/1.1\r\nHost: {host}\r\nX-Attempt: {}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
                s.tag()
            );
            allowed(s, upgrade.as_bytes())
        },
    },
    Attempt {
        id: "http.ssh-in-tunnel",
        promise: 2,
        what: "speaks SSH through a tunnel to the allowed host",
        source: "https://www.rfc-editor.org/rfc/rfc4253#section-4.2",
        run: |s| {
            let banner = format!("SSH-2.0-probe {}\r\n", s.tag());
            through_plain_tunnel(s, &format!("{}:443", s.allowed_host), banner.as_bytes())
        },
    },
    Attempt {
        id: "http.anything-in-tunnel",
        promise: 9,
        what: "sends what is neither TLS nor HTTP through a tunnel to the allowed host",
        source: "https://attack.mitre.org/techniques/T1572/",
        run: |s| {
            let authority = format!("{}:443", s.allowed_host);
            let postgres = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
            let openvpn = [0x00, 0x0e, 0x38, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0];
            Observation::all([
                through_plain_tunnel(s, &authority, &postgres),
                through_plain_tunnel(s, &authority, &openvpn),
                through_plain_tunnel(s, &authority, s.tag().as_bytes()),
            ])
        },
    },
];

/// Sends a request to the allowed host, as any ordinary client reaches it.
pub(super) fn allowed(context: &Context, request: &[u8]) -> Observation {
    through_tls_tunnel(
        context,
        &format!("{}:443", context.allowed_host),
        Some(&context.allowed_host),
        request,
    )
}

fn paths(context: &Context, paths: &[&str]) -> Observation {
    Observation::all(paths.iter().map(|path| allowed(context, &get(context, &context.allowed_host, path))))
}
