//! What the connections of one gateway share: data alone, no stage of the pipeline.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use bot_bottle_core::{
    decision::Decision,
    gateway_config::{GatewayConfig, GatewayReady, GatewayStart},
    host::{Host, HostPattern},
    policy::{Policy, Route, RouteCredential, RouteTls},
    secret::SecretRef,
};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    certificates::{CertificateAuthority, CertificateError, server_config},
    credential::Credential,
    fake_ip::FakeIpTable,
    in_flight::InFlight,
    limits::{MAX_CONNECTIONS, MAX_REQUESTS},
    questions::Questions,
    receipts::{OpenReceiptsError, Receipts},
    upstream::{ExtraCaError, Proxy, ProxyLoginError, Resolve, Upstream},
};

/// One bottle's gateway: policy, credentials, receipts, certificates, connections to upstreams.
#[derive(Debug)]
pub struct State {
    /// Swapped whole when the policy changes; each request is decided by the one in force when it came.
    pub(crate) policy: ArcSwap<ActivePolicy>,
    pub(crate) receipts: Arc<Receipts>,
    pub(crate) authority: Arc<CertificateAuthority>,
    /// TLS with clients.
    pub(crate) server_config: Arc<ServerConfig>,
    pub(crate) upstream: Upstream,
    pub(crate) fake_ips: FakeIpTable,
    pub(crate) questions: Questions,
    /// Permits for client connections.
    pub(crate) connections: Arc<Semaphore>,
    /// Permits for requests.
    pub(crate) requests: Arc<Semaphore>,
    /// Bytes of bodies on their way.
    pub(crate) in_flight: InFlight,
}

/// A policy together with the credentials that its routes inject.
#[derive(Debug)]
pub(crate) struct ActivePolicy {
    pub(crate) policy: Policy,
    credentials: HashMap<HostPattern, Credential>,
}

/// A gateway that cannot serve.
#[derive(Debug, Error)]
pub enum GatewayError {
    /// A route injects a credential that was not handed over.
    #[error("the route for {host} needs the secret {reference}, and nobody gave it")]
    SecretMissing {
        /// The route's host.
        host: HostPattern,
        /// The secret's name.
        reference: SecretRef,
    },
    /// The value of a secret cannot be sent.
    #[error("the secret {0} is empty, or has a line break or another character that no header can carry")]
    SecretUnusable(SecretRef),
    /// A route asks for what this gateway cannot enforce.
    #[error("the route for {0} says `tls: splice`, which this gateway does not do yet")]
    SpliceUnsupported(HostPattern),
    /// The certificate authority.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// Receipts.
    #[error(transparent)]
    Receipts(#[from] OpenReceiptsError),
    /// Upstream trust.
    #[error(transparent)]
    ExtraCa(#[from] ExtraCaError),
    /// The login at the operator's proxy.
    #[error(transparent)]
    ProxyLogin(#[from] ProxyLoginError),
}

impl State {
    /// Makes a gateway: its certificate authority, its receipts, its way out. Has to be called inside a
    /// runtime.
    ///
    /// # Errors
    /// See [`GatewayError`].
    pub fn new(
        config: &GatewayConfig,
        start: &GatewayStart,
        resolver: Box<dyn Resolve>,
    ) -> Result<Arc<Self>, GatewayError> {
        let receipts = Receipts::open(&config.receipts, config.receipts_bytes.map(|bytes| bytes.0))?;
        Self::with_receipts(config, start, resolver, receipts)
    }

    /// The same with receipts that are open.
    pub(crate) fn with_receipts(
        config: &GatewayConfig,
        start: &GatewayStart,
        resolver: Box<dyn Resolve>,
        receipts: Receipts,
    ) -> Result<Arc<Self>, GatewayError> {
        let policy = ActivePolicy::new(config.policy.clone(), &start.secrets)?;
        let fake_ips = FakeIpTable::default();
        fake_ips.reserve(&policy.policy);
        let proxy = Proxy::new(&config.upstream, &start.secrets)?;
        let upstream = Upstream::new(&config.upstream, proxy, resolver)?;
        let authority = Arc::new(CertificateAuthority::mint(&config.name, SystemTime::now())?);
        let receipts = Arc::new(receipts);
        tokio::spawn(Receipts::write_later(Arc::downgrade(&receipts)));
        Ok(Arc::new(Self {
            policy: ArcSwap::from_pointee(policy),
            receipts,
            server_config: server_config(Arc::clone(&authority))?,
            authority,
            upstream,
            fake_ips,
            questions: Questions::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            in_flight: InFlight::default(),
        }))
    }

    /// Puts another policy in force, for requests from now on. If it cannot be, the one before stays in
    /// force.
    ///
    /// # Errors
    /// As for [`State::new`].
    pub(crate) fn reload(
        &self,
        policy: Policy,
        secrets: &BTreeMap<SecretRef, Zeroizing<String>>,
    ) -> Result<(), GatewayError> {
        let policy = ActivePolicy::new(policy, secrets)?;
        self.fake_ips.reserve(&policy.policy);
        self.policy.store(Arc::new(policy));
        Ok(())
    }

    /// What the one who started the gateway needs to know about it.
    #[must_use]
    pub fn ready(&self) -> GatewayReady {
        GatewayReady {
            ca_certificate: self.authority.certificate_pem().to_owned(),
            ca_fingerprint: self.authority.fingerprint().to_owned(),
        }
    }
}

impl ActivePolicy {
    fn new(policy: Policy, secrets: &BTreeMap<SecretRef, Zeroizing<String>>) -> Result<Self, GatewayError> {
        let mut credentials = HashMap::new();
        for route in &policy.routes {
            if route.tls == RouteTls::Splice {
                return Err(GatewayError::SpliceUnsupported(route.host.clone()));
            }
            let Some(RouteCredential { shape, token_ref }) = route.credential() else { continue };
            let secret = secrets.get(token_ref).ok_or_else(|| GatewayError::SecretMissing {
                host: route.host.clone(),
                reference: token_ref.clone(),
            })?;
            let credential = Credential::new(shape, secret)
                .ok_or_else(|| GatewayError::SecretUnusable(token_ref.clone()))?;
            credentials.insert(route.host.clone(), credential);
        }
        Ok(Self { policy, credentials })
    }

    /// What is injected into a request that was decided like this.
    pub(crate) fn credential(&self, decision: &Decision) -> Option<&Credential> {
        self.credentials.get(decision.route.as_ref()?)
    }

    /// The route to a host, if there is one: whether a request takes it is still to be decided.
    pub(crate) fn route_to(&self, host: &Host) -> Option<&Route> {
        self.policy.decide_name(host.name()?).ok()
    }

    /// The headers that a request which was decided like this may have been allowed for, and the one that its
    /// credential is in.
    pub(crate) fn headers_settled_by(&self, decision: &Decision) -> Vec<String> {
        let route = self.policy.routes.iter().find(|route| Some(&route.host) == decision.route.as_ref());
        let credential =
            route.and_then(Route::credential).and_then(|credential| credential.shape.header_name());
        let decided_on = route.into_iter().flat_map(Route::headers_decided_on);
        decided_on.chain(credential).map(str::to_owned).collect()
    }
}
