//! Archives out of a bottle, and into one.

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::Result;
use bot_bottle_inspector::{InspectError, Request};
use tar::{Archive, Builder, EntryType, Header};

use crate::fixture::{Work, everything};

fn archive(work: &mut Work, path: &str) -> Result<Vec<u8>, InspectError> {
    work.ask(&Request::Archive { path: path.to_owned() })
}

fn unpack(work: &mut Work, path: &str, name: &str, archive: &[u8]) -> Result<(), InspectError> {
    let request = Request::Unpack { path: path.to_owned(), name: name.to_owned() };
    work.ask_with(&request, archive).map(drop)
}

/// Path, kind and content of every entry.
fn entries(archive: &[u8]) -> Result<Vec<(PathBuf, EntryType, String)>> {
    let mut found = Vec::new();
    for entry in Archive::new(archive).entries()? {
        let mut entry = entry?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if let Some(target) = entry.link_name_bytes() {
            content = target.into_owned();
        }
        found.push((
            entry.path()?.into_owned(),
            entry.header().entry_type(),
            String::from_utf8_lossy(&content).into(),
        ));
    }
    Ok(found)
}

fn tar_of(entries: &[(&str, EntryType, &str)]) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = Header::new_gnu();
        // Not `set_path`, which refuses what a test needs.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let body = if *kind == EntryType::Regular { content.as_bytes() } else { b"" };
        header.set_size(u64::try_from(body.len())?);
        if *kind == EntryType::Symlink || *kind == EntryType::Link {
            header.set_link_name_literal(content)?;
        }
        header.set_cksum();
        builder.append(&header, body)?;
    }
    Ok(builder.into_inner()?)
}

#[test]
fn files_and_folders_come_out_with_links_as_links() -> Result<()> {
    let mut work = Work::begin("")?;
    work.agent(
        "mkdir -p d/e; echo one >d/e/one; ln -s /etc/passwd d/link; ln -s d folder; mkfifo d/fifo; \
         echo settings >../home/.settings; echo deep >d/$(printf 'n%.0s' $(seq 200))",
    )?;
    let found = entries(&archive(&mut work, "d")?)?;
    let (dir, file, link) = (EntryType::Directory, EntryType::Regular, EntryType::Symlink);
    let text = |path: &str, kind, content: &str| (PathBuf::from(path), kind, content.to_owned());
    assert_eq!(
        found,
        [
            text("item", dir, ""),
            text("item/e", dir, ""),
            text("item/e/one", file, "one\n"),
            text("item/link", link, "/etc/passwd"),
            text(&format!("item/{}", "n".repeat(200)), file, "deep\n"),
        ]
    );
    assert_eq!(entries(&archive(&mut work, "folder")?)?, [text("item", link, "d")]);
    assert_eq!(entries(&archive(&mut work, "/home/agent/.settings")?)?, [text("item", file, "settings\n")]);
    assert_eq!(
        entries(&archive(&mut work, "/home/agent/workspace/d/e/one")?)?,
        [text("item", file, "one\n")]
    );
    assert!(matches!(archive(&mut work, "missing"), Err(InspectError::NotThere(_))));
    assert!(matches!(archive(&mut work, "/etc/passwd"), Err(InspectError::NotKept { .. })));
    Ok(())
}

#[test]
fn an_archive_goes_in_as_it_came_out() -> Result<()> {
    let mut work = Work::begin("")?;
    work.agent(
        "mkdir -p d/closed; echo x >d/closed/x; echo run >d/run; chmod 755 d/run; chmod 555 d/closed; ln -s nowhere d/l; \
         touch -d 2001-02-03T04:05:06Z d/run d/closed d; mkdir into; echo file >file",
    )?;
    let tar = archive(&mut work, "d")?;
    unpack(&mut work, "new", "ignored", &tar)?;
    unpack(&mut work, "into", "named", &tar)?;
    unpack(&mut work, "/home/agent/", "d", &tar)?;
    let at = |name: &str| work.places.workspace.join(name);
    let original = everything(&at("d"))?;
    for copy in [at("new"), at("into/named"), work.places.home.join("d")] {
        let copied = everything(&copy)?;
        assert_eq!(copied.keys().collect::<Vec<_>>(), original.keys().collect::<Vec<_>>());
        for (path, (mode, content, (seconds, _))) in copied {
            let (same_mode, same_content, (same_seconds, _)) = &original[&path];
            assert_eq!((mode, &content), (*same_mode, same_content), "{}", path.display());
            // The time of a link is not set.
            assert!(path.as_os_str() == "l" || seconds == *same_seconds, "{}", path.display());
        }
    }
    work.agent("chmod -R u+w . ../home/d")?;
    Ok(())
}

#[test]
fn what_is_in_the_way_is_replaced_but_never_a_folder_by_a_file() -> Result<()> {
    let mut work = Work::begin("")?;
    work.agent(
        "echo old >file; echo kept >kept; ln -s kept link; mkdir -p d/x; echo other >d/other; ln -s d to-d",
    )?;
    let file = tar_of(&[("item", EntryType::Regular, "new")])?;
    unpack(&mut work, "file", "f", &file)?;
    unpack(&mut work, "link", "f", &file)?;
    unpack(&mut work, "to-d", "f", &file)?;
    assert_eq!(work.agent("cat file link d/f kept; test ! -L link")?, "newnewnewkept\n");

    let folder = [("item", EntryType::Directory, ""), ("item/a", EntryType::Regular, "a")];
    let hard_link = ("item/b", EntryType::Link, "item/a");
    unpack(&mut work, ".", "d", &tar_of(&[folder[0], folder[1], hard_link])?)?;
    assert_eq!(work.agent("cat d/a d/b d/other")?, "aaother\n");

    let over = tar_of(&[folder[0], ("item/x", EntryType::Regular, "")])?;
    assert!(matches!(unpack(&mut work, ".", "d", &over), Err(InspectError::OtherKind { .. })));
    let over = tar_of(&[folder[0], ("item/f", EntryType::Directory, "")])?;
    assert!(matches!(unpack(&mut work, ".", "d", &over), Err(InspectError::OtherKind { .. })));
    assert!(matches!(unpack(&mut work, "nowhere/", "d", &file), Err(InspectError::NoFolder(_))));
    assert!(matches!(unpack(&mut work, "no/where", "d", &file), Err(InspectError::System(_))));
    Ok(())
}

#[test]
fn an_archive_that_is_not_ours_is_refused() -> Result<()> {
    let mut work = Work::begin("")?;
    for path in ["other", "/item", "../item", "item/../x", "item/../../x", "items"] {
        let tar = tar_of(&[(path, EntryType::Regular, "x")])?;
        let error = unpack(&mut work, "new", "x", &tar).expect_err(path);
        assert!(matches!(error, InspectError::StrayEntry(_)), "{path}: {error}");
    }
    for name in ["", ".", "..", "a/b", "/a"] {
        let tar = tar_of(&[("item", EntryType::Regular, "x")])?;
        assert!(matches!(unpack(&mut work, ".", name, &tar), Err(InspectError::StrayEntry(_))), "{name}");
    }
    let whole = tar_of(&[("item", EntryType::Regular, &"x".repeat(5000))])?;
    for length in [0, 100, 512, 3000] {
        assert!(
            matches!(unpack(&mut work, "cut", "x", &whole[..length]), Err(InspectError::System(_))),
            "{length}"
        );
    }
    assert_eq!(
        fs::read_dir(&work.places.workspace)?
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() != "cut"))
            .count(),
        0
    );
    unpack(&mut work, "whole", "x", &whole)?;
    assert_eq!(fs::metadata(work.places.workspace.join("whole"))?.permissions().mode() & 0o777, 0o644);
    Ok(())
}
