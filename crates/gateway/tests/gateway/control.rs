//! A running gateway and its launcher: questions to the operator, and another policy.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bot_bottle_core::gateway_config::{ControlMessage, GatewayConfig, GatewayEvent, ListenerKind, Secrets};
use serde_json::{Value, json};

use crate::support::launcher::{Launcher, config};

/// Answers every connection, and counts them.
fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
    (address, count)
}

fn policy(routes: Value) -> bot_bottle_core::policy::Policy {
    serde_json::from_value(json!({"routes": routes})).expect("a policy")
}

fn gateway(folder: &Path, upstream: SocketAddr, routes: Value) -> GatewayConfig {
    let fixed = json!({"open.test": {"address": upstream.ip(), "port": upstream.port()}});
    let mut config = config(folder, &[]);
    config.policy = policy(routes);
    config.upstream.resolve = serde_json::from_value(fixed).expect("addresses");
    config
}

fn route(ask: bool) -> Value {
    json!([{"host": "open.test", "ports": [80], "owner": "manifest", "ask": ask}])
}

fn request(gateway: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).expect("a connection");
    stream
        .write_all(b"GET http://open.test/one?two HTTP/1.1\r\nHost: open.test\r\nConnection: close\r\n\r\n")
        .expect("written");
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn receipts(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("receipts.jsonl")).expect("receipts");
    text.lines().map(|line| serde_json::from_str(line).expect("a receipt")).collect()
}

fn question(event: GatewayEvent) -> u64 {
    let GatewayEvent::Question { exchange, method, host, port, path } = event else { panic!("{event:?}") };
    assert_eq!((&*method, &*host, port, &*path), ("GET", "open.test", 80, "/one"));
    exchange
}

#[test]
fn a_held_request_goes_on_when_the_operator_allows_it_and_not_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, connections) = upstream();
    let mut launcher = Launcher::start(gateway(folder.path(), address, route(true)), ListenerKind::Proxy);
    let asked = request(launcher.address);
    let exchange = question(launcher.next_event());
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    launcher.tell(&ControlMessage::Answer { exchange, allow: true });
    let answer = answer(asked);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok"), "{answer}");
    launcher.end().expect("a good end");
    let lines = receipts(folder.path());
    let told: Vec<_> =
        lines.iter().map(|line| (&line["exchange"], &line["verdict"], &line["reason"])).collect();
    let exchange = json!(exchange);
    assert_eq!(
        told,
        [
            (&exchange, &json!("ask"), &json!("approval_needed")),
            (&exchange, &json!("allow"), &json!("approved")),
            (&exchange, &Value::Null, &Value::Null),
        ]
    );
    assert_eq!(lines[2]["end"], "complete");
}

#[test]
fn a_held_request_that_the_operator_refuses_does_not_leave() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, connections) = upstream();
    let mut launcher = Launcher::start(gateway(folder.path(), address, route(true)), ListenerKind::Proxy);
    let asked = request(launcher.address);
    let exchange = question(launcher.next_event());
    launcher.tell(&ControlMessage::Answer { exchange, allow: false });
    let answer = answer(asked);
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not_approved"), "{answer}");
    // An answer that comes again, or to nothing, changes nothing.
    for exchange in [exchange, 9999] {
        launcher.tell(&ControlMessage::Answer { exchange, allow: true });
    }
    launcher.end().expect("a good end");
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    let lines = receipts(folder.path());
    let verdicts: Vec<_> = lines.iter().map(|line| (&line["exchange"], &line["verdict"])).collect();
    let exchange = json!(exchange);
    assert_eq!(verdicts, [(&exchange, &json!("ask")), (&exchange, &json!("refuse"))]);
}

#[test]
fn a_question_is_withdrawn_when_the_client_goes_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, connections) = upstream();
    let mut launcher = Launcher::start(gateway(folder.path(), address, route(true)), ListenerKind::Proxy);
    let asked = request(launcher.address);
    let exchange = question(launcher.next_event());
    drop(asked);
    assert_eq!(launcher.next_event(), GatewayEvent::Withdrawn { exchange });
    launcher.end().expect("a good end");
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    let lines = receipts(folder.path());
    assert_eq!((&lines[0]["verdict"], &lines[1]["end"]), (&json!("ask"), &json!("cancelled")), "{lines:?}");
    assert_eq!(lines[0]["exchange"], lines[1]["exchange"]);
}

#[test]
fn another_policy_is_in_force_for_the_next_request() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, _) = upstream();
    let mut launcher = Launcher::start(gateway(folder.path(), address, json!([])), ListenerKind::Proxy);
    let refused = answer(request(launcher.address));
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("no_route"), "{refused}");
    launcher.tell(&ControlMessage::Reload { policy: policy(route(false)), secrets: Secrets::default() });
    assert_eq!(launcher.next_event(), GatewayEvent::Reloaded);
    let allowed = answer(request(launcher.address));
    assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");

    // A policy that cannot be put in force leaves the one that is.
    let unknown = json!([{"host": "open.test", "ports": [443], "owner": "manifest",
        "auth": {"scheme": "Bearer", "token_ref": "UNKNOWN"}}]);
    launcher.tell(&ControlMessage::Reload { policy: policy(unknown), secrets: Secrets::default() });
    let event = launcher.next_event();
    let GatewayEvent::NotReloaded { why } = &event else { panic!("{event:?}") };
    assert!(why.contains("UNKNOWN"), "{why}");
    let allowed = answer(request(launcher.address));
    assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
    launcher.end().expect("a good end");
}
