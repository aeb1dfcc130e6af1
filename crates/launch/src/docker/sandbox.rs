//! The agent's container: how it is started, and the launcher's end of the link to it.

use std::{
    cell::Cell,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    rc::Rc,
    time::{Duration, Instant},
};

use bot_bottle_core::{error::IoContext, plan::BottlePlan, provider::GuestFile};
use bot_bottle_engine::{Engine, EngineError};
use rustix::process::Signal;

use crate::{
    archive::{self, PackedFolder},
    backend::{GatewayListeners, Sandbox, SandboxEvent, SessionId, StartProgram},
    channel::Channel,
    child_process::{ANSWER_TIMEOUT, ChildProgram, spawn},
    error::LaunchError,
    image_variables::ImageVariables,
    init::{
        client::InitClient,
        protocol::FromInit,
        spec::{AGENT_USER, Confinement, NetworkSpec},
    },
    resource::{Resources, WorkObject},
    steps::{allocate::Run, system_files::StagedFiles},
    sys::Go,
};

use super::{
    image_files,
    link::{Carries, LinkCommand},
    names::{HAND_OVER_FOLDER, Names},
    object::EngineObject,
    render,
    setup::ContainerSetup,
    work,
};

/// How often the engine is asked at most whether the kernel has killed a program for memory.
const MEMORY_INTERVAL: Duration = Duration::from_secs(5);

/// The longest tick of the clock from which the kernel takes the times of files: that of CONFIG_HZ=100, time(7).
const FILE_TIME_TICK: Duration = Duration::from_millis(10);

/// Bytes that wait to be sent to the engine while files are copied.
const COPY_BUFFER_BYTES: usize = 256 << 10;

/// The agent's container.
pub(super) struct ContainerSandbox {
    engine: Rc<Engine>,
    container: String,
    /// By the process that holds the link, which ends with the container.
    init: InitClient,
    /// Sent when the gateway serves.
    files: StagedFiles,
    /// The agent's folders.
    folders: Vec<PackedFolder>,
    /// The objects with what the agent makes.
    work: Vec<EngineObject>,
    /// Variables of the image.
    image_variables: ImageVariables,
    /// When the engine was last asked about memory, and what it said.
    out_of_memory: Cell<(Option<Instant>, bool)>,
}

/// Makes the agent's container and starts it. Its first process goes on by itself, up to `Listening`.
pub(super) fn start(
    engine: Rc<Engine>,
    plan: &BottlePlan,
    run: &Run,
    resources: &mut Resources,
) -> Result<ContainerSandbox, LaunchError> {
    let names = Names::of(run);
    let parts = work::parts(&engine, plan, run, resources)?;
    let image = engine.image(&parts.image)?;
    engine.create_container(&render::agent(&names, plan, &parts))?;
    image_files::check(&engine, &names.agent, plan, &parts.reference)?;
    let link = LinkCommand {
        engine: engine.address().clone(),
        container: names.agent.clone(),
        carries: Carries::Messages,
        receipts: None,
        dials: [].into(),
    };
    let init = start_link(run, &link, resources)?;
    let sandbox = ContainerSandbox {
        engine,
        container: names.agent,
        init,
        files: StagedFiles::of(plan, run),
        folders: PackedFolder::of_agent(plan, run, parts.is_new),
        work: parts.work,
        image_variables: ImageVariables::new(&image.config.environment),
        out_of_memory: Cell::default(),
    };
    let setup = ContainerSetup {
        network: NetworkSpec::of_bottle(),
        hand_over: parts.has_gateway.then(|| HAND_OVER_FOLDER.into()),
        confinement: Confinement { user: AGENT_USER, processes: None, file_size: None, processors: None },
    };
    sandbox.init.send(&setup, &[], "sending the setup")?;
    Ok(sandbox)
}

fn start_link(run: &Run, link: &LinkCommand, resources: &mut Resources) -> Result<InitClient, LaunchError> {
    let log = run.path("sandbox.log");
    let mut start = || -> io::Result<_> {
        let arguments = link.arguments()?;
        let (channel, theirs) = Channel::pair()?;
        channel.set_timeout(Some(ANSWER_TIMEOUT))?;
        let child = ChildProgram {
            executable: &run.executable,
            arguments: &arguments.iter().map(|text| &**text).collect::<Vec<_>>(),
            namespaces: 0,
            control: theirs.as_fd(),
            log: &log,
        };
        let process = spawn(&child, resources, |_| Ok(Go::On))?;
        Ok(InitClient::new(channel, process, log.clone()))
    };
    Ok(start().io_context(|| "starting the link to the container")?)
}

impl ContainerSandbox {
    /// Makes the agent's folders in the container, with what is in them at first, and removes that here.
    fn copy_in(&self) -> Result<(), LaunchError> {
        let copying = || "copying the agent's files into its container".to_owned();
        let (mut reader, writer) = UnixStream::pair().io_context(copying)?;
        let (packed, uploaded) = std::thread::scope(|scope| {
            let folders = &self.folders;
            let packing = scope.spawn(move || {
                let buffered = io::BufWriter::with_capacity(COPY_BUFFER_BYTES, writer);
                archive::pack(folders, AGENT_USER.into(), buffered)
            });
            let uploaded = self.engine.upload(&self.container, "/", &mut reader);
            // A writer that nobody reads would wait for ever.
            drop(reader);
            (packing.join(), uploaded)
        });
        // The engine's error is the reason where both failed.
        uploaded?;
        packed.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).io_context(copying)?;
        Ok(archive::remove_packed(&self.folders)?)
    }

    fn ask_about_memory(&self) -> Result<bool, EngineError> {
        Ok(self.engine.container_state(&self.container)?.is_oom_killed)
    }
}

impl Sandbox for ContainerSandbox {
    fn listeners(&mut self) -> Result<GatewayListeners, LaunchError> {
        match self.init.expect()? {
            (FromInit::Listening { listeners }, _) => Ok(GatewayListeners::HandedOver(listeners)),
            _ => Err(self.init.unexpected("listening")),
        }
    }

    fn initialise(&mut self) -> Result<Vec<String>, LaunchError> {
        let files = self.files.read().io_context(|| "reading the bottle's certificates")?;
        self.init.send(&files, &[], "sending files")?;
        let (FromInit::Ready { notes }, _) = self.init.expect()? else {
            return Err(self.init.unexpected("being ready"));
        };
        self.copy_in()?;
        // Whatever has the time of the agent's start counts as written by it.
        std::thread::sleep(FILE_TIME_TICK);
        self.init.limit_messages()?;
        Ok(notes)
    }

    fn exec(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()> {
        self.init.exec(session, self.image_variables.complete(program))
    }

    fn signal(&mut self, session: SessionId, signal: Signal) -> io::Result<()> {
        self.init.signal(session, signal)
    }

    fn replace(&mut self, home: &Path, file: &GuestFile) -> io::Result<()> {
        self.init.replace(home, file)
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

    fn work(&self) -> Vec<WorkObject> {
        self.work.iter().cloned().map(WorkObject::Engine).collect()
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
