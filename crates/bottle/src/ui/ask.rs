//! Questions on the controlling terminal, even if stdin and stdout are redirected.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, IsTerminal, Write},
};

use bot_bottle_core::{
    error::{IoContext, IoError},
    printable::{printable, printable_lines},
};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::{Ui, WARNING};
use crate::exit::CommandError;

impl Ui {
    /// Asks yes or no; anything but yes is no.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, CommandError> {
        let mut terminal = open_terminal("to ask whether to go on")
            .map_err(|error| error.with_hint("pass `--yes` to go on without being asked"))?;
        ask(&mut terminal, &format!("{} [y/N] ", printable_lines(question)))?;
        let answer = read_line(&terminal)?;
        Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks to choose one of several by number or name.
    pub(crate) fn choose(&self, question: &str, choices: &[String]) -> Result<String, CommandError> {
        let mut terminal = open_terminal("to ask which one")
            .map_err(|error| error.with_hint(format!("name one of: {}", choices.join(", "))))?;
        for (number, choice) in choices.iter().enumerate() {
            ask(&mut terminal, &format!("  {}  {}\n", number + 1, printable(choice)))?;
        }
        loop {
            ask(&mut terminal, &format!("{} ", printable_lines(question)))?;
            let answer = read_line(&terminal)?;
            let answer = answer.trim();
            let by_number =
                answer.parse::<usize>().ok().and_then(|number| choices.get(number.wrapping_sub(1)));
            if let Some(choice) = by_number.or_else(|| choices.iter().find(|choice| *choice == answer)) {
                return Ok(choice.clone());
            }
            if answer.is_empty() {
                return Err(CommandError::failed("nothing was chosen"));
            }
            ask(&mut terminal, &format!("there is no `{}`\n", printable(answer)))?;
        }
    }

    /// Asks for a secret, which is not shown.
    pub(crate) fn ask_secret(&self, what: &str, text: &str) -> Result<String, CommandError> {
        let mut terminal = open_terminal(&format!("to ask for `{what}`")).map_err(|error| {
            error.with_hint(
                "start on a terminal, or take the value from a variable of the environment: `${NAME}`",
            )
        })?;
        ask(
            &mut terminal,
            &format!(
                "{WARNING}{}{WARNING:#} (not shown): ",
                printable(if text.is_empty() { what } else { text })
            ),
        )?;
        let answer = {
            let _silent = EchoOff::on(&terminal)?;
            read_line(&terminal)?
        };
        ask(&mut terminal, "\n")?;
        let answer = answer.trim_end_matches(['\n', '\r']).to_owned();
        if answer.is_empty() {
            return Err(CommandError::failed(format!("no value was given for `{what}`")));
        }
        Ok(answer)
    }
}

fn open_terminal(why: &str) -> Result<File, CommandError> {
    let missing = || CommandError::failed(format!("there is no terminal {why}"));
    // A process without a controlling terminal may still have one as its stdin, under some supervisors.
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(|_| missing())?;
    if terminal.is_terminal() { Ok(terminal) } else { Err(missing()) }
}

fn ask(terminal: &mut File, text: &str) -> Result<(), CommandError> {
    let plain = anstream::adapter::strip_str(text);
    let written = if anstream::AutoStream::choice(&*terminal) == anstream::ColorChoice::Never {
        write!(terminal, "{plain}")
    } else {
        write!(terminal, "{text}")
    };
    written.and_then(|()| terminal.flush()).io_context(|| "the terminal cannot be written")?;
    Ok(())
}

fn read_line(terminal: &File) -> Result<String, CommandError> {
    let mut line = String::new();
    BufReader::new(terminal).read_line(&mut line).io_context(|| "the terminal cannot be read")?;
    Ok(line)
}

/// Switches the echo of a terminal off, and on again when dropped.
struct EchoOff<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> EchoOff<'a> {
    fn on(terminal: &'a File) -> Result<Self, CommandError> {
        let fail = |error| IoError::new("the terminal's echo cannot be switched off", error);
        let before = tcgetattr(terminal).map_err(fail)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent).map_err(fail)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        // Ignored: the terminal may be gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
