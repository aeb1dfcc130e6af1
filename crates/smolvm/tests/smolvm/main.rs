//! The client against the real program, which [`contract`] asks everything that needs no guest, and against a
//! double that fails in ways that the real one rarely does.

mod contract;
mod double;
mod failures;
mod fixture;
mod guest;
mod ready;
