//! An upstream that serves files, such as a package registry's archives.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::upstream::{Answer, AnswerBody, Handler, SeenRequest};

/// Serves each path with its bytes, and 404 for all others.
#[derive(Debug, Clone, Default)]
pub struct StaticFiles {
    files: BTreeMap<String, File>,
}

#[derive(Debug, Clone)]
struct File {
    content: Bytes,
    sent: usize,
}

impl StaticFiles {
    /// Serves this, too.
    #[must_use]
    pub fn file(self, path: &str, content: impl Into<Bytes>) -> Self {
        let content = content.into();
        let sent = content.len();
        self.cut_off(path, content, sent)
    }

    /// Serves this, too, but breaks the connection off after `sent` bytes.
    #[must_use]
    pub fn cut_off(mut self, path: &str, content: impl Into<Bytes>, sent: usize) -> Self {
        self.files.insert(path.to_owned(), File { content: content.into(), sent });
        self
    }
}

impl Handler for StaticFiles {
    fn answer(&self, request: &SeenRequest) -> Answer {
        let Some(File { content, sent }) = self.files.get(&request.path) else {
            return Answer::new(404, "application/json", "{\"error\":\"not found\"}");
        };
        let mut answer = Answer::new(200, "application/octet-stream", content.clone());
        if *sent < content.len() {
            answer.body =
                AnswerBody::BrokenOff { sent: content.slice(..*sent), promised: content.len() as u64 };
        }
        answer
    }
}
