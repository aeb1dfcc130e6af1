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
    path::Path,
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;

use crate::fixture::{Fixture, ORDINARY, User, give_to, is_root, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "no_privilege_is_left", no_privilege),
        trial(user, "no_descriptor_and_no_variable_of_the_launcher_is_left", nothing_inherited),
        trial(user, "calls_into_the_kernel_are_refused", refused_calls),
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

/// Tries calls by number and prints the error of each.
const CALLS: &str = r#"
import ctypes, errno, socket, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    print(name, "went through" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), "?"))
NEWUSER, NEWNS, NEWNET = 0x10000000, 0x00020000, 0x40000000
x86 = os.uname().machine == "x86_64"
call("mount", 165 if x86 else 40, b"none", b"/tmp", b"tmpfs", 0, 0)
call("unshare-user", 272 if x86 else 97, NEWUSER)
call("setns", 308 if x86 else 268, 0, 0)
call("clone-user", 56 if x86 else 220, NEWUSER | 17, 0, 0, 0, 0)
call("clone-net", 56 if x86 else 220, NEWNET | 17, 0, 0, 0, 0)
call("clone3", 435, 0, 0)
call("ptrace", 101 if x86 else 117, 16, 1, 0, 0)
call("process_vm_readv", 310 if x86 else 270, 1, 0, 0, 0, 0, 0)
call("keyctl", 250 if x86 else 219, 0, -3, 0)
call("bpf", 321 if x86 else 280, 0, 0, 0)
call("perf_event_open", 298 if x86 else 241, 0, 0, -1, -1, 0)
call("userfaultfd", 323 if x86 else 282, 0)
call("io_uring_setup", 425, 1, 0)
call("open_by_handle_at", 304 if x86 else 265, 0, 0, 0)
call("kexec_load", 246 if x86 else 104, 0, 0, 0, 0)
call("open_tree", 428, -100, b"/", 1)
call("fsopen", 430, b"tmpfs", 0)
call("mount_setattr", 442, -100, b"/", 0, 0, 0)
call("chroot", 161 if x86 else 51, b"/tmp")
call("sethostname", 170 if x86 else 161, b"x", 1)
call("memfd_secret", 447, 0)
call("prlimit-first", 302 if x86 else 261, 1, 7, 0, 0)
call("setscheduler-first", 144 if x86 else 119, 1, 0, b"\0" * 8)
call("setpriority-first", 141 if x86 else 140, 0, 1, 0)
call("setpriority-user", 141 if x86 else 140, 2, 0, 0)
call("prlimit-own", 302 if x86 else 261, 0, 7, 0, 0)
call("personality", 135 if x86 else 92, 0x0400000)
for name, family, kind, protocol in [
    ("vsock", 40, socket.SOCK_STREAM, 0), ("packet", 17, socket.SOCK_RAW, 0), ("alg", 38, socket.SOCK_SEQPACKET, 0),
    ("icmp", socket.AF_INET, socket.SOCK_RAW, 1), ("ping", socket.AF_INET, socket.SOCK_DGRAM, 1),
    ("icmp6", socket.AF_INET6, socket.SOCK_RAW, 58), ("netfilter", 16, socket.SOCK_RAW, 12),
]:
    try:
        socket.socket(family, kind, protocol); print(name, "went through")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
for name, family, address in [
    ("tcp4", socket.AF_INET, ("192.0.2.1", 80)), ("tcp6", socket.AF_INET6, ("2001:db8::1", 80)),
]:
    try:
        tried = socket.socket(family); tried.connect(address); tried.shutdown(1)
        print(name, "went through" if tried.recv(1) else "captured")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)); print("udp4 went through")
except OSError as error:
    print("udp4", errno.errorcode[error.errno])
try:
    fcntl.ioctl(0, 0x5412, b"x"); print("tiocsti went through")
except OSError as error:
    print("tiocsti", errno.errorcode[error.errno])
"#;

const CALLS_EXPECTED: &str = "mount EPERM\nunshare-user EPERM\nsetns EPERM\nclone-user EPERM\nclone-net EPERM\n\
    clone3 ENOSYS\nptrace EPERM\nprocess_vm_readv EPERM\nkeyctl EPERM\nbpf EPERM\nperf_event_open EPERM\n\
    userfaultfd EPERM\nio_uring_setup EPERM\nopen_by_handle_at EPERM\nkexec_load EPERM\nopen_tree EPERM\n\
    fsopen EPERM\nmount_setattr EPERM\nchroot EPERM\nsethostname EPERM\nmemfd_secret EPERM\n\
    prlimit-first EPERM\nsetscheduler-first EPERM\nsetpriority-first EPERM\nsetpriority-user EPERM\n\
    prlimit-own went through\npersonality EPERM\nvsock EAFNOSUPPORT\n\
    packet EAFNOSUPPORT\nalg EAFNOSUPPORT\nicmp EPERM\nping EPROTONOSUPPORT\nicmp6 EPERM\n\
    netfilter EPROTONOSUPPORT\ntcp4 captured\ntcp6 ENETUNREACH\nudp4 EPERM\ntiocsti EPERM\n";

pub(crate) fn has_python() -> anyhow::Result<bool> {
    let has = Path::new("/usr/bin/python3").exists();
    if !has {
        crate::fixture::skip("python3", "the calls into the kernel: no /usr/bin/python3")?;
    }
    Ok(has)
}

fn refused_calls(user: User) -> anyhow::Result<()> {
    if has_python()? {
        let text = Fixture::new(user, &["/usr/bin/python3", "-c", CALLS]).success()?;
        ensure!(text == CALLS_EXPECTED, "{text}");
    }
    Ok(())
}

fn exec_is_confined(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo ready; export MARK=agent; exec sleep 100");
    let _running = fixture.start()?;
    let status = fixture.exec(&["bash", "-c", STATUS]);
    let text = String::from_utf8(status.stdout)?;
    ensure!(text == STATUS_EXPECTED, "{text}{}", String::from_utf8_lossy(&status.stderr));
    if has_python()? {
        let text = String::from_utf8(fixture.exec(&["/usr/bin/python3", "-c", CALLS]).stdout)?;
        ensure!(text == CALLS_EXPECTED, "{text}");
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

/// A launcher that root started has root's supplementary groups, which the bottle leaves. An ordinary user's cannot be
/// left; by none of them does the bottle's first process show in `/proc`.
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
    if !has_python()? {
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
    // The agent's work is kept, with the receipts and nothing else.
    let kept = fixture.run().join("workspace");
    ensure!(fixture.events().contains("KeptWorkspace"), "{}", fixture.events());
    ensure!(fs::read_to_string(kept.join("made"))? == "new\n");
    let mut names: Vec<_> = fs::read_dir(fixture.run())?.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    ensure!(names == ["receipts.jsonl", "workspace"], "{names:?}");
    let mut file =
        fs::OpenOptions::new().append(true).open(folder.join("data")).context("still the operator's")?;
    file.write_all(b"x")?;
    Ok(())
}
