//! Writes what lies in the bottle's home and workspace.

use std::path::{Path, PathBuf};

use bot_bottle_core::{
    error::IoContext,
    plan::{BottlePlan, WorkspaceGit},
};

use crate::{
    agent_folder::AgentFolder,
    error::LaunchError,
    files::{
        copy::{Copied, CopiedGit, CopyLimit, NotCopied, copy_tree, copy_workspace},
        exclusions::Exclusions,
        git_metadata,
        rooted_dir::RootedDir,
    },
    request::{Beginning, LaunchEvent},
};

use super::allocate::Run;

/// Makes home and workspace as the plan says: folders, files, skills, and the copy of the operator's folder.
/// Of a run that goes on, only the plan's files are written, over what is there.
/// Gives what the copy leaves out, and the lines about it that the plan's notes do not have, because the folder
/// changed since.
pub(crate) fn write(
    plan: &BottlePlan,
    run: &Run,
    beginning: Beginning,
    on_event: &mut dyn FnMut(LaunchEvent),
) -> Result<NotCopied, LaunchError> {
    let owner = run.user.owner();
    let opening = || format!("opening the agent's folders in {}", run.directory.display());
    let folders = AgentFolder::of(&run.directory).open_existing().io_context(opening)?;
    let home = RootedDir::from_open(folders.home, owner);
    let workspace = RootedDir::from_open(folders.workspace, owner);
    let separate = plan.guest.workspace != plan.guest.home;
    let resolve = |path: &Path| -> Result<(&RootedDir, PathBuf), LaunchError> {
        if separate && let Ok(relative) = path.strip_prefix(&plan.guest.workspace) {
            return Ok((&workspace, relative.to_owned()));
        }
        let outside = || LaunchError::OutsideHome { path: path.to_owned(), home: plan.guest.home.clone() };
        Ok((&home, path.strip_prefix(&plan.guest.home).map_err(|_| outside())?.to_owned()))
    };
    if beginning == Beginning::Resumed {
        for file in &plan.files {
            let (folder, relative) = resolve(&file.path)?;
            let written = folder.replace(&relative, file.content.as_bytes(), file.mode);
            written.io_context(|| format!("writing {}", file.path.display()))?;
        }
        return Ok(NotCopied::default());
    }
    let limit = CopyLimit { bytes: plan.limits.disk.map_or(u64::MAX, |bytes| bytes.0) };
    for path in &plan.directories {
        let (folder, relative) = resolve(path)?;
        folder.directory(&relative).io_context(|| format!("making {}", path.display()))?;
    }
    for file in &plan.files {
        let (folder, relative) = resolve(&file.path)?;
        let written = folder.file(&relative, file.content.as_bytes(), file.mode);
        written.io_context(|| format!("writing {}", file.path.display()))?;
    }
    for copy in &plan.copies {
        let (folder, relative) = resolve(&copy.target)?;
        let target =
            folder.directory(&relative).io_context(|| format!("making {}", copy.target.display()))?;
        copy_tree(&copy.source, target, owner, limit)
            .map_err(|source| LaunchError::Copy { folder: copy.source.clone(), source })?;
    }
    if let Some(folder) = &plan.workspace {
        let root = if separate { &workspace } else { &home };
        let target = root.directory(Path::new("")).io_context(|| "opening the workspace")?;
        let git = match plan.workspace_git {
            WorkspaceGit::Copied => CopiedGit::Repository(git_metadata::find(folder, &run.operator_home)?),
            WorkspaceGit::LeftOut => CopiedGit::LeftOut,
        };
        let exclusions = Exclusions::read(folder, &plan.workspace_exclude)?;
        let mut progress = |copied: &Copied| {
            on_event(LaunchEvent::Copying { entries: copied.entries, bytes: copied.bytes });
        };
        let mut not_copied = copy_workspace(folder, target, owner, limit, &git, &exclusions, &mut progress)
            .map_err(|source| LaunchError::Copy { folder: folder.clone(), source })?;
        not_copied.lines.retain(|line| !plan.notes.contains(line));
        return Ok(not_copied);
    }
    Ok(NotCopied::default())
}
