//! The gateway's log, as far as it goes.

use std::{
    io::{self, Write},
    sync::Mutex,
};

use crate::limits::MAX_LOG_BYTES;

/// A log that ends when it has its bytes: an agent can cause lines of it.
#[derive(Debug)]
pub struct BoundedLog<W> {
    sink: Mutex<(W, Left)>,
}

#[derive(Debug, Clone, Copy)]
enum Left {
    Bytes(u64),
    Nothing,
}

const LAST_LINE: &[u8] = b"this log has reached its limit; nothing more is written to it\n";

impl<W: Write> BoundedLog<W> {
    /// Writes [`MAX_LOG_BYTES`] to `sink`, and no more.
    pub fn new(sink: W) -> Self {
        Self::with_bytes(sink, MAX_LOG_BYTES)
    }

    fn with_bytes(sink: W, bytes: u64) -> Self {
        Self { sink: Mutex::new((sink, Left::Bytes(bytes))) }
    }
}

impl<W: Write> Write for &BoundedLog<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut guard = self.sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (sink, left) = &mut *guard;
        match *left {
            Left::Nothing => {}
            Left::Bytes(bytes) => match bytes.checked_sub(line.len() as u64) {
                Some(rest) => {
                    *left = Left::Bytes(rest);
                    sink.write_all(line)?;
                }
                None => {
                    *left = Left::Nothing;
                    sink.write_all(LAST_LINE)?;
                }
            },
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_that_it_is_the_last() {
        let log = BoundedLog::with_bytes(Vec::new(), 10);
        for line in ["12345\n", "1234", "5\n", "6\n"] {
            (&log).write_all(line.as_bytes()).expect("written");
        }
        let (written, _) = log.sink.into_inner().expect("not poisoned");
        assert_eq!(written, [b"12345\n1234", LAST_LINE].concat());
    }
}
