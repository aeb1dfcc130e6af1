//! The only way out of a bottle.
//!
//! A client's connection is accepted by `listen`, becomes a `flow` (the proxy's port, or a tunnel whose first
//! bytes tell what it carries; connections that `capture` brought are tunnels too), passes through `tls`, and then each request goes its way in `request`: where to
//! (`destination`), whether it may (`decide`), what of it is ours (`inject`), and out through `upstream`. Every
//! decision has a line in `receipts`, and every refusal is worded by `refusal`. All bounds are in [`limits`].
//! `dns` answers the bottle's questions for names from the policy alone; `names` remembers the addresses.

mod body;
mod bounded_stream;
mod capture;
mod certificates;
mod clock;
mod control;
mod dns;
mod flow;
mod framing;
mod gateway;
pub mod limits;
mod listen;
mod names;
mod receipts;
mod refusal;
mod request;
mod serve;
mod tls;
mod upstream;

pub use certificates::CertificateError;
pub use control::ControlError;
pub use gateway::{Gateway, GatewayError};
pub use receipts::OpenReceiptsError;
pub use serve::{ServeError, read_config, serve_alone, serve_controlled, spawn};
pub use upstream::{ExtraCaError, Resolution, Resolve, ResolveError, SystemResolver};
