//! Files that go into a container and come out of it.

use std::io::{self, Cursor, Read as _, Write};

use bot_bottle_engine::{EngineError, PathKind, RefusalKind};

use crate::fixture::{LONG, tar, with_engines};

#[test]
fn files_go_in_and_come_out() {
    with_engines(|fixture| {
        if fixture.is_podman("podman 4 makes the root of an imported archive without one read-only") {
            return;
        }
        let engine = &fixture.engine;
        let spec = fixture.script(
            "files",
            "cat /in; mkdir -m 1770 /folder; ln -s /in /link; mkfifo /fifo; cp /in /folder/out; chmod 4711 /folder/out",
        );
        engine.create_container(&spec).expect("created");
        let content = vec![b'x'; 1_000_000];
        let archive = tar(&[("in", 0o640, &content)]);
        engine.upload(&spec.name, "/", &mut Cursor::new(archive.clone())).expect("uploaded");
        let (stdout, stderr) = fixture.exchange(&spec.name, b"");
        assert!(stdout == content, "{}", String::from_utf8_lossy(&stderr));
        engine.wait_container(&spec.name, LONG).expect("waited").expect("it ended");

        for (path, kind, mode) in [
            ("/in", PathKind::File, 0o640),
            ("/folder", PathKind::Directory, 0o1770),
            ("/folder/out", PathKind::File, 0o4711),
            ("/link", PathKind::Symlink, 0o777),
        ] {
            let stat = engine.stat(&spec.name, path).expect("looked at");
            assert_eq!((stat.kind, stat.mode), (kind, mode), "{path}: {stat:?}");
        }
        assert_eq!(engine.stat(&spec.name, "/in").expect("looked at").size, 1_000_000);
        assert_eq!(engine.stat(&spec.name, "/link").expect("looked at").link_target.as_deref(), Some("/in"));
        assert_eq!(engine.stat(&spec.name, "/fifo").expect("looked at").kind, PathKind::Special);

        let mut downloaded = Vec::new();
        let size = engine.download(&spec.name, "/folder", &mut downloaded).expect("downloaded");
        assert_eq!(size, downloaded.len() as u64);
        let mut archive_out = tar::Archive::new(downloaded.as_slice());
        let mut found = false;
        for entry in archive_out.entries().expect("an archive") {
            let mut entry = entry.expect("an entry");
            if entry.path().expect("a path").ends_with("folder/out") {
                let mut read = Vec::new();
                entry.read_to_end(&mut read).expect("read");
                found = read == content;
            }
        }
        assert!(found);

        // Larger than what the connection holds: it is refused while it is still being sent.
        let large = tar(&[("large", 0o600, &vec![b'x'; 50_000_000])]);
        for error in [
            engine.upload(&spec.name, "/missing", &mut Cursor::new(large)).expect_err("no such folder"),
            engine.stat(&spec.name, "/missing").expect_err("no such path"),
            engine.download(&spec.name, "/missing", &mut Vec::new()).expect_err("no such path"),
            engine.upload(&spec.name, "/missing", &mut Cursor::new(archive)).expect_err("no such folder"),
        ] {
            assert_eq!(error.refusal(), Some(RefusalKind::NotFound), "{error}");
        }
    });
}

/// Takes no more than this many bytes.
struct Bounded(usize);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or_else(|| io::Error::other("too much"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_download_ends_when_its_target_takes_no_more() {
    with_engines(|fixture| {
        let spec = fixture.script("large", "true");
        fixture.engine.create_container(&spec).expect("created");
        let error = fixture.engine.download(&spec.name, "/bin/busybox", &mut Bounded(100_000));
        let error = error.expect_err("it is larger");
        assert!(
            matches!(&error, EngineError::Io(error) if error.to_string().contains("too much")),
            "{error}"
        );
        let whole = fixture.engine.download(&spec.name, "/bin/busybox", &mut Bounded(100_000_000));
        assert!(whole.expect("downloaded") > 100_000);
    });
}
