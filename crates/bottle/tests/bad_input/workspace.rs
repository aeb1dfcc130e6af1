//! Folders that are never copied into a bottle.

use std::{fs, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Result, ensure};

use crate::{FAILED, home::Home};

#[test]
fn a_folder_with_credentials_is_refused_whatever_is_said() -> Result<()> {
    let home = Home::new()?;
    home.write("bottles/claude.md", crate::CLAUDE)?;
    home.write("agents/worker.md", "---\nbottle: claude\n---\nWork.\n")?;
    let folder = home.folder.path();
    fs::create_dir_all(folder.join(".ssh"))?;
    fs::write(folder.join(".ssh/id_ed25519"), "KEY OF THE TEST")?;
    std::os::unix::fs::symlink(folder, home.project().join("link"))?;
    let above = folder.parent().unwrap_or(Path::new("/"));
    for (at, why) in [
        (Path::new("/"), "`/` cannot be a workspace"),
        (folder, "it is your home"),
        (&home.project().join("link"), "it is your home"),
        (above, "lies in it"),
        (&folder.join(".ssh"), "is where OpenSSH keeps credentials"),
        (&home.path("bottles"), "bot-bottle's own files lie in"),
    ] {
        for arguments in [
            ["run", "--cwd", "--", "cat", ".ssh/id_ed25519"].as_slice(),
            &["run", "--cwd", "--dry-run", "--", "true"],
            &["start", "worker", "--cwd", "--yes"],
        ] {
            let mut command = home.command(arguments);
            let texts = ["cannot be a workspace", why, "the folder of one project"];
            let output = home.refused(command.current_dir(at), FAILED, &texts)?;
            ensure!(!String::from_utf8_lossy(&output.stdout).contains("KEY OF THE TEST"));
        }
    }
    Ok(())
}

/// The copy keeps modification times, because build tools would rebuild everything otherwise.
#[test]
fn what_was_built_is_not_built_again() -> Result<()> {
    let user = bot_bottle_testkit::has_user_namespaces();
    if !bot_bottle_testkit::require("userns", user)
        || !bot_bottle_testkit::require("make", Path::new("/usr/bin/make").exists())
    {
        return Ok(());
    }
    let home = Home::new()?;
    let makefile = "all: $(addsuffix .o,$(shell seq 400))\n%.o: %.c\n\t@echo CC $< && cp $< $@\n";
    fs::write(home.project().join("Makefile"), makefile)?;
    for number in 1..=400 {
        fs::write(home.project().join(format!("{number}.c")), "x")?;
    }
    let mut outside = Command::new("make");
    ensure!(outside.arg("-s").current_dir(home.project()).process_group(0).output()?.status.success());
    let output = home.command(&["run", "--cwd", "--", "sh", "-c", "make | grep -c CC"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text == "0\n", "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
