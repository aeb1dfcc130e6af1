//! Connections of a virtual machine, in both framings of smolvm's interceptor.

use std::net::{IpAddr, SocketAddr};

use bot_bottle_core::gateway_config::{InterceptorToken, ListenerKind};
use bot_bottle_gateway::{
    ControlError, ServeError,
    limits::{MAX_FIRST_BYTES, MAX_PREAMBLES},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    client::{connect, exchange, http1_on, read_head, read_to_end, refusal, request, tls_on},
    gateway::{SECRET, Setup, TestGateway},
    launcher::{config, controlled, message, send, start},
    upstream::{HTTP1, TestUpstream, raw_upstream},
};

const TOKEN: [u8; 32] = *b"the token that one smolvm knows!";

/// An address that no name server of ours gave.
const ELSEWHERE: &str = "192.0.2.7:443";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Version1,
    Mediated,
}

const FRAMINGS: [Framing; 2] = [Framing::Version1, Framing::Mediated];

/// What smolvm sends first.
fn preamble(framing: Framing, token: &[u8; 32], destination: &str, first_bytes: &[u8]) -> Vec<u8> {
    let destination: SocketAddr = destination.parse().expect("an address");
    let mut bytes = match framing {
        Framing::Version1 => [&b"SMOLICPT\x01"[..], token].concat(),
        Framing::Mediated => [&b"SMOLMEG2"[..], token, &[7; 16], &[0; 16]].concat(),
    };
    let (family, address) = match destination.ip() {
        IpAddr::V4(address) => (4, address.octets().to_vec()),
        IpAddr::V6(address) => (6, address.octets().to_vec()),
    };
    bytes.push(family);
    bytes.extend(destination.port().to_be_bytes());
    bytes.extend(address);
    if framing == Framing::Mediated {
        bytes.extend(u16::try_from(first_bytes.len()).expect("few").to_be_bytes());
        bytes.extend(first_bytes);
    }
    bytes
}

/// A connection of the guest: the stream behind the gateway's answer, which has to be that it is carried.
async fn flow(gateway: &TestGateway, framing: Framing, destination: &str, first_bytes: &[u8]) -> TcpStream {
    let mut stream = connect(gateway).await;
    stream.write_all(&preamble(framing, &TOKEN, destination, first_bytes)).await.expect("written");
    let expected = if framing == Framing::Version1 { 0 } else { 2 };
    assert_eq!(stream.read_u8().await.expect("an answer"), expected, "{framing:?} {destination}");
    if framing == Framing::Version1 {
        stream.write_all(first_bytes).await.expect("written");
    }
    stream
}

fn started(setup: Setup) -> TestGateway {
    setup.start_intercepted(InterceptorToken::new(TOKEN))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_name_says_which_host_and_the_address_nothing() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = started(Setup::for_upstream(&upstream));
    for framing in FRAMINGS {
        for destination in [ELSEWHERE, "[2001:db8::7]:443"] {
            let stream = flow(&gateway, framing, destination, b"").await;
            let mut client = http1_on(tls_on(&gateway, stream, "api.test", &[]).await.expect("TLS")).await;
            let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("sent");
            assert_eq!(response.status(), 200, "{framing:?} {destination}");
            let seen = upstream.seen().pop().expect("a request");
            assert_eq!(seen.headers["authorization"], format!("Bearer {SECRET}"));

            let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("sent");
            assert_eq!(refusal(response).await["reason"], "host_mismatch");
        }
        let stream = flow(&gateway, framing, ELSEWHERE, b"").await;
        let mut client = http1_on(tls_on(&gateway, stream, "evil.test", &[]).await.expect("TLS")).await;
        let response = client.send_request(request("GET", "evil.test", "/", "")).await.expect("sent");
        assert_eq!(refusal(response).await["reason"], "no_route");
        // No server name: `Host` is left, and it may be the address.
        let stream = flow(&gateway, framing, ELSEWHERE, b"").await;
        let mut client = http1_on(tls_on(&gateway, stream, "192.0.2.7", &[]).await.expect("TLS")).await;
        let response = client.send_request(request("GET", "192.0.2.7", "/", "")).await.expect("sent");
        assert_eq!(refusal(response).await["reason"], "address_literal");
        let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("sent");
        assert_eq!(response.status(), 200);
        let response = client.send_request(request("GET", "api.test:8443", "/", "")).await.expect("sent");
        assert_eq!(refusal(response).await["reason"], "host_mismatch", "the port is that of the address");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn host_says_which_host_where_there_is_no_tls() {
    let (upstream, mut seen) = raw_upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let gateway = started(Setup::plain(upstream));
    let head = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    for framing in FRAMINGS {
        for (destination, host, expected) in [
            ("192.0.2.7:80", "open.test", "200"),
            ("[::ffff:192.0.2.7]:80", "open.test:80", "200"),
            ("192.0.2.7:80", "evil.test", "no_route"),
            ("192.0.2.7:80", "open.test:8080", "host_mismatch"),
            ("192.0.2.7:8080", "open.test", "host_mismatch"),
            ("192.0.2.7:8080", "open.test:8080", "port_not_allowed"),
            ("192.0.2.7:80", "192.0.2.7", "address_literal"),
        ] {
            let case = format!("{framing:?} {destination} {host}");
            let mut stream = flow(&gateway, framing, destination, head(host).as_bytes()).await;
            let answer = read_to_end(&mut stream).await;
            assert!(answer.contains(expected), "{case}: {answer}");
        }
    }
    for _ in 0..4 {
        let request = seen.recv().await.expect("a request");
        assert!(request.starts_with(b"GET / HTTP/1.1"), "{}", request.escape_ascii());
    }
    assert!(seen.try_recv().is_err(), "nothing else was sent");
}

/// A question for an A record, as it goes over TCP (RFC 1035 section 4).
fn question(name: &str) -> Vec<u8> {
    let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a label"));
        query.extend(label.bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    [&u16::try_from(query.len()).expect("a length").to_be_bytes()[..], &query].concat()
}

/// The address in the answer: it is the last of it.
async fn asked(stream: &mut TcpStream) -> [u8; 4] {
    let length = stream.read_u16().await.expect("a length");
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.expect("an answer");
    *answer.last_chunk().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bottles_own_services_are_there_at_its_address() {
    let upstream = TestUpstream::start(HTTP1).await;
    let gateway = started(Setup::for_upstream(&upstream));
    for framing in FRAMINGS {
        let connect = b"CONNECT api.test:443 HTTP/1.1\r\nHost: api.test\r\n\r\n";
        let mut proxy = flow(&gateway, framing, "198.18.255.1:3128", connect).await;
        let head = read_head(&mut proxy).await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut client = http1_on(tls_on(&gateway, proxy, "api.test", &[]).await.expect("TLS")).await;
        let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("sent");
        assert_eq!(response.status(), 200);

        // Whichever server is named: no question goes anywhere.
        for server in ["198.18.255.1:53", "8.8.8.8:53", "[2001:4860:4860::8888]:53"] {
            let mut dns = flow(&gateway, framing, server, &question("open.test")).await;
            let address = asked(&mut dns).await;
            let named = format!("{}:443", IpAddr::from(address));
            let stream = flow(&gateway, framing, &named, b"").await;
            let mut client = http1_on(tls_on(&gateway, stream, "open.test", &[]).await.expect("TLS")).await;
            let response = client.send_request(request("GET", "open.test", "/", "")).await.expect("sent");
            assert_eq!(response.status(), 200, "{server}");
            // The address means that name, and no other.
            let stream = flow(&gateway, framing, &named, b"").await;
            let mut client = http1_on(tls_on(&gateway, stream, "api.test", &[]).await.expect("TLS")).await;
            let response = client.send_request(request("GET", "api.test", "/", "")).await.expect("sent");
            assert_eq!(refusal(response).await["reason"], "host_mismatch", "{server}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_other_host_is_refused_before_anything_is_carried() {
    let gateway = started(Setup::new());
    for destination in [
        "127.0.0.1:443",
        "[::1]:443",
        "[::ffff:127.0.0.1]:443",
        "0.0.0.0:443",
        "[::]:443",
        "224.0.0.1:443",
        "192.0.2.7:0",
        "198.18.255.1:22",
    ] {
        for (framing, refused) in [(Framing::Version1, 111), (Framing::Mediated, 1)] {
            let mut stream = connect(&gateway).await;
            stream.write_all(&preamble(framing, &TOKEN, destination, b"")).await.expect("written");
            assert_eq!(stream.read_u8().await.expect("an answer"), refused, "{framing:?} {destination}");
            assert!(read_to_end(&mut stream).await.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_the_token_is_told_nothing() {
    let gateway = started(Setup::new());
    let mut other = TOKEN;
    other[31] ^= 1;
    let ask = b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n";
    let mut no_family = preamble(Framing::Version1, &TOKEN, ELSEWHERE, b"");
    no_family[41] = 5;
    let mut too_much = preamble(Framing::Mediated, &TOKEN, ELSEWHERE, b"");
    let [high, low] = u16::try_from(MAX_FIRST_BYTES + 1).expect("a length").to_be_bytes();
    *too_much.last_chunk_mut().expect("a length") = [high, low];
    let attempts = [
        ask.to_vec(),
        preamble(Framing::Version1, &other, ELSEWHERE, ask),
        preamble(Framing::Mediated, &other, ELSEWHERE, ask),
        preamble(Framing::Version1, &[0; 32], ELSEWHERE, ask),
        [&b"SMOLICPT\x02"[..], &TOKEN].concat(),
        [&b"SMOLMEG1"[..], &TOKEN].concat(),
        no_family,
        too_much,
    ];
    for attempt in attempts {
        let mut stream = connect(&gateway).await;
        assert_eq!(exchange(&mut stream, &attempt).await, "", "{}", attempt.escape_ascii());
    }
    // The control: the same bytes with the token are answered.
    flow(&gateway, Framing::Version1, ELSEWHERE, b"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_hold_up_nobody_for_long() {
    let gateway = started(Setup::new());
    let mut silent = Vec::new();
    for _ in 0..MAX_PREAMBLES {
        silent.push(connect(&gateway).await);
    }
    // All permits are taken: a client is closed unanswered, until the silent ones have had their time.
    let mut refused = 0;
    loop {
        let mut stream = connect(&gateway).await;
        stream.write_all(&preamble(Framing::Version1, &TOKEN, ELSEWHERE, b"")).await.expect("written");
        match stream.read_u8().await {
            Ok(answer) => break assert_eq!(answer, 0),
            Err(_) => refused += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(refused > 0, "there was room for more than {MAX_PREAMBLES}");
}

#[test]
fn an_interceptor_without_its_token_does_not_serve() {
    let folder = tempfile::tempdir().expect("a folder");
    let (control, gateway) = controlled(config(folder.path(), &[]));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    send(&control, &message(&start(&[ListenerKind::Interceptor])), &[&listener]);
    let ended = gateway.join().expect("no panic");
    assert!(matches!(ended, Err(ServeError::Control(ControlError::NoInterceptorToken))), "{ended:?}");
}

#[test]
fn the_token_shows_in_no_debug_output() {
    let token = InterceptorToken::new(TOKEN);
    assert_eq!(format!("{token:?}"), "InterceptorToken(…)");
    assert!(token.hexadecimal().starts_with("746865") && token.hexadecimal().len() == 64);
    let written = serde_json::to_string(&token).expect("JSON");
    assert_eq!(serde_json::from_str::<InterceptorToken>(&written).expect("a token"), token);
}
