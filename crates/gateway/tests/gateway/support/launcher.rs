//! A launcher's side of the control socket.

use std::{
    io::{BufRead, BufReader, IoSlice, Read, Write},
    mem::MaybeUninit,
    net::TcpListener,
    os::{fd::AsFd, unix::net::UnixStream},
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};

use bot_bottle_core::{
    gateway_config::{ControlMessage, GatewayConfig, GatewayEvent, GatewayReady, GatewayStart, ListenerKind},
    secret::SecretRef,
};
use bot_bottle_gateway::{ServeError, read_config, serve_controlled};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::json;

pub(crate) fn config(folder: &Path, listen: &[&str]) -> GatewayConfig {
    let routes = json!([{"host": "api.test", "ports": [443], "owner": "manifest",
                         "auth": {"scheme": "Bearer", "token_ref": "TOKEN"}}]);
    let text = json!({
        "name": "test-00000", "listen": listen, "policy": {"routes": routes},
        "receipts": folder.join("receipts.jsonl"), "ca_certificate": folder.join("ca.pem"),
    });
    let path = folder.join("gateway.json");
    std::fs::write(&path, text.to_string()).expect("written");
    read_config(&path).expect("a configuration")
}

pub(crate) fn start(listeners: &[ListenerKind]) -> GatewayStart {
    GatewayStart {
        secrets: [(SecretRef::new("TOKEN"), "real".to_owned().into())].into(),
        listeners: listeners.to_vec(),
        ..GatewayStart::default()
    }
}

/// A gateway that is served in a thread, and the launcher's end of its control socket.
pub(crate) fn controlled(config: GatewayConfig) -> (UnixStream, JoinHandle<Result<(), ServeError>>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    (ours, thread::spawn(move || serve_controlled(&config, theirs)))
}

pub(crate) fn send(control: &UnixStream, bytes: &[u8], descriptors: &[impl AsFd]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    if !borrowed.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&borrowed)));
    }
    let sent = sendmsg(control, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty()).expect("sent");
    (&*control).write_all(&bytes[sent..]).expect("sent");
}

pub(crate) fn message(start: &GatewayStart) -> Vec<u8> {
    let body = serde_json::to_vec(start).expect("JSON");
    let length = u32::try_from(body.len()).expect("a length").to_le_bytes();
    [&length[..], &body].concat()
}

pub(crate) fn ask(address: std::net::SocketAddr) -> String {
    ask_on(std::net::TcpStream::connect(address).expect("a connection"))
}

pub(crate) fn ask_on(mut stream: impl Read + Write) -> String {
    stream
        .write_all(b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
        .expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// A launcher with a gateway that serves.
pub(crate) struct Launcher {
    control: UnixStream,
    events: BufReader<UnixStream>,
    gateway: JoinHandle<Result<(), ServeError>>,
    /// Where the gateway listens.
    pub(crate) address: std::net::SocketAddr,
    /// What it said when it served.
    pub(crate) ready: GatewayReady,
}

impl Launcher {
    /// Hands over one listener of this kind.
    pub(crate) fn start(config: GatewayConfig, kind: ListenerKind) -> Self {
        Self::start_with(config, &start(&[kind]))
    }

    /// Hands over one listener and this.
    pub(crate) fn start_with(config: GatewayConfig, start: &GatewayStart) -> Self {
        let (control, gateway) = controlled(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        send(&control, &message(start), &[&listener]);
        let mut events = BufReader::new(control.try_clone().expect("a descriptor"));
        let mut line = String::new();
        events.read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).expect("ready");
        Self { control, events, gateway, address: listener.local_addr().expect("an address"), ready }
    }

    pub(crate) fn tell(&self, message: &ControlMessage) {
        let body = serde_json::to_vec(message).expect("JSON");
        let length = u32::try_from(body.len()).expect("a length").to_le_bytes();
        (&self.control).write_all(&[&length[..], &body].concat()).expect("sent");
    }

    pub(crate) fn next_event(&mut self) -> GatewayEvent {
        let mut line = String::new();
        self.events.read_line(&mut line).expect("a line");
        serde_json::from_str(&line).expect("an event")
    }

    /// Whether the gateway says nothing for so long.
    pub(crate) fn is_quiet_for(&mut self, time: Duration) -> bool {
        self.control.set_read_timeout(Some(time)).expect("a timeout");
        let is_quiet = self.events.fill_buf().is_err();
        self.control.set_read_timeout(None).expect("no timeout");
        is_quiet
    }

    pub(crate) fn end(self) -> Result<(), ServeError> {
        drop((self.control, self.events));
        self.gateway.join().expect("no panic")
    }
}
