//! Text of strangers on the operator's terminal: the one place that says what of it a terminal must not get.
//!
//! File names, branches, headers, error messages and proposals may come from a cloned repository, an agent or
//! a server. A terminal acts on control characters (its title, the clipboard, answers that the shell then
//! reads), and shows text in another order, or not at all, for some others.

use std::fmt::Write as _;

/// Whether a terminal acts on this character, or shows something else than what is there.
#[must_use]
pub fn is_hazardous(character: char) -> bool {
    match character {
        // Bidirectional controls reorder what is shown (CVE-2021-42574).
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Line and paragraph separators, and what is not shown at all: the byte order mark, interlinear
        // annotations, and tags, in which whole sentences can hide from a reader but not from a model.
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        // C0, DEL and C1 (ECMA-48).
        other => other.is_control(),
    }
}

/// The text with every hazardous character made visible, as Rust writes it: `\u{1b}`.
///
/// For one line: a line break is made visible as well, so that a name cannot pose as a line of ours.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hazardous(character) {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The bytes of a path in double quotes, with every one that is not printable ASCII in octal: what git reads in
/// `objects/info/alternates` and in GIT_ALTERNATE_OBJECT_DIRECTORIES, and writes itself (git-config(1),
/// core.quotePath).
#[must_use]
pub fn git_quoted(path: &[u8]) -> String {
    let mut text = String::from("\"");
    for &byte in path {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string does not fail.
            other => drop(write!(text, "\\{other:03o}")),
        }
    }
    text.push('"');
    text
}

/// As [`printable`], for text of several lines, whose breaks and tabs stay.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let tabs_stay = |part: &str| part.split('\t').map(printable).collect::<Vec<_>>().join("\t");
    text.split('\n').map(tabs_stay).collect::<Vec<_>>().join("\n")
}

/// JSON with every hazardous character but line breaks written as JSON escapes it (RFC 8259, section 7), so that
/// it says the same. Such characters are in its strings alone.
#[must_use]
pub fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if is_hazardous(character) && character != '\n' {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    shown
}

/// As [`printable_lines`], for text that has colours of ours in it: of all sequences those stay that set
/// colours and weight (SGR, ECMA-48 8.3.117). What comes from strangers has to be printable before.
#[must_use]
pub fn printable_but_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\u{1b}') {
        shown.push_str(&printable_lines(&rest[..at]));
        let length = colour_length(&rest[at..]);
        if length > 0 {
            shown.push_str(&rest[at..at + length]);
        } else {
            shown.push_str(&printable("\u{1b}"));
        }
        rest = &rest[at + length.max(1)..];
    }
    shown.push_str(&printable_lines(rest));
    shown
}

/// The length of the SGR sequence that `text` begins with, in bytes, or 0.
fn colour_length(text: &str) -> usize {
    let Some(parameters) = text.strip_prefix("\u{1b}[") else { return 0 };
    let length = parameters.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if parameters.as_bytes().get(length) == Some(&b'm') { length + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_made_visible() {
        for (text, shown) in [
            ("plain, ünïcödé, 日本語, 🎉", "plain, ünïcödé, 日本語, 🎉"),
            ("\u{1b}]0;TITLE\u{7}", "\\u{1b}]0;TITLE\\u{7}"),
            ("\u{1b}[31mRED", "\\u{1b}[31mRED"),
            ("a\r\nerror: b", "a\\u{d}\\u{a}error: b"),
            ("\u{9b}2J\u{90}\u{7f}\u{8}", "\\u{9b}2J\\u{90}\\u{7f}\\u{8}"),
            ("user\u{202e}txt.exe", "user\\u{202e}txt.exe"),
            ("tag\u{e0041}\u{feff}\u{2028}\u{61c}", "tag\\u{e0041}\\u{feff}\\u{2028}\\u{61c}"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(printable_json("{\n\"\u{9b}é\u{e0041}\"}"), "{\n\"\\u009bé\\udb40\\udc41\"}");
        assert_eq!(printable_lines("a\tb\n\u{1b}c\n"), "a\tb\n\\u{1b}c\n");
    }

    #[test]
    fn colours_alone_stay() {
        for (text, shown) in [
            ("\u{1b}[1mstrong\u{1b}[0m\n", "\u{1b}[1mstrong\u{1b}[0m\n"),
            ("\u{1b}[38;5;1m", "\u{1b}[38;5;1m"),
            ("\u{1b}[2J\u{1b}[6n\u{1b}", "\\u{1b}[2J\\u{1b}[6n\\u{1b}"),
            ("\u{1b}]8;;http://x\u{7}", "\\u{1b}]8;;http://x\\u{7}"),
            ("\u{1b}[0:m \u{1b}[?1m é\u{1b}é", "\\u{1b}[0:m \\u{1b}[?1m é\\u{1b}é"),
        ] {
            assert_eq!(printable_but_colours(text), shown);
        }
    }
}
