//! The secret scanner: which bytes are credentials, whoever asks. Pure: no I/O, no clock, no environment, and
//! no randomness but the key that the caller brings.
//!
//! [`rules`] has the vendor formats as data, in gitleaks' TOML syntax; [`engine`] finds them in bytes.

pub mod checksum;
pub mod engine;
pub mod entropy;
pub mod rules;

pub use engine::{Engine, Finding};
pub use rules::RuleSet;
