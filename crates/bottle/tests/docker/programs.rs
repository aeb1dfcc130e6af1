//! How programs run in a container: as whom, with which streams, on which files.

use std::{fs, io::Write, process::Stdio};

use anyhow::{Context, Result, ensure};

use crate::fixture::Home;

#[test]
fn a_program_is_an_ordinary_user_without_privileges() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    program_has_no_privileges(&home)
}

/// As whom programs run, and what they cannot do.
pub(crate) fn program_has_no_privileges(home: &Home) -> Result<()> {
    let script = "id; grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status; ls -ld . ~ /; echo \"$HOSTNAME\"; \
                  hostname; touch /etc/mine /opt/mine /mine 2>&1; cat /proc/1/environ 2>&1; ls /run/bot-bottle/listeners 2>&1; \
                  kill -9 1 2>&1; \
                  link=$(grep -l 'container-ini[t]' /proc/*/cmdline | sed 's/[^0-9]//g' | grep -vx 1 | head -n 1); \
                  kill -9 $link 2>&1 | sed s/$link/of-the-link/; true";
    let said = home.succeeds(&mut home.run(&[], script))?;
    let has = |text: &str| said.contains(text);
    ensure!(has("uid=1000(agent) gid=1000(agent)\n"), "{said}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure!(has(&format!("{set}:\t0000000000000000\n")), "{set}: {said}");
    }
    ensure!(has("NoNewPrivs:\t1\n") && has("Seccomp:\t2\n"), "{said}");
    ensure!(has("\nbottle\n"), "{said}");
    for place in ["/etc/mine", "/opt/mine", "/mine"] {
        ensure!(has(&format!("touch: {place}: Permission denied")), "{place}: {said}");
    }
    ensure!(
        has("/proc/1/environ': Permission denied") || has("/proc/1/environ: Permission denied"),
        "{said}"
    );
    ensure!(has("ls: can't open '/run/bot-bottle/listeners': Permission denied"), "{said}");
    ensure!(has("can't kill pid of-the-link: Operation not permitted"), "{said}");
    home.is_empty()
}

#[test]
fn no_process_of_the_container_keeps_a_capability() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    // Those of the engine are not seen: they are in other pid namespaces.
    let said = home.succeeds(&mut home.run(&[], "cat /proc/[0-9]*/status"))?;
    let lines = |name: &str| said.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>();
    ensure!(lines("Pid:").len() >= 3, "the first process, that of the link, the program: {said}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        ensure!(lines(set).iter().all(|line| line.ends_with("\t0000000000000000")), "{set} {said}");
    }
    ensure!(lines("NoNewPrivs:").iter().all(|line| line.ends_with("\t1")), "{said}");
    home.is_empty()
}

#[test]
fn streams_and_exit_codes_pass_through() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    streams_pass_through(&home)
}

/// Standard streams and the exit code.
pub(crate) fn streams_pass_through(home: &Home) -> Result<()> {
    let mut command = home.run(&[], "cat; echo bad >&2; exit 7");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let text = "line\n".repeat(200_000);
    let mut stdin = child.stdin.take().context("piped")?;
    let writer = std::thread::spawn({
        let text = text.clone();
        move || stdin.write_all(text.as_bytes())
    });
    let output = child.wait_with_output()?;
    writer.join().expect("written")?;
    ensure!(output.status.code() == Some(7), "{:?}", output.status);
    ensure!(output.stdout == text.as_bytes(), "{} bytes came back", output.stdout.len());
    ensure!(String::from_utf8_lossy(&output.stderr).ends_with("bad\n"), "{:?}", output.stderr);
    home.is_empty()
}

#[test]
fn commands_run_beside_the_agent_in_the_same_container() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    commands_run_beside(&home)
}

/// `exec`, `list active` and `stop`.
pub(crate) fn commands_run_beside(home: &Home) -> Result<()> {
    let bottle = home.start(&[], "echo here > ~/note; sleep 600")?;
    let exec = |script: &str| home.command(&["exec", &bottle.identity, "--", "sh", "-c", script]);
    let said = home.succeeds(&mut exec("cat ~/note; id -u; grep CapEff /proc/self/status"))?;
    ensure!(said == "here\n1000\nCapEff:\t0000000000000000\n", "{said}");
    ensure!(exec("exit 3").status()?.code() == Some(3));
    let active = home.succeeds(&mut home.command(&["list", "active"]))?;
    ensure!(active.contains(&bottle.identity), "{active}");
    home.succeeds(&mut home.command(&["stop", &bottle.identity]))?;
    let left = home.objects(&bottle.identity)?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[test]
fn a_workspace_is_the_agents_own_copy() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    workspace_is_a_copy(&home)
}

/// `--cwd`.
pub(crate) fn workspace_is_a_copy(home: &Home) -> Result<()> {
    let project = home.project();
    fs::create_dir_all(project.join("src"))?;
    fs::write(project.join("src/main.c"), "int main() {}\n")?;
    std::os::unix::fs::symlink("src/main.c", project.join("link"))?;
    fs::write(project.join("odd \u{e4}\n name"), "x")?;
    let said = home.succeeds(&mut home.run(
        &["--cwd"],
        "pwd; stat -c '%U %a %F' src src/main.c link; cat link; ls | wc -l; echo more >> src/main.c; cat src/main.c",
    ))?;
    let expected = "/home/agent/workspace\nagent 755 directory\nagent 644 regular file\nagent 777 symbolic link\n\
                    int main() {}\n3\nint main() {}\nmore\n";
    ensure!(said == expected, "{said}");
    ensure!(fs::read_to_string(project.join("src/main.c"))? == "int main() {}\n");
    home.clean_up()
}
