//! The parts of the host's file system that a bottle is made of, as data.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{hidden, shares::Shares};

/// The parts of the host that a bottle uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Folders and links at the top, by path, among [`TOP_ENTRIES`].
    pub top: BTreeMap<PathBuf, EntryKind>,
    /// Entries of `/etc`, by path, among [`ETC_ENTRIES`].
    pub etc: BTreeMap<PathBuf, EntryKind>,
    /// Where this host keeps the bundle of its certificate authorities, among [`BUNDLES`].
    pub bundles: Vec<PathBuf>,
    /// Files and folders below the folders above that a bottle does not see.
    pub hidden: Vec<PathBuf>,
    /// The bottle's part of what the kernel counts.
    pub shares: Shares,
    /// Which of the folders above hold a socket that some process of the host listens at.
    pub sockets: Vec<PathBuf>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A folder.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link to this.
    Symlink(PathBuf),
}

/// What a bottle sees of the host's root: programs and their libraries.
const TOP_ENTRIES: [&str; 12] = [
    "/bin", "/gnu", "/lib", "/lib32", "/lib64", "/libexec", "/libx32", "/nix", "/opt", "/sbin", "/snap",
    "/usr",
];

/// What a bottle sees of the host's `/etc`: what programs need to run and that is the same for everybody.
/// Nothing that holds a credential on some host (`npmrc`, `pip.conf`, `apt/auth.conf.d`, `ssh`, `maven`,
/// `gitconfig`), and nothing that sets variables for everybody (`environment`, `profile`, `bash.bashrc`),
/// since tokens and proxies with passwords are set there.
const ETC_ENTRIES: &[&str] = &[
    "/etc/alternatives",
    "/etc/bindresvport.blacklist",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/ethertypes",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/gdb",
    "/etc/groff",
    "/etc/host.conf",
    "/etc/inputrc",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/java-25-openjdk",
    "/etc/java",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/libaudit.conf",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/localtime",
    "/etc/lsb-release",
    "/etc/magic",
    "/etc/magic.mime",
    "/etc/manpath.config",
    "/etc/mime.types",
    "/etc/mtab",
    "/etc/networks",
    "/etc/os-release",
    "/etc/perl",
    "/etc/pki/ca-trust",
    "/etc/pki/java",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/openssl.cnf",
    "/etc/protocols",
    "/etc/python3",
    "/etc/python3.9",
    "/etc/python3.10",
    "/etc/python3.11",
    "/etc/python3.12",
    "/etc/python3.13",
    "/etc/python3.14",
    "/etc/redhat-release",
    "/etc/rpc",
    "/etc/services",
    "/etc/sgml",
    "/etc/shells",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
    "/etc/timezone",
    "/etc/xml",
];

/// Where distributions keep their bundle.
pub(crate) const BUNDLES: &[&str] = &[
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/tls/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-certificates.crt",
];

impl HostFacts {
    /// Looks at the host. `own` are folders of the operator's that no bottle sees, wherever they lie.
    #[must_use]
    pub fn gather(own: &[&Path]) -> Self {
        let look = |paths: &[&str]| -> BTreeMap<PathBuf, EntryKind> {
            paths.iter().filter_map(|path| Some((PathBuf::from(path), kind(Path::new(path))?))).collect()
        };
        let mut facts = Self {
            top: look(&TOP_ENTRIES),
            etc: look(ETC_ENTRIES),
            bundles: BUNDLES.iter().map(PathBuf::from).filter(|path| path.exists()).collect(),
            hidden: Vec::new(),
            shares: Shares::of_the_host(),
            sockets: Vec::new(),
        };
        facts.top.retain(|path, _| !own.iter().any(|own| hidden::is_all_of(own, path)));
        let etc = directories(&facts.etc);
        facts.hidden = hidden::find(directories(&facts.top).chain(etc.clone()), etc, own);
        facts.sockets = facts.folders_with_sockets(&fs::read_to_string("/proc/net/unix").unwrap_or_default());
        facts
    }

    /// `table` is `/proc/net/unix`, whose eighth column is the path of a socket.
    fn folders_with_sockets(&self, table: &str) -> Vec<PathBuf> {
        let sockets: Vec<&Path> =
            table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7)).map(Path::new).collect();
        let folders = directories(&self.top).chain(directories(&self.etc));
        folders
            .filter(|folder| sockets.iter().any(|socket| socket.starts_with(folder)))
            .map(PathBuf::from)
            .collect()
    }
}

/// The host's own certificate authorities, PEM; empty where it has none.
pub(crate) fn system_roots() -> String {
    BUNDLES.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default()
}

fn directories(entries: &BTreeMap<PathBuf, EntryKind>) -> impl Iterator<Item = &Path> + Clone {
    entries.iter().filter(|(_, kind)| **kind == EntryKind::Directory).map(|(path, _)| path.as_path())
}

fn kind(path: &Path) -> Option<EntryKind> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if metadata.is_dir() {
        Some(EntryKind::Directory)
    } else if metadata.is_file() {
        Some(EntryKind::File)
    } else if metadata.is_symlink() {
        fs::read_link(path).ok().map(EntryKind::Symlink)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_a_socket_is_known() {
        let folder = |path: &str| (PathBuf::from(path), EntryKind::Directory);
        let facts = HostFacts { top: [folder("/opt"), folder("/usr")].into(), ..HostFacts::default() };
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000: 00000002 00000000 00010000 0001 01 1234 /opt/service/socket\n\
                     0000: 00000002 00000000 00010000 0001 01 1235 /usrlocal/socket\n\
                     0000: 00000002 00000000 00010000 0001 01 1236 @/usr/abstract\n";
        assert_eq!(facts.folders_with_sockets(table), [PathBuf::from("/opt")]);
    }
}
