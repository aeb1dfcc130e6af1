//! Bottles in containers of a real engine. The table of escape attempts is in `escapes.rs`, for every backend.

mod cleanup;
mod ends;
mod fixture;
mod images;
mod keys;
mod kept;
mod programs;
mod reach;
mod resume;
mod secrets;
