//! The synchronous client.

use std::{future::Future, time::Duration};

use bollard::Docker;
use bot_bottle_core::error::IoContext as _;
use tokio::{runtime, time::timeout};

use crate::{
    EngineAddress, EngineError, EngineInfo,
    connection::{BollardResult, CALL_LIMIT, Connection},
    error::Purpose,
};

/// A client of one engine. It has no connection between calls, so that it notices an engine's restart only by
/// the containers that are gone.
///
/// Each call blocks. None may be made from within an async runtime: that panics.
#[derive(Debug)]
pub struct Engine {
    address: EngineAddress,
    connection: Connection,
    runtime: runtime::Runtime,
}

impl Engine {
    /// Asks the engine at the address for its API version, and speaks the newest API that both sides know.
    ///
    /// # Errors
    /// When no engine of API 1.41 or newer answers, or this user may not use it.
    pub fn connect(address: &EngineAddress) -> Result<Self, EngineError> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .io_context(|| "making the runtime of the engine's client")?;
        let connection = runtime.block_on(Connection::open(address))?;
        Ok(Self { address: address.clone(), connection, runtime })
    }

    /// Where the engine is.
    #[must_use]
    pub fn address(&self) -> &EngineAddress {
        &self.address
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn info(&self) -> Result<EngineInfo, EngineError> {
        let action = "asking the engine for its properties";
        let info = self.get(action, "/info")?;
        EngineInfo::new(self.connection.kind, self.connection.api, info)
            .map_err(|error| EngineError::Unexpected { action: action.to_owned(), why: error.to_string() })
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.connection.docker
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Makes a call that has to be answered within [`CALL_LIMIT`].
    pub(crate) fn call<T>(
        &self,
        action: &str,
        purpose: Purpose,
        call: impl Future<Output = BollardResult<T>>,
    ) -> Result<T, EngineError> {
        self.block_on(async {
            let answer = within(action, CALL_LIMIT, call).await?;
            answer.map_err(|error| EngineError::new(action, purpose, error))
        })
    }

    /// Removes something: what does not exist is removed already.
    pub(crate) fn remove<T>(
        &self,
        action: &str,
        call: impl Future<Output = BollardResult<T>>,
    ) -> Result<(), EngineError> {
        match self.call(action, Purpose::Remove, call) {
            Err(error) if error.refusal() == Some(crate::RefusalKind::NotFound) => Ok(()),
            removed => removed.map(drop),
        }
    }

    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}

/// Waits for a part of a call.
pub(crate) async fn within<T>(
    action: &str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> Result<T, EngineError> {
    timeout(limit, work).await.map_err(|_| EngineError::TimedOut { action: action.to_owned(), limit })
}
