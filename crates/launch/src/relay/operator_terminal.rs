//! The operator's terminal, while a program in a bottle has it and when it gets it back.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, open},
    process::getpgrp,
    stdio,
    termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcsetattr},
};

use super::nonblocking_terminal;

/// Resets the modes that full-screen programs set. Not the title, which does no harm. The names are those of
/// xterm's "XTerm Control Sequences" (ctlseqs) where nothing else is said.
const RESET: &str = concat!(
    "\x18\x1b\\",       // CAN and ST end a sequence or a string that was begun, ECMA-48
    "\x1b7\x1b[?1049l", // from the alternate screen, which restores the cursor that DECSC has just saved
    "\x1b7\x1b[r\x1b8", // DECSTBM: the whole screen scrolls; it moves the cursor, so DECSC and DECRC around it
    "\x1b[?1000l\x1b[?1002l\x1b[?1003l", // no reports of the mouse
    "\x1b[?1005l\x1b[?1006l\x1b[?1015l", // nor their encodings
    "\x1b[?1004l",      // no reports of the focus
    "\x1b[?2004l",      // no bracketed paste
    "\x1b[?2026l",      // no synchronized output, contour's "Synchronized Output" specification
    "\x1b[?25h",        // DECTCEM: the cursor shows
    "\x1b[?1l\x1b>",    // DECCKM and DECKPNM: keys send what shells expect
    "\x1b[?7h\x1b[4l",  // DECAWM and IRM: lines wrap, characters replace
    "\x1b[<99u",        // all of the stack of keyboard modes, kitty's "Comprehensive keyboard handling"
    "\x1b[>4m",         // modifyOtherKeys
    "\x1b[0m",          // SGR
    "\x1b(B\x0f",       // G0 is ASCII, and in use
);

/// DSR, "are you well?". A terminal answers in the order of the questions, so that its answer ends those to
/// all questions of the program.
const LAST_QUESTION: &str = "\x1b[5n";

/// "I am well."
const LAST_ANSWER: &[u8] = b"\x1b[0n";

/// How long the answer may take: a slow line's way there and back. A terminal without answers costs as much.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it has to be quiet after the answer: the program may have asked the same question before.
const QUIET: Duration = Duration::from_millis(50);

/// The operator's terminal, restored when this is dropped.
pub(super) struct OperatorTerminal {
    /// Where it is read: standard input, or what `/dev/tty` opens.
    input: OwnedFd,
    before: Termios,
    /// Whether a program in the bottle reads it, and not the operator's shell alone.
    is_raw: bool,
    /// Whether the program sent what may be more than text.
    was_controlled: bool,
}

impl OperatorTerminal {
    pub(super) fn enter_raw_mode() -> io::Result<Self> {
        let input = stdio::stdin().try_clone_to_owned()?;
        let before = tcgetattr(&input)?;
        set_raw(&input, &before)?;
        Ok(Self { input, before, is_raw: true, was_controlled: false })
    }

    /// The terminal at standard output, where input comes from elsewhere: its answers would go to the next
    /// program that reads it. None for a background job, which would be stopped by touching it (SIGTTOU,
    /// termios(3)).
    pub(super) fn of_output() -> Option<Self> {
        if !isatty(stdio::stdout()) {
            return None;
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let input = open("/dev/tty", flags, Mode::empty()).ok()?;
        let before = tcgetattr(&input).ok()?;
        let terminal = Self { input, before, is_raw: false, was_controlled: false };
        terminal.is_ours().then_some(terminal)
    }

    /// Whether this process is in the terminal's foreground.
    fn is_ours(&self) -> bool {
        tcgetpgrp(&self.input).is_ok_and(|group| group == getpgrp())
    }

    /// Output that goes to the terminal.
    pub(super) fn note_output(&mut self, output: &[u8]) {
        self.was_controlled = self.was_controlled || output.iter().any(|byte| begins_control(*byte));
    }
}

/// Whether a sequence can begin with this byte: C0 but for what moves the cursor and rings, or C1, ECMA-48.
fn begins_control(byte: u8) -> bool {
    matches!(byte, 0..=6 | 0x0B | 0x0C | 0x0E..=0x1F | 0x80..=0x9F)
}

impl Drop for OperatorTerminal {
    fn drop(&mut self) {
        let is_changed = self.is_raw || (self.was_controlled && self.is_ours());
        if !is_changed {
            return;
        }
        // Nothing can be done if the terminal is gone.
        if self.was_controlled
            && (self.is_raw || set_raw(&self.input, &self.before).is_ok())
            && write(&format!("{RESET}{LAST_QUESTION}")).is_ok()
        {
            let _ = discard_answers(&self.input);
        }
        // TCSAFLUSH discards unread input, which a shell would take for typed commands.
        let _ = tcsetattr(&self.input, OptionalActions::Flush, &self.before);
    }
}

fn set_raw(input: &OwnedFd, before: &Termios) -> rustix::io::Result<()> {
    let mut raw = before.clone();
    raw.make_raw();
    tcsetattr(input, OptionalActions::Now, &raw)
}

fn is_ready(wait: PollFd<'_>, limit: Duration) -> io::Result<bool> {
    Ok(poll(&mut [wait], Timespec::try_from(limit).ok().as_ref())? > 0)
}

fn write(text: &str) -> io::Result<()> {
    let own = nonblocking_terminal(stdio::stdout());
    let terminal = own.as_ref().map_or(stdio::stdout(), AsFd::as_fd);
    let mut left = text.as_bytes();
    while !left.is_empty() {
        // A terminal that accepts no output must not block the launcher.
        if !is_ready(PollFd::new(&terminal, PollFlags::OUT), ANSWER_TIMEOUT)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        left = &left[rustix::io::write(terminal, left)?..];
    }
    Ok(())
}

fn discard_answers(input: &OwnedFd) -> io::Result<()> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let (mut until, mut is_answered) = (deadline, false);
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while is_ready(PollFd::new(input, PollFlags::IN), until.saturating_duration_since(Instant::now()))?
        && Instant::now() < deadline
    {
        let count = rustix::io::read(input, &mut buffer)?;
        if count == 0 {
            break;
        }
        seen.extend_from_slice(&buffer[..count]);
        is_answered |= seen.windows(LAST_ANSWER.len()).any(|window| window == LAST_ANSWER);
        if is_answered {
            until = deadline.min(Instant::now() + QUIET);
        }
        seen.drain(..seen.len().saturating_sub(LAST_ANSWER.len()));
    }
    Ok(())
}
