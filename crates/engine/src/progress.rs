//! The text that a build or a pull writes while it runs.

/// Most bytes of a line; the rest is dropped.
const MAX_LINE: usize = 4096;

/// Lines of the step at work that are kept for an error.
const KEPT_LINES: usize = 20;

/// Cuts a stream of text into lines, and keeps the last ones of the step at work.
pub(crate) struct Progress<'a> {
    report: &'a mut dyn FnMut(&str),
    line: String,
    last: Vec<String>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(report: &'a mut dyn FnMut(&str)) -> Self {
        Self { report, line: String::new(), last: Vec::new() }
    }

    /// Text of a build: pieces of lines.
    pub(crate) fn text(&mut self, text: &str) {
        for piece in text.split_inclusive(['\n', '\r']) {
            let content = piece.trim_end_matches(['\n', '\r']);
            let room = MAX_LINE.saturating_sub(self.line.len());
            self.line.push_str(&content[..content.floor_char_boundary(room.min(content.len()))]);
            if content.len() < piece.len() {
                self.end_line();
            }
        }
    }

    /// One line of a pull.
    pub(crate) fn line(&mut self, line: &str) {
        self.end_line();
        self.text(line);
        self.end_line();
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.trim().is_empty() {
            return;
        }
        (self.report)(&line);
        // `Step 2/5 : RUN …` of docker, `STEP 2/5: RUN …` of podman.
        let is_step = line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("step "));
        if is_step {
            self.last.clear();
        } else if self.last.len() == KEPT_LINES {
            self.last.remove(0);
        }
        self.last.push(line);
    }

    /// The last lines of the step at work, oldest first.
    pub(crate) fn into_last_lines(mut self) -> Vec<String> {
        self.end_line();
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_lines_and_the_last_step_is_kept() {
        let mut lines = Vec::new();
        let mut report = |line: &str| lines.push(line.to_owned());
        let mut progress = Progress::new(&mut report);
        for piece in
            ["Step 1/2 : FROM x\n", "\n", " ---> 12\nStep 2/2", " : RUN y\n", "o", "ne\ntwo", "\rthree"]
        {
            progress.text(piece);
        }
        assert_eq!(progress.into_last_lines(), ["Step 2/2 : RUN y", "one", "two", "three"]);
        assert_eq!(lines, ["Step 1/2 : FROM x", " ---> 12", "Step 2/2 : RUN y", "one", "two", "three"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut longest = 0;
        let mut report = |line: &str| longest = longest.max(line.len());
        let mut progress = Progress::new(&mut report);
        for _ in 0..1000 {
            progress.text(&"ä".repeat(MAX_LINE));
        }
        for number in 0..100 {
            progress.text(&format!("\n{number}"));
        }
        let last = progress.into_last_lines();
        assert_eq!((last.len(), last.last().map(String::as_str)), (KEPT_LINES, Some("99")));
        assert_eq!(longest, MAX_LINE);
    }
}
