//! The machine of a bottle: how it is started, and the launcher's end of the link to it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::{InterceptorToken, ListenerKind},
    limits::Limits,
    plan::BottlePlan,
    provider::GuestFile,
    work::FileTime,
};
use bot_bottle_smolvm::Smolvm;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
    rand::{GetRandomFlags, getrandom},
};

use crate::{
    archive::{self, PackedFolder},
    backend::{GatewayListeners, InheritedSocket, Sandbox, SandboxEvent, SessionId, StartProgram},
    channel::Channel,
    child_process::{ANSWER_TIMEOUT, ChildProgram, spawn},
    error::LaunchError,
    image_variables::ImageVariables,
    init::{
        client::InitClient,
        protocol::FromInit,
        spec::{AGENT_USER, Confinement},
    },
    program_run::ProgramRun,
    request::{ProgramStatus, Terminal},
    resource::{Resource, Resources, WorkObject},
    session::LimitWatchers,
    state, static_program,
    steps::{allocate::Run, system_files::StagedFiles},
    sys::Go,
};

use super::{
    host_side::{FromHostSide, HostSetup, StartMachine},
    image,
    init::MachineSetup,
    limits,
    machine::MachineObject,
    names::{Names, PROGRAM},
    render,
};

/// How long smolvm may take to start a machine. The first start of an image reads the whole of it.
const START_TIMEOUT: Duration = Duration::from_secs(330);

/// How long the agent's files may take on their way into the machine.
const COPY_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// How long the machine's workload may take to connect once programs can be run there.
const WATCH_TIMEOUT: Duration = Duration::from_secs(20);

/// The number of the program that unpacks the agent's files; the agent has 0, and what else runs before it counts down
/// from the largest.
const UNPACK: SessionId = SessionId(u64::MAX >> 2);

/// The same for the one that asks for the time.
const CLOCK: SessionId = SessionId(UNPACK.0 - 1);

/// Most bytes that a part of this program writes in a machine.
const MAX_ANSWER_BYTES: usize = 4 << 10;

/// The machine of a bottle.
pub(super) struct MachineSandbox {
    machine: MachineObject,
    /// To the process in whose network smolvm runs, which holds the link too.
    host_side: Channel,
    token: InterceptorToken,
    /// To the machine's first program of ours, by that process.
    init: InitClient,
    /// Where the machine's workload connects to.
    life: Option<UnixListener>,
    /// That connection, once the machine runs: the machine is switched off when it is closed.
    watched: Option<UnixStream>,
    files: StagedFiles,
    /// The agent's folders, and what is in them at first.
    folders: Vec<PackedFolder>,
    confinement: Confinement,
    variables: ImageVariables,
    /// Which connections do not reach the gateway.
    note: Option<String>,
    directory: PathBuf,
    program_folder: PathBuf,
}

/// Makes the machine, and starts the process in whose network smolvm will run. It goes on by itself, up to
/// `Listening`.
pub(super) fn start(
    smolvm: Smolvm,
    program: &Path,
    plan: &BottlePlan,
    run: &Run,
    resources: &mut Resources,
) -> Result<MachineSandbox, LaunchError> {
    let (before, folder) = match &run.folders.inspected {
        Some(inspected) => (Some(inspected_machine(&inspected.run)?), &inspected.run),
        None => (resources.work_machine(), &run.directory),
    };
    let name =
        before.as_ref().map_or_else(|| format!("bot-bottle-{}", run.name), |before| before.name.clone());
    let names = Names::new(name, run, folder)?;
    let machine = MachineObject {
        program: program.to_owned(),
        state_dir: smolvm.state_dir().to_owned(),
        name: names.machine.to_string(),
    };
    let own = static_program::open(&run.executable_path)?;
    let life = prepare_host(&names, own).map_err(|source| names.making("what is mounted", source))?;
    match &before {
        // It may be on its way to an end: its launcher was killed.
        Some(before) => before.stop()?,
        None => {
            let recorded = resources.add(Resource::Machine(machine.clone()));
            recorded.io_context(|| "recording the machine")?;
            let image = PathBuf::from(run.image.as_ref().ok_or(LaunchError::NoMachineImage)?);
            // A run that goes on has them too, wherever its image is by then.
            let kept = image::variables(&image)?.write(folder);
            kept.map_err(|source| names.making("the variables of the image", source))?;
            let control = smolvm.version().egress_control();
            smolvm.create(&render::machine(&names, plan, image, control))?;
        }
    }
    let reading = || format!("reading the variables of the image in {}", folder.display());
    let variables = ImageVariables::read(folder).io_context(reading)?;
    let (host_side, init) = start_host_side(run, &machine, resources)
        .map_err(|source| names.making("the process that starts smolvm", source))?;
    let mut token = [0; 32];
    getrandom(&mut token, GetRandomFlags::empty()).io_context(|| "no random numbers")?;
    Ok(MachineSandbox {
        machine,
        host_side,
        token: InterceptorToken::new(token),
        init,
        life: Some(life),
        watched: None,
        files: StagedFiles::of(plan, run),
        folders: PackedFolder::of_agent(plan, run, before.is_none()),
        confinement: Confinement {
            user: AGENT_USER,
            processes: Some(limits::processes(&plan.limits)),
            file_size: None,
            processors: None,
        },
        variables,
        note: None,
        directory: run.directory.clone(),
        program_folder: names.program_folder,
    })
}

/// The machine of another run, whose work is looked at: it is started once more, with no way out. It is not this run's,
/// and stays when this one is released.
fn inspected_machine(run: &Path) -> Result<MachineObject, LaunchError> {
    let finding = || format!("finding the agent's work in {}", run.display());
    let machine = Resources::read(run).io_context(finding)?.work_machine();
    let machine = machine.ok_or_else(|| IoError::new(finding(), io::ErrorKind::NotFound))?;
    match state::is_alive(run).io_context(finding)? {
        true => Err(LaunchError::MachineRuns(machine.name)),
        false => Ok(machine),
    }
}

/// What the machine is offered of the host: the folder with this binary, and the socket that is open as long as this
/// process lives.
fn prepare_host(names: &Names, mut program: File) -> io::Result<UnixListener> {
    fs::create_dir_all(&names.program_folder)?;
    // Whole, or not there: a run that goes on may have another version of it.
    let unfinished = names.program_folder.join("new");
    let mut copy = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished)?;
    io::copy(&mut program, &mut copy)?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o555))?;
    fs::rename(&unfinished, names.program_folder.join("bot-bottle"))?;
    match fs::remove_file(&names.life_socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(&names.life_socket)
}

fn start_host_side(
    run: &Run,
    machine: &MachineObject,
    resources: &mut Resources,
) -> io::Result<(Channel, InitClient)> {
    let log = run.path("sandbox.log");
    let (channel, theirs) = Channel::pair()?;
    channel.set_timeout(Some(ANSWER_TIMEOUT))?;
    let child = ChildProgram {
        executable: &run.executable,
        arguments: &[c"bot-bottle", c"machine-host", c"3"],
        namespaces: 0,
        control: theirs.as_fd(),
        log: &log,
    };
    let process = spawn(&child, resources, |_| Ok(Go::On))?;
    let (link, its_link) = Channel::pair()?;
    link.set_timeout(Some(ANSWER_TIMEOUT))?;
    let setup = HostSetup {
        program: machine.program.clone(),
        state_dir: machine.state_dir.clone(),
        machine: machine.name.clone(),
    };
    channel.send(&setup, &[its_link.as_fd()])?;
    Ok((channel, InitClient::new(link, process, log)))
}

impl MachineSandbox {
    /// What the process in whose network smolvm runs says next.
    fn host_side_says(&self) -> Result<(FromHostSide, Vec<OwnedFd>), LaunchError> {
        match self.host_side.receive() {
            Ok(Some((FromHostSide::Failed { why, hint }, _))) => Err(LaunchError::Machine { why, hint }),
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(self.init.lost("starting smolvm", io::ErrorKind::UnexpectedEof.into())),
            Err(source) => Err(self.init.lost("starting smolvm", source)),
        }
    }

    /// The connection of the workload, which is there before any program of the agent's could make one.
    fn accept_watch(&mut self) -> io::Result<UnixStream> {
        // Closed once it is accepted: there is no other one.
        let life = self.life.take().ok_or(io::ErrorKind::NotConnected)?;
        let limit = Timespec::try_from(WATCH_TIMEOUT).ok();
        match poll(&mut [PollFd::new(&life, PollFlags::IN)], limit.as_ref())? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => life.accept().map(|(stream, _)| stream),
        }
    }

    /// Sends the agent's files into the machine, and removes them here.
    fn copy_in(&mut self) -> Result<(), LaunchError> {
        let copying = || "copying the agent's files into its machine";
        let mut packed = self.pack().io_context(copying)?;
        self.run(UNPACK, "machine-unpack", &mut packed).io_context(copying)?;
        Ok(archive::remove_packed(&self.folders)?)
    }

    /// Runs a part of this program in the machine, as the agent's user. Returns what it wrote.
    fn run(&mut self, session: SessionId, role: &str, input: &mut dyn Read) -> io::Result<Vec<u8>> {
        let program = StartProgram {
            command: vec![PROGRAM.to_owned(), role.to_owned()],
            environment: [].into(),
            working_directory: "/".into(),
            terminal: Terminal::Pipes,
            size: None,
        };
        let mut written = Vec::new();
        let mut output = |bytes: &[u8]| {
            written.extend_from_slice(bytes);
            if written.len() > MAX_ANSWER_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
        };
        let directory = self.directory.clone();
        let running = ProgramRun {
            input,
            output: &mut output,
            signals: None,
            limits: LimitWatchers::new(&Limits::default(), &directory),
            deadline: Some(Instant::now() + COPY_TIMEOUT),
        };
        let end = running.run(self, session, &program).map_err(io::Error::from)?;
        if end.status == ProgramStatus::Exited(0) && end.ended_by.is_none() {
            Ok(written)
        } else {
            Err(io::Error::other(end.error))
        }
    }

    /// The agent's folders in a file that has no name.
    fn pack(&self) -> io::Result<File> {
        let path = self.directory.join("packed.tar");
        let mut packed = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        fs::remove_file(&path)?;
        archive::pack(&self.folders, AGENT_USER.into(), io::BufWriter::new(&mut packed))?;
        packed.rewind()?;
        Ok(packed)
    }
}

impl Sandbox for MachineSandbox {
    fn listeners(&mut self) -> Result<GatewayListeners, LaunchError> {
        let (FromHostSide::Listening { kinds, note }, sockets) = self.host_side_says()? else {
            return Err(self.init.unexpected("listening"));
        };
        self.note = note;
        let is_intercepted = kinds.contains(&ListenerKind::Interceptor);
        if kinds.len() != sockets.len() {
            return Err(self.init.unexpected("taking its listeners"));
        }
        let sockets = kinds.into_iter().zip(sockets).map(|(kind, socket)| InheritedSocket { kind, socket });
        let sockets = sockets.collect();
        Ok(match is_intercepted {
            true => GatewayListeners::Intercepted(sockets, self.token.clone()),
            false => GatewayListeners::Inherited(sockets),
        })
    }

    fn initialise(&mut self) -> Result<Vec<String>, LaunchError> {
        let files = self.files.read().io_context(|| "reading the bottle's certificates")?;
        let limit = |channel: &Channel| channel.set_timeout(Some(START_TIMEOUT));
        limit(&self.host_side).io_context(|| "limiting the time for smolvm")?;
        let start = StartMachine { token: self.token.clone() };
        self.host_side.send(&start, &[]).map_err(|source| self.init.lost("starting smolvm", source))?;
        let (FromHostSide::Started, _) = self.host_side_says()? else {
            return Err(self.init.unexpected("starting smolvm"));
        };
        self.watched = Some(self.accept_watch().io_context(|| "waiting for the machine's workload")?);
        // What is there already is the agent's, whatever it has made of it.
        let made = self.folders.iter().filter(|folder| folder.is_made);
        let folders = made.map(|folder| folder.path.clone()).collect();
        let setup = MachineSetup { folders, confinement: self.confinement.clone() };
        self.init.send(&setup, &[], "sending the setup")?;
        self.init.send(&files, &[], "sending files")?;
        let (FromInit::Ready { mut notes }, _) = self.init.expect()? else {
            return Err(self.init.unexpected("being ready"));
        };
        if self.folders.iter().any(|folder| folder.content.is_some()) {
            self.copy_in()?;
        }
        self.init.limit_messages()?;
        notes.extend(self.note.take());
        Ok(notes)
    }

    fn exec(&mut self, session: SessionId, program: &StartProgram) -> io::Result<()> {
        self.init.exec(session, self.variables.complete(program))
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
        vec![WorkObject::Machine(self.machine.clone())]
    }

    fn file_time(&mut self) -> io::Result<Option<FileTime>> {
        let written = self.run(CLOCK, "machine-clock", &mut io::empty())?;
        Ok(Some(serde_json::from_slice(&written)?))
    }

    fn is_out_of_memory(&self) -> bool {
        // The machine's kernel kills a program of its own then, and the machine goes on.
        false
    }

    fn disk_usage(&self) -> Result<u64, String> {
        // The limit is the size of its disks, and nothing of the bottle's is written elsewhere.
        Ok(0)
    }
}

impl Drop for MachineSandbox {
    /// Its disks are to be whole. What fails here the release of the machine reports.
    fn drop(&mut self) {
        let _ = self.init.end();
        let _ = self.machine.stop();
        // Each start copies it anew. What stays is removed with the run.
        let _ = fs::remove_dir_all(&self.program_folder);
    }
}
