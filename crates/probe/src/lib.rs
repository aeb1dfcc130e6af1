//! What tries to get out of a bottle.
//!
//! The inside is a table of attempts ([`table`]), each a small entry with the promise it tests and the paper,
//! bug or manual page that it comes from, and a scripted agent that does honest work ([`honest`]); it needs no
//! tool of the bottle but this binary. The outside is the [`stage`]: hosts, services and files that record
//! everything that reaches them. An attempt counts as held only if the refusal was seen inside *and* the
//! stage saw nothing ([`verdict`]).

pub mod attempt;
pub mod client;
pub mod direct;
pub mod document;
mod errno;
pub mod honest;
pub mod outcome;
pub mod scene;
pub mod script;
pub mod setting;
pub mod stage;
pub mod table;
pub mod verdict;

pub use attempt::{Attempt, Group};
pub use outcome::{Line, Observation, Outcome, StepReport};
pub use scene::{PlantedSecret, Scene};
pub use script::{Script, ScriptError, run_script};
pub use verdict::{JudgedAttempt, Judgement, Verdict, judge};
