//! The variables that an image brings.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{backend::StartProgram, resource::replace};

/// Their file in the folder of a run that goes on without its image.
pub(crate) const VARIABLES_FILE: &str = "image-variables.json";

/// They hold where the plan says nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageVariables(BTreeMap<String, String>);

impl ImageVariables {
    /// From `NAME=value`, as an image has them.
    pub(crate) fn new(environment: &[String]) -> Self {
        let pair =
            |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(environment.iter().filter_map(pair).collect())
    }

    /// Writes them into the folder of a run.
    pub(crate) fn write(&self, run: &Path) -> io::Result<()> {
        replace(&run.join(VARIABLES_FILE), &serde_json::to_vec(self)?)
    }

    /// Those of a run; none if it has no such file.
    pub(crate) fn read(run: &Path) -> io::Result<Self> {
        match fs::read(run.join(VARIABLES_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            read => Ok(serde_json::from_slice(&read?)?),
        }
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
