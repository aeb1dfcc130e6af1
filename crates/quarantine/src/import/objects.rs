//! The bundle's objects in a bare repository of ours, beside those of the operator.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{BufRead, Read},
    path::{Path, PathBuf},
};

use super::{
    ImportBounds,
    error::ImportError,
    git::{Git, Input},
    header::Header,
    object_id::ObjectId,
    operator::Operator,
};

/// Messages of git-fsck(1) that are no reason to refuse. Every other warning and error is one, as it is where
/// `transfer.fsckObjects` is set: `hasDotgit` and its like, `gitmodules…`, and what later versions of git add.
///
/// Honest history has these, from old or foreign programs, and git reads them without harm.
const HARMLESS: [&str; 10] = [
    // GitHub's early web editor, and old versions of other implementations.
    "zeroPaddedFilemode",
    // Imports from other version control systems.
    "badTimezone",
    "badDate",
    "badDateOverflow",
    "zeroPaddedDate",
    "missingEmail",
    "missingNameBeforeEmail",
    "missingSpaceBeforeEmail",
    "missingSpaceBeforeDate",
    "badEmail",
];

/// Messages that git only mentions. With this one, git before 2.32 followed a link out of the repository.
const HARMFUL: [&str; 1] = ["gitattributesSymlink"];

/// The bytes of one line of an answer of `git cat-file`.
const MAX_LINE: u64 = 1000;

/// An object of the bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Object {
    pub(super) is_tree: bool,
    /// In bytes, when inflated.
    pub(super) size: u64,
}

/// The repository of ours.
#[derive(Debug)]
pub(super) struct Objects {
    /// Sees the bundle's objects and those of the operator.
    git: Git,
    bounds: ImportBounds,
    pack: Option<PathBuf>,
    /// The objects of the bundle's pack, and the bases that git has added to it.
    pub(super) new: HashMap<ObjectId, Object>,
    /// For rev-list(1): all that the operator has.
    known: Vec<u8>,
}

impl Objects {
    /// Makes the repository and reads the pack into it. Git checks every object.
    pub(super) fn receive(
        git_dir: &Path,
        operator: &Operator,
        header: &Header,
        pack: File,
        bounds: &ImportBounds,
    ) -> Result<Self, ImportError> {
        let alone = Git::ours(git_dir, bounds);
        let format = format!("--object-format={}", header.object_format);
        let (_, ended) =
            alone.output(&["init", "--bare", "--quiet", "--template=", &format], Input::Nothing, MAX_LINE)?;
        ended.expect_success("init")?;
        if operator.shallow {
            // So that git knows where the history of a shallow clone ends.
            fs::copy(&operator.shallow_file, git_dir.join("shallow")).map_err(|error| {
                ImportError::io(format!("reading {}", operator.shallow_file.display()), error)
            })?;
        }
        let git = alone.with_alternate(&operator.objects);
        let mut objects = Self {
            git,
            bounds: bounds.clone(),
            pack: None,
            new: HashMap::new(),
            known: operator.everything_but()?,
        };
        objects.expect_prerequisites(header, operator.shallow)?;
        if header.objects > 0 {
            objects.index(pack)?;
            objects.pack = Some(only_pack(&git_dir.join("objects/pack"))?);
            objects.new = list(&alone, bounds)?;
        }
        Ok(objects)
    }

    /// The bundle's pack, completed by the objects of the operator that it has differences to; `None` if it
    /// has no objects.
    pub(super) fn pack(&self) -> Option<&Path> {
        self.pack.as_deref()
    }

    fn index(&self, pack: File) -> Result<(), ImportError> {
        let with = |severity| move |id: &&str| format!("{id}={severity}");
        let severities: Vec<_> =
            HARMLESS.iter().map(with("ignore")).chain(HARMFUL.iter().map(with("error"))).collect();
        let strict = format!("--strict={}", severities.join(","));
        // `--strict` also refuses objects that refer to others which are neither here nor at the operator's.
        let (_, ended) = self.git.output(
            &["index-pack", "--stdin", "--fix-thin", &strict],
            Input::File(pack),
            self.bounds.objects.saturating_mul(100),
        )?;
        ended.expect_accepted(&self.bounds)
    }

    fn expect_prerequisites(&self, header: &Header, shallow: bool) -> Result<(), ImportError> {
        let mut missing = Vec::new();
        self.describe(&header.prerequisites, |id, found| {
            if found.is_none_or(|(kind, _)| kind != "commit") {
                missing.push(id);
            }
            Ok(())
        })?;
        match missing.first() {
            None => Ok(()),
            Some(example) => {
                Err(ImportError::MissingCommits { count: missing.len(), example: *example, shallow })
            }
        }
    }

    /// Tells the type and size of objects, in their order; nothing for those that are missing.
    pub(super) fn describe(
        &self,
        ids: &[ObjectId],
        mut each: impl FnMut(ObjectId, Option<(&str, u64)>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let (_, ended) =
            self.git.stream(&["cat-file", "--batch-check"], Input::Text(lines(ids)), |stdout| {
                ids.iter().try_for_each(|id| match read_line(stdout)? {
                    Some(line) => each(*id, described(&line).map(|(_, kind, size)| (kind, size))),
                    None => Err(cat_file_ended()),
                })
            })?;
        ended.expect_success("cat-file")
    }

    /// Hands over the content of objects, in their order; nothing for those that are missing.
    pub(super) fn read(
        &self,
        ids: &[ObjectId],
        max: u64,
        mut each: impl FnMut(ObjectId, Option<(&str, &[u8])>) -> Result<(), ImportError>,
    ) -> Result<(), ImportError> {
        let (_, ended) = self.git.stream(&["cat-file", "--batch"], Input::Text(lines(ids)), |stdout| {
            let mut content = Vec::new();
            ids.iter().try_for_each(|id| {
                let line = read_line(stdout)?.ok_or_else(cat_file_ended)?;
                let Some((_, kind, size)) = described(&line) else { return each(*id, None) };
                if size > max {
                    return Err(ImportError::too_large("bytes in one folder or link", max));
                }
                content.clear();
                let read = stdout.take(size + 1).read_to_end(&mut content);
                read.map_err(|error| ImportError::io("reading from git", error))?;
                if content.pop() != Some(b'\n') || content.len() as u64 != size {
                    return Err(cat_file_ended());
                }
                each(*id, Some((kind, &content)))
            })
        })?;
        ended.expect_success("cat-file")
    }

    /// Refuses branches that point to something else than a commit. A tag may point to anything.
    pub(super) fn expect_types(&self, header: &Header) -> Result<(), ImportError> {
        let tips: Vec<_> = header.refs.iter().map(|(_, id)| *id).collect();
        let mut names = header.refs.iter().map(|(name, _)| name);
        self.describe(&tips, |_, found| {
            let name = names.next().map_or("", String::as_str);
            let refused = |why| Err(ImportError::Ref { name: name.to_owned(), why });
            match found {
                None => refused("it points to an object that is not there"),
                Some((kind, _)) if kind != "commit" && !name.starts_with("refs/tags/") => {
                    refused("it does not point to a commit")
                }
                Some(_) => Ok(()),
            }
        })
    }

    /// Commits that the ref reaches and no ref of the operator.
    pub(super) fn count_new_commits(&self, id: ObjectId) -> Result<u64, ImportError> {
        let (answer, ended) = self.rev_list(&["--count"], &[id])?;
        ended.expect_accepted(&self.bounds)?;
        Ok(String::from_utf8_lossy(&answer).trim().parse().unwrap_or(0))
    }

    /// Refuses refs whose history or files are not whole: each object that they reach, and that no ref of the
    /// operator reaches, must be here.
    pub(super) fn expect_connected(&self, header: &Header) -> Result<(), ImportError> {
        let tips: Vec<_> = header.refs.iter().map(|(_, id)| *id).collect();
        let (_, ended) = self.rev_list(&["--objects", "--quiet"], &tips)?;
        ended.expect_accepted(&self.bounds)
    }

    fn rev_list(
        &self,
        options: &[&str],
        tips: &[ObjectId],
    ) -> Result<(Vec<u8>, super::git::Ended), ImportError> {
        let mut input = lines(tips);
        input.extend(&self.known);
        // A broken ref of the operator is left out; that the tips exist was seen before.
        let arguments: Vec<_> =
            ["rev-list", "--ignore-missing", "--stdin"].iter().chain(options).copied().collect();
        self.git.output(&arguments, Input::Text(input), MAX_LINE)
    }
}

/// The objects in the repository of ours alone.
fn list(alone: &Git, bounds: &ImportBounds) -> Result<HashMap<ObjectId, Object>, ImportError> {
    let arguments = ["cat-file", "--batch-check", "--batch-all-objects", "--unordered"];
    let (objects, ended) = alone.stream(&arguments, Input::Nothing, |stdout| {
        let (mut objects, mut inflated) = (HashMap::new(), 0_u64);
        while let Some(line) = read_line(stdout)? {
            let (id, kind, size) = described(&line).ok_or_else(cat_file_ended)?;
            inflated = inflated.saturating_add(size);
            if inflated > bounds.inflated_bytes {
                return Err(ImportError::too_large("bytes when it is inflated", bounds.inflated_bytes));
            }
            objects.insert(id, Object { is_tree: kind == "tree", size });
        }
        Ok(objects)
    })?;
    ended.expect_accepted(bounds)?;
    Ok(objects)
}

fn only_pack(folder: &Path) -> Result<PathBuf, ImportError> {
    let failed = |error| ImportError::io(format!("reading {}", folder.display()), error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "pack") {
            return Ok(path);
        }
    }
    Err(failed(std::io::ErrorKind::NotFound.into()))
}

fn lines(ids: &[ObjectId]) -> Vec<u8> {
    ids.iter().flat_map(|id| format!("{id}\n").into_bytes()).collect()
}

/// A line without its break; `None` at the end.
fn read_line(stdout: &mut dyn BufRead) -> Result<Option<String>, ImportError> {
    let mut line = String::new();
    let read = stdout.take(MAX_LINE).read_line(&mut line);
    read.map_err(|error| ImportError::io("reading from git", error))?;
    Ok(line.strip_suffix('\n').map(str::to_owned))
}

/// `<id> <type> <size>`; `None` for `<id> missing`.
fn described(line: &str) -> Option<(ObjectId, &str, u64)> {
    let mut words = line.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?, words.next()?.parse().ok()?))
}

fn cat_file_ended() -> ImportError {
    ImportError::Git { command: "cat-file", message: "its answer ended early".into() }
}
