//! Escape attempts, and the canaries that detect them.
//!
//! The inside is a table of attempts ([`table`]), each a small entry with the promise it tests and the paper,
//! bug or manual page that it comes from, and a scripted agent that does ordinary work ([`benign_work`]); it
//! needs no tool of the bottle but this binary. The outside is [`canaries`]: hosts, services and files that
//! record everything that reaches them. An attempt counts as blocked only if the refusal was seen inside
//! *and* the canaries recorded nothing ([`verdict`]).

pub mod attempt;
pub mod benign_work;
pub mod canaries;
pub mod client;
pub mod context;
pub mod direct;
pub mod document;
mod errno;
pub mod operator_fixture;
pub mod outcome;
pub mod script;
pub mod table;
pub mod verdict;

pub use attempt::{Attempt, Group};
pub use context::{Context, PlantedSecret};
pub use outcome::{Line, Observation, Outcome, StepReport};
pub use script::{Script, ScriptError, run_script};
pub use verdict::{JudgedAttempt, Judgement, Verdict, judge};
