//! Honest archives arrive as `cp -r` and `docker cp` would copy them.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use anyhow::Result;
use bot_bottle_core::error::Hint;
use bot_bottle_quarantine::unpack::{LeftOut, Unpack, UnpackError};
use tar::EntryType;

use super::archive::{Archive, Place, TIME, listed};

fn folder() -> Archive {
    Archive::default().folder("item/").folder("item/d/").file("item/d/f", "x").link("item/l", "d/f")
}

#[test]
fn the_destination_is_understood_as_cp_does() -> Result<()> {
    // Into an existing folder under the source's name, or as what does not exist yet.
    for (destination, made) in
        [("into", "into/work"), ("into/", "into/work"), ("into/new", "into/new"), ("new", "new")]
    {
        for (archive, is_folder) in
            [(folder().end(), true), (Archive::default().file("item", "x").end(), false)]
        {
            let place = Place::new()?;
            let request = Unpack { destination: place.outside().join(destination), ..place.request() };
            let unpacked = place.unpack(&archive, &request)?.map_err(anyhow::Error::from)?;
            assert_eq!(unpacked.path, place.outside().canonicalize()?.join(made));
            assert_eq!((unpacked.bytes, unpacked.left_out), (1, LeftOut::default()));
            if is_folder {
                assert_eq!(listed(&unpacked.path)?, ["d: folder", "d/f: x", "l: -> d/f"]);
                assert_eq!(unpacked.entries, 4);
            } else {
                assert_eq!(fs::read_to_string(&unpacked.path)?, "x");
            }
        }
    }
    for destination in ["nothing/here", "precious/x", "new/"] {
        let place = Place::new()?;
        let request = Unpack { destination: place.outside().join(destination), ..place.request() };
        let error = place.unpack(&folder().end(), &request)?.expect_err(destination);
        assert!(
            matches!(error, UnpackError::NoFolder(_)) && error.hint().is_some(),
            "{destination}: {error}"
        );
    }
    Ok(())
}

#[test]
fn modes_are_masked_and_times_are_kept() -> Result<()> {
    let place = Place::new()?;
    let archive = Archive::default()
        .entry(EntryType::Directory, b"item/", 0o2500, b"", b"")
        .entry(EntryType::Regular, b"item/setuid", 0o6755, b"", b"x")
        .entry(EntryType::Regular, b"item/closed", 0o000, b"", b"x")
        .entry(EntryType::Directory, b"item/sticky", 0o1700, b"", b"")
        .file("item/sticky/f", "x")
        .link("item/link", "setuid");
    let unpacked = place.unpack(&archive.end(), &place.request())?.map_err(anyhow::Error::from)?;
    for (path, mode) in
        [(".", 0o700), ("setuid", 0o755), ("closed", 0o600), ("sticky", 0o700), ("sticky/f", 0o644)]
    {
        let metadata = unpacked.path.join(path).metadata()?;
        assert_eq!(metadata.permissions().mode() & 0o7777, mode, "{path}");
        assert_eq!(metadata.mtime(), i64::try_from(TIME)?, "{path}");
    }
    assert_eq!(unpacked.path.join("link").symlink_metadata()?.mtime(), i64::try_from(TIME)?);
    Ok(())
}

#[test]
fn existing_files_stay_unless_asked_otherwise() -> Result<()> {
    let place = Place::new()?;
    let work = place.target().join("work");
    fs::create_dir_all(work.join("d"))?;
    fs::write(work.join("own"), "own")?;
    // What is not in the way is added to.
    place.unpack(&folder().end(), &place.request())?.map_err(anyhow::Error::from)?;
    assert_eq!(listed(&work)?, ["d: folder", "d/f: x", "l: -> d/f", "own: own"]);
    let error = place.unpack(&folder().end(), &place.request())?.expect_err("it exists");
    assert!(matches!(error, UnpackError::Exists { replaceable: true, .. }), "{error}");

    // A link is replaced, and what it leads to stays.
    let overwrite = Unpack { overwrite: true, ..place.request() };
    for name in ["d/f", "l"] {
        fs::remove_file(work.join(name))?;
        symlink(place.outside().join("precious"), work.join(name))?;
    }
    place.unpack(&folder().end(), &overwrite)?.map_err(anyhow::Error::from)?;
    assert_eq!(listed(&work)?, ["d: folder", "d/f: x", "l: -> d/f", "own: own"]);

    // A folder does not take the place of a file or of a link to a folder, nor a file that of a folder.
    fs::remove_dir_all(work.join("d"))?;
    symlink(place.outside(), work.join("d"))?;
    let error = place.unpack(&folder().end(), &overwrite)?.expect_err("a link is in the way");
    assert!(matches!(error, UnpackError::Exists { replaceable: false, .. }), "{error}");
    let error = place.unpack(&Archive::default().file("item", "x").end(), &overwrite)?.expect_err("a folder");
    assert!(matches!(error, UnpackError::Exists { replaceable: false, .. }), "{error}");

    // A single file.
    let onto = |overwrite| Unpack { destination: work.join("own"), overwrite, ..place.request() };
    let file = Archive::default().file("item", "new").end();
    place.unpack(&file, &onto(false))?.expect_err("it exists");
    place.unpack(&file, &onto(true))?.map_err(anyhow::Error::from)?;
    assert_eq!(fs::read_to_string(work.join("own"))?, "new");
    Ok(())
}

#[test]
fn what_agents_have_comes_through() -> Result<()> {
    let place = Place::new()?;
    // A path that needs a GNU long name, names of other bytes, links as in node_modules, a file with holes.
    let mut builder = tar::Builder::new(Vec::new());
    let source = tempfile::tempdir()?;
    let long = "x".repeat(120);
    fs::create_dir_all(source.path().join(&long).join(&long))?;
    fs::write(source.path().join(&long).join(&long).join("f"), "deep")?;
    fs::create_dir_all(source.path().join("node_modules/.bin"))?;
    symlink("../x/bin.js", source.path().join("node_modules/.bin/x"))?;
    fs::write(source.path().join("new\nline"), "x")?;
    let sparse = fs::File::create(source.path().join("sparse"))?;
    sparse.set_len(50 << 20)?;
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (50 << 20) - 3)?;
    builder.follow_symlinks(false);
    builder.append_dir_all("item", source.path())?;
    let archive = builder.into_inner()?;
    let unpacked = place.unpack(&archive, &place.request())?.map_err(anyhow::Error::from)?;
    assert_eq!(listed(&unpacked.path)?, listed(source.path())?);
    assert_eq!(unpacked.left_out, LeftOut::default());
    let copied = unpacked.path.join("sparse");
    assert!(copied.metadata()?.blocks() * 512 < 10 << 20, "the holes are filled");
    assert_eq!(&fs::read(copied)?[(50 << 20) - 3..], b"end");
    Ok(())
}

#[test]
fn a_file_with_two_names_is_one() -> Result<()> {
    let place = Place::new()?;
    let archive = Archive::default().folder("item").file("item/a", "x").hard_link("item/d/b", "item/a").end();
    let unpacked = place.unpack(&archive, &place.request())?.map_err(anyhow::Error::from)?;
    assert_eq!(listed(&unpacked.path)?, ["a: x", "d: folder", "d/b: x"]);
    assert_eq!(unpacked.path.join("a").metadata()?.ino(), unpacked.path.join("d/b").metadata()?.ino());
    Ok(())
}
