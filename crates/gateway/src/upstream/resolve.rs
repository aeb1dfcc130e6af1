//! Names to addresses, asked for by the gateway itself and only after the policy said yes.

use std::{fmt, future::Future, net::IpAddr, pin::Pin};

use bot_bottle_core::host::HostName;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use thiserror::Error;
use tokio::sync::OnceCell;

use crate::limits::RESOLVER_CACHE;

/// The addresses of a name, or why there are none.
pub type Resolution<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'a>>;

/// What knows the addresses of names.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// Every address of the name.
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolution<'a>;
}

/// A name has no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// It does not exist, or has no address.
    #[error("the name has no address")]
    NotFound,
    /// Nobody who would know answered.
    #[error("the name could not be looked up: {0}")]
    Unanswered(String),
}

/// Asks the system's name servers (`/etc/resolv.conf`), which are read at the first question.
#[derive(Debug, Default)]
pub struct SystemResolver {
    resolver: OnceCell<SystemLookup>,
}

struct SystemLookup(TokioResolver);

impl fmt::Debug for SystemLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemLookup")
    }
}

impl SystemResolver {
    async fn lookup(&self) -> Result<&TokioResolver, ResolveError> {
        let unanswered = |error: hickory_resolver::net::NetError| ResolveError::Unanswered(error.to_string());
        let lookup = self
            .resolver
            .get_or_try_init(|| async {
                let mut builder = TokioResolver::builder_tokio().map_err(unanswered)?;
                let options = builder.options_mut();
                options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
                options.cache_size = RESOLVER_CACHE;
                builder.build().map(SystemLookup).map_err(unanswered)
            })
            .await?;
        Ok(&lookup.0)
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a HostName) -> Resolution<'a> {
        Box::pin(async move {
            // The final dot: the name is meant as it is, and no search domain is tried after it.
            let absolute = format!("{name}.");
            match self.lookup().await?.lookup_ip(absolute).await {
                Ok(found) => Ok(found.iter().collect()),
                Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                    Err(ResolveError::NotFound)
                }
                Err(error) => Err(ResolveError::Unanswered(error.to_string())),
            }
        })
    }
}
