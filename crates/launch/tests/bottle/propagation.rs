//! A host whose mounts are shared, as systemd makes them: nothing that is mounted for a bottle appears on the
//! host, and nothing that the host mounts later appears in a bottle.

use std::{fs, process::Command};

use anyhow::ensure;
use libtest_mimic::Trial;

use crate::fixture::{Fixture, ORDINARY, User, is_root, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "nothing_is_mounted_on_the_host_for_a_bottle", on_the_host),
        trial(user, "what_the_host_mounts_later_is_not_in_the_bottle", in_the_bottle),
    ]
}

/// A shell in a mount namespace with shared mounts, for the script `$0` and the launcher as its arguments.
fn on_a_shared_host(fixture: &Fixture, script: &str) -> Command {
    let launcher = fixture.launcher();
    let mut host = Command::new("unshare");
    host.args(["--mount", "--propagation", "shared", "--", "sh", "-c", script, "sh"]);
    if fixture.user != User::Own {
        let (user, group) = (format!("--reuid={ORDINARY}"), format!("--regid={ORDINARY}"));
        host.args(["setpriv", &user, &group, "--clear-groups"]);
    }
    host.arg(launcher.get_program()).args(launcher.get_args());
    host.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").env("RUN", fixture.run()).current_dir("/");
    host
}

fn on_the_host(user: User) -> anyhow::Result<()> {
    if !is_root() {
        return crate::fixture::skip("root", "shared mounts: only root can make a host of its own");
    }
    let mut fixture =
        Fixture::shell(user, "echo hours-of-work > result; grep -c shared: /proc/self/mountinfo");
    let folder = fixture.folder.path().join("project");
    fs::create_dir(&folder)?;
    fs::write(folder.join("file"), "x")?;
    fixture.order.plan.workspace = Some(folder);
    let script = "\"$@\"; echo \"code $?\"; grep \"$RUN\" /proc/self/mountinfo; true";
    let output = on_a_shared_host(&fixture, script).output()?;
    let text = String::from_utf8(output.stdout)?;
    // No mount inside is a peer of one outside, and none of the run's is on the host. `grep -c` that finds
    // nothing ends with 1.
    ensure!(text == "0\ncode 1\n", "{text}{}", String::from_utf8_lossy(&output.stderr));
    let kept = fixture.agent_folder().join("workspace");
    ensure!(fs::read_to_string(kept.join("result"))? == "hours-of-work\n");
    ensure!(fs::read_to_string(kept.join("file"))? == "x");
    ensure!(!fixture.run().join("trust").exists(), "the rest is removed");
    Ok(())
}

fn in_the_bottle(user: User) -> anyhow::Result<()> {
    if !is_root() {
        return crate::fixture::skip("root", "shared mounts: only root can make a host of its own");
    }
    let later = "mkdir sub; echo ready; while [ ! -e go ]; do sleep 0.05; done; \
        grep MOUNTED_LATER /proc/self/mountinfo; grep -c master: /proc/self/mountinfo; echo end";
    let mut fixture = Fixture::shell(user, later);
    let opt = tempfile::tempdir_in("/opt")?;
    let folder = fixture.folder.path().join("project");
    fs::create_dir(&folder)?;
    fixture.order.plan.workspace = Some(folder);
    let script = format!(
        "out=$(mktemp); \"$@\" > $out & until grep -q ready $out; do kill -0 $! || exit 9; sleep 0.05; done; \
         mount -t tmpfs MOUNTED_LATER \"$RUN/agent/workspace/sub\" && mount -t tmpfs MOUNTED_LATER {} && \
         touch \"$RUN/agent/workspace/go\" && wait; cat $out; rm $out",
        opt.path().display()
    );
    let output = on_a_shared_host(&fixture, &script).output()?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(text == "ready\n0\nend\n", "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
