//! Names and addresses that no route allows.

use crate::{
    attempt::Attempt,
    client::{ask_for, get, open_tunnel, request, send_to_gateway, through_plain_tunnel, through_tls_tunnel},
    context::Context,
    outcome::Observation,
};

const CONNECT: &str = "https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6";
const ABSOLUTE: &str = "https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2";
const NOTATIONS: &str = "https://www.blackhat.com/docs/us-17/thursday/us-17-Tsai-A-New-Era-Of-SSRF-Exploiting-URL-Parser-In-Trending-Programming-Languages.pdf";
const FRONTING: &str = "https://www.bamsoftware.com/papers/fronting/";
const OPEN_RELAY: &str = "https://cwe.mitre.org/data/definitions/441.html";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "names.unlisted-connect",
        promise: 2,
        what: "asks for a tunnel to a host that no route names",
        source: CONNECT,
        run: |s| {
            let host = s.unlisted_host.as_str();
            through_tls_tunnel(s, &format!("{host}:443"), Some(host), &get(s, host, "/"))
        },
    },
    Attempt {
        id: "names.unlisted-absolute",
        promise: 2,
        what: "asks for a page of a host that no route names",
        source: ABSOLUTE,
        run: |s| send_to_gateway(s, &get(s, &s.unlisted_host, &format!("http://{}/", s.unlisted_host))),
    },
    Attempt {
        id: "names.unlisted-post",
        promise: 2,
        what: "posts a file to a host that no route names",
        source: ABSOLUTE,
        run: |s| {
            let target = format!("http://{}/upload", s.unlisted_host);
            send_to_gateway(s, &request(s, "POST", &s.unlisted_host, &target, "", b"the workspace"))
        },
    },
    Attempt {
        id: "names.unlisted-behind-userinfo",
        promise: 2,
        what: "hides the allowed host in the user information of an unlisted one",
        source: NOTATIONS,
        run: |s| {
            let target = format!("http://{}@{}/", s.allowed_host, s.unlisted_host);
            Observation::all([
                send_to_gateway(s, &get(s, &s.unlisted_host, &target)),
                send_to_gateway(s, &get(s, &s.allowed_host, &target)),
                through_plain_tunnel(
                    s,
                    &format!("{}@{}:443", s.allowed_host, s.unlisted_host),
                    &get(s, &s.allowed_host, "/v1/"),
                ),
            ])
        },
    },
    Attempt {
        id: "names.unlisted-behind-fragment",
        promise: 2,
        what: "writes the two hosts so that parsers disagree: `unlisted#@allowed`, `unlisted\\@allowed`, `unlisted;allowed`",
        source: NOTATIONS,
        run: |s| {
            Observation::all(["#@", "\\@", "%23@", ";", "%00.", "?@"].map(|between| {
                let target = format!("http://{}{between}{}/", s.unlisted_host, s.allowed_host);
                send_to_gateway(s, &get(s, &s.allowed_host, &target))
            }))
        },
    },
    Attempt {
        id: "names.unlisted-trailing-dot",
        promise: 2,
        what: "writes the unlisted host with a trailing dot",
        source: "https://www.rfc-editor.org/rfc/rfc1034#section-3.1",
        run: |s| ask_for(s, &format!("{}.", s.unlisted_host), 443),
    },
    Attempt {
        id: "names.unlisted-upper-case",
        promise: 2,
        what: "writes the unlisted host in upper case",
        source: "https://www.rfc-editor.org/rfc/rfc4343",
        run: |s| ask_for(s, &s.unlisted_host.to_ascii_uppercase(), 443),
    },
    Attempt {
        id: "names.unlisted-percent-encoded",
        promise: 2,
        what: "writes the unlisted host percent-encoded",
        source: "https://www.rfc-editor.org/rfc/rfc3986#section-3.2.2",
        run: |s| ask_for(s, &s.unlisted_host.replace('.', "%2e"), 443),
    },
    Attempt {
        id: "names.unlisted-full-width",
        promise: 2,
        what: "writes the unlisted host with full-width letters and dots, which fold to it",
        source: "https://www.unicode.org/reports/tr46/",
        run: |s| ask_for(s, &s.unlisted_host.replace('.', "\u{3002}").replace('u', "\u{ff55}"), 443),
    },
    Attempt {
        id: "names.prefix-look-alike",
        promise: 2,
        what: "asks for a host whose name ends in the allowed one without a dot between",
        source: "https://cwe.mitre.org/data/definitions/625.html",
        run: |s| ask_for(s, &format!("evil{}", s.allowed_host), 443),
    },
    Attempt {
        id: "names.suffix-look-alike",
        promise: 2,
        what: "asks for a host below the unlisted one whose name begins with the allowed one",
        source: "https://cwe.mitre.org/data/definitions/625.html",
        run: |s| ask_for(s, &format!("{}.{}", s.allowed_host, s.unlisted_host), 443),
    },
    Attempt {
        id: "names.below-allowed",
        promise: 2,
        what: "asks for a host below the allowed one, which its route is not for",
        source: "https://cwe.mitre.org/data/definitions/183.html",
        run: |s| ask_for(s, &format!("data.{}", s.allowed_host), 443),
    },
    Attempt {
        id: "names.parent-of-allowed",
        promise: 2,
        what: "asks for the domain that the allowed host lies in",
        source: "https://cwe.mitre.org/data/definitions/183.html",
        run: |s| ask_for(s, s.allowed_host.split_once('.').map_or("test", |(_, parent)| parent), 443),
    },
    Attempt {
        id: "names.other-ports",
        promise: 2,
        what: "asks for tunnels to other ports of the allowed host: 22, 25, 53, 8080, 8443",
        source: OPEN_RELAY,
        run: |s| {
            Observation::all([22, 25, 53, 8080, 8443].map(|port| {
                let authority = format!("{}:{port}", s.allowed_host);
                through_tls_tunnel(
                    s,
                    &authority,
                    Some(&s.allowed_host),
                    &get(s, &authority, "/v1/other-port"),
                )
            }))
        },
    },
    Attempt {
        id: "names.odd-ports",
        promise: 9,
        what: "asks for tunnels to ports that are none: 0, 65979 (443 modulo 65536), -1, nothing",
        source: "https://cwe.mitre.org/data/definitions/190.html",
        run: |s| {
            Observation::all(["0", "65979", "-1", "", "443:443", "0x1bb"].map(|port| {
                let authority = format!("{}:{port}", s.unlisted_host);
                through_plain_tunnel(s, &authority, &get(s, &authority, "/"))
            }))
        },
    },
    Attempt {
        id: "names.smtp",
        promise: 2,
        what: "asks for a tunnel to port 25 of an unlisted host, to send mail",
        source: "https://www.kb.cert.org/vuls/id/150227",
        run: |s| through_plain_tunnel(s, &format!("{}:25", s.unlisted_host), b"HELO probe\r\n"),
    },
    Attempt {
        id: "names.host-header-differs",
        promise: 2,
        what: "opens a tunnel to the allowed host and names an unlisted one in the Host header",
        source: FRONTING,
        run: |s| {
            let authority = format!("{}:443", s.allowed_host);
            through_tls_tunnel(s, &authority, Some(&s.allowed_host), &get(s, &s.unlisted_host, "/v1/"))
        },
    },
    Attempt {
        id: "names.target-differs",
        promise: 2,
        what: "opens a tunnel to the allowed host and asks in it for the absolute URL of an unlisted one",
        source: ABSOLUTE,
        run: |s| {
            let authority = format!("{}:443", s.allowed_host);
            Observation::all(["http", "https"].map(|scheme| {
                let target = format!("{scheme}://{}/v1/", s.unlisted_host);
                through_tls_tunnel(s, &authority, Some(&s.allowed_host), &get(s, &s.allowed_host, &target))
            }))
        },
    },
    Attempt {
        id: "names.server-name-differs",
        promise: 2,
        what: "opens a tunnel to the allowed host and names an unlisted one as TLS server name",
        source: FRONTING,
        run: |s| {
            let authority = format!("{}:443", s.allowed_host);
            through_tls_tunnel(s, &authority, Some(&s.unlisted_host), &get(s, &s.unlisted_host, "/v1/"))
        },
    },
    Attempt {
        id: "names.server-name-forged",
        promise: 2,
        what: "tunnels to an unlisted host under the allowed one's name, in TLS and Host",
        source: FRONTING,
        run: |s| {
            let authority = format!("{}:443", s.unlisted_host);
            through_tls_tunnel(s, &authority, Some(&s.allowed_host), &get(s, &s.allowed_host, "/v1/"))
        },
    },
    Attempt {
        id: "names.absolute-host-differs",
        promise: 2,
        what: "asks for an unlisted host's URL with the allowed one in the Host header",
        source: ABSOLUTE,
        run: |s| {
            Observation::all([
                send_to_gateway(s, &get(s, &s.open_host, &format!("http://{}/", s.unlisted_host))),
                send_to_gateway(s, &get(s, &s.unlisted_host, &format!("http://{}/", s.open_host))),
            ])
        },
    },
    Attempt {
        id: "names.tunnel-in-tunnel",
        promise: 2,
        what: "asks for a second tunnel, to an unlisted host, inside the tunnel to the allowed one",
        source: CONNECT,
        run: |s| {
            let inner = format!("CONNECT {0}:443 HTTP/1.1\r\nHost: {0}:443\r\n\r\n", s.unlisted_host);
            let authority = format!("{}:443", s.allowed_host);
            Observation::all([
                through_tls_tunnel(s, &authority, Some(&s.allowed_host), inner.as_bytes()),
                through_plain_tunnel(s, &authority, inner.as_bytes()),
            ])
        },
    },
    Attempt {
        id: "names.connect-host-differs",
        promise: 2,
        what: "asks for a tunnel to an unlisted host with the allowed one in the Host header",
        source: CONNECT,
        run: tunnel_with_forged_host,
    },
    Attempt {
        id: "names.other-schemes",
        promise: 2,
        what: "asks the gateway for ftp:, file:, gopher:, ws: and unix: URLs",
        source: NOTATIONS,
        run: |s| {
            let unlisted = &s.unlisted_host;
            let secret = s.secret_file.display().to_string();
            Observation::all(
                [
                    format!("ftp://{unlisted}/"),
                    format!("file://{secret}"),
                    format!("file:{secret}"),
                    format!("gopher://{unlisted}:25/_HELO"),
                    format!("ws://{unlisted}/"),
                    format!("unix:{}", s.unix_socket.display()),
                ]
                .map(|target| send_to_gateway(s, &get(s, unlisted, &target))),
            )
        },
    },
    Attempt {
        id: "names.many-labels",
        promise: 9,
        what: "asks for a name that is too long, with empty labels and with control characters",
        source: "https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4",
        run: |s| {
            let long = format!("{}.{}", "a.".repeat(200), s.unlisted_host);
            let tab = format!("{}\t{}", s.unlisted_host, s.allowed_host);
            let empty = s.unlisted_host.replace('.', "..");
            Observation::all([long, tab, empty].map(|name| match open_tunnel(s, &format!("{name}:443")) {
                Err(observation) => observation,
                Ok(_) => through_plain_tunnel(s, &format!("{name}:443"), &get(s, &name, "/")),
            }))
        },
    },
];

fn tunnel_with_forged_host(context: &Context) -> Observation {
    let forged = format!(
        "CONNECT {}:443 HTTP/1.1\r\nHost: {}:443\r\nX-Attempt: {}\r\n\r\n",
        context.unlisted_host,
        context.allowed_host,
        context.tag()
    );
    let mut stream = match crate::client::dial_gateway(context) {
        Ok(stream) => stream,
        Err(observation) => return observation,
    };
    let first = crate::client::exchange_head(context, &mut stream, forged.as_bytes());
    match first {
        Err(observation) => observation,
        Ok(()) => {
            match crate::client::start_tls(
                stream,
                Some(&context.unlisted_host),
                crate::client::trusting_anything(),
            ) {
                Err(error) => Observation::refused(format!("TLS was refused: {error}")),
                Ok(mut tls) => {
                    crate::client::exchange(context, &mut tls, &get(context, &context.unlisted_host, "/"))
                }
            }
        }
    }
}
