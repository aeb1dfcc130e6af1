//! Images.

use std::{
    io::{Read, Write},
    pin::pin,
    time::Duration,
};

use bollard::{
    body_try_stream,
    models::CreateImageInfo,
    query_parameters::{
        BuildImageOptions, BuilderVersion, CreateImageOptions, ListImagesOptions, RemoveImageOptions,
        TagImageOptions,
    },
};
use futures_util::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};

use crate::{
    Engine, EngineError, Labels, RegistryCredentials, body,
    connection::BollardResult,
    engine::within,
    error::{Purpose, is_out_of_space},
    name,
    progress::Progress,
    volume::by_label,
};

/// How long a pull or an import may be silent. A registry may be slow, and a large layer takes long to unpack.
const IMAGE_STALL_LIMIT: Duration = Duration::from_secs(600);

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// `sha256:…`
    pub id: String,
    /// References that name it.
    pub tags: Vec<String>,
    /// Bytes that it takes, with the layers that it shares.
    pub size: u64,
    /// What containers of it inherit.
    pub config: ImageConfig,
}

/// What a container inherits from its image unless its own specification says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `name`, `uid`, or either with `:group`; empty is root.
    pub user: String,
    /// Program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments.
    pub command: Vec<String>,
    /// `NAME=value`
    pub environment: Vec<String>,
    /// Empty is `/`.
    pub working_directory: String,
    /// Paths where every container gets an anonymous volume.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: Labels,
}

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSummary {
    /// `sha256:…`
    pub id: String,
    /// References that name it.
    pub tags: Vec<String>,
    /// Labels.
    pub labels: Labels,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Bytes that it takes, with the layers that it shares.
    pub size: u64,
}

/// How an image is built.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// The reference that the image gets.
    pub tag: String,
    /// Path of the Dockerfile in the context; empty is `Dockerfile`.
    pub dockerfile: String,
    /// The stage to build; empty is the last.
    pub target: String,
    /// Labels of the image.
    pub labels: Labels,
    /// Values of its `ARG`s. They are seen in its history: no secrets.
    pub arguments: Labels,
    /// The network of its `RUN` steps, such as `none`; the engine's default if `None`.
    pub network: Option<String>,
    /// Whether each step runs even if it ran before.
    pub no_cache: bool,
}

impl Engine {
    /// The image of a reference or id.
    ///
    /// # Errors
    /// `NotFound` when the engine does not have it.
    pub fn image(&self, reference: &str) -> Result<Image, EngineError> {
        let reference = name::reference(reference)?;
        let action = format!("looking for the image {reference}");
        let image = self.call(&action, Purpose::Other, self.docker().inspect_image(reference))?;
        let config = image.config.unwrap_or_default();
        Ok(Image {
            id: image.id.unwrap_or_default(),
            tags: image.repo_tags.unwrap_or_default(),
            size: image.size.and_then(|size| size.try_into().ok()).unwrap_or_default(),
            config: ImageConfig {
                user: config.user.unwrap_or_default(),
                entrypoint: config.entrypoint.unwrap_or_default(),
                command: config.cmd.unwrap_or_default(),
                environment: config.env.unwrap_or_default(),
                working_directory: config.working_dir.unwrap_or_default(),
                volumes: config.volumes.unwrap_or_default(),
                labels: config.labels.unwrap_or_default().into_iter().collect(),
            },
        })
    }

    /// Builds an image from a tar archive, which holds the Dockerfile and what it copies. Returns its id.
    /// `report` is called with each line of the build. It ends when the engine's stream does: a step may be
    /// silent for as long as it likes.
    ///
    /// # Errors
    /// [`EngineError::Build`] with the last lines of the step that failed.
    pub fn build(
        &self,
        spec: &BuildSpec,
        context: &mut dyn Read,
        report: &mut dyn FnMut(&str),
    ) -> Result<String, EngineError> {
        let tag = name::reference(&spec.tag)?;
        let action = format!("building the image {tag}");
        let map = |labels: &Labels| Some(labels.clone().into_iter().collect());
        let options = BuildImageOptions {
            dockerfile: if spec.dockerfile.is_empty() {
                "Dockerfile".to_owned()
            } else {
                spec.dockerfile.clone()
            },
            t: Some(tag.to_owned()),
            target: spec.target.clone(),
            labels: map(&spec.labels),
            buildargs: map(&spec.arguments),
            networkmode: spec.network.clone(),
            nocache: spec.no_cache,
            rm: true,
            forcerm: true,
            // BuildKit would need a session that the client serves.
            version: BuilderVersion::BuilderV1,
            ..Default::default()
        };
        let action = action.as_str();
        let request = |body| async move {
            let mut progress = Progress::new(report);
            let mut stream = pin!(self.docker().build_image(options, None, Some(body_try_stream(body))));
            let mut id = None;
            let message = loop {
                match stream.next().await {
                    Some(Ok(info)) => {
                        if let Some(image) = info.aux.and_then(|image| image.id) {
                            id = Some(image);
                        }
                        if let Some(text) = info.stream {
                            progress.text(&text);
                        } else if let Some(status) = info.status {
                            progress.line(&pull_line(info.id.as_deref(), &status));
                        }
                    }
                    // Some engines tell of a failure only in text: without the id there is no image.
                    None => match id {
                        Some(id) => return Ok(id),
                        None => break "it ended without an image".to_owned(),
                    },
                    Some(Err(bollard::errors::Error::DockerStreamError { error })) => break error,
                    Some(Err(error)) => return Err(EngineError::new(action, Purpose::Other, error)),
                }
            };
            let log = progress.into_last_lines();
            let is_out_of_space = is_out_of_space(&message) || log.iter().any(|line| is_out_of_space(line));
            Err(EngineError::Build { message, log, is_out_of_space })
        };
        self.block_on(body::send(action, context, None, request))
    }

    /// Makes an image of one layer from a root file system as a tar archive. Its configuration is given as
    /// Dockerfile instructions, such as `USER 1000` or `LABEL a=b`. Returns its id.
    ///
    /// # Errors
    /// When the engine refuses the archive or an instruction.
    pub fn import(
        &self,
        reference: &str,
        instructions: &[String],
        root_file_system: &mut dyn Read,
    ) -> Result<String, EngineError> {
        let reference = name::reference(reference)?;
        let action = format!("importing the image {reference}");
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            // With the tag: podman 4 ignores `tag` here.
            repo: Some(reference.to_owned()),
            changes: instructions.to_vec(),
            ..Default::default()
        };
        let action = action.as_str();
        let request = |body| async move {
            let stream = self.docker().create_image(Some(options), Some(body_try_stream(body)), None);
            follow(action, stream, &mut Progress::new(&mut |_| {})).await
        };
        self.block_on(body::send(action, root_file_system, Some(IMAGE_STALL_LIMIT), request))?;
        Ok(self.image(reference)?.id)
    }

    /// Pulls an image from its registry. `report` is called with lines such as `Pulling fs layer`.
    ///
    /// # Errors
    /// When the registry does not have it, cannot be reached by the engine, or wants other credentials.
    pub fn pull(
        &self,
        reference: &str,
        credentials: Option<&RegistryCredentials>,
        report: &mut dyn FnMut(&str),
    ) -> Result<Image, EngineError> {
        let reference = name::reference(reference)?;
        let action = format!("pulling the image {reference}");
        let (repository, tag) = name::repository_and_tag(reference);
        let options = CreateImageOptions {
            from_image: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        let credentials = credentials.map(RegistryCredentials::to_bollard);
        let stream = self.docker().create_image(Some(options), None, credentials);
        self.block_on(follow(&action, stream, &mut Progress::new(report)))?;
        self.image(reference)
    }

    /// Writes an image with its layers and its configuration to `target`, as `docker save` does. Returns the archive's
    /// size in bytes. `target` sets a limit by failing.
    ///
    /// # Errors
    /// `NotFound` when there is no such image, and `target`'s own.
    pub fn save_image(&self, image: &str, target: &mut dyn Write) -> Result<u64, EngineError> {
        let image = name::reference(image)?;
        let action = format!("saving the image {image}");
        let body = self.docker().export_image(image);
        self.block_on(body::receive(&action, body, target))
    }

    /// Gives an image another reference; one that named another image names this one then.
    ///
    /// # Errors
    /// `NotFound` when there is no such image.
    pub fn tag_image(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        let (image, reference) = (name::reference(image)?, name::reference(reference)?);
        let (repository, tag) = name::repository_and_tag(reference);
        let options = TagImageOptions { repo: Some(repository.to_owned()), tag: Some(tag.to_owned()) };
        let action = format!("naming the image {image} {reference}");
        self.call(&action, Purpose::Other, self.docker().tag_image(image, Some(options)))
    }

    /// Removes a reference, and the image with its last one. Succeeds if there is none.
    ///
    /// # Errors
    /// `Busy` while a container has it.
    pub fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let reference = name::reference(reference)?;
        let removal = self.docker().remove_image(reference, None::<RemoveImageOptions>, None);
        self.remove(&format!("removing the image {reference}"), removal)
    }

    /// The images that have a label: `key` or `key=value`.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn images(&self, label: &str) -> Result<Vec<ImageSummary>, EngineError> {
        let options = ListImagesOptions { filters: Some(by_label(label)), ..Default::default() };
        let list = self.call("listing images", Purpose::Other, self.docker().list_images(Some(options)))?;
        let image = |image: bollard::models::ImageSummary| ImageSummary {
            id: image.id,
            tags: image.repo_tags,
            labels: image.labels.into_iter().collect(),
            created: image.created,
            size: image.size.try_into().unwrap_or_default(),
        };
        Ok(list.into_iter().map(image).collect())
    }
}

/// Reports a pull or an import until it ends.
async fn follow(
    action: &str,
    stream: impl Stream<Item = BollardResult<CreateImageInfo>>,
    progress: &mut Progress<'_>,
) -> Result<(), EngineError> {
    let mut stream = pin!(stream);
    while let Some(info) = within(action, IMAGE_STALL_LIMIT, stream.next()).await? {
        let info = info.map_err(|error| EngineError::new(action, Purpose::Other, error))?;
        // `Downloading` and `Extracting` come many times a second.
        let is_bar = info.progress_detail.as_ref().is_some_and(|detail| detail.total.is_some());
        if let Some(status) = info.status.filter(|_| !is_bar) {
            progress.line(&pull_line(info.id.as_deref(), &status));
        }
    }
    Ok(())
}

fn pull_line(id: Option<&str>, status: &str) -> String {
    match id {
        Some(id) => format!("{id}: {status}"),
        None => status.to_owned(),
    }
}
