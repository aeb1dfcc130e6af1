//! Where the agent's work is mounted, and how the agent names it.

use std::path::{Component, Path, PathBuf};

use crate::InspectError;

/// The folders of a throw-away bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The agent's workspace.
    pub workspace: PathBuf,
    /// The agent's home, which is mounted elsewhere than this bottle's own.
    pub home: PathBuf,
    /// An empty folder of ours on a disk, for git's objects and index.
    pub scratch: PathBuf,
    /// How the agent names its workspace.
    pub guest_workspace: PathBuf,
    /// How the agent names its home.
    pub guest_home: PathBuf,
}

impl Places {
    /// Whether a path of the agent's is outside its workspace, so that only its home can have it.
    #[must_use]
    pub fn is_outside_workspace(guest_workspace: &Path, path: &str) -> bool {
        !normalised(&guest_workspace.join(path)).starts_with(guest_workspace)
    }

    /// Where a path of the agent's is: an absolute one, or one relative to its workspace. `..` is taken away by
    /// name, as the agent's shell does.
    pub(crate) fn resolve(&self, path: &str) -> Result<PathBuf, InspectError> {
        let named = normalised(&self.guest_workspace.join(path));
        // The workspace may lie in the home, where it is a mount of its own.
        for (guest, place) in [(&self.guest_workspace, &self.workspace), (&self.guest_home, &self.home)] {
            if let Ok(rest) = named.strip_prefix(guest) {
                return Ok(if rest.as_os_str().is_empty() { place.clone() } else { place.join(rest) });
            }
        }
        Err(InspectError::NotKept {
            path: path.to_owned(),
            home: self.guest_home.display().to_string(),
            workspace: self.guest_workspace.display().to_string(),
        })
    }
}

fn normalised(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_as_the_agent_names_them() {
        let places = Places {
            workspace: "/kept/workspace".into(),
            home: "/kept/home".into(),
            scratch: "/scratch".into(),
            guest_workspace: "/home/agent/workspace".into(),
            guest_home: "/home/agent".into(),
        };
        for (path, place) in [
            ("", "/kept/workspace"),
            (".", "/kept/workspace"),
            ("a/b", "/kept/workspace/a/b"),
            ("./a/../b", "/kept/workspace/b"),
            ("../x", "/kept/home/x"),
            ("/home/agent", "/kept/home"),
            ("/home/agent/workspace/", "/kept/workspace"),
            ("/home/agent/workspace2", "/kept/home/workspace2"),
            ("/home/agent/.claude/x", "/kept/home/.claude/x"),
        ] {
            assert_eq!(places.resolve(path).expect(path), Path::new(place), "{path}");
        }
        for (path, outside) in [("", false), ("a/../b", false), ("../x", true), ("/home/agent", true)] {
            let is = Places::is_outside_workspace(&places.guest_workspace, path);
            assert_eq!(is, outside, "{path}");
        }
        for path in ["/etc/passwd", "/home/agentx", "../../..", "/home/agent/../../scratch"] {
            assert!(matches!(places.resolve(path), Err(InspectError::NotKept { .. })), "{path}");
        }
    }
}
