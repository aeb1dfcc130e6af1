//! Starts the gateway's container.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    gateway_config::{ControlMessage, GatewayConfig, GatewayEvent, GatewayReady, GatewayStart},
    host::Host,
};
use bot_bottle_engine::Engine;
use serde::{Deserialize, Serialize};

use crate::{
    backend::{Gateway, GatewayListeners},
    channel::Channel,
    error::LaunchError,
    gateway_process::GatewayProcess,
    host::facts::system_roots,
    resource::Resources,
    state,
    steps::allocate::Run,
};

use super::{
    image,
    link::{Carries, LinkCommand},
    names::{CERTIFICATES_FOLDER, Names},
    object::{EngineObject, ObjectKind},
    render,
    work::record,
};

/// The first message to a gateway in a container: what is in files for a gateway on the host. The second one is
/// [`bot_bottle_core::gateway_config::GatewayStart`]. Neither is anywhere that the engine shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerGatewayStart {
    /// Its configuration, with the paths of the container.
    pub config: GatewayConfig,
    /// Certificates, PEM, by the paths where the gateway and the configuration expect them.
    pub certificates: BTreeMap<PathBuf, String>,
}

impl ContainerGatewayStart {
    /// From the configuration of a gateway on the host.
    fn new(mut config: GatewayConfig, system_roots: String) -> Result<Self, IoError> {
        let mut certificates = BTreeMap::new();
        certificates.insert(Path::new(CERTIFICATES_FOLDER).join("system.pem"), system_roots);
        for (number, path) in config.upstream.extra_ca.iter_mut().enumerate() {
            let content = fs::read_to_string(&*path).io_context(|| format!("reading {}", path.display()))?;
            *path = Path::new(CERTIFICATES_FOLDER).join(format!("operator-{number}.pem"));
            certificates.insert(path.clone(), content);
        }
        Ok(Self { config, certificates })
    }
}

/// Receives the two messages of a launcher, in the gateway's container.
///
/// # Errors
/// When the launcher is gone, or does not keep to the protocol.
pub fn receive_start(control: &UnixStream) -> io::Result<(ContainerGatewayStart, GatewayStart)> {
    let channel = Channel::new(control.try_clone()?.into());
    let (first, _) = channel.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let (second, _) = channel.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((first, second))
}

/// The loopback addresses that the operator gave to names, and that of the proxy. The gateway's container listens there
/// itself, and the link carries the connections to the same addresses of the host, and to no others.
fn dials(config: &GatewayConfig) -> BTreeSet<SocketAddr> {
    let mut dials = BTreeSet::new();
    if let Some(url) = config.upstream.proxy.as_ref().map(|proxy| &proxy.url)
        && let Host::Address(address) = url.host()
        && address.is_loopback()
    {
        dials.insert(SocketAddr::new(*address, url.port()));
    }
    for fixed in config.upstream.resolve.values().filter(|fixed| fixed.address.is_loopback()) {
        match fixed.port {
            Some(port) => drop(dials.insert(SocketAddr::new(fixed.address, port))),
            None => {
                let ports = config.policy.routes.iter().flat_map(|route| &route.ports);
                dials.extend(ports.map(|port| SocketAddr::new(fixed.address, *port)));
            }
        }
    }
    dials
}

/// Makes the gateway's objects and starts its container.
pub(super) fn start(
    engine: &Engine,
    run: &Run,
    resources: &mut Resources,
) -> Result<ContainerGateway, LaunchError> {
    let names = Names::of(run);
    let image = image::gateway(engine, &run.executable_path)?;
    let text = fs::read(run.gateway_config()).io_context(|| "reading the gateway's configuration")?;
    let config = serde_json::from_slice(&text).map_err(io::Error::from);
    let config = config.io_context(|| "reading the gateway's configuration")?;
    let dials = dials(&config);
    let start = ContainerGatewayStart::new(config, system_roots())?;
    let mut add = |kind, name: &str| record(resources, EngineObject::new(engine.address(), kind, name));
    for volume in [&names.program, &names.hand_over] {
        add(ObjectKind::Volume, volume)?;
        engine.create_volume(volume, &names.labels("gateway"))?;
    }
    add(ObjectKind::Network, &names.network)?;
    engine.create_network(&render::network(&names))?;
    add(ObjectKind::Container, &names.gateway)?;
    engine.create_container(&render::gateway(&names, &image, &dials))?;
    let link = LinkCommand {
        engine: engine.address().clone(),
        container: names.gateway,
        carries: Carries::Bytes,
        receipts: Some((run.path(state::RECEIPTS), start.config.receipts_bytes)),
        dials,
    };
    Ok(ContainerGateway { process: GatewayProcess::start_link(run, &link, resources)?, start })
}

/// The gateway's container, by the process that holds the link to it.
pub(super) struct ContainerGateway {
    process: GatewayProcess,
    start: ContainerGatewayStart,
}

impl Gateway for ContainerGateway {
    fn hand_over(&self, start: GatewayStart, listeners: GatewayListeners) -> io::Result<()> {
        // Not before: it is more than a socket holds, and the container may take a while to start, in which the
        // agent's is made.
        self.process.send(&self.start)?;
        self.process.hand_over(start, listeners)
    }

    fn ready(&mut self) -> Result<GatewayReady, LaunchError> {
        self.process.ready()
    }

    fn tell(&self, message: &ControlMessage) -> io::Result<()> {
        self.process.tell(message)
    }

    fn talk(&self) -> Option<BorrowedFd<'_>> {
        self.process.talk()
    }

    fn events(&mut self) -> Vec<GatewayEvent> {
        self.process.events()
    }

    fn process(&self) -> BorrowedFd<'_> {
        self.process.process()
    }

    fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

/// Makes the volume with this binary for a bottle without a gateway.
pub(super) fn fill_program(engine: &Engine, run: &Run, resources: &mut Resources) -> Result<(), LaunchError> {
    let names = Names::of(run);
    let image = image::gateway(engine, &run.executable_path)?;
    let mut add = |kind, name: &str| record(resources, EngineObject::new(engine.address(), kind, name));
    add(ObjectKind::Volume, &names.program)?;
    engine.create_volume(&names.program, &names.labels("gateway"))?;
    add(ObjectKind::Container, &names.gateway)?;
    engine.create_container(&render::program_filler(&names, &image))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use bot_bottle_core::{gateway_config::FixedAddress, upstream_proxy::UpstreamProxy};

    use super::*;

    #[test]
    fn only_loopback_addresses_that_the_operator_gave_are_carried() {
        let mut config: GatewayConfig = serde_json::from_value(serde_json::json!({
            "name": "a", "policy": {"routes": []}, "receipts": "/receipts"
        }))
        .expect("a configuration");
        let fixed =
            |address: &str, port| FixedAddress { address: address.parse().expect("an address"), port };
        for (name, fixed) in [
            ("here.test", fixed("127.0.0.1", Some(8443))),
            ("there.test", fixed("10.0.0.7", Some(443))),
            ("six.test", fixed("::1", Some(9000))),
        ] {
            config.upstream.resolve.insert(name.parse().expect("a name"), fixed);
        }
        let expected = |addresses: &[&str]| -> BTreeSet<SocketAddr> {
            addresses.iter().map(|text| text.parse().expect("an address")).collect()
        };
        assert_eq!(dials(&config), expected(&["127.0.0.1:8443", "[::1]:9000"]));
        for (proxy, carried) in [
            ("http://localhost:3128", &["127.0.0.1:8443", "[::1]:9000", "127.0.0.1:3128"][..]),
            ("http://10.0.0.7:3128", &["127.0.0.1:8443", "[::1]:9000"]),
            ("http://proxy.test:3128", &["127.0.0.1:8443", "[::1]:9000"]),
        ] {
            let url = proxy.parse().expect("a URL");
            config.upstream.proxy = Some(UpstreamProxy { url, login: None });
            assert_eq!(dials(&config), expected(carried), "{proxy}");
        }
    }
}
