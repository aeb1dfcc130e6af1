//! Asks for secrets again while the agent runs, on threads: a password manager may take a minute, and the event loop
//! goes on meanwhile.

use std::{
    collections::BTreeSet,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bot_bottle_core::{
    gateway_config::{ControlMessage, RenewalCause},
    provider::GuestFile,
    secret::SecretRef,
};

use crate::renewal::{Clock, RenewableSecrets, RenewalRequest, Renewed, WatchedFile};

mod schedule;

use schedule::Schedule;

/// How often watched files are looked at, and how late a time may be noticed after the host has slept.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// What follows from an event.
#[derive(Debug)]
pub(super) enum Effect {
    /// The gateway has to know.
    Tell(ControlMessage),
    /// A file of the bottle gets another content.
    Replace(GuestFile),
    /// The operator has to know; one sentence.
    Notice(String),
}

/// The secrets that can be asked for again.
pub(crate) struct Renewals {
    entries: Vec<Entry>,
    clock: Arc<dyn Clock>,
    next_look: Instant,
    /// What threads have been told, with the number of the entry, and the way there.
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    /// Readable when there is an answer.
    wake: (UnixStream, UnixStream),
    /// Every thread ends soon once the first is closed.
    cancel: (Option<UnixStream>, Arc<UnixStream>),
    threads: Vec<JoinHandle<()>>,
}

type Answer = (usize, Result<Renewed, String>);

struct Entry {
    secrets: RenewableSecrets,
    schedule: Schedule,
    /// Those for which the gateway waits.
    needed: BTreeSet<SecretRef>,
}

impl Renewals {
    /// Their values are those that the gateway has been given just now.
    pub(crate) fn new(request: RenewalRequest) -> io::Result<Self> {
        let RenewalRequest { secrets, clock } = request;
        let now = clock.now();
        let entry = |secrets: RenewableSecrets| Entry {
            schedule: Schedule::new(secrets.every, secrets.expires.map(since_1970), now),
            needed: BTreeSet::new(),
            secrets,
        };
        let wake = UnixStream::pair()?;
        wake.0.set_nonblocking(true)?;
        let (cancel, cancelled) = UnixStream::pair()?;
        let entries = secrets.into_iter().map(entry).collect();
        Ok(Self {
            entries,
            clock,
            next_look: Instant::now(),
            answers: mpsc::channel(),
            wake,
            cancel: (Some(cancel), Arc::new(cancelled)),
            threads: Vec::new(),
        })
    }

    /// Readable when [`Self::answered`] has something.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake.0.as_fd()
    }

    /// When [`Self::check`] is to be called next.
    pub(super) fn due(&self) -> Option<Instant> {
        let has_times = |entry: &Entry| entry.secrets.watched.is_some() || entry.schedule.next().is_some();
        self.entries.iter().any(has_times).then_some(self.next_look)
    }

    /// Looks at files and at the time, and begins to ask for what has to be asked for.
    pub(super) fn check(&mut self) {
        if Instant::now() < self.next_look {
            return;
        }
        self.next_look = Instant::now() + LOOK_INTERVAL;
        let now = self.clock.now();
        for number in 0..self.entries.len() {
            let entry = &mut self.entries[number];
            if entry.schedule.is_asked() {
                continue;
            }
            if entry.secrets.watched.as_mut().is_some_and(WatchedFile::has_changed) {
                entry.schedule.begin(RenewalCause::Changed);
                self.ask(number);
            } else if entry.schedule.begin_if_due(now).is_some() {
                self.ask(number);
            }
        }
    }

    /// The gateway needs another value of a secret, and waits for an answer.
    pub(super) fn needed(&mut self, reference: SecretRef, cause: RenewalCause) -> Option<Effect> {
        let has = |entry: &Entry| entry.secrets.references.contains(&reference);
        let Some(number) = self.entries.iter().position(has) else {
            let why = format!(
                "{reference} is a variable of the host's environment, which is read once; `secrets.{reference}` in \
                 settings.yml can name a command or a file that gives another value"
            );
            return Some(Effect::Tell(ControlMessage::NotRenewed { reference, why }));
        };
        let entry = &mut self.entries[number];
        entry.needed.insert(reference);
        if !entry.schedule.is_asked() {
            entry.schedule.begin(cause);
            self.ask(number);
        }
        None
    }

    /// What sources have answered meanwhile.
    pub(super) fn answered(&mut self) -> Vec<Effect> {
        let mut woken = [0; 64];
        while matches!((&self.wake.0).read(&mut woken), Ok(1..)) {}
        let mut effects = Vec::new();
        while let Ok((number, answer)) = self.answers.1.try_recv() {
            let (now, entry) = (self.clock.now(), &mut self.entries[number]);
            match answer {
                Ok(renewed) => entry.renewed(renewed, now, &mut effects),
                Err(why) => entry.not_renewed(&why, now, &mut effects),
            }
        }
        self.threads.retain(|thread| !thread.is_finished());
        effects
    }

    fn ask(&mut self, number: usize) {
        let source = Arc::clone(&self.entries[number].secrets.source);
        let (answers, cancelled) = (self.answers.0.clone(), Arc::clone(&self.cancel.1));
        let waking = self.wake.1.try_clone();
        let asking = move || {
            let answer = source.ask(cancelled.as_fd());
            // The session is over if nobody receives it.
            let _ = answers.send((number, answer));
            if let Ok(mut waking) = waking {
                let _ = waking.write_all(b"x");
            }
        };
        match thread::Builder::new().name("renewal".to_owned()).spawn(asking) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                let failed = Err(format!("no thread can be started: {error}"));
                let _ = self.answers.0.send((number, failed));
                let _ = (&self.wake.1).write_all(b"x");
            }
        }
    }
}

impl Drop for Renewals {
    /// Ends what still runs: commands of the operator's among it.
    fn drop(&mut self) {
        self.cancel.0 = None;
        for thread in self.threads.drain(..) {
            // A source that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Entry {
    fn renewed(&mut self, renewed: Renewed, now: SystemTime, effects: &mut Vec<Effect>) {
        let Renewed { secrets, expires, files } = renewed;
        self.needed.clear();
        let (cause, ends_soon) = self.schedule.answered(expires.map(since_1970), now);
        effects.extend(files.into_iter().map(Effect::Replace));
        let ends = self.secrets.ends(expires);
        effects.push(Effect::Tell(ControlMessage::Renew { secrets, expires: ends, cause }));
        if ends_soon {
            effects.push(Effect::Notice(self.notice("has no newer value", now)));
        }
    }

    fn not_renewed(&mut self, why: &str, now: SystemTime, effects: &mut Vec<Effect>) {
        let not_renewed =
            |reference| Effect::Tell(ControlMessage::NotRenewed { reference, why: why.to_owned() });
        effects.extend(std::mem::take(&mut self.needed).into_iter().map(not_renewed));
        if self.schedule.failed(now) {
            effects.push(Effect::Notice(self.notice(&format!("gives no other value: {why}"), now)));
        }
    }

    /// For the operator: what is the matter with the source, and until when that does not matter.
    fn notice(&self, what: &str, now: SystemTime) -> String {
        let names: Vec<&str> = self.secrets.references.iter().map(SecretRef::name).collect();
        let minutes =
            |time: SystemTime| time.duration_since(now).map_or(0, |left| left.as_secs().div_ceil(60));
        let left = match self.schedule.expires().map(minutes) {
            Some(0) => "the one in use has ended, and requests with it are refused".to_owned(),
            Some(minutes) => format!("the one in use ends in {minutes} min"),
            None => "the one in use stays".to_owned(),
        };
        format!("{} {what}; {left} ({})", self.secrets.described, names.join(", "))
    }
}

fn since_1970(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}
