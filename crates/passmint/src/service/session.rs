//! Sessions: listing, ending, explaining.

use std::sync::Arc;

use super::{Failure, Parts};
use crate::domain::session::{EndReason, Session, SessionId};
use crate::domain::user::{User, UserId};
use crate::store::Sessions;

/// Lists, ends and explains sessions.
#[derive(Clone)]
pub struct SessionService(Arc<Parts>);

impl SessionService {
    /// Made of `parts`.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }

    /// The user's live sessions, newest first; with `ended`, those that ended too.
    pub async fn of_user(&self, user: UserId, ended: bool) -> Result<Vec<Session>, Failure> {
        Ok(self.0.store.sessions_of(user, ended).await?)
    }

    /// One session with its user, ended or not.
    pub async fn find(&self, id: SessionId) -> Result<Option<(Session, Option<User>)>, Failure> {
        Ok(self.0.store.session(id).await?)
    }

    /// Ends a session, whosever it is; whether it was live.
    pub async fn end(&self, id: SessionId, reason: EndReason) -> Result<bool, Failure> {
        Ok(self.end_some(Sessions::One(id), reason).await? > 0)
    }

    /// Ends a session if it is this user's; whether it was live and theirs.
    pub async fn end_own(
        &self,
        user: UserId,
        id: SessionId,
        reason: EndReason,
    ) -> Result<bool, Failure> {
        Ok(self.end_some(Sessions::OneOf(user, id), reason).await? > 0)
    }

    /// Ends all sessions of the user but `keep`; how many.
    pub async fn end_others(&self, user: UserId, keep: SessionId) -> Result<u64, Failure> {
        self.end_some(Sessions::AllOfExcept(user, keep), EndReason::LoggedOutElsewhere).await
    }

    /// Ends all sessions of the user, on an operator's word; how many.
    pub async fn end_all(&self, user: UserId) -> Result<u64, Failure> {
        self.end_some(Sessions::AllOf(user), EndReason::Admin).await
    }

    async fn end_some(&self, which: Sessions, reason: EndReason) -> Result<u64, Failure> {
        Ok(self.0.store.end_sessions(which, reason).await?)
    }
}
