//! Networks.

use bollard::{models::NetworkCreateRequest, query_parameters::ListNetworksOptions};
use serde::{Deserialize, Serialize};

use crate::{Engine, EngineError, Labels, RefusalKind, error::Purpose, name, volume::by_label};

/// A network to be made with the driver `bridge`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// By which it is found.
    pub name: String,
    /// By which its owner finds it.
    pub labels: Labels,
    /// Whether nothing is forwarded out of it. The host's own address on the bridge stays reachable.
    pub internal: bool,
    /// Options of the driver, such as `com.docker.network.bridge.enable_icc`.
    pub options: Labels,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Given by the engine.
    pub id: String,
    /// By which it is found.
    pub name: String,
    /// Given when it was made.
    pub labels: Labels,
}

impl Engine {
    /// Makes a network. Returns its id.
    ///
    /// # Errors
    /// `Conflict` when the name is taken. Two callers at once can both succeed, as engines before API 1.44 allow
    /// two networks of one name: names have to be unique.
    pub fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        let name = name::object(&spec.name)?;
        let action = format!("creating the network {name}");
        let named =
            ListNetworksOptions { filters: Some([("name".to_owned(), vec![name.to_owned()])].into()) };
        let list = self.call(&action, Purpose::Other, self.docker().list_networks(Some(named)))?;
        // The filter finds names that contain the text.
        if list.iter().any(|network| network.name.as_deref() == Some(name)) {
            let message = format!("there is a network of the name {name} already");
            return Err(EngineError::Refused { action, kind: RefusalKind::Conflict, message });
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            internal: Some(spec.internal),
            options: Some(spec.options.clone().into_iter().collect()),
            labels: Some(spec.labels.clone().into_iter().collect()),
            ..Default::default()
        };
        Ok(self.call(&action, Purpose::Create, self.docker().create_network(request))?.id)
    }

    /// Removes a network by name or id. Succeeds if there is none.
    ///
    /// # Errors
    /// `Busy` while a running container is in it.
    pub fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let name = name::object(name)?;
        self.remove(&format!("removing the network {name}"), self.docker().remove_network(name))
    }

    /// The networks that have a label: `key` or `key=value`.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub fn networks(&self, label: &str) -> Result<Vec<Network>, EngineError> {
        let options = ListNetworksOptions { filters: Some(by_label(label)) };
        let list =
            self.call("listing networks", Purpose::Other, self.docker().list_networks(Some(options)))?;
        let network = |network: bollard::models::Network| Network {
            id: network.id.unwrap_or_default(),
            name: network.name.unwrap_or_default(),
            labels: network.labels.unwrap_or_default().into_iter().collect(),
        };
        Ok(list.into_iter().map(network).collect())
    }
}
