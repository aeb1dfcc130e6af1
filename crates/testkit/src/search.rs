//! Searches for credentials where they must not be.

use std::{
    fmt, fs,
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, FileTypeExt},
    },
    path::{Path, PathBuf},
};

use aho_corasick::AhoCorasick;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};

/// A credential, as whole and in pieces, plain and in the encodings that programs use without being asked.
#[derive(Debug, Clone)]
pub struct Needle {
    name: String,
    patterns: Vec<Vec<u8>>,
}

/// A place where a credential was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which credential; never its value.
    pub needle: String,
    /// A file, or where else.
    pub place: PathBuf,
}

/// The size of one block of memory that is searched, in bytes, without the overlap.
const WINDOW: usize = 1 << 20;

/// The overlap of two blocks, in bytes: longer than any pattern.
const OVERLAP: usize = 128;

/// The length of a piece: too long to occur by accident, and contained in every leaked part of twice its
/// length.
const PIECE: usize = 16;

impl Needle {
    /// A credential. Cut off parts that are not random first, because other texts contain them.
    ///
    /// # Panics
    /// When it is too short to be recognised in pieces.
    #[must_use]
    pub fn new(name: &str, value: &str) -> Self {
        assert!(value.len() >= PIECE, "{name} is too short to search for");
        // Cut pieces from the end, because the prefixes of credentials name their kind and occur in other
        // texts.
        let pieces: Vec<&[u8]> = value.as_bytes().rchunks_exact(PIECE).collect();
        let mut patterns: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        for piece in pieces {
            let hexadecimal: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
            patterns.push(hexadecimal.to_ascii_uppercase().into());
            patterns.push(hexadecimal.into());
            // The bytes before it shift its base64 by zero, one or two; groups of three bytes are encoded
            // alike.
            for shift in 0..3 {
                let groups = &piece[shift..shift + (PIECE - shift) / 3 * 3];
                patterns.push(STANDARD_NO_PAD.encode(groups).into());
            }
        }
        Self { name: name.to_owned(), patterns }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.needle, self.place.display())
    }
}

/// The addresses of a mapping that its process may have written to: a line of proc_pid_maps(5).
fn writable_range(line: &str) -> Option<(u64, u64)> {
    let (addresses, rest) = line.split_once(' ')?;
    let (start, end) = addresses.split_once('-')?;
    let range = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
    rest.starts_with("rw").then_some(range)
}

struct Search<'a> {
    automaton: AhoCorasick,
    names: Vec<&'a str>,
    findings: Vec<Finding>,
}

impl<'a> Search<'a> {
    fn new(needles: &'a [Needle]) -> Self {
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for needle in needles {
            for pattern in &needle.patterns {
                patterns.push(pattern);
                names.push(needle.name.as_str());
            }
        }
        let automaton = AhoCorasick::new(patterns).expect("a few short patterns fit");
        Self { automaton, names, findings: Vec::new() }
    }

    fn look_at(&mut self, bytes: &[u8], place: &Path) {
        for found in self.automaton.find_iter(bytes) {
            let finding = Finding {
                needle: self.names[found.pattern().as_usize()].to_owned(),
                place: place.to_owned(),
            };
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
    }

    fn look_at_memory(&mut self, process: &Path) -> io::Result<()> {
        let path = process.join("mem");
        let memory = fs::File::open(&path)?;
        let mut window = vec![0; WINDOW + OVERLAP];
        for line in fs::read_to_string(process.join("maps"))?.lines() {
            let Some((start, end)) = writable_range(line) else { continue };
            let mut position = start;
            while position < end {
                let length = usize::try_from(end - position).unwrap_or(usize::MAX).min(window.len());
                // Pages that were given up, or never made, cannot be read.
                let Ok(read @ 1..) = memory.read_at(&mut window[..length], position) else { break };
                self.look_at(&window[..read], &path);
                position += (read.saturating_sub(OVERLAP)).max(1) as u64;
                if read < window.len() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn walk(&mut self, path: &Path, except: &[PathBuf]) {
        if except.iter().any(|left_out| left_out == path) {
            return;
        }
        self.look_at(path.as_os_str().as_bytes(), path);
        let Ok(kind) = fs::symlink_metadata(path).map(|metadata| metadata.file_type()) else { return };
        if kind.is_symlink() {
            if let Ok(target) = fs::read_link(path) {
                self.look_at(target.as_os_str().as_bytes(), path);
            }
        } else if kind.is_dir() {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                self.walk(&entry.path(), except);
            }
        } else if kind.is_file() && !kind.is_fifo() {
            let mut bytes = Vec::new();
            if fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).is_ok() {
                self.look_at(&bytes, path);
            }
        }
    }
}

/// Finds the credentials in this text, a program's output say.
#[must_use]
pub fn search_bytes(bytes: &[u8], place: &str, needles: &[Needle]) -> Vec<Finding> {
    let mut search = Search::new(needles);
    search.look_at(bytes, Path::new(place));
    search.findings
}

/// Finds the credentials in the names, link targets and contents of everything below a folder, but for what
/// lies below `except`. Links are not followed; files that this user may not read are left out.
#[must_use]
pub fn search_tree(root: &Path, except: &[PathBuf], needles: &[Needle]) -> Vec<Finding> {
    let mut search = Search::new(needles);
    search.walk(root, except);
    search.findings
}

/// Finds the credentials in the command line and the environment of every process of the host that this user
/// may look at, but for `except`. A process that is only on its way from fork(2) to execve(2), and still has
/// its parent's, is looked at a second time before it counts.
#[must_use]
pub fn search_processes(except: &[u32], needles: &[Needle]) -> Vec<Finding> {
    let findings = look_at_processes(except, needles);
    if findings.is_empty() {
        return findings;
    }
    std::thread::sleep(std::time::Duration::from_millis(100));
    let later = look_at_processes(except, needles);
    findings.into_iter().filter(|finding| later.contains(finding)).collect()
}

fn look_at_processes(except: &[u32], needles: &[Needle]) -> Vec<Finding> {
    let mut search = Search::new(needles);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if except.contains(&process) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            let path = entry.path().join(file);
            if let Ok(bytes) = fs::read(&path) {
                search.look_at(&bytes, &path);
            }
        }
    }
    search.findings
}

/// The extent and the findings of a search of memory.
#[derive(Debug)]
pub struct MemorySearch {
    /// Processes whose memory could be read.
    pub processes: usize,
    pub findings: Vec<Finding>,
}

/// Finds the credentials in whatever the processes below `ancestor` hold in memory that they could have
/// written to, as far as they live in a PID namespace other than ours. Stopped or not, they may change it
/// meanwhile.
///
/// See proc_pid_mem(5); this user has to be allowed to trace them.
#[must_use]
pub fn search_memory(ancestor: u32, needles: &[Needle]) -> MemorySearch {
    let mut search = Search::new(needles);
    let own = fs::read_link("/proc/self/ns/pid").ok();
    let mut processes = 0;
    for process in descendants(ancestor) {
        let folder = Path::new("/proc").join(process.to_string());
        let namespace = fs::read_link(folder.join("ns/pid")).ok();
        if namespace.is_some() && namespace != own && search.look_at_memory(&folder).is_ok() {
            processes += 1;
        }
    }
    MemorySearch { processes, findings: search.findings }
}

fn descendants(ancestor: u32) -> Vec<u32> {
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        process::{Command, Stdio},
    };

    use super::*;
    use crate::random_secret;

    #[test]
    fn finds_a_credential_however_it_is_written() {
        let secret = random_secret("sk-");
        let needles = [Needle::new("token", &secret)];
        let found = |text: &str| !search_bytes(text.as_bytes(), "text", &needles).is_empty();
        assert!(found(&format!("Authorization: Bearer {secret}\n")));
        assert!(found(&secret[secret.len() - 20..]), "a part of it");
        let in_hexadecimal: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(found(&in_hexadecimal));
        for before in ["", "x", "xx"] {
            assert!(found(&STANDARD_NO_PAD.encode(format!("{before}{secret}"))), "base64 after {before:?}");
        }
        assert!(!found("sk-"));
        assert!(!found(&random_secret("sk-")));
    }

    #[test]
    fn finds_a_credential_in_names_links_and_contents() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = random_secret("");
        let needles = [Needle::new("token", &secret)];
        fs::create_dir(folder.path().join("inner")).expect("a folder");
        fs::write(folder.path().join("inner/file"), format!("x{secret}")).expect("a file");
        fs::write(folder.path().join(&secret), "").expect("a file");
        std::os::unix::fs::symlink(&secret, folder.path().join("link")).expect("a link");
        assert_eq!(search_tree(folder.path(), &[], &needles).len(), 3);
        assert_eq!(search_tree(folder.path(), &[folder.path().join("inner")], &needles).len(), 2);
    }

    #[test]
    fn finds_a_credential_in_a_command_line_and_an_environment() {
        let secret = random_secret("");
        let needles = [Needle::new("token", &secret)];
        let mut child = Command::new("cat")
            .env("TOKEN", &secret)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat starts");
        // `spawn` returns while execve(2) is still writing the new environment: wait until the program
        // answers.
        let mut input = child.stdin.take().expect("a pipe");
        writeln!(input, "ready").expect("written");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let findings = search_processes(&[], &needles);
        let without = search_processes(&[child.id()], &needles);
        drop(input);
        child.wait().expect("cat ends");
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn finds_a_credential_in_the_memory_of_another_namespace() {
        if !crate::require("userns", crate::has_user_namespaces()) {
            return;
        }
        let secret = random_secret("");
        let needles = [Needle::new("token", &secret)];
        // The variable of a shell is in its memory alone; `: ` keeps it from becoming another program.
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--pid", "--fork", "sh", "-c"])
            .arg("read -r value; echo ready; read -r end; : $value")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare starts");
        let mut input = child.stdin.take().expect("a pipe");
        writeln!(input, "{secret}").expect("written");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        let found = search_memory(child.id(), &needles);
        let nothing = search_memory(child.id(), &[Needle::new("other", &random_secret(""))]);
        drop(input);
        child.wait().expect("unshare ends");
        assert!(found.processes >= 1 && !found.findings.is_empty(), "{found:?}");
        assert!(nothing.findings.is_empty(), "{nothing:?}");
    }
}
