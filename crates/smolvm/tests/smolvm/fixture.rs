//! A state directory, and specifications.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

use bot_bottle_smolvm::{
    Environment, Limits, MachineName, MachineSpec, Network, Resources, Settings, Smolvm, SmolvmError,
};
use bot_bottle_testkit::require_because;
use tempfile::TempDir;

/// The program of smolvm, such as `smol-vmm` of an unpacked wheel of `smolmachines`.
const PROGRAM_VARIABLE: &str = "BOT_BOTTLE_TEST_SMOLVM";

pub(crate) fn settings(program: &Path, state_dir: &Path) -> Settings {
    Settings {
        program: program.to_owned(),
        state_dir: state_dir.to_owned(),
        environment: Environment::of_caller(env::vars_os()),
        keeps_uid: false,
        limits: Limits::default(),
    }
}

/// The real program, with a state directory of its own.
pub(crate) struct Real {
    pub(crate) smolvm: Smolvm,
    /// The folder of a root file system, empty.
    pub(crate) image: PathBuf,
    _folder: TempDir,
}

impl Real {
    /// Skipped with the reason where there is none.
    pub(crate) fn find() -> Option<Self> {
        let program = env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let missing = program.is_none().then(|| format!("{PROGRAM_VARIABLE} names no smolvm"));
        if !require_because("smolvm", missing) {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        std::fs::create_dir(&image).expect("a folder");
        let settings = settings(&program?, &folder.path().join("state"));
        Some(Self { smolvm: Smolvm::open(settings).expect("a smolvm"), image, _folder: folder })
    }

    pub(crate) fn spec(&self, machine: &str, network: Network) -> MachineSpec {
        spec(machine, &self.image, network)
    }
}

pub(crate) fn name(text: &str) -> MachineName {
    MachineName::new(text).expect("a name")
}

pub(crate) fn spec(machine: &str, image: &Path, network: Network) -> MachineSpec {
    MachineSpec {
        name: name(machine),
        image: image.to_owned(),
        resources: Resources { cpus: 1, memory_mib: 512, storage_gib: 2, overlay_gib: 2 },
        network,
        mounts: Vec::new(),
        sockets: Vec::new(),
        labels: BTreeMap::from([("bottle".to_owned(), "x".to_owned())]),
        env: BTreeMap::new(),
        workdir: None,
        user: None,
        workload: Vec::new(),
        name_server: None,
    }
}

/// The error, and how it is printed.
pub(crate) fn failure<T: std::fmt::Debug>(result: Result<T, SmolvmError>) -> (SmolvmError, String) {
    let error = result.expect_err("an error");
    let text = error.to_string();
    (error, text)
}
