//! What of the host's files a bottle does not see, whatever is mounted where and wherever the operator lives.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

use anyhow::ensure;
use libtest_mimic::Trial;

use crate::fixture::{Fixture, ORDINARY, User, give_to, is_root, skip, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "what_is_mounted_below_a_folder_of_programs_is_not_shown", mounted_below),
        trial(user, "a_home_below_a_folder_of_programs_is_hidden", home_below),
        trial(user, "device_nodes_are_the_bottles_own", device_nodes),
        trial(user, "descriptors_in_flight_do_not_end_the_bottle", in_flight),
    ]
}

/// There is no overlay of a folder with a mount below it for who is not root; what takes its place shows no
/// more.
fn mounted_below(user: User) -> anyhow::Result<()> {
    if !is_root() {
        return skip("root", "a mount below /opt: only root can make one");
    }
    let opt = tempfile::tempdir_in("/opt")?;
    fs::set_permissions(opt.path(), fs::Permissions::from_mode(0o755))?;
    fs::create_dir(opt.path().join("mounted"))?;
    for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
        fs::write(opt.path().join(name), format!("{name}\n"))?;
        fs::set_permissions(opt.path().join(name), fs::Permissions::from_mode(mode))?;
    }
    give_to(opt.path(), user);
    let at = opt.path().display();
    let fixture =
        Fixture::shell(user, &format!("cat {at}/open; cat {at}/closed {at}/mounted/*; ls {at}/mounted"));
    let launcher = fixture.launcher();
    let script = format!(
        "mount -t tmpfs none {at}/mounted && echo TOKEN > {at}/mounted/token && chown -R {ORDINARY} {at}/mounted && \
         chmod 600 {at}/mounted/token && exec \"$@\""
    );
    let mut host = Command::new("unshare");
    host.args(["--mount", "sh", "-c", &script, "sh"]);
    if user != User::Own {
        let ids = [format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}"), "--clear-groups".to_owned()];
        host.arg("setpriv").args(ids);
    }
    host.arg(launcher.get_program()).args(launcher.get_args());
    let output = host.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text == "open\n", "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn home_below(user: User) -> anyhow::Result<()> {
    let Ok(opt) = tempfile::tempdir_in("/opt") else {
        return skip("root", "a home below /opt: only root can make one");
    };
    fs::set_permissions(opt.path(), fs::Permissions::from_mode(0o755))?;
    let home = opt.path().join("home");
    fs::create_dir(&home)?;
    fs::write(home.join(".npmrc"), "TOKEN")?;
    fs::write(opt.path().join("program"), "program")?;
    give_to(opt.path(), user);
    let at = opt.path().display();
    let mut fixture = Fixture::shell(user, &format!("ls -A {at}; cat {at}/home/.npmrc; echo end"));
    fixture.order.operator_home = Some(home);
    let text = fixture.success()?;
    ensure!(text == "program\nend\n", "{text}");
    // One that is the folder itself: the bottle has none.
    fixture.order.operator_home = Some("/opt".into());
    let text = fixture.success()?;
    ensure!(!text.contains("program"), "{text}");
    Ok(())
}

/// A node of the host is one inode for everybody: a bottle could lock it, and see who reads it when. Nobody
/// but root can make another.
fn device_nodes(user: User) -> anyhow::Result<()> {
    if !(is_root() && user == User::Own) {
        return Ok(());
    }
    let script = "for name in null zero full random urandom tty; do stat -c '%d:%i %t:%T %a' /dev/$name; done; \
        head -c 4 /dev/zero | wc -c; echo x > /dev/null && flock /dev/null sleep 600";
    let fixture = Fixture::shell(user, script);
    let mut running = fixture.start()?;
    let host = fs::metadata("/dev/null")?;
    let mut lines = Vec::new();
    for _ in 0..6 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut running.reader, &mut line)?;
        lines.push(line);
    }
    // The first line was taken by the start; the last is the count of zeros.
    ensure!(lines.last().is_some_and(|line| line == "4\n"), "{lines:?}");
    ensure!(lines[..5].iter().all(|line| line.ends_with(" 666\n")), "{lines:?}");
    let own = format!("{}:{} ", host.dev(), host.ino());
    ensure!(lines.iter().all(|line| !line.starts_with(&own)), "{lines:?}");
    // What hides a file of /proc is no node of the host's either.
    let masked = fixture.exec(&["stat", "-c", "%d:%i ", "/proc/keys", "/proc/kcore"]);
    let masked = String::from_utf8(masked.stdout)?;
    ensure!(masked.lines().count() > 0 && masked.lines().all(|line| line != own), "{masked}: {own}");
    let free = Command::new("flock").args(["--nonblock", "/dev/null", "true"]).status()?;
    ensure!(free.success(), "a bottle holds a lock on the host's /dev/null");
    Ok(())
}

/// Fills what the kernel lets a user have in flight, unix(7), and tells how much that was.
const IN_FLIGHT: &str = r#"
import array, os, resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
null, pairs, count = os.open("/dev/null", os.O_RDONLY), [], 0
try:
    while count < 2000000:
        pairs.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        pairs[-1][0].setblocking(False)
        try:
            while True:
                message = array.array("i", [null] * 250)
                pairs[-1][0].sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, message)])
                count += 250
        except BlockingIOError:
            pass
except OSError as error:
    print("stopped by", error.errno, flush=True)
sys.stdin.readline()
print("alive", flush=True)
"#;

fn in_flight(user: User) -> anyhow::Result<()> {
    // An ordinary user's bottle shares this count with everything of that user's, other tests included; one
    // that root starts has a user of its own.
    if !(is_root() && user == User::Own) {
        return Ok(());
    }
    if !crate::refused_calls::has_python()? {
        return Ok(());
    }
    let fixture = Fixture::new(user, &["/usr/bin/python3", "-c", IN_FLIGHT]);
    let mut running = fixture.start()?;
    let output = fixture.exec(&["true"]);
    // Where the limit is reached the command fails with a reason; the bottle goes on in either case.
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(text.contains("could not be run in the bottle"), "{text}");
    }
    std::io::Write::write_all(&mut running.child.stdin.take().expect("piped"), b"\n")?;
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut running.reader, &mut rest)?;
    ensure!(rest == "alive\n", "{rest}");
    ensure!(running.child.wait()?.success());
    Ok(())
}
