//! The Responses API as Codex uses it, at `chatgpt.com` with a login and at `api.openai.com` with a key.

use std::time::Duration;

use serde_json::{Value, json};

use crate::upstream::{Answer, Handler, SeenRequest, WebSocketSession};

mod model;

use model::{Conversation, events};

/// `chatgpt.com`. Requests without the right token and account get 401.
#[derive(Debug, Clone)]
pub struct ChatGptApi {
    authorization: String,
    account: String,
    web_sockets: WebSockets,
    /// How often the agent's tool is used before the model is content.
    turns: usize,
}

/// `api.openai.com`.
#[derive(Debug, Clone)]
pub struct OpenAiApi {
    authorization: String,
    web_sockets: WebSockets,
}

/// Whether the Responses API is offered as a WebSocket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WebSockets {
    /// A handshake succeeds.
    #[default]
    Offered,
    /// A handshake is answered with 426, upon which Codex posts.
    Refused,
}

/// One Responses WebSocket.
struct ResponsesSocket {
    conversation: Conversation,
}

/// Between two events of a stream.
const PAUSE: Duration = Duration::from_millis(2);

impl ChatGptApi {
    /// An API that knows this access token, for this account.
    #[must_use]
    pub fn new(access_token: &str, account: &str) -> Self {
        Self {
            authorization: format!("Bearer {access_token}"),
            account: account.to_owned(),
            web_sockets: WebSockets::default(),
            turns: 1,
        }
    }

    /// The same with a model that has the command run as many times. Without WebSockets, in which a request does not
    /// say what was before.
    #[must_use]
    pub fn with_turns(mut self, turns: usize) -> Self {
        self.turns = turns;
        self
    }

    /// The same, with or without WebSockets.
    #[must_use]
    pub fn web_sockets(mut self, web_sockets: WebSockets) -> Self {
        self.web_sockets = web_sockets;
        self
    }

    /// The account check, without which Codex does not start.
    fn accounts(&self) -> Answer {
        let id = &self.account;
        Answer::json(
            200,
            &json!({
                "accounts": [{
                    "id": id,
                    "name": "Personal",
                    "plan_type": "pro",
                    "structure": "personal",
                    "profile_picture_url": null,
                    "workspace_backend_origin": "NO_CONSTRAINT",
                    "account_routing_override": "NO_CONSTRAINT"
                }],
                "account_ordering": [id],
                "default_account_id": id
            }),
        )
    }
}

impl Handler for ChatGptApi {
    fn answer(&self, request: &SeenRequest) -> Answer {
        if request.header("authorization") != Some(&self.authorization) {
            return Answer::json(401, &json!({"detail": "Unauthorized"}));
        }
        if request.header("chatgpt-account-id").is_some_and(|id| id != self.account) {
            return Answer::json(403, &json!({"detail": "the token is not for this account"}));
        }
        match request.path.as_str() {
            "/backend-api/wham/accounts/check" => self.accounts(),
            "/backend-api/codex/responses" => responses(request, self.web_sockets, self.turns),
            "/backend-api/codex/models" => Answer::json(200, &json!({"models": []})),
            _ => Answer::json(404, &json!({"detail": "Not Found"})),
        }
    }
}

impl OpenAiApi {
    /// An API that knows this key.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self { authorization: format!("Bearer {key}"), web_sockets: WebSockets::default() }
    }
}

impl Handler for OpenAiApi {
    fn answer(&self, request: &SeenRequest) -> Answer {
        if request.header("authorization") != Some(&self.authorization) {
            let error =
                json!({"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}});
            return Answer::json(401, &error);
        }
        match request.path.as_str() {
            "/v1/responses" => responses(request, self.web_sockets, 1),
            "/v1/models" => Answer::json(200, &json!({"object": "list", "data": []})),
            _ => Answer::json(404, &json!({"error": {"message": "Not Found"}})),
        }
    }
}

fn responses(request: &SeenRequest, web_sockets: WebSockets, turns: usize) -> Answer {
    let is_upgrade = request.header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    match (request.method.as_str(), is_upgrade, web_sockets) {
        ("GET", true, WebSockets::Offered) => {
            Answer::web_socket(ResponsesSocket { conversation: Conversation::new(turns) })
        }
        ("GET", _, _) => Answer::new(426, "text/plain", "post instead"),
        ("POST", _, _) => {
            let body = request.json();
            if body["input"].is_null() {
                return Answer::json(
                    400,
                    &json!({"error": {"message": "Missing required parameter: 'input'"}}),
                );
            }
            let turn = Conversation::new(turns).next(&body);
            Answer::events(&events(&body, turn), PAUSE)
        }
        _ => Answer::new(405, "text/plain", "GET or POST"),
    }
}

impl WebSocketSession for ResponsesSocket {
    fn message(&mut self, text: &str) -> Vec<String> {
        let Ok(body) = serde_json::from_str::<Value>(text) else { return Vec::new() };
        if body["type"] != "response.create" {
            return Vec::new();
        }
        let turn = self.conversation.next(&body);
        events(&body, turn).iter().map(Value::to_string).collect()
    }
}
