//! The arguments of each call, and how long it may take. Pure.
//!
//! Options are written as `--option=value`, so that no value is taken for another option.

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use crate::{
    ExecSpec, FileOwner, Limits, MachineName, MachineSpec, Network, Version,
    spec::{ReadOnlyMount, SocketMount},
};

/// What keeps a machine running between the programs that are started in it.
const WORKLOAD: [&str; 3] = ["sh", "-c", "while :; do sleep 3600; done"];

/// One run of the program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Call<'a> {
    /// Before it is known which options the program has.
    Version,
    List,
    Status(&'a MachineName),
    DataDir(&'a MachineName),
    Logs {
        name: &'a MachineName,
        lines: usize,
    },
    Create(&'a MachineSpec),
    Start {
        name: &'a MachineName,
        interceptor: Option<SocketAddr>,
    },
    Exec {
        name: &'a MachineName,
        spec: &'a ExecSpec,
    },
    CopyIn {
        name: &'a MachineName,
        from: &'a Path,
        to: &'a Path,
        owner: FileOwner,
    },
    CopyOut {
        name: &'a MachineName,
        from: &'a Path,
        to: &'a Path,
    },
    Stop {
        name: &'a MachineName,
        timeout: Duration,
    },
    Delete(&'a MachineName),
}

impl Call<'_> {
    /// What the program is given, without its own name.
    pub(crate) fn arguments(&self, version: Version, state_dir: &Path) -> Vec<OsString> {
        let mut line = Line::default();
        if !matches!(self, Self::Version) {
            line.global(version, state_dir);
        }
        match *self {
            Self::Version => line.words(["--version"]),
            Self::List => line.words(["machine", "ls", "--json"]),
            Self::Status(name) => line.verb("status", name).words(["--json"]),
            Self::DataDir(name) => line.verb("data-dir", name),
            Self::Logs { name, lines } => line.verb("logs", name).option("--tail", lines.to_string()),
            Self::Create(spec) => line.create(spec),
            Self::Start { name, interceptor } => {
                line.verb("start", name);
                if let Some(address) = interceptor {
                    line.option("--egress-interceptor", address.to_string());
                }
                &mut line
            }
            Self::Exec { name, spec } => line.exec(name, spec),
            Self::CopyIn { name, from, to, owner } => line
                .words(["machine", "cp"])
                .option("--mode", format!("{:o}", owner.mode))
                .option("--uid", owner.user.uid.to_string())
                .option("--gid", owner.user.gid.to_string())
                .words([from.as_os_str(), &inside(name, to)]),
            Self::CopyOut { name, from, to } => {
                line.words(["machine", "cp"]).words([inside(name, from).as_os_str(), to.as_os_str()])
            }
            Self::Stop { name, timeout } => {
                line.verb("stop", name).option("--timeout", seconds(timeout).to_string())
            }
            // Without --force it asks.
            Self::Delete(name) => line.verb("delete", name).words(["--force"]),
        };
        line.0
    }

    /// How long the program may run.
    pub(crate) fn limit(&self, limits: &Limits) -> Duration {
        match self {
            Self::Start { .. } => limits.start,
            // The archive of an image is copied.
            Self::Create(_) | Self::CopyIn { .. } | Self::CopyOut { .. } => limits.copy,
            Self::Stop { timeout, .. } => timeout.saturating_add(limits.call),
            _ => limits.call,
        }
    }

    /// What an error says was done: `creating the machine x`.
    pub(crate) fn action(&self) -> String {
        match self {
            Self::Version => "asking smolvm for its version".to_owned(),
            Self::List => "listing machines".to_owned(),
            Self::Status(name) => format!("asking for the state of the machine {name}"),
            Self::DataDir(name) => format!("asking for the folder of the machine {name}"),
            Self::Logs { name, .. } => format!("reading the log of the machine {name}"),
            Self::Create(spec) => format!("creating the machine {}", spec.name),
            Self::Start { name, .. } => format!("starting the machine {name}"),
            Self::Exec { name, .. } => format!("running a program in the machine {name}"),
            Self::CopyIn { name, .. } => format!("copying a file into the machine {name}"),
            Self::CopyOut { name, .. } => format!("copying a file out of the machine {name}"),
            Self::Stop { name, .. } => format!("stopping the machine {name}"),
            Self::Delete(name) => format!("deleting the machine {name}"),
        }
    }
}

/// Arguments that are put together.
#[derive(Default)]
struct Line(Vec<OsString>);

impl Line {
    fn words(&mut self, words: impl IntoIterator<Item = impl Into<OsString>>) -> &mut Self {
        self.0.extend(words.into_iter().map(Into::into));
        self
    }

    fn option(&mut self, name: &str, value: impl AsRef<OsStr>) -> &mut Self {
        let mut word = OsString::from(name);
        word.push("=");
        word.push(value);
        self.words([word])
    }

    fn verb(&mut self, verb: &str, name: &MachineName) -> &mut Self {
        self.words(["machine", verb]).option("--name", name.as_str())
    }

    /// An older smolvm keeps its state below `HOME`, which is the state directory too.
    fn global(&mut self, version: Version, state_dir: &Path) {
        self.option("--error-format", "json");
        if version.has_state_dir() {
            self.option("--state-dir", state_dir);
        }
    }

    fn create(&mut self, spec: &MachineSpec) -> &mut Self {
        self.verb("create", &spec.name).option("--image", &spec.image);
        self.option("--cpus", spec.resources.cpus.to_string());
        self.option("--mem", spec.resources.memory_mib.to_string());
        self.option("--storage", spec.resources.storage_gib.to_string());
        self.option("--overlay", spec.resources.overlay_gib.to_string());
        match &spec.network {
            Network::None => {}
            Network::Interceptor => drop(self.words(["--net"])),
            Network::AllowList(list) => {
                self.words(["--net"]);
                for host in list.hosts() {
                    self.option("--allow-host", host);
                }
                for network in list.networks() {
                    self.option("--allow-cidr", network.to_string());
                }
            }
        }
        for ReadOnlyMount { host, guest } in &spec.mounts {
            self.option("--volume", joined(&[host.as_os_str(), guest.as_os_str(), OsStr::new("ro")]));
        }
        for SocketMount { host, guest } in &spec.sockets {
            self.option("--mount-socket", joined(&[host.as_os_str(), guest.as_os_str()]));
        }
        for (key, value) in &spec.labels {
            self.option("--label", format!("{key}={value}"));
        }
        for (key, value) in &spec.env {
            self.option("--env", format!("{key}={value}"));
        }
        if let Some(workdir) = &spec.workdir {
            self.option("--workdir", workdir);
        }
        if let Some(user) = spec.user {
            self.option("--user", format!("{}:{}", user.uid, user.gid));
        }
        if let Some(server) = spec.name_server {
            self.option("--dns", server.to_string());
        }
        self.words(["--"]);
        if spec.workload.is_empty() { self.words(WORKLOAD) } else { self.words(&spec.workload) }
    }

    fn exec(&mut self, name: &MachineName, spec: &ExecSpec) -> &mut Self {
        self.verb("exec", name);
        if spec.interactive {
            self.words(["--interactive"]);
        }
        if spec.tty {
            self.words(["--tty"]);
        }
        if spec.stream {
            self.words(["--stream"]);
        }
        if let Some(timeout) = spec.timeout {
            self.option("--timeout", format!("{}s", seconds(timeout).max(1)));
        }
        if let Some(workdir) = &spec.workdir {
            self.option("--workdir", workdir);
        }
        if let Some(user) = spec.user {
            self.option("--user", format!("{}:{}", user.uid, user.gid));
        }
        for (key, value) in &spec.env {
            self.option("--env", format!("{key}={value}"));
        }
        self.words(["--"]).words(&spec.command)
    }
}

/// Rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn joined(parts: &[&OsStr]) -> OsString {
    parts.join(OsStr::new(":"))
}

fn inside(name: &MachineName, path: &Path) -> OsString {
    joined(&[OsStr::new(name.as_str()), path.as_os_str()])
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
