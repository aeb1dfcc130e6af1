//! The life of a container.

use std::{io::Cursor, time::Duration};

use bot_bottle_engine::{ContainerStatus, EngineError, RefusalKind};

use crate::fixture::{LONG, busybox, tar, with_engines};

#[test]
fn a_container_lives_and_ends() {
    with_engines(|fixture| {
        let engine = &fixture.engine;
        let spec = fixture.script("life", "trap 'exit 7' TERM; while :; do sleep 0.1; done");
        let id = engine.create_container(&spec).expect("created");
        let error = engine.create_container(&spec).expect_err("the name is taken");
        assert_eq!(error.refusal(), Some(RefusalKind::Conflict), "{error}");
        let state = engine.container_state(&spec.name).expect("looked at");
        assert_eq!((&state.id, state.status, state.is_running), (&id, ContainerStatus::Created, false));
        assert_eq!(state.started_at, None);
        let error = engine.kill_container(&spec.name, "SIGTERM").expect_err("it does not run");
        assert_eq!(error.refusal(), Some(RefusalKind::NotRunning), "{error}");

        engine.start_container(&spec.name).expect("started");
        engine.start_container(&spec.name).expect("it runs already");
        let state = engine.container_state(&id).expect("looked at");
        assert!(state.is_running && state.status == ContainerStatus::Running && state.started_at.is_some());
        assert_eq!(engine.wait_container(&spec.name, Duration::from_millis(10)).expect("waited"), None);
        let listed = engine.containers(&fixture.label()).expect("listed");
        assert_eq!(listed.len(), 1);
        assert_eq!(
            (&listed[0].id, &listed[0].name, listed[0].status),
            (&id, &spec.name, ContainerStatus::Running)
        );
        assert_eq!(listed[0].labels, fixture.labels());

        engine.kill_container(&spec.name, "SIGTERM").expect("sent");
        assert_eq!(engine.wait_container(&spec.name, LONG).expect("waited"), Some(7));
        let state = engine.container_state(&spec.name).expect("looked at");
        assert_eq!((state.status, state.exit_code, state.is_oom_killed), (ContainerStatus::Exited, 7, false));

        engine.remove_container(&spec.name).expect("removed");
        engine.remove_container(&spec.name).expect("it is gone already");
        for error in [
            engine.container_state(&spec.name).expect_err("gone"),
            engine.start_container(&spec.name).expect_err("gone"),
            engine.wait_container(&spec.name, LONG).expect_err("gone"),
            engine.inspect_container(&spec.name).expect_err("gone"),
            engine.kill_container(&spec.name, "SIGTERM").expect_err("gone"),
        ] {
            assert_eq!(error.refusal(), Some(RefusalKind::NotFound), "{error}");
        }
        assert!(engine.containers(&fixture.label()).expect("listed").is_empty());
    });
}

#[test]
fn a_container_that_runs_is_removed_with_its_anonymous_volumes() {
    with_engines(|fixture| {
        if fixture.is_podman("podman 4 takes several instructions of an import for one") {
            return;
        }
        let engine = &fixture.engine;
        let image = format!("{}:volume", fixture.id);
        let instructions = ["VOLUME /v".to_owned(), format!("LABEL {}", fixture.label())];
        let files = tar(&[("bin/busybox", 0o755, &busybox())]);
        engine.import(&image, &instructions, &mut Cursor::new(files)).expect("imported");
        let mut spec = fixture.script("running", "cat");
        spec.image = image;
        engine.create_container(&spec).expect("created");
        engine.start_container(&spec.name).expect("started");
        assert!(engine.container_state(&spec.name).expect("looked at").is_running);
        let inspection = engine.inspect_container(&spec.name).expect("inspected");
        assert_eq!(inspection["Mounts"][0]["Destination"], "/v");
        let volume = inspection["Mounts"][0]["Name"].as_str().expect("it has a name").to_owned();
        let error = engine.create_volume(&volume, &fixture.labels()).expect_err("it is there");
        assert_eq!(error.refusal(), Some(RefusalKind::Conflict));

        engine.remove_container(&spec.name).expect("removed");
        assert!(engine.container_state(&spec.name).is_err());
        engine.create_volume(&volume, &fixture.labels()).expect("the name is free");
    });
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    with_engines(|fixture| {
        let mut spec = fixture.script("missing", "");
        spec.entrypoint = vec!["/no-such-program".to_owned()];
        fixture.engine.create_container(&spec).expect("created");
        let error = fixture.engine.start_container(&spec.name).expect_err("there is no such program");
        assert!(error.to_string().contains("no-such-program"), "{error}");
        assert!(!fixture.engine.container_state(&spec.name).expect("looked at").is_running);
    });
}

#[test]
fn names_are_checked_before_they_become_paths() {
    with_engines(|fixture| {
        let engine = &fixture.engine;
        for name in ["", "../images", "a/json?x="] {
            let error = engine.container_state(name).expect_err("no name");
            assert!(matches!(error, EngineError::InvalidName(_)), "{error:?}");
            let error = engine.remove_volume(name).expect_err("no name");
            assert!(matches!(error, EngineError::InvalidName(_)), "{error:?}");
            let error = engine.image(name).expect_err("no name");
            assert!(matches!(error, EngineError::InvalidName(_)), "{error:?}");
        }
    });
}

#[test]
fn an_inspection_shows_everything_that_the_engine_keeps() {
    with_engines(|fixture| {
        let mut spec = fixture.script("inspected", "true");
        spec.environment.insert("MARK".to_owned(), fixture.id.clone());
        spec.limits.pids = Some(50);
        let id = fixture.engine.create_container(&spec).expect("created");
        let inspection = fixture.engine.inspect_container(&spec.name).expect("inspected");
        assert_eq!(inspection["Id"], id.as_str());
        let environment = inspection["Config"]["Env"].to_string();
        assert!(environment.contains(&format!("MARK={}", fixture.id)), "{environment}");
        let host = &inspection["HostConfig"];
        assert_eq!(host["NetworkMode"], "none");
        assert!(matches!(host["RestartPolicy"]["Name"].as_str(), Some("no" | "")), "{host}");
        assert_eq!((&host["Privileged"], &host["AutoRemove"]), (&false.into(), &false.into()));
        if fixture.engine.info().expect("answered").limits.pids {
            assert_eq!(host["PidsLimit"], 50);
        }
        assert_eq!(host["LogConfig"]["Type"], "none");
    });
}

#[test]
fn a_container_becomes_an_image_with_its_files_and_further_labels() {
    with_engines(|fixture| {
        if fixture.is_podman("podman 4 ignores the labels of a commit") {
            return;
        }
        let spec = fixture.script("committed", "echo kept > /kept");
        fixture.engine.create_container(&spec).expect("created");
        fixture.exchange(&spec.name, b"");
        fixture.engine.wait_container(&spec.name, LONG).expect("waited").expect("it ended");
        let reference = format!("{}:committed", fixture.id);
        let mut labels = fixture.labels();
        labels.insert("further".to_owned(), "label".to_owned());
        let id = fixture
            .engine
            .commit_container(&spec.name, &reference, &labels, &["ENTRYPOINT [\"/bin/env\"]"])
            .expect("committed");
        let image = fixture.engine.image(&reference).expect("it is there");
        assert!(image.id.ends_with(id.trim_start_matches("sha256:")), "{id} {image:?}");
        assert_eq!(image.config.labels, labels);
        assert_eq!(image.config.entrypoint, ["/bin/env"]);

        let mut reader = fixture.script("reader", "cat /kept");
        assert_ne!(fixture.run(&reader, b"").code, 0, "the first image does not have it");
        reader.image = reference;
        assert_eq!(fixture.run(&reader, b"").text(), "kept\n");
    });
}
