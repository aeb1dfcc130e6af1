//! The shared parts of all error types: advice apart from the message, and `io::Error` with its context.

use std::{borrow::Cow, error::Error, io};

/// An error with advice. The message says what happened, the hint what to do; they are printed apart.
pub trait Hint: Error {
    /// What to do, one piece of advice per line; `None` if there is nothing to say.
    fn hint(&self) -> Option<Cow<'_, str>> {
        None
    }
}

/// An error of the operating system with its context, because the system's text names neither the action nor
/// the file.
#[derive(Debug, thiserror::Error)]
#[error("{context}: {source}")]
pub struct IoError {
    /// What failed, with the file or address: `opening /etc/hosts`, or `/etc/hosts cannot be read`.
    pub context: String,
    /// The system's error.
    pub source: io::Error,
}

impl IoError {
    /// Adds the context to an error.
    pub fn new(context: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { context: context.into(), source: source.into() }
    }

    /// Whether the file system is full or the quota used up.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl Hint for IoError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        self.is_out_of_space().then_some("make room on the disk".into())
    }
}

/// Adds a context to the errors of system calls and of `std::fs`.
pub trait IoContext<T> {
    /// Turns the error into an [`IoError`]. The context is only rendered on failure.
    ///
    /// # Errors
    /// The error of `self`.
    fn io_context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T, IoError>;
}

impl<T, E: Into<io::Error>> IoContext<T> for Result<T, E> {
    fn io_context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T, IoError> {
        self.map_err(|source| IoError::new(context(), source))
    }
}

/// The causes of an error, outermost first. A cause whose text is part of an earlier message is left out,
/// because many messages quote their cause. An error whose cause may quote a secret, such as a parser's, must
/// have no `source`: everything that is returned here is printed.
#[must_use]
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut told = error.to_string();
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !told.contains(&text) {
            told.push('\n');
            told.push_str(&text);
            causes.push(text);
        }
        next = cause.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the bottle did not start")]
    struct Outer(#[source] IoError);

    #[test]
    fn causes_that_the_message_quotes_are_left_out() {
        let inner = || IoError::new("opening /x", io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(causes(&inner()), Vec::<String>::new());
        assert_eq!(causes(&Outer(inner())), ["opening /x: entity not found"]);
    }

    #[test]
    fn only_a_full_disk_has_a_hint() {
        let error = |kind: io::ErrorKind| IoError::new("writing /x", kind);
        assert!(error(io::ErrorKind::StorageFull).hint().is_some_and(|hint| hint.contains("room")));
        assert!(error(io::ErrorKind::PermissionDenied).hint().is_none());
    }
}
