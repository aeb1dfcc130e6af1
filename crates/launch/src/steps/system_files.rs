//! The files of root's in a bottle whose root file system is an image's, as its launcher has them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::plan::{BOTTLE_ADDRESS, BottlePlan};

use crate::{
    host::facts::BUNDLES,
    init::system_files::{SystemFile, SystemFiles},
};

use super::{
    allocate::Run,
    trust::{BUNDLE_NAME, trust_folder},
};

/// The bottle's `/etc/hosts`.
const HOSTS: &str = "127.0.0.1 localhost bottle\n::1 localhost ip6-localhost\n";

/// Those of a plan, and the folder where the certificates will be.
#[derive(Debug)]
pub(crate) struct StagedFiles {
    home: PathBuf,
    /// The folder of the run, and where it is in the bottle.
    trust: (PathBuf, PathBuf),
    ca_bundle: PathBuf,
    of_plan: Vec<SystemFile>,
}

impl StagedFiles {
    pub(crate) fn of(plan: &BottlePlan, run: &Run) -> Self {
        let trust = trust_folder(plan);
        let resolver = format!("nameserver {BOTTLE_ADDRESS}\noptions timeout:2 attempts:2\n");
        let mut of_plan = vec![
            file("/etc/resolv.conf".into(), resolver.as_bytes()),
            // podman's has the host's names and addresses.
            file("/etc/hosts".into(), HOSTS.as_bytes()),
        ];
        let others = plan.system_files.iter().filter(|file| !file.path.starts_with(&trust));
        of_plan.extend(others.map(|other| file(other.path.clone(), other.content.as_bytes())));
        Self {
            home: plan.guest.home.clone(),
            trust: (run.folders.trust.clone(), trust),
            ca_bundle: plan.guest.ca_bundle.clone(),
            of_plan,
        }
    }

    /// All of them, once the certificates are there. The bundles of the image are replaced by the bottle's.
    pub(crate) fn read(&self) -> io::Result<SystemFiles> {
        let (staged, inside) = &self.trust;
        let mut files = self.of_plan.clone();
        for entry in fs::read_dir(staged)? {
            let entry = entry?;
            let content = fs::read(entry.path())?;
            if entry.file_name() == BUNDLE_NAME {
                // Programs are told of one of them by variables.
                let bundle = |path: &&str| {
                    let create = Path::new(path) == self.ca_bundle;
                    SystemFile { create, ..file(path.into(), &content) }
                };
                files.extend(BUNDLES.iter().map(bundle));
            }
            files.push(file(inside.join(entry.file_name()), &content));
        }
        Ok(SystemFiles { home: self.home.clone(), files })
    }
}

fn file(path: PathBuf, content: &[u8]) -> SystemFile {
    SystemFile { path, content: STANDARD.encode(content), create: true }
}
