//! What the operator adds to a provider's own routes: a newer version of the program may need more.

use serde::{Deserialize, Serialize};

use crate::{
    host::{HostName, HostPattern},
    policy::{RequestMatch, Route},
};

use super::{ProviderError, route};

/// An entry of `agent_provider.extra_routes`: `HOST/PATH`, or `HOST`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraRoute {
    /// A host of the provider's, or another one.
    pub host: HostName,
    /// What may be asked of it, with any method: this path and what lies below it. `None`: everything.
    pub path: Option<String>,
}

/// Adds these to the routes of a provider. On a host of its own the credential goes along; on another one there is none.
///
/// # Errors
/// When all of a host would be opened that gets the credential: there a path has to be named.
pub fn widen(routes: &mut Vec<Route>, provider: &str, extra: &[ExtraRoute]) -> Result<(), ProviderError> {
    for ExtraRoute { host, path } in extra {
        let pattern = HostPattern::Exact(host.clone());
        let matches: Vec<RequestMatch> =
            path.iter().map(|path| route::allow(&[], &[], &[path.as_str()])).collect();
        match routes.iter_mut().find(|route| route.host == pattern) {
            Some(own) if path.is_none() && own.auth.is_some() => {
                return Err(ProviderError::Setting {
                    key: "agent_provider.extra_routes",
                    problem: format!(
                        "all of {host} would be opened, where {provider}'s credential is injected"
                    ),
                    hint: format!("write the path that is needed: `{host}/v1/…`"),
                });
            }
            Some(own) if path.is_none() => own.matches.clear(),
            // One without conditions allows everything already.
            Some(own) if own.matches.is_empty() => {}
            Some(own) => own.matches.extend(matches),
            None => routes.push(route::extra(provider, host.clone(), matches)),
        }
    }
    Ok(())
}
