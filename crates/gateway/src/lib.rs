//! The only way out of a bottle.
//!
//! - `listen` accepts a client: the proxy's port, redirected connections, DNS;
//! - `client` detects the protocol, terminates TLS, and reads HTTP/1.1 strictly or HTTP/2;
//! - `exchange` is the pipeline of one request, from what was asked to a receipt, a credential and a
//!   response;
//! - `upstream` resolves, approves the addresses, dials, and keeps connections.
//!
//! Beside them: `dns` answers the bottle's questions from the policy alone, `process` runs all of it under a
//! launcher or alone, and `state` is the data that connections share. Modules import only modules below them,
//! in the order of `tests/layers.rs`. Every bound is in [`limits`].

mod bounded_stream;
mod certificates;
mod client;
mod clock;
mod credential;
mod dns;
mod exchange;
mod fake_ip;
mod host_port;
mod in_flight;
mod kept_body;
pub mod limits;
mod listen;
mod log;
mod process;
mod questions;
mod receipts;
mod renewals;
mod state;
mod token_bucket;
mod upstream;

pub use certificates::CertificateError;
pub use log::BoundedLog;
pub use process::{
    ServeError, control::ControlError, read_config, serve_alone, serve_controlled, serve_handed_over,
    serve_launcher, spawn,
};
pub use receipts::{OpenReceiptsError, ReceiptsFile};
pub use state::{GatewayError, State};
pub use upstream::{ExtraCaError, ProxyLoginError, Resolution, Resolve, ResolveError, SystemResolver};
