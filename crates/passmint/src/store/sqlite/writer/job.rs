//! What the writer's thread is given to do: three kinds of jobs, told apart by who waits for them.

use std::time::Instant;

use tokio::sync::oneshot;
use tracing::field::Empty;

use super::Write;
use crate::store::{StoreError, Uncommitted};

/// Whether a job must be undone alone when it fails half-way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Yes: wrapped in a savepoint.
    Alone,
    /// The hot path: a failure fails the whole batch, which is rolled back.
    WithBatch,
}

/// A job's way through the queue, from being handed in until it is durable.
pub(super) struct Way {
    pub(super) since: Instant,
    /// Of the request's trace, if there is one; ends with the job.
    pub(super) span: tracing::Span,
}

impl Way {
    pub(super) fn begin() -> Self {
        let span = tracing::info_span!(
            "store write",
            db.system.name = "sqlite",
            db.operation.batch.size = Empty,
            otel.status_code = Empty
        );
        Self { since: Instant::now(), span }
    }
}

pub(super) trait Job: Send {
    fn scope(&self) -> Scope;
    fn way(&self) -> &Way;
    /// Whether it succeeded.
    fn run(&mut self, write: &mut Write<'_>) -> bool;
    /// Tells the outcome. What is returned is to be done again.
    fn finish(self: Box<Self>, commit_failure: Option<&str>) -> Option<Box<dyn Job>>;
}

/// A job whose caller waits until it is durable.
pub(super) struct Pending<F, T> {
    way: Way,
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Pending<F, T> {
    /// The job, and where its caller hears of it.
    pub(super) fn new(work: F) -> (Box<Self>, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, heard) = oneshot::channel();
        (Box::new(Self { way: Way::begin(), work: Some(work), outcome: None, answer }), heard)
    }
}

impl<F, T> Job for Pending<F, T>
where
    F: FnOnce(&mut Write<'_>) -> Result<T, rusqlite::Error> + Send,
    T: Send,
{
    fn scope(&self) -> Scope {
        Scope::Alone
    }

    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, write: &mut Write<'_>) -> bool {
        let Some(work) = self.work.take() else {
            return false;
        };
        let outcome = work(write).map_err(StoreError::from);
        let done = outcome.is_ok();
        self.outcome = Some(outcome);
        done
    }

    fn finish(self: Box<Self>, commit_failure: Option<&str>) -> Option<Box<dyn Job>> {
        let outcome = match (self.outcome, commit_failure) {
            (Some(Ok(_)) | None, Some(cause)) => Err(StoreError::Unavailable(cause.to_owned())),
            (Some(outcome), _) => outcome,
            (None, None) => Err(StoreError::Failed("the job did not run".to_owned())),
        };
        // A caller that went away has nobody to tell; what was committed stays committed.
        drop(self.answer.send(outcome));
        None
    }
}

/// A job whose outcome nobody waits for: it is done again until it is durable.
pub(super) struct Unheard<F> {
    way: Way,
    work: F,
    failure: Option<StoreError>,
}

impl<F> Unheard<F> {
    pub(super) fn new(work: F) -> Self {
        Self { way: Way::begin(), work, failure: None }
    }
}

impl<F> Job for Unheard<F>
where
    F: FnMut(&mut Write<'_>) -> Result<(), rusqlite::Error> + Send + 'static,
{
    fn scope(&self) -> Scope {
        Scope::Alone
    }

    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, write: &mut Write<'_>) -> bool {
        self.failure = (self.work)(write).err().map(StoreError::from);
        self.failure.is_none()
    }

    fn finish(self: Box<Self>, commit_failure: Option<&str>) -> Option<Box<dyn Job>> {
        match &self.failure {
            _ if commit_failure.is_some() => Some(self),
            Some(StoreError::Unavailable(_)) => Some(self),
            Some(error) => {
                tracing::error!(%error, "a record could not be written, and is lost");
                None
            }
            None => None,
        }
    }
}

/// A job of the hot path: its caller hears of the outcome before the commit, and of the commit apart.
pub(super) struct Early<F, T> {
    way: Way,
    work: Option<F>,
    executed: Option<oneshot::Sender<Result<Uncommitted<T>, StoreError>>>,
    committed: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl<F, T> Early<F, T> {
    /// The job, and where its caller hears that it is executed.
    pub(super) fn new(
        work: F,
    ) -> (Box<Self>, oneshot::Receiver<Result<Uncommitted<T>, StoreError>>) {
        let (sender, executed) = oneshot::channel();
        let way = Way::begin();
        let job = Self { way, work: Some(work), executed: Some(sender), committed: None };
        (Box::new(job), executed)
    }
}

impl<F, T> Job for Early<F, T>
where
    F: FnOnce(&mut Write<'_>) -> Result<T, rusqlite::Error> + Send,
    T: Send,
{
    fn scope(&self) -> Scope {
        Scope::WithBatch
    }

    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, write: &mut Write<'_>) -> bool {
        let (Some(work), Some(executed)) = (self.work.take(), self.executed.take()) else {
            return false;
        };
        match work(write) {
            Ok(outcome) => {
                let (sender, committed) = oneshot::channel();
                self.committed = Some(sender);
                drop(executed.send(Ok(Uncommitted::new(outcome, committed))));
                true
            }
            Err(error) => {
                drop(executed.send(Err(error.into())));
                false
            }
        }
    }

    fn finish(self: Box<Self>, commit_failure: Option<&str>) -> Option<Box<dyn Job>> {
        let outcome = match commit_failure {
            None => Ok(()),
            Some(cause) => Err(StoreError::Unavailable(cause.to_owned())),
        };
        match (self.committed, self.executed, outcome) {
            (Some(committed), _, outcome) => drop(committed.send(outcome)),
            // It did not run.
            (None, Some(executed), Err(error)) => drop(executed.send(Err(error))),
            // It failed, and its caller has heard.
            _ => {}
        }
        None
    }
}
