//! Makes an image of what an agent installed and of its home.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use bot_bottle_core::{
    error::{Hint, IoContext, IoError},
    identity::Identity,
};
use bot_bottle_engine::{Engine, EngineError};
use serde::Serialize;
use thiserror::Error;

use crate::{
    docker::AgentWork,
    home::BotBottleHome,
    kept::{self, NotKept},
    resource::Resources,
};

/// The image of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommittedImage {
    /// By which the engine finds it.
    pub reference: String,
    /// Its id in the engine.
    pub id: String,
}

/// Why there is no image.
#[derive(Debug, Error)]
pub enum CommitError {
    /// Nothing is kept of the run.
    #[error(transparent)]
    NotKept(#[from] NotKept),
    /// Its backend has no images.
    #[error("the bottle of {0} is no container")]
    NoContainer(Identity),
    /// The container engine.
    #[error(transparent)]
    Engine(#[from] Box<EngineError>),
    /// The system said no.
    #[error(transparent)]
    System(#[from] IoError),
}

impl Hint for CommitError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::NotKept(error) => error.hint(),
            Self::NoContainer(run) => Some(
                format!(
                    "bottles of the docker backend are; `bot-bottle cp {run}:PATH FOLDER` copies files of this one"
                )
                .into(),
            ),
            Self::Engine(error) => error.hint(),
            Self::System(error) => error.hint(),
        }
    }
}

/// Makes an image of the agent's container, with its home and without its workspace. `cleanup` never removes it.
/// Its programs are not stopped for that: what they write meanwhile may be in the image by halves.
///
/// # Errors
/// See [`CommitError`].
pub fn commit(
    home: &BotBottleHome,
    run: &Identity,
    reference: Option<&str>,
) -> Result<CommittedImage, CommitError> {
    let (path, _) = kept::find(home, run)?;
    let objects =
        Resources::read(&path).io_context(|| format!("reading {}", path.display()))?.work_in_engine();
    let work = AgentWork::among(&objects).ok_or_else(|| CommitError::NoContainer(run.clone()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let reference = reference.map_or_else(|| format!("bot-bottle/{run}:{now}"), str::to_owned);
    let engine = Engine::connect(work.engine()).map_err(Box::new)?;
    let id = work.commit_for_operator(&engine, &reference).map_err(Box::new)?;
    Ok(CommittedImage { reference, id })
}
