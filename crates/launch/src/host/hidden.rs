//! Files among the host's programs that a bottle does not see: those that are not readable for everybody, and
//! the places below the system's folders where tools keep credentials.
//!
//! Where the operator is not root, a bottle runs as the operator on the host, so the kernel would let it read
//! all that the operator may read there.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where people put files beside what distributions install. The rest of `/usr` is not walked: a
/// distribution's packages have no secrets of this host in them, and looking at all of it takes longer than
/// the bottle's start.
const WALKED: [&str; 3] = ["/opt", "/usr/etc", "/usr/local"];

/// Settings of the whole system that hold credentials on some host, mostly readable for everybody: what
/// [`super::facts`] leaves out of `/etc`, in the other places where the same tools look for it.
///
/// | files | read by | source |
/// |---|---|---|
/// | `npmrc` | npm, pnpm | <https://docs.npmjs.com/cli/configuring-npm/npmrc> (global, built-in) |
/// | `.yarnrc` | yarn | <https://classic.yarnpkg.com/en/docs/yarnrc> |
/// | `pip.conf` | pip | <https://pip.pypa.io/en/stable/topics/configuration/> (site) |
/// | `.condarc`, `condarc` | conda | <https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/use-condarc.html> |
/// | `gitconfig` | git | <https://git-scm.com/docs/git-config> (`$(prefix)/etc/gitconfig`) |
/// | `settings.xml` | Maven | <https://maven.apache.org/settings.html> (`${maven.home}/conf`) |
/// | `config.toml`, `credentials.toml` | cargo | <https://doc.rust-lang.org/cargo/reference/config.html> (`CARGO_HOME` of images) |
/// | `gemrc` | RubyGems | <https://guides.rubygems.org/command-reference/> |
/// | `wgetrc` | wget | <https://www.gnu.org/software/wget/manual/html_node/Wgetrc-Location.html> |
/// | `properties` | gcloud | <https://cloud.google.com/sdk/docs/properties> (installation) |
const CREDENTIALS: &[&str] = &[
    "/opt/conda/.condarc",
    "/opt/conda/condarc",
    "/opt/google-cloud-sdk/properties",
    "/opt/maven/conf/settings.xml",
    "/usr/etc/gemrc",
    "/usr/etc/gitconfig",
    "/usr/etc/npmrc",
    "/usr/etc/pip.conf",
    "/usr/etc/wgetrc",
    "/usr/lib/google-cloud-sdk/properties",
    "/usr/lib/node_modules/npm/npmrc",
    "/usr/local/cargo/config",
    "/usr/local/cargo/config.toml",
    "/usr/local/cargo/credentials",
    "/usr/local/cargo/credentials.toml",
    "/usr/local/etc/gemrc",
    "/usr/local/etc/gitconfig",
    "/usr/local/etc/npmrc",
    "/usr/local/etc/pip.conf",
    "/usr/local/etc/wgetrc",
    "/usr/local/lib/node_modules/npm/npmrc",
    "/usr/local/pip.conf",
    "/usr/local/share/.npmrc",
    "/usr/local/share/.yarnrc",
    "/usr/local/share/.yarnrc.yml",
    "/usr/pip.conf",
    "/usr/share/maven/conf/settings.xml",
    "/usr/share/nodejs/npm/npmrc",
];

/// How many hidden paths the note names.
const NAMED: usize = 4;

/// Read and search permission of everybody, chmod(2).
const EVERYBODY_READS: u32 = 0o004;
const EVERYBODY_ENTERS: u32 = 0o001;

/// Finds what is hidden below these folders, which a bottle sees through overlays. `etc` are those of `/etc`;
/// `own` are folders of the operator's.
pub(super) fn find<'a>(
    folders: impl Iterator<Item = &'a Path> + Clone,
    etc: impl Iterator<Item = &'a Path>,
    own: &[&Path],
) -> Vec<PathBuf> {
    let is_shown = |path: &Path| folders.clone().any(|folder| path.starts_with(folder));
    let walked = WALKED.iter().map(Path::new).filter(|path| is_shown(path)).chain(etc);
    let mut hidden: Vec<_> = walked.flat_map(closed).collect();
    let credentials = CREDENTIALS.iter().map(Path::new).filter(|path| is_shown(path));
    // A home below a folder of programs: that of a service, or where /home is a link.
    let own = own.iter().filter_map(|path| fs::canonicalize(path).ok());
    hidden.extend(own.filter(|path| is_shown(path)));
    hidden.extend(credentials.filter(|path| fs::symlink_metadata(path).is_ok()).map(PathBuf::from));
    hidden.sort();
    // What lies below something that is hidden is hidden with it.
    hidden.dedup_by(|later, earlier| later.starts_with(&*earlier));
    hidden
}

/// Whether a folder of programs is one of the operator's own, or lies in one, so that no bottle sees it at
/// all. Not so for `/`, which is the home of users that have none.
pub(super) fn is_all_of(own: &Path, folder: &Path) -> bool {
    fs::canonicalize(own).is_ok_and(|own| own.parent().is_some() && folder.starts_with(own))
}

/// A note for the operator, if anything is hidden.
pub(crate) fn note(hidden: &[PathBuf]) -> Option<String> {
    let named =
        hidden.iter().take(NAMED).map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let further = match hidden.len().saturating_sub(NAMED) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    (!hidden.is_empty()).then(|| {
        format!("hidden from the bottle, as closed to others or a place of credentials: {named}{further}")
    })
}

/// Everything below a folder that not everybody may read. Closed folders are not searched, nor are mounts,
/// which an overlay does not show.
fn closed(root: &Path) -> Vec<PathBuf> {
    let Ok(metadata) = fs::metadata(root) else { return Vec::new() };
    let device = metadata.dev();
    let (mut closed, mut waiting) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = waiting.pop() {
        // A folder that the operator cannot list, the bottle cannot list either.
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            // A link shows nothing that its target does not.
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                continue;
            }
            let Ok(metadata) = entry.metadata() else { continue };
            let needed = if metadata.is_dir() { EVERYBODY_ENTERS } else { EVERYBODY_READS };
            if metadata.mode() & needed == 0 {
                closed.push(entry.path());
            } else if metadata.is_dir() && metadata.dev() == device {
                waiting.push(entry.path());
            }
        }
    }
    closed
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_is_closed_to_others_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["open/inner", "private/inner", "listed-by-its-owner"] {
            fs::create_dir_all(at(name)).expect("a folder");
        }
        let modes = [
            ("open/token", 0o600),
            ("open/group", 0o640),
            ("open/inner/tool", 0o750),
            ("open/inner/program", 0o755),
            ("private/inner/token", 0o644),
            ("listed-by-its-owner/token", 0o600),
        ];
        for (name, mode) in modes {
            fs::write(at(name), b"x").expect("a file");
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        symlink(at("open/token"), at("link")).expect("a link");
        for (name, mode) in [("private", 0o700), ("listed-by-its-owner", 0o711)] {
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let mut found = closed(folder.path());
        found.sort();
        let expected =
            ["listed-by-its-owner/token", "open/group", "open/inner/tool", "open/token", "private"];
        assert_eq!(found, expected.map(at));
    }

    #[test]
    fn credentials_lie_where_a_bottle_looks() {
        let top = ["/opt", "/usr"].map(Path::new);
        for path in CREDENTIALS {
            assert!(top.iter().any(|folder| Path::new(path).starts_with(folder)), "{path}");
        }
        assert!(CREDENTIALS.is_sorted());
    }
}
