//! The agent's container: how it is started, and the launcher's end of the link to it.

use std::{
    cell::Cell,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::BottlePlan,
};
use bot_bottle_engine::{Engine, EngineError};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
};
use serde::Serialize;

use crate::{
    backend::{GatewayListeners, Sandbox, SandboxEvent, SessionId, StartProgram},
    channel::Channel,
    child_process::{ANSWER_TIMEOUT, ChildProgram, spawn},
    error::LaunchError,
    files::remove::remove_tree,
    image_variables::ImageVariables,
    init::{
        client::{InitClient, NoMessage},
        protocol::FromInit,
        spec::{AGENT_USER, Confinement, NetworkSpec},
    },
    log_tail::tail,
    resource::Resources,
    steps::{allocate::Run, system_files::StagedFiles},
    sys::Go,
};

use super::{
    archive, image_files,
    link::{Carries, LinkCommand},
    names::{HAND_OVER_FOLDER, Names},
    object::EngineObject,
    render,
    setup::ContainerSetup,
    work,
};

/// How long the process that holds the link may take to say in its log why it ended.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the engine is asked at most whether the kernel has killed a program for memory.
const MEMORY_INTERVAL: Duration = Duration::from_secs(5);

/// The longest tick of the clock from which the kernel takes the times of files: that of CONFIG_HZ=100, time(7).
const FILE_TIME_TICK: Duration = Duration::from_millis(10);

/// Bytes that wait to be sent to the engine while files are copied.
const COPY_BUFFER_BYTES: usize = 256 << 10;

/// The agent's container.
pub(super) struct ContainerSandbox {
    engine: Engine,
    container: String,
    /// By the process that holds the link, which ends with the container.
    init: InitClient,
    log: PathBuf,
    /// Sent when the gateway serves.
    files: StagedFiles,
    /// Folders of the host whose content becomes that of folders of the agent's.
    copies: Vec<(PathBuf, PathBuf)>,
    /// The objects with what the agent makes.
    work: Vec<EngineObject>,
    /// Variables of the image.
    image_variables: ImageVariables,
    /// When the engine was last asked about memory, and what it said.
    out_of_memory: Cell<(Option<Instant>, bool)>,
}

/// Makes the agent's container and starts it. Its first process goes on by itself, up to `Listening`.
pub(super) fn start(
    engine: Engine,
    plan: &BottlePlan,
    run: &Run,
    resources: &mut Resources,
) -> Result<ContainerSandbox, LaunchError> {
    let names = Names::of(run);
    let parts = work::parts(&engine, plan, run, resources)?;
    let image = engine.image(&parts.image)?;
    engine.create_container(&render::agent(&names, plan, &parts))?;
    image_files::check(&engine, &names.agent, plan, &parts.reference)?;
    make_folders(&engine, &names.agent, plan, parts.is_new)?;
    let link = LinkCommand {
        engine: engine.address().clone(),
        container: names.agent.clone(),
        carries: Carries::Messages,
        receipts: None,
        dials: [].into(),
    };
    let log = run.path("sandbox.log");
    let init = start_link(run, &link, &log, resources)?;
    let sandbox = ContainerSandbox {
        engine,
        container: names.agent,
        init,
        log,
        files: StagedFiles::of(plan, run),
        // What is looked at is there.
        copies: if run.folders.inspected.is_some() { Vec::new() } else { copies(plan, run) },
        work: parts.work,
        image_variables: ImageVariables::new(&image.config.environment),
        out_of_memory: Cell::default(),
    };
    let setup = ContainerSetup {
        network: NetworkSpec::of_bottle(),
        hand_over: parts.has_gateway.then(|| HAND_OVER_FOLDER.into()),
        confinement: Confinement { user: AGENT_USER, processes: None, file_size: None, processors: None },
    };
    sandbox.send(&setup, "sending the setup")?;
    Ok(sandbox)
}

/// Makes home, and a workspace that is new, the agent's, which the first process could not without CAP_CHOWN.
fn make_folders(
    engine: &Engine,
    container: &str,
    plan: &BottlePlan,
    is_new: bool,
) -> Result<(), LaunchError> {
    let mut bytes = Vec::new();
    let paths = [plan.guest.home.as_path(), plan.guest.workspace.as_path()];
    let paths = if !is_new || paths[0] == paths[1] { &paths[..1] } else { &paths[..] };
    archive::folders(paths, AGENT_USER.into(), &mut bytes).io_context(|| "packing the agent's folders")?;
    Ok(engine.upload(container, "/", &mut bytes.as_slice())?)
}

/// From the run's folders on the host to those of the agent.
fn copies(plan: &BottlePlan, run: &Run) -> Vec<(PathBuf, PathBuf)> {
    let (guest, staged) = (&plan.guest, &run.folders);
    let mut copies = vec![(staged.home.clone(), guest.home.clone())];
    if guest.workspace != guest.home {
        copies.push((staged.workspace.clone(), guest.workspace.clone()));
    }
    copies
}

fn start_link(
    run: &Run,
    link: &LinkCommand,
    log: &Path,
    resources: &mut Resources,
) -> Result<InitClient, LaunchError> {
    let mut start = || -> io::Result<_> {
        let arguments = link.arguments()?;
        let (channel, theirs) = Channel::pair()?;
        channel.set_timeout(Some(ANSWER_TIMEOUT))?;
        let child = ChildProgram {
            executable: &run.executable,
            arguments: &arguments.iter().map(|text| &**text).collect::<Vec<_>>(),
            namespaces: 0,
            control: theirs.as_fd(),
            log,
        };
        let process = spawn(&child, resources, |_| Ok(Go::On))?;
        Ok(InitClient::new(channel, process))
    };
    Ok(start().io_context(|| "starting the link to the container")?)
}

/// Removes what is in a folder.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl ContainerSandbox {
    fn send(&self, message: &impl Serialize, doing: &str) -> Result<(), LaunchError> {
        // If sending fails, the container may have ended and its log says why.
        self.init.send(message, &[]).map_err(|source| self.lost(doing, source))
    }

    /// The next message, which has to come while the bottle starts.
    fn expect(&self) -> Result<FromInit, LaunchError> {
        match self.init.expect() {
            Ok((message, _)) => Ok(message),
            Err(NoMessage::Failed(error)) => Err(LaunchError::Sandbox(error)),
            Err(NoMessage::Lost(source)) => {
                Err(self.lost("waiting for the container's first process", source))
            }
        }
    }

    /// What the link has written to its log says more than the end of its socket.
    fn lost(&self, doing: &str, source: io::Error) -> LaunchError {
        let mut ended = [PollFd::from_borrowed_fd(self.init.process(), PollFlags::IN)];
        let limit = Timespec::try_from(LOG_TIMEOUT).ok();
        let source = match poll(&mut ended, limit.as_ref()) {
            Ok(1..) => io::Error::other(tail(&self.log)),
            _ => source,
        };
        LaunchError::Sandbox(IoError::new(doing.to_owned(), source))
    }

    /// Copies a folder of the host into the container, and removes it here.
    fn copy_in(&self, staged: &Path, inside: &Path) -> Result<(), LaunchError> {
        let copying = || format!("copying files to {}", inside.display());
        let (mut reader, writer) = UnixStream::pair().io_context(copying)?;
        let (packed, uploaded) = std::thread::scope(|scope| {
            let packing = scope.spawn(move || {
                let buffered = io::BufWriter::with_capacity(COPY_BUFFER_BYTES, writer);
                archive::pack(staged, AGENT_USER.into(), buffered)
            });
            let uploaded = self.engine.upload(&self.container, &inside.to_string_lossy(), &mut reader);
            // A writer that nobody reads would wait for ever.
            drop(reader);
            (packing.join(), uploaded)
        });
        // The engine's error is the reason where both failed.
        uploaded?;
        packed.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).io_context(copying)?;
        // Only the container's copy is the agent's.
        Ok(empty(staged).io_context(|| format!("removing what is in {}", staged.display()))?)
    }

    fn ask_about_memory(&self) -> Result<bool, EngineError> {
        Ok(self.engine.container_state(&self.container)?.is_oom_killed)
    }
}

impl Sandbox for ContainerSandbox {
    fn listeners(&mut self) -> Result<GatewayListeners, LaunchError> {
        match self.expect()? {
            FromInit::Listening { listeners } => Ok(GatewayListeners::HandedOver(listeners)),
            _ => Err(self.lost("listening", io::ErrorKind::InvalidData.into())),
        }
    }

    fn initialise(&mut self) -> Result<Vec<String>, LaunchError> {
        let files = self.files.read().io_context(|| "reading the bottle's certificates")?;
        self.send(&files, "sending files")?;
        let FromInit::Ready { notes } = self.expect()? else {
            return Err(self.lost("being ready", io::ErrorKind::InvalidData.into()));
        };
        for (staged, inside) in &self.copies {
            self.copy_in(staged, inside)?;
        }
        // Whatever has the time of the agent's start counts as written by it.
        std::thread::sleep(FILE_TIME_TICK);
        let limited = self.init.limit_messages();
        limited.map_err(|source| self.lost("limiting the time for a message", source))?;
        Ok(notes)
    }

    fn exec(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()> {
        self.init.exec(session, self.image_variables.complete(program))
    }

    fn signal(&mut self, session: SessionId, signal: Signal) -> io::Result<()> {
        self.init.signal(session, signal)
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.init.descriptors()
    }

    fn next(&mut self) -> Option<SandboxEvent> {
        self.init.next()
    }

    fn kill(&mut self) {
        // Fails only if it has ended.
        let _ = self.init.end();
    }

    fn work(&self) -> Vec<EngineObject> {
        self.work.clone()
    }

    fn is_out_of_memory(&self) -> bool {
        let (asked, said) = self.out_of_memory.get();
        if said || asked.is_some_and(|asked| asked.elapsed() < MEMORY_INTERVAL) {
            return said;
        }
        // An engine that does not answer has not said so.
        let says = self.ask_about_memory().unwrap_or(false);
        self.out_of_memory.set((Some(Instant::now()), says));
        says
    }

    fn disk_usage(&self) -> Result<u64, String> {
        Err("the docker backend does not measure what its volumes take".to_owned())
    }
}
