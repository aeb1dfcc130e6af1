//! Where the image of a bottle comes from: a name, the operator's Dockerfile, the provider's own.

use std::{fs, io::Cursor, process::Command};

use anyhow::{Result, ensure};
use bot_bottle_engine::BuildSpec;
use bot_bottle_testkit::random_secret;

use crate::fixture::Home;

/// Label of the images that are built for bottles.
const LABEL: &str = "bot-bottle.image=agent";

/// A home with a bottle `built` whose image is made by this Dockerfile, and an agent `worker` in it.
pub(crate) fn home_with(dockerfile: &str) -> Result<Option<Home>> {
    let Some(home) = Home::new()?.filter(|home| home.host.builds()) else { return Ok(None) };
    fs::create_dir_all(home.path("bottles/tools"))?;
    home.write("bottles/tools/Dockerfile", dockerfile)?;
    home.write(
        "bottles/built.md",
        "---\nbackend: docker\nagent_provider: {dockerfile: ./tools/Dockerfile, auth_token: LOGIN}\n---\n",
    )?;
    home.write("agents/worker.md", "---\nbottle: built\n---\nWork.\n")?;
    Ok(Some(home))
}

/// A line that no other test's Dockerfile has, so that its image is this test's.
pub(crate) fn own_line() -> String {
    format!("LABEL bot-bottle-test={}\n", random_secret("image"))
}

pub(crate) fn run(home: &Home, script: &str) -> Command {
    home.command(&["run", "--bottle", "built", "--", "sh", "-c", script])
}

/// The images that were built for this test.
fn built(home: &Home, own_line: &str) -> Result<Vec<String>> {
    let label = own_line.trim().trim_start_matches("LABEL ");
    let images = home.engine.images(label)?;
    for image in &images {
        ensure!(image.labels.get("bot-bottle.image").is_some_and(|kind| kind == "agent"), "{image:?}");
    }
    ensure!(home.engine.images(LABEL)?.len() >= images.len());
    // The steps of a build that failed stay in the engine's cache, without a name.
    let tags = images.into_iter().flat_map(|image| image.tags);
    Ok(tags.filter(|tag| tag.starts_with("bot-bottle-agent:")).collect())
}

pub(crate) fn remove(home: &Home, own_line: &str) -> Result<()> {
    built(home, own_line)?.iter().try_for_each(|tag| Ok(home.engine.remove_image(tag)?))
}

#[test]
fn a_dockerfile_is_built_once_and_again_when_something_changed() -> Result<()> {
    let own = own_line();
    let agent =
        "RUN printf '#!/bin/sh\\ncat /word; id -u\\n' > /usr/bin/claude && chmod 755 /usr/bin/claude\n";
    let dockerfile = format!("FROM bot-bottle-test:busybox\n{own}COPY word /word\nCOPY . /all\n{agent}");
    let Some(home) = home_with(&dockerfile)? else { return Ok(()) };
    home.write("bottles/tools/word", "first\n")?;
    home.write("bottles/tools/note", "not needed")?;
    home.write("bottles/tools/.dockerignore", "note\n")?;
    // An agent: its program is the image's, and there is none on this host.
    let start = || -> Result<(String, String)> {
        let mut start = home.command(&["start", "worker", "--headless", "--prompt", "work"]);
        let output = start.env("LOGIN", random_secret("login-")).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok((String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    };
    let (said, told) = start()?;
    ensure!(said == "first\n1000\n", "{said}");
    ensure!(told.contains("building: Step 1/") && told.contains("/usr/bin/claude"), "no progress: {told}");
    ensure!(
        told.contains("built from ") && told.contains("tools/Dockerfile"),
        "no image in the plan: {told}"
    );
    let first = built(&home, &own)?;
    ensure!(first.len() == 1 && first[0].starts_with("bot-bottle-agent:"), "{first:?}");

    let (said, told) = start()?;
    ensure!(said == "first\n1000\n" && !told.contains("building"), "it was built again: {told}");
    // What `.dockerignore` names has no part in it, and neither have times.
    home.write("bottles/tools/note", "changed")?;
    home.write("bottles/tools/word", "first\n")?;
    ensure!(home.succeeds(&mut run(&home, "ls /all"))?.trim() == "Dockerfile\nword");
    ensure!(built(&home, &own)? == first);

    home.write("bottles/tools/word", "second\n")?;
    ensure!(home.succeeds(&mut run(&home, "cat /word"))? == "second\n");
    let both = built(&home, &own)?;
    ensure!(both.len() == 2 && both.contains(&first[0]), "{both:?}");
    home.clean_up()?;
    remove(&home, &own)
}

#[test]
fn a_base_that_changed_under_its_name_is_noticed() -> Result<()> {
    let (own, base) = (own_line(), format!("bot-bottle-test:{}", random_secret("base-")));
    let Some(home) = home_with(&format!("ARG BASE={base}\nFROM ${{BASE}}\n{own}"))? else { return Ok(()) };
    home.engine.tag_image(&home.host.image, &base)?;
    let look = || home.succeeds(&mut run(&home, "cat /changed 2>/dev/null || echo as it was"));
    ensure!(look()? == "as it was\n");
    ensure!(look()? == "as it was\n" && built(&home, &own)?.len() == 1);
    // Another image gets the name.
    let text = format!("FROM {}\nRUN echo changed > /changed\n", home.host.image);
    let mut context = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    context.append_data(&mut header, "Dockerfile", text.as_bytes())?;
    let spec = BuildSpec { tag: base.clone(), ..BuildSpec::default() };
    home.engine.build(&spec, &mut Cursor::new(context.into_inner()?), &mut |_| {})?;
    ensure!(look()? == "changed\n", "the image of the old base was taken");
    ensure!(built(&home, &own)?.len() == 2);
    remove(&home, &own)?;
    Ok(home.engine.remove_image(&base)?)
}

#[test]
fn what_cannot_be_built_is_one_error_with_the_last_lines() -> Result<()> {
    let base = "FROM bot-bottle-test:busybox\n";
    let Some(home) = home_with("FROM scratch\n")? else { return Ok(()) };
    for (dockerfile, texts) in [
        (format!("{base}RUN echo far; echo near; exit 3\n"), ["the image could not be built", "   near\n"]),
        (
            format!("{base}RUN echo 'write: no space left on device'; exit 1\n"),
            ["no space", "make room on the engine's disk"],
        ),
        (format!("{base}COPY nothing /nothing\n"), ["the image could not be built", "nothing"]),
        (format!("{base}NONSENSE\n"), ["building the image", "NONSENSE"]),
    ] {
        home.write("bottles/tools/Dockerfile", dockerfile)?;
        home.refused(&mut run(&home, "true"), 4, &texts)?;
    }
    fs::File::create(home.path("bottles/tools/large"))?.set_len(2 << 30)?;
    home.refused(&mut run(&home, "true"), 1, &["tools has more than 1GiB", ".dockerignore"])?;
    fs::remove_file(home.path("bottles/tools/Dockerfile"))?;
    home.refused(&mut run(&home, "true"), 1, &["tools/Dockerfile"])?;
    // The same folder without what was wrong.
    home.write("bottles/tools/.dockerignore", "large\n")?;
    let own = own_line();
    home.write("bottles/tools/Dockerfile", format!("{base}{own}"))?;
    ensure!(home.succeeds(&mut run(&home, "echo it runs"))? == "it runs\n");
    remove(&home, &own)
}

#[test]
fn proxies_reach_the_build_and_have_no_part_in_the_name() -> Result<()> {
    let own = own_line();
    let dockerfile =
        format!("FROM bot-bottle-test:busybox\n{own}RUN echo \"$HTTP_PROXY $no_proxy\" > /proxy\n");
    let Some(home) = home_with(&dockerfile)? else { return Ok(()) };
    let look = |proxy: &str| {
        let mut command = run(&home, "cat /proxy");
        command.env("HTTP_PROXY", proxy).env("no_proxy", "near.test");
        home.succeeds(&mut command)
    };
    ensure!(look("http://proxy.test:3128")? == "http://proxy.test:3128 near.test\n");
    ensure!(look("http://other.test:3128")? == "http://proxy.test:3128 near.test\n", "it was built again");
    ensure!(built(&home, &own)?.len() == 1);
    remove(&home, &own)
}

#[test]
fn an_image_is_named_by_the_bottle_and_by_no_option_of_a_backend_without_images() -> Result<()> {
    let Some(home) = Home::new()? else { return Ok(()) };
    home.write(
        "bottles/named.md",
        format!("---\nbackend: docker\nagent_provider: {{image: \"{}\"}}\n---\n", home.host.image),
    )?;
    let mut named = home.command(&["run", "--bottle", "named", "--", "busybox", "echo", "it runs"]);
    ensure!(home.succeeds(&mut named)? == "it runs\n");
    let native = ["run", "--backend", "native", "--image", &home.host.image, "--", "true"];
    home.refused(&mut home.command(&native), 2, &["the native backend has no images", "--backend docker"])?;
    Ok(())
}

/// The base has an `apt-get` that installs nothing and an `npm` that packs another archive: everything else of the
/// provider's Dockerfile happens, up to the hash.
#[test]
fn a_provider_brings_its_dockerfile_and_takes_no_other_archive() -> Result<()> {
    let own = own_line();
    let tools = "RUN printf '#!/bin/sh\\n' > /usr/bin/apt-get && \
                 printf '#!/bin/sh\\necho other > p.tgz; echo p.tgz' > /usr/bin/npm && \
                 chmod 755 /usr/bin/apt-get /usr/bin/npm && printf 'node:x:1000:1000::/home/node:/bin/sh\\n' > /etc/passwd \
                 && touch /etc/group\n";
    let Some(home) = home_with(&format!("FROM bot-bottle-test:busybox\n{own}{tools}"))? else {
        return Ok(());
    };
    home.succeeds(&mut run(&home, "true"))?;
    let base = built(&home, &own)?.concat();
    home.write("bottles/own.md", "---\nbackend: docker\nagent_provider: {auth_token: LOGIN}\n---\n")?;
    home.write("agents/worker.md", "---\nbottle: own\n---\nWork.\n")?;
    let mut start = home.command(&["start", "worker", "--headless", "--prompt", "work"]);
    start.env("BOT_BOTTLE_BASE_IMAGE", &base).env("LOGIN", random_secret("login-"));
    home.refused(&mut start, 4, &["the image could not be built", "p.tgz: FAILED", "sha512sum"])?;
    remove(&home, &own)
}
