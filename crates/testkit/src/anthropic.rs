//! The Anthropic Messages API, as far as Claude uses it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    random::random_hex,
    script::{GREETING, command_in, final_text, pieces, text_of},
    upstream::{Answer, Handler, SeenRequest},
};

/// `api.anthropic.com`. Requests without the right token get 401, as from the real one.
#[derive(Debug, Clone)]
pub struct AnthropicApi {
    /// The header with the credential, and its value.
    credential: (&'static str, String),
    pause: Duration,
    /// How often the agent's tool is used before the model is content.
    turns: usize,
}

/// The headers that a credential can be in.
const CREDENTIAL_HEADERS: [&str; 2] = ["authorization", "x-api-key"];

/// The model's next step.
enum Turn {
    Say(String),
    RunTool { name: &'static str, input: Value },
}

impl AnthropicApi {
    /// An API that knows this OAuth token.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self::of(("authorization", format!("Bearer {token}")))
    }

    /// An API that knows this API key.
    #[must_use]
    pub fn with_key(key: &str) -> Self {
        Self::of(("x-api-key", key.to_owned()))
    }

    fn of(credential: (&'static str, String)) -> Self {
        Self { credential, pause: Duration::from_millis(5), turns: 1 }
    }

    /// The same with a model that has the command run as many times.
    #[must_use]
    pub fn with_turns(mut self, turns: usize) -> Self {
        self.turns = turns;
        self
    }

    fn is_authorized(&self, request: &SeenRequest) -> bool {
        let (name, value) = &self.credential;
        let others = CREDENTIAL_HEADERS.iter().filter(|other| *other != name);
        request.header(name) == Some(value)
            && others.into_iter().all(|other| !request.headers.contains_key(*other))
    }

    fn message(&self, request: &SeenRequest) -> Answer {
        let body = request.json();
        let Some(turn) = Turn::next(&body, self.turns) else {
            return error(400, "invalid_request_error", "messages: at least one message is required");
        };
        let answer = if body["stream"] == true {
            Answer::events(&turn.events(&body["model"]), self.pause)
        } else {
            Answer::json(200, &turn.message(&body["model"]))
        };
        answer.with("request-id", &format!("req_{}", random_hex(8)))
    }
}

impl Handler for AnthropicApi {
    fn answer(&self, request: &SeenRequest) -> Answer {
        // Some calls outside the API proper carry no credential, but a wrong one is always refused.
        let needs_credential = request.path.starts_with("/v1/");
        let has_credential = CREDENTIAL_HEADERS.iter().any(|name| request.headers.contains_key(*name));
        if (needs_credential || has_credential) && !self.is_authorized(request) {
            return error(401, "authentication_error", "invalid bearer token");
        }
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/messages") => self.message(request),
            ("POST", "/v1/messages/count_tokens") => Answer::json(200, &json!({"input_tokens": 42})),
            ("GET", "/v1/models") => Answer::json(200, &json!({"data": [], "has_more": false})),
            ("GET", "/api/hello") => Answer::json(200, &json!({"message": "hello"})),
            _ => error(404, "not_found_error", "there is nothing here"),
        }
    }
}

impl Turn {
    /// `None` where the request has no message.
    fn next(request: &Value, turns: usize) -> Option<Self> {
        let messages = request["messages"].as_array()?;
        let results = |message: &Value| -> Vec<Value> {
            let blocks = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
            blocks.iter().filter(|block| block["type"] == "tool_result").cloned().collect()
        };
        let made: usize = messages.iter().map(|message| results(message).len()).sum();
        if made >= turns
            && let Some(result) = results(messages.last()?).first()
        {
            return Some(Self::Say(final_text(&text_of(&result["content"]))));
        }
        let prompt: Vec<String> = messages
            .iter()
            .filter(|message| message["role"] == "user")
            .map(|message| text_of(&message["content"]))
            .collect();
        let has_shell =
            request["tools"].as_array().is_some_and(|tools| tools.iter().any(|tool| tool["name"] == "Bash"));
        Some(match command_in(&prompt.join("\n")) {
            Some(command) if has_shell => {
                // As long as the tool allows, in milliseconds: by itself it waits for two minutes.
                let input = json!({"command": command, "description": "As asked", "timeout": 600_000});
                Self::RunTool { name: "Bash", input }
            }
            _ => Self::Say(GREETING.to_owned()),
        })
    }

    fn stop_reason(&self) -> &'static str {
        match self {
            Self::Say(_) => "end_turn",
            Self::RunTool { .. } => "tool_use",
        }
    }

    /// The answer to a request that does not stream.
    fn message(&self, model: &Value) -> Value {
        let mut message = empty_message(model);
        message["content"] = json!([match self {
            Self::Say(text) => json!({"type": "text", "text": text}),
            Self::RunTool { name, input } => {
                json!({"type": "tool_use", "id": format!("toolu_{}", random_hex(8)), "name": name, "input": input})
            }
        }]);
        message["stop_reason"] = self.stop_reason().into();
        message
    }

    /// The same as a stream of events.
    fn events(&self, model: &Value) -> Vec<Value> {
        let (block, deltas) = match self {
            Self::Say(text) => (
                json!({"type": "text", "text": ""}),
                pieces(text)
                    .iter()
                    .map(|piece| json!({"type": "text_delta", "text": piece}))
                    .collect::<Vec<_>>(),
            ),
            Self::RunTool { name, input } => (
                json!({"type": "tool_use", "id": format!("toolu_{}", random_hex(8)), "name": name, "input": {}}),
                pieces(&input.to_string())
                    .iter()
                    .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                    .collect(),
            ),
        };
        let mut events = vec![
            json!({"type": "message_start", "message": empty_message(model)}),
            json!({"type": "content_block_start", "index": 0, "content_block": block}),
            json!({"type": "ping"}),
        ];
        events.extend(
            deltas
                .into_iter()
                .map(|delta| json!({"type": "content_block_delta", "index": 0, "delta": delta})),
        );
        events.extend([
            json!({"type": "content_block_stop", "index": 0}),
            json!({
                "type": "message_delta",
                "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null},
                "usage": {"output_tokens": 12}
            }),
            json!({"type": "message_stop"}),
        ]);
        events
    }
}

fn empty_message(model: &Value) -> Value {
    json!({
        "id": format!("msg_{}", random_hex(8)),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": {
            "input_tokens": 10, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0
        }
    })
}

fn error(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({"type": "error", "error": {"type": kind, "message": message}}))
}
