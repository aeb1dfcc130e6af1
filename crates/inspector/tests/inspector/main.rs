//! Real git on temporary folders: an operator's folder, the copy in which an agent works, and what the inspector
//! says of it. After every question the copy is compared with what it was before.

mod archive;
mod bundle;
mod fixture;
mod hostile;
mod loose;
mod patch;
mod states;
