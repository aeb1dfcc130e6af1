//! A patch becomes a new file, whole or not at all.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::symlink,
};

use anyhow::Result;
use bot_bottle_quarantine::patch::{PatchBounds, PatchError, write_patch};

#[test]
fn a_patch_is_written_whole_or_not_at_all() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("work.patch");
    let bounds = PatchBounds { bytes: 10 };
    let entries = || fs::read_dir(folder.path()).map(Iterator::count);

    let error = write_patch(&mut b"12345678901".as_slice(), &file, &bounds).expect_err("too large");
    assert!(matches!(error, PatchError::TooLarge(10)), "{error}");
    let mut broken = b"123".chain(Broken);
    let error = write_patch(&mut broken, &file, &bounds).expect_err("cut off");
    assert!(matches!(error, PatchError::Io(_)), "{error}");
    assert_eq!(entries()?, 0);

    assert_eq!(write_patch(&mut b"1234567890".as_slice(), &file, &bounds)?, 10);
    assert_eq!(fs::read(&file)?, b"1234567890");
    let error = write_patch(&mut b"other".as_slice(), &file, &bounds).expect_err("it exists");
    assert!(matches!(error, PatchError::Exists(_)), "{error}");
    let link = folder.path().join("link");
    symlink(folder.path().join("nothing"), &link)?;
    let error = write_patch(&mut b"other".as_slice(), &link, &bounds).expect_err("a link is there");
    assert!(matches!(error, PatchError::Exists(_)), "{error}");
    assert_eq!(fs::read(&file)?, b"1234567890");
    assert_eq!(entries()?, 2);
    Ok(())
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}
