//! Refuses folders that must not become a workspace, and tells what a copy leaves out. The agent reads everything that is copied into a bottle
//! and sends it to its model, so a home or a folder of keys must not get there by mistake.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
};

use bot_bottle_core::error::Hint;
use thiserror::Error;

use crate::files::{
    exclusions::Exclusions,
    git_credentials::GitCredentials,
    git_metadata::{self, GitMetadata},
};

pub use crate::files::{exclusions::ExclusionError, git_metadata::GitMetadataError};

/// Files and folders below a home in which programs keep credentials, with the program and where it says so.
///
/// A folder stands for all of its content. Sources: the programs' own manuals on where they keep their
/// credentials.
const CREDENTIAL_STORES: &[(&str, &str)] = &[
    (".aws/credentials", "AWS CLI, docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html"),
    (".azure", "Azure CLI, learn.microsoft.com/cli/azure/azure-cli-configuration"),
    (".cargo/credentials.toml", "cargo, doc.rust-lang.org/cargo/commands/cargo-login.html"),
    (".claude/.credentials.json", "Claude Code, code.claude.com/docs/en/iam"),
    (".codex/auth.json", "Codex, developers.openai.com/codex/auth"),
    (".config/gcloud", "gcloud, cloud.google.com/sdk/docs/configurations"),
    (".config/gh/hosts.yml", "gh, cli.github.com/manual/gh_auth_login"),
    (".config/google-chrome", "Chrome, chromium.googlesource.com/chromium/src/+/main/docs/user_data_dir.md"),
    (".config/op", "1Password CLI, developer.1password.com/docs/cli/config-directories"),
    (".docker/config.json", "docker, docs.docker.com/reference/cli/docker/login"),
    (".git-credentials", "git, git-scm.com/docs/git-credential-store"),
    (".gnupg/private-keys-v1.d", "GnuPG, gnupg.org/documentation/manuals/gnupg/Agent-Configuration.html"),
    (".kube/config", "kubectl, kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig"),
    (".local/share/keyrings", "GNOME Keyring, wiki.gnome.org/Projects/GnomeKeyring"),
    (".mozilla/firefox", "Firefox, support.mozilla.org/kb/profiles-where-firefox-stores-user-data"),
    (".netrc", "curl and git, everything.curl.dev/usingcurl/netrc"),
    (".password-store", "pass, passwordstore.org"),
    (".pypirc", "twine, packaging.python.org/specifications/pypirc"),
    (".ssh/id_ecdsa", "OpenSSH, ssh(1)"),
    (".ssh/id_ecdsa_sk", "OpenSSH, ssh(1)"),
    (".ssh/id_ed25519", "OpenSSH, ssh(1)"),
    (".ssh/id_ed25519_sk", "OpenSSH, ssh(1)"),
    (".ssh/id_rsa", "OpenSSH, ssh(1)"),
    (".terraform.d/credentials.tfrc.json", "Terraform, developer.hashicorp.com/terraform/cli/commands/login"),
    (".vault-token", "Vault, developer.hashicorp.com/vault/docs/commands/token-helper"),
    ("Library/Keychains", "macOS, security(1)"),
];

/// Why a folder is not copied into a bottle.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WorkspaceError {
    /// The whole file system.
    #[error("`/` cannot be a workspace: it would be copied whole into the bottle")]
    Root,
    /// The operator's home.
    #[error("{} cannot be a workspace: it is your home, with every key and login in it", .0.display())]
    Home(PathBuf),
    /// A folder above it.
    #[error("{} cannot be a workspace: your home {} lies in it", .folder.display(), .home.display())]
    AboveHome {
        /// What was wanted.
        folder: PathBuf,
        /// The operator's home.
        home: PathBuf,
    },
    /// With the manifests and every run's state.
    #[error("{} cannot be a workspace: bot-bottle's own files lie in {}", .folder.display(), .own.display())]
    OwnFiles {
        /// What was wanted.
        folder: PathBuf,
        /// `BOT_BOTTLE_HOME`.
        own: PathBuf,
    },
    /// With credentials.
    #[error("{} cannot be a workspace: {} is where {program} keeps credentials", .folder.display(), .store.display())]
    Credentials {
        /// What was wanted.
        folder: PathBuf,
        /// The file or folder.
        store: PathBuf,
        /// What keeps them there.
        program: &'static str,
    },
}

impl Hint for WorkspaceError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("change to the folder of one project, and start there".into())
    }
}

/// Checks a folder. All three paths are absolute; links in them are followed first.
///
/// # Errors
/// See [`WorkspaceError`]. Nothing overrides it.
pub fn check(folder: &Path, home: &Path, own: &Path) -> Result<(), WorkspaceError> {
    // A path that cannot be resolved does not exist; it is compared as it is written.
    let resolved = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let (folder, home, own) = (resolved(folder), resolved(home), resolved(own));
    if folder.parent().is_none() {
        return Err(WorkspaceError::Root);
    }
    if folder == home {
        return Err(WorkspaceError::Home(folder));
    }
    if home.starts_with(&folder) {
        return Err(WorkspaceError::AboveHome { folder, home });
    }
    // Folders inside it are refused too: manifests define the boundary, and the state holds other runs.
    if own.starts_with(&folder) || folder.starts_with(&own) {
        return Err(WorkspaceError::OwnFiles { folder, own });
    }
    // The stores of the operator's home, whether they lie in the folder or it in them, and those of the
    // folder itself, which may be another user's home.
    for root in [&home, &folder] {
        for (path, source) in CREDENTIAL_STORES {
            let Ok(store) = fs::canonicalize(root.join(path)) else { continue };
            if store.starts_with(&folder) || folder.starts_with(&store) {
                let program = source.split(',').next().unwrap_or(source);
                return Err(WorkspaceError::Credentials { folder: folder.clone(), store, program });
            }
        }
    }
    Ok(())
}

/// Why a folder cannot be copied as it should be.
#[derive(Debug, Error)]
pub enum NoCopyError {
    /// Its git repository cannot come along.
    #[error(transparent)]
    Git(#[from] GitMetadataError),
    /// What is to be left out cannot be understood.
    #[error(transparent)]
    Exclusion(#[from] ExclusionError),
}

impl Hint for NoCopyError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Git(error) => error.hint(),
            Self::Exclusion(error) => error.hint(),
        }
    }
}

/// What of git's own files a copy of a folder will not have, credentials above all: a line for each file, without
/// any value.
///
/// # Errors
/// When the copy would be no repository, though the folder is one or is in one; or when a pattern of what is to be
/// left out is none.
pub fn left_out(folder: &Path, home: &Path, exclude: &[String]) -> Result<Vec<String>, NoCopyError> {
    Exclusions::read(folder, exclude)?;
    let metadata = git_metadata::find(folder, home)?;
    let mut lines = GitCredentials::find(folder).removed();
    if let GitMetadata::Elsewhere { own, common } = &metadata {
        let place = Path::new(".git");
        let folders = [common, own].into_iter().skip(usize::from(own == common));
        lines.extend(folders.flat_map(|folder| GitCredentials::find_moved(folder, place).removed()));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_home_and_no_folder_of_keys_is_a_workspace() {
        let top = tempfile::tempdir().expect("a folder");
        let top = fs::canonicalize(top.path()).expect("resolved");
        let at = |name: &str| top.join(name);
        for folder in [
            "ada/project/src",
            "ada/.config/gh",
            "ada/.ssh",
            "ada/.bot-bottle/state",
            "bob/.kube",
            "ada/.azure/x",
        ] {
            fs::create_dir_all(at(folder)).expect("a folder");
        }
        for file in ["ada/.config/gh/hosts.yml", "ada/.ssh/id_rsa", "bob/.kube/config"] {
            fs::write(at(file), b"x").expect("a file");
        }
        symlink(at("ada"), at("link")).expect("a link");
        symlink(at("ada/.ssh"), at("ada/project/keys")).expect("a link");
        let check = |folder: &Path| super::check(folder, &at("ada"), &at("ada/.bot-bottle"));

        assert_eq!(check(Path::new("/")), Err(WorkspaceError::Root));
        for home in ["ada", "link", "ada/project/.."] {
            assert_eq!(check(&at(home)), Err(WorkspaceError::Home(at("ada"))), "{home}");
        }
        assert!(matches!(check(&top), Err(WorkspaceError::AboveHome { .. })));
        for own in ["ada/.bot-bottle", "ada/.bot-bottle/state"] {
            assert!(matches!(check(&at(own)), Err(WorkspaceError::OwnFiles { .. })), "{own}");
        }
        for (folder, program) in [
            ("ada/.config", "gh"),
            ("ada/.config/gh", "gh"),
            ("ada/.ssh", "OpenSSH"),
            ("ada/project/keys", "OpenSSH"),
            ("bob", "kubectl"),
            ("ada/.azure/x", "Azure CLI"),
        ] {
            let error = check(&at(folder)).expect_err(folder);
            assert!(
                matches!(error, WorkspaceError::Credentials { program: found, .. } if found == program),
                "{error}"
            );
        }
        for honest in ["ada/project", "ada/project/src", "link/project"] {
            assert_eq!(check(&at(honest)), Ok(()), "{honest}");
        }
    }

    #[test]
    fn every_store_has_its_source_once() {
        assert!(CREDENTIAL_STORES.is_sorted_by_key(|(path, _)| *path));
        for (path, source) in CREDENTIAL_STORES {
            assert!(source.contains(", "), "{path}");
        }
    }
}
