//! Where secrets come from, and how they are renewed while a bottle runs: real native bottles, real programs.

mod fixture;
mod info;
mod renewal;
mod sources;
mod stepping;
