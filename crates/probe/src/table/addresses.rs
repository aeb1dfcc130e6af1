//! Addresses, the host's own names and the gateway itself as targets.

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    attempt::Attempt,
    client::{ask_for, get, request, send_to_gateway, through_plain_tunnel, through_tls_tunnel},
    outcome::Observation,
};

const CONNECT: &str = "https://www.rfc-editor.org/rfc/rfc9110#section-9.3.6";
const NOTATIONS: &str = "https://www.blackhat.com/docs/us-17/thursday/us-17-Tsai-A-New-Era-Of-SSRF-Exploiting-URL-Parser-In-Trending-Programming-Languages.pdf";
const FRONTING: &str = "https://www.bamsoftware.com/papers/fronting/";
const METADATA: &str = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html";
const OPEN_RELAY: &str = "https://cwe.mitre.org/data/definitions/441.html";
const MAPPED: &str = "https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5.2";

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "names.address-v4",
        promise: 2,
        what: "asks for the host's loopback by its address",
        source: OPEN_RELAY,
        run: |s| ask_for(s, "127.0.0.1", s.host_loopback().port()),
    },
    Attempt {
        id: "names.address-v6",
        promise: 2,
        what: "asks for the host's loopback by its IPv6 address",
        source: OPEN_RELAY,
        run: |s| ask_for(s, "[::1]", s.host_loopback().port()),
    },
    Attempt {
        id: "names.address-decimal",
        promise: 2,
        what: "writes the address as one decimal number",
        source: NOTATIONS,
        run: |s| ask_for(s, "2130706433", s.host_loopback().port()),
    },
    Attempt {
        id: "names.address-octal",
        promise: 2,
        what: "writes the address in octal",
        source: "https://nvd.nist.gov/vuln/detail/CVE-2021-28918",
        run: |s| ask_for(s, "0177.0.0.01", s.host_loopback().port()),
    },
    Attempt {
        id: "names.address-hexadecimal",
        promise: 2,
        what: "writes the address in hexadecimal, whole and by parts",
        source: NOTATIONS,
        run: |s| {
            Observation::all(
                ["0x7f000001", "0x7f.0x0.0x0.0x1"].map(|a| ask_for(s, a, s.host_loopback().port())),
            )
        },
    },
    Attempt {
        id: "names.address-short",
        promise: 2,
        what: "writes the address with parts left out",
        source: "https://man7.org/linux/man-pages/man3/inet_aton.3.html",
        run: |s| Observation::all(["127.1", "0", "127.0.1"].map(|a| ask_for(s, a, s.host_loopback().port()))),
    },
    Attempt {
        id: "names.address-mapped",
        promise: 2,
        what: "writes the address as an IPv6 one that maps, translates or embeds it",
        source: MAPPED,
        run: |s| {
            Observation::all(
                ["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[::1%25lo]"]
                    .map(|address| ask_for(s, address, s.host_loopback().port())),
            )
        },
    },
    Attempt {
        id: "names.address-unspecified",
        promise: 2,
        what: "asks for 0.0.0.0 and [::], which Linux takes for loopback",
        source: "https://www.oligo.security/blog/0-0-0-0-day-exploiting-localhost-apis-from-the-browser",
        run: |s| Observation::all(["0.0.0.0", "[::]"].map(|a| ask_for(s, a, s.host_loopback().port()))),
    },
    Attempt {
        id: "names.address-public",
        promise: 2,
        what: "asks for a public address by its number",
        source: CONNECT,
        run: |s| Observation::all([ask_for(s, "1.1.1.1", 443), ask_for(s, "[2606:4700:4700::1111]", 443)]),
    },
    Attempt {
        id: "names.address-of-the-host",
        promise: 1,
        what: "asks the gateway for the host's own addresses",
        source: OPEN_RELAY,
        run: |s| {
            Observation::all(s.host_services.iter().map(|service| match service.ip() {
                IpAddr::V4(address) => ask_for(s, &address.to_string(), service.port()),
                IpAddr::V6(address) => ask_for(s, &format!("[{address}]"), service.port()),
            }))
        },
    },
    Attempt {
        id: "names.address-with-forged-host",
        promise: 2,
        what: "asks for an address with the allowed host in the Host header",
        source: FRONTING,
        run: |s| {
            let port = s.host_loopback().port();
            let target = format!("http://127.0.0.1:{port}/");
            Observation::all([
                send_to_gateway(s, &get(s, &s.allowed_host, &target)),
                through_plain_tunnel(s, &format!("127.0.0.1:{port}"), &get(s, &s.allowed_host, "/v1/")),
                through_tls_tunnel(
                    s,
                    "127.0.0.1:443",
                    Some(&s.allowed_host),
                    &get(s, &s.allowed_host, "/v1/"),
                ),
            ])
        },
    },
    Attempt {
        id: "names.localhost",
        promise: 1,
        what: "uses the gateway as a relay to the host's own loopback",
        source: OPEN_RELAY,
        run: |s| {
            Observation::all(
                ["localhost", "localhost.localdomain", "ip6-localhost", "a.localhost"]
                    .map(|name| ask_for(s, name, s.host_loopback().port())),
            )
        },
    },
    Attempt {
        id: "names.own-name-of-the-host",
        promise: 1,
        what: "uses the gateway as a relay to the host by the host's own name",
        source: OPEN_RELAY,
        run: |s| ask_for(s, &s.host_name, s.host_loopback().port()),
    },
    Attempt {
        id: "names.wildcard-dns",
        promise: 3,
        what: "asks for a public name that resolves to loopback",
        source: "https://nip.io/",
        run: |s| ask_for(s, "127.0.0.1.nip.io", s.host_loopback().port()),
    },
    Attempt {
        id: "names.metadata-address",
        promise: 2,
        what: "asks for the cloud's metadata service by its address",
        source: METADATA,
        run: |s| {
            Observation::all(["169.254.169.254", "[fd00:ec2::254]", "0xa9fea9fe"].map(|a| ask_for(s, a, 80)))
        },
    },
    Attempt {
        id: "names.metadata-name",
        promise: 2,
        what: "asks for the cloud's metadata service by its name",
        source: "https://cloud.google.com/compute/docs/metadata/querying-metadata",
        run: |s| ask_for(s, "metadata.google.internal", 80),
    },
    Attempt {
        id: "names.gateway-itself",
        promise: 10,
        what: "asks the gateway for the gateway: its own address as a target, and pages of its own",
        source: OPEN_RELAY,
        run: |s| {
            Observation::all([
                ask_for(s, &Ipv4Addr::LOCALHOST.to_string(), s.proxy.port()),
                send_to_gateway(s, &get(s, &s.proxy.to_string(), "/")),
                send_to_gateway(s, &get(s, &s.proxy.to_string(), "/policy")),
                send_to_gateway(s, &request(s, "OPTIONS", &s.proxy.to_string(), "*", "", b"")),
            ])
        },
    },
];
