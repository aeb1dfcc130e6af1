//! This program where it has to run without libraries: in containers and virtual machines that have others, or none.

use std::{
    fs::File,
    io::{self, Read, Seek},
    path::Path,
};

use bot_bottle_core::error::IoContext;

use crate::error::LaunchError;

/// Opens this program's file.
///
/// # Errors
/// [`LaunchError::NotStatic`] where it needs libraries.
pub(crate) fn open(executable: &Path) -> Result<File, LaunchError> {
    let reading = || format!("reading {}", executable.display());
    let mut file = File::open(executable).io_context(reading)?;
    if !is_static(&mut file).io_context(reading)? {
        return Err(LaunchError::NotStatic);
    }
    file.rewind().io_context(reading)?;
    Ok(file)
}

/// Whether an executable names no interpreter, that is, no dynamic linker: elf(5), `PT_INTERP`.
fn is_static(file: &mut File) -> io::Result<bool> {
    const PT_INTERP: u32 = 3;
    const HEADER_BYTES: usize = 64;
    const PROGRAM_HEADER_BYTES: usize = 56;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an ELF executable of 64 bits");
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF\x02") {
        return Err(malformed());
    }
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let offset = u64::from_le_bytes(header[32..40].try_into().map_err(|_| malformed())?);
    let (size, count) = (usize::from(half(54)), usize::from(half(56)));
    if size != PROGRAM_HEADER_BYTES {
        return Err(malformed());
    }
    file.seek(io::SeekFrom::Start(offset))?;
    let mut headers = vec![0; size * count];
    file.read_exact(&mut headers)?;
    Ok(!headers.chunks(size).any(|header| header.starts_with(&PT_INTERP.to_le_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_executable_is_known() {
        // The test itself needs the C library; a text is no executable at all.
        let own = std::env::current_exe().expect("a path");
        assert!(!is_static(&mut File::open(own).expect("opened")).expect("an executable"));
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        is_static(&mut File::open(manifest).expect("opened")).expect_err("a text");
    }
}
