//! The machine that bottles run on: what it offers to a bottle, what it lacks, and as whom a bottle runs
//! there.

pub mod facts;
pub mod prerequisites;
pub mod programs;
pub mod shares;

pub(crate) mod hidden;
pub(crate) mod user;
