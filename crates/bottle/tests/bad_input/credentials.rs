//! Credentials that cannot be right are refused before the question whether to start.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, ensure};

use crate::{FAILED, home::Home};

const ROUTE: &str =
    "---\negress: {routes: [{host: api.test, auth: {scheme: Bearer, token_ref: TOKEN}}]}\n---\n";

#[test]
fn a_value_that_is_more_than_the_credential_is_refused() -> Result<()> {
    let home = Home::new()?;
    home.write("bottles/api.md", ROUTE)?;
    for (value, problem) in [
        ("first-part\nsecond-part", "holds a line break"),
        ("ends-with-one\n", "holds a line break"),
        ("returns\r", "holds a line break"),
        ("\"in-quotes\"", "holds quotes"),
        ("'in-quotes'", "holds quotes"),
        ("two words", "holds blanks"),
        (" in-front", "holds blanks"),
        ("tab\there", "holds blanks"),
        ("Bearer twice", "holds the scheme"),
        ("bEARER twice", "holds the scheme"),
        ("Basic dXNlcjpw", "holds the scheme"),
        ("token x", "holds the scheme"),
        ("\u{7}bell", "holds characters that do not fit"),
        ("pässword", "holds characters that do not fit"),
    ] {
        let mut command = home.command(&["run", "--bottle", "api", "--", "true"]);
        let texts = ["the credential in `TOKEN`", problem, "export TOKEN"];
        let output = home.refused(command.env("TOKEN", value), FAILED, &texts)?;
        let message = String::from_utf8(output.stderr)?;
        ensure!(!message.contains(value.trim()), "the value is shown: {message}");
    }
    Ok(())
}

#[test]
fn the_value_is_looked_at_whatever_its_shape() -> Result<()> {
    let home = Home::new()?;
    for auth in ["scheme: Basic, username: me", "header: x-api-key", "query: key"] {
        let route = format!("egress: {{routes: [{{host: api.test, auth: {{{auth}, token_ref: TOKEN}}}}]}}");
        home.write("bottles/api.md", format!("---\n{route}\n---\n"))?;
        let arguments = ["run", "--bottle", "api", "--", "true"];
        for value in ["first-part\nsecond-part", "'in-quotes'", " in-front", "Bearer twice"] {
            let mut command = home.command(&arguments);
            let texts = ["the credential in `TOKEN` holds", "export TOKEN"];
            let output = home.refused(command.env("TOKEN", value), FAILED, &texts)?;
            ensure!(!String::from_utf8(output.stderr)?.contains(value.trim()), "{auth}: the value is shown");
        }
        home.refuses(&arguments, FAILED, &["`TOKEN` is not set", "export TOKEN"])?;
    }
    Ok(())
}

#[test]
fn how_a_route_is_authenticated_is_shown() -> Result<()> {
    let home = Home::new()?;
    let auths = [
        ("{scheme: Bearer, token_ref: TOKEN}", "[auth:Bearer]"),
        ("{scheme: Basic, username: x-access-token, token_ref: TOKEN}", "[auth:Basic as x-access-token]"),
        ("{header: X-Api-Key, token_ref: TOKEN}", "[auth:header x-api-key]"),
        ("{query: key, token_ref: TOKEN}", "[auth:query key]"),
        ("keep", "[auth:keep]"),
    ];
    let routes =
        auths.iter().enumerate().map(|(at, (auth, _))| format!("{{host: h{at}.test, auth: {auth}}}"));
    let routes = routes.collect::<Vec<_>>().join(", ");
    home.write("bottles/shapes.md", format!("---\negress: {{routes: [{routes}]}}\n---\n"))?;
    home.write("agents/writer.md", "---\nbottle: shapes\n---\nWrite.\n")?;
    let output = home.command(&["info", "writer"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    for (at, (_, shown)) in auths.iter().enumerate() {
        ensure!(text.contains(&format!("h{at}.test {shown}")), "no {shown} in {text}");
    }
    Ok(())
}

/// Without a terminal the question would be an error of its own: it has not come to that.
#[test]
fn what_is_missing_is_said_before_the_question() -> Result<()> {
    let home = Home::new()?;
    home.write("bottles/claude.md", crate::CLAUDE)?;
    home.write("agents/writer.md", "---\nbottle: claude\n---\nWrite.\n")?;
    home.refuses(&["start", "writer"], FAILED, &["`TOKEN` is not set", "export TOKEN"])
}

#[test]
fn a_program_of_the_host_that_lacks_a_part_is_refused() -> Result<()> {
    let home = Home::new()?;
    let folder = home.folder.path().join("tools");
    fs::create_dir(&folder)?;
    fs::copy("/bin/true", folder.join("codex"))?;
    fs::set_permissions(folder.join("codex"), fs::Permissions::from_mode(0o755))?;
    let mut command = home.command(&["doctor"]);
    let output = command.env("PATH", format!("{}:/usr/bin:/bin", folder.display())).output()?;
    let text = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
    ensure!(text.contains("it needs `codex-code-mode-host` beside it"), "{text}");
    ensure!(text.contains("`bot-bottle provider install codex`"), "{text}");
    Ok(())
}
