//! A run that ended goes on, in the home and the workspace that its agent left.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::ensure;
use bot_bottle_core::provider::GuestFile;
use libtest_mimic::Trial;

use crate::fixture::{Fixture, User, give_to, trial};

pub(crate) fn trials(user: User) -> Vec<Trial> {
    vec![
        trial(user, "a_run_goes_on_in_its_home_and_workspace", goes_on),
        trial(user, "a_run_that_was_killed_goes_on", killed),
        trial(user, "a_run_goes_on_once_at_a_time", once),
        trial(user, "a_home_is_kept_for_its_conversation", conversation_alone),
    ]
}

/// The fixture's run with another program, and with a login that is made anew.
fn resumed(fixture: &mut Fixture, script: &str) {
    fixture.order.plan.program.command = ["bash", "-c", script].map(str::to_owned).into();
    fixture.order.plan.files = vec![GuestFile {
        path: "/home/agent/.tool/login".into(),
        content: "fresh\n".to_owned(),
        mode: 0o600,
    }];
    fixture.order.is_resumed = true;
}

fn talking(user: User, script: &str) -> Fixture {
    let mut fixture = Fixture::shell(user, script);
    fixture.order.conversations = Some(".talk".into());
    fixture
}

fn goes_on(user: User) -> anyhow::Result<()> {
    let outside = tempfile::tempdir()?;
    give_to(outside.path(), user);
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o777))?;
    let target = outside.path().join("target");
    fs::write(&target, "of the operator\n")?;
    fs::set_permissions(&target, fs::Permissions::from_mode(0o666))?;
    // The agent puts a link where the login will be written.
    let script = format!(
        "mkdir ~/.talk ~/.tool; echo said > ~/.talk/1; ln -s {} ~/.tool/login; echo made > made; echo changed > data",
        target.display()
    );
    let mut fixture = talking(user, &script);
    let folder = fixture.folder.path().join("project");
    fs::create_dir(&folder)?;
    fs::write(folder.join("data"), "of the operator\n")?;
    fixture.order.plan.workspace = Some(folder);
    fixture.success()?;
    ensure!(
        fixture.events().contains("Kept(Kept { work: true, conversation: true })"),
        "{}",
        fixture.events()
    );
    let first = fs::read(fixture.run().join("start.json"))?;

    resumed(
        &mut fixture,
        "cat ~/.talk/1 made data ~/.tool/login; echo again > ~/.talk/2; id -u; touch /etc/x || echo confined",
    );
    let text = fixture.success()?;
    ensure!(text == "said\nmade\nchanged\nfresh\n1000\nconfined\n", "{text}");
    ensure!(fs::read_to_string(&target)? == "of the operator\n", "it was written through the agent's link");
    ensure!(fs::read(fixture.run().join("start.json"))? == first, "all is compared with the first start");
    let mode = fs::metadata(fixture.run().join("agent"))?.permissions().mode() & 0o777;
    ensure!(mode == 0, "{mode:o}");

    // A folder that leads out is no place for a login; what is there stays.
    resumed(&mut fixture, "rm -r ~/.tool; ln -s /tmp ~/.tool");
    fixture.success()?;
    resumed(&mut fixture, "echo never");
    let output = fixture.output();
    ensure!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let told = String::from_utf8(output.stderr)?;
    ensure!(told.contains("/home/agent/.tool/login"), "{told}");
    ensure!(fixture.agent_folder().join("workspace/made").exists(), "the work is kept");
    fixture.expect_clean(&[])
}

fn killed(user: User) -> anyhow::Result<()> {
    let mut fixture =
        talking(user, "mkdir ~/.talk; echo said > ~/.talk/1; echo made > made; echo ready; exec sleep 600");
    let mut running = fixture.start()?;
    running.child.kill()?;
    running.child.wait()?;
    resumed(&mut fixture, "cat ~/.talk/1 made");
    // The processes of the bottle hold the lock for the moment that they take to end.
    let mut output = fixture.output();
    for _ in 0..500 {
        if !String::from_utf8_lossy(&output.stderr).contains("is running") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        output = fixture.output();
    }
    ensure!(output.status.success() && output.stdout == b"said\nmade\n", "{output:?}");
    fixture.expect_clean(&[])
}

fn once(user: User) -> anyhow::Result<()> {
    let mut fixture = talking(user, "mkdir ~/.talk; echo said > ~/.talk/1; echo ready; read -r line");
    let mut running = fixture.start()?;
    resumed(&mut fixture, "echo second");
    let output = fixture.output();
    let told = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(70) && told.contains("test-aaaaa is running"), "{told}");
    drop(running.child.stdin.take());
    running.child.wait()?;
    ensure!(fixture.success()? == "second\n", "the first one was as it was");
    fixture.expect_clean(&[])
}

fn conversation_alone(user: User) -> anyhow::Result<()> {
    let fixture = talking(user, "mkdir ~/.talk; echo said > ~/.talk/1");
    fixture.success()?;
    ensure!(
        fixture.events().contains("Kept(Kept { work: false, conversation: true })"),
        "{}",
        fixture.events()
    );
    fixture.expect_clean(&[])?;
    for nothing in ["mkdir ~/.talk", "ln -s /etc ~/.talk", "true"] {
        let fixture = talking(user, nothing);
        fixture.success()?;
        fixture.expect_nothing_on_disk()?;
    }
    Ok(())
}
