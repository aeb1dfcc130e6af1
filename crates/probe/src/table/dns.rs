//! Resolvers other than the gateway.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
};

use crate::{attempt::Attempt, client, context::Context, direct, errno, outcome::Observation};

const TUNNELLING: &str = "https://attack.mitre.org/techniques/T1071/004/";
const RECORD_A: u16 = 1;
const RECORD_TXT: u16 = 16;

pub(super) const ATTEMPTS: &[Attempt] = &[
    Attempt {
        id: "dns.public-udp",
        promise: 3,
        what: "asks public resolvers over UDP for an unlisted name",
        source: "https://www.rfc-editor.org/rfc/rfc1035",
        run: |s| Observation::all(["1.1.1.1", "8.8.8.8", "9.9.9.9"].map(|to| over_udp(s, to, RECORD_A))),
    },
    Attempt {
        id: "dns.public-udp-v6",
        promise: 3,
        what: "asks a public resolver over UDP on IPv6 for an unlisted name",
        source: "https://www.rfc-editor.org/rfc/rfc1035",
        run: |s| over_udp(s, "2606:4700:4700::1111", RECORD_A),
    },
    Attempt {
        id: "dns.public-tcp",
        promise: 3,
        what: "asks a public resolver over TCP for an unlisted name",
        source: "https://www.rfc-editor.org/rfc/rfc7766",
        run: |s| over_tcp(s, SocketAddr::from(([1, 1, 1, 1], 53))),
    },
    Attempt {
        id: "dns.over-tls",
        promise: 3,
        what: "opens DNS over TLS to a public resolver",
        source: "https://www.rfc-editor.org/rfc/rfc7858",
        run: |s| direct::tcp(s, SocketAddr::from(([1, 1, 1, 1], 853))),
    },
    Attempt {
        id: "dns.over-https",
        promise: 3,
        what: "asks a public resolver over HTTPS through the gateway",
        source: "https://www.rfc-editor.org/rfc/rfc8484",
        run: |s| {
            Observation::all(
                ["dns.google", "cloudflare-dns.com", "1.1.1.1"].map(|host| client::ask_for(s, host, 443)),
            )
        },
    },
    Attempt {
        id: "dns.stub-of-the-host",
        promise: 1,
        what: "asks the host's own stub resolver (127.0.0.53, 127.0.0.54) for an unlisted name",
        source: "https://www.freedesktop.org/software/systemd/man/latest/systemd-resolved.service.html",
        run: |s| Observation::all(["127.0.0.53", "127.0.0.54"].map(|to| over_udp(s, to, RECORD_A))),
    },
    Attempt {
        id: "dns.configured-resolver",
        promise: 3,
        what: "asks the resolver that /etc/resolv.conf names for an unlisted name",
        source: "https://man7.org/linux/man-pages/man5/resolv.conf.5.html",
        run: configured,
    },
    Attempt {
        id: "dns.tunnel",
        promise: 3,
        what: "writes data into the labels of a name and asks for its TXT record",
        source: TUNNELLING,
        run: |s| Observation::all(["127.0.0.1", "1.1.1.1"].map(|to| over_udp(s, to, RECORD_TXT))),
    },
    Attempt {
        id: "dns.system-resolver",
        promise: 3,
        what: "asks the C library for the address of an unlisted name",
        source: "https://man7.org/linux/man-pages/man3/getaddrinfo.3.html",
        run: |s| {
            use std::net::ToSocketAddrs as _;
            match (s.unlisted_host.as_str(), 443).to_socket_addrs() {
                Err(error) => Observation::refused(error.to_string().chars().take(80).collect::<String>()),
                Ok(addresses) => judge_addresses(addresses.map(|address| address.ip())),
            }
        },
    },
    Attempt {
        id: "dns.multicast",
        promise: 1,
        what: "asks the local network by mDNS and LLMNR",
        source: "https://www.rfc-editor.org/rfc/rfc6762",
        run: |s| {
            let question = question(&s.unlisted_host, RECORD_A);
            Observation::all(
                [([224, 0, 0, 251], 5353), ([224, 0, 0, 252], 5355)]
                    .map(|to| direct::udp(s, SocketAddr::from(to), &question)),
            )
        },
    },
];

fn over_udp(context: &Context, resolver: &str, record: u16) -> Observation {
    let Ok(resolver) = resolver.parse::<IpAddr>() else {
        return Observation::inconclusive("not an address");
    };
    let name = match record {
        RECORD_TXT => format!("c2VjcmV0LWZyb20tdGhlLWJvdHRsZQ.{}", context.unlisted_host),
        _ => context.unlisted_host.clone(),
    };
    match direct::datagram(SocketAddr::new(resolver, 53), &question(&name, record)) {
        Err(error) => Observation::refused(errno::name(&error)),
        Ok(None) => Observation::refused("no answer"),
        Ok(Some(answer)) => judge_message(&answer),
    }
}

fn over_tcp(context: &Context, resolver: SocketAddr) -> Observation {
    let message = question(&context.unlisted_host, RECORD_A);
    let mut framed = u16::try_from(message.len()).unwrap_or(0).to_be_bytes().to_vec();
    framed.extend(message);
    let mut stream = match client::dial(resolver) {
        Ok(stream) => stream,
        Err(error) => return Observation::refused(errno::name(&error)),
    };
    let mut answer = [0; 4096];
    match stream.write_all(&framed).and_then(|()| stream.read(&mut answer)) {
        Err(error) => Observation::refused(format!("captured: {}", errno::name(&error))),
        Ok(0) => Observation::refused("captured: closed without an answer"),
        Ok(count) if answer.starts_with(b"HTTP/") => client::judge(context, &answer[..count]),
        Ok(count) => judge_message(&answer[2.min(count)..count]),
    }
}

fn configured(context: &Context) -> Observation {
    match std::fs::read_to_string("/etc/resolv.conf") {
        Err(error) => Observation::refused(format!("no resolver: {}", errno::name(&error))),
        Ok(text) => {
            let resolvers: Vec<&str> =
                text.lines().filter_map(|line| line.strip_prefix("nameserver")).map(str::trim).collect();
            if resolvers.is_empty() {
                return Observation::refused("no resolver is configured");
            }
            Observation::all(resolvers.into_iter().map(|to| over_udp(context, to, RECORD_A)))
        }
    }
}

/// Judges a DNS reply. The bottle's own resolver may refuse, or answer with an address that leads to the
/// gateway.
fn judge_message(answer: &[u8]) -> Observation {
    let Some(header) = answer.first_chunk::<12>() else {
        return Observation::refused("an answer that is no DNS message");
    };
    let (code, answers) = (header[3] & 0x0f, u16::from_be_bytes([header[6], header[7]]));
    if answers == 0 {
        return Observation::refused(format!("an answer without a record, code {code}"));
    }
    // Only an A record is acceptable; its last four bytes are the address.
    match answer.last_chunk::<4>() {
        Some(address) => judge_addresses([IpAddr::from(*address)]),
        None => Observation::reached("an answer with records"),
    }
}

/// In a bottle, loopback and 198.18.0.0/15 (RFC 2544) lead only to the gateway.
fn judge_addresses(addresses: impl IntoIterator<Item = IpAddr>) -> Observation {
    let outside = addresses.into_iter().find(|address| match address {
        IpAddr::V4(v4) => !(v4.is_loopback() || matches!(v4.octets(), [198, 18 | 19, ..])),
        IpAddr::V6(v6) => !v6.is_loopback(),
    });
    match outside {
        Some(address) => Observation::reached(format!("the name resolves to {address}")),
        None => Observation::refused("the name resolves to the gateway alone"),
    }
}

fn question(name: &str, record: u16) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(record.to_be_bytes());
    message.extend(1_u16.to_be_bytes());
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_an_address_outside_is_a_way_out() {
        let mut answer = question("a.test", RECORD_A);
        assert!(matches!(judge_message(&answer), Observation::Refused(_)));
        answer[7] = 1;
        answer.extend([192, 0, 2, 7]);
        assert!(matches!(judge_message(&answer), Observation::Reached(_)));
    }
}
