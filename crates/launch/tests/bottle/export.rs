//! The agent's work, brought out of a running bottle as a stream.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use anyhow::ensure;
use libtest_mimic::Trial;

use crate::fixture::{Fixture, User, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "the_workspace_comes_out_as_an_archive", workspace),
        trial(user, "an_archive_that_is_not_whole_is_an_error", not_whole),
    ]
}

const WORKSPACE: &str = "/home/agent/workspace";

fn export(fixture: &Fixture, folder: &str) -> std::io::Result<std::process::Output> {
    let home = fixture.order.home.to_string_lossy().into_owned();
    fixture.part(&["export-order", &home, "test-aaaaa", folder]).stdin(std::process::Stdio::null()).output()
}

fn workspace(user: User) -> anyhow::Result<()> {
    let outside = tempfile::tempdir()?;
    let secret = outside.path().join("secret");
    fs::write(&secret, "of the operator")?;
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755))?;
    // A name that starts like an option, a program that could be taken for tar, and links to the host's
    // files: to one, and to the folder above it.
    let script = format!(
        "umask 022; mkdir -p deep/er; head -c 3000000 /dev/zero | tr '\\0' x > deep/er/large; echo run > ./--run; \
         chmod 755 ./--run; printf '#!/bin/sh\\necho forged' > tar; chmod 755 tar; ln -s {} secret; ln -s {} outside; \
         export TAR_OPTIONS=--version; echo ready; exec sleep 600",
        secret.display(),
        outside.path().display(),
    );
    let mut fixture = Fixture::shell(user, &script);
    fixture.order.environment.insert("PATH".into(), format!("{WORKSPACE}:/usr/bin:/bin"));
    fixture.order.environment.insert("TAR_OPTIONS".into(), "--version".into());
    let _running = fixture.start()?;
    let output = export(&fixture, WORKSPACE)?;
    ensure!(output.status.success(), "{:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(!output.stdout.windows(15).any(|part| part == b"of the operator"), "no link was followed");

    let target = tempfile::tempdir()?;
    let archive = target.path().join("archive.tar");
    fs::write(&archive, &output.stdout)?;
    let unpacked = Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(target.path()).status()?;
    ensure!(unpacked.success());
    let at = |name: &str| target.path().join(name);
    ensure!(fs::read(at("deep/er/large"))? == vec![b'x'; 3_000_000]);
    ensure!(fs::read_to_string(at("--run"))? == "run\n");
    ensure!(fs::metadata(at("--run"))?.permissions().mode() & 0o777 == 0o755);
    ensure!(fs::read_link(at("secret"))? == secret && fs::read_link(at("outside"))? == outside.path());
    Ok(())
}

fn not_whole(user: User) -> anyhow::Result<()> {
    let fixture = Fixture::shell(user, "echo ready; exec sleep 600");
    let _running = fixture.start()?;
    for folder in ["/home/agent/no-such-folder", "/root/../etc/no-such-folder"] {
        let output = export(&fixture, folder)?;
        ensure!(matches!(output.status.code(), Some(1 | 2)), "{folder}: {output:?}");
        ensure!(output.stdout.iter().all(|byte| *byte == 0), "{folder}: nothing is in it");
    }
    Ok(())
}
