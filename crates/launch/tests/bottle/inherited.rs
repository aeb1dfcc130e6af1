//! What a process inherits from who starts it: `docs/inherited.md` is made from the tables of this file.
//!
//! The launcher is started in as odd a way as an operator could: with signals blocked and ignored, another
//! umask, a lower priority, addresses that are not randomised. A program that a login shell starts in the
//! same way is what the agent and a command of `exec` are compared with.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, ensure};
use libtest_mimic::Trial;

use crate::fixture::{DEFAULT_SIGNALS, Fixture, ORDINARY, User, is_root, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    let mut trials = vec![trial(user, "what_a_program_inherits_is_as_documented", programs)];
    if user == User::Own {
        trials.push(trial(user, "what_our_processes_inherit_is_as_documented", processes));
        trials.push(trial(user, "the_page_on_inheritance_is_fresh", page));
    }
    trials
}

/// What a value has to be.
#[derive(Clone, Copy)]
enum Expected {
    /// This, however the launcher was started.
    Always(&'static str),
    /// What a program has that a login shell started in the same way.
    AsFromTheShell,
    /// A quarter of that, for the soft and the hard limit alike.
    PartOfTheShells,
}
use Expected::{Always, AsFromTheShell, PartOfTheShells};

/// One thing that a program inherits.
struct Attribute {
    /// As it is measured: the file below `/proc/self` and the field in it.
    field: &'static str,
    what: &'static str,
    expected: Expected,
    /// Why it is not what a login shell's program has, or why that is well.
    reason: &'static str,
}

const fn attribute(
    field: &'static str,
    what: &'static str,
    expected: Expected,
    reason: &'static str,
) -> Attribute {
    Attribute { field, what, expected, reason }
}

const NO_SIGNAL: &str = "0000000000000000";
const NO_CAPABILITY: &str = "0000000000000000";

/// For the agent and for commands of `exec` alike.
#[rustfmt::skip]
const ATTRIBUTES: &[Attribute] = &[
    attribute("status SigBlk", "blocked signals", Always(NO_SIGNAL), "a program that starts with SIGCHLD blocked waits in vain for its children"),
    attribute("status SigIgn", "ignored signals", Always(NO_SIGNAL), "`nohup` concerns the launcher, which decides when a bottle ends"),
    attribute("status SigPnd", "pending signals", Always(NO_SIGNAL), ""),
    attribute("status Umask", "umask", Always("0022"), "what an agent makes is the same for everybody; the folders of a run are closed to others"),
    attribute("status Groups", "supplementary groups", Always(""), "root's are left; an ordinary user's cannot be, and show as `nogroup`"),
    attribute("status CapInh", "inheritable capabilities", Always(NO_CAPABILITY), ""),
    attribute("status CapPrm", "permitted capabilities", Always(NO_CAPABILITY), "root too is nobody in a bottle"),
    attribute("status CapEff", "effective capabilities", Always(NO_CAPABILITY), "root too is nobody in a bottle"),
    attribute("status CapBnd", "bounding set", Always(NO_CAPABILITY), "no program can bring one along"),
    attribute("status CapAmb", "ambient capabilities", Always(NO_CAPABILITY), ""),
    attribute("status NoNewPrivs", "no_new_privs", Always("1"), "set-user-id programs are ordinary ones"),
    attribute("status Seccomp", "seccomp", Always("2"), "the filter"),
    attribute("status Cpus_allowed_list", "processors", AsFromTheShell, "fewer with `limits.cpus` where no control group counts"),
    attribute("status THP_enabled", "huge pages", AsFromTheShell, ""),
    attribute("stat priority", "priority", AsFromTheShell, ""),
    attribute("stat nice", "nice value", AsFromTheShell, "who starts the launcher with `nice` means the bottle"),
    attribute("stat policy", "scheduling policy", AsFromTheShell, "as the nice value"),
    attribute("stat rt_priority", "real-time priority", AsFromTheShell, "as the nice value"),
    attribute("stat tty_nr", "controlling terminal", Always("0"), "with a terminal it is a pseudo-terminal of the bottle's own"),
    attribute("stat session", "session", Always("own"), "so that the terminal's signals reach the launcher alone, which passes them on"),
    attribute("stat pgrp", "process group", Always("own"), "as the session"),
    attribute("stat ppid", "parent", Always("1"), "the bottle's first process, which reaps"),
    attribute("limits Max cpu time", "RLIMIT_CPU", AsFromTheShell, ""),
    attribute("limits Max file size", "RLIMIT_FSIZE", AsFromTheShell, "`limits.disk` where it is set"),
    attribute("limits Max data size", "RLIMIT_DATA", AsFromTheShell, ""),
    attribute("limits Max stack size", "RLIMIT_STACK", AsFromTheShell, ""),
    attribute("limits Max core file size", "RLIMIT_CORE", Always("1 1 bytes"), "no core dump, and none to a program of the host: 0 does not stop a `core_pattern` with a pipe, core(5)"),
    attribute("limits Max resident set", "RLIMIT_RSS", AsFromTheShell, ""),
    attribute("limits Max processes", "RLIMIT_NPROC", Always("8193 8193 processes"), "`limits.pids` and one, counted in the bottle alone"),
    attribute("limits Max open files", "RLIMIT_NOFILE", AsFromTheShell, ""),
    attribute("limits Max locked memory", "RLIMIT_MEMLOCK", PartOfTheShells, "a quarter: the kernel counts it for the whole user"),
    attribute("limits Max address space", "RLIMIT_AS", AsFromTheShell, ""),
    attribute("limits Max file locks", "RLIMIT_LOCKS", AsFromTheShell, ""),
    attribute("limits Max pending signals", "RLIMIT_SIGPENDING", PartOfTheShells, "a quarter, timers included"),
    attribute("limits Max msgqueue size", "RLIMIT_MSGQUEUE", PartOfTheShells, "a quarter"),
    attribute("limits Max nice priority", "RLIMIT_NICE", Always("0 0"), "no program goes before those of the host"),
    attribute("limits Max realtime priority", "RLIMIT_RTPRIO", Always("0 0"), "no program goes before those of the host"),
    attribute("limits Max realtime timeout", "RLIMIT_RTTIME", AsFromTheShell, ""),
    attribute("cgroup", "control groups", Always("/"), "those of the launcher, or one of the bottle's own; shown from inside as the root"),
    attribute("oom_score_adj", "OOM score", AsFromTheShell, ""),
    attribute("timerslack_ns", "timer slack", AsFromTheShell, ""),
    attribute("personality", "personality", Always("00000000"), "addresses are randomised whatever the launcher was started with"),
    attribute("coredump_filter", "what a core dump would hold", AsFromTheShell, ""),
    attribute("cwd", "working directory", Always("/home/agent/workspace"), "the workspace, or what `exec` asks for"),
    attribute("fd", "descriptors", Always("0 1 2"), "the three streams"),
    attribute("environ", "variables", Always("LANG HOME PATH TERM"), "those of the plan; none of the launcher's"),
    attribute("dumpable", "dumpable", Always("yes"), "so that a debugger inside could work; the filter refuses ptrace(2) for now"),
];

/// Of the gateway and of the bottle's first process: field, what, gateway, first process.
#[rustfmt::skip]
const OF_OUR_PROCESSES: &[(&str, &str, Option<&str>, Option<&str>)] = &[
    ("status SigBlk", "blocked signals", Some(NO_SIGNAL), Some("0000000000010000")),
    // SIGPIPE, which the runtime of Rust ignores.
    ("status SigIgn", "ignored signals", Some("0000000000001000"), Some(NO_SIGNAL)),
    ("status CapPrm", "permitted capabilities", None, Some(NO_CAPABILITY)),
    ("status CapEff", "effective capabilities", None, Some(NO_CAPABILITY)),
    ("status CapBnd", "bounding set", None, Some(NO_CAPABILITY)),
    ("status NoNewPrivs", "no_new_privs", None, Some("1")),
    ("stat session", "session", Some("own"), Some("own")),
    ("stat tty_nr", "controlling terminal", Some("0"), Some("0")),
    ("limits Max core file size", "RLIMIT_CORE", Some("1 1 bytes"), Some("1 1 bytes")),
    ("personality", "personality", Some("00000000"), Some("00000000")),
    ("cwd", "working directory", None, Some("/")),
    ("environ", "variables", Some(""), Some("")),
    ("dumpable", "dumpable", Some("no"), None),
];

/// Programs that change nothing of what they inherit, as a shell does: bash empties the set of blocked
/// signals.
const FILES: [&str; 8] = [
    "/proc/self/status",
    "/proc/self/stat",
    "/proc/self/limits",
    "/proc/self/cgroup",
    "/proc/self/oom_score_adj",
    "/proc/self/timerslack_ns",
    "/proc/self/personality",
    "/proc/self/coredump_filter",
];

fn commands() -> [Vec<&'static str>; 5] {
    let mut files = vec!["grep", "-H", ""];
    files.extend(FILES);
    [
        files,
        vec!["readlink", "/proc/self/cwd"],
        vec!["ls", "/proc/self/fd"],
        vec!["env"],
        vec!["stat", "-c", "%u", "/proc/self/stat"],
    ]
}

/// What was measured, by field.
type Measured = BTreeMap<String, String>;

/// From the outputs of [`commands`].
fn measured(outputs: &[String; 5], user: &str) -> Measured {
    let mut all = Measured::new();
    for line in outputs[0].lines() {
        let Some((file, text)) = line.split_once(':') else { continue };
        add(&mut all, file.rsplit('/').next().unwrap_or_default(), text);
    }
    all.insert("cwd".to_owned(), outputs[1].trim().to_owned());
    // The folder that is listed is open as well.
    let descriptors: Vec<_> = outputs[2].split_whitespace().filter(|number| *number != "3").collect();
    all.insert("fd".to_owned(), descriptors.join(" "));
    let names: Vec<_> = outputs[3].lines().filter_map(|line| line.split('=').next()).collect();
    all.insert("environ".to_owned(), names.join(" "));
    // The files of a process that is not dumpable belong to root, proc(5).
    let dumpable = if outputs[4].trim() == user { "yes" } else { "no" };
    all.insert("dumpable".to_owned(), dumpable.to_owned());
    all
}

/// Takes one line of a file of `/proc/PID`.
fn add(all: &mut Measured, file: &str, line: &str) {
    let squeezed = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match file {
        "status" => {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            all.insert(format!("status {name}"), squeezed(value));
        }
        "limits" => {
            let (name, value) = line.split_at(line.len().min(26));
            all.insert(format!("limits {}", name.trim()), squeezed(value));
        }
        "cgroup" => {
            let path = line.splitn(3, ':').nth(2).unwrap_or_default();
            let known = all.entry(file.to_owned()).or_insert_with(|| path.to_owned());
            if known != path {
                known.push_str(&format!(" {path}"));
            }
        }
        "stat" => {
            let pid = line.split(' ').next().unwrap_or_default();
            // From the third field on, proc_pid_stat(5); the name of the program may hold blanks.
            let fields: Vec<_> = line.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
            for (name, number) in [
                ("ppid", 4),
                ("pgrp", 5),
                ("session", 6),
                ("tty_nr", 7),
                ("priority", 18),
                ("nice", 19),
                ("rt_priority", 40),
                ("policy", 41),
            ] {
                let value = fields.get(number - 3).copied().unwrap_or_default();
                let value = if matches!(name, "pgrp" | "session") && value == pid { "own" } else { value };
                all.insert(format!("stat {name}"), value.to_owned());
            }
        }
        _ => {
            all.insert(file.to_owned(), line.trim().to_owned());
        }
    }
}

/// Starts a program as an operator could who wants to be difficult. Its arguments come last.
fn oddly(program: &Command) -> Command {
    let mut odd = Command::new("env");
    odd.args(["--block-signal=CHLD,USR1,WINCH", "--ignore-signal=HUP,INT,QUIT,PIPE,USR2", "setarch", "-R"]);
    odd.args(["nice", "-n", "3", "sh", "-c", "umask 077; ulimit -n 4000; exec \"$@\"", "sh"]);
    // The oddity is to arrive.
    odd.arg(program.get_program()).args(program.get_args().filter(|argument| *argument != DEFAULT_SIGNALS));
    odd.env_clear().env("PATH", "/usr/bin:/bin").env("SECRET_OF_THE_LAUNCHER", "x").current_dir("/");
    odd.stdin(Stdio::null());
    odd
}

fn as_user(command: &mut Command, user: User) {
    if user != User::Own {
        command.uid(ORDINARY).gid(ORDINARY);
    }
}

fn text(output: Output) -> anyhow::Result<String> {
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn programs(user: User) -> anyhow::Result<()> {
    let mut shell = Command::new("bash");
    shell.args(["-l", "-c", "exec \"$@\"", "bash"]).args(&commands()[0]);
    let mut shell = oddly(&shell);
    as_user(&mut shell, user);
    let from_shell =
        measured(&[text(shell.output()?)?, String::new(), String::new(), String::new(), String::new()], "");

    let mut agent: [String; 5] = Default::default();
    let mut beside: [String; 5] = Default::default();
    for (slot, command) in agent.iter_mut().zip(commands()) {
        let fixture = Fixture::new(user, &command);
        let mut launcher = oddly(&fixture.launcher());
        as_user(&mut launcher, user);
        *slot = text(launcher.output()?)?;
    }
    let fixture = Fixture::shell(user, "echo ready; exec sleep 600");
    let mut launcher = oddly(&fixture.launcher());
    as_user(&mut launcher, user);
    let mut running = launcher.stdout(Stdio::piped()).spawn()?;
    std::io::Read::read_exact(running.stdout.as_mut().context("piped")?, &mut [0; 6])?;
    for (slot, command) in beside.iter_mut().zip(commands()) {
        // The variable is what the client of the tests adds.
        *slot = text(fixture.exec(&command))?.replace("FROM_EXEC=yes\n", "");
    }
    running.kill()?;
    running.wait()?;

    let mut problems = String::new();
    for (who, measured) in [("agent", measured(&agent, "1000")), ("exec", measured(&beside, "1000"))] {
        for Attribute { field, expected, .. } in ATTRIBUTES {
            let value = measured.get(*field).with_context(|| format!("{field} was not measured"))?;
            let shells = || from_shell.get(*field).cloned().context("not measured for the shell");
            let wanted = match expected {
                Always(wanted) => (*wanted).to_owned(),
                AsFromTheShell => shells()?,
                PartOfTheShells => quarter(&shells()?),
            };
            if sorted(value) != sorted(&wanted) {
                writeln!(problems, "{who}: {field} is `{value}`, not `{wanted}`")?;
            }
        }
    }
    ensure!(problems.is_empty(), "{problems}");
    Ok(())
}

/// A line of `/proc/PID/limits` with a quarter of its soft limit twice; one without a limit stays.
fn quarter(limits: &str) -> String {
    let mut fields: Vec<String> = limits.split(' ').map(str::to_owned).collect();
    if let Some(part) = fields.first().and_then(|soft| soft.parse::<u64>().ok()).map(|soft| soft / 4) {
        fields[..2].fill(part.to_string());
    }
    fields.join(" ")
}

/// The order of variables has no meaning.
fn sorted(value: &str) -> Vec<&str> {
    let mut words: Vec<_> = value.split(' ').collect();
    words.sort_unstable();
    words
}

fn processes(user: User) -> anyhow::Result<()> {
    if !is_root() {
        return crate::fixture::skip("root", "what the gateway inherits: only root can look at it");
    }
    let fixture = Fixture::shell(user, "echo ready; exec sleep 600");
    let mut running = oddly(&fixture.launcher()).stdout(Stdio::piped()).spawn()?;
    std::io::Read::read_exact(running.stdout.as_mut().context("piped")?, &mut [0; 6])?;
    let recorded = fixture.recorded();
    let [gateway, first] = recorded.as_slice() else { anyhow::bail!("two processes: {recorded:?}") };
    let (gateway, first) = (of_process(*gateway)?, of_process(*first)?);
    running.kill()?;
    running.wait()?;
    let mut problems = String::new();
    for (field, _, of_gateway, of_first) in OF_OUR_PROCESSES {
        for (who, measured, expected) in [("gateway", &gateway, of_gateway), ("first", &first, of_first)] {
            let value = measured.get(*field).with_context(|| format!("{field} was not measured"))?;
            if expected.is_some_and(|expected| expected != value) {
                writeln!(problems, "{who}: {field} is `{value}`, not {expected:?}")?;
            }
        }
    }
    ensure!(problems.is_empty(), "{problems}");
    Ok(())
}

/// From outside, which needs root.
fn of_process(pid: i32) -> anyhow::Result<Measured> {
    let folder = Path::new("/proc").join(pid.to_string());
    let mut all = Measured::new();
    for file in ["status", "stat", "limits", "personality"] {
        for line in fs::read_to_string(folder.join(file))?.lines() {
            add(&mut all, file, line);
        }
    }
    all.insert("cwd".to_owned(), fs::read_link(folder.join("cwd"))?.to_string_lossy().into_owned());
    all.insert("environ".to_owned(), fs::read_to_string(folder.join("environ"))?);
    let dumpable = if is_dumpable(pid)? { "yes" } else { "no" };
    all.insert("dumpable".to_owned(), dumpable.to_owned());
    Ok(all)
}

/// Whether the kernel would dump a process of root: one with the same user and no capability may look into
/// it.
fn is_dumpable(pid: i32) -> anyhow::Result<bool> {
    let looked = Command::new("setpriv")
        .args(["--bounding-set", "-all", "--inh-caps", "-all", "readlink", &format!("/proc/{pid}/exe")])
        .output()?;
    Ok(looked.status.success())
}

fn page(_: User) -> anyhow::Result<()> {
    let mut page = "# What a process inherits\n\n\
        Whatever a process inherits that nobody thought of is a way in or a riddle. This page is made from the tables of\n\
        `crates/launch/tests/bottle/inherited.rs`, which compare each value with that of a program that a login shell\n\
        starts, for a launcher that was started with signals blocked and ignored, another umask, a lower priority and\n\
        addresses that are not randomised: `UPDATE_DOCS=1 cargo test -p bot-bottle-launch --test bottle inheritance`.\n\n\
        ## The agent, and what `exec` runs\n\n| what | value | why |\n|---|---|---|\n"
        .to_owned();
    for Attribute { what, expected, reason, .. } in ATTRIBUTES {
        let value = match expected {
            Always("" | NO_SIGNAL) => "none".to_owned(),
            Always(value) => format!("`{value}`"),
            AsFromTheShell => "as from a login shell".to_owned(),
            PartOfTheShells => "a quarter of a login shell's".to_owned(),
        };
        writeln!(page, "| {what} | {value} | {reason} |")?;
    }
    page.push_str(
        "| keyrings | none | keyctl(2), add_key(2) and request_key(2) are refused; our processes join a session keyring \
         of their own, so that the operator's is not held |\n\n\
         ## The gateway and the bottle's first process\n\n\
         What is not listed, or has no value, is the launcher's, but for one thing: that the first process is not dumpable\n\
         is shown by the attempts to look into it from inside.\n\n| what | gateway | first process |\n|---|---|---|\n",
    );
    for (_, what, of_gateway, of_first) in OF_OUR_PROCESSES {
        let value = |value: &Option<&str>| match value {
            None => "–".to_owned(),
            Some("" | NO_SIGNAL) => "none".to_owned(),
            Some("0000000000001000") => "SIGPIPE".to_owned(),
            Some("0000000000010000") => "SIGCHLD".to_owned(),
            Some(value) => format!("`{value}`"),
        };
        writeln!(page, "| {what} | {} | {} |", value(of_gateway), value(of_first))?;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/inherited.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &page)?;
    }
    ensure!(fs::read_to_string(&path).unwrap_or_default() == page, "docs/inherited.md is stale");
    Ok(())
}
