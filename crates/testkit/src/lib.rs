//! Test support: upstreams that speak the real APIs, logins that look like real ones, and a search for
//! credentials in files, processes and memory.
//!
//! The upstreams implement the part of each API that the real agent programs were observed to use. They prove
//! nothing about the real services.

mod agents;
mod anthropic;
mod authority;
mod bottle_keys;
mod credentials;
mod docker;
mod echo;
mod eventually;
mod files;
mod forwarder;
mod openai;
mod private_engine;
mod random;
mod require;
mod script;
mod search;
mod smolvm;
mod upstream;

pub use agents::{AGENTS_VARIABLE, InstalledAgent, find_agent};
pub use anthropic::AnthropicApi;
pub use authority::Authority;
pub use bottle_keys::check_table_of_keys;
pub use credentials::{ClaudeLogin, CodexLogin, json_web_token};
pub use docker::{DockerHost, engine, podman, static_program};
pub use echo::Echo;
pub use eventually::eventually;
pub use files::StaticFiles;
pub use forwarder::ConnectForwarder;
pub use openai::{ChatGptApi, OpenAiApi, WebSockets};
pub use private_engine::PrivateEngine;
pub use random::{random_hex, random_secret};
pub use require::{REQUIRE_VARIABLE, find_program, has_user_namespaces, require, require_because};
pub use script::command_prompt;
pub use search::{Finding, Needle, search_bytes, search_memory, search_processes, search_tree};
pub use smolvm::SmolvmGuest;
pub use upstream::{
    Answer, AnswerBody, FakeUpstream, FakeUpstreamBuilder, Handler, MAX_RECORDED_BODY, SeenMessage,
    SeenRequest, WebSocketSession,
};
