//! The gateway against real clients and a real upstream, over loopback.

mod forwarding;
#[allow(dead_code, reason = "the cases that use the rest of it are being written")]
mod support;
