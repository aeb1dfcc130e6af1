//! Archives, honest and hostile ones, that become files.

mod archive;
mod honest;
mod hostile;
mod patch;
