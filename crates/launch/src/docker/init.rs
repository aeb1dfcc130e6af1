//! Makes the agent's container a bottle, in its first process.
//!
//! The engine gives this process four capabilities, and no program of the image has run when it gives them up:
//! CAP_NET_ADMIN for the network's address, route and redirection, CAP_SETUID and CAP_SETGID to become the
//! agent's user, CAP_SETPCAP to empty the bounding set.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        fs::{OpenOptionsExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::error::{IoContext, IoError};
use rustix::{
    fs::{Gid, Uid},
    process::{DumpableBehavior, Signal, set_dumpable_behavior},
    thread::{
        CapabilitiesSecureBits, set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};

use crate::{
    channel::Channel,
    init::{
        self, Init,
        confine::{self, AgentUser},
        listen::listen,
        protocol::FromInit,
    },
    sys,
};

use super::{
    hand_over,
    link::Link,
    setup::{ContainerSetup, SystemFile, SystemFiles},
};

/// Most of the image's `/etc/passwd` that is read, in bytes.
const MAX_TABLE_BYTES: u64 = 1 << 20;

/// The permissions that `/etc/passwd` has at least: every program reads it, passwd(5).
const TABLE_MODE: u32 = 0o444;

/// Runs as the first process of an agent's container, with the process that holds the link beside it. Returns its
/// exit status.
///
/// # Errors
/// When this is not the first process of a container.
pub fn run(carry: impl FnOnce(io::Result<UnixStream>) -> i32) -> io::Result<i32> {
    let (link, control) = Link::start(carry)?;
    let status = init::serve(&Channel::new(control.into()), prepare);
    link.finish();
    Ok(status)
}

/// Makes the bottle. The order is part of the confinement:
///
/// 1. The sockets are made, and handed over, before any program of the image can run.
/// 2. The files of root's are written while this process is root; it needs no capability for that.
/// 3. Dropping capabilities and becoming undumpable come last. A change of the user makes a process dumpable
///    again, prctl(2), so it comes before.
fn prepare(channel: &Channel) -> Result<Init<'_>, IoError> {
    let setup: ContainerSetup = next(channel, "reading the setup")?;
    let listening = listen(&setup.network)?;
    if let Some(folder) = &setup.hand_over {
        hand_over::send(folder, &listening.kinds, &listening.sockets)?;
    }
    drop(listening.sockets);
    channel
        .send(&FromInit::Listening { listeners: listening.kinds }, &[])
        .io_context(|| "saying that it listens")?;
    let SystemFiles { home, files } = next(channel, "reading the files")?;
    let (user, home) = (setup.confinement.user, home.display());
    let entries = [
        ("/etc/passwd", format!("agent:x:{user}:{user}:agent:{home}:/bin/sh")),
        ("/etc/group", format!("agent:x:{user}:")),
    ];
    for (table, line) in entries {
        add_entry(Path::new(table), user, &line).io_context(|| format!("adding the agent to {table}"))?;
    }
    for file in &files {
        write(file).io_context(|| format!("writing {}", file.path.display()))?;
    }
    init::limit(&setup.confinement)?;
    let signals = sys::signal_descriptor(&[Signal::CHILD]).io_context(|| "waiting for signals")?;
    become_user(setup.confinement.user).io_context(|| "becoming the agent's user")?;
    confine::drop_capabilities().io_context(|| "giving up capabilities")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).io_context(|| "closing its memory")?;
    channel
        .send(&FromInit::Ready { notes: listening.note.into_iter().collect() }, &[])
        .io_context(|| "reporting")?;
    Ok(Init::new(channel, setup.confinement, AgentUser::Own, None, signals))
}

fn next<T: serde::de::DeserializeOwned>(channel: &Channel, doing: &'static str) -> Result<T, IoError> {
    let message = channel.receive().io_context(|| doing)?;
    let (message, _) = message.ok_or_else(|| IoError::new(doing, io::ErrorKind::UnexpectedEof))?;
    Ok(message)
}

/// Becomes a user that is not root, with its group alone, and keeps the capabilities that are given up next.
fn become_user(user: u32) -> io::Result<()> {
    // Without it the kernel takes CAP_SETPCAP together with uid 0, capabilities(7).
    set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// Writes one file. The engine may have mounted one at its place (`/etc/resolv.conf`), so it is not replaced by
/// renaming another to its name.
fn write(file: &SystemFile) -> io::Result<()> {
    if !file.create && fs::metadata(&file.path).is_err() {
        return Ok(());
    }
    let content = STANDARD.decode(&file.content).map_err(io::Error::other)?;
    if let Some(folder) = file.path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut opened = regular(&file.path, OpenOptions::new().write(true).create(true).truncate(true))?;
    opened.write_all(&content)
}

/// Adds a line to `/etc/passwd` or `/etc/group` where none has this number: programs look up their user, and some
/// end where it has no name.
fn add_entry(table: &Path, number: u32, line: &str) -> io::Result<()> {
    let mut opened = regular(table, OpenOptions::new().read(true).append(true).create(true))?;
    // Engines make an absent one for root alone, and programs look up their user in it.
    let mode = opened.metadata()?.permissions().mode();
    if mode & TABLE_MODE != TABLE_MODE {
        opened.set_permissions(Permissions::from_mode(mode | TABLE_MODE))?;
    }
    let mut text = String::new();
    Read::by_ref(&mut opened).take(MAX_TABLE_BYTES).read_to_string(&mut text)?;
    let number = number.to_string();
    // Both tables have it in the third field, passwd(5) and group(5).
    if text.lines().any(|line| line.split(':').nth(2) == Some(&number)) {
        return Ok(());
    }
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    opened.write_all(format!("{separator}{line}\n").as_bytes())
}

/// Opens a file. An image can have a FIFO there, whose opening would never return.
fn regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.mode(0o644).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the image has no ordinary file there"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_added_where_its_number_has_no_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let table = folder.path().join("passwd");
        let read = || fs::read_to_string(&table).expect("read");
        add_entry(&table, 1000, "agent:x:1000:1000::/home/agent:/bin/sh").expect("made");
        assert_eq!(read(), "agent:x:1000:1000::/home/agent:/bin/sh\n");
        fs::write(&table, "root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh")
            .expect("written");
        add_entry(&table, 1000, "agent:x:1000:1000::/home/agent:/bin/sh").expect("looked");
        assert!(!read().contains("agent"));
        fs::set_permissions(&table, Permissions::from_mode(0o600)).expect("set");
        add_entry(&table, 1001, "agent:x:1001:1001::/home/agent:/bin/sh").expect("added");
        assert_eq!(fs::metadata(&table).expect("there").permissions().mode() & 0o777, 0o644);
        assert!(read().ends_with("/home/node:/bin/sh\nagent:x:1001:1001::/home/agent:/bin/sh\n"));
    }

    #[test]
    fn what_is_no_ordinary_file_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a FIFO");
        let file = SystemFile { path: path.clone(), content: STANDARD.encode("x"), create: true };
        write(&file).expect_err("nobody reads it");
        fs::remove_file(&path).expect("removed");
        write(&file).expect("written");
        assert_eq!(fs::read(&path).expect("read"), b"x");
        let absent = SystemFile { path: folder.path().join("absent"), create: false, ..file };
        write(&absent).expect("left out");
        assert!(!absent.path.exists());
    }
}
