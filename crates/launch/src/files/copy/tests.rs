use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps, open, utimensat};

use super::*;

const ANY: CopyLimit = CopyLimit { bytes: u64::MAX };

fn copy(source: &Path, target: &Path, limit: CopyLimit) -> Result<Copied, CopyError> {
    fs::create_dir_all(target).expect("a folder");
    let target = open(target, OFlags::DIRECTORY, Mode::empty()).expect("opened");
    copy_tree(source, target, None, limit)
}

#[test]
fn a_hostile_folder_is_copied_without_leaving_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("deep/er")).expect("folders");
    fs::write(source.join("deep/er/file"), b"content").expect("a file");
    fs::set_permissions(source.join("deep/er/file"), fs::Permissions::from_mode(0o4755)).expect("a mode");
    symlink("/etc/shadow", source.join("shadow")).expect("a link");
    symlink("/etc", source.join("etc")).expect("a link");
    rustix::fs::mknodat(rustix::fs::CWD, source.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
        .expect("a FIFO");
    let _listener = UnixListener::bind(source.join("socket")).expect("a socket");
    let target = folder.path().join("target");
    let copied = copy(&source, &target, ANY).expect("copied");
    assert_eq!(copied, Copied { entries: 7, bytes: 7, skipped: 2, vanished: 0 });
    assert_eq!(fs::read_link(target.join("shadow")).expect("a link"), Path::new("/etc/shadow"));
    assert_eq!(fs::read_link(target.join("etc")).expect("a link"), Path::new("/etc"));
    assert!(!target.join("fifo").exists() && !target.join("socket").exists());
    let mode = fs::metadata(target.join("deep/er/file")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "set-user-id is not kept");
}

#[test]
fn times_are_kept_to_the_nanosecond() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("in")).expect("a folder");
    fs::write(source.join("in/file"), b"x").expect("a file");
    symlink("in/file", source.join("link")).expect("a link");
    let time = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: time, last_modification: time };
    for name in ["in/file", "link", "in"] {
        utimensat(rustix::fs::CWD, source.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).expect("set");
    }
    let target = folder.path().join("target");
    copy(&source, &target, ANY).expect("copied");
    for name in ["in/file", "link", "in"] {
        let stat = rustix::fs::lstat(target.join(name)).expect("there");
        assert_eq!((stat.st_mtime, stat.st_mtime_nsec), (1_000_000_000, 123_456_789), "{name}");
    }
}

#[test]
fn holes_stay_holes() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    let size = 10 << 30;
    let files = [("hole", None), ("middle", Some(5 << 30)), ("end", Some(size - 7))];
    for (name, at) in files {
        let file = fs::File::create(source.join(name)).expect("a file");
        file.set_len(size).expect("a size");
        at.into_iter().for_each(|at| file.write_all_at(b"content", at).expect("written"));
    }
    let target = folder.path().join("target");
    copy(&source, &target, CopyLimit { bytes: 1 << 20 }).expect("copied");
    for (name, at) in files {
        let file = fs::File::open(target.join(name)).expect("a file");
        let metadata = file.metadata().expect("metadata");
        assert_eq!(metadata.len(), size, "{name}");
        assert!(metadata.blocks() < 1000, "{name}");
        let mut content = [0; 7];
        if let Some(at) = at {
            file.read_exact_at(&mut content, at).expect("read");
            assert_eq!(&content, b"content", "{name}");
        }
    }
}

#[test]
fn a_folder_that_changes_meanwhile_is_copied() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir(&source).expect("a folder");
    for number in 0..500 {
        fs::write(source.join(format!("stays-{number}")), b"x").expect("a file");
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let vanished = std::thread::scope(|scope| {
        let busy = |kind: &'static str| {
            let (source, stop) = (&source, &stop);
            move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for number in 0..50 {
                        let (one, two) = (
                            source.join(format!("{kind}-{number}")),
                            source.join(format!("{kind}-to-{number}")),
                        );
                        let _ = if kind == "file" { fs::write(&one, b"y") } else { fs::create_dir(&one) };
                        let _ = fs::rename(&one, &two);
                        let _ = fs::remove_file(&two).or_else(|_| fs::remove_dir(&two));
                    }
                }
            }
        };
        scope.spawn(busy("file"));
        scope.spawn(busy("folder"));
        let mut vanished = 0;
        for round in 0..200 {
            let target = folder.path().join(format!("target-{round}"));
            let copied = copy(&source, &target, ANY).map(|copied| vanished += copied.vanished);
            let stays = (0..500).filter(|number| target.join(format!("stays-{number}")).exists()).count();
            let _ = fs::remove_dir_all(&target);
            if copied.is_err() || stays != 500 || vanished > 20 {
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
                copied.expect("copied");
                assert_eq!(stays, 500, "what does not change is whole");
                break;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        vanished
    });
    assert!(vanished > 0, "nothing changed meanwhile, so that nothing is shown");
}

#[test]
fn a_copy_into_itself_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), b"x").expect("a file");
    let copied = copy(folder.path(), &folder.path().join("state/copy"), ANY).expect("copied");
    assert_eq!(copied.bytes, 1);
}

#[test]
fn depth_and_bytes_are_limited() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("a/".repeat(MAX_DEPTH + 2))).expect("folders");
    let error = copy(&source, &folder.path().join("one"), ANY).expect_err("too deep");
    assert!(matches!(error, CopyError::TooDeep(_)), "{error}");
    let source = folder.path().join("other");
    fs::create_dir(&source).expect("a folder");
    fs::write(source.join("file"), [0; 100]).expect("a file");
    let error = copy(&source, &folder.path().join("two"), CopyLimit { bytes: 99 }).expect_err("too large");
    assert_eq!(
        error.to_string(),
        "the folder has more than 99 bytes, which is what the bottle's disk may hold"
    );
}

#[test]
fn files_with_several_names_stay_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("a")).expect("folders");
    fs::create_dir_all(source.join("z")).expect("folders");
    fs::write(source.join("a/one"), vec![1; 100_000]).expect("a file");
    for name in ["a/two", "z/three"] {
        fs::hard_link(source.join("a/one"), source.join(name)).expect("a link");
    }
    let target = folder.path().join("target");
    // Counted once, or the bound would be passed.
    let copied = copy(&source, &target, CopyLimit { bytes: 150_000 }).expect("copied");
    assert_eq!(copied.bytes, 100_000);
    use std::os::unix::fs::MetadataExt;
    let inode = |name: &str| fs::metadata(target.join(name)).expect("a file").ino();
    assert!(inode("a/one") == inode("a/two") && inode("a/one") == inode("z/three"));
    assert!(inode("a/one") != fs::metadata(source.join("a/one")).expect("a file").ino());
}

#[test]
fn attributes_of_programs_are_kept_and_those_of_the_system_are_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    fs::create_dir_all(source.join("in")).expect("folders");
    fs::write(source.join("in/file"), b"x").expect("a file");
    let flags = rustix::fs::XattrFlags::empty();
    let set = |path: &Path, name: &str| rustix::fs::setxattr(path, name, b"value", flags);
    for path in [source.join("in"), source.join("in/file")] {
        if set(&path, "user.origin").is_err() {
            #[allow(clippy::print_stderr, reason = "a skip is told")]
            {
                eprintln!("SKIPPED this file system has no extended attributes");
            }
            return;
        }
    }
    // Only root may set it.
    let is_set = set(&source.join("in/file"), "trusted.origin").is_ok();
    let target = folder.path().join("target");
    copy(&source, &target, ANY).expect("copied");
    let get = |name: &str, attribute: &str| {
        let mut value = [0; 64];
        rustix::fs::getxattr(target.join(name), attribute, &mut value[..])
            .map(|length| value[..length].to_vec())
    };
    assert_eq!(get("in", "user.origin").expect("kept"), b"value");
    assert_eq!(get("in/file", "user.origin").expect("kept"), b"value");
    assert!(!is_set || get("in/file", "trusted.origin").is_err());
}
