//! Mistakes of operators and faults of hosts: each gives one error with advice and its exit code, and leaves
//! nothing behind.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use bot_bottle_launch::request::Step;
use bot_bottle_testkit::{find_program, has_user_namespaces, require};

use home::Home;

mod credentials;
mod descriptors;
mod exclusions;
mod fetching;
mod fetching_hostile;
mod fetching_whole;
mod foreign_text;
mod git_credentials;
mod headless;
mod home;
mod kept_work;
mod other_versions;
mod repositories;
mod workspace;

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const MANIFEST: i32 = 3;
const BACKEND: i32 = 4;

/// An ordinary user, where the tests run as root.
const ORDINARY_USER: u32 = 65534;

const CLAUDE: &str = "---\nagent_provider: {template: claude, auth_token: TOKEN}\n---\n";

const NO_CAPABILITY: &str = "unshare --user --map-user=1000 --map-group=1000";

#[test]
fn what_is_not_there_is_named() -> Result<()> {
    let home = Home::new()?;
    home.write("bottles/web.md", CLAUDE)?.write("agents/writer.md", "---\nbottle: web\n---\nWrite.\n")?;
    home.refuses(&["start", "writr", "--yes"], MANIFEST, &["there is no agent `writr`", "writer"])?;
    home.refuses(&["run", "--bottle", "wbe", "--", "true"], MANIFEST, &["there is no bottle `wbe`", "web"])?;
    home.refuses(
        &["exec", "writer-aaaaa", "--", "true"],
        FAILED,
        &["no bottle `writer-aaaaa`", "list active"],
    )?;
    home.refuses(&["stop", "writer-aaaaa"], FAILED, &["no bottle `writer-aaaaa`", "list active"])?;
    let unset = ["`TOKEN` is not set", "export TOKEN"];
    home.refuses(&["start", "writer", "--yes"], FAILED, &unset)?;
    let mut start = home.command(&["start", "writer", "--yes"]);
    let texts = ["`claude` is not installed", "`bot-bottle provider install claude`"];
    home.refused(start.env("TOKEN", "x"), FAILED, &texts)?;
    home.write("bottles/copies.md", "---\nenv: {NAME: \"${NOT_SET}\"}\n---\n")?;
    let texts = ["`env.NAME`", "$NOT_SET", "export NOT_SET"];
    home.refuses(&["run", "--bottle", "copies", "--", "true"], FAILED, &texts)?;
    home.refuses(&["run", "--env", "NOT_SET", "--", "true"], FAILED, &["NOT_SET", "hint"])
}

#[test]
fn a_manifest_that_cannot_be_read_is_named() -> Result<()> {
    let home = Home::new()?;
    home.write("bottles/text.md", [0xFF, 0xFE])?.write("bottles/open.md", "---\nenv: {A: [\n")?;
    fs::create_dir(home.path("bottles/folder.md"))?;
    for name in ["text", "open", "folder"] {
        let file = format!("{name}.md");
        home.refuses(&["run", "--bottle", name, "--", "true"], MANIFEST, &[&file])?;
    }
    home.write("settings.yml", "nonsense: 1\n")?;
    home.refuses(&["run", "--", "true"], MANIFEST, &["settings.yml", "nonsense"])
}

#[test]
fn wrong_arguments_are_usage_errors() -> Result<()> {
    let home = Home::new()?;
    home.refuses(&["run", "--backend", "nonsense", "--", "true"], USAGE, &["there are native, docker"])?;
    home.refuses(&["exec", "bad name", "--", "true"], USAGE, &["bad name"])?;
    home.refuses(&["run", "--fault", "sometimes:attach", "--", "true"], USAGE, &["before:STEP"])?;
    home.refuses(&["run", "--fault", "after:lunch", "--", "true"], USAGE, &["allocate-resources"])?;
    home.refuses(&["run", "--env", "=x", "--", "true"], USAGE, &["name of a variable"])?;
    let mut relative = home.command(&["run", "--", "true"]);
    home.refused(relative.env("BOT_BOTTLE_HOME", "here"), USAGE, &["not an absolute path", "hint"])?;
    home.refuses(&["run", "--backend", "kubernetes", "--", "true"], BACKEND, &["--backend native"])
}

#[test]
fn without_a_terminal_nothing_waits_for_an_answer() -> Result<()> {
    let home = Home::new()?;
    home.write("bottles/web.md", CLAUDE)?.write("agents/writer.md", "---\nbottle: web\n---\nWrite.\n")?;
    home.write("bottles/asks.md", "---\nenv: {NAME: \"?Which\"}\n---\n")?;
    let mut start = home.command(&["start", "writer"]);
    home.refused(start.env("TOKEN", "x"), FAILED, &["there is no terminal", "--yes"])?;
    home.refuses(&["start"], FAILED, &["there is no terminal", "writer"])?;
    home.refuses(&["run", "--bottle", "asks", "--", "true"], FAILED, &["there is no terminal", "${NAME}"])
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() -> Result<()> {
    let home = Home::new()?;
    let writable = "set BOT_BOTTLE_HOME to a folder that you may write to";
    let mut device = home.command(&["run", "--", "true"]);
    home.refused(device.env("BOT_BOTTLE_HOME", "/dev/null"), FAILED, &["/dev/null/state", writable])?;
    home.write("state", "a file")?;
    home.refuses(&["run", "--", "true"], FAILED, &[".bot-bottle/state", "hint"])?;
    let gone = home.folder.path().join("gone");
    fs::create_dir(&gone)?;
    let mut lost = Command::new("sh");
    lost.args(["-c", "rmdir \"$PWD\"; exec \"$0\" run -- true"]).arg(&home.program);
    home.environment(&mut lost);
    fs::remove_file(home.path("state"))?;
    home.refused(lost.current_dir(&gone), FAILED, &["current directory", "change to one that exists"])?;
    Ok(())
}

#[test]
fn a_full_and_a_read_only_disk_are_errors_that_leave_nothing() -> Result<()> {
    if !require("userns", has_user_namespaces() && find_program("unshare").is_some()) {
        return Ok(());
    }
    let home = Home::new()?;
    // As much as a state directory needs to begin, so that the certificates are what does not fit.
    let output = home.refused(
        &mut home.on_a_disk("size=64k", "", NO_CAPABILITY, &["run", "--", "true"]),
        FAILED,
        &["No space left on device", "make room on the disk"],
    )?;
    ensure!(output.stdout == b".lock\n", "{}", String::from_utf8_lossy(&output.stdout));
    fs::write(home.project().join("large"), vec![1; 1 << 20])?;
    let output = home.refused(
        &mut home.on_a_disk("size=64k", "", NO_CAPABILITY, &["run", "--cwd", "--", "true"]),
        FAILED,
        &["No space left on device", "make room on the disk"],
    )?;
    ensure!(output.stdout == b".lock\n", "{}", String::from_utf8_lossy(&output.stdout));
    let full = "head -c 1M /dev/zero > ~/.bot-bottle/ballast 2>/dev/null;";
    home.refused(
        &mut home.on_a_disk("size=64k", full, NO_CAPABILITY, &["run", "--", "true"]),
        FAILED,
        &["No space left on device", "make room on the disk"],
    )?;
    let output = home.refused(
        &mut home.on_a_disk("size=64k,ro", "", NO_CAPABILITY, &["run", "--", "true"]),
        FAILED,
        &["Read-only file system", "BOT_BOTTLE_HOME"],
    )?;
    ensure!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn the_root_of_a_container_has_bottles_too() -> Result<()> {
    if !require("userns", has_user_namespaces() && find_program("unshare").is_some()) {
        return Ok(());
    }
    let home = Home::new()?;
    let mut command = home.on_a_disk("size=64m", "", "", &["run", "--", "id", "-u"]);
    home.as_ordinary_user(&mut command)?;
    let output = command.output()?;
    ensure!(output.status.success() && output.stdout == b"1000\n.lock\n", "{output:?}");
    Ok(())
}

/// Whatever only root of the host may read, a bottle of this root could.
#[test]
fn the_root_of_the_host_without_other_users_has_none() -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    if !require("userns", has_user_namespaces()) || !require("root", root) {
        return Ok(());
    }
    let home = Home::new()?;
    let mut command = home.on_a_disk("size=64m", "", "", &["run", "--", "id", "-u"]);
    let texts = ["no user but the root of the one outside", "start bot-bottle as an ordinary user"];
    home.refused(&mut command, BACKEND, &texts)?;
    Ok(())
}

#[test]
fn without_user_namespaces_the_sentence_says_what_to_do() -> Result<()> {
    if !require("userns", has_user_namespaces() && find_program("unshare").is_some()) {
        return Ok(());
    }
    let home = Home::new()?;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000", "--keep-caps", "sh", "-c"]);
    command.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$0\" run -- true").arg(&home.program);
    home.environment(&mut command);
    let texts = ["user.max_user_namespaces is 0", "sudo sysctl -w user.max_user_namespaces="];
    home.refused(&mut command, BACKEND, &texts)?;
    Ok(())
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_nothing_is_copied() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    let secret = home.project().join("secret");
    fs::write(&secret, "x")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000))?;
    let mut command = home.command(&["run", "--cwd", "--", "true"]);
    home.as_ordinary_user(&mut command)?;
    home.refused(&mut command, FAILED, &["these cannot be read by you: secret", "hint"])?;
    Ok(())
}

#[test]
fn a_program_that_is_not_there_is_an_error_and_its_own_codes_pass() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    home.refuses(&["run", "--", "no-such-program"], FAILED, &["`no-such-program`", "/usr and /opt"])?;
    for code in [0, 2, 3, 4, 70, 255] {
        let status = home.command(&["run", "--", "sh", "-c", &format!("exit {code}")]).status()?;
        ensure!(status.code() == Some(code), "{code}: {status:?}");
    }
    let status = home.command(&["run", "--", "sh", "-c", "kill -KILL $$"]).status()?;
    ensure!(status.code() == Some(137), "{status:?}");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let mut shell = Command::new("sh");
        let script = format!("exec \"$0\" run -- sh -c 'echo x; echo y >&2; cat; exit 5' {closed}");
        shell.args(["-c", &script]).arg(&home.program);
        home.environment(&mut shell);
        let status = shell.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        ensure!(status.code() == Some(5), "{closed}: {status:?}");
    }
    ensure!(home.left() == [".lock"], "{:?}", home.left());
    Ok(())
}

#[test]
fn a_launcher_that_is_killed_leaves_what_cleanup_removes() -> Result<()> {
    if !require("userns", has_user_namespaces()) {
        return Ok(());
    }
    let home = Home::new()?;
    for step in Step::ALL {
        let step = step.name().replace(' ', "-");
        for when in ["before", "after"] {
            let point = format!("{when}:{step}");
            let mut command = Command::new(&home.program);
            command.args(["run", "--cwd", "--fault", &point, "--", "sleep", "600"]);
            home.environment(&mut command);
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            ensure!(status.signal() == Some(9), "{point}: {status:?}");
            home.clean_up().with_context(|| point.clone())?;
            home.refuses(
                &["run", "--cwd", "--fault", &format!("fail-{point}"), "--", "sleep", "600"],
                FAILED,
                &["was told to fail"],
            )?;
        }
    }
    Ok(())
}
