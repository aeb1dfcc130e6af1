//! What a program in a bottle is and sees. The long table of ways out is made elsewhere, by the escape probe;
//! here is what a bottle is built of, for the agent and for `exec` alike.

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::PermissionsExt,
            net::{SocketAddr, UnixListener},
        },
    },
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;

use crate::{
    fixture::{Fixture, ORDINARY, User, give_to, is_root, trial},
    refused_calls,
};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "no_privilege_is_left", no_privilege),
        trial(user, "no_descriptor_and_no_variable_of_the_launcher_is_left", nothing_inherited),
        trial(user, "exec_is_confined_alike", exec_is_confined),
        trial(user, "the_host_is_not_there", host_is_absent),
        trial(user, "host_folders_cannot_be_written", read_only),
        trial(user, "what_the_host_closes_to_others_is_hidden", closed_files),
        trial(user, "supplementary_groups_give_nothing", supplementary_groups),
        trial(user, "sockets_of_the_host_are_not_reached", sockets),
        trial(user, "the_first_process_is_out_of_reach", first_process),
        trial(user, "a_command_that_is_stopped_before_it_begins_holds_nothing_up", stopped_before_it_begins),
        trial(user, "a_hostile_workspace_is_copied_safely", hostile_workspace),
    ]
}

const STATUS: &str = "grep -E '^(Uid|Gid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status | tr -d '\\t'; \
    cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; ulimit -c";

const STATUS_EXPECTED: &str = "Uid:1000100010001000\nGid:1000100010001000\nCapInh:0000000000000000\n\
    CapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nCapAmb:0000000000000000\n\
    NoNewPrivs:1\nSeccomp:2\nSeccomp_filters:1\n 1000 0 1\n 1000 0 1\n0\n";

fn no_privilege(user: User) -> anyhow::Result<()> {
    let text = Fixture::shell(user, STATUS).success()?;
    ensure!(text == STATUS_EXPECTED, "{text}");
    Ok(())
}

fn nothing_inherited(user: User) -> anyhow::Result<()> {
    // The shell's own descriptor for the folder is the one that is listed besides.
    let script = "ls -l /proc/self/fd | awk 'NR>1{print $9, $11}' | sed 's/\\[.*//'; cat /proc/*/environ | tr '\\0' '\\n' | sort -u";
    let text = Fixture::shell(user, script).success()?;
    let mut lines = text.lines();
    for expected in ["0 pipe:", "1 pipe:", "2 pipe:"] {
        ensure!(lines.next() == Some(expected), "{text}");
    }
    ensure!(lines.next().is_some_and(|line| line.starts_with("3 /proc/")), "{text}");
    for line in lines {
        let name = line.split('=').next().unwrap_or_default();
        let known = ["HOME", "LANG", "PATH", "PWD", "OLDPWD", "SHLVL", "TERM", "_", ""];
        ensure!(known.contains(&name), "{line}");
    }
    Ok(())
}

fn exec_is_confined(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo ready; export MARK=agent; exec sleep 100");
    let _running = fixture.start()?;
    let status = fixture.exec(&["bash", "-c", STATUS]);
    let text = String::from_utf8(status.stdout)?;
    ensure!(text == STATUS_EXPECTED, "{text}{}", String::from_utf8_lossy(&status.stderr));
    if refused_calls::has_python()? {
        let text =
            String::from_utf8(fixture.exec(&["/usr/bin/python3", "-c", refused_calls::SCRIPT]).stdout)?;
        ensure!(text == refused_calls::EXPECTED, "{text}");
    }
    let descriptors = String::from_utf8(fixture.exec(&["ls", "/proc/self/fd"]).stdout)?;
    ensure!(descriptors == "0\n1\n2\n3\n", "{descriptors}");
    let environment = String::from_utf8(fixture.exec(&["sh", "-c", "echo $FROM_EXEC $HOME"]).stdout)?;
    ensure!(environment == "yes /home/agent\n", "{environment}");
    let code = fixture.exec(&["sh", "-c", "exit 9"]);
    ensure!(code.status.code() == Some(9), "{code:?}");
    let missing = fixture.exec(&["no-such-program"]);
    ensure!(
        String::from_utf8_lossy(&missing.stderr).contains("could not be run in the bottle"),
        "{missing:?}"
    );
    // The agent and the command beside it are in the same namespaces and see each other.
    let seen = String::from_utf8(
        fixture.exec(&["sh", "-c", "ps -eo comm= | grep -c sleep; pkill -0 sleep && echo ok"]).stdout,
    )?;
    ensure!(seen == "1\nok\n", "{seen}");
    Ok(())
}

fn host_is_absent(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(
        user,
        "for path in /root/.bashrc /etc/shadow /etc/ssh /sys/kernel /boot /var/lib/dpkg /run/systemd /proc/1/environ \
         /etc/ssl/private /lost+found \"$PLANTED\"; do [ -e \"$path\" ] && echo \"$path is there\"; done; \
         ls /; ls /run /tmp /var/tmp /dev/shm; ps -e --no-headers | wc -l; ls /sys/class/net 2>/dev/null; \
         cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '; getent ahostsv4 localhost | head -1 | cut -d' ' -f1",
    );
    let planted = fixture.folder.path().join("planted");
    fs::write(&planted, "secret")?;
    let mut fixture = fixture;
    fixture.order.environment.insert("PLANTED".to_owned(), planted.to_string_lossy().into_owned());
    let text = fixture.success()?;
    ensure!(!text.contains("is there"), "{text}");
    let top: Vec<&str> =
        text.lines().take_while(|line| !line.starts_with('/')).filter(|line| !line.is_empty()).collect();
    for name in &top {
        let known = [
            "bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "nix", "opt",
            "proc", "root", "run", "sbin", "snap", "srv", "tmp", "usr", "var",
        ];
        ensure!(known.contains(name), "{name} in {text}");
    }
    ensure!(
        text.contains("/run:\n\n/tmp:\n\n/var/tmp:") || text.contains("/dev/shm:\n\n/run:\n\n/tmp:"),
        "{text}"
    );
    ensure!(text.ends_with("lo\n127.0.0.1\n"), "{text}");
    Ok(())
}

fn read_only(user: User) -> anyhow::Result<()> {
    let script = "for path in /x /usr/x /usr/bin/x /etc/x /etc/passwd /etc/resolv.conf /etc/hosts /etc/bot-bottle/ca.pem \
         /etc/ssl/certs/x /dev/x /opt/x /proc/sys/kernel/core_pattern /proc/sys/net/ipv4/ip_forward /home/x /var/x; do \
         (echo x > $path) 2>/dev/null && echo \"$path was written\"; done; \
         for path in /tmp/x /var/tmp/x /run/x /dev/shm/x /home/agent/x /home/agent/workspace/x; do \
         echo x > $path || echo \"$path was not written\"; done; \
         mount -o remount,rw / 2>/dev/null && echo remounted; umount /etc/bot-bottle 2>/dev/null && echo unmounted; \
         chmod 4755 /home/agent/x && ls -l /home/agent/x | cut -c1-10; \
         grep -E ' (/|/usr|/home/agent|/home/agent/workspace|/tmp|/proc) ' /proc/self/mounts | cut -d' ' -f2,4 | \
         grep -vE 'nosuid' | grep -v '^/ ' ; echo end";
    let text = Fixture::shell(user, script).success()?;
    ensure!(text == "-rwsr-xr-x\nend\n", "{text}");
    Ok(())
}

/// A place below a folder of the host that is in every bottle; root alone can put something there.
/// Files that belong to the operator, who may read them, below a folder of programs.
fn closed_files(user: User) -> anyhow::Result<()> {
    let Some(folder) = bound_folder(user) else { return Ok(()) };
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("open/private"))?;
    for (name, mode) in
        [("open/token", 0o600), ("open/group", 0o640), ("open/private/inner", 0o644), ("open/tool", 0o755)]
    {
        fs::write(at(name), format!("content of {name}\n"))?;
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
    }
    fs::set_permissions(at("open/private"), fs::Permissions::from_mode(0o700))?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    give_to(folder.path(), user);
    let script = format!(
        "cd {}/open; echo ready; read line; cat tool token group private/inner 2>&1; ls",
        folder.path().display()
    );
    let fixture = Fixture::shell(user, &script);
    let mut running = fixture.start()?;
    // The host writes a new file and renames it, as programs do that keep a token up to date.
    fs::write(at("open/new"), "content of a new token\n")?;
    fs::set_permissions(at("open/new"), fs::Permissions::from_mode(0o600))?;
    fs::rename(at("open/new"), at("open/token"))?;
    give_to(folder.path(), user);
    running.child.stdin.take().context("piped")?.write_all(b"\n")?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut running.reader, &mut text)?;
    let missing = |name| format!("cat: {name}: No such file or directory\n");
    let expected = format!(
        "content of open/tool\n{}{}{}tool\n",
        missing("token"),
        missing("group"),
        missing("private/inner")
    );
    ensure!(text == expected, "{text}");
    ensure!(fixture.events().contains("hidden from the bottle"), "{}", fixture.events());
    Ok(())
}

/// A launcher that root started has root's supplementary groups, which the bottle leaves. An ordinary user's
/// cannot be left; by none of them does the bottle's first process show in `/proc`.
fn supplementary_groups(user: User) -> anyhow::Result<()> {
    if !is_root() {
        return crate::fixture::skip("root", "supplementary groups: only root can give some");
    }
    let script = "ls -d /proc/[0-9]* | grep -cx /proc/1; grep ^Groups /proc/self/status";
    let fixture = Fixture::shell(user, script);
    let launcher = fixture.launcher();
    let mut with_groups = std::process::Command::new("setpriv");
    if user != User::Own {
        // Who cannot leave group 0, which `hidepid=2` would spare.
        with_groups.args([format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}")]);
    }
    with_groups.args(["--groups", "0,4,54321"]).arg(launcher.get_program()).args(launcher.get_args());
    let output = with_groups.output()?;
    let text = String::from_utf8(output.stdout)?;
    let expected = if user == User::Own { "0\nGroups:\t \n" } else { "0\nGroups:" };
    ensure!(text.starts_with(expected), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn bound_folder(user: User) -> Option<tempfile::TempDir> {
    let folder = is_root().then(|| tempfile::tempdir_in("/opt").ok()).flatten();
    if folder.is_none() {
        eprintln!("SKIPPED sockets in a bound folder ({user:?}): only root can put one into /opt");
    }
    folder
}

fn sockets(user: User) -> anyhow::Result<()> {
    if !refused_calls::has_python()? {
        return Ok(());
    }
    let mut fixture = Fixture::new(
        user,
        &[
            "/usr/bin/python3",
            "-c",
            r#"
import os, socket
def attempt(name, family, address):
    try:
        socket.socket(family, socket.SOCK_STREAM).connect(address); print(name, "REACHED")
    except OSError as error:
        print(name, error.errno)
attempt("abstract", socket.AF_UNIX, "\0" + os.environ["ABSTRACT"])
attempt("loopback", socket.AF_INET, ("127.0.0.1", int(os.environ["PORT"])))
attempt("loopback6", socket.AF_INET6, ("::1", int(os.environ["PORT"])))
if "BOUND" in os.environ:
    assert os.path.exists(os.environ["BOUND"] + "/socket")
    attempt("bound", socket.AF_UNIX, os.environ["BOUND"] + "/socket")
    fifo = os.environ["BOUND"] + "/fifo"
    try:
        os.write(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), b"x"); print("fifo REACHED")
    except OSError as error:
        print("fifo", error.errno)
for folder in ["/run", "/tmp", "/var/run"]:
    assert not os.path.isdir(folder) or os.listdir(folder) == [], folder
"#,
        ],
    );
    let name = fixture.folder.path().to_string_lossy().into_owned();
    let _abstract = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let tcp = TcpListener::bind("127.0.0.1:0")?;
    let mut add = |key: &str, value: String| fixture.order.environment.insert(key.to_owned(), value);
    add("ABSTRACT", name);
    add("PORT", tcp.local_addr()?.port().to_string());
    let bound = bound_folder(user);
    let _listener = match &bound {
        Some(folder) => {
            let socket = folder.path().join("socket");
            let listener = UnixListener::bind(&socket)?;
            let fifo = folder.path().join("fifo");
            rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o666.into(), 0)?;
            for path in [folder.path(), &socket, &fifo] {
                fs::set_permissions(path, fs::Permissions::from_mode(0o777))?;
            }
            // Somebody reads from the FIFO, without whom nobody could write to it.
            let reader = fs::OpenOptions::new().read(true).write(true).open(&fifo)?;
            add("BOUND", folder.path().to_string_lossy().into_owned());
            Some((listener, reader))
        }
        None => None,
    };
    let text = fixture.success()?;
    ensure!(!text.contains("REACHED"), "{text}");
    let expected = "abstract 111\nloopback 111\nloopback6 111\n";
    ensure!(text.starts_with(expected), "{text}");
    if bound.is_some() {
        ensure!(text == format!("{expected}bound 111\nfifo 6\n"), "{text}");
    }
    Ok(())
}

fn first_process(user: User) -> anyhow::Result<()> {
    let script = "ls /proc | grep -x 1; for file in environ mem maps root exe fd ns/net cwd; do \
         cat /proc/1/$file >/dev/null 2>&1 && echo \"$file was read\"; done; kill -9 1 2>&1 | head -1 | cut -d: -f4; \
         kill -KILL -1; echo alive";
    let fixture = Fixture::shell(user, script);
    let output = fixture.output();
    let text = String::from_utf8(output.stdout)?;
    // `kill -1` ends everything but the first process and, in bash, the shell that asks.
    ensure!(!text.contains("was read") && !text.starts_with('1'), "{text}");
    ensure!(text.ends_with("alive\n"), "{text} {:?}", output.status);
    Ok(())
}

/// The agent stops every process that it may, as fast as it can.
fn stopped_before_it_begins(user: User) -> anyhow::Result<()> {
    let script = "$| = 1; print \"ready\\n\"; while (1) { kill 'STOP', -1 }";
    let fixture = Fixture::new(user, &["perl", "-e", script]);
    let mut running = fixture.start()?;
    for _ in 0..3 {
        let home = fixture.order.home.to_string_lossy().into_owned();
        let mut client = fixture
            .part(&["exec-order", &home, "test-aaaaa", "pipes", "true"])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        std::thread::sleep(std::time::Duration::from_millis(200));
        client.kill()?;
        client.wait()?;
    }
    let home = fixture.order.home.to_string_lossy().into_owned();
    let output = fixture.part(&["stop-order", &home, "test-aaaaa"]).output()?;
    ensure!(output.status.success(), "{output:?}");
    running.child.wait()?;
    fixture.expect_clean(&[])
}

fn hostile_workspace(user: User) -> anyhow::Result<()> {
    let mut fixture = Fixture::shell(
        user,
        "cat shadow 2>/dev/null && echo leaked; cat data; ls -A | sort | tr '\\n' ' '; echo new > made; echo more >> data; rm -r closed",
    );
    let folder = fixture.folder.path().join("project");
    fs::create_dir_all(folder.join("closed"))?;
    fs::write(folder.join("data"), "content\n")?;
    std::os::unix::fs::symlink("/etc/shadow", folder.join("shadow"))?;
    let _socket = UnixListener::bind(folder.join("socket"))?;
    rustix::fs::mknodat(rustix::fs::CWD, folder.join("fifo"), rustix::fs::FileType::Fifo, 0o666.into(), 0)?;
    fixture.order.plan.workspace = Some(folder.clone());
    let text = fixture.success()?;
    ensure!(text == "content\nclosed data shadow ", "{text}");
    ensure!(fs::read_to_string(folder.join("data"))? == "content\n", "the operator's file is as it was");
    ensure!(!folder.join("made").exists());
    // The agent's work is kept with its home, the receipts and the plan.
    let kept = fixture.agent_folder().join("workspace");
    ensure!(fixture.events().contains("Kept("), "{}", fixture.events());
    ensure!(fs::read_to_string(kept.join("made"))? == "new\n");
    let mut names: Vec<_> = fs::read_dir(fixture.run())?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    ensure!(names == ["agent", "format", "plan.json", "receipts.jsonl", "start.json"], "{names:?}");
    let mut file =
        fs::OpenOptions::new().append(true).open(folder.join("data")).context("still the operator's")?;
    file.write_all(b"x")?;
    Ok(())
}
