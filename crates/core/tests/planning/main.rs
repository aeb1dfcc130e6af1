//! Providers and plans, from outside: what a launch is told, and what it must never hold.

mod credentials;
mod fixture;
mod plans;
mod provisions;
mod refusals;
mod secrecy;
