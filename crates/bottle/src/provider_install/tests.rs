//! Installing from a registry that is a real server on this host.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::STANDARD};
use bot_bottle_core::provider::Package;
use bot_bottle_launch::host::programs::MANIFEST_FILE;
use bot_bottle_testkit::{FakeUpstream, StaticFiles, has_user_namespaces, require};
use flate2::{Compression, write::GzEncoder};
use tar::{EntryType, Header};
use tempfile::TempDir;

use super::{
    InstallError, Installed, Network, Order, Progress, Registry, Source, install, unpack::UnpackError,
};

const ARCHIVE_PATH: &str = "/@scope/tool-linux/-/tool-linux-1.2.3.tgz";

/// The program of the test package; large enough that it does not arrive in one piece.
fn program() -> Vec<u8> {
    let mut program = b"\x7fELF".to_vec();
    // A linear congruential generator, so that it cannot be compressed.
    let mut state = 1_u64;
    program.extend((0..3_000_000).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    }));
    program
}

struct Entry<'a> {
    name: &'a str,
    kind: EntryType,
    mode: u32,
    content: &'a [u8],
}

fn file<'a>(name: &'a str, mode: u32, content: &'a [u8]) -> Entry<'a> {
    Entry { name, kind: EntryType::Regular, mode, content }
}

/// Writes names as they are, which the tar library would refuse to.
fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for entry in entries {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[..entry.name.len()].copy_from_slice(entry.name.as_bytes());
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        if !matches!(entry.kind, EntryType::Regular | EntryType::Directory) {
            header.set_link_name("/etc/passwd").expect("a short name");
        }
        header.set_cksum();
        builder.append(&header, entry.content).expect("memory can be written");
    }
    builder.into_inner().and_then(GzEncoder::finish).expect("memory can be written")
}

fn good_archive() -> Vec<u8> {
    let program = program();
    archive(&[
        Entry { name: "package/", kind: EntryType::Directory, mode: 0o700, content: b"" },
        file("package/package.json", 0o600, b"{}"),
        file("package/vendor/bin/tool", 0o6777, &program),
    ])
}

fn package(archive: &[u8]) -> Package {
    let hash = STANDARD.encode(digest::digest(&digest::SHA512, archive));
    Package {
        architecture: "any",
        name: "@scope/tool-linux",
        version: "1.2.3",
        integrity: Box::leak(format!("sha512-{hash}").into_boxed_str()),
        tree: "package/vendor",
        executable: "bin/tool",
    }
}

struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn providers(&self) -> PathBuf {
        self.folder.path().join("home/providers")
    }

    fn install(&self, package: &Package, source: Source) -> Result<Installed, InstallError> {
        let providers_folder = self.providers();
        let order = Order { provider: "tool", package, providers_folder: &providers_folder, source };
        install(&order, &mut |_| ())
    }

    fn registry(&self, upstream: &FakeUpstream) -> Source {
        let authority = self.folder.path().join("ca.pem");
        fs::write(&authority, upstream.certificate()).expect("a file");
        let url = format!("https://localhost:{}", upstream.address().port());
        Source::Registry(Registry::new(&url).expect("a registry"), Network::direct(authority))
    }

    fn archive(&self, content: &[u8]) -> Source {
        let path = self.folder.path().join("package.tgz");
        fs::write(&path, content).expect("a file");
        Source::Archive(path)
    }

    /// Nothing but the lock, which an installation that runs at the same time needs.
    fn assert_nothing_left(&self) {
        assert_eq!(names(&self.providers().join("tool")), [".lock"]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn serve(files: StaticFiles) -> FakeUpstream {
    FakeUpstream::builder().host("localhost", files).start().expect("the registry starts")
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn a_package_is_downloaded_checked_and_unpacked_once() {
    let host = Host::new();
    let archive = good_archive();
    let package = package(&archive);
    let upstream = serve(StaticFiles::default().file(ARCHIVE_PATH, archive.clone()));

    let providers_folder = host.providers();
    let mut seen = Vec::new();
    let order = Order {
        provider: "tool",
        package: &package,
        providers_folder: &providers_folder,
        source: host.registry(&upstream),
    };
    let installed = install(&order, &mut |progress| seen.push(progress)).expect("installed");
    assert!(!installed.already);
    assert_eq!(fs::read(&installed.executable).expect("the program"), program());
    assert_eq!(mode(&installed.executable), 0o755, "no set-user-ID");
    assert_eq!(mode(&installed.folder.join("package/package.json")), 0o644);
    let total = archive.len() as u64;
    assert_eq!(seen.last(), Some(&Progress { received: total, total: Some(total) }));
    assert!(seen.len() > 1, "{seen:?}");

    let found = bot_bottle_launch::host::programs::find(
        &bot_bottle_launch::home::BotBottleHome::new(host.folder.path().join("home")),
        bot_bottle_launch::host::programs::Wanted { name: "tool", version: Some("1.2.3"), companions: &[] },
        "".as_ref(),
    )
    .expect("the launcher finds it");
    assert_eq!(
        found.source.join(found.executable),
        installed.executable.canonicalize().expect("it is there")
    );

    let again = host.install(&package, host.registry(&upstream)).expect("installed");
    assert!(again.already);
    assert_eq!(upstream.requests().len(), 1, "nothing is downloaded twice");
    assert_eq!(names(&host.providers().join("tool")), [".lock", "1.2.3"]);
}

#[test]
fn a_registry_gets_its_token() {
    let host = Host::new();
    let archive = good_archive();
    let upstream = serve(StaticFiles::default().file(ARCHIVE_PATH, archive.clone()));
    let Source::Registry(mut registry, network) = host.registry(&upstream) else { unreachable!() };
    registry.token = Some("t0".to_owned().into());
    host.install(&package(&archive), Source::Registry(registry, network)).expect("installed");
    assert_eq!(upstream.requests()[0].header("authorization"), Some("Bearer t0"));
}

#[test]
fn another_archive_than_the_pinned_one_is_not_installed() {
    let host = Host::new();
    let pinned = package(b"another");
    for (served, what) in
        [(good_archive(), "a whole archive"), (b"<html>Sign in</html>".to_vec(), "a web page")]
    {
        let upstream = serve(StaticFiles::default().file(ARCHIVE_PATH, served.clone()));
        for source in [host.registry(&upstream), host.archive(&served)] {
            let error = host.install(&pinned, source).expect_err(what);
            assert!(matches!(error, InstallError::Integrity { .. }), "{what}: {error}");
            host.assert_nothing_left();
        }
    }
    let wrong = Package { integrity: "sha1-abc", ..pinned };
    let error = host.install(&wrong, host.archive(b"")).expect_err("no SHA-512");
    assert!(matches!(error, InstallError::Pin(_)), "{error}");
}

#[test]
fn what_breaks_off_leaves_nothing() {
    let host = Host::new();
    let archive = good_archive();
    let package = package(&archive);
    for sent in [0, 100, archive.len() / 2, archive.len() - 1] {
        let upstream = serve(StaticFiles::default().cut_off(ARCHIVE_PATH, archive.clone(), sent));
        let error = host.install(&package, host.registry(&upstream)).expect_err("broken off");
        let InstallError::BrokenOff { received, .. } = &error else { panic!("after {sent}: {error}") };
        assert_eq!(*received, sent as u64, "{error}");
        host.assert_nothing_left();
        let error = host.install(&package, host.archive(&archive[..sent])).expect_err("cut off");
        assert!(matches!(error, InstallError::Integrity { .. }), "after {sent}: {error}");
        host.assert_nothing_left();
    }
}

#[test]
fn refusals_of_the_registry_are_told() {
    let host = Host::new();
    let package = package(b"");
    let upstream = serve(StaticFiles::default());
    let error = host.install(&package, host.registry(&upstream)).expect_err("not there");
    assert!(matches!(error, InstallError::Status { status: 404, .. }), "{error}");

    let Source::Registry(registry, _) = host.registry(&upstream) else { unreachable!() };
    let untrusted = Source::Registry(registry.clone(), Network::default());
    let error = host.install(&package, untrusted).expect_err("an unknown authority");
    assert!(matches!(error, InstallError::Unreachable { .. } | InstallError::Certificates(_)), "{error}");

    let Source::Registry(_, network) = host.registry(&upstream) else { unreachable!() };
    drop(upstream);
    let error = host.install(&package, Source::Registry(registry, network)).expect_err("nobody listens");
    assert!(matches!(error, InstallError::Unreachable { .. }), "{error}");
    host.assert_nothing_left();
}

#[test]
fn an_archive_cannot_write_elsewhere() {
    let host = Host::new();
    let outside = host.folder.path().join("outside");
    let absolute = outside.display().to_string();
    let link = |kind| Entry { name: "package/link", kind, mode: 0o777, content: b"" };
    let escaping: [(&str, Vec<Entry<'_>>); 9] = [
        ("absolute", vec![file(&absolute, 0o644, b"x")]),
        ("parent", vec![file("../../../outside", 0o644, b"x")]),
        ("hidden parent", vec![file("package/../../../../outside", 0o644, b"x")]),
        ("empty", vec![file("./", 0o644, b"x")]),
        ("symbolic link", vec![link(EntryType::Symlink)]),
        ("hard link", vec![link(EntryType::Link)]),
        ("device", vec![link(EntryType::Char)]),
        ("pipe", vec![link(EntryType::Fifo)]),
        ("twice", vec![file("package/a", 0o644, b"x"), file("package/./a", 0o755, b"y")]),
    ];
    for (what, entries) in escaping {
        let archive = archive(&entries);
        let error = host.install(&package(&archive), host.archive(&archive)).expect_err(what);
        let InstallError::Archive { source, .. } = &error else { panic!("{what}: {error}") };
        assert!(
            matches!(source, UnpackError::Name(_) | UnpackError::Kind(_) | UnpackError::Twice(_)),
            "{what}: {error}"
        );
        assert!(!outside.exists(), "{what}");
        host.assert_nothing_left();
    }
}

#[test]
fn an_archive_without_the_program_or_with_too_much_is_refused() {
    let host = Host::new();
    let without = archive(&[file("package/readme", 0o644, b"x")]);
    let error = host.install(&package(&without), host.archive(&without)).expect_err("no program");
    assert!(matches!(error, InstallError::NoProgram { .. }), "{error}");

    let many: Vec<String> = (0..20_001).map(|index| format!("package/{index}")).collect();
    let many = archive(&many.iter().map(|name| file(name, 0o644, b"")).collect::<Vec<_>>());
    let error = host.install(&package(&many), host.archive(&many)).expect_err("too many");
    assert!(matches!(error, InstallError::Archive { source: UnpackError::TooMany, .. }), "{error}");

    // A header alone can promise any size.
    let mut header = Header::new_ustar();
    header.set_path("package/huge").expect("a short name");
    header.set_entry_type(EntryType::Regular);
    header.set_size(5 << 30);
    header.set_cksum();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(header.as_bytes()).expect("memory can be written");
    let huge = encoder.finish().expect("memory can be written");
    let error = host.install(&package(&huge), host.archive(&huge)).expect_err("too large");
    assert!(matches!(error, InstallError::Archive { source: UnpackError::TooLarge, .. }), "{error}");
    host.assert_nothing_left();
}

#[test]
fn a_killed_installation_is_cleared_away_and_a_damaged_one_replaced() {
    let host = Host::new();
    let archive = good_archive();
    let package = package(&archive);
    let tool = host.providers().join("tool");
    fs::create_dir_all(tool.join("9.9.9.partial/package")).expect("a folder");
    fs::create_dir_all(tool.join("1.2.3/package")).expect("a folder");
    fs::write(tool.join("1.2.3").join(MANIFEST_FILE), "{}").expect("a file");
    let installed = host.install(&package, host.archive(&archive)).expect("installed");
    assert!(!installed.already && installed.executable.is_file());
    assert_eq!(names(&tool), [".lock", "1.2.3"]);
}

#[test]
fn two_installations_do_not_mix() {
    let host = Host::new();
    let archive = good_archive();
    fs::create_dir_all(host.providers().join("tool")).expect("a folder");
    let lock = fs::File::create(host.providers().join("tool/.lock")).expect("a file");
    lock.lock().expect("nobody else has it");
    let error = host.install(&package(&archive), host.archive(&archive)).expect_err("busy");
    assert!(matches!(error, InstallError::Busy { .. }), "{error}");
}

/// Names the folder in which [`inside_a_full_disk`] works.
const FULL_DISK: &str = "BOT_BOTTLE_TEST_FULL_DISK";

#[test]
fn a_full_disk_leaves_nothing() {
    if !require("userns", has_user_namespaces()) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    // A file system of 256 KiB needs a mount, and a mount needs a namespace of its own.
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-ec"])
        .arg("mount -t tmpfs -o size=256k tmpfs \"$1\"; shift; exec \"$@\"")
        .arg("sh")
        .arg(folder.path())
        .arg(std::env::current_exe().expect("a test has a file"))
        .args(["--exact", "provider_install::tests::inside_a_full_disk", "--nocapture"])
        .env(FULL_DISK, folder.path())
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:#?}");
}

/// Does its work only as a child of [`a_full_disk_leaves_nothing`].
#[test]
fn inside_a_full_disk() {
    let Some(disk) = std::env::var_os(FULL_DISK).map(PathBuf::from) else { return };
    let host = Host::new();
    let archive = good_archive();
    let order = Order {
        provider: "tool",
        package: &package(&archive),
        providers_folder: &disk,
        source: host.archive(&archive),
    };
    let error = install(&order, &mut |_| ()).expect_err("it does not fit");
    assert!(matches!(&error, InstallError::File(error) if error.is_out_of_space()), "{error}");
    assert_eq!(names(&disk.join("tool")), [".lock"]);
}
