//! Skips tests that a host cannot run, with a message; CI makes such a test fail instead.

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Comma-separated capabilities that must be there, or `all`; set by CI.
pub const REQUIRE_VARIABLE: &str = "BOT_BOTTLE_TEST_REQUIRE";

/// Whether the test can go on. If the capability was not `found`, says so on stderr.
///
/// # Panics
/// When the capability is missing and [`REQUIRE_VARIABLE`] names it.
#[must_use]
pub fn require(capability: &str, found: bool) -> bool {
    require_because(capability, (!found).then(|| format!("this host has no `{capability}`")))
}

/// Like [`require`], with the reason why it is missing; `None` when it is there.
///
/// # Panics
/// When the capability is missing and [`REQUIRE_VARIABLE`] names it.
#[must_use]
pub fn require_because(capability: &str, missing: Option<String>) -> bool {
    let Some(reason) = missing else { return true };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let required = env::var(REQUIRE_VARIABLE).unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name.trim() == capability || name.trim() == "all"),
        "{REQUIRE_VARIABLE} asks for `{capability}`: {reason}"
    );
    // Not eprintln!, whose text the test harness shows only when the test fails.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
    false
}

/// Where `PATH` has this program.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Whether this user may create user namespaces and map a user into them.
#[must_use]
pub fn has_user_namespaces() -> bool {
    Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
