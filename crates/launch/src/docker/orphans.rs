//! What an engine has of runs that are gone, for `cleanup`.
//!
//! A run records each object in its folder before it is made, so that its folder is enough as long as it exists. Whoever
//! removes the folder by hand leaves the objects; they have labels by which they are found.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bot_bottle_core::identity::Identity;
use bot_bottle_engine::{Engine, EngineAddress, EngineError, ImageSummary, Labels, RefusalKind};

use crate::{agent_image::IMAGE_LABEL, home::BotBottleHome};

use super::{
    image::GATEWAY_IMAGE,
    names::{HOME_LABEL, RUN_LABEL, home_name},
    object::{EngineObject, ObjectKind},
    work::HOME_IMAGE,
};

/// How old a gateway's image is that is removed: a launch of another program may be about to use a new one. It is made
/// again in a second where it is missed.
const IMAGE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The objects of an engine that belong to no run of this home any more, and old images of gateways. Nothing of a
/// living run is among them, nor of one that left something, nor of another home.
///
/// # Errors
/// When the engine does not answer.
pub fn orphans(address: &EngineAddress, home: &BotBottleHome) -> Result<Vec<EngineObject>, Box<EngineError>> {
    let engine = Engine::connect(address)?;
    let mut objects = Vec::new();
    let mut add = |kind, name: &str| {
        objects.push(EngineObject::new(address, kind, name));
    };
    // Where nothing was ever run there is no folder of state, and no object of its.
    if let Ok(state) = fs::canonicalize(home.state()) {
        let label = format!("{HOME_LABEL}={}", home_name(&state));
        // Before the folders are looked at: an object that is listed has been made by a run that had one.
        let (containers, images) = (engine.containers(&label)?, engine.images(&label)?);
        let (networks, volumes) = (engine.networks(&label)?, engine.volumes(&label)?);
        let is_orphan = |labels: &Labels| {
            let run = labels.get(RUN_LABEL).and_then(|run| run.parse::<Identity>().ok());
            run.is_some_and(|run| !home.run(&run).exists())
        };
        for container in containers.iter().filter(|container| is_orphan(&container.labels)) {
            add(ObjectKind::Container, &container.name);
        }
        let of_homes = images.iter().filter(|image| {
            image.labels.get(IMAGE_LABEL).is_some_and(|kind| kind == HOME_IMAGE) && is_orphan(&image.labels)
        });
        of_homes.flat_map(|image| &image.tags).for_each(|tag| add(ObjectKind::Image, tag));
        for network in networks.iter().filter(|network| is_orphan(&network.labels)) {
            add(ObjectKind::Network, &network.name);
        }
        for volume in volumes.iter().filter(|volume| is_orphan(&volume.labels)) {
            add(ObjectKind::Volume, &volume.name);
        }
    }
    let gateways = engine.images(&format!("{IMAGE_LABEL}={GATEWAY_IMAGE}"))?;
    for image in &gateways {
        let tags: Vec<&String> = image.tags.iter().filter(|tag| !tag.starts_with("<none>")).collect();
        if tags.is_empty() {
            // Two launches have made the same one, and it was named for the second.
            add(ObjectKind::Image, &image.id);
        } else if is_old(image, SystemTime::now()) {
            tags.into_iter().for_each(|tag| add(ObjectKind::Image, tag));
        }
    }
    Ok(objects)
}

/// Removes them. An image that a container has stays.
///
/// # Errors
/// The first that could not be removed; the others are removed all the same.
pub fn remove_orphans(objects: &[EngineObject]) -> Result<(), Box<EngineError>> {
    let mut first = Ok(());
    for object in objects {
        match object.try_remove() {
            Err(error) if object.kind == ObjectKind::Image && error.refusal() == Some(RefusalKind::Busy) => {}
            Err(error) if first.is_ok() => first = Err(Box::new(error)),
            _ => {}
        }
    }
    first
}

fn is_old(image: &ImageSummary, now: SystemTime) -> bool {
    let created = u64::try_from(image.created).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    created.and_then(|created| now.duration_since(created).ok()).is_some_and(|age| age > IMAGE_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_old_after_a_week() {
        let image = |created| ImageSummary {
            id: String::new(),
            tags: Vec::new(),
            labels: Labels::new(),
            created,
            size: 0,
        };
        let day = 24 * 60 * 60;
        let now = UNIX_EPOCH + Duration::from_secs(100 * day);
        let at = |days: u64| image(i64::try_from(days * day).expect("it fits"));
        assert!(is_old(&at(92), now));
        for new in [at(94), at(101), image(-1)] {
            assert!(!is_old(&new, now), "{new:?}");
        }
    }
}
