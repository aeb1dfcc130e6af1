//! The state directory of a run, and which runs are alive.

use std::io;

use bot_bottle_core::identity::Identity;

use crate::home::BotBottleHome;

/// The runs whose launcher holds their lock.
///
/// # Errors
/// When the state directory cannot be read; one that does not exist holds no run.
pub fn list_active(_home: &BotBottleHome) -> io::Result<Vec<Identity>> {
    unimplemented!()
}
