//! The gateway against real clients and a real upstream, over loopback.

mod bodies;
mod bounds;
mod control;
mod credentials;
mod destinations;
mod endings;
mod forwarding;
mod goaway;
mod honest_clients;
mod interceptor;
mod limits;
mod memory;
mod process;
mod protocols;
mod pushes;
mod reasons;
mod receipts;
mod refusals;
mod smuggling;
mod soak;
mod streaming;
mod stripping;
mod support;
mod unseen;
mod upstreams;
mod websockets;
