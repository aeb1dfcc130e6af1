//! Bundles that real git made, honest and hostile ones, in repositories that real git opens.

mod fixture;
mod harmless;
mod hostile;
mod nothing_runs;
mod refused;
