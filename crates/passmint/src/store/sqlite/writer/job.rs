//! What the writer's thread is given to do: three kinds of jobs, by who waits for them. A job may be run
//! again: when another one of its batch fails, the batch is rolled back and the others are run anew.

use std::time::Instant;

use tokio::sync::oneshot;
use tracing::field::Empty;

use super::Write;
use crate::store::{StoreError, Uncommitted};

type Sql<T> = Result<T, rusqlite::Error>;

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
    fn way(&self) -> &Way;
    /// Runs its statements, in the transaction of its batch.
    fn run(&mut self, write: &mut Write<'_>) -> Sql<()>;
    /// All jobs of its batch have been executed; the commit follows.
    fn executed(&mut self) {}
    /// Reports the outcome: durable, or why not. What is returned is to be done again.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) -> Option<Box<dyn Job>>;
}

/// A job whose caller waits until it is durable.
pub(super) struct Pending<F, T> {
    way: Way,
    work: F,
    result: Option<T>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Pending<F, T> {
    /// The job, and where its caller gets the outcome.
    pub(super) fn new(work: F) -> (Box<Self>, oneshot::Receiver<Result<T, StoreError>>) {
        let (answer, receiver) = oneshot::channel();
        (Box::new(Self { way: Way::begin(), work, result: None, answer }), receiver)
    }
}

impl<F, T> Job for Pending<F, T>
where
    F: FnMut(&mut Write<'_>) -> Sql<T> + Send,
    T: Send,
{
    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, write: &mut Write<'_>) -> Sql<()> {
        self.result = Some((self.work)(write)?);
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) -> Option<Box<dyn Job>> {
        let Self { result, answer, .. } = *self;
        let none = || StoreError::Failed("the job did not run".to_owned());
        let outcome = outcome.and_then(|()| result.ok_or_else(none));
        // A caller that went away has nobody to tell; what was committed stays committed.
        drop(answer.send(outcome));
        None
    }
}

/// A job whose outcome nobody waits for: it is done again until it is durable.
pub(super) struct Detached<F> {
    way: Way,
    work: F,
}

impl<F> Detached<F> {
    pub(super) fn new(work: F) -> Self {
        Self { way: Way::begin(), work }
    }
}

impl<F> Job for Detached<F>
where
    F: FnMut(&mut Write<'_>) -> Sql<()> + Send + 'static,
{
    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, write: &mut Write<'_>) -> Sql<()> {
        (self.work)(write)
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) -> Option<Box<dyn Job>> {
        match outcome {
            Ok(()) => None,
            Err(StoreError::Failed(error)) => {
                tracing::error!(error, "a record could not be written, and is lost");
                None
            }
            Err(_) => Some(self),
        }
    }
}

/// A job of the hot path: its caller gets the outcome before the commit, and the commit's apart.
pub(super) struct Early<F, T> {
    way: Way,
    work: F,
    result: Option<T>,
    executed: Option<oneshot::Sender<Result<Uncommitted<T>, StoreError>>>,
    committed: Option<oneshot::Sender<Result<(), StoreError>>>,
}

impl<F, T> Early<F, T> {
    /// The job, and where its caller gets what was executed.
    pub(super) fn new(
        work: F,
    ) -> (Box<Self>, oneshot::Receiver<Result<Uncommitted<T>, StoreError>>) {
        let (sender, executed) = oneshot::channel();
        let job =
            Self { way: Way::begin(), work, result: None, executed: Some(sender), committed: None };
        (Box::new(job), executed)
    }
}

impl<F, T> Job for Early<F, T>
where
    F: FnMut(&mut Write<'_>) -> Sql<T> + Send,
    T: Send,
{
    fn way(&self) -> &Way {
        &self.way
    }

    fn run(&mut self, write: &mut Write<'_>) -> Sql<()> {
        self.result = Some((self.work)(write)?);
        Ok(())
    }

    fn executed(&mut self) {
        if let (Some(result), Some(executed)) = (self.result.take(), self.executed.take()) {
            let (sender, committed) = oneshot::channel();
            self.committed = Some(sender);
            drop(executed.send(Ok(Uncommitted::new(result, committed))));
        }
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) -> Option<Box<dyn Job>> {
        match (self.committed, self.executed, outcome) {
            (Some(committed), _, outcome) => drop(committed.send(outcome)),
            // It did not come as far as the commit.
            (None, Some(executed), Err(error)) => drop(executed.send(Err(error))),
            _ => {}
        }
        None
    }
}
