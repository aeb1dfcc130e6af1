//! The process's environment, clock and random numbers, which no other module reads.

use std::{
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bot_bottle_core::error::{IoContext, IoError};
use bot_bottle_engine::{AddressError, EngineAddress, EngineEnvironment};
use bot_bottle_gateway::BoundedLog;
use bot_bottle_launch::agent_image::ImageEnvironment;

use crate::exit::{CommandError, Failure};

/// Seconds since 1970, UTC.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// Bytes from the kernel's random number generator (`getrandom(2)`).
pub(crate) fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], CommandError> {
    let mut bytes = [0; LENGTH];
    let mut filled = 0;
    while filled < LENGTH {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .io_context(|| "no random numbers")
            .map_err(internal)?;
    }
    Ok(bytes)
}

fn internal(error: IoError) -> CommandError {
    CommandError::from_error(error).with_failure(Failure::Internal)
}

/// The operator's home.
pub(crate) fn home() -> Result<PathBuf, CommandError> {
    std::env::home_dir().filter(|home| home.is_absolute()).ok_or_else(|| {
        CommandError::failed("the home directory is unknown").with_hint("set HOME to an absolute path")
    })
}

/// Where bot-bottle keeps its files: `BOT_BOTTLE_HOME`, or `~/.bot-bottle`.
pub(crate) fn bot_bottle_home() -> Result<PathBuf, CommandError> {
    match std::env::var_os("BOT_BOTTLE_HOME").map(PathBuf::from) {
        Some(moved) if moved.is_absolute() => Ok(moved),
        Some(moved) => Err(CommandError::usage(format!(
            "BOT_BOTTLE_HOME is `{}`, which is not an absolute path",
            moved.display()
        ))
        .with_hint("write it from the root on: /home/you/.bot-bottle")),
        None => Ok(home()?.join(".bot-bottle")),
    }
}

/// The working directory.
pub(crate) fn working_directory() -> Result<PathBuf, CommandError> {
    std::env::current_dir()
        .io_context(|| "the current directory cannot be read")
        .map_err(|error| CommandError::from_error(error).with_hint("change to one that exists"))
}

/// A variable of the environment, if it is set and is text.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// This program's own file, which is also the gateway and the init process of a bottle.
pub(crate) fn own_binary() -> Result<PathBuf, CommandError> {
    std::env::current_exe().io_context(|| "this program's own file cannot be found").map_err(internal)
}

/// The host's `PATH`.
pub(crate) fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// smolvm's program: `BOT_BOTTLE_SMOLVM`, or the first of that name on `PATH`.
pub(crate) fn smolvm() -> Result<PathBuf, CommandError> {
    let path = search_path();
    let named = std::env::var_os("BOT_BOTTLE_SMOLVM").filter(|path| !path.is_empty()).map(PathBuf::from);
    let on_path = || {
        let mut programs = std::env::split_paths(&path).map(|folder| folder.join("smolvm"));
        programs.find(|program| program.is_absolute() && program.is_file())
    };
    let found = named.or_else(on_path);
    found.ok_or_else(|| {
        CommandError::new(Failure::Backend, "the program `smolvm` is not installed")
            .with_hint("install smolvm 1.32 or newer, or name it in BOT_BOTTLE_SMOLVM")
    })
}

/// A descriptor that this process was started with, by its number.
pub(crate) fn inherited_descriptor(number: i32) -> Result<OwnedFd, CommandError> {
    if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() || number < 3 {
        return Err(CommandError::usage(format!("descriptor {number} is not open for this process")));
    }
    Ok(bot_bottle_launch::take_control(number))
}

/// Where the container engine listens: `DOCKER_HOST`, or the first of the usual sockets that there is.
pub(crate) fn engine_address() -> Result<EngineAddress, CommandError> {
    find_engine().map_err(|error| CommandError::from_error(error).with_failure(Failure::Backend))
}

/// The same, for what may do without one.
pub(crate) fn find_engine() -> Result<EngineAddress, AddressError> {
    let (host, context) = (variable("DOCKER_HOST"), variable("DOCKER_CONTEXT"));
    let (runtime, home) = (variable("XDG_RUNTIME_DIR").map(PathBuf::from), std::env::home_dir());
    let environment = EngineEnvironment {
        docker_host: host.as_deref(),
        docker_context: context.as_deref(),
        runtime_directory: runtime.as_deref(),
        home: home.as_deref(),
    };
    EngineAddress::find(&environment, std::path::Path::exists)
}

/// The arguments that every Dockerfile has without declaring them, in the spelling of either case (Dockerfile
/// reference, predefined ARGs).
const PROXY_VARIABLES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"];

/// What the environment says about images: docker's configuration file (`DOCKER_CONFIG`), proxies, and
/// `BOT_BOTTLE_BASE_IMAGE`.
pub(crate) fn image_environment() -> ImageEnvironment {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| std::env::home_dir().map(|home| home.join(".docker")));
    let names = PROXY_VARIABLES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    ImageEnvironment {
        docker_config: folder.map(|folder| folder.join("config.json")),
        proxies: names.filter_map(|name| variable(&name).map(|value| (name, value))).collect(),
        base: variable("BOT_BOTTLE_BASE_IMAGE").filter(|name| !name.is_empty()),
    }
}

/// Sends the gateway's log to stderr: warnings, or what the `tracing` directives in `BOT_BOTTLE_LOG` select.
/// The log holds no header, query or body.
pub(crate) fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("BOT_BOTTLE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // Fails only if a subscriber is installed already; this is called once.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(Arc::new(BoundedLog::new(std::io::stderr())))
        .with_ansi(false)
        .try_init();
}
