//! Providers and plans through the public API: the content of a plan, and the secrets that it must never
//! hold.

mod credentials;
mod fixture;
mod plans;
mod provisions;
mod refusals;
mod secrecy;
