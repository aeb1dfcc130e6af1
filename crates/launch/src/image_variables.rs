//! The variables that an image brings.

use std::collections::BTreeMap;

use crate::backend::StartProgram;

/// They hold where the plan says nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageVariables(BTreeMap<String, String>);

impl ImageVariables {
    /// From `NAME=value`, as an image has them.
    pub(crate) fn new(environment: &[String]) -> Self {
        let pair =
            |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(environment.iter().filter_map(pair).collect())
    }

    /// The program with those that it has not. The folders of the image's `PATH` come after its own.
    pub(crate) fn complete(&self, program: &StartProgram) -> StartProgram {
        let mut program = program.clone();
        for (name, value) in &self.0 {
            match (name.as_str(), program.environment.get_mut("PATH")) {
                // The programs of the image lie where it says.
                ("PATH", Some(path)) => path.extend([":", value]),
                _ => drop(program.environment.entry(name.clone()).or_insert_with(|| value.clone())),
            }
        }
        program
    }
}
