//! What a machine is made of.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{MachineName, SmolvmError};

/// A machine that is to be created.
///
/// Programs are started in it with [`Smolvm::exec`](crate::Smolvm::exec).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSpec {
    /// Its name.
    pub name: MachineName,
    /// The folder of a root file system, which is not written to, or an archive of `docker save`. Absolute.
    pub image: PathBuf,
    /// What it may use of the host.
    pub resources: Resources,
    /// What it reaches.
    pub network: Network,
    /// Folders of the host that it can read.
    pub mounts: Vec<ReadOnlyMount>,
    /// Unix sockets of the host that it can connect to.
    pub sockets: Vec<SocketMount>,
    /// By which its owner finds it again.
    pub labels: BTreeMap<String, String>,
    /// The environment of its programs. smolvm keeps it in a file: nothing secret.
    pub env: BTreeMap<String, String>,
    /// The folder that programs start in; absolute.
    pub workdir: Option<PathBuf>,
    /// The user of its programs; the image's if `None`.
    pub user: Option<User>,
    /// The program that runs as long as the machine does, with its arguments. If there is none, it only sleeps, for
    /// which the image needs `sh` and `sleep`: what the image would start by itself does not run.
    pub workload: Vec<String>,
    /// The name server that answers the machine's questions, wherever they are sent; the host's own if `None`. smolvm
    /// asks it from the host.
    pub name_server: Option<IpAddr>,
}

/// What a machine may use of the host. smolvm's own values would be 4 processors and 8 GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Virtual processors.
    pub cpus: u8,
    /// Memory, in MiB; at least 64.
    pub memory_mib: u32,
    /// The disk that layers and volumes are on, in GiB.
    pub storage_gib: u32,
    /// The disk for what is written to the root file system, in GiB.
    pub overlay_gib: u32,
}

/// What a machine reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Nothing: its loopback device is the only one.
    None,
    /// An interceptor gets every connection. It is named at each start, and a machine of this kind cannot be
    /// started without one.
    Interceptor,
    /// smolvm compares addresses with a list.
    AllowList(AllowList),
}

/// Hosts and networks that may be reached, at every port. It is not empty: smolvm takes an empty list for no
/// restriction at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    hosts: Vec<String>,
    networks: Vec<IpNet>,
}

/// A folder of the host that is mounted into a machine, and cannot be written to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnlyMount {
    /// Where it is on the host; absolute.
    pub host: PathBuf,
    /// Where it is in the machine; absolute.
    pub guest: PathBuf,
}

/// A listening unix socket of the host that programs in a machine can connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketMount {
    /// Where it is on the host; absolute.
    pub host: PathBuf,
    /// Where it is in the machine; absolute.
    pub guest: PathBuf,
}

/// A user of a machine, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// Who owns a file that is copied into a machine, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// User and group.
    pub user: User,
    /// Permission bits, as for chmod(2).
    pub mode: u32,
}

impl AllowList {
    /// Checks a list. A host stands for itself and every name below it.
    ///
    /// # Errors
    /// When it is empty, or a host is not a name.
    pub fn new(hosts: Vec<String>, networks: Vec<IpNet>) -> Result<Self, SmolvmError> {
        if hosts.is_empty() && networks.is_empty() {
            return Err(SmolvmError::invalid("the list of allowed hosts", "", "it is empty"));
        }
        let is_label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        match hosts.iter().find(|host| !host.split('.').all(is_label)) {
            Some(host) => Err(SmolvmError::invalid("an allowed host", host, "it is not a name")),
            None => Ok(Self { hosts, networks }),
        }
    }

    /// Every address, for a caller that confines smolvm itself.
    #[must_use]
    pub fn every_address() -> Self {
        let networks = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        Self { hosts: Vec::new(), networks: networks.into() }
    }

    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    pub(crate) fn networks(&self) -> &[IpNet] {
        &self.networks
    }
}

impl MachineSpec {
    /// Refuses what smolvm would understand as something else.
    pub(crate) fn check(&self) -> Result<(), SmolvmError> {
        host_path("the image", &self.image)?;
        for (host, guest) in self
            .mounts
            .iter()
            .map(|mount| (&mount.host, &mount.guest))
            .chain(self.sockets.iter().map(|socket| (&socket.host, &socket.guest)))
        {
            host_path("a mount of the host", host)?;
            guest_path("a mount point", guest)?;
        }
        if let Some(workdir) = &self.workdir {
            guest_path("the working directory", workdir)?;
        }
        self.labels.keys().try_for_each(|key| key_of_pair("a label", key))?;
        self.env.keys().try_for_each(|key| key_of_pair("a variable", key))
    }
}

pub(crate) fn host_path(what: &'static str, path: &Path) -> Result<(), SmolvmError> {
    // A relative image is the reference of a registry.
    absolute_without_colon(what, path)
}

pub(crate) fn guest_path(what: &'static str, path: &Path) -> Result<(), SmolvmError> {
    absolute_without_colon(what, path)
}

/// smolvm separates paths and their options by colons, and knows no escape.
fn absolute_without_colon(what: &'static str, path: &Path) -> Result<(), SmolvmError> {
    let bytes = path.as_os_str().as_encoded_bytes();
    if path.is_absolute() && !bytes.iter().any(|byte| *byte == b':' || byte.is_ascii_control()) {
        return Ok(());
    }
    let why = "it has to be absolute, without colons and control characters";
    Err(SmolvmError::invalid(what, &path.to_string_lossy(), why))
}

pub(crate) fn key_of_pair(what: &'static str, key: &str) -> Result<(), SmolvmError> {
    if !key.is_empty() && !key.contains(['=', '\0']) {
        return Ok(());
    }
    Err(SmolvmError::invalid(what, key, "its name is empty or has `=` in it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allow_list_names_something() {
        let list =
            |hosts: &[&str]| AllowList::new(hosts.iter().map(ToString::to_string).collect(), Vec::new());
        assert!(list(&["example.org"]).is_ok());
        assert!(AllowList::new(Vec::new(), vec!["192.0.2.0/24".parse().expect("a network")]).is_ok());
        for hosts in [&[][..], &[""], &["*.org"], &["a b"], &["-a"], &["a..b"], &["ok.org", "a:1"]] {
            assert!(list(hosts).is_err(), "{hosts:?}");
        }
    }

    #[test]
    fn paths_that_smolvm_would_split_are_refused() {
        assert!(host_path("x", Path::new("/a/b c")).is_ok());
        for path in ["", "a", "./a", "/a:ro", "/a\nb"] {
            assert!(host_path("x", Path::new(path)).is_err(), "{path}");
        }
        for key in ["", "a=b", "a\0"] {
            assert!(key_of_pair("x", key).is_err(), "{key}");
        }
    }
}
