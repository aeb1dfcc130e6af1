//! Vocabulary and decisions of bot-bottle.
//!
//! Everything here is a value or a pure function: no file, socket, clock, environment or randomness is
//! touched. What the operator wrote becomes a [`bottle::Bottle`], a bottle and a provider become a
//! [`plan::BottlePlan`], and what an agent asks for becomes a [`decision::Decision`]. The effects live in
//! `bot-bottle-launch` and `bot-bottle-gateway`.

pub mod bottle;
pub mod decision;
pub mod error;
pub mod gateway_config;
pub mod host;
pub mod identity;
pub mod limits;
pub mod manifest;
pub mod plan;
pub mod policy;
pub mod printable;
pub mod provider;
pub mod receipt;
pub mod secret;
pub mod suggest;
pub mod upstream_proxy;
pub mod work;
