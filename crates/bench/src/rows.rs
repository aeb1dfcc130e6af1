//! What is measured.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::{
    client::{Connection, Target},
    contender::{HOSTS, host},
    process::{Usage, usage},
    upstream::LARGE,
};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    /// How long each row with a rate takes.
    pub(crate) duration: Duration,
    /// Large bodies that are sent and received.
    pub(crate) bodies: u32,
    /// Events that are waited for.
    pub(crate) events: usize,
    /// Streams that idle.
    pub(crate) streams: usize,
    /// Hosts that are asked for.
    pub(crate) hosts: usize,
}

impl Amount {
    pub(crate) const WHOLE: Self =
        Self { duration: Duration::from_secs(3), bodies: 3, events: 200, streams: 1_000, hosts: HOSTS };
    pub(crate) const QUICK: Self =
        Self { duration: Duration::from_millis(300), bodies: 1, events: 10, streams: 50, hosts: 100 };
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Row {
    ManyRate,
    ManyProcessor,
    OneLatency,
    OneProcessor,
    NewRate,
    NewProcessor,
    UploadRate,
    UploadProcessor,
    DownloadRate,
    DownloadProcessor,
    EventDelay,
    ResidentIdle,
    ResidentStreams,
    ResidentHosts,
}

impl Row {
    /// What the row is called, with its unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::ManyRate => "32 connections kept alive: requests/s",
            Self::ManyProcessor => "– processor time of the proxy for a request, µs",
            Self::OneLatency => "one connection kept alive: median of a request, ms",
            Self::OneProcessor => "– processor time of the proxy for a request, µs",
            Self::NewRate => "a new connection for each request: requests/s",
            Self::NewProcessor => "– processor time of the proxy for a request, µs",
            Self::UploadRate => "upload of 100 MiB: MiB/s",
            Self::UploadProcessor => "– processor time of the proxy, ms",
            Self::DownloadRate => "download of 100 MiB: MiB/s",
            Self::DownloadProcessor => "– processor time of the proxy, ms",
            Self::EventDelay => "server-sent event: median delay, ms",
            Self::ResidentIdle => "resident when idle, MiB",
            Self::ResidentStreams => "resident with 1,000 idle streams, MiB",
            Self::ResidentHosts => "resident after 6,000 hosts, MiB",
        }
    }
}

/// A figure of a row.
pub(crate) type Figure = (Row, f64);

/// The proxy's process and the way through it.
pub(crate) struct Measured {
    pub(crate) target: Target,
    pub(crate) process: Option<u32>,
    pub(crate) amount: Amount,
}

impl Measured {
    /// What takes time.
    pub(crate) async fn speed(&self) -> Result<Vec<Figure>> {
        // The first connection makes a certificate and threads.
        self.target.connect(&host(0)).await?.get("/").await?;
        let mut figures = self.many().await?;
        figures.extend(self.one().await?);
        figures.extend(self.new_connections().await?);
        figures.extend(self.bodies().await?);
        figures.push(self.events().await?);
        Ok(figures)
    }

    /// What takes memory, first with nothing and then with idle streams, of a proxy that has just started.
    pub(crate) async fn streams(&self) -> Result<Vec<Figure>> {
        let mut figures = self.resident(Row::ResidentIdle);
        let mut open: Vec<Connection> = Vec::new();
        for _ in 0..self.amount.streams {
            let mut connection = self.target.connect(&host(0)).await?;
            connection.subscribe("/idle").await?;
            connection.event().await?;
            open.push(connection);
        }
        figures.extend(self.resident(Row::ResidentStreams));
        Ok(figures)
    }

    /// What certificates for many hosts take, of a proxy that has just started.
    pub(crate) async fn hosts(&self) -> Result<Vec<Figure>> {
        let next = Arc::new(AtomicUsize::new(0));
        let hosts = self.amount.hosts;
        self.concurrently(16, move |target| {
            let next = Arc::clone(&next);
            async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= hosts {
                        return Ok(0);
                    }
                    target.connect(&host(number)).await?.get("/").await?;
                }
            }
        })
        .await?;
        Ok(self.resident(Row::ResidentHosts))
    }

    async fn many(&self) -> Result<Vec<Figure>> {
        let meter = self.meter();
        let end = Instant::now() + self.amount.duration;
        let requests = self
            .concurrently(32, move |target| async move {
                let mut connection = target.connect(&host(0)).await?;
                let mut requests = 0;
                while Instant::now() < end {
                    connection.get("/").await?;
                    requests += 1;
                }
                Ok(requests)
            })
            .await?;
        Ok(meter.rate(Row::ManyRate, Row::ManyProcessor, requests))
    }

    async fn one(&self) -> Result<Vec<Figure>> {
        let mut connection = self.target.connect(&host(0)).await?;
        connection.get("/").await?;
        let meter = self.meter();
        let mut times = Vec::new();
        while meter.started.elapsed() < self.amount.duration {
            let asked = Instant::now();
            connection.get("/").await?;
            times.push(asked.elapsed().as_secs_f64() * 1e3);
        }
        let spent = meter.spent().map(|time| (Row::OneProcessor, time * 1e6 / times.len() as f64));
        Ok(spent.into_iter().chain([(Row::OneLatency, median(times))]).collect())
    }

    async fn new_connections(&self) -> Result<Vec<Figure>> {
        let meter = self.meter();
        let end = Instant::now() + self.amount.duration;
        let requests = self
            .concurrently(8, move |target| async move {
                let mut requests = 0;
                while Instant::now() < end {
                    target.connect(&host(0)).await?.get("/").await?;
                    requests += 1;
                }
                Ok(requests)
            })
            .await?;
        Ok(meter.rate(Row::NewRate, Row::NewProcessor, requests))
    }

    async fn bodies(&self) -> Result<Vec<Figure>> {
        let mebibytes = LARGE as f64 / f64::from(1 << 20) * f64::from(self.amount.bodies);
        let mut figures = Vec::new();
        for (rate, processor) in
            [(Row::UploadRate, Row::UploadProcessor), (Row::DownloadRate, Row::DownloadProcessor)]
        {
            let mut connection = self.target.connect(&host(0)).await?;
            connection.get("/").await?;
            let meter = self.meter();
            for _ in 0..self.amount.bodies {
                if rate == Row::UploadRate {
                    connection.upload().await?;
                } else {
                    connection.get("/download").await?;
                }
            }
            figures.push((rate, mebibytes / meter.started.elapsed().as_secs_f64()));
            let spent = meter.spent();
            figures.extend(spent.map(|time| (processor, time * 1e3 / f64::from(self.amount.bodies))));
        }
        Ok(figures)
    }

    async fn events(&self) -> Result<Figure> {
        let mut connection = self.target.connect(&host(0)).await?;
        connection.subscribe("/events").await?;
        let mut delays = Vec::new();
        for _ in 0..self.amount.events {
            delays.push(connection.event().await? * 1e3);
        }
        Ok((Row::EventDelay, median(delays)))
    }

    /// Runs the same thing so many times at once. Returns the sum of what they return.
    async fn concurrently<F>(&self, tasks: usize, task: impl Fn(Target) -> F) -> Result<usize>
    where
        F: Future<Output = Result<usize>> + Send + 'static,
    {
        let mut running: JoinSet<Result<usize>> = (0..tasks).map(|_| task(self.target.clone())).collect();
        let mut sum = 0;
        while let Some(ended) = running.join_next().await {
            sum += ended??;
        }
        Ok(sum)
    }

    fn resident(&self, row: Row) -> Vec<Figure> {
        self.process.map(|id| (row, usage(id).resident as f64 / f64::from(1 << 20))).into_iter().collect()
    }

    fn meter(&self) -> Meter {
        Meter { process: self.process, before: self.process.map(usage), started: Instant::now() }
    }
}

/// Time, and processor time of the proxy, from here on.
struct Meter {
    process: Option<u32>,
    before: Option<Usage>,
    started: Instant,
}

impl Meter {
    /// Seconds of processor time so far.
    fn spent(&self) -> Option<f64> {
        let after = usage(self.process?).processor;
        Some(after.saturating_sub(self.before?.processor).as_secs_f64())
    }

    fn rate(&self, rate: Row, processor: Row, requests: usize) -> Vec<Figure> {
        let requests = requests as f64;
        let mut figures = vec![(rate, requests / self.started.elapsed().as_secs_f64())];
        figures.extend(self.spent().map(|time| (processor, time * 1e6 / requests)));
        figures
    }
}

/// The middle one; the upper of two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
