//! What the trees of a bundle become when they are checked out: names, links, and how much.

use std::collections::{BTreeSet, HashMap};

use super::{ImportBounds, error::ImportError, object_id::ObjectId, objects::Objects};
use crate::dot_git;

/// Bytes of one tree object: about a million entries.
const MAX_TREE: u64 = 64 << 20;

/// Bytes of the target of a symbolic link, PATH_MAX.
const MAX_LINK: u64 = 4096;

/// One tree, whose content is read once however often it is referred to.
#[derive(Debug, Default)]
struct Tree {
    subtrees: Vec<ObjectId>,
    blobs: Vec<ObjectId>,
    /// Entries that are neither: submodules.
    others: u64,
}

/// What a checkout of a tree makes.
#[derive(Debug, Clone, Copy, Default)]
struct Checkout {
    entries: u64,
    bytes: u64,
    depth: u32,
}

/// Refuses trees with a name or a link that must not be checked out, and those that become too much.
///
/// A tree that names one subtree ten times, which names another one ten times, takes a few hundred bytes and
/// becomes ten to the tenth files. So the trees are a graph here, in which each is read and counted once.
pub(super) fn check(objects: &Objects, bounds: &ImportBounds) -> Result<(), ImportError> {
    let trees = read_all(objects)?;
    let sizes = sizes_of_blobs(objects, &trees)?;
    let mut counted = HashMap::new();
    for root in objects.new.iter().filter(|(_, object)| object.is_tree).map(|(id, _)| *id) {
        count(root, &trees, &sizes, &mut counted, bounds)?;
    }
    Ok(())
}

/// Reads the bundle's trees, and those of the operator that they refer to.
fn read_all(objects: &Objects) -> Result<HashMap<ObjectId, Tree>, ImportError> {
    let mut trees = HashMap::new();
    let mut links = BTreeSet::new();
    let mut wanted: BTreeSet<_> =
        objects.new.iter().filter(|(_, object)| object.is_tree).map(|(id, _)| *id).collect();
    // The first round reads all trees of the bundle, each later one a level of the operator's.
    let mut new = true;
    while !wanted.is_empty() {
        let mut next = BTreeSet::new();
        let ids: Vec<_> = wanted.into_iter().collect();
        objects.read(&ids, MAX_TREE, |id, found| {
            let Some(("tree", content)) = found else {
                return Err(ImportError::Refused(format!("the tree {id} is not there")));
            };
            let tree = parse(id, content, new.then_some(&mut links))?;
            next.extend(tree.subtrees.iter().copied());
            trees.insert(id, tree);
            Ok(())
        })?;
        next.retain(|id| !trees.contains_key(id));
        (wanted, new) = (next, false);
    }
    check_links(objects, links)?;
    Ok(trees)
}

/// Reads a tree object: for each entry the mode in octal digits, a space, the name, NUL, and the id. Where links
/// are collected the tree is the bundle's, and its names are checked.
fn parse(id: ObjectId, content: &[u8], links: Option<&mut BTreeSet<ObjectId>>) -> Result<Tree, ImportError> {
    let malformed = || ImportError::Refused(format!("the tree {id} is malformed"));
    let id_length = id.to_string().len() / 2;
    let (mut tree, mut rest, mut links) = (Tree::default(), content, links);
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let end = rest.iter().position(|byte| *byte == 0).filter(|end| *end > space).ok_or_else(malformed)?;
        let mode =
            std::str::from_utf8(&rest[..space]).ok().and_then(|mode| u32::from_str_radix(mode, 8).ok());
        let name = &rest[space + 1..end];
        let (child, after) = rest[end + 1..].split_at_checked(id_length).ok_or_else(malformed)?;
        let child = ObjectId::from_bytes(child).ok_or_else(malformed)?;
        // Git refuses these names as well. Here they do not depend on its version.
        if links.is_some()
            && (matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || dot_git::is_dot_git(name))
        {
            let name = bot_bottle_core::printable::printable(&String::from_utf8_lossy(name));
            return Err(ImportError::Refused(format!("the tree {id} has an entry named `{name}`")));
        }
        // S_IFMT, inode(7); git's own for a submodule is 0o160000.
        match mode.ok_or_else(malformed)? & 0o170_000 {
            0o040_000 => tree.subtrees.push(child),
            0o160_000 => tree.others += 1,
            kind => {
                if let (0o120_000, Some(links)) = (kind, &mut links) {
                    links.insert(child);
                }
                tree.blobs.push(child);
            }
        }
        rest = after;
    }
    Ok(tree)
}

/// Refuses symbolic links into a `.git`: what is written through them becomes a hook or the configuration.
/// git-annex keeps the content of files in `.git/annex/objects`, and only links to it in the tree.
fn check_links(objects: &Objects, links: BTreeSet<ObjectId>) -> Result<(), ImportError> {
    let links: Vec<_> = links.into_iter().collect();
    objects.read(&links, MAX_LINK, |id, found| {
        // Whether it is missing is found later; a link that is no blob cannot be checked out.
        let Some(("blob", target)) = found else { return Ok(()) };
        let parts: Vec<_> = target.split(|byte| *byte == b'/').collect();
        let into_git = parts.iter().enumerate().any(|(at, part)| {
            let annex = *part == b".git"
                && parts[at + 1..].starts_with(&[b"annex", b"objects"])
                && !parts[at + 1..].contains(&b"..".as_slice());
            dot_git::is_dot_git(part) && !annex
        });
        if into_git {
            let target = bot_bottle_core::printable::printable(&String::from_utf8_lossy(target));
            return Err(ImportError::Refused(format!(
                "the symbolic link {id} leads into a repository: `{target}`"
            )));
        }
        Ok(())
    })
}

/// The size of each blob in bytes; those that are missing are not in the map.
fn sizes_of_blobs(
    objects: &Objects,
    trees: &HashMap<ObjectId, Tree>,
) -> Result<HashMap<ObjectId, u64>, ImportError> {
    let mut sizes = HashMap::new();
    let mut old = BTreeSet::new();
    for id in trees.values().flat_map(|tree| &tree.blobs) {
        match objects.new.get(id) {
            Some(object) => _ = sizes.insert(*id, object.size),
            None => _ = old.insert(*id),
        }
    }
    let old: Vec<_> = old.into_iter().collect();
    objects.describe(&old, |id, found| {
        if let Some((_, size)) = found {
            sizes.insert(id, size);
        }
        Ok(())
    })?;
    Ok(sizes)
}

/// Counts what a checkout of the tree makes. Without recursion, because the depth is the bundle's to choose.
fn count(
    root: ObjectId,
    trees: &HashMap<ObjectId, Tree>,
    sizes: &HashMap<ObjectId, u64>,
    counted: &mut HashMap<ObjectId, Checkout>,
    bounds: &ImportBounds,
) -> Result<(), ImportError> {
    let mut path = vec![(root, 0)];
    while let Some((id, next)) = path.last_mut() {
        let Some(tree) = trees.get(id).filter(|_| !counted.contains_key(id)) else {
            path.pop();
            continue;
        };
        if let Some(subtree) = tree.subtrees.get(*next) {
            *next += 1;
            let subtree = *subtree;
            path.push((subtree, 0));
            if path.len() > bounds.checkout_depth as usize {
                return Err(too_deep(bounds));
            }
            continue;
        }
        let mut sum = Checkout { depth: 1, ..Checkout::default() };
        sum.entries = tree.others.saturating_add(tree.blobs.len() as u64);
        for blob in &tree.blobs {
            sum.bytes = sum.bytes.saturating_add(sizes.get(blob).copied().unwrap_or(0));
        }
        for subtree in tree.subtrees.iter().filter_map(|subtree| counted.get(subtree)) {
            sum.entries = sum.entries.saturating_add(subtree.entries).saturating_add(1);
            sum.bytes = sum.bytes.saturating_add(subtree.bytes);
            sum.depth = sum.depth.max(subtree.depth.saturating_add(1));
        }
        if sum.entries > bounds.checkout_entries {
            return Err(ImportError::too_large("files when it is checked out", bounds.checkout_entries));
        }
        if sum.bytes > bounds.checkout_bytes {
            return Err(ImportError::too_large("bytes when it is checked out", bounds.checkout_bytes));
        }
        if sum.depth > bounds.checkout_depth {
            return Err(too_deep(bounds));
        }
        counted.insert(*id, sum);
        path.pop();
    }
    Ok(())
}

fn too_deep(bounds: &ImportBounds) -> ImportError {
    ImportError::too_large("folders inside each other", bounds.checkout_depth.into())
}
