//! WebSockets (RFC 6455) over HTTP/1.1.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use super::{Answer, AnswerBody, SeenMessage, SeenRequest, Shared};

/// Handles the messages of one WebSocket.
pub trait WebSocketSession: Send {
    /// The messages that answer this one.
    fn message(&mut self, text: &str) -> Vec<String>;
}

/// Where the messages of one WebSocket are recorded.
pub(super) struct Messages {
    host: String,
    path: String,
    shared: Arc<Shared>,
}

impl Messages {
    pub(super) fn new(opened_by: &SeenRequest, shared: Arc<Shared>) -> Self {
        Self { host: opened_by.host.clone(), path: opened_by.path.clone(), shared }
    }

    fn record(&self, text: &str) {
        let message = SeenMessage { host: self.host.clone(), path: self.path.clone(), text: text.to_owned() };
        self.shared.seen().messages.push(message);
    }
}

/// The response that opens a WebSocket, or a refusal if the request is not a handshake.
pub(super) fn accepted(request: &SeenRequest) -> Answer {
    match request.headers.get("sec-websocket-key") {
        Some(key) => Answer {
            status: StatusCode::SWITCHING_PROTOCOLS,
            headers: HeaderMap::new(),
            body: AnswerBody::Whole("".into()),
        }
        .with("connection", "Upgrade")
        .with("upgrade", "websocket")
        .with("sec-websocket-accept", &derive_accept_key(key.as_bytes())),
        None => Answer::new(400, "text/plain", "this is not a WebSocket handshake"),
    }
}

/// Serves a WebSocket to its end; the client sees errors.
pub(super) async fn run(upgrade: OnUpgrade, mut session: Box<dyn WebSocketSession>, messages: Messages) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        messages.record(&text);
        for answer in session.message(&text) {
            if socket.send(Message::text(answer)).await.is_err() {
                return;
            }
        }
    }
}
