//! Claude.

use super::{AgentProvisionPlan, Package, Provider, ProviderError, ProvisionInput};

/// Claude.
#[derive(Debug)]
pub struct Claude;

impl Provider for Claude {
    fn name(&self) -> &'static str {
        "claude"
    }

    fn program(&self) -> &'static str {
        "claude"
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
