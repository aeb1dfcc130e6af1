//! Both ends of a link in one process, with real pipes, terminals and sockets between.

mod bytes;
mod ends;
mod files_and_dials;
mod flow_control;
mod hostile;
mod messages;
mod pair;
mod terminals;
