//! Volumes.

use bollard::{
    models::VolumeCreateRequest,
    query_parameters::{ListVolumesOptions, RemoveVolumeOptions},
};
use serde::{Deserialize, Serialize};

use crate::{Engine, EngineError, Labels, RefusalKind, error::Purpose, name};

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// By which it is found.
    pub name: String,
    /// Given when it was made.
    pub labels: Labels,
}

impl Engine {
    /// Makes an empty volume.
    ///
    /// # Errors
    /// `Conflict` when the name is taken. Two callers at once can both succeed, as the engine itself gives the
    /// second one the volume of the first: names have to be unique.
    pub fn create_volume(&self, name: &str, labels: &Labels) -> Result<(), EngineError> {
        let name = name::object(name)?;
        let action = format!("creating the volume {name}");
        match self.call(&action, Purpose::Other, self.docker().inspect_volume(name)) {
            Err(error) if error.refusal() == Some(RefusalKind::NotFound) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let message = format!("there is a volume of the name {name} already");
                return Err(EngineError::Refused { action, kind: RefusalKind::Conflict, message });
            }
        }
        let request = VolumeCreateRequest {
            name: Some(name.to_owned()),
            driver: Some("local".to_owned()),
            labels: Some(labels.clone().into_iter().collect()),
            ..Default::default()
        };
        self.call(&action, Purpose::Create, self.docker().create_volume(request)).map(drop)
    }

    /// Removes a volume. Succeeds if there is none.
    ///
    /// # Errors
    /// `Busy` while a container has it, even one that does not run.
    pub fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let name = name::object(name)?;
        let removal = self.docker().remove_volume(name, None::<RemoveVolumeOptions>);
        self.remove(&format!("removing the volume {name}"), removal)
    }

    /// The volumes that have a label: `key` or `key=value`.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn volumes(&self, label: &str) -> Result<Vec<Volume>, EngineError> {
        let options = ListVolumesOptions { filters: Some(by_label(label)) };
        let list = self.call("listing volumes", Purpose::Other, self.docker().list_volumes(Some(options)))?;
        let volumes = list.volumes.unwrap_or_default().into_iter();
        Ok(volumes
            .map(|volume| Volume { name: volume.name, labels: volume.labels.into_iter().collect() })
            .collect())
    }
}

/// The filter of the engine's lists.
pub(crate) fn by_label(label: &str) -> std::collections::HashMap<String, Vec<String>> {
    [("label".to_owned(), vec![label.to_owned()])].into()
}
