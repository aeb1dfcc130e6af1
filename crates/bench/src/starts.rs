//! How long it takes until a program runs in a bottle, beside `docker run` with the flags of the agent's container.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use crate::rows::median;

/// What runs: the first thing that it does is seen from outside.
const PROGRAM: [&str; 3] = ["sh", "-c", "echo runs"];

/// Flags of the agent's container, of `crates/launch/src/docker/render.rs`.
const FLAGS: &[&str] = &[
    "run", "--rm", "--interactive", "--network=none", "--user=0:0", "--cap-drop=ALL", "--cap-add=NET_ADMIN",
    "--cap-add=SETGID", "--cap-add=SETPCAP", "--cap-add=SETUID", "--security-opt=no-new-privileges",
    "--pids-limit=8192", "--shm-size=2g", "--cgroupns=private", "--log-driver=none", "--stop-signal=SIGKILL",
    "--sysctl=net.ipv4.ip_unprivileged_port_start=0", "--hostname=bottle", "--workdir=/",
];

/// A way to run a program in a sandbox.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    DockerRun,
    Docker,
    Native,
}

impl Way {
    const ALL: [Self; 3] = [Self::DockerRun, Self::Docker, Self::Native];

    fn name(self) -> &'static str {
        match self {
            Self::DockerRun => "`docker run`",
            Self::Docker => "`bot-bottle run --backend docker`",
            Self::Native => "`bot-bottle run --backend native`",
        }
    }

    fn command(self, bot_bottle: &Path, image: &str, home: &Path) -> Command {
        let mut command = match self {
            Self::DockerRun => Command::new("docker"),
            Self::Docker | Self::Native => Command::new(bot_bottle),
        };
        match self {
            Self::DockerRun => command.args(FLAGS).arg(image),
            Self::Docker => command.args(["run", "--backend", "docker", "--image", image, "--"]),
            Self::Native => command.args(["run", "--backend", "native", "--"]),
        };
        command.args(PROGRAM).current_dir(home.join("project"));
        command.env("HOME", home).env("BOT_BOTTLE_HOME", home.join("bot-bottle"));
        command
    }
}

/// Measures each way so many times, in turn, and prints the medians with their ratios to `docker run`.
pub(crate) fn measure(bot_bottle: &Path, image: &str, rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("project"))?;
    let bot_bottle: PathBuf = bot_bottle.canonicalize().context("bot-bottle")?;
    let mut times = Way::ALL.map(|way| (way, Vec::new(), Vec::new()));
    // The first start makes the image of the gateway.
    for round in 0..=rounds {
        for (way, first, whole) in &mut times {
            let (until_it_ran, until_the_end) = of(way.command(&bot_bottle, image, folder.path()))
                .with_context(|| format!("with {}", way.name()))?;
            if round > 0 {
                first.push(until_it_ran);
                whole.push(until_the_end);
            }
        }
    }
    println!("| | until the program runs, ms | ÷ `docker run` | until all has ended, ms | ÷ `docker run` |");
    println!("|---|---:|---:|---:|---:|");
    let [base_first, base_whole] = [times[0].1.clone(), times[0].2.clone()].map(median);
    for (way, first, whole) in times {
        let (first, whole) = (median(first), median(whole));
        let (name, first_ratio, whole_ratio) = (way.name(), first / base_first, whole / base_whole);
        println!("| {name} | {first:.0} | {first_ratio:.2} | {whole:.0} | {whole_ratio:.2} |");
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("\n{rounds} rounds; load averages at the end: {}", load.trim());
    Ok(())
}

/// Milliseconds until the program wrote its line, and until the command had ended.
fn of(mut command: Command) -> Result<(f64, f64)> {
    let started = Instant::now();
    let milliseconds = || started.elapsed().as_secs_f64() * 1e3;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut said = [0; 5];
    let read = child.stdout.as_mut().context("piped")?.read_exact(&mut said);
    let until_it_ran = milliseconds();
    let ended = child.wait_with_output()?;
    let whole = milliseconds();
    let succeeded = ended.status.success() && read.is_ok() && said == *b"runs\n";
    ensure!(succeeded, "{}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
    Ok((until_it_ran, whole))
}
