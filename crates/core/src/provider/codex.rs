//! Codex.

use super::{AgentProvisionPlan, Package, Provider, ProviderError, ProvisionInput};

/// Codex.
#[derive(Debug)]
pub struct Codex;

impl Provider for Codex {
    fn name(&self) -> &'static str {
        "codex"
    }

    fn program(&self) -> &'static str {
        "codex"
    }

    fn package(&self) -> Package {
        unimplemented!()
    }

    fn credential_file(&self) -> &'static str {
        unimplemented!()
    }

    fn skills_folder(&self) -> &'static str {
        unimplemented!()
    }

    fn provision(&self, _input: &ProvisionInput<'_>) -> Result<AgentProvisionPlan, ProviderError> {
        unimplemented!()
    }
}
