//! The file of this program, out of reach: what a bottle could do to it on the host if it ever held it
//! through a mount that can be written (CVE-2019-5736 of runc).

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Stdio,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;

use crate::fixture::{Fixture, User, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "the_own_program_cannot_be_changed_through_a_mount", through_a_mount),
        trial(user, "the_own_program_cannot_be_changed_through_a_copy", through_a_copy),
    ]
}

/// Looks at everything that a magic link of `/proc` names (proc(5): exe, cwd, root, descriptors, mapped
/// files), of every process that can be seen, and tries to change each file that is not the bottle's own.
/// Writes a line for each that lies on a mount that can be written, or that could be changed.
const WALK: &str = r#"
import os, stat
OWN = {"/home/agent", "/home/agent/workspace", "/tmp", "/var/tmp", "/run", "/dev/shm", "/dev/pts", "/proc"}
READ_ONLY = 1  # ST_RDONLY, statvfs(3)
# By their numbers, proc(5): the name that a link shows may be that of a file outside.
own_mounts = {line.split()[0] for line in open("/proc/self/mountinfo") if line.split()[4] in OWN}
def mount_of(held):
    return next(line.split()[1] for line in open(f"/proc/self/fdinfo/{held}") if line.startswith("mnt_id"))
executables = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    links = [f"/proc/{pid}/{name}" for name in ("exe", "cwd", "root")]
    for folder in ("fd", "map_files"):
        try:
            links += [f"/proc/{pid}/{folder}/{name}" for name in os.listdir(f"/proc/{pid}/{folder}")]
        except OSError:
            pass
    for link in links:
        try:
            target, held = os.readlink(link), os.open(link, os.O_PATH)
        except OSError:
            continue
        mode = os.fstat(held).st_mode
        if mount_of(held) in own_mounts or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or target.startswith("anon_inode:"):
            continue
        executables += link.endswith("/exe")
        name = f"/proc/self/fd/{held}"
        if not os.fstatvfs(held).f_flag & READ_ONLY and not target.startswith("/memfd:"):
            print("can be written:", link, target)
        tries = {
            "mode": lambda: os.chmod(name, stat.S_IMODE(mode) | 0o4000),
            "times": lambda: os.utime(name, (1, 1)),
            "attribute": lambda: os.setxattr(name, "user.bottle", b"x"),
            "content": lambda: stat.S_ISREG(mode) and os.close(os.open(name, os.O_WRONLY)) or 1 / stat.S_ISREG(mode),
        }
        for what, change in tries.items():
            try:
                change()
                if not target.startswith("/memfd:"):
                    print("changed:", what, link, target)
            except (OSError, ZeroDivisionError):
                pass
print("executables", executables)
"#;

/// What runs this program inside is the file of the bottle's first process: by a link, and by the interpreter
/// of a script, where no check of a path could reach.
const PREPARE: &str = "ln -s /proc/self/exe link; printf '#!/proc/self/exe wait-for-input\\n' > script; \
    chmod +x script; echo ready; exec sleep 600";

fn through_a_mount(user: User) -> anyhow::Result<()> {
    attack(&Fixture::shell(user, PREPARE).with_own_program()?)
}

/// The path of the program does not lead to it any more, as after an upgrade.
fn through_a_copy(user: User) -> anyhow::Result<()> {
    let mut fixture = Fixture::shell(user, PREPARE).with_own_program()?;
    fixture.order.executable = "/proc/self/exe".into();
    attack(&fixture)
}

fn attack(fixture: &Fixture) -> anyhow::Result<()> {
    if !crate::refused_calls::has_python()? {
        return Ok(());
    }
    let own = &fixture.executable;
    let before = (fs::metadata(own)?, fs::read(own)?);
    let _running = fixture.start()?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    let mut held = Vec::new();
    for command in [["./link", "wait-for-input"].as_slice(), &["./script"]] {
        let mut arguments = vec!["exec-order", &home, "test-aaaaa", "pipes"];
        arguments.extend(command);
        let mut client = fixture.part(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut output = client.stdout.take().context("piped")?;
        std::io::Read::read_exact(&mut output, &mut [0; 8])
            .with_context(|| format!("{command:?} does not run: the attack is not made"))?;
        held.push(client);
    }
    let walk = fixture.exec(&["/usr/bin/python3", "-c", WALK]);
    let text = String::from_utf8(walk.stdout)?;
    // The agent, the two programs and the walk itself.
    ensure!(text == "executables 4\n", "{text}{}", String::from_utf8_lossy(&walk.stderr));
    for mut client in held {
        client.stdin.take().context("piped")?.write_all(b"\n")?;
        client.wait()?;
    }
    let (metadata, content) = before;
    let now = fs::metadata(own)?;
    ensure!(now.permissions().mode() == metadata.permissions().mode() && now.mtime() == metadata.mtime());
    ensure!(fs::read(own)? == content, "the program was changed");
    Ok(())
}
