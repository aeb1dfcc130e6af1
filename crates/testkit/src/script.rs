//! The script of the fake models: run the command that the prompt marks, then repeat its output.

use serde_json::Value;

/// A prompt that makes the fake models have this shell command run by the agent's own tool.
#[must_use]
pub fn command_prompt(command: &str) -> String {
    format!("Please RUN<<{command}>> and report.")
}

/// The command in a prompt.
pub(crate) fn command_in(prompt: &str) -> Option<&str> {
    let (_, rest) = prompt.split_once("RUN<<")?;
    rest.split_once(">>").map(|(command, _)| command)
}

/// The last thing that the model says, after a tool's result.
pub(crate) fn final_text(result: &str) -> String {
    let shown: String = result.chars().take(300).collect();
    format!("The command answered: {shown}")
}

/// The model's reply if the prompt has no command.
pub(crate) const GREETING: &str = "Nothing to run.";

/// The text of a message's content: a string, or blocks that may have a `text`.
pub(crate) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

/// The text in pieces of a dozen characters, as models send it.
pub(crate) fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(12).map(|piece| piece.iter().collect()).collect()
}
