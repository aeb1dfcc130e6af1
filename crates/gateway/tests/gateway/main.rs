//! The gateway against real clients and a real upstream, over loopback.

mod forwarding;
mod support;
