//! Bottles in virtual machines of a real smolvm, with a stand-in for libkrun.

mod bottle;
mod ends;
mod failures;
mod fixture;
mod images;
mod keys;
mod refused;
mod work;
