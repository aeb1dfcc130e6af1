//! A bottle that takes one step after another.

use std::{
    fs,
    io::Read,
    process::{Child, Stdio},
};

use anyhow::{Result, bail, ensure};
use bot_bottle_testkit::eventually;

use crate::fixture::Home;

/// Asks the service with the name of a step, when the operator's side has made a file of that name in the bottle.
const STEPS: &str = "for step in $STEPS; do until test -e ~/$step; do sleep 0.05; done; \
                     curl -sS -m 90 -o ~/$step.answer -w '%{http_code}' https://api.test/$step > ~/$step.status; \
                     touch ~/$step.done; done; until test -e ~/end; do sleep 0.05; done";

/// A bottle that takes one step after another.
pub(crate) struct Stepping<'a> {
    home: &'a Home,
    child: Child,
    pub(crate) identity: String,
}

impl<'a> Stepping<'a> {
    pub(crate) fn start(home: &'a Home, steps: &[&str]) -> Result<Self> {
        let script = format!("STEPS='{}'; {STEPS}", steps.join(" "));
        let child = home.command(&[], &script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        Self::of(home, child, "true")
    }

    /// Of a launcher that was started, when this script succeeds in the bottle.
    pub(crate) fn of(home: &'a Home, child: Child, ready: &str) -> Result<Self> {
        let mut stepping = Self { home, child, identity: String::new() };
        eventually("the bottle runs", || {
            if stepping.child.try_wait()?.is_some() {
                let mut said = String::new();
                stepping.child.stderr.as_mut().map_or(Ok(0), |stderr| stderr.read_to_string(&mut said))?;
                bail!("it has ended: {said}");
            }
            let entries = fs::read_dir(home.path(".bot-bottle/state")).into_iter().flatten().flatten();
            let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
            let Some(run) = names.find(|name| !name.starts_with('.')) else { return Ok(false) };
            stepping.identity = run;
            Ok(stepping.exec(ready).is_ok())
        })?;
        Ok(stepping)
    }

    pub(crate) fn exec(&self, script: &str) -> Result<String> {
        let output = self.home.bot_bottle(&["exec", &self.identity, "--", "sh", "-c", script]).output()?;
        ensure!(output.status.success(), "{script}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Takes a step. The status of the answer.
    pub(crate) fn step(&self, step: &str) -> Result<String> {
        self.exec(&format!(
            "touch ~/{step}; until test -e ~/{step}.done; do sleep 0.05; done; cat ~/{step}.status"
        ))
    }

    /// What the launcher printed, once the bottle has ended by itself.
    pub(crate) fn finish(self) -> Result<String> {
        // It may end with the bottle.
        let _ = self.exec("touch ~/end");
        let output = self.child.wait_with_output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
    }
}
