//! Where the image of an agent's container comes from.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::bottle::{BackendName, ProviderSettings};

/// Where the image of an agent's container comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// The image of this reference. It is pulled if the engine does not have it.
    Reference(String),
    /// Built from this Dockerfile of the operator's, an absolute path. The context is its folder.
    Dockerfile(PathBuf),
    /// Built from the Dockerfile that the provider of this name brings along.
    Provider(String),
}

impl ImageSource {
    /// What `agent_provider` says, else the provider's own; `None` where the backend has no images, or neither is
    /// there.
    #[must_use]
    pub fn choose(backend: BackendName, settings: &ProviderSettings, provider: Option<&str>) -> Option<Self> {
        let written = || settings.image.clone().map(Self::Reference);
        let built = || settings.dockerfile.clone().map(Self::Dockerfile);
        let own = || provider.map(|name| Self::Provider(name.to_owned()));
        backend.has_images().then(|| written().or_else(built).or_else(own)).flatten()
    }
}

impl fmt::Display for ImageSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reference(reference) => write!(formatter, "{reference}"),
            Self::Dockerfile(path) => write!(formatter, "built from {}", path.display()),
            Self::Provider(name) => write!(formatter, "built from the Dockerfile of {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bottle_says_comes_before_the_providers_own() {
        let settings = |image: Option<&str>, dockerfile: Option<&str>| ProviderSettings {
            image: image.map(str::to_owned),
            dockerfile: dockerfile.map(PathBuf::from),
            ..ProviderSettings::default()
        };
        let choose = |settings: &ProviderSettings, provider| {
            ImageSource::choose(BackendName::Docker, settings, provider)
        };
        let named = settings(Some("debian:12"), None);
        assert_eq!(choose(&named, Some("claude")), Some(ImageSource::Reference("debian:12".to_owned())));
        let built = settings(None, Some("/b/Dockerfile"));
        assert_eq!(choose(&built, Some("claude")), Some(ImageSource::Dockerfile("/b/Dockerfile".into())));
        let silent = settings(None, None);
        assert_eq!(choose(&silent, Some("claude")), Some(ImageSource::Provider("claude".to_owned())));
        assert_eq!(choose(&silent, None), None);
        assert_eq!(ImageSource::choose(BackendName::Native, &named, Some("claude")), None);
    }
}
