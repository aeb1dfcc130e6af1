//! The model behind the Responses API.

use serde_json::{Value, json};

use crate::{
    random::random_hex,
    script::{GREETING, command_in, final_text, pieces, text_of},
};

/// How long the agent waits for a command before it tells the model that it still runs, in milliseconds. The
/// model then has it wait again, so that a command may take as long as it needs.
const YIELD_MS: u32 = 2_000;

/// The text of codex 0.169 before the number of a script that still runs.
const STILL_RUNS: &str = "Script running with cell ID ";

/// The state of one conversation, because requests in a WebSocket send only the new items.
pub(super) struct Conversation {
    tools: Vec<String>,
    /// How often the agent's tool is used before the model is content.
    turns: usize,
}

/// The model's next step.
pub(super) enum Turn {
    /// Nothing yet: the request only makes the service ready.
    Warm,
    Say(String),
    /// A call of one of the agent's tools, without its identifiers.
    Call(Value),
}

impl Conversation {
    pub(super) fn new(turns: usize) -> Self {
        Self { tools: Vec::new(), turns }
    }

    pub(super) fn next(&mut self, request: &Value) -> Turn {
        let text_input = [json!({"type": "message", "role": "user", "content": request["input"]})];
        let items = request["input"].as_array().map_or(&text_input[..], Vec::as_slice);
        self.learn_tools(request, items);
        if request["generate"] == false {
            return Turn::Warm;
        }
        if let Some(result) = items.last().filter(|item| is_tool_output(item)) {
            let output = match &result["output"] {
                Value::String(text) => text.clone(),
                output => output.to_string(),
            };
            let made = items.iter().filter(|item| is_tool_output(item)).count();
            match cell_that_runs(&output) {
                Some(cell) => return function("wait", &json!({"cell_id": cell, "yield_time_ms": YIELD_MS})),
                None if made >= self.turns => return Turn::Say(final_text(&output)),
                None => {}
            }
        }
        let prompt: Vec<String> = items
            .iter()
            .filter(|item| item["type"] == "message" && item["role"] == "user")
            .map(|item| text_of(&item["content"]))
            .collect();
        match command_in(&prompt.join("\n")) {
            Some(command) => self.call(command),
            None => Turn::Say(GREETING.to_owned()),
        }
    }

    fn learn_tools(&mut self, request: &Value, items: &[Value]) {
        let additional = items.iter().filter(|item| item["type"] == "additional_tools");
        for list in std::iter::once(&request["tools"]).chain(additional.map(|item| &item["tools"])) {
            collect_names(list, &mut self.tools);
        }
    }

    /// Runs the command by whichever shell tool the agent offers.
    fn call(&self, command: &str) -> Turn {
        let offers = |name: &str| self.tools.iter().any(|tool| tool == name);
        if offers("exec_command") {
            function("exec_command", &json!({"cmd": command, "yield_time_ms": YIELD_MS}))
        } else if offers("shell_command") {
            function("shell_command", &json!({"command": command}))
        } else if offers("shell") {
            function("shell", &json!({"command": ["bash", "-c", command]}))
        } else if offers("exec") {
            // Code mode: the tool takes JavaScript, in which the other tools are functions.
            let call = json!({"cmd": command, "yield_time_ms": YIELD_MS});
            let script = format!(
                "// @exec: {{\"yield_time_ms\": {YIELD_MS}}}\n\
                 let result = await tools.exec_command({call});\n\
                 let output = result.output;\n\
                 while (result.session_id != null) {{\n\
                 result = await tools.write_stdin({{session_id: result.session_id, chars: '', yield_time_ms: {YIELD_MS}}});\n\
                 output += result.output;\n\
                 }}\n\
                 text(output);"
            );
            Turn::Call(json!({"type": "custom_tool_call", "name": "exec", "input": script}))
        } else {
            Turn::Say(format!("There is no shell tool among {:?}.", self.tools))
        }
    }
}

fn function(name: &str, arguments: &Value) -> Turn {
    Turn::Call(json!({"type": "function_call", "name": name, "arguments": arguments.to_string()}))
}

/// The script that a tool's result says still runs.
fn cell_that_runs(output: &str) -> Option<&str> {
    let (_, rest) = output.split_once(STILL_RUNS)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()
}

/// The events of one response.
pub(super) fn events(request: &Value, turn: Turn) -> Vec<Value> {
    let id = format!("resp_{}", random_hex(8));
    let response = |status: &str, output: Value, usage: Value| {
        json!({
            "id": id, "object": "response", "model": request["model"], "status": status, "output": output,
            "usage": usage
        })
    };
    let mut events = vec![
        json!({"type": "response.created", "response": response("in_progress", json!([]), Value::Null)}),
    ];
    let item = match turn {
        Turn::Warm => None,
        Turn::Say(text) => {
            let item = format!("msg_{}", random_hex(8));
            events.push(json!({
                "type": "response.output_item.added",
                "output_index": 0,
                "item": {"type": "message", "id": item, "role": "assistant", "status": "in_progress", "content": []}
            }));
            events.extend(pieces(&text).iter().map(|piece| {
                json!({
                    "type": "response.output_text.delta",
                    "item_id": item, "output_index": 0, "content_index": 0, "delta": piece
                })
            }));
            let content = json!([{"type": "output_text", "text": text, "annotations": []}]);
            Some(json!({
                "type": "message", "id": item, "role": "assistant", "status": "completed", "content": content
            }))
        }
        Turn::Call(mut item) => {
            item["id"] = format!("call_item_{}", random_hex(8)).into();
            item["call_id"] = format!("call_{}", random_hex(8)).into();
            item["status"] = "completed".into();
            Some(item)
        }
    };
    if let Some(item) = &item {
        events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    }
    let usage = json!({
        "input_tokens": 10, "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 15
    });
    let output = item.map_or(json!([]), |item| json!([item]));
    events.push(json!({"type": "response.completed", "response": response("completed", output, usage)}));
    for (number, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = number.into();
    }
    events
}

fn is_tool_output(item: &Value) -> bool {
    item["type"].as_str().is_some_and(|kind| kind.ends_with("_output"))
}

/// Tools may lie in namespaces; those without a name are known by their type.
fn collect_names(tools: &Value, names: &mut Vec<String>) {
    for tool in tools.as_array().map(Vec::as_slice).unwrap_or_default() {
        if tool["type"] == "namespace" {
            collect_names(&tool["tools"], names);
        } else if let Some(name) = tool["name"].as_str().or_else(|| tool["type"].as_str()) {
            names.push(name.to_owned());
        }
    }
}
