//! The parts that this binary plays for the docker backend: the first process of each container, and the process
//! of the host that holds the link to one.

use std::{
    fs, io,
    io::Write,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::ExitCode,
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::{GatewayConfig, GatewayStart},
};
use bot_bottle_engine::{Engine, attach};
use bot_bottle_gateway::ReceiptsFile;
use bot_bottle_launch::docker::{
    self, ContainerGatewayStart, HAND_OVER_FOLDER, HandedOver, Receiver, receive_start,
};
use bot_bottle_launch::init::link_process::LinkProcess;
use bot_bottle_link::{
    ContainerOptions, FileWriter, LauncherOptions, LinkEnd, LocalKind, container_end, launcher_end,
};
use tokio::{
    net::unix::pipe,
    runtime::{Builder, Runtime},
};

use crate::{
    arguments::{ContainerGateway, ContainerLink, LinkCarries},
    exit::CommandError,
    system,
    ui::Ui,
};

/// Name of the receipts on the link.
const RECEIPTS: &str = "receipts";

/// The first process of an agent's container. To be called before anything else, as `sandbox-init` is.
pub(crate) fn init(ui: &Ui) -> Result<ExitCode, CommandError> {
    let carry = |local| carry(local, ContainerOptions::new(LocalKind::Messages), ui);
    let status = docker::container_init(carry).io_context(|| "making the bottle in its container");
    let status = status.map_err(CommandError::from_error)?;
    Ok(ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX)))
}

/// The first process of a gateway's container: the gateway itself.
pub(super) fn gateway(arguments: &ContainerGateway, ui: &Ui) -> Result<ExitCode, CommandError> {
    let (link, control, receipts) = start_link(arguments, ui).map_err(CommandError::from_error)?;
    system::start_logging();
    let (config, start, sockets) = receive(&control).map_err(CommandError::from_error)?;
    let served = bot_bottle_gateway::serve_handed_over(&config, start, sockets, control, receipts);
    link.finish();
    served.map_err(CommandError::from_error)?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the process that holds the link. Gives the socket to the launcher, and the pipe for the receipts.
fn start_link(arguments: &ContainerGateway, ui: &Ui) -> Result<(LinkProcess, UnixStream, OwnedFd), IoError> {
    let (read, write) = io::pipe().io_context(|| "making a pipe for the receipts")?;
    let listen = |address: &SocketAddr| {
        let listener = TcpListener::bind(address).io_context(|| format!("listening at {address}"));
        listener.map(|listener| (listener, *address))
    };
    let options = ContainerOptions {
        files: vec![(RECEIPTS.to_owned(), OwnedFd::from(read))],
        dials: arguments.dials.iter().map(listen).collect::<Result<_, _>>()?,
        ..ContainerOptions::new(LocalKind::Bytes)
    };
    let started = LinkProcess::start(|local| carry(local, options, ui));
    let (link, control) = started.io_context(|| "starting the link to the launcher")?;
    Ok((link, control, OwnedFd::from(write)))
}

/// What the launcher sends, and the sockets of the agent's container.
fn receive(control: &UnixStream) -> Result<(GatewayConfig, GatewayStart, Vec<OwnedFd>), IoError> {
    let receiver = Receiver::listen(Path::new(HAND_OVER_FOLDER));
    let receiver = receiver.io_context(|| format!("listening in {HAND_OVER_FOLDER}"))?;
    let messages = receive_start(control).io_context(|| "receiving the configuration")?;
    let (ContainerGatewayStart { config, certificates }, start) = messages;
    for (path, content) in certificates {
        fs::write(&path, content).io_context(|| format!("writing {}", path.display()))?;
    }
    let HandedOver { kinds, sockets } = receiver.receive().io_context(|| "taking the listeners")?;
    if kinds != start.listeners {
        let why = "they are not those that the launcher told of";
        return Err(IoError::new("taking the listeners", io::Error::new(io::ErrorKind::InvalidData, why)));
    }
    Ok((config, start, sockets))
}

/// Holds the container's end of the link, until it ends.
pub(super) fn carry(local: io::Result<UnixStream>, options: ContainerOptions, ui: &Ui) -> i32 {
    let carried = || -> io::Result<LinkEnd> {
        let local = local?;
        let (stdin, stdout) =
            (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
        let runtime = runtime()?;
        let _entered = runtime.enter();
        let stream =
            tokio::io::join(pipe::Receiver::from_owned_fd(stdin)?, pipe::Sender::from_owned_fd(stdout)?);
        local.set_nonblocking(true)?;
        let local = tokio::net::UnixStream::from_std(local)?;
        Ok(runtime.block_on(container_end(stream, local, options)))
    };
    link_status(carried(), "launcher", ui)
}

/// The exit status of a process that held a link, whose other end this names. Warns of an end that is none of the
/// ordinary ones.
pub(super) fn link_status(held: io::Result<LinkEnd>, other_end: &str, ui: &Ui) -> i32 {
    match held {
        Ok(LinkEnd::Finished | LinkEnd::LauncherGone) => return 0,
        Ok(end) => ui.warn(&end.to_string()),
        Err(error) => ui.warn(&format!("the link to the {other_end}: {error}")),
    }
    1
}

/// Attaches to a container, starts it, and holds the launcher's end of the link until it ends.
pub(super) fn link(arguments: &ContainerLink) -> Result<ExitCode, CommandError> {
    let holding = || format!("holding the link to the container {}", arguments.container);
    let failed = |error: io::Error| CommandError::from_error(IoError::new(holding(), error));
    let control = UnixStream::from(system::inherited_descriptor(arguments.control_fd)?);
    control.set_nonblocking(true).map_err(failed)?;
    let local = match arguments.carries {
        LinkCarries::Messages => LocalKind::Messages,
        LinkCarries::Bytes => LocalKind::Bytes,
    };
    let mut options = LauncherOptions { dials: arguments.dials.clone(), ..LauncherOptions::new(local) };
    if let Some(path) = &arguments.receipts {
        let mut file = ReceiptsFile::open(path, arguments.receipts_bytes).map_err(failed)?;
        let writer: FileWriter = Box::new(move |piece| file.append(piece));
        options.files.push((RECEIPTS.to_owned(), writer));
    }
    let runtime = runtime().map_err(failed)?;
    let end = runtime.block_on(async {
        // What the container writes to its standard error is in the log of the launcher, which this one's is.
        let log = |piece: &[u8]| drop(io::stderr().write_all(piece));
        let attached = attach(&arguments.engine, &arguments.container, log).await;
        let attached = attached.map_err(CommandError::from_error)?;
        let (engine, container) = (arguments.engine.clone(), arguments.container.clone());
        let started =
            tokio::task::spawn_blocking(move || Engine::connect(&engine)?.start_container(&container)).await;
        started.map_err(|error| failed(io::Error::other(error)))?.map_err(CommandError::from_error)?;
        let local = tokio::net::UnixStream::from_std(control).map_err(failed)?;
        let stream = tokio::io::join(attached.stdout, attached.stdin);
        Ok::<_, CommandError>(launcher_end(stream, local, options).await)
    })?;
    match end {
        LinkEnd::Finished | LinkEnd::LauncherGone => Ok(ExitCode::SUCCESS),
        end => Err(CommandError::failed(end.to_string())),
    }
}

pub(super) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
