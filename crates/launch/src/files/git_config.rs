//! Reads and writes git's configuration files, as git-config(1), "Syntax", and git's `config.c` have it. What
//! git would refuse is refused here, so that both see the same entries.

use thiserror::Error;

/// One entry with the section it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) section: Section,
    /// In lower case.
    pub(super) key: Vec<u8>,
    /// `None` for a key without `=`, which is true.
    pub(super) value: Option<Vec<u8>>,
}

/// `[name]` or `[name "subsection"]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// In lower case. In the old style `[name.subsection]` the dot is part of it.
    pub(super) name: Vec<u8>,
    pub(super) subsection: Option<Vec<u8>>,
}

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GitConfig {
    pub(super) entries: Vec<Entry>,
    /// Whether it has comments, which are not kept.
    pub(super) comments: bool,
}

/// Why a file is not a configuration.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line}: {what}")]
pub(super) struct SyntaxError {
    line: usize,
    what: &'static str,
}

/// Reads a whole file.
pub(super) fn parse(text: &[u8]) -> Result<GitConfig, SyntaxError> {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    let mut reader = Reader { text, at: 0, line: 1 };
    let mut config = GitConfig::default();
    let mut section = None;
    while let Some(byte) = reader.next()? {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'#' | b';' => {
                config.comments = true;
                while reader.next()?.is_some_and(|byte| byte != b'\n') {}
            }
            b'[' => section = Some(reader.section()?),
            first if first.is_ascii_alphabetic() => {
                let Some(section) = &section else { return Err(reader.error("a key before any section")) };
                let (key, value) = reader.entry(first, &mut config.comments)?;
                config.entries.push(Entry { section: section.clone(), key, value });
            }
            _ => return Err(reader.error("neither a section nor a key")),
        }
    }
    Ok(config)
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn error(&self, what: &'static str) -> SyntaxError {
        SyntaxError { line: self.line, what }
    }

    /// The next byte; CR LF is a line feed.
    fn next(&mut self) -> Result<Option<u8>, SyntaxError> {
        let rest = &self.text[self.at..];
        let byte = match rest {
            [] => return Ok(None),
            // Git's strings end at it, so that what follows would be read in two ways.
            [0, ..] => return Err(self.error("a NUL")),
            [b'\r', b'\n', ..] => {
                self.at += 1;
                b'\n'
            }
            [byte, ..] => *byte,
        };
        self.at += 1;
        self.line += usize::from(byte == b'\n');
        Ok(Some(byte))
    }

    fn section(&mut self) -> Result<Section, SyntaxError> {
        let mut name = Vec::new();
        loop {
            match self.next()? {
                Some(b']') => return Ok(Section { name, subsection: None }),
                Some(b' ' | b'\t' | b'\r') => break,
                Some(byte) if is_key_byte(byte) || byte == b'.' => name.push(byte.to_ascii_lowercase()),
                _ => return Err(self.error("the name of a section")),
            }
        }
        let opening = loop {
            match self.next()? {
                Some(b' ' | b'\t' | b'\r') => {}
                other => break other,
            }
        };
        if opening != Some(b'"') {
            return Err(self.error("a subsection is in quotes"));
        }
        let mut subsection = Vec::new();
        loop {
            match self.next()? {
                Some(b'"') => break,
                Some(b'\\') => match self.next()? {
                    Some(byte) if byte != b'\n' => subsection.push(byte),
                    _ => return Err(self.error("a subsection has no end")),
                },
                Some(byte) if byte != b'\n' => subsection.push(byte),
                _ => return Err(self.error("a subsection has no end")),
            }
        }
        if self.next()? != Some(b']') {
            return Err(self.error("a section ends with `]`"));
        }
        Ok(Section { name, subsection: Some(subsection) })
    }

    fn entry(&mut self, first: u8, comments: &mut bool) -> Result<(Vec<u8>, Option<Vec<u8>>), SyntaxError> {
        let mut key = vec![first.to_ascii_lowercase()];
        let mut next = self.next()?;
        while let Some(byte) = next.filter(|byte| is_key_byte(*byte)) {
            key.push(byte.to_ascii_lowercase());
            next = self.next()?;
        }
        while matches!(next, Some(b' ' | b'\t')) {
            next = self.next()?;
        }
        match next {
            None | Some(b'\n') => Ok((key, None)),
            Some(b'=') => Ok((key, Some(self.value(comments)?))),
            Some(_) => Err(self.error("a key is followed by `=`")),
        }
    }

    fn value(&mut self, comments: &mut bool) -> Result<Vec<u8>, SyntaxError> {
        let (mut value, mut quoted, mut comment) = (Vec::new(), false, false);
        // Blanks at the end are no part of the value unless they are in quotes.
        let mut kept = 0;
        loop {
            let byte = match self.next()? {
                None | Some(b'\n') if quoted => return Err(self.error("a quote has no end")),
                None | Some(b'\n') => {
                    value.truncate(kept);
                    return Ok(value);
                }
                Some(_) if comment => continue,
                Some(byte) => byte,
            };
            match byte {
                b' ' | b'\t' | b'\r' if !quoted => {
                    if !value.is_empty() {
                        value.push(byte);
                    }
                    continue;
                }
                b'#' | b';' if !quoted => {
                    (comment, *comments) = (true, true);
                    continue;
                }
                b'"' => quoted = !quoted,
                b'\\' => match self.next()? {
                    Some(b'\n') => {}
                    Some(b't') => value.push(b'\t'),
                    Some(b'b') => value.push(8),
                    Some(b'n') => value.push(b'\n'),
                    Some(byte @ (b'\\' | b'"')) => value.push(byte),
                    _ => return Err(self.error("an escape that git does not know")),
                },
                byte => value.push(byte),
            }
            kept = value.len();
        }
    }
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Writes entries so that reading them gives the same entries.
pub(super) fn write(entries: &[Entry]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut section = None;
    for entry in entries {
        if section != Some(&entry.section) {
            text.push(b'[');
            text.extend(&entry.section.name);
            if let Some(subsection) = &entry.section.subsection {
                text.extend(b" \"");
                for byte in subsection {
                    if matches!(byte, b'"' | b'\\') {
                        text.push(b'\\');
                    }
                    text.push(*byte);
                }
                text.push(b'"');
            }
            text.extend(b"]\n");
            section = Some(&entry.section);
        }
        text.push(b'\t');
        text.extend(&entry.key);
        if let Some(value) = &entry.value {
            text.extend(b" = \"");
            for byte in value {
                match byte {
                    b'\n' => text.extend(b"\\n"),
                    b'\t' => text.extend(b"\\t"),
                    8 => text.extend(b"\\b"),
                    b'"' | b'\\' => text.extend([b'\\', *byte]),
                    byte => text.push(*byte),
                }
            }
            text.push(b'"');
        }
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(text: &str) -> Result<Vec<String>, SyntaxError> {
        let show = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let config = parse(text.as_bytes())?;
        let again = parse(&write(&config.entries)).expect("what is written can be read");
        assert_eq!(again.entries, config.entries, "{text}");
        Ok(config
            .entries
            .iter()
            .map(|entry| {
                let sub = entry.section.subsection.as_ref().map(|sub| format!(":{}", show(sub)));
                let value = entry.value.as_ref().map(|value| format!("={}", show(value)));
                let (sub, value) = (sub.unwrap_or_default(), value.unwrap_or_default());
                format!("{}{sub}.{}{value}", show(&entry.section.name), show(&entry.key))
            })
            .collect())
    }

    #[test]
    fn entries_are_those_that_git_reads() {
        for (text, entries) in [
            ("", &[][..]),
            ("\u{feff}[core]\r\n\tbare = false\r\n", &["core.bare=false"]),
            ("[Remote \"O\\\"x\"] URL=a b  # c\n", &["remote:O\"x.url=a b"]),
            ("[a.B]\nk\nl = \n", &["a.b.k", "a.b.l="]),
            ("[a]k = one \\\n two\n", &["a.k=one  two"]),
            ("[a]\nk = x\" ; y \"z;c\n;d\n", &["a.k=x ; y z"]),
            ("[a]\nk = \"\\t\\n\\\\\\\"\\b\"", &["a.k=\t\n\\\"\u{8}"]),
            ("[a]\nk = ht\"tps://me:t\"ok@h\n", &["a.k=https://me:tok@h"]),
        ] {
            assert_eq!(flat(text), Ok(entries.iter().map(|&entry| entry.to_owned()).collect()), "{text:?}");
        }
        for wrong in
            ["k = v", "[a", "[a b]", "[a \"b]", "[a \"b\" ]", "[a]\nk v", "[a]\nk = \"v", "[a]\nk = \\x"]
        {
            assert!(flat(wrong).is_err(), "{wrong:?}");
        }
        assert!(flat("[a]\nk = v\0w").is_err());
    }
}
