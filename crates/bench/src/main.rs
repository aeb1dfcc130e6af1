//! Measures the gateway beside other proxies that terminate TLS, all in one run and over loopback, and prints
//! a table. `docs/performance.md` says what the rows mean.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;

mod authority;
mod bare;
mod client;
mod contender;
mod process;
mod rows;
mod squid;
mod starts;
mod table;
mod upstream;

use authority::Files;
use client::Target;
use contender::{Contender, start_upstream};
use rows::{Amount, Measured};
use squid::Squid;
use table::Table;

/// Measures the gateway beside direct connections, hudsucker, mitmproxy and squid.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// How often everything is measured; the table has the medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A tenth of the time, to see whether it runs.
    #[arg(long)]
    quick: bool,
    /// The upstream offers HTTP/2 too; the clients speak HTTP/1.1 as before.
    #[arg(long)]
    http2: bool,
    /// The program to measure, instead of the one that is built here.
    #[arg(long)]
    bot_bottle: Option<PathBuf>,
}

/// What this program is when it runs itself again.
#[derive(Subcommand)]
enum Part {
    /// The server that is asked.
    #[command(hide = true)]
    Upstream {
        folder: PathBuf,
        address: SocketAddr,
        #[arg(long)]
        http2: bool,
    },
    /// Measures starts of bottles beside `docker run` instead; the engine's program `docker` has to be there.
    Starts {
        /// An image that the engine has, with `sh`.
        #[arg(long)]
        image: String,
        /// How often each is started; the table has the medians.
        #[arg(long, default_value_t = 20)]
        starts: usize,
    },
    /// The proxy that is compared with.
    #[command(hide = true)]
    Hudsucker { folder: PathBuf, address: SocketAddr, upstream: SocketAddr },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    // Two libraries here would each choose a provider of their own otherwise.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = Runtime::new()?;
    match arguments.part {
        Some(Part::Upstream { folder, address, http2 }) => {
            runtime.block_on(upstream::serve(&Files::in_folder(&folder), address, http2))
        }
        Some(Part::Hudsucker { folder, address, upstream }) => {
            runtime.block_on(bare::serve(&Files::in_folder(&folder), address, upstream))
        }
        Some(Part::Starts { image, starts }) => {
            let program = match arguments.bot_bottle {
                Some(program) => program,
                None => build_static()?,
            };
            starts::measure(&program, &image, starts)
        }
        None => runtime.block_on(measure(&arguments)),
    }
}

async fn measure(arguments: &Arguments) -> Result<()> {
    raise_descriptor_limit();
    let program = match &arguments.bot_bottle {
        Some(program) => program.clone(),
        None => build()?,
    };
    let mut contenders = vec![Contender::Direct, Contender::Gateway(program), Contender::Hudsucker];
    match Contender::mitmproxy() {
        Some(mitmproxy) => contenders.push(mitmproxy),
        None => eprintln!(
            "SKIPPED mitmproxy: no mitmdump on PATH; \
             python3 -m venv V && V/bin/pip install mitmproxy, and name it: MITMDUMP=V/bin/mitmdump"
        ),
    }
    match Squid::installed() {
        Some(squid) => contenders.push(Contender::Squid(squid)),
        None => eprintln!(
            "SKIPPED squid: none with OpenSSL on PATH or in /usr/sbin; on Debian: apt-get install squid-openssl"
        ),
    }
    let folder = tempfile::tempdir()?;
    let files = Files::in_folder(folder.path());
    files.create()?;
    let (_upstream, upstream) = start_upstream(&files, arguments.http2)?;
    let amount = if arguments.quick { Amount::QUICK } else { Amount::WHOLE };
    let mut table = Table::default();
    for round in 1..=arguments.rounds {
        for contender in &contenders {
            eprintln!("round {round} of {}: {}", arguments.rounds, contender.name());
            let figures = of(contender, &files, upstream, amount, round == 1).await;
            table.add(contender.name(), figures.with_context(|| format!("through {}", contender.name()))?);
        }
    }
    let columns: Vec<&str> = contenders.iter().map(Contender::name).collect();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{}", table.markdown(&columns));
    println!("{processors} processors; load averages at the end: {}", load.trim());
    Ok(())
}

/// The figures of one round. Memory is measured in one of them: it takes a while and hardly differs.
async fn of(
    contender: &Contender,
    files: &Files,
    upstream: SocketAddr,
    amount: Amount,
    memory: bool,
) -> Result<Vec<rows::Figure>> {
    let started = || -> Result<_> {
        let running = contender.start(files, upstream)?;
        let target = Target::new(upstream, running.address);
        Ok((Measured { target, process: running.id(), amount }, running))
    };
    let (measured, running) = started()?;
    let mut figures = measured.speed().await?;
    drop(running);
    if memory && !matches!(contender, Contender::Direct) {
        let (measured, running) = started()?;
        figures.extend(measured.streams().await?);
        drop(running);
        let (measured, _running) = started()?;
        figures.extend(measured.hosts().await?);
    }
    Ok(figures)
}

/// Builds the program as it is published.
fn build() -> Result<PathBuf> {
    let target = cargo(&["build", "--bin", "bot-bottle", "--target-dir", "target"])?;
    Ok(target.join("release/bot-bottle"))
}

/// Builds the program without libraries, as containers need it.
fn build_static() -> Result<PathBuf> {
    let host = cargo(&["build-static"])?.join("static");
    // In a folder with the name of this host.
    let folders = fs::read_dir(&host).with_context(|| host.display().to_string())?;
    let built = folders.flatten().map(|folder| folder.path().join("release/bot-bottle"));
    built.into_iter().find(|program| program.exists()).context("cargo build-static made no program")
}

/// Runs a command of cargo's that builds, and returns where it builds to.
fn cargo(arguments: &[&str]) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let status = Command::new("cargo")
        .args(arguments)
        .args(["--release", "--locked"])
        .current_dir(&root)
        .status()
        .context("cargo cannot be started")?;
    ensure!(status.success(), "bot-bottle cannot be built");
    Ok(root.join("target"))
}

/// A thousand streams are two thousand descriptors. The proxies inherit the limit.
fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
