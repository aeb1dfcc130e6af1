//! A program that plays smolvm: `double.sh`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bot_bottle_smolvm::{MachineSpec, Network, Settings, Smolvm, SmolvmError};
use tempfile::TempDir;

use crate::fixture::{settings, spec};

/// The double, and what it does.
pub(crate) struct Double {
    pub(crate) settings: Settings,
    folder: TempDir,
}

impl Double {
    /// `scenario` is shell code that replaces functions of the double.
    pub(crate) fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Never written by a test: a program that is open for writing cannot be executed.
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/smolvm/double.sh");
        let double = Self { settings: settings(&program, folder.path()), folder };
        double.play(scenario);
        double
    }

    pub(crate) fn play(&self, scenario: &str) {
        fs::write(self.path("scenario"), scenario).expect("writing the scenario");
    }

    pub(crate) fn open(&self) -> Result<Smolvm, SmolvmError> {
        Smolvm::open(self.settings.clone())
    }

    pub(crate) fn smolvm(&self) -> Smolvm {
        self.open().expect("a smolvm")
    }

    /// A client whose machine exists, in this state.
    pub(crate) fn with_machine(&self, state: &str) -> Smolvm {
        fs::write(self.path("machine"), state).expect("writing the state");
        self.smolvm()
    }

    pub(crate) fn spec(&self, network: Network) -> MachineSpec {
        spec("one", self.folder.path(), network)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What a call wrote into a file; empty if there is none.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}
