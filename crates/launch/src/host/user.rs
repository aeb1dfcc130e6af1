//! The host's user that a bottle runs as.

use std::{fs, io};

use rustix::{
    fs::{Gid, Uid},
    process::{Pid, getegid, geteuid},
};

use crate::{files::rooted_dir::Owner, sys::Go};

use super::prerequisites::Prerequisite;

/// The host's user that a bottle runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostUser {
    /// The operator, who is not root.
    Operator,
    /// This one, because the operator is root: a process with the host's uid 0 may read `/etc/shadow` even in
    /// a user namespace.
    Subordinate(u32),
}

/// First of the numbers that login programs do not give to people.
const FIRST_SUBORDINATE: u32 = 100_000;

/// Below this are the users of the system and the first people, login.defs(5).
const FIRST_OF_NOBODY: u32 = 10_000;

/// How many numbers useradd(8) gives to a person.
const USUAL_COUNT: u32 = 65_536;

impl HostUser {
    /// Chooses one of root's subordinate users, or an unassigned one if it has none: another for each
    /// launcher, because bottles with the same user would share what the kernel counts by user. In a
    /// container whose root has no other user it is root, if that is not the root of the host.
    pub(crate) fn choose(launcher: Pid) -> Result<Self, Prerequisite> {
        if !geteuid().is_root() {
            return Ok(Self::Operator);
        }
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let wanted = subordinate(&read("/etc/subuid"), launcher.as_raw_pid().unsigned_abs());
        let (users, groups) = (read("/proc/self/uid_map"), read("/proc/self/gid_map"));
        match known(wanted, &users, &groups) {
            Some(user) => Ok(Self::Subordinate(user)),
            None if is_root_outside(&users) => Err(Prerequisite {
                problem: "this user namespace has no user but the root of the one outside, as which a bottle could \
                          read root's files"
                    .to_owned(),
                remedy: "start bot-bottle as an ordinary user, or in a namespace with more users".to_owned(),
            }),
            None => Ok(Self::Operator),
        }
    }

    /// The user that owns these files, as which a bottle can read all of them. Root has a bottle run as another
    /// user than itself each time, and a new one could not read what the last one wrote.
    pub(crate) fn owning(owner: u32) -> Self {
        if geteuid().is_root() && owner != 0 { Self::Subordinate(owner) } else { Self::Operator }
    }

    /// The owner of the bottle's writable files, if it is not the launcher's user.
    pub(crate) fn owner(self) -> Owner {
        match self {
            Self::Operator => None,
            Self::Subordinate(user) => Some((Uid::from_raw(user), Gid::from_raw(user))),
        }
    }

    /// Gives the bottle's user namespace its one user and group. Returns whether its first process can drop
    /// the operator's supplementary groups, with which it could read files that are closed to others.
    pub(crate) fn map(self, pid: Pid) -> io::Result<Go> {
        let (user, group) = match self {
            Self::Operator => (geteuid().as_raw(), getegid().as_raw()),
            Self::Subordinate(user) => (user, user),
        };
        let folder = format!("/proc/{}", pid.as_raw_pid());
        let group_map = format!("0 {group} 1\n");
        fs::write(format!("{folder}/uid_map"), format!("0 {user} 1\n"))?;
        // With CAP_SETGID outside, a group can be mapped while setgroups(2) stays allowed; without it the
        // kernel requires denying setgroups first, because dropping a group can gain access (a mode such as
        // 0705), user_namespaces(7). The namespace of the programs, below this one, has it denied in either
        // case.
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
