//! The two processes of a bottle that are copies of this binary: the gateway and the sandbox.

use std::{
    ffi::{CStr, CString},
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    time::Duration,
};

use bot_bottle_core::gateway_config::{GatewayReady, GatewayStart};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Gid, Mode, OFlags, Uid, open},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, getegid, geteuid},
};

use crate::{
    channel::Channel,
    place::Owner,
    sys::{self, Go},
};

use super::{
    cgroup::Group,
    error::{LaunchError, Prerequisite},
    grouping,
    protocol::FromInit,
    undo::{Undo, UndoStack},
};

/// How long the gateway or the sandbox may take for one answer while the bottle starts.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a gateway that has closed its socket may take to end.
const LAST_WORDS_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Longest answer of the gateway, in bytes.
const MAX_READY_BYTES: u64 = 256 << 10;

/// What is shown of a log when its process failed, in bytes.
const LOG_TAIL_BYTES: usize = 2000;

/// Every namespace but that of time, which nothing here needs.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

/// As whom of the host a bottle runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostUser {
    /// As the operator, who is not root.
    Operator,
    /// As this one, because the operator is root, and what runs as root may read `/etc/shadow` even in a
    /// user namespace.
    Subordinate(u32),
}

/// First of the numbers that login programs do not give to people.
const FIRST_SUBORDINATE: u32 = 100_000;

/// Below this are the users of the system and the first people, login.defs(5).
const FIRST_OF_NOBODY: u32 = 10_000;

/// How many numbers useradd(8) gives to a person.
const USUAL_COUNT: u32 = 65_536;

impl HostUser {
    /// One of root's subordinate users, or if it has none, one that is nobody's: another for each launcher, because what
    /// the kernel counts for a user would be shared between bottles. In a container that gives its root no other user,
    /// root, if it is not the root of the host.
    pub(super) fn choose(launcher: Pid) -> Result<Self, LaunchError> {
        if !geteuid().is_root() {
            return Ok(Self::Operator);
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let wanted = subordinate(&read("/etc/subuid"), launcher.as_raw_pid().unsigned_abs());
        let (users, groups) = (read("/proc/self/uid_map"), read("/proc/self/gid_map"));
        match known(wanted, &users, &groups) {
            Some(user) => Ok(Self::Subordinate(user)),
            None if is_root_outside(&users) => Err(LaunchError::Missing(Prerequisite {
                problem: "this user namespace has no user but the root of the one outside, as which a bottle could \
                          read root's files"
                    .to_owned(),
                remedy: "start bot-bottle as an ordinary user, or in a namespace with more users".to_owned(),
            })),
            None => Ok(Self::Operator),
        }
    }

    /// Who owns what the bottle may write, if it has to be given away.
    pub(super) fn owner(self) -> Owner {
        match self {
            Self::Operator => None,
            Self::Subordinate(user) => Some((Uid::from_raw(user), Gid::from_raw(user))),
        }
    }

    /// Gives the bottle's user namespace its one user and group. Whether its first process can leave the
    /// operator's supplementary groups, by which it could read files that are closed to everybody else.
    fn map(self, pid: Pid) -> io::Result<Go> {
        let (user, group) = match self {
            Self::Operator => (geteuid().as_raw(), getegid().as_raw()),
            Self::Subordinate(user) => (user, user),
        };
        let folder = format!("/proc/{}", pid.as_raw_pid());
        let group_map = format!("0 {group} 1\n");
        fs::write(format!("{folder}/uid_map"), format!("0 {user} 1\n"))?;
        // Who has CAP_SETGID outside may map a group and leave setgroups(2) to the namespace; for others the
        // kernel wants it denied first, because a group can be used to take a right away, user_namespaces(7).
        // The namespace of the programs, below this one, has it denied in either case.
        match fs::write(format!("{folder}/gid_map"), &group_map) {
            // A namespace inherits the denial from the one above it: a container's, say.
            Ok(()) if fs::read_to_string(format!("{folder}/setgroups"))?.trim() == "allow" => {
                Ok(Go::WithoutGroups)
            }
            Ok(()) => Ok(Go::On),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                fs::write(format!("{folder}/setgroups"), "deny")?;
                fs::write(format!("{folder}/gid_map"), group_map)?;
                Ok(Go::On)
            }
            Err(error) => Err(error),
        }
    }
}

/// `table` is `/etc/subuid`: name, first number, count. `which` chooses one of the range.
fn subordinate(table: &str, which: u32) -> u32 {
    let ranges = table.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let (name, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, first.parse::<u32>().ok()?, count.parse::<u32>().ok()?))
    });
    let mut beyond = FIRST_SUBORDINATE;
    for (name, first, count) in ranges {
        // A table that gives root the numbers of the system's own users, or people's, is not followed.
        if matches!(name, "root" | "0") && count > 0 && first >= FIRST_OF_NOBODY {
            return first.saturating_add(which % count);
        }
        beyond = beyond.max(first.saturating_add(count));
    }
    beyond.saturating_add(which % USUAL_COUNT)
}

/// Whether user 0 of a map is user 0 of the namespace above it, which may be the host's.
fn is_root_outside(users: &str) -> bool {
    users.lines().any(|line| {
        let mut fields = line.split_whitespace();
        (fields.next(), fields.next()) == (Some("0"), Some("0"))
    })
}

/// The number that was wanted, or else the highest that this user namespace knows as a user and as a group,
/// user_namespaces(7): a container's root does not have all of them. None if there is root alone.
fn known(wanted: u32, users: &str, groups: &str) -> Option<u32> {
    let ranges = |table: &str| -> Vec<(u32, u32)> {
        let fields = table.lines().map(|line| line.split_whitespace().map_while(|field| field.parse().ok()));
        let fields = fields.filter_map(|mut fields| Some((fields.next()?, fields.next()?, fields.next()?)));
        fields.map(|(first, _, count): (u32, u32, u32)| (first, first.saturating_add(count - 1))).collect()
    };
    let (users, groups) = (ranges(users), ranges(groups));
    let contains =
        |ranges: &[(u32, u32)], id: u32| ranges.iter().any(|(first, last)| (*first..=*last).contains(&id));
    let last_of_each = users.iter().chain(&groups).map(|(_, last)| *last);
    let mut candidates: Vec<u32> = last_of_each.filter(|id| *id != 0).collect();
    candidates.sort_unstable();
    candidates.push(wanted);
    candidates.into_iter().rev().find(|id| contains(&users, *id) && contains(&groups, *id))
}

/// The gateway's process.
pub(super) struct GatewayProcess {
    control: UnixStream,
    channel: Channel,
    pub(super) process: OwnedFd,
    pub(super) pid: Pid,
}

/// The bottle's first process.
pub(super) struct Sandbox {
    pub(super) channel: Channel,
    pub(super) process: OwnedFd,
    pub(super) pid: Pid,
}

/// This program's file.
pub(super) struct Executable {
    file: File,
    path: CString,
}

impl Executable {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, path: CString::new(path.as_os_str().as_bytes())? })
    }
}

/// A process that is about to start.
struct Part<'a> {
    executable: &'a Executable,
    arguments: &'a [&'a CStr],
    /// `CLONE_NEW*`; with any it is the bottle's first process, without it runs on the host.
    namespaces: libc::c_int,
    control: BorrowedFd<'a>,
    log: &'a Path,
}

/// Starts the gateway, which gets its listeners and secrets later.
pub(super) fn start_gateway(
    executable: &Executable,
    config: &Path,
    log: &Path,
    undo: &mut UndoStack,
) -> io::Result<GatewayProcess> {
    let (ours, theirs) = UnixStream::pair()?;
    let config = CString::new(config.as_os_str().as_bytes())?;
    let arguments = [c"bot-bottle", c"gateway", c"--control-fd", c"3", c"--config", &config];
    let part = Part { executable, arguments: &arguments, namespaces: 0, control: theirs.as_fd(), log };
    let (pid, process) = start(&part, undo, |_| Ok(Go::On))?;
    ours.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    ours.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(GatewayProcess { channel: Channel::new(ours.try_clone()?.into()), control: ours, process, pid })
}

impl GatewayProcess {
    /// Hands over what the gateway may know, and the sockets where it listens.
    pub(super) fn hand_over(&self, start: &GatewayStart, listeners: &[OwnedFd]) -> io::Result<()> {
        let descriptors: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        self.channel.send(start, &descriptors)
    }

    /// Waits until the gateway serves.
    pub(super) fn ready(&self, log: &Path) -> Result<GatewayReady, LaunchError> {
        let mut line = String::new();
        let read = BufReader::new((&self.control).take(MAX_READY_BYTES)).read_line(&mut line);
        let failed = |why: String| LaunchError::Gateway { why };
        match read {
            Ok(_) if line.ends_with('\n') => serde_json::from_str(&line)
                .map_err(|error| failed(format!("its answer is unreadable: {error}"))),
            // Its socket is closed before it has written why it ends.
            Ok(_) => {
                let _ = poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&LAST_WORDS_TIMEOUT));
                Err(failed(tail(log)))
            }
            Err(error) => Err(failed(format!("no answer ({error})"))),
        }
    }
}

/// The end of a log, or what to say if there is none.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).trim().to_owned();
    if text.is_empty() { "it ended without a word".to_owned() } else { text }
}

/// Starts the bottle's first process, in namespaces of its own.
pub(super) fn start_sandbox(
    executable: &Executable,
    user: HostUser,
    groups: &[Group],
    log: &Path,
    undo: &mut UndoStack,
) -> io::Result<Sandbox> {
    let (ours, theirs) = Channel::pair()?;
    ours.set_timeout(Some(ANSWER_TIMEOUT))?;
    let arguments = [c"bot-bottle", c"sandbox-init", c"3"];
    let part =
        Part { executable, arguments: &arguments, namespaces: NAMESPACES, control: theirs.as_fd(), log };
    let (pid, process) = start(&part, undo, |pid| {
        groups.iter().try_for_each(|group| grouping::enter(group, pid))?;
        user.map(pid)
    })?;
    Ok(Sandbox { channel: ours, process, pid })
}

impl Sandbox {
    /// The next message, which has to come while the bottle starts.
    pub(super) fn expect(&self) -> Result<(FromInit, Vec<OwnedFd>), LaunchError> {
        let lost =
            |source| LaunchError::Sandbox { doing: "waiting for the first process".to_owned(), source };
        match self.channel.receive().map_err(lost)? {
            Some((FromInit::Failed { doing, errno: 0 }, _)) => {
                Err(LaunchError::Sandbox { doing, source: io::Error::other("unexpected") })
            }
            Some((FromInit::Failed { doing, errno }, _)) => {
                Err(LaunchError::Sandbox { doing, source: io::Error::from_raw_os_error(errno) })
            }
            Some(message) => Ok(message),
            None => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn start(
    part: &Part<'_>,
    undo: &mut UndoStack,
    before_it_runs: impl FnOnce(Pid) -> io::Result<Go>,
) -> io::Result<(Pid, OwnedFd)> {
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(part.log)?;
    let (gate, opener) = pipe_with(PipeFlags::CLOEXEC)?;
    let is_sandbox = part.namespaces != 0;
    let (pid, process) = sys::spawn(&sys::Spawn {
        executable: part.executable.file.as_fd(),
        sealed: is_sandbox.then_some(&part.executable.path),
        arguments: part.arguments,
        namespaces: part.namespaces,
        become_root: is_sandbox,
        descriptors: [null.as_fd(), log.as_fd(), log.as_fd(), part.control],
        gate: gate.as_fd(),
        opener: opener.as_fd(),
    })?;
    undo.push(Undo::Process(pid, process.try_clone()?));
    let go = before_it_runs(pid)?;
    rustix::io::write(&opener, &[go.byte()])?;
    Ok((pid, process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_root_uses_a_number_that_it_has() {
        let all = "         0          0 4294967295\n";
        assert_eq!(known(100_000, all, all), Some(100_000));
        let some = "0 1000 1\n1 100000 65536\n";
        assert_eq!(known(100_000, some, some), Some(65_536));
        assert_eq!(known(100_000, some, "0 1000 1\n1 100000 500\n"), Some(500));
        assert_eq!(known(100_000, "0 1000 1\n", "0 1000 1\n"), None);
        assert_eq!(known(100_000, "", "nonsense"), None);
    }

    #[test]
    fn the_root_of_the_host_is_told_from_another() {
        assert!(is_root_outside("         0          0          1\n"));
        assert!(!is_root_outside("         0       1000          1\n"));
        assert!(!is_root_outside("1000 0 1\n"));
    }

    #[test]
    fn root_uses_its_own_range_or_one_that_is_nobodys() {
        assert_eq!(subordinate("", 0), 100_000);
        assert_eq!(subordinate("ada:100000:65536\nroot:300000:65536\n", 7), 300_007);
        assert_eq!(subordinate("root:300000:10\n", 27), 300_007);
        assert_eq!(subordinate("root:0:65536\n", 5), 100_005, "not a user of the system");
        assert_eq!(subordinate("root:4294967290:65536\n", 60_000), u32::MAX);
        assert_eq!(subordinate("ada:100000:65536\nbob:165536:65536\nnonsense\n", 1), 231_073);
    }
}
