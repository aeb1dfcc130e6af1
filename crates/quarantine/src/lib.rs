//! What came out of a bottle is verified here, and only then becomes a part of the operator's files.
//!
//! Each function takes one stream that a stranger sent: [`import`](import::import) a git bundle,
//! [`unpack`](unpack::unpack) a tar archive, [`write_patch`](patch::write_patch) a patch. It is written to a
//! private folder, checked there within bounds, and put in place by one rename or one transaction of git; on
//! any error nothing of it stays.

pub mod import;
pub mod patch;
pub mod unpack;

mod dot_git;
