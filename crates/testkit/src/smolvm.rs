//! What a test of a real smolvm machine needs: smolvm with a stand-in for libkrun, which runs machines where no KVM
//! guest boots, and an image.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File, Permissions},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use aho_corasick::AhoCorasick;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::require::require_because;

/// The folder that `.ci/smolvm` has prepared.
const FOLDER_VARIABLE: &str = "BOT_BOTTLE_TEST_SMOLVM_GUEST";

/// Begins the name of every test's folder, by which the next test finds what one has left.
const PREFIX: &str = "smolvm-guest-";

/// The root file system of smolvm's agent.
const AGENT: &str = "agent-rootfs";

/// Where smolvm finds that.
const AGENT_VARIABLE: &str = "SMOLVM_AGENT_ROOTFS";

/// How long a machine may take to boot; smolvm itself would give it 30 s.
const READY_SECONDS: u32 = 240;

/// How long processes that were killed may take to disappear.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// A smolvm whose machines run, and the turn to use it: a machine takes a whole processor, so that one test at a
/// time has one.
///
/// It works for root and for any other user. It is not libkrun: the processor is emulated. What confines the virtual
/// machine monitor itself is not tested with it.
///
/// When it is dropped, every process of its machines is killed.
#[derive(Debug)]
pub struct SmolvmGuest {
    folder: TempDir,
    /// The lock is held as long as it is open.
    _turn: File,
}

impl SmolvmGuest {
    /// Waits for its turn. Where machines cannot run, the test is skipped with the reason.
    ///
    /// # Panics
    /// When what was prepared cannot be used.
    #[must_use]
    pub fn find() -> Option<Self> {
        let prepared = prepared();
        if !require_because("smolvm-guest", prepared.as_ref().err().cloned()) {
            return None;
        }
        let prepared = prepared.ok()?;
        // flock(2) locks what is open for reading too.
        let turn = File::open(prepared.join("complete")).expect("the lock");
        turn.lock().expect("the lock");
        kill(&env::temp_dir().join(PREFIX));
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("a folder");
        let guest = Self { folder, _turn: turn };
        // smolvm writes to the first, and both have to be its user's if a user namespace has no other.
        for name in [AGENT, "image"] {
            let copied = Command::new("cp")
                .args(["-R", "--preserve=mode,links,timestamps", "--"])
                .args([prepared.join(name), guest.folder.path().join(name)])
                .status();
            assert!(copied.is_ok_and(|status| status.success()), "copying {name}");
        }
        fs::create_dir(guest.folder.path().join("bin")).expect("a folder");
        fs::write(guest.program(), guest.script(&prepared)).expect("the program");
        fs::set_permissions(guest.program(), Permissions::from_mode(0o755)).expect("the program");
        Some(guest)
    }

    /// smolvm, for a test that names the program. It needs no variable of its own, and ignores `/dev/kvm`.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.folder.path().join("bin/smolvm")
    }

    /// A root file system with busybox, root and a user 1000, and the certificates of this host if it has them. It
    /// is this test's own, and may be added to before a machine is created from it.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    /// A folder for the test's own files, with a short path: smolvm's state fits below it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The processes of machines, and of calls of [`SmolvmGuest::program`], that live. The state directory has to lie
    /// in [`SmolvmGuest::folder`].
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        processes(self.folder.path())
    }

    fn script(&self, prepared: &Path) -> String {
        let prepared = quoted(prepared);
        format!(
            "#!/bin/sh\n\
             export SMOLVM_LIB_DIR={prepared}/lib LD_PRELOAD={prepared}/lib/preload.so\n\
             export {AGENT_VARIABLE}={}\n\
             # The machine's files are this user's: another one could not read them.\n\
             export SMOLVM_VM_UID_DROP=off\n\
             # A host that does other work too may take longer than smolvm's own limit.\n\
             export SMOLVM_AGENT_READY_TIMEOUT_SECS={READY_SECONDS}\n\
             exec {prepared}/smol/smol-vmm \"$@\"\n",
            quoted(&self.folder.path().join(AGENT))
        )
    }
}

impl Drop for SmolvmGuest {
    fn drop(&mut self) {
        kill(self.folder.path());
    }
}

fn prepared() -> Result<PathBuf, String> {
    let folder = env::var_os(FOLDER_VARIABLE).filter(|value| !value.is_empty());
    let folder = PathBuf::from(folder.ok_or_else(|| format!("{FOLDER_VARIABLE} names no folder"))?);
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    Err(format!("{} is not what .ci/smolvm makes", folder.display()))
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// The processes of this user's machines whose files lie below a path that begins so: all have the variable of
/// their agent, and smolvm's own process, whose environment is not readable (prctl(2), `PR_SET_DUMPABLE`), has a
/// path of its state as argument.
fn processes(beginning: &Path) -> Vec<u32> {
    let path = beginning.as_os_str().as_bytes();
    let variable = [AGENT_VARIABLE.as_bytes(), b"=", path].concat();
    let arguments = [b"\0_boot-vm\0", path].concat();
    let search = AhoCorasick::new([variable, arguments]).expect("patterns");
    let of_machine = |name: &OsStr| {
        let process: u32 = name.to_str()?.parse().ok()?;
        let has = |file: &str| {
            fs::read(format!("/proc/{process}/{file}")).is_ok_and(|bytes| search.is_match(&bytes))
        };
        (has("environ") || has("cmdline")).then_some(process)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| of_machine(&entry.file_name())).collect()
}

fn kill(beginning: &Path) {
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let left = processes(beginning);
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for process in left.into_iter().filter_map(|process| Pid::from_raw(process.cast_signed())) {
            let _ = kill_process(process, Signal::KILL);
        }
        sleep(Duration::from_millis(20));
    }
}
