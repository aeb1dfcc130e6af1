//! Each limit, at the limit.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bot_bottle_core::limits::{ByteSize, Limits, WallTime};
use libtest_mimic::Trial;

use crate::fixture::{Fixture, User, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "processes_are_limited", processes),
        trial(user, "memory_is_limited", memory),
        trial(user, "files_in_memory_count_as_memory", files_in_memory),
        trial(user, "memory_that_hides_is_counted", hidden_memory),
        trial(user, "memory_that_takes_too_long_to_count_ends_the_bottle", slow_memory),
        trial(user, "disk_is_limited", disk),
        trial(user, "time_is_limited", time),
        trial(user, "processors_are_limited", processors),
    ]
}

fn with(user: User, limits: Limits, script: &str) -> Fixture {
    let mut fixture = Fixture::shell(user, script);
    fixture.order.plan.limits = limits;
    fixture
}

/// The bottle was ended by a limit, whose sentence holds `text`, and not by its program, which sleeps for a
/// minute.
fn ended(fixture: &Fixture, text: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    let output = fixture.output();
    let stderr = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(137), "{:?} {stderr}", output.status);
    ensure!(stderr.contains("ended by Limit") && stderr.contains(text), "{stderr}");
    ensure!(started.elapsed() < Duration::from_secs(55), "{:?}", started.elapsed());
    ensure!(!fixture.run().exists(), "nothing is left");
    Ok(())
}

const FORKS: &str = "exec perl -e 'my $n = 0; for (1..200) { my $p = fork; last unless defined $p; \
    if (!$p) { sleep 60; exit } $n++ } print \"$n\\n\"'";

fn processes(user: User) -> anyhow::Result<()> {
    let limits = Limits { pids: Some(20), ..Limits::default() };
    let text = with(user, limits, FORKS).success()?;
    // Itself is one of the twenty.
    ensure!(text == "19\n", "{text}");
    Ok(())
}

fn memory(user: User) -> anyhow::Result<()> {
    let limits = Limits { memory: Some(ByteSize(100 << 20)), ..Limits::default() };
    ended(&with(user, limits.clone(), "exec perl -e '$x = \"a\" x (300 << 20); sleep 60'"), "limits.memory")?;
    let text = with(user, limits, "perl -e '$x = \"a\" x (40 << 20); sleep 2'; echo fine").success()?;
    ensure!(text == "fine\n", "{text}");
    Ok(())
}

fn files_in_memory(user: User) -> anyhow::Result<()> {
    let limits = Limits { memory: Some(ByteSize(100 << 20)), ..Limits::default() };
    let script =
        "for at in /tmp /dev/shm /var/tmp; do head -c 60M /dev/zero > $at/x 2>/dev/null; done; sleep 60";
    ended(&with(user, limits.clone(), script), "limits.memory")?;
    if std::path::Path::new("/usr/bin/python3").exists() {
        let script = "exec /usr/bin/python3 -c \"import os, time; os.truncate(f := os.memfd_create('x'), 0); \
                      [os.write(f, b'x' * (1 << 20)) for _ in range(200)]; time.sleep(60)\"";
        ended(&with(user, limits, script), "limits.memory")?;
    }
    Ok(())
}

/// Memory that is in no process: a detached segment. Memory of a process that closes itself to others. Memory
/// of page tables alone, which map nothing but the page of zeros.
fn hidden_memory(user: User) -> anyhow::Result<()> {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return crate::fixture::skip("python3", "memory that hides: no /usr/bin/python3");
    }
    let limits = Limits { memory: Some(ByteSize(100 << 20)), ..Limits::default() };
    for script in [
        "libc.shmat.restype = ctypes.c_void_p; libc.shmdt.argtypes = [ctypes.c_void_p]\n\
         at = libc.shmat(libc.shmget(0, 200 << 20, 0o1600), None, 0)\n\
         ctypes.memset(at, 1, 200 << 20); libc.shmdt(at)",
        "libc.prctl(4, 0, 0, 0, 0); x = b'x' * (300 << 20)",
        "libc.mmap.restype = ctypes.c_void_p\n\
         libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n\
         libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]\n\
         size = 80 << 30; at = libc.mmap(None, size, 1, 0x4022, -1, 0); libc.madvise(at, size, 15)\n\
         for step in range(0, size, 2 << 20): ctypes.c_char.from_address(at + step).value",
        // The first thread ends, and another goes on.
        "import platform, threading\n\
         def other():\n    time.sleep(1); x = b'x' * (300 << 20); time.sleep(60)\n\
         threading.Thread(target=other).start()\n\
         libc.syscall(60 if platform.machine() == 'x86_64' else 93, 0)",
        // The same with a file in memory that is held by a descriptor alone.
        "import os, platform, threading\n\
         def other():\n    time.sleep(1); held = os.memfd_create('x')\n    \
             [os.write(held, b'x' * (1 << 20)) for _ in range(300)]; time.sleep(60)\n\
         threading.Thread(target=other).start()\n\
         libc.syscall(60 if platform.machine() == 'x86_64' else 93, 0)",
        // A thread with a table of descriptors of its own, by close_range(CLOSE_RANGE_UNSHARE).
        "import os, threading\n\
         def other():\n    assert libc.syscall(436, 1 << 20, 1 << 20, 2) == 0; held = os.memfd_create('x')\n    \
             [os.write(held, b'x' * (1 << 20)) for _ in range(300)]; time.sleep(60)\n\
         threading.Thread(target=other).start()",
        // A file in memory behind thousands of other descriptors, written and not mapped.
        "import os, resource\n\
         resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)\n\
         null = os.open('/dev/null', os.O_RDONLY)\n\
         for _ in range(4500): os.dup(null)\n\
         held = os.memfd_create('x')\n\
         for _ in range(200): os.write(held, b'x' * (1 << 20))",
    ] {
        let script = format!("import ctypes, time\nlibc = ctypes.CDLL(None)\n{script}\ntime.sleep(60)");
        let mut fixture = Fixture::new(user, &["/usr/bin/python3", "-c", &script]);
        fixture.order.plan.limits = limits.clone();
        ended(&fixture, "limits.memory").map_err(|error| error.context(script))?;
    }
    Ok(())
}

/// Descriptors by the million, of one file, so that not much memory is used.
fn slow_memory(user: User) -> anyhow::Result<()> {
    if !crate::refused_calls::has_python()? || by_group("memory", user) {
        return Ok(());
    }
    let script = "import os, resource, time\n\
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 9000),) * 2)\n\
        held = os.memfd_create('x')\n\
        try:\n    while True: os.dup(held)\nexcept OSError: pass\n\
        for _ in range(1500):\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n\
        time.sleep(60)";
    let mut fixture = Fixture::new(user, &["/usr/bin/python3", "-c", script]);
    fixture.order.plan.limits.memory = Some(ByteSize(16 << 30));
    ended(&fixture, "`limits.memory` cannot be watched any more")
}

fn disk(user: User) -> anyhow::Result<()> {
    let limits = Limits { disk: Some(ByteSize(10 << 20)), ..Limits::default() };
    let script = "cd; for n in 1 2 3 4; do head -c 5M /dev/zero > file$n; done; sync; sleep 60";
    ended(&with(user, limits.clone(), script), "more than `limits.disk: 10MiB`")?;
    let script = "cd; head -c 20M /dev/zero > file; echo $(stat -c %s file)";
    let text = with(user, limits.clone(), script).success()?;
    ensure!(text == "10485760\n", "{text}");
    if user == User::Ordinary {
        // Nothing is hidden in a folder that cannot be looked into.
        let script = "cd; mkdir hidden; chmod 0 hidden; sleep 60";
        ended(&with(user, limits, script), "cannot be measured")?;
    }
    Ok(())
}

fn time(user: User) -> anyhow::Result<()> {
    let limits = Limits { time: Some(WallTime(1)), ..Limits::default() };
    ended(&with(user, limits, "sleep 60"), "the bottle reached `limits.time: 1s`")
}

fn processors(user: User) -> anyhow::Result<()> {
    let limits = Limits { cpus: Some(1.0), ..Limits::default() };
    let script = "nproc; taskset -p 3 $$ >/dev/null 2>&1 || echo kept; nproc";
    let fixture = with(user, limits, script);
    let text = fixture.success()?;
    if by_group("cpu", user) {
        return fraction(user);
    }
    ensure!(text == "1\nkept\n1\n", "{text}");
    let limits = Limits { cpus: Some(0.5), ..Limits::default() };
    let output = with(user, limits, "true").output();
    let text = String::from_utf8(output.stderr)?;
    ensure!(text.contains("`limits.cpus: 0.5` cannot be enforced"), "{text}");
    Ok(())
}

/// Whether this is root on a host with a tree of the first version for this.
fn by_group(controller: &str, user: User) -> bool {
    let procs = format!("/sys/fs/cgroup/{controller}/cgroup.procs");
    user == User::Own && crate::fixture::is_root() && std::path::Path::new(&procs).exists()
}

/// Two programs that would keep two processors busy get a quarter of one.
fn fraction(user: User) -> anyhow::Result<()> {
    let limits = Limits { cpus: Some(0.25), ..Limits::default() };
    let script = "timeout 2 sh -c 'while :; do :; done' & timeout 2 sh -c 'while :; do :; done'; wait; \
                  cut -d' ' -f16,17 /proc/$$/stat";
    let text = with(user, limits, script).success()?;
    let ticks: u64 = text.split_whitespace().filter_map(|number| number.parse::<u64>().ok()).sum();
    // In hundredths of a second: half a second in two, and what a period more or less makes.
    ensure!(ticks < 90, "{text}");
    Ok(())
}
