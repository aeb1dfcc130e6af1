//! The synchronous client.

use std::{
    fs::{self, DirBuilder, DirEntry},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use bot_bottle_core::error::{IoContext as _, IoError};
use serde::de::DeserializeOwned;

use crate::{
    EgressControl, ExecSpec, FileOwner, Interceptor, Limits, Machine, MachineName, MachineSpec, MachineState,
    Network, RefusalKind, Settings, SmolvmError, Version,
    call::Call,
    console,
    lock::MachineLock,
    process::{Output, RunError, run},
    report::{Report, shown},
    spec::{guest_path, host_path},
};

/// The variable in which `start` takes the interceptor's token: no other user can read it (proc(5), `environ`),
/// as a command line can be.
const TOKEN_VARIABLE: &str = "SMOLVM_INTERCEPTOR_TOKEN";

/// Where smolvm copies the archives of images to, in its state directory: a folder each, named by its SHA-256.
const ARCHIVES: &str = ".cache/smolvm-image-archives";

/// The beginning of the image of a machine that is made of such a copy.
const ARCHIVE_IMAGE: &str = "local:";

/// How old a copy is before it can be one that nobody needs.
const ARCHIVE_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest time that smolvm gives a workload to end (`create --stop-timeout`).
const LONGEST_STOP: Duration = Duration::from_secs(300);

/// smolvm, with a state directory of its own.
///
/// Each call blocks, and runs the program. Exit codes and error codes are not trusted alone: after each change
/// the machine's state is read, and success that it does not show is an error.
#[derive(Debug, Clone)]
pub struct Smolvm {
    settings: Settings,
    version: Version,
}

impl Smolvm {
    /// Makes the state directory, and asks the program for its version.
    ///
    /// # Errors
    /// When the state directory cannot be used, or the program is not smolvm of a version that can be used.
    pub fn open(settings: Settings) -> Result<Self, SmolvmError> {
        let state_dir = &settings.state_dir;
        if !state_dir.is_absolute() || state_dir.as_os_str().len() > Settings::MAX_STATE_DIR {
            return Err(SmolvmError::StateDirectory { path: state_dir.clone() });
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(state_dir).io_context(|| format!("making {}", state_dir.display()))?;
        let unknown = Self { settings, version: Version::OLDEST };
        let output = unknown.run(&Call::Version, None)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&text).ok_or_else(|| SmolvmError::NotSmolvm {
            program: unknown.settings.program.clone(),
            said: shown(text.lines().next().unwrap_or_default()),
        })?;
        if version < Version::OLDEST {
            return Err(SmolvmError::TooOld { found: version });
        }
        Ok(Self { version, ..unknown })
    }

    /// The program's version. The caller may warn of one that [is untested](Version::is_untested).
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where smolvm keeps its state.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.settings.state_dir
    }

    /// All machines of this state directory.
    ///
    /// # Errors
    /// When smolvm fails.
    pub fn machines(&self) -> Result<Vec<Machine>, SmolvmError> {
        self.json(&Call::List)
    }

    /// The folders with copies of archives that no machine is made of. smolvm copies each archive once, under the hash
    /// of its content, and keeps the copy when the last machine of it is gone. One that is new may be there for a
    /// machine that is being created.
    ///
    /// # Errors
    /// When smolvm fails, or its state directory cannot be read.
    pub fn unused_images(&self, now: SystemTime) -> Result<Vec<PathBuf>, SmolvmError> {
        let folder = self.settings.state_dir.join(ARCHIVES);
        let reading = || format!("reading {}", folder.display());
        let is_new = |entry: &DirEntry| -> io::Result<bool> {
            let modified = entry.metadata()?.modified()?;
            Ok(now.duration_since(modified).is_ok_and(|age| age < ARCHIVE_AGE))
        };
        let copies = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            copies => copies.io_context(reading)?,
        };
        let mut unused = Vec::new();
        for copy in copies {
            let copy = copy.io_context(reading)?;
            if !is_new(&copy).io_context(reading)? {
                unused.push(copy);
            }
        }
        // Once the copies are known: a machine that is listed then has its own.
        let images: Vec<_> = self.machines()?.into_iter().filter_map(|machine| machine.image).collect();
        let is_used = |copy: &DirEntry| {
            let name = copy.file_name();
            images.iter().any(|image| image.strip_prefix(ARCHIVE_IMAGE).is_some_and(|hash| name == hash))
        };
        let mut unused: Vec<_> =
            unused.into_iter().filter(|copy| !is_used(copy)).map(|copy| copy.path()).collect();
        unused.sort();
        Ok(unused)
    }

    /// A machine; `None` if there is none of this name.
    ///
    /// # Errors
    /// When smolvm fails.
    pub fn machine(&self, name: &MachineName) -> Result<Option<Machine>, SmolvmError> {
        let call = Call::Status(name);
        let status: Machine = match self.json(&call) {
            Ok(status) => status,
            // Several errors say that there is none: the list tells.
            Err(error @ SmolvmError::Refused { .. }) => {
                let is_listed = self.machines()?.iter().any(|machine| machine.name == name.as_str());
                return if is_listed { Err(error) } else { Ok(None) };
            }
            Err(error) => return Err(error),
        };
        if status.name == name.as_str() {
            return Ok(Some(status));
        }
        let why = format!("it is about the machine {}", shown(&status.name));
        Err(SmolvmError::Unexpected { action: call.action(), why })
    }

    /// Creates a machine. It does not run yet, and nothing of its image is read.
    ///
    /// # Errors
    /// When the specification is not understood as it is meant, the name is taken, or smolvm fails. A machine
    /// that contradicts its specification is not deleted.
    pub fn create(&self, spec: &MachineSpec) -> Result<Machine, SmolvmError> {
        spec.check()?;
        if spec.network == Network::Interceptor {
            self.needs_interceptor()?;
        }
        let call = Call::Create(spec);
        let _lock = self.lock(&call, &spec.name)?;
        self.run(&call, None)?;
        let machine = self.machine(&spec.name)?;
        let machine = expect_state(&call, machine, |state| *state == MachineState::Created)?;
        let disagreement = |found: &str| Err(disagreement(&call, found));
        if machine.network != (spec.network != Network::None) {
            return disagreement(if machine.network { "it has a network" } else { "it has no network" });
        }
        if matches!(spec.network, Network::AllowList(_)) && machine.has_open_network() {
            return disagreement("nothing confines its network");
        }
        if machine.labels != spec.labels {
            return disagreement("it has other labels");
        }
        Ok(machine)
    }

    /// Starts a machine and waits until smolvm's agent in it answers. One with [`Network::Interceptor`] needs the
    /// interceptor at each start.
    ///
    /// # Errors
    /// When its network would be open, the host cannot run it, or smolvm fails. After a deadline the machine may
    /// be running: stop it.
    pub fn start(
        &self,
        name: &MachineName,
        interceptor: Option<&Interceptor>,
    ) -> Result<Machine, SmolvmError> {
        let call = Call::Start { name, interceptor: interceptor.map(Interceptor::address) };
        if interceptor.is_some() {
            self.needs_interceptor()?;
        }
        let _lock = self.lock(&call, name)?;
        let is_open = self.machine(name)?.is_some_and(|machine| machine.has_open_network());
        if is_open && interceptor.is_none() {
            return Err(SmolvmError::OpenNetwork { machine: name.to_string() });
        }
        let mut started = self.run(&call, interceptor);
        // smolvm gives the agent in a machine 30 s, and no option raises that. On a host that is busy the next start gets
        // further: what it reads is in memory then.
        if started.as_ref().is_err_and(|error| error.refusal() == Some(RefusalKind::NotReady)) {
            started = self.run(&call, interceptor);
        }
        match started {
            // It may be too busy to answer within the moment that smolvm waits for it.
            Ok(_) => expect_state(&call, self.machine(name)?, |state| {
                matches!(state, MachineState::Running | MachineState::Unreachable)
            }),
            Err(SmolvmError::Refused { action, kind, code, message, mut lines }) => {
                lines.extend(self.console_tail(name));
                Err(SmolvmError::Refused { action, kind, code, message, lines })
            }
            Err(error) => Err(error),
        }
    }

    /// Stops a machine: its workload gets a signal, and this time, of at most 300 s, to end before it is killed. A
    /// machine that does not run is stopped already.
    ///
    /// # Errors
    /// When there is no such machine, or it runs on.
    pub fn stop(&self, name: &MachineName, timeout: Duration) -> Result<Machine, SmolvmError> {
        let call = Call::Stop { name, timeout: timeout.min(LONGEST_STOP) };
        let _lock = self.lock(&call, name)?;
        let stopped = self.run(&call, None);
        match (stopped, self.machine(name)?) {
            (_, Some(machine)) if machine.state.is_at_rest() => Ok(machine),
            (Err(error), _) => Err(error),
            (Ok(_), machine) => expect_state(&call, machine, MachineState::is_at_rest),
        }
    }

    /// Deletes a machine with its disks, whether it runs or not. What does not exist is deleted already.
    ///
    /// # Errors
    /// When it is still there.
    pub fn delete(&self, name: &MachineName) -> Result<(), SmolvmError> {
        let call = Call::Delete(name);
        let lock = self.lock(&call, name)?;
        let deleted = self.run(&call, None);
        match (deleted, self.machine(name)?) {
            // An empty file that stays does no harm.
            (_, None) => drop(lock.remove()),
            (Err(error), _) => return Err(error),
            (Ok(_), Some(machine)) => {
                return Err(disagreement(&call, &format!("the machine is {}", machine.state)));
            }
        }
        Ok(())
    }

    /// The folder of a machine's disks, sockets and logs.
    ///
    /// # Errors
    /// When there is no such machine, or smolvm fails.
    pub fn data_dir(&self, name: &MachineName) -> Result<PathBuf, SmolvmError> {
        let call = Call::DataDir(name);
        let output = self.run(&call, None)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let path = PathBuf::from(text.trim_end());
        if path.starts_with(&self.settings.state_dir) {
            return Ok(path);
        }
        let why = format!("`{}` is not in the state directory", shown(&text));
        Err(SmolvmError::Unexpected { action: call.action(), why })
    }

    /// The last lines that a machine's workload wrote. Bytes of the machine: not printable yet.
    ///
    /// # Errors
    /// When there is no such machine, or smolvm fails.
    pub fn logs(&self, name: &MachineName, lines: usize) -> Result<Vec<u8>, SmolvmError> {
        Ok(self.run(&Call::Logs { name, lines }, None)?.stdout)
    }

    /// The last lines of a machine's console and of what smolvm's agent in it logged, printable, each with the
    /// name of its file. Empty if there is nothing.
    #[must_use]
    pub fn console_tail(&self, name: &MachineName) -> Vec<String> {
        self.data_dir(name).map(|folder| console::tail(&folder)).unwrap_or_default()
    }

    /// Copies a file of the host into a machine that runs. Both paths are absolute.
    ///
    /// # Errors
    /// When a path cannot be told to smolvm, the machine does not run, or smolvm fails.
    pub fn copy_in(
        &self,
        name: &MachineName,
        from: &Path,
        to: &Path,
        owner: FileOwner,
    ) -> Result<(), SmolvmError> {
        host_path("the file to copy", from)?;
        guest_path("a path in the machine", to)?;
        self.run(&Call::CopyIn { name, from, to, owner }, None).map(drop)
    }

    /// Copies a file out of a machine that runs. Both paths are absolute.
    ///
    /// # Errors
    /// When a path cannot be told to smolvm, the machine does not run, or smolvm fails.
    pub fn copy_out(&self, name: &MachineName, from: &Path, to: &Path) -> Result<(), SmolvmError> {
        guest_path("a path in the machine", from)?;
        host_path("the file to write", to)?;
        self.run(&Call::CopyOut { name, from, to }, None).map(drop)
    }

    /// The command that runs a program in a machine: the caller attaches its streams and starts it. Its exit code
    /// is the program's. Without a terminal it ends when nothing holds the program's output any more.
    ///
    /// # Errors
    /// When the specification cannot be told to smolvm.
    pub fn exec(&self, name: &MachineName, spec: &ExecSpec) -> Result<Command, SmolvmError> {
        spec.check()?;
        Ok(self.command(&Call::Exec { name, spec }))
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.settings.limits
    }

    fn needs_interceptor(&self) -> Result<(), SmolvmError> {
        match self.version.egress_control() {
            EgressControl::Interceptor => Ok(()),
            EgressControl::AllowList => {
                Err(SmolvmError::Unsupported { what: "egress interceptor", version: self.version })
            }
        }
    }

    fn command(&self, call: &Call<'_>) -> Command {
        let mut command = Command::new(&self.settings.program);
        command
            .args(call.arguments(self.version, &self.settings.state_dir))
            .env_clear()
            .envs(self.settings.variables());
        command
    }

    fn json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, SmolvmError> {
        let output = self.run(call, None)?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| SmolvmError::Unexpected { action: call.action(), why: error.to_string() })
    }

    /// Runs the program, which has to end with exit code 0.
    fn run(&self, call: &Call<'_>, interceptor: Option<&Interceptor>) -> Result<Output, SmolvmError> {
        self.run_within(call, interceptor, call.limit(&self.settings.limits))
    }

    pub(crate) fn run_within(
        &self,
        call: &Call<'_>,
        interceptor: Option<&Interceptor>,
        limit: Duration,
    ) -> Result<Output, SmolvmError> {
        let mut command = self.command(call);
        if let Some(interceptor) = interceptor {
            command.env(TOKEN_VARIABLE, interceptor.token().hexadecimal().as_str());
        }
        let action = || call.action();
        match run(&mut command, limit) {
            Ok(output) if output.status.success() => Ok(output),
            Ok(output) => {
                Err(SmolvmError::refused(action(), output.status.code(), Report::read(&output.stderr)))
            }
            Err(RunError::Spawn(source)) => {
                Err(SmolvmError::NotExecutable { program: self.settings.program.clone(), source })
            }
            Err(RunError::TimedOut) => Err(SmolvmError::TimedOut { action: action(), limit }),
            Err(RunError::TooMuchOutput) => {
                Err(SmolvmError::Unexpected { action: action(), why: "it is too long".to_owned() })
            }
            Err(RunError::Io(source)) => Err(IoError::new(action(), source).into()),
        }
    }

    fn lock(&self, call: &Call<'_>, name: &MachineName) -> Result<MachineLock, SmolvmError> {
        let limit = self.settings.limits.lock;
        MachineLock::take(&self.settings.state_dir, name, limit)
            .io_context(|| format!("{}: taking its lock", call.action()))?
            .ok_or_else(|| SmolvmError::Locked { action: call.action(), limit })
    }
}

fn disagreement(call: &Call<'_>, found: &str) -> SmolvmError {
    SmolvmError::Disagreement { action: call.action(), found: found.to_owned() }
}

fn expect_state(
    call: &Call<'_>,
    machine: Option<Machine>,
    is_expected: impl FnOnce(&MachineState) -> bool,
) -> Result<Machine, SmolvmError> {
    match machine {
        Some(machine) if is_expected(&machine.state) => Ok(machine),
        Some(machine) => Err(disagreement(call, &format!("the machine is {}", machine.state))),
        None => Err(disagreement(call, "there is no such machine")),
    }
}
