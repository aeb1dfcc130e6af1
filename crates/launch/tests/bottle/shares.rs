//! One bottle takes all that it can get of what the kernel counts, and the operator goes on working.

use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;
use rustix::process::getrlimit;

use crate::{
    fixture::{Fixture, ORDINARY, User, trial},
    terminal::Operator,
};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "what_the_kernel_counts_cannot_all_be_taken", everything),
        trial(user, "a_terminal_is_kept_for_exec", terminals),
    ]
}

/// Takes each thing until there is no more, and says how many it got. `hold` keeps everything until its input
/// ends.
const TAKE: &str = r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
most, held = int(sys.argv[2]), []
def take(name, one):
    count = 0
    try:
        while count < most:
            got = one(count)
            if got is None or got < 0:
                break
            count += 1
    except OSError:
        pass
    print(name, count, flush=True)
def timer(_):
    return libc.timer_create(0, None, ctypes.byref(ctypes.c_void_p()))
def pty(_):
    held.append(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
    return 0
def file(number):
    held.append(os.open(f"/run/many-{number}", os.O_CREAT | os.O_WRONLY)) if number % 64 == 0 else open(f"/run/many-{number}", "w").close()
    return 0
take("inotify", lambda _: libc.inotify_init())
take("timers", timer)
sets = []
def semaphores(_):
    sets.append(libc.semget(0, 250, 0o1600))
    return sets[-1]
def queue(number):
    name = f"/bottle-test-{os.getpid()}-{number}".encode()
    made = libc.mq_open(name, 0o302, 0o600, None)
    libc.mq_unlink(name)
    return made
take("semaphores", semaphores)
take("queues", queue)
if sys.argv[1] == "try":
    for one in sets:
        libc.semctl(one, 0, 0)
if sys.argv[1] == "hold":
    take("terminals", pty)
    take("names", file)
print("done", flush=True)
if sys.argv[1] == "hold":
    sys.stdin.readline()
"#;

/// What was taken, by name.
fn counts(text: &str) -> std::collections::BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn read_until_done(reader: &mut impl std::io::BufRead) -> anyhow::Result<String> {
    let mut text = String::new();
    while !text.ends_with("done\n") {
        ensure!(reader.read_line(&mut text)? > 0, "it broke off: {text}");
    }
    Ok(text)
}

fn everything(user: User) -> anyhow::Result<()> {
    if !crate::refused_calls::has_python()? {
        return Ok(());
    }
    let fixture = Fixture::new(user, &["/usr/bin/python3", "-c", TAKE, "hold", "1000000"]);
    let mut running = fixture.launcher().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut reader = std::io::BufReader::new(running.stdout.take().context("piped")?);
    let taken = counts(&read_until_done(&mut reader)?);
    let of_host = |name: &str| -> anyhow::Result<u64> {
        Ok(std::fs::read_to_string(format!("/proc/sys/{name}"))?.trim().parse()?)
    };
    let signals = getrlimit(rustix::process::Resource::Sigpending).current;
    for (name, most) in [
        ("inotify", Some(of_host("fs/inotify/max_user_instances")? / 4)),
        ("timers", signals.map(|signals| signals / 4)),
        ("semaphores", Some(128)),
        ("queues", Some(64)),
        ("terminals", Some(of_host("kernel/pty/max")? / 4)),
        ("names", Some(16_384)),
    ] {
        let count = *taken.get(name).with_context(|| format!("{name} was not tried"))?;
        ensure!(count > 0, "{name}: nothing was taken, so that nothing is shown: {taken:?}");
        if let Some(most) = most {
            ensure!(count <= most, "{name}: {count} were taken, more than {most}");
        }
    }
    // The operator, and a second bottle of theirs, still get a few of each.
    let mut operator = Command::new("/usr/bin/python3");
    operator.args(["-c", TAKE, "try", "2"]);
    if user != User::Own {
        use std::os::unix::process::CommandExt;
        operator.uid(ORDINARY).gid(ORDINARY);
    }
    let second = Fixture::new(user, &["/usr/bin/python3", "-c", TAKE, "try", "2"]);
    for (who, text) in [
        ("the operator", String::from_utf8(operator.output()?.stdout)?),
        ("a second bottle", second.success()?),
    ] {
        for (name, count) in counts(&text) {
            ensure!(count == 2, "{who} gets {count} of {name}, while a bottle has {:?}", taken.get(&name));
        }
    }
    drop(running.stdin.take());
    running.wait()?;
    Ok(())
}

/// `exec` on a terminal while the agent holds every terminal that the bottle may have.
fn terminals(user: User) -> anyhow::Result<()> {
    if !crate::refused_calls::has_python()? {
        return Ok(());
    }
    let fixture = Fixture::new(user, &["/usr/bin/python3", "-c", TAKE, "hold", "5000"]);
    let mut running = fixture.launcher().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut reader = std::io::BufReader::new(running.stdout.take().context("piped")?);
    read_until_done(&mut reader)?;
    let home = fixture.order.home.to_string_lossy().into_owned();
    let client = |command: &[&str]| {
        let mut arguments = vec!["exec-order", home.as_str(), "test-aaaaa", "pty"];
        arguments.extend(command);
        Operator::start(&fixture, &fixture.part(&arguments), 24, 80)
    };
    let mut first = client(&["sh", "-c", "tty; sleep 600"])?;
    first.expect("/dev/pts/0")?;
    // There was one, and no more: the sentence does not read as a full disk.
    let mut second = client(&["true"])?;
    second.expect("programs in the bottle hold all that it may have")?;
    second.child.wait()?;
    first.child.kill()?;
    first.child.wait()?;
    drop(running.stdin.take());
    running.wait()?;
    Ok(())
}
