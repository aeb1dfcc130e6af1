//! The header of a bundle, gitformat-bundle(5): what git reads before the pack.

use std::io::{self, BufRead, Read};

use super::{error::ImportError, object_id::ObjectId, ref_name};

/// Longest line in bytes. A prerequisite is followed by the subject of its commit.
const MAX_LINE: u64 = 1 << 20;

/// Prerequisites at most: a bundle names the commits that its history is cut off at.
const MAX_PREREQUISITES: usize = 100_000;

/// What a bundle says about its pack.
#[derive(Debug)]
pub(super) struct Header {
    /// `sha1` or `sha256`.
    pub(super) object_format: &'static str,
    /// Commits that the reader must have.
    pub(super) prerequisites: Vec<ObjectId>,
    /// Refs by their full name in the bundle.
    pub(super) refs: Vec<(String, ObjectId)>,
    /// The offset of the pack in the bundle, in bytes.
    pub(super) pack_at: u64,
    /// Objects in the pack, as it says itself.
    pub(super) objects: u64,
}

/// Reads the header and the first bytes of the pack.
pub(super) fn read(bundle: &mut impl BufRead, max_refs: usize) -> Result<Header, ImportError> {
    let mut lines = Lines { bundle, read: 0 };
    let mut object_format = "sha1";
    let mut line = lines.next()?;
    match line.as_slice() {
        b"# v2 git bundle" | b"# v3 git bundle" => {}
        _ => return Err(ImportError::NotABundle("it does not begin as one")),
    }
    let (mut prerequisites, mut refs) = (Vec::new(), Vec::<(String, ObjectId)>::new());
    loop {
        line = lines.next()?;
        match line.as_slice() {
            b"" => break,
            b"@object-format=sha1" => object_format = "sha1",
            b"@object-format=sha256" => object_format = "sha256",
            // Also `filter`: what such a bundle leaves out would be fetched later, from somewhere.
            [b'@', ..] => {
                return Err(ImportError::NotABundle("it asks for a capability that is not supported"));
            }
            [b'-', rest @ ..] => {
                if prerequisites.len() == MAX_PREREQUISITES {
                    return Err(ImportError::too_large(
                        "commits that it builds on",
                        MAX_PREREQUISITES as u64,
                    ));
                }
                prerequisites.push(object_id(rest, object_format)?.0);
            }
            rest => {
                if refs.len() == max_refs {
                    return Err(ImportError::too_large("branches and tags", max_refs as u64));
                }
                let (id, name) = object_id(rest, object_format)?;
                refs.push((ref_of_bundle(name)?, id));
            }
        }
    }
    check_hierarchy(&refs)?;
    let pack_at = lines.read;
    let mut pack = [0; 12];
    bundle.read_exact(&mut pack).map_err(cut_off)?;
    // gitformat-pack(5): the signature, the version, the number of objects.
    if &pack[..4] != b"PACK" {
        return Err(ImportError::NotABundle("it has no pack"));
    }
    let objects = u64::from(u32::from_be_bytes([pack[8], pack[9], pack[10], pack[11]]));
    Ok(Header { object_format, prerequisites, refs, pack_at, objects })
}

struct Lines<'a, B> {
    bundle: &'a mut B,
    read: u64,
}

impl<B: BufRead> Lines<'_, B> {
    fn next(&mut self) -> Result<Vec<u8>, ImportError> {
        let mut line = Vec::new();
        let read = (&mut *self.bundle).take(MAX_LINE).read_until(b'\n', &mut line).map_err(cut_off)?;
        self.read += read as u64;
        if line.pop() == Some(b'\n') {
            return Ok(line);
        }
        Err(ImportError::NotABundle(if read as u64 == MAX_LINE {
            "a line of its header is too long"
        } else {
            "its header is cut off"
        }))
    }
}

fn cut_off(error: io::Error) -> ImportError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return ImportError::NotABundle("it is cut off");
    }
    ImportError::io("reading the bundle", error)
}

/// The id at the start of a line, and what follows the space after it.
fn object_id<'a>(line: &'a [u8], object_format: &str) -> Result<(ObjectId, &'a [u8]), ImportError> {
    let length = if object_format == "sha256" { 64 } else { 40 };
    let malformed = || ImportError::NotABundle("a line of its header is malformed");
    let (id, rest) = line.split_at_checked(length).ok_or_else(malformed)?;
    let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()).ok_or_else(malformed)?;
    match rest {
        [] => Ok((id, rest)),
        [b' ', rest @ ..] => Ok((id, rest)),
        _ => Err(malformed()),
    }
}

/// The name of a ref, if it is one that a bottle's bundle may have.
fn ref_of_bundle(name: &[u8]) -> Result<String, ImportError> {
    let shown = String::from_utf8_lossy(name);
    let refused = |why| ImportError::Ref { name: bot_bottle_core::printable::printable(&shown), why };
    let name = std::str::from_utf8(name).map_err(|_| refused("it is not UTF-8"))?;
    if let Some(why) = ref_name::refusal_of(name) {
        return Err(refused(why));
    }
    if name != super::UNCOMMITTED && !name.starts_with("refs/heads/") && !name.starts_with("refs/tags/") {
        return Err(refused("only branches and tags come out of a bottle"));
    }
    Ok(name.to_owned())
}

/// Refuses a ref that is named twice, and one that is also the folder of another: git keeps refs as files.
fn check_hierarchy(refs: &[(String, ObjectId)]) -> Result<(), ImportError> {
    let mut names = std::collections::BTreeSet::new();
    for (name, _) in refs {
        if !names.insert(name.as_str()) {
            return Err(ImportError::Ref { name: name.clone(), why: "it is there twice" });
        }
    }
    for (name, _) in refs {
        let mut folder = name.as_str();
        while let Some((above, _)) = folder.rsplit_once('/') {
            if names.contains(above) {
                return Err(ImportError::Ref {
                    name: name.clone(),
                    why: "another ref has the name of its folder",
                });
            }
            folder = above;
        }
    }
    Ok(())
}
