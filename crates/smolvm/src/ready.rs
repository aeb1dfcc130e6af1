//! Waiting for a machine that starts.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{ExecSpec, MachineName, Smolvm, SmolvmError, call::Call, report::shown};

/// The pause after the first attempt that failed; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

impl Smolvm {
    /// Waits until programs can be run in a machine, by running this one, which ends at once. `start` waits for smolvm's
    /// agent alone: the image's root file system may be mounted after that. An attempt that has begun may last beyond
    /// the limit, as long as [`Limits::probe`](crate::Limits::probe).
    ///
    /// # Errors
    /// [`SmolvmError::NotReady`] when the deadline passes or the machine has stopped, with the reason of the last
    /// attempt and the end of the machine's console; other errors when the program cannot be run at all.
    pub fn wait_until_ready(
        &self,
        name: &MachineName,
        program: &ExecSpec,
        limit: Duration,
    ) -> Result<(), SmolvmError> {
        let began = Instant::now();
        let deadline = began + limit;
        let call = Call::Exec { name, spec: program };
        let not_ready = |last_error: String| SmolvmError::NotReady {
            machine: name.to_string(),
            waited: began.elapsed(),
            last_error,
            console: self.console_tail(name),
        };
        let mut pause = FIRST_PAUSE;
        loop {
            let last_error = match self.run_within(&call, None, self.limits().probe) {
                Ok(_) => return Ok(()),
                Err(SmolvmError::Refused { message, .. }) => message,
                Err(SmolvmError::TimedOut { limit, .. }) => {
                    format!("no answer within {:.1} s", limit.as_secs_f32())
                }
                Err(error) => return Err(error),
            };
            match self.machine(name) {
                // It never will be.
                Ok(None) => return Err(not_ready(format!("there is no such machine: {last_error}"))),
                Ok(Some(machine)) if machine.state.is_at_rest() => {
                    return Err(not_ready(format!("the machine is {}: {last_error}", machine.state)));
                }
                Ok(Some(_)) => {}
                Err(error) => return Err(not_ready(format!("{last_error}; {}", shown(&error.to_string())))),
            }
            if Instant::now() + pause >= deadline {
                return Err(not_ready(last_error));
            }
            sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
