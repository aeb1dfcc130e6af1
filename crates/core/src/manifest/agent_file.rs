//! `agents/<name>.md`.

use crate::bottle::{Agent, GitUser, Origin, Provenance};

use super::{
    bottle_file,
    diagnostic::{At, Problem},
    git_file,
    reader::{Keys, Reader},
    yaml::Node,
};

/// The content of an agent file.
#[derive(Debug)]
pub(super) struct AgentFile {
    pub(super) agent: Agent,
    /// Where each of the agent's bottles is named.
    pub(super) bottles: Vec<(String, At)>,
}

const BELONGS_TO_BOTTLE: &str = "this key belongs into a bottle: an agent may come from a cloned repository, and must not choose what it reaches";
const IN_BOTTLE: &str = "write it in ~/.bot-bottle/bottles/<name>.md, and name that bottle with `bottle`";

const KEYS: Keys = Keys {
    accepted: &["bottle", "skills", "git"],
    // The last six are keys of Claude Code's sub-agent files, so that one file can serve as both.
    also: &["git-gate", "name", "description", "model", "color", "memory", "tools"],
    retired: &[
        ("extends", BELONGS_TO_BOTTLE, "write `bottle: [first, second]`: a list is merged like `extends`"),
        ("bottles", "an agent has no key `bottles`", "write `bottle: [first, second]`"),
        ("backend", BELONGS_TO_BOTTLE, IN_BOTTLE),
        ("agent_provider", BELONGS_TO_BOTTLE, IN_BOTTLE),
        ("env", BELONGS_TO_BOTTLE, IN_BOTTLE),
        ("egress", BELONGS_TO_BOTTLE, IN_BOTTLE),
        ("supervise", BELONGS_TO_BOTTLE, IN_BOTTLE),
        ("limits", BELONGS_TO_BOTTLE, IN_BOTTLE),
    ],
};

const NO_REMOTES: &str =
    "`git.remotes` is for bottles alone: remotes carry credentials and say which hosts are trusted";

const GIT_KEYS: Keys = Keys {
    accepted: &["user"],
    also: &[],
    retired: &[("remotes", NO_REMOTES, IN_BOTTLE), ("repos", NO_REMOTES, IN_BOTTLE)],
};

pub(super) fn read(reader: &mut Reader, root: &Node, name: &str, body: &str) -> AgentFile {
    let mut agent = Agent { name: name.to_owned(), prompt: body.trim().to_owned(), ..Agent::default() };
    let Some(table) = reader.table(root, "an agent", &KEYS) else {
        return AgentFile { agent, bottles: Vec::new() };
    };
    let bottles = table
        .get("bottle")
        .map(|node| bottle_file::name_or_names(reader, node, "bottle"))
        .unwrap_or_default();
    agent.bottles = bottles.iter().map(|(name, _)| name.clone()).collect();
    if let Some(node) = table.get("skills").filter(|node| !node.is_null()) {
        agent.skills = read_skills(reader, node);
    }
    let git = reader.either(&table, "git", "git-gate");
    if let Some(git) = reader.optional_table(git, "`git` of an agent", &GIT_KEYS) {
        let user = git_file::read_user(reader, git.get("user"));
        let from_agent = |value| Provenance { value, from: Origin::Agent };
        agent.git_user = GitUser { name: user.name.map(from_agent), email: user.email.map(from_agent) };
    }
    if agent.prompt.contains('\0') {
        let message = "the prompt below the frontmatter contains a NUL character";
        reader.report(Problem::at(root.span, message).hint("take it out: no program can be given one"));
    }
    AgentFile { agent, bottles }
}

fn read_skills(reader: &mut Reader, node: &Node) -> Vec<String> {
    let items = reader.list(node, "skills").unwrap_or_default();
    let mut skills = Vec::new();
    for item in items {
        if let Some(skill) = bottle_file::name(reader, item, "skills")
            && !skills.contains(&skill)
        {
            skills.push(skill);
        }
    }
    skills
}
