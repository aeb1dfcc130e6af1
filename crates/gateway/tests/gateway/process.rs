//! The gateway as a process of a launcher, and alone.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use bot_bottle_core::{
    error::Hint,
    gateway_config::{GatewayReady, GatewayStart, ListenerKind},
    secret::SecretRef,
};
use bot_bottle_gateway::{ControlError, GatewayError, ServeError, read_config, serve_alone};
use serde_json::json;

use crate::support::launcher::{ask, ask_on, config, controlled, message, send, start};

#[test]
fn a_launcher_hands_over_sockets_and_secrets_and_its_end_is_the_gateways_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (control, gateway) = controlled(config(folder.path(), &[]));
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a listener"));
    send(&control, &message(&start(&[ListenerKind::Proxy; 2])), &listeners);
    let mut line = String::new();
    BufReader::new(&control).read_line(&mut line).expect("a line");
    let ready: GatewayReady = serde_json::from_str(&line).expect("ready");
    assert!(ready.ca_certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    for listener in &listeners {
        let answer = ask(listener.local_addr().expect("an address"));
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("no_route"), "{answer}");
    }
    drop(control);
    gateway.join().expect("no panic").expect("a good end");
    // Nobody accepts any more: the launcher's own listeners are still open, so a client would wait.
    let receipts = std::fs::read_to_string(folder.path().join("receipts.jsonl")).expect("receipts");
    assert_eq!(receipts.lines().count(), 2);
}

/// Where a bottle's clients reach the gateway through a shared folder instead of a shared network namespace.
#[test]
fn a_proxy_listens_on_a_unix_socket_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("proxy.sock");
    let (control, gateway) = controlled(config(folder.path(), &[]));
    let listener = UnixListener::bind(&path).expect("a listener");
    send(&control, &message(&start(&[ListenerKind::Proxy])), &[&listener]);
    let mut line = String::new();
    BufReader::new(&control).read_line(&mut line).expect("a line");
    let answer = ask_on(UnixStream::connect(&path).expect("a connection"));
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("no_route"), "{answer}");
    drop(control);
    gateway.join().expect("no panic").expect("a good end");

    // The kernel knows no original destination of a Unix connection.
    let (control, gateway) = controlled(config(folder.path(), &[]));
    send(&control, &message(&start(&[ListenerKind::Transparent])), &[&listener]);
    let error = gateway.join().expect("no panic").expect_err("refused");
    assert!(
        matches!(error, ServeError::Control(ControlError::WrongSocket(ListenerKind::Transparent))),
        "{error}"
    );
}

#[test]
fn a_start_in_pieces_is_understood() {
    let folder = tempfile::tempdir().expect("a folder");
    let (control, gateway) = controlled(config(folder.path(), &[]));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let message = message(&start(&[ListenerKind::Proxy]));
    send(&control, &message[..1], &[&listener]);
    for byte in &message[1..] {
        (&control).write_all(&[*byte]).expect("sent");
    }
    let mut line = String::new();
    BufReader::new(&control).read_line(&mut line).expect("a line");
    assert!(ask(listener.local_addr().expect("an address")).starts_with("HTTP/1.1 403"));
    drop(control);
    gateway.join().expect("no panic").expect("a good end");
}

#[test]
fn a_start_that_is_none_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let outcome = |bytes: &[u8], listeners: &[&TcpListener]| {
        let (control, gateway) = controlled(config(folder.path(), &[]));
        if !bytes.is_empty() {
            send(&control, bytes, listeners);
        }
        drop(control);
        gateway.join().expect("no panic")
    };
    let is = |outcome: Result<(), ServeError>| match outcome {
        Err(ServeError::Control(error)) => format!("{error:?}"),
        other => format!("{other:?}"),
    };
    assert_eq!(is(outcome(b"", &[])), "Closed");
    assert_eq!(is(outcome(&[5, 0], &[])), "Closed");
    assert_eq!(is(outcome(&[5, 0, 0, 0, b'{'], &[])), "Closed");
    assert_eq!(is(outcome(&[5, 0, 0, 0, b'[', b'1', b',', b'2', b']'], &[])), "Malformed");
    assert_eq!(is(outcome(&[0, 0, 0, 255], &[])), "TooLong(4278190080)");
    assert_eq!(
        is(outcome(&message(&start(&[ListenerKind::Proxy; 17])), &[&listener; 17])),
        "TooManyListeners"
    );
    assert!(matches!(outcome(&message(&start(&[])), &[]), Err(ServeError::NoListener)));

    assert_eq!(
        is(outcome(&message(&start(&[ListenerKind::Proxy])), &[&listener; 2])),
        "ListenersUncounted { listeners: 1, sockets: 2 }"
    );
    assert_eq!(is(outcome(&message(&start(&[ListenerKind::DnsUdp])), &[&listener])), "WrongSocket(DnsUdp)");

    // What is not a listening socket is not served.
    for door in [ListenerKind::Proxy, ListenerKind::Transparent, ListenerKind::DnsTcp, ListenerKind::DnsUdp] {
        let (control, gateway) = controlled(config(folder.path(), &[]));
        let (connected, _other) = UnixStream::pair().expect("a pair");
        send(&control, &message(&start(&[door])), &[connected]);
        match gateway.join().expect("no panic") {
            Err(ServeError::Control(ControlError::WrongSocket(wrong))) => assert_eq!(wrong, door),
            other => panic!("{door:?}: {other:?}"),
        }
    }
}

#[test]
fn a_secret_that_is_missing_or_unusable_refuses_to_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), &["127.0.0.1:0"]);
    let outcome = |secrets: &[(&str, &str)]| {
        let secrets =
            secrets.iter().map(|(name, value)| (SecretRef::new(*name), (*value).to_owned().into())).collect();
        let error =
            serve_alone(&config, GatewayStart { secrets, ..GatewayStart::default() }, |_, _| unreachable!())
                .expect_err("an error");
        assert!(error.hint().is_some());
        let text = error.to_string();
        assert!(text.contains("TOKEN") && !text.contains("two"), "{text}");
        error
    };
    assert!(matches!(outcome(&[]), ServeError::Gateway(GatewayError::SecretMissing { .. })));
    for bad in ["", " ", "two\nlines", "nul\0"] {
        let ServeError::Gateway(GatewayError::SecretUnusable(_)) = outcome(&[("TOKEN", bad)]) else {
            panic!("{bad:?} was taken for a secret");
        };
    }
}

#[test]
fn a_gateway_alone_writes_its_certificate_and_tells_where_it_listens() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), &["127.0.0.1:0"]);
    let (sender, receiver) = mpsc::channel();
    // It serves until the process ends.
    thread::spawn(move || {
        serve_alone(&config, start(&[]), move |ready, addresses| {
            sender.send((ready.clone(), addresses.to_vec())).expect("sent");
        })
    });
    let (ready, addresses) = receiver.recv_timeout(Duration::from_secs(20)).expect("ready");
    let written = std::fs::read_to_string(folder.path().join("ca.pem")).expect("a certificate");
    assert_eq!(written, ready.ca_certificate);
    assert!(ask(addresses[0]).starts_with("HTTP/1.1 403"));
}

#[test]
fn mistakes_of_the_operator_are_told_with_their_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bad.json");
    assert!(read_config(&path).expect_err("missing").to_string().contains("bad.json"));
    std::fs::write(&path, r#"{"name": "a", "nmae": 1}"#).expect("written");
    let text = read_config(&path).expect_err("malformed").to_string();
    assert!(text.contains("bad.json") && text.contains("nmae"), "{text}");
    // A restriction that is misspelled must not be one that is missing.
    for wrong in [
        r#"{"matchs": [{"methods": ["GET"]}]}"#,
        r#"{"matches": [{"method": ["GET"]}]}"#,
        r#"{"matches": [{"paths": [{"type": "prefix", "value": "/v1", "case": "any"}]}]}"#,
        r#"{"auth": {"scheme": "Bearer", "token_ref": "TOKEN", "heading": "x"}}"#,
        r#"{"auth": {"scheme": "Bearer", "token_ref": "TOKEN", "header": "x"}}"#,
        r#"{"auth": {"scheme": "x-api-key", "token_ref": "TOKEN"}}"#,
        r#"{"auth": "keeps"}"#,
    ] {
        let mut route: serde_json::Value = serde_json::from_str(wrong).expect("JSON");
        for (key, value) in
            [("host", json!("api.test")), ("ports", json!([443])), ("owner", json!("manifest"))]
        {
            route[key] = value;
        }
        let config = json!({"name": "a", "receipts": "r", "policy": {"routes": [route]}});
        std::fs::write(&path, config.to_string()).expect("written");
        let text = read_config(&path).expect_err(wrong).to_string();
        let told = [
            "unknown field",
            "expected \"type\" or \"value\"",
            "one of `scheme`, `header` and `query`",
            "`x-api-key` is the name of a header",
            "expected a credential or \"keep\"",
        ];
        assert!(told.iter().any(|told| text.contains(told)) && text.contains("line 1"), "{text}");
    }
    std::fs::write(&path, r#"{"name": "a", "nmae": 1}"#).expect("written");

    let mut config = config(folder.path(), &["127.0.0.1:0"]);
    config.upstream.extra_ca = vec![path.clone()];
    let text = serve_alone(&config, start(&[]), |_, _| ()).expect_err("no certificate").to_string();
    assert!(text.contains("bad.json"), "{text}");
    config.upstream.extra_ca.clear();
    config.receipts = folder.path().join("missing/receipts.jsonl");
    let text = serve_alone(&config, start(&[]), |_, _| ()).expect_err("no folder").to_string();
    assert!(text.contains("missing/receipts.jsonl"), "{text}");
}
