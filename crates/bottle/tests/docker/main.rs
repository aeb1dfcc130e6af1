//! Bottles in containers of a real engine. The table of escape attempts is in `escapes.rs`, for every backend.

mod cleanup;
mod ends;
mod engine_ends;
mod fixture;
mod hostile_image;
mod images;
mod kept;
mod keys;
mod podman;
mod programs;
mod reach;
mod resume;
mod secrets;
