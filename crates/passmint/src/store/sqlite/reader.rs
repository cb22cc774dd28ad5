//! Connections that only read, so that no read waits for a commit.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::health::Health;
use crate::store::{CommitSink, StoreError};

/// How many reads run at once. They are point look-ups in memory; more would only add contention.
const CONNECTIONS: usize = 4;

/// A pool of read-only connections, used on the runtime's blocking threads.
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    sink: Arc<dyn CommitSink>,
    health: Arc<Health>,
}

impl Readers {
    pub(super) fn open(
        path: &Path,
        sink: Arc<dyn CommitSink>,
        health: Arc<Health>,
    ) -> Result<Self, rusqlite::Error> {
        let connections = (0..CONNECTIONS).map(|_| connect(path)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            idle: Arc::new(Mutex::new(connections)),
            permits: Arc::new(Semaphore::new(CONNECTIONS)),
            sink,
            health,
        })
    }

    /// Runs `work` on a connection of the pool.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
        T: Send + 'static,
    {
        let asked = Instant::now();
        let span = tracing::info_span!("store read", db.system.name = "sqlite");
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Failed("the readers have ended".to_owned()))?;
        let idle = Arc::clone(&self.idle);
        let outcome = tokio::task::spawn_blocking(move || {
            // A permit stands for a connection, so there is one; it goes back before the permit.
            let connection = idle.lock().pop();
            let lease = Lease { connection, idle };
            let outcome = lease.connection.as_ref().map(|connection| snapshot(connection, work));
            drop(lease);
            drop(permit);
            outcome
        })
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))?;
        self.sink.read(asked.elapsed());
        drop(span);
        outcome.ok_or_else(|| StoreError::Failed("no connection to read with".to_owned()))?.map_err(
            |error| {
                let error = StoreError::from(error);
                self.health.note(&error);
                error
            },
        )
    }
}

/// A connection that goes back to the pool, also when its reader panics.
struct Lease {
    connection: Option<Connection>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.idle.lock().extend(self.connection.take());
    }
}

/// All that `work` reads is of one moment.
fn snapshot<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>,
) -> Result<T, rusqlite::Error> {
    let transaction = connection.unchecked_transaction()?;
    let outcome = work(&transaction)?;
    transaction.commit()?;
    Ok(outcome)
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    connection.execute_batch("PRAGMA cache_size = -1024; PRAGMA query_only = ON;")?;
    Ok(connection)
}
