//! The real agent programs, where the host has them.

use std::{env, fs, path::PathBuf};

use serde_json::Value;

/// Names the folder that holds `providers/<name>/<version>/`, as `bot-bottle provider install` fills it.
pub const AGENTS_VARIABLE: &str = "BOT_BOTTLE_TEST_AGENTS";

/// An agent program that was installed for the tests.
#[derive(Debug, Clone)]
pub struct InstalledAgent {
    /// `providers/<name>/<version>`, absolute.
    pub folder: PathBuf,
    /// The program, absolute.
    pub executable: PathBuf,
}

/// The agent program of this provider, if [`AGENTS_VARIABLE`] leads to one.
#[must_use]
pub fn find_agent(provider: &str) -> Option<InstalledAgent> {
    let versions = PathBuf::from(env::var_os(AGENTS_VARIABLE)?).join("providers").join(provider);
    let mut found: Vec<InstalledAgent> = fs::read_dir(versions)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let folder = entry.path().canonicalize().ok()?;
            let manifest: Value =
                serde_json::from_slice(&fs::read(folder.join("manifest.json")).ok()?).ok()?;
            let executable = folder.join(manifest["root"].as_str()?).join(manifest["executable"].as_str()?);
            executable.is_file().then_some(InstalledAgent { folder, executable })
        })
        .collect();
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    found.pop()
}
