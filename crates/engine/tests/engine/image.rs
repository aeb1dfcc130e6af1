//! Images: built, imported, named, removed.

use std::io::{self, Cursor, Read};

use bot_bottle_core::error::Hint as _;
use bot_bottle_engine::{BuildSpec, EngineError, RefusalKind};

use crate::fixture::{Fixture, busybox, tar, with_engines};

fn context(dockerfile: &str) -> Cursor<Vec<u8>> {
    Cursor::new(tar(&[("Dockerfile", 0o644, dockerfile.as_bytes()), ("busybox", 0o755, &busybox())]))
}

fn build_spec(fixture: &Fixture, tag: &str) -> BuildSpec {
    BuildSpec {
        tag: format!("{}:{tag}", fixture.id),
        labels: fixture.labels(),
        network: Some("none".to_owned()),
        no_cache: true,
        ..BuildSpec::default()
    }
}

#[test]
fn an_image_is_built_from_a_context() {
    with_engines(|fixture| {
        let dockerfile = "FROM scratch AS first\nCOPY busybox /bin/busybox\nARG WORD\n\
            RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo built with $WORD; echo $WORD > /word\"]\n\
            USER 1000:1000\nENV A=b\nWORKDIR /w\nVOLUME /v\nENTRYPOINT [\"/bin/busybox\"]\nCMD [\"cat\", \"/word\"]\n";
        let mut spec = build_spec(fixture, "built");
        spec.arguments.insert("WORD".to_owned(), "two words".to_owned());
        let mut lines = Vec::new();
        let built =
            fixture.engine.build(&spec, &mut context(dockerfile), &mut |line| lines.push(line.to_owned()));
        let id = built.expect("built");
        assert!(lines.iter().any(|line| line == "built with two words"), "{lines:?}");

        let image = fixture.engine.image(&spec.tag).expect("it is there");
        assert!(image.id.ends_with(id.trim_start_matches("sha256:")), "{id} {image:?}");
        assert_eq!(image.config.user, "1000:1000");
        assert_eq!(image.config.entrypoint, ["/bin/busybox"]);
        assert_eq!(image.config.command, ["cat", "/word"]);
        assert_eq!(
            (image.config.working_directory.as_str(), &image.config.volumes[..]),
            ("/w", &["/v".to_owned()][..])
        );
        assert!(image.config.environment.iter().any(|variable| variable == "A=b"), "{image:?}");
        assert_eq!(image.config.labels.get("bot-bottle-engine-test"), Some(&fixture.id));

        let mut container = fixture.script("of-image", "");
        container.image = spec.tag;
        container.entrypoint.clear();
        assert_eq!(fixture.run(&container, b"").text(), "two words\n");
    });
}

#[test]
fn a_failing_step_is_shown_with_its_last_lines() {
    with_engines(|fixture| {
        if fixture.is_podman("podman 4 does not tell why a step failed") {
            return;
        }
        let failing = |script: &str| {
            let run = format!("RUN [\"/bin/busybox\", \"sh\", \"-c\", \"{script}\"]\n");
            // The label comes first: the image of the steps that succeed stays, and has to be found.
            let label = fixture.label();
            let dockerfile = format!("FROM scratch\nLABEL {label}\nCOPY busybox /bin/busybox\n{run}");
            let spec = build_spec(fixture, "failing");
            fixture.engine.build(&spec, &mut context(&dockerfile), &mut |_| {}).map(|_| spec.tag)
        };
        let error = failing("echo the reason; exit 3").expect_err("it fails");
        let EngineError::Build { log, .. } = &error else { panic!("{error:?}") };
        assert!(log.iter().any(|line| line == "the reason"), "{log:?}");
        assert!(!log.iter().any(|line| line.contains("COPY")), "another step: {log:?}");
        assert!(error.to_string().contains("the reason") && error.refusal().is_none());

        let error = failing("echo write: No space left on device; exit 1").expect_err("it fails");
        assert_eq!(error.refusal(), Some(RefusalKind::NoSpace));
        assert!(error.hint().is_some_and(|hint| hint.contains("make room")));

        let error =
            fixture.engine.build(&build_spec(fixture, "wrong"), &mut context("NONSENSE"), &mut |_| {});
        assert!(error.expect_err("no Dockerfile").to_string().to_lowercase().contains("nonsense"));

        let image = failing("exit 0").expect("the same without the failure");
        assert!(fixture.engine.image(&image).is_ok());
    });
}

/// Fails in the middle of an archive.
struct Broken(Cursor<Vec<u8>>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the disk is gone")),
            size => Ok(size),
        }
    }
}

#[test]
fn a_context_that_cannot_be_read_makes_no_image() {
    with_engines(|fixture| {
        let spec = build_spec(fixture, "broken");
        let whole = context("FROM scratch\nCOPY busybox /bin/busybox\n");
        let mut broken = Broken(whole.clone());
        let error = fixture.engine.build(&spec, &mut broken, &mut |_| {}).expect_err("it cannot be read");
        assert!(
            matches!(error, EngineError::Io(_)) && error.to_string().contains("the disk is gone"),
            "{error}"
        );
        let error = fixture.engine.image(&spec.tag).expect_err("no image");
        assert_eq!(error.refusal(), Some(RefusalKind::NotFound));
        fixture.engine.build(&spec, &mut whole.clone(), &mut |_| {}).expect("the same whole");
    });
}

#[test]
fn an_image_has_names_and_goes_with_the_last() {
    with_engines(|fixture| {
        let engine = &fixture.engine;
        let image = engine.image(&fixture.image).expect("it was imported");
        let other = format!("{}:other", fixture.id);
        engine.tag_image(&image.id, &other).expect("named");
        assert_eq!(engine.image(&other).expect("found").id, image.id);
        let listed = engine.images(&fixture.label()).expect("listed");
        assert_eq!(listed.iter().map(|image| &image.id).collect::<Vec<_>>(), [&image.id]);
        assert_eq!(listed[0].labels, image.config.labels);

        engine.remove_image(&other).expect("removed");
        engine.remove_image(&other).expect("it is gone already");
        assert_eq!(engine.image(&other).expect_err("gone").refusal(), Some(RefusalKind::NotFound));

        let container = fixture.script("user", "true");
        engine.create_container(&container).expect("created");
        let error = engine.remove_image(&fixture.image).expect_err("a container has it");
        assert_eq!(error.refusal(), Some(RefusalKind::Busy), "{error}");
        engine.remove_container(&container.name).expect("removed");
        engine.remove_image(&fixture.image).expect("nobody has it now");
        let error = engine.create_container(&container).expect_err("no image");
        assert_eq!(error.refusal(), Some(RefusalKind::ImageMissing), "{error}");
        assert!(error.hint().is_some());
    });
}
