//! What an archive must not do: some is refused as a whole, some is left out and named.

use std::{
    fs,
    io::{self, Read},
    process::Command,
};

use anyhow::{Context, Result};
use bot_bottle_quarantine::unpack::{Unpack, UnpackBounds, UnpackError, unpack};
use tar::EntryType;

use super::archive::{Archive, Place, listed};

#[test]
fn hostile_archives_are_refused_as_a_whole() -> Result<()> {
    let start = || Archive::default().folder("item/").file("item/first", "x");
    let named = |name: &[u8]| start().entry(EntryType::Regular, name, 0o644, b"", b"x").end();
    let long = |kind, name: &[u8]| {
        start().entry(kind, b"././@LongLink", 0o644, b"", name).file("item/short", "x").end()
    };
    let pax = |path: &str| {
        // The length counts itself, pax(1).
        let record = format!("{} path={path}\n", path.len() + 9);
        start().entry(EntryType::XHeader, b"pax", 0o644, b"", record.as_bytes()).file("item/short", "x").end()
    };
    let whole = || start().file("item/last", &"x".repeat(2000));
    let length = whole().cut_off().len();
    let cut = |at: usize| whole().cut_off()[..at].to_vec();
    let (out, through) = ("its path leads out of the archive", "in something that is not a folder");
    for (case, archive, why) in [
        ("up", named(b"item/../../precious"), out),
        ("up at once", named(b"../precious"), out),
        ("up and down", named(b"item/d/../x"), out),
        ("absolute", named(b"/item/x"), "its path is absolute"),
        ("beside the item", named(b"other"), "not a part of what was asked for"),
        ("a name that begins like the item's", named(b"items"), "not a part of what was asked for"),
        ("no name", named(b""), "not a part of what was asked for"),
        ("up, in a long name", long(EntryType::GNULongName, b"item/../../precious\0"), out),
        ("NUL in a long name", long(EntryType::GNULongName, b"item/a\0b"), "NUL"),
        ("up, in a pax record", pax("item/../../precious"), out),
        ("absolute, in a pax record", pax("/tmp/precious"), "its path is absolute"),
        ("through a link", start().link("item/l", ".").file("item/l/x", "x").end(), through),
        ("through a link out", start().link("item/l", "..").file("item/l/precious", "x").end(), through),
        (
            "through a link that is left out",
            start().link("item/l", "/tmp").folder("item/l").file("item/l/x", "x").end(),
            through,
        ),
        ("over a link that is left out", start().link("item/l", "/tmp").file("item/l", "x").end(), "twice"),
        ("over a link", start().link("item/l", "first").file("item/l", "x").end(), "twice"),
        ("through a file", start().file("item/first/x", "x").end(), through),
        ("a folder over a file", start().folder("item/first").end(), through),
        ("a file over a folder", start().folder("item/d").file("item/d", "x").end(), "twice"),
        ("a file twice", start().file("item/first", "y").end(), "twice"),
        ("the item twice", Archive::default().file("item", "x").file("item", "y").end(), "twice"),
        (
            "a name that is too long",
            long(EntryType::GNULongName, &[b"item/", [b'x'; 300].as_slice()].concat()),
            "its name is too long",
        ),
        (
            "a path that is too long",
            long(
                EntryType::GNULongName,
                &[b"item/".as_slice(), &[[b'x'; 200].as_slice(), b"/"].concat().repeat(30)].concat(),
            ),
            "its name is too long",
        ),
        ("no end", cut(length), "cut off"),
        ("no end after a header", cut(length - 2048), "cut off"),
        ("no end in a file", cut(length - 1000), "cut off"),
        ("no end in a header", cut(length - 2048 - 100), "cut off"),
        ("nothing", Vec::new(), "cut off"),
        ("an empty archive", Archive::default().end(), "it is not in the archive"),
        ("no archive", b"no archive ".repeat(100), "cannot be read"),
        ("the item is a link", Archive::default().link("item", "/etc/passwd").end(), "it is a link"),
        (
            "the item is a device",
            Archive::default().entry(EntryType::Char, b"item", 0o666, b"", b"").end(),
            "it is a device",
        ),
    ] {
        let place = Place::new()?;
        match place.unpack(&archive, &place.request()).context(case)? {
            Ok(_) => panic!("{case}: {:?}", listed(place.outside())),
            Err(error) => assert!(error.to_string().contains(why), "{case}: {error}"),
        }
    }
    let place = Place::new()?;
    for at in (0..length).step_by(97) {
        let error = place.unpack(&cut(at), &place.request())?.expect_err("a part");
        assert!(matches!(error, UnpackError::CutOff), "{at}: {error}");
    }
    place.unpack(&whole().end(), &place.request())?.map_err(anyhow::Error::from)?;
    assert_eq!(listed(&place.target())?.len(), 3);
    Ok(())
}

#[test]
fn what_must_not_arrive_is_left_out_and_named() -> Result<()> {
    let place = Place::new()?;
    let archive = Archive::default()
        .folder("item/")
        .file("item/a", "x")
        .entry(EntryType::Char, b"item/char", 0o666, b"", b"")
        .entry(EntryType::Block, b"item/block", 0o666, b"", b"")
        .entry(EntryType::Fifo, b"item/fifo", 0o666, b"", b"")
        .entry(EntryType::new(b'Z'), b"item/unknown", 0o666, b"", b"content")
        .link("item/absolute", "/etc/passwd")
        .link("item/out", "../precious")
        .link("item/stays", "a")
        .link("item/hook", ".git/hooks/post-commit")
        // Leads out together, though each looks as if it stayed.
        .link("item/here", ".")
        .link("item/chain", "here/../../precious")
        .hard_link("item/hard", "/etc/passwd")
        .hard_link("item/hard-out", "item/../precious")
        .hard_link("item/hard-to-link", "item/stays")
        .hard_link("item/hard-stays", "item/a")
        .folder("item/.git")
        .file("item/.git/config", "[core]\n\tfsmonitor = touch /tmp/x\n")
        .file("item/.git/hooks/post-checkout", "x")
        .file("item/d/.GIT/config", "x")
        .file("item/d/git~1/config", "x")
        .file("item/d/.git ", "gitdir: /tmp/x")
        .file("item/d/.g\u{200c}it", "gitdir: /tmp/x")
        .file("item/.github", "x")
        .end();
    let unpacked = place.unpack(&archive, &place.request())?.map_err(anyhow::Error::from)?;
    assert_eq!(listed(&unpacked.path)?, [".github: x", "a: x", "hard-stays: x", "here: -> .", "stays: -> a"]);
    let left_out: Vec<_> = unpacked.left_out.first.iter().map(|entry| entry.path.as_str()).collect();
    assert_eq!(
        left_out,
        [
            "char",
            "block",
            "fifo",
            "unknown",
            "absolute",
            "out",
            "hook",
            "chain",
            "hard",
            "hard-out",
            "hard-to-link",
            ".git",
            "d/.GIT",
            "d/git~1",
            "d/.git ",
            "d/.g\u{200c}it",
        ]
    );
    assert_eq!(unpacked.left_out.count, 16);
    assert_eq!(unpacked.left_out.first[0].why, "is a device");
    Ok(())
}

#[test]
fn only_the_first_are_named_and_all_are_counted() -> Result<()> {
    let place = Place::new()?;
    let mut archive = Archive::default().folder("item");
    for number in 0..50 {
        archive = archive.link(&format!("item/\u{1b}{number}"), "/");
    }
    let unpacked = place.unpack(&archive.end(), &place.request())?.map_err(anyhow::Error::from)?;
    assert_eq!((unpacked.left_out.first.len(), unpacked.left_out.count), (20, 50));
    assert_eq!(unpacked.left_out.first[0].path, "\\u{1b}0");
    Ok(())
}

/// Whether git, called in the folder, finds a repository there.
fn is_repository(folder: &std::path::Path) -> Result<bool> {
    let output = Command::new("git")
        .args(["rev-parse", "--git-dir"])
        .current_dir(folder)
        .env("GIT_CEILING_DIRECTORIES", folder.parent().context("a parent")?)
        .output()?;
    Ok(output.status.success())
}

#[test]
fn a_folder_does_not_become_a_repository() -> Result<()> {
    let config = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
    let bare = |prefix: &str| {
        Archive::default()
            .file(&format!("{prefix}config"), config)
            .file(&format!("{prefix}HEAD"), "ref: refs/heads/main\n")
            .folder(&format!("{prefix}objects"))
            .folder(&format!("{prefix}refs"))
    };
    let common = || {
        Archive::default()
            .file("item/HEAD", "ref: refs/heads/main\n")
            .file("item/commondir", "elsewhere\n")
            .file("item/elsewhere/config", config)
            .folder("item/elsewhere/objects")
            .folder("item/elsewhere/refs")
    };
    let lower = Archive::default().file("item/head", "x").folder("item/Objects").folder("item/REFS");
    for (archive, folder, left_out) in [
        (bare("item/"), "work", "HEAD"),
        (bare("item/d/"), "work/d", "d/HEAD"),
        (common(), "work", "HEAD"),
        (lower, "work", "head"),
    ] {
        let place = Place::new()?;
        let unpacked = place.unpack(&archive.end(), &place.request())?.map_err(anyhow::Error::from)?;
        assert!(!is_repository(&place.target().join(folder))?, "{folder}");
        let paths: Vec<_> = unpacked.left_out.first.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, [left_out]);
        assert!(!place.target().join("work").join(left_out).exists());
    }
    // The control: with the file that was left out it is one.
    let place = Place::new()?;
    for archive in [bare("item/"), common()] {
        let at = tempfile::tempdir_in(place.outside())?;
        tar::Archive::new(&*archive.end()).unpack(at.path())?;
        assert!(is_repository(&at.path().join("item"))?);
    }

    // Nor piece by piece, into what is there from before.
    let place = Place::new()?;
    let work = place.target().join("work");
    let parts =
        Archive::default().file("item/config", config).folder("item/objects").folder("item/refs").end();
    place.unpack(&parts, &place.request())?.map_err(anyhow::Error::from)?;
    let head = Archive::default()
        .folder("item")
        .file("item/HEAD", "ref: refs/heads/main\n")
        .file("item/x", "x")
        .end();
    let unpacked = place.unpack(&head, &place.request())?.map_err(anyhow::Error::from)?;
    assert_eq!(unpacked.left_out.first[0].path, "HEAD");
    assert!(work.join("x").exists() && !is_repository(&work)?);
    fs::remove_dir(work.join("objects"))?;
    fs::write(work.join("HEAD"), "ref: refs/heads/main\n")?;
    let error = place.unpack(&parts, &Unpack { overwrite: true, ..place.request() })?.expect_err("objects");
    assert!(matches!(error, UnpackError::IntoRepository(_)), "{error}");
    fs::remove_file(work.join("HEAD"))?;
    fs::create_dir(work.join("objects"))?;
    let file = Archive::default().file("item", "ref: refs/heads/main\n").end();
    let request = Unpack { destination: work.clone(), name: "HEAD".into(), ..place.request() };
    let error = place.unpack(&file, &request)?.expect_err("a HEAD");
    assert!(matches!(error, UnpackError::IntoRepository(_)), "{error}");
    Ok(())
}

#[test]
fn nothing_is_written_into_a_repositorys_own_files() -> Result<()> {
    let place = Place::new()?;
    fs::create_dir_all(place.target().join(".git/hooks"))?;
    let file = Archive::default().file("item", "x").end();
    let request = |destination: &str, name: &str| Unpack {
        destination: place.target().join(destination),
        name: name.into(),
        ..place.request()
    };
    for request in [
        request(".git", "config"),
        request(".git/hooks", "post-checkout"),
        request(".git/hooks/post-commit", "x"),
        request("", ".git"),
        request("", ".GIT"),
        request("new/../.git/x", "x"),
        request("git~1", "x"),
    ] {
        place.unpack(&file, &request)?.expect_err(&format!("{request:?}"));
    }
    for name in ["", ".", "..", "a/b", "a\0b"] {
        let error = place.unpack(&file, &request("", name))?.expect_err(name);
        assert!(matches!(error, UnpackError::Name(_)), "{error}");
    }
    place.unpack(&file, &request("", "gitconfig"))?.map_err(anyhow::Error::from)?;
    Ok(())
}

#[test]
fn every_size_has_a_bound() -> Result<()> {
    let place = Place::new()?;
    let archive =
        Archive::default().folder("item").folder("item/a/b").file("item/f", &"x".repeat(1000)).end();
    let with = |bounds| Unpack { bounds, ..place.request() };
    for (tight, what) in [
        (UnpackBounds { bytes: 999, ..UnpackBounds::default() }, "bytes"),
        (UnpackBounds { entries: 2, ..UnpackBounds::default() }, "entries"),
        (UnpackBounds { depth: 1, ..UnpackBounds::default() }, "folders inside each other"),
    ] {
        let error = place.unpack(&archive, &with(tight))?.expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
    let enough = UnpackBounds { bytes: 1000, entries: 3, depth: 2 };
    place.unpack(&archive, &with(enough))?.map_err(anyhow::Error::from)?;
    Ok(())
}

#[test]
fn a_small_archive_cannot_ask_for_much() -> Result<()> {
    let place = Place::new()?;
    // A file that is one hole of a terabyte.
    let mut header = tar::Header::new_gnu();
    let gnu = header.as_gnu_mut().context("a GNU header")?;
    gnu.name[..6].copy_from_slice(b"item/s");
    gnu.set_real_size(1 << 40);
    gnu.sparse[0].set_offset(1 << 40);
    gnu.sparse[0].set_length(0);
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(0);
    header.set_cksum();
    let archive = Archive::default().folder("item").raw(header.as_bytes()).end();
    let error = place.unpack(&archive, &place.request())?.expect_err("a terabyte");
    assert!(matches!(error, UnpackError::TooLarge { what: "bytes", .. }), "{error}");

    // Headers that go on for gigabytes: they are not read to their end.
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader]
    {
        let mut header = tar::Header::new_gnu();
        header.set_path("name")?;
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_size(8 << 30);
        header.set_cksum();
        let start = Archive::default().folder("item").raw(header.as_bytes()).cut_off();
        let mut read = Counted { inner: start.as_slice().chain(io::repeat(b'x')), bytes: 0 };
        // A global header is skipped like the content of a file, within the bound for that.
        let bounds = UnpackBounds { bytes: 1 << 20, ..UnpackBounds::default() };
        let error = unpack(&mut read, &Unpack { bounds, ..place.request() }).expect_err("a bomb");
        assert!(matches!(error, UnpackError::TooLarge { .. }), "{kind:?}: {error}");
        assert!(read.bytes < 3 << 20, "{kind:?}: {} bytes were read", read.bytes);
    }
    assert_eq!(listed(&place.target())?, Vec::<String>::new());
    Ok(())
}

struct Counted<R> {
    inner: R,
    bytes: usize,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.bytes += read;
        Ok(read)
    }
}
