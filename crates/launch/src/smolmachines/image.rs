//! The image of a machine: an archive or a folder of the operator's, or an archive of what a container engine has.
//!
//! smolvm takes a path. An image of an engine is saved once, under its id, which is a hash of its content.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    limits::ByteSize,
    plan::ImageSource,
};
use bot_bottle_engine::{AddressError, Engine, EngineAddress};
use serde::Deserialize;

use crate::{
    agent_image::{self, ImageEnvironment},
    error::LaunchError,
    image_variables::ImageVariables,
};

/// Largest archive of an image that smolvm takes, in bytes (`machine create --max-image-size`).
const MAX_ARCHIVE_BYTES: u64 = 8 << 30;

/// How long an archive stays that no bottle is made of any more. It is saved again where it is missed.
const ARCHIVE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Longest file of an archive that describes its image, in bytes.
const MAX_DESCRIPTION_BYTES: u64 = 4 << 20;

/// What `docker save` names the description of what it saved.
const MANIFEST: &str = "manifest.json";

/// The end of the name of an archive.
const ARCHIVE_SUFFIX: &str = "tar";

/// Where images come from.
#[derive(Debug, Clone)]
pub(super) struct Images {
    /// The engine that is asked for those that are no path.
    pub(super) engine: Result<EngineAddress, AddressError>,
    /// What the operator's environment says about those.
    pub(super) environment: ImageEnvironment,
    /// The folder of archives that were saved.
    pub(super) folder: PathBuf,
}

impl Images {
    /// What a machine is made of: the path of an archive or a folder. `report` gets a line for each thing that takes
    /// time.
    pub(super) fn provide(
        &self,
        source: Option<&ImageSource>,
        report: &mut dyn FnMut(String),
    ) -> Result<PathBuf, LaunchError> {
        let source = source.ok_or(LaunchError::NoMachineImage)?;
        if let ImageSource::Reference(reference) = source
            && reference.starts_with('/')
        {
            let path = PathBuf::from(reference);
            fs::metadata(&path).io_context(|| format!("looking for the image {reference}"))?;
            return Ok(path);
        }
        let engine = self.engine.clone().map_err(LaunchError::MachineImageAddress)?;
        let engine = Engine::connect(&engine).map_err(|error| LaunchError::MachineImage(Box::new(error)))?;
        let id = agent_image::provide(&engine, &self.environment, source, report)?;
        self.saved(&engine, &id, report)
    }

    /// The archive of an image, saved unless there is one.
    fn saved(
        &self,
        engine: &Engine,
        id: &str,
        report: &mut dyn FnMut(String),
    ) -> Result<PathBuf, LaunchError> {
        let digits = id.trim_start_matches("sha256:");
        let path = self.folder.join(digits).with_extension(ARCHIVE_SUFFIX);
        let saving = || format!("saving the image {digits} in {}", self.folder.display());
        match File::options().write(true).open(&path) {
            Ok(archive) => {
                // Its age is counted from its last use.
                archive.set_modified(SystemTime::now()).io_context(saving)?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(IoError::new(saving(), error).into()),
        }
        report(format!("saving the image {digits} for machines"));
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).io_context(saving)?;
        let mut archive = tempfile::NamedTempFile::new_in(&self.folder).io_context(saving)?;
        engine.save_image(id, &mut Bounded { target: archive.as_file_mut(), left: MAX_ARCHIVE_BYTES })?;
        archive.persist(&path).map_err(|error| IoError::new(saving(), error.error))?;
        Ok(path)
    }
}

/// Takes so many bytes and fails with the next.
struct Bounded<'a> {
    target: &'a mut File,
    left: u64,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            io::Error::other(format!("the image has more than {}", ByteSize(MAX_ARCHIVE_BYTES)))
        })?;
        self.target.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

/// The archives of this folder that no bottle was made of for a week, and what a launcher that was killed did not
/// finish.
///
/// # Errors
/// When the folder cannot be read; one that does not exist has none.
pub(crate) fn unused_archives(folder: &Path, now: SystemTime) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut unused = Vec::new();
    for entry in entries {
        let entry = entry?;
        let used = entry.metadata()?.modified()?;
        if now.duration_since(used).is_ok_and(|age| age > ARCHIVE_AGE) {
            unused.push(entry.path());
        }
    }
    unused.sort();
    Ok(unused)
}

/// The first element of [`MANIFEST`].
#[derive(Deserialize)]
struct Saved {
    /// Name of the file with the image's configuration.
    #[serde(rename = "Config")]
    config: String,
}

/// That file (image specification v1, `config`).
#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    config: Runtime,
}

#[derive(Deserialize, Default)]
struct Runtime {
    #[serde(rename = "Env", default)]
    env: Option<Vec<String>>,
}

/// The variables that an image brings. A folder has none, nor has an archive without the description that `docker
/// save` writes.
pub(super) fn variables(image: &Path) -> Result<ImageVariables, LaunchError> {
    let reading = || format!("reading the image {}", image.display());
    if fs::metadata(image).io_context(reading)?.is_dir() {
        return Ok(ImageVariables::default());
    }
    let described = || -> io::Result<Option<Vec<String>>> {
        let Some(manifest) = member(image, Path::new(MANIFEST))? else { return Ok(None) };
        let saved: Vec<Saved> = serde_json::from_slice(&manifest)?;
        let Some(saved) = saved.first() else { return Ok(None) };
        let Some(configuration) = member(image, Path::new(&saved.config))? else { return Ok(None) };
        Ok(serde_json::from_slice::<Configuration>(&configuration)?.config.env)
    };
    let environment = described().io_context(reading)?;
    Ok(environment.map(|environment| ImageVariables::new(&environment)).unwrap_or_default())
}

/// A file of an archive; `None` if it is not there, or the archive is compressed.
fn member(archive: &Path, name: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(File::open(archive)?);
    // What is not read is skipped.
    let Ok(entries) = archive.entries_with_seek() else { return Ok(None) };
    for entry in entries {
        let Ok(entry) = entry else { return Ok(None) };
        if entry.path()?.strip_prefix(".").unwrap_or(&entry.path()?) != name {
            continue;
        }
        let mut content = Vec::new();
        entry.take(MAX_DESCRIPTION_BYTES).read_to_end(&mut content)?;
        return Ok(Some(content));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    fn archive(folder: &Path, files: &[(&str, &str)]) -> PathBuf {
        let path = folder.join("image.tar");
        let mut builder = Builder::new(File::create(&path).expect("a file"));
        for (name, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_bytes()).expect("written");
        }
        builder.finish().expect("written");
        path
    }

    #[test]
    fn an_image_brings_the_variables_of_its_configuration() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = r#"[{"Config": "blobs/sha256/c", "Layers": []}]"#;
        let layer = "x".repeat(100_000);
        let image = archive(
            folder.path(),
            &[
                ("layer.tar", &layer),
                ("blobs/sha256/c", r#"{"config": {"Env": ["PATH=/opt/bin", "A=b"]}}"#),
                (MANIFEST, manifest),
            ],
        );
        let expected = ImageVariables::new(&["PATH=/opt/bin".to_owned(), "A=b".to_owned()]);
        assert_eq!(variables(&image).expect("read"), expected);

        for (files, what) in [
            (&[(MANIFEST, manifest), ("blobs/sha256/c", r#"{"config": {"Env": null}}"#)][..], "no variables"),
            (&[(MANIFEST, manifest), ("blobs/sha256/c", "{}")], "no configuration of containers"),
            (&[(MANIFEST, manifest)], "no configuration"),
            (&[(MANIFEST, "[]")], "no image"),
            (&[("etc/passwd", "root")], "a file system"),
        ] {
            let image = archive(folder.path(), files);
            assert_eq!(variables(&image).expect(what), ImageVariables::default(), "{what}");
        }
        assert!(variables(&archive(folder.path(), &[(MANIFEST, "{")])).is_err(), "a damaged description");
        fs::write(&image, [0x1f, 0x8b, 8, 0]).expect("written");
        assert_eq!(variables(&image).expect("compressed"), ImageVariables::default());
        assert_eq!(variables(folder.path()).expect("a folder"), ImageVariables::default());
        assert!(variables(&folder.path().join("none")).is_err());
    }

    #[test]
    fn archives_are_unused_after_a_week() {
        let folder = tempfile::tempdir().expect("a folder");
        let now = SystemTime::now();
        let day = Duration::from_secs(24 * 60 * 60);
        for (name, age) in [("old.tar", 8 * day), ("new.tar", 6 * day), (".tmp1", 8 * day)] {
            let file = File::create(folder.path().join(name)).expect("a file");
            file.set_modified(now - age).expect("set");
        }
        let found = unused_archives(folder.path(), now).expect("read");
        assert_eq!(found, [folder.path().join(".tmp1"), folder.path().join("old.tar")]);
        assert!(unused_archives(&folder.path().join("none"), now).expect("none").is_empty());
    }

    #[test]
    fn an_archive_has_a_bound() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut bounded = Bounded { target: &mut file, left: 4 };
        assert!(bounded.write_all(b"four").is_ok());
        assert!(bounded.write_all(b"5").is_err_and(|error| error.to_string().contains("8GiB")));
    }
}
