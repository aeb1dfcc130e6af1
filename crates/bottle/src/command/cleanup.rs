//! `cleanup`: removes the remains of dead runs.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use bot_bottle_core::{
    error::{Hint, IoContext},
    identity::Identity,
    limits::ByteSize,
};
use bot_bottle_launch::{
    cleanup::{self, Leftover},
    docker::{EngineObject, orphans, remove_orphans},
    home::BotBottleHome,
    kept::FetchState,
    smolmachines::{self, MachineOrphan},
};
use serde::Serialize;

use super::{prepare, quarantine};
use crate::{arguments::Cleanup, exit::CommandError, system, ui::Ui};

/// Shows the remains, asks once, and removes them. Work that exists nowhere else stays without `--force`.
pub(super) fn run(options: &Cleanup, ui: &Ui) -> Result<ExitCode, CommandError> {
    let home = prepare::home()?;
    if !options.dry_run {
        quarantine::remove_abandoned(&home)?;
    }
    let all = cleanup::plan(&home).io_context(|| format!("{} cannot be read", home.state().display()))?;
    let mut chosen = choose(all, &options.runs)?;
    if let Some(age) = options.older_than {
        chosen.retain(|leftover| age_of(leftover).is_some_and(|old| old >= age.duration()));
    }
    let (removable, newer): (Vec<Leftover>, Vec<Leftover>) =
        chosen.into_iter().partition(Leftover::is_removable);
    for leftover in &newer {
        ui.warn(&format!("not removed: {}", described(leftover)));
        leftover.hint().iter().for_each(|hint| ui.hint(hint));
    }
    let (removable, with_work): (Vec<Leftover>, Vec<Leftover>) =
        removable.into_iter().partition(|leftover| options.force || !leftover.is_only_copy());
    if !with_work.is_empty() {
        let lines: Vec<_> = with_work.iter().map(described).collect();
        ui.warn(&format!("kept, with an agent's work that is nowhere else:\n{}", lines.join("\n")));
        ui.hint(
            "`bot-bottle pull ID` fetches it; `bot-bottle cleanup --force ID` removes a run with its work",
        );
    }
    if !options.dry_run {
        for error in with_work.iter().filter_map(|leftover| leftover.stop_machine().err()) {
            ui.warn(&format!("its machine may run on: {error}"));
            error.hint().iter().for_each(|hint| ui.hint(hint));
        }
    }
    let objects = objects(options, &home, &removable, &with_work, ui);
    let is_all_removable = newer.is_empty() && (options.runs.is_empty() || with_work.is_empty());
    let code = if is_all_removable { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let machines = machine_orphans(options, &home, ui);
    let lines: Vec<String> = (removable.iter().map(described))
        .chain(objects.iter().map(ToString::to_string))
        .chain(machines.iter().map(ToString::to_string))
        .collect();
    let lines = lines.join("\n");
    let plan: Vec<Removable<'_>> = (removable.iter().map(Removable::Run))
        .chain(objects.iter().map(Removable::Object))
        .chain(machines.iter().map(Removable::Machine))
        .collect();
    if plan.is_empty() {
        ui.result(&plan, |_| match newer.len() + with_work.len() {
            0 => "nothing is left of any bottle".to_owned(),
            _ => "there is nothing else to remove".to_owned(),
        });
        return Ok(code);
    }
    if options.dry_run {
        ui.result(&plan, |_| lines);
        return Ok(ExitCode::SUCCESS);
    }
    if !options.yes {
        ui.progress(&lines);
        if !ui.confirm("Remove all of the above?")? {
            return Err(CommandError::failed("nothing was removed"));
        }
    }
    let objects_removed = remove_orphans(&objects);
    let machines_removed = smolmachines::remove_orphans(&machines);
    cleanup::apply(&home, &removable).io_context(|| "not everything could be removed").map_err(|error| {
        CommandError::from_error(error)
            .with_hint("run `bot-bottle cleanup` again, as the user that owns what is left")
    })?;
    objects_removed.map_err(|error| CommandError::from_error(*error))?;
    machines_removed.map_err(CommandError::from_error)?;
    ui.result(&plan, |_| format!("removed:\n{lines}"));
    Ok(code)
}

/// What is removed: an entry of the plan.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Removable<'a> {
    /// What is left of a run.
    Run(&'a Leftover),
    /// An object of a container engine.
    Object(&'a EngineObject),
    /// A machine, or the copy of an image.
    Machine(&'a MachineOrphan),
}

/// What smolvm has that no run needs.
fn machine_orphans(options: &Cleanup, home: &BotBottleHome, ui: &Ui) -> Vec<MachineOrphan> {
    if !options.runs.is_empty() || options.older_than.is_some() {
        return Vec::new();
    }
    smolmachines::orphans(system::smolvm().ok(), home).unwrap_or_else(|error| {
        ui.warn(&format!("what smolvm may have of bottles stays: {error}"));
        error.hint().iter().for_each(|hint| ui.hint(hint));
        Vec::new()
    })
}

/// Objects of container engines that no run needs: those beside the work of runs that stay, and those of runs that
/// are gone. An engine that does not answer is named where there is reason to think that it has any.
fn objects(
    options: &Cleanup,
    home: &BotBottleHome,
    removable: &[Leftover],
    with_work: &[Leftover],
    ui: &Ui,
) -> Vec<EngineObject> {
    let mut found: Vec<EngineObject> = with_work.iter().flat_map(Leftover::objects).collect();
    let named = system::variable("DOCKER_HOST").is_some();
    let is_used =
        named || !found.is_empty() || removable.iter().any(|leftover| !leftover.objects().is_empty());
    if !options.runs.is_empty() || options.older_than.is_some() {
        return found;
    }
    // An address that this version cannot use has no object of ours.
    let Ok(address) = system::engine_address() else { return found };
    match orphans(&address, home) {
        Ok(orphans) => found.extend(orphans),
        Err(error) if is_used => {
            ui.warn(&format!("what it may have of bottles stays: {error}"));
            error.hint().iter().for_each(|hint| ui.hint(hint));
        }
        Err(_) => {}
    }
    found
}

/// The runs that were named, or all.
fn choose(all: Vec<Leftover>, named: &[Identity]) -> Result<Vec<Leftover>, CommandError> {
    if named.is_empty() {
        return Ok(all);
    }
    let is_there = |run: &&Identity| all.iter().any(|leftover| leftover.identity.as_ref() == Some(run));
    if let Some(missing) = named.iter().find(|run| !is_there(run)) {
        return Err(CommandError::failed(format!("no ended run is called {missing}")).with_hint(
            "`bot-bottle cleanup --dry-run` shows the ended runs, `bot-bottle list active` the others",
        ));
    }
    let is_named = |leftover: &Leftover| leftover.identity.as_ref().is_some_and(|run| named.contains(run));
    Ok(all.into_iter().filter(is_named).collect())
}

/// One line about a run: where it is, how old, and how much work lies in it.
fn described(leftover: &Leftover) -> String {
    let work = match (leftover.has_work, leftover.work_size()) {
        (false, _) => None,
        (true, Some(size)) => Some(format!("{} of work", rounded(size))),
        (true, None) => Some("work that cannot be measured".to_owned()),
    };
    let fetched = leftover.has_work.then(|| fetched(leftover.fetched).to_owned());
    let facts: Vec<_> =
        [age_of(leftover).map(ago), work, fetched, leftover.note()].into_iter().flatten().collect();
    format!("{} ({})", leftover.folder.display(), facts.join(", "))
}

/// How long nothing was written into the folder of a run.
fn age_of(leftover: &Leftover) -> Option<Duration> {
    SystemTime::now().duration_since(leftover.last_written?).ok()
}

/// Whether work was fetched, in words.
pub(super) fn fetched(state: FetchState) -> &'static str {
    match state {
        FetchState::Never => "never fetched",
        FetchState::WhileRunning => "fetched before it ended",
        FetchState::InPart => "fetched in part",
        FetchState::Fetched => "fetched",
    }
}

/// To whole MiB, or KiB where it is less than ten of them.
pub(super) fn rounded(size: ByteSize) -> ByteSize {
    let unit: u64 = if size.0 < 10 << 20 { 1 << 10 } else { 1 << 20 };
    ByteSize(size.0.div_ceil(unit) * unit)
}

/// A time that has passed, in the largest unit that it has.
pub(super) fn ago(passed: Duration) -> String {
    let seconds = passed.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    match units.into_iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => {
            let count = seconds / length;
            format!("{count} {unit}{} old", if count == 1 { "" } else { "s" })
        }
        None => "new".to_owned(),
    }
}
