//! Carries bytes between the operator's streams and those of a program in a bottle.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags},
    fs::{Mode, OFlags, open},
    io::Errno,
    stdio,
    termios::{Winsize, tcgetwinsize, tcsetwinsize},
};

use crate::backend::Streams;

mod operator_terminal;

use operator_terminal::OperatorTerminal;

/// Bytes that are read at once and wait to be written, for each direction.
const BUFFER_BYTES: usize = 64 << 10;

/// Bytes that are written at once to a stream of the operator, which may block: a pipe that polls as writable
/// has room for this many (`PIPE_BUF`, pipe(7)).
const OPERATOR_WRITE_BYTES: usize = 4096;

/// One end of a stream.
enum End {
    Bottle(OwnedFd),
    Input,
    Output,
    Error,
    /// The operator's terminal for output, opened anew.
    Terminal(OwnedFd),
}

impl End {
    /// For output to a stream of the operator's. A terminal polls as writable with room for one byte, and
    /// writing more then blocks until its reader reads (a closed laptop does not); meanwhile no limit, signal
    /// or `stop` would be handled. So it is opened a second time, with O_NONBLOCK: setting that flag on the
    /// inherited descriptor would change the shell's open file description too.
    fn output(stream: Self) -> Self {
        // Another user's terminal, after su(1), cannot be opened.
        nonblocking_terminal(stream.as_fd()).map_or(stream, Self::Terminal)
    }
}

/// A terminal, opened anew for writes that do not wait. None for another stream, or where it cannot be
/// opened.
fn nonblocking_terminal(stream: BorrowedFd<'_>) -> Option<OwnedFd> {
    if !rustix::termios::isatty(stream) {
        return None;
    }
    let path = format!("/proc/self/fd/{}", stream.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).ok()
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Bottle(descriptor) => descriptor.as_fd(),
            Self::Input => stdio::stdin(),
            Self::Output => stdio::stdout(),
            Self::Error => stdio::stderr(),
            Self::Terminal(descriptor) => descriptor.as_fd(),
        }
    }
}

/// One direction.
struct Flow {
    from: Option<End>,
    to: Option<End>,
    buffer: Vec<u8>,
    written: usize,
    /// The operator's side ended, or failed.
    operator_is_gone: bool,
}

/// Where the size of a program's terminal is set.
enum Window {
    /// The controlling side of the terminal.
    Local(OwnedFd),
    /// The socket of one that another kernel has.
    Remote(OwnedFd),
}

impl Window {
    fn resize(&self, size: Winsize) -> rustix::io::Result<()> {
        match self {
            Self::Local(controller) => tcsetwinsize(controller, size),
            Self::Remote(socket) => {
                let mut frame = [0; 4];
                frame[..2].copy_from_slice(&size.ws_row.to_ne_bytes());
                frame[2..].copy_from_slice(&size.ws_col.to_ne_bytes());
                // A frame of four bytes is written whole or not at all.
                rustix::io::write(socket, &frame).map(drop)
            }
        }
    }
}

/// All directions of one program.
pub(crate) struct Relay {
    flows: Vec<Flow>,
    /// The program's terminal, if it has one.
    window: Option<Window>,
    /// The operator's terminal as it was, if output goes to one.
    operator: Option<OperatorTerminal>,
}

/// Rows and columns of the operator's terminal.
pub(crate) fn window_size() -> Option<(u16, u16)> {
    tcgetwinsize(stdio::stdin()).ok().map(|size| (size.ws_row, size.ws_col))
}

impl Relay {
    /// Connects the streams of a program that was started to those of this process.
    pub(crate) fn connect(streams: Streams) -> io::Result<Self> {
        for stream in streams.descriptors() {
            rustix::io::ioctl_fionbio(stream, true)?;
        }
        let flow = |from, to| Flow {
            from: Some(from),
            to: Some(to),
            buffer: Vec::new(),
            written: 0,
            operator_is_gone: false,
        };
        match streams {
            Streams::Terminal(controller) => {
                let window = Window::Local(controller.try_clone()?);
                Self::connect_terminal(controller, window, flow)
            }
            Streams::RemoteTerminal { data, window } => {
                Self::connect_terminal(data, Window::Remote(window), flow)
            }
            Streams::Pipes([stdin, stdout, stderr]) => {
                let flows = vec![
                    flow(End::Input, End::Bottle(stdin)),
                    flow(End::Bottle(stdout), End::output(End::Output)),
                    flow(End::Bottle(stderr), End::output(End::Error)),
                ];
                Ok(Self { flows, window: None, operator: OperatorTerminal::of_output() })
            }
        }
    }

    fn connect_terminal(data: OwnedFd, window: Window, flow: impl Fn(End, End) -> Flow) -> io::Result<Self> {
        let flows = vec![
            flow(End::Input, End::Bottle(data.try_clone()?)),
            flow(End::Bottle(data), End::output(End::Output)),
        ];
        let operator = OperatorTerminal::enter_raw_mode()?;
        Ok(Self { flows, window: Some(window), operator: Some(operator) })
    }

    /// The operator's terminal has another size now.
    pub(crate) fn resize(&self) {
        if let Some(window) = &self.window
            && let Ok(size) = tcgetwinsize(stdio::stdin())
        {
            // The terminal of a program that has just ended.
            let _ = window.resize(size);
        }
    }

    /// What each direction waits for; in the order of the answers that [`Self::carry`] takes.
    pub(crate) fn waits(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.flows.iter().filter_map(Flow::wait)
    }

    /// Moves what can be moved.
    pub(crate) fn carry(&mut self, ready: &[bool]) {
        let mut ready = ready.iter();
        for flow in &mut self.flows {
            if flow.wait().is_some() && ready.next() == Some(&true) {
                flow.carry();
                if let Some(operator) = &mut self.operator
                    && flow.is_output()
                {
                    operator.note_output(&flow.buffer);
                }
            }
        }
        // Without the operator's terminal the program's own hangs up: its last descriptor is closed here.
        if self.window.is_some() && self.flows.iter().any(|flow| flow.operator_is_gone) {
            self.flows.clear();
            (self.window, self.operator) = (None, None);
        }
    }

    /// Whether nothing waits that was read.
    pub(crate) fn is_written(&self) -> bool {
        !self.flows.iter().any(Flow::pending)
    }

    /// No more of the operator's input is taken.
    pub(crate) fn end_input(&mut self) {
        self.flows.retain(Flow::is_output);
    }

    /// Whether everything that the program wrote has arrived.
    pub(crate) fn is_drained(&self) -> bool {
        self.flows.iter().filter(|flow| flow.is_output()).all(|flow| flow.wait().is_none())
    }
}

impl Flow {
    fn is_output(&self) -> bool {
        matches!(self.to, Some(End::Output | End::Error | End::Terminal(_)))
    }

    fn pending(&self) -> bool {
        self.written < self.buffer.len()
    }

    fn wait(&self) -> Option<PollFd<'_>> {
        match (&self.from, &self.to) {
            (_, Some(to)) if self.pending() => Some(PollFd::new(to, PollFlags::OUT)),
            (Some(from), Some(_)) => Some(PollFd::new(from, PollFlags::IN)),
            _ => None,
        }
    }

    fn carry(&mut self) {
        if self.pending() { self.write() } else { self.read() }
    }

    fn read(&mut self) {
        let Some(from) = &self.from else { return };
        self.buffer.resize(BUFFER_BYTES, 0);
        self.written = 0;
        match rustix::io::read(from, &mut self.buffer) {
            Ok(count) if count > 0 => {
                self.buffer.truncate(count);
                self.write();
            }
            Err(Errno::INTR | Errno::AGAIN) => self.buffer.clear(),
            // The end; of a terminal whose programs are gone: EIO.
            Ok(_) | Err(_) => {
                self.operator_is_gone = !self.is_output();
                self.buffer.clear();
                self.from = None;
                self.to = None;
            }
        }
    }

    fn write(&mut self) {
        let Some(to) = &self.to else { return };
        let mut piece = &self.buffer[self.written..];
        if !matches!(to, End::Bottle(_) | End::Terminal(_)) {
            piece = &piece[..piece.len().min(OPERATOR_WRITE_BYTES)];
        }
        match rustix::io::write(to, piece) {
            Ok(count) => {
                self.written += count;
                if self.from.is_none() && !self.pending() {
                    self.to = None;
                }
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // The reader is gone. Closing the other end too gives the writer EPIPE.
            Err(_) => {
                self.operator_is_gone = self.is_output();
                self.buffer.clear();
                self.written = 0;
                self.from = None;
                self.to = None;
            }
        }
    }
}
