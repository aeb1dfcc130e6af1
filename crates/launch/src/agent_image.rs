//! The image of an agent, in a container engine: pulled by its name, or built and named by what it is built from.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Seek},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bot_bottle_core::{
    error::{IoContext, IoError},
    plan::ImageSource,
    provider::{self, Provider},
};
use bot_bottle_engine::{BuildSpec, Engine, Image, RefusalKind, RegistryCredentials};
use sha2::{Digest, Sha256};

use crate::error::LaunchError;

mod build_context;
mod dockerfile;

use build_context::BuildContext;
pub use build_context::ContextError;

/// Hexadecimal digits of a hash that name an image.
pub(crate) const TAG_DIGITS: usize = 24;

/// Label of every image of ours, for `cleanup`.
pub(crate) const IMAGE_LABEL: &str = "bot-bottle.image";

/// Repository of the images that are built here. The tag is the hash of what they are built from.
const REPOSITORY: &str = "bot-bottle-agent";

/// Part of every hash; another number builds all images anew.
const LAYOUT: &str = "1";

/// Longest configuration file of docker's that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// What the operator's environment says about images.
#[derive(Clone, Default)]
pub struct ImageEnvironment {
    /// Docker's configuration file, which has the credentials for registries. It need not exist.
    pub docker_config: Option<PathBuf>,
    /// The arguments of a build that every Dockerfile has without declaring them, such as `HTTP_PROXY`. They have no
    /// part in the image's name.
    pub proxies: BTreeMap<String, String>,
    /// What the images of providers begin with, instead of the base that their Dockerfiles name.
    pub base: Option<String>,
}

impl fmt::Debug for ImageEnvironment {
    /// Without the proxies, whose addresses can have a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ImageEnvironment")
            .field("docker_config", &self.docker_config)
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Makes sure that the engine has the image, and returns its id. `report` gets a line for each thing that the engine
/// does.
pub(crate) fn provide(
    engine: &Engine,
    environment: &ImageEnvironment,
    source: &ImageSource,
    report: &mut dyn FnMut(String),
) -> Result<String, LaunchError> {
    let mut provider = ImageProvider { engine, environment, report };
    match source {
        ImageSource::Reference(reference) => Ok(provider.present(reference)?.id),
        ImageSource::Dockerfile(path) => provider.built(&BuildContext::read(path)?, &[].into()),
        ImageSource::Provider(name) => {
            let of_plan = provider::by_name(name).ok_or(LaunchError::NoImage)?;
            let arguments = arguments(of_plan, environment.base.as_deref());
            let arguments = arguments.ok_or_else(|| LaunchError::NoPackage(name.clone()))?;
            provider.built(&BuildContext::of_text(of_plan.dockerfile()), &arguments)
        }
    }
}

/// The arguments of a provider's Dockerfile; `None` where it has no package for this processor.
fn arguments(provider: &dyn Provider, base: Option<&str>) -> Option<BTreeMap<String, String>> {
    let package = provider.package(std::env::consts::ARCH)?;
    let hash = STANDARD.decode(package.integrity.strip_prefix("sha512-")?).ok()?;
    let hash = hexadecimal(&hash);
    let of_package = [
        ("PACKAGE", package.name),
        ("VERSION", package.version),
        ("SHA512", &hash),
        ("TREE", package.tree),
        ("EXECUTABLE", package.executable),
        ("PROGRAM", provider.program()),
    ];
    let base = base.map(|base| ("BASE", base));
    Some(
        of_package.into_iter().chain(base).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    )
}

struct ImageProvider<'a> {
    engine: &'a Engine,
    environment: &'a ImageEnvironment,
    report: &'a mut dyn FnMut(String),
}

impl ImageProvider<'_> {
    /// The image of a reference, pulled if the engine does not have it.
    fn present(&mut self, reference: &str) -> Result<Image, LaunchError> {
        if let Some(image) = self.existing(reference)? {
            return Ok(image);
        }
        let credentials = match &self.environment.docker_config {
            Some(path) => credentials(path, reference)?,
            None => None,
        };
        (self.report)(format!("pulling {reference}"));
        let report = &mut self.report;
        let pulled = self.engine.pull(reference, credentials.as_ref(), &mut |line| {
            report(format!("pulling {reference}: {line}"));
        });
        Ok(pulled?)
    }

    fn existing(&self, reference: &str) -> Result<Option<Image>, LaunchError> {
        match self.engine.image(reference) {
            Ok(image) => Ok(Some(image)),
            Err(error) if error.refusal() == Some(RefusalKind::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The image of a Dockerfile, built unless there is one of the same files, arguments and bases.
    fn built(
        &mut self,
        context: &BuildContext,
        arguments: &BTreeMap<String, String>,
    ) -> Result<String, LaunchError> {
        // Pulled here and not by the build, so that their ids are known before it, and with the operator's
        // credentials.
        let mut hash = Sha256::new_with_prefix(LAYOUT);
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        part(&context.name);
        for base in dockerfile::bases(&context.dockerfile, arguments) {
            part(&self.present(&base)?.id);
        }
        for (name, value) in arguments {
            part(name);
            part(value);
        }
        let mut sent = hash.clone();
        context.pack(&mut hash)?;
        if let Some(image) = self.existing(&reference(hash))? {
            return Ok(image.id);
        }
        // What is sent is what the name is made from, even if files change meanwhile.
        let copying = || "copying what the image is built from to a temporary file";
        let mut archive = tempfile::tempfile().io_context(copying)?;
        context.pack(io::BufWriter::new(&archive))?;
        archive.rewind().io_context(copying)?;
        io::copy(&mut archive, &mut sent).io_context(copying)?;
        archive.rewind().io_context(copying)?;
        let tag = reference(sent);
        let spec = BuildSpec {
            tag: tag.clone(),
            dockerfile: context.name.clone(),
            labels: [(IMAGE_LABEL.to_owned(), "agent".to_owned())].into(),
            arguments: arguments.iter().chain(&self.environment.proxies).map(owned).collect(),
            ..BuildSpec::default()
        };
        (self.report)(format!("building {tag}"));
        let report = &mut self.report;
        let built = self.engine.build(&spec, &mut archive, &mut |line| report(format!("building: {line}")));
        // The id that the build tells need not be the whole one.
        built?;
        Ok(self.engine.image(&tag)?.id)
    }
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

fn reference(hash: Sha256) -> String {
    format!("{REPOSITORY}:{}", &hexadecimal(&hash.finalize())[..TAG_DIGITS])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The credentials for the registry of an image; `None` if there is no such file, or it has none.
fn credentials(config: &Path, reference: &str) -> Result<Option<RegistryCredentials>, LaunchError> {
    let reading = || format!("reading {}", config.display());
    let text = match fs::metadata(config) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if !metadata.is_file() || metadata.len() > MAX_CONFIG_BYTES => {
            let why = format!("it is no file of at most {MAX_CONFIG_BYTES} bytes");
            return Err(IoError::new(reading(), io::Error::other(why)).into());
        }
        Ok(_) => fs::read_to_string(config).io_context(reading)?,
        Err(error) => return Err(IoError::new(reading(), error).into()),
    };
    Ok(RegistryCredentials::from_docker_config(&text, reference)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_dockerfile_has_every_argument_that_it_uses() {
        for provider in provider::all() {
            let given = arguments(provider, Some("mirror.example/node:22")).expect("a package");
            let text = provider.dockerfile();
            let declared: Vec<&str> = text
                .lines()
                .filter_map(|line| line.strip_prefix("ARG "))
                .map(|line| line.split_once('=').map_or(line, |(name, _)| name))
                .collect();
            let mut names: Vec<&str> = given.keys().map(String::as_str).collect();
            names.sort_unstable();
            let mut sorted = declared.clone();
            sorted.sort_unstable();
            assert_eq!(names, sorted, "{}", provider.name());
            assert_eq!(given["SHA512"].len(), 128);
            assert_eq!(dockerfile::bases(text, &given), ["mirror.example/node:22"]);
            let own = dockerfile::bases(text, &arguments(provider, None).expect("a package"));
            assert!(own[0].starts_with("docker.io/library/node:"), "{own:?}");
        }
    }

    #[test]
    fn credentials_come_from_dockers_file_where_there_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.json");
        assert!(credentials(&path, "debian").expect("none").is_none());
        fs::write(&path, r#"{"auths": {"host.example": {"auth": "dTpw"}}}"#).expect("written");
        assert!(credentials(&path, "host.example/a").expect("read").is_some());
        assert!(credentials(&path, "debian").expect("read").is_none());
        fs::write(&path, "{").expect("written");
        assert!(matches!(credentials(&path, "debian"), Err(LaunchError::Credentials(_))));
    }
}
