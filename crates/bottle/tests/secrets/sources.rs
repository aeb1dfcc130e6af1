//! Secrets that come from a command or a file of the operator's.

use std::fs;

use anyhow::{Result, ensure};
use bot_bottle_testkit::{Needle, random_secret, search_tree};

use crate::fixture::Home;

#[test]
fn a_secret_comes_from_a_command_or_a_file_each_time_that_a_bottle_starts() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    let token = home.path("token");
    let command = format!(
        "  API_TOKEN: {{command: [sh, -c, \"echo x >> asked; cat {}\"]}}\n  OTHER: {{command: [sh, -c, \"echo x >> \
         other\"]}}\n",
        token.display()
    );
    home.secrets(&command)?;
    let shown = home.run(&["--dry-run"], "true")?;
    let preflight = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(
        shown.status.success() && preflight.contains("API_TOKEN comes from the command `sh`"),
        "{shown:?}"
    );
    ensure!(!home.path("asked").exists(), "nothing is started that needs it");

    let values = [random_secret("first_"), random_secret("second_"), random_secret("third_")];
    for (number, value) in values.iter().enumerate() {
        fs::write(&token, format!("{value}\n"))?;
        if number == 2 {
            home.secrets("  API_TOKEN: {file: ~/token}\n")?;
        }
        let output = home.run(&[], "env; curl -sS -m 60 -o /dev/null https://api.test/")?;
        ensure!(output.status.success(), "{output:?}");
        let printed = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(!printed.contains(value.as_str()), "{printed}");
    }
    let seen = home.upstream.requests();
    let sent: Vec<_> = seen.iter().filter_map(|request| request.header("authorization")).collect();
    let expected: Vec<_> = values.iter().map(|value| format!("Bearer {value}")).collect();
    ensure!(sent == expected, "{sent:?}");
    ensure!(fs::read_to_string(home.path("asked"))?.lines().count() == 2, "once for each bottle");
    ensure!(!home.path("other").exists(), "no route refers to it");
    let needles: Vec<_> = values.iter().map(|value| Needle::new("a secret", value)).collect();
    let found = search_tree(&home.path(".bot-bottle/state"), &[], &needles);
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

#[test]
fn a_source_without_a_value_is_refused_before_anything_starts() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    for (source, why) in [
        ("command: [sh, -c, \"echo hidden-value; exit 3\"]", "it failed (exit status: 3)"),
        ("command: [sh, -c, \"echo hidden-value; echo hidden-value\"]", "it gave several lines"),
        ("command: [sh, -c, \"echo Bearer hidden-value\"]", "holds the scheme"),
        ("command: [sh, -c, \"echo \\\\\\\"hidden-value\\\\\\\"\"]", "holds quotes"),
        ("command: [no-such-program]", "it cannot be started"),
        ("file: ~/no-such-file", "No such file"),
    ] {
        home.secrets(&format!("  API_TOKEN: {{{source}}}\n"))?;
        let output = home.run(&[], "true")?;
        let message = String::from_utf8(output.stderr.clone())?;
        ensure!(output.status.code() == Some(1) && message.contains("API_TOKEN"), "{source}: {output:?}");
        ensure!(message.contains(why) && !message.contains("hidden-value"), "{source}: {message}");
        ensure!(message.lines().filter(|line| line.starts_with("error")).count() == 1, "{source}: {message}");
        let left = fs::read_dir(home.path(".bot-bottle/state")).into_iter().flatten().flatten();
        ensure!(left.count() == 0, "{source}: something was started");
    }
    Ok(())
}
