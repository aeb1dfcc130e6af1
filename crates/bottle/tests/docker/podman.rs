//! Bottles on podman's compatible socket. The promises are those on docker, and so are the tests; what podman does
//! otherwise has tests of its own here.

use std::fs;

use anyhow::{Result, ensure};
use bot_bottle_engine::{BuildSpec, ContainerSpec, EngineKind};
use bot_bottle_testkit::{random_hex, require_because};

use crate::{
    cleanup, ends,
    fixture::{Home, LONG},
    kept, programs, resume, secrets,
};

fn on_podman(test: impl FnOnce(&Home) -> Result<()>) -> Result<()> {
    let Some(home) = Home::on_podman()? else { return Ok(()) };
    let info = home.engine.info()?;
    ensure!(info.kind == EngineKind::Podman && info.is_rootless, "it is not rootless podman: {info:?}");
    test(&home)
}

#[test]
fn a_program_is_an_ordinary_user_without_privileges() -> Result<()> {
    on_podman(programs::program_has_no_privileges)
}

#[test]
fn streams_and_exit_codes_pass_through() -> Result<()> {
    on_podman(programs::streams_pass_through)
}

#[test]
fn commands_run_beside_the_agent_in_the_same_container() -> Result<()> {
    on_podman(programs::commands_run_beside)
}

#[test]
fn a_workspace_is_the_agents_own_copy() -> Result<()> {
    on_podman(programs::workspace_is_a_copy)
}

#[test]
fn the_gateway_injects_what_the_engine_never_shows() -> Result<()> {
    on_podman(secrets::secret_is_injected)
}

#[test]
fn a_bottle_ends_with_its_launcher() -> Result<()> {
    on_podman(ends::launcher_is_killed)
}

#[test]
fn a_bottle_ends_with_its_gateway() -> Result<()> {
    on_podman(ends::gateway_is_killed)
}

#[test]
fn of_a_launcher_that_was_killed_only_the_work_stays() -> Result<()> {
    on_podman(cleanup::only_work_stays)
}

#[test]
fn a_run_that_wrote_nothing_leaves_nothing_and_another_its_work() -> Result<()> {
    on_podman(kept::only_work_is_kept)
}

#[test]
fn files_come_out_and_go_in_after_the_end() -> Result<()> {
    on_podman(kept::files_come_out_and_go_in)
}

#[test]
fn work_is_looked_at_while_the_run_goes_on() -> Result<()> {
    on_podman(kept::running_work_is_looked_at)
}

#[test]
fn a_run_goes_on_with_its_home_and_its_workspace() -> Result<()> {
    on_podman(resume::run_goes_on)
}

/// podman copies the host's `/etc/hosts` into containers, and its compatible API ignores which paths are masked.
#[test]
fn nothing_tells_about_the_host() -> Result<()> {
    on_podman(|home| {
        let tells = "test -n \"$(ls /sys)\" && test -n \"$(cat /proc/cmdline)\" && \
                     grep -q host.containers.internal /etc/hosts";
        // The control: an ordinary container of this podman has it all.
        let control = ContainerSpec {
            name: format!("bot-bottle-test-{}", random_hex(8)),
            image: home.host.image.clone(),
            entrypoint: ["sh", "-c"].map(str::to_owned).into(),
            command: vec![tells.to_owned()],
            network: "none".to_owned(),
            log_driver: "none".to_owned(),
            ..ContainerSpec::default()
        };
        home.engine.create_container(&control)?;
        let started = home.engine.start_container(&control.name);
        let code = started.and_then(|()| home.engine.wait_container(&control.name, LONG));
        home.engine.remove_container(&control.name)?;
        ensure!(code? == Some(0), "an ordinary container does not see the host");

        let script = "ls /sys; cat /proc/cmdline /proc/kallsyms /proc/keys; ls /proc/driver; ls /proc/pressure; \
                      cat /etc/hosts; ls /sys/class/net 2>&1; cut -d: -f1 /proc/net/dev";
        let said = home.succeeds(&mut home.run(&[], script))?;
        let (files, devices) =
            said.split_once("127.0.0.1 localhost bottle\n::1 localhost ip6-localhost\n").unwrap_or_default();
        ensure!(files.is_empty(), "{said}");
        let devices: Vec<&str> = devices.lines().skip(3).map(str::trim).collect();
        ensure!(devices == ["lo"], "{said}");
        home.is_empty()
    })
}

/// podman fills a volume when the first container that has it is prepared to run, and ignores `no_copy`.
#[test]
fn the_program_of_a_bottle_is_not_that_of_the_image() -> Result<()> {
    on_podman(|home| {
        let image = format!("bot-bottle-test:program-{}", random_hex(6));
        let dockerfile = format!("FROM {}\nCOPY program /opt/bot-bottle/agent/bot-bottle\n", home.host.image);
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in [("Dockerfile", dockerfile.as_str()), ("program", "#!/bin/sh\nexit 9\n")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o755);
            archive.append_data(&mut header, name, content.as_bytes())?;
        }
        let spec = BuildSpec { tag: image.clone(), network: Some("none".to_owned()), ..BuildSpec::default() };
        home.engine.build(&spec, &mut archive.into_inner()?.as_slice(), &mut |_| {})?;

        let script = "wc -c < /opt/bot-bottle/agent/bot-bottle; touch work";
        let run = ["run", "--backend", "docker", "--image", &image, "--", "sh", "-c", script];
        let said = home.succeeds(&mut home.command(&run))?;
        let size = fs::metadata(&home.host.program)?.len();
        ensure!(said == format!("{size}\n"), "{said}");
        // The throw-away bottle has no gateway whose container could fill the volume.
        let identities = home.identities();
        let [run] = &identities[..] else { anyhow::bail!("{identities:?} are there") };
        let changes = home.succeeds(&mut home.command(&["diff", run]))?;
        ensure!(changes.contains("work"), "{changes}");
        home.clean_up()?;
        Ok(home.engine.remove_image(&image)?)
    })
}

#[test]
fn a_limit_that_podman_does_not_enforce_is_refused() -> Result<()> {
    on_podman(|home| {
        let info = home.engine.info()?;
        let enforced = info.limits.memory.then(|| "podman enforces limits on this host".to_owned());
        if !require_because("podman-without-limits", enforced) {
            return Ok(());
        }
        fs::write(home.path("bottles/small.md"), "---\nlimits: {memory: 1GiB}\n---\n")?;
        let refusal = format!("`limits.memory` is not enforced by podman {} on this host", info.version);
        home.refused(&mut home.run(&["--bottle", "small"], "true"), 1, &[&refusal])?;
        Ok(())
    })
}
