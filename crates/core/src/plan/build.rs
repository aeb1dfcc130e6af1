//! From a bottle and a provider to a plan.

use std::path::PathBuf;

use thiserror::Error;

use crate::{
    bottle::{BackendName, Bottle, EffectiveBottle, Settings},
    identity::Identity,
    provider::{AgentProvisionPlan, GuestPaths, ProviderError, RunMode},
};

use super::{BottlePlan, Unenforced};

/// What a plan is made of, apart from who runs.
#[derive(Debug, Clone, Copy)]
pub struct PlanInput<'a> {
    /// Name of the run.
    pub identity: &'a Identity,
    /// The backend that was chosen.
    pub backend: BackendName,
    /// Defaults of the host.
    pub settings: &'a Settings,
    /// The operator's folder to copy in.
    pub workspace: Option<&'a PathBuf>,
    /// Places inside the bottle.
    pub guest: &'a GuestPaths,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The bottle uses what this version or backend cannot enforce.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Unenforced(Vec<Unenforced>),
    /// The provider cannot serve the bottle.
    #[error(transparent)]
    Provider(#[from] ProviderError),
}

/// The plan for an agent, from its effective bottle and what its provider brings.
///
/// # Errors
/// See [`PlanError`].
pub fn plan_agent(
    _input: &PlanInput<'_>,
    _bottle: &EffectiveBottle,
    _provision: &AgentProvisionPlan,
    _mode: &RunMode,
) -> Result<BottlePlan, PlanError> {
    unimplemented!()
}

/// The plan for a bare command in a bottle, without a provider.
///
/// # Errors
/// See [`PlanError`].
pub fn plan_command(
    _input: &PlanInput<'_>,
    _bottle: &Bottle,
    _bottle_names: &[String],
    _command: &[String],
) -> Result<BottlePlan, PlanError> {
    unimplemented!()
}
