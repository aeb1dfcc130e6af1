//! Takes every privilege from a program in a bottle.

use std::{
    fs,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
};

use libc::sock_filter;
use rustix::{
    fs::{Gid, Uid},
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Resource, Rlimit, WaitOptions, setrlimit, waitpid},
    thread::{
        CapabilitiesSecureBits, CapabilitySet, CapabilitySets, LinkNameSpaceType,
        clear_ambient_capability_set, move_into_link_name_space, remove_capability_from_bounding_set,
        set_capabilities, set_capabilities_secure_bits, set_no_new_privs, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::sys;

use super::spec::Confinement;

/// Linux 6.18 has capabilities up to 40; all that a set can hold are dropped, so that a newer one is not
/// kept.
const MAX_CAPABILITIES: u32 = 64;

/// How a program comes to be the agent's user.
pub(crate) enum AgentUser {
    /// It enters this user namespace, which has no other user.
    In(OwnedFd),
    /// The first process is that user already.
    Own,
}

/// Makes the user namespace that all programs of the bottle share, with one user in it. It is below that of
/// the bottle's first process and owns nothing: no mount, no network, no other namespace.
pub(crate) fn agent_namespace(user: u32) -> io::Result<OwnedFd> {
    let (ready_read, ready_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let (done_read, done_write) = pipe_with(PipeFlags::CLOEXEC)?;
    let holder = sys::fork(|| {
        if let Err(error) = sys::unshare(libc::CLONE_NEWUSER) {
            return error.raw_os_error().unwrap_or(1);
        }
        // The namespace has to last until the maps are written and it is held by a descriptor.
        let _ = rustix::io::write(&ready_write, b"x");
        let _ = rustix::io::read(&done_read, &mut [0_u8; 1]);
        0
    })?;
    drop(ready_write);
    let made = fs::File::from(ready_read).read(&mut [0; 1])? == 1;
    let namespace = if made { map_and_open(holder, user) } else { Err(io::ErrorKind::Other.into()) };
    rustix::io::write(&done_write, b"x")?;
    match waitpid(Some(holder), WaitOptions::empty())?.and_then(|(_, status)| status.exit_status()) {
        Some(0) | None => namespace,
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn map_and_open(holder: Pid, user: u32) -> io::Result<OwnedFd> {
    let folder = format!("/proc/{}", holder.as_raw_pid());
    fs::write(format!("{folder}/setgroups"), "deny")?;
    fs::write(format!("{folder}/uid_map"), format!("{user} 0 1\n"))?;
    fs::write(format!("{folder}/gid_map"), format!("{user} 0 1\n"))?;
    Ok(fs::File::open(format!("{folder}/ns/user"))?.into())
}

/// Drops every capability of this process and of its children. Its user keeps those over the user namespaces
/// that it made, which is what lets it start programs in them.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    for bit in 0..MAX_CAPABILITIES {
        // EINVAL: the kernel does not have this capability.
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    Ok(())
}

/// Becomes a user that is not root, with its group alone, and keeps the capabilities that are given up next.
pub(crate) fn become_user(user: u32) -> io::Result<()> {
    // Without it the kernel takes CAP_SETPCAP together with uid 0, capabilities(7).
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// Makes this process the agent's user in a user namespace that owns nothing, without capabilities, under the
/// seccomp filter. It cannot be undone.
pub(super) fn confine(confinement: &Confinement, user: &AgentUser, filter: &[sock_filter]) -> io::Result<()> {
    if let Some(bytes) = confinement.file_size {
        setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), maximum: Some(bytes) })?;
    }
    match user {
        AgentUser::In(namespace) => {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
            // The kernel has just given it all capabilities in that namespace, the bounding set included.
            drop_capabilities()?;
        }
        // The first process has dropped them all, and the bounding set, for good.
        AgentUser::Own => set_no_new_privs(true)?,
    }
    sys::install_filter(filter)
}
