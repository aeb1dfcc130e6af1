//! The secrets of a bottle that can be asked for again while it runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::fd::BorrowedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bot_bottle_core::{
    gateway_config::Secrets,
    plan::BottlePlan,
    policy::Route,
    secret::{SecretOrigin, SecretRef, SecretSource},
};
use bot_bottle_launch::renewal::{Clock, RenewableSecrets, RenewalSource, Renewed, SystemClock, WatchedFile};

use crate::secret_values;

/// Those of a plan's routes that `settings.yml` names a source for; the password of a proxy is read once. To be called
/// before they are read, so that no change of a file is missed.
pub(crate) fn of_settings(plan: &BottlePlan) -> Vec<RenewableSecrets> {
    let renewable = |(name, source): (&SecretRef, &SecretSource)| RenewableSecrets {
        references: vec![name.clone()],
        described: source.origin.to_string(),
        watched: match &source.origin {
            SecretOrigin::File(path) => Some(WatchedFile::new(path.clone())),
            SecretOrigin::Command(_) => None,
        },
        every: source.renew_every.map(|every| every.duration()),
        expires: None,
        source: Arc::new(OfSettings { name: name.clone(), source: source.clone() }),
    };
    let routes = plan.policy.routes.iter();
    let injected: BTreeSet<&SecretRef> =
        routes.filter_map(Route::credential).map(|credential| &credential.token_ref).collect();
    plan.secret_sources.iter().filter(|(name, _)| injected.contains(name)).map(renewable).collect()
}

#[derive(Debug)]
struct OfSettings {
    name: SecretRef,
    source: SecretSource,
}

impl RenewalSource for OfSettings {
    fn ask(&self, cancel: BorrowedFd<'_>) -> Result<Renewed, String> {
        let value =
            secret_values::ask(&self.name, &self.source, Some(cancel)).map_err(|error| error.message)?;
        Ok(Renewed { secrets: Secrets(BTreeMap::from([(self.name.clone(), value)])), ..Renewed::default() })
    }
}

/// The host's clock, or one that a test has moved on.
pub(crate) fn clock(moved: Option<&Path>) -> Arc<dyn Clock> {
    match moved {
        Some(file) => Arc::new(MovedClock(file.to_owned())),
        None => Arc::new(SystemClock),
    }
}

/// A clock that is as many seconds ahead as a file says.
#[derive(Debug)]
struct MovedClock(PathBuf);

impl Clock for MovedClock {
    fn now(&self) -> SystemTime {
        let ahead = fs::read_to_string(&self.0).ok().and_then(|text| text.trim().parse().ok());
        SystemTime::now() + Duration::from_secs(ahead.unwrap_or(0))
    }
}
