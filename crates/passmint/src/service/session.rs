//! Sessions: listing, ending, explaining.

use std::sync::Arc;

use super::{Failure, Parts};
use crate::domain::audit::Actor;
use crate::domain::revocation::TokenSubject;
use crate::domain::session::{EndReason, Session, SessionId};
use crate::domain::user::{User, UserId};
use crate::store::Sessions;

pub use crate::store::SessionPage;

/// Lists, ends and explains sessions.
#[derive(Clone)]
pub struct SessionService(Arc<Parts>);

impl SessionService {
    /// Made of `parts`.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }

    /// The user's sessions, newest first.
    pub async fn of_user(&self, user: UserId, page: SessionPage) -> Result<Vec<Session>, Failure> {
        Ok(self.0.store.sessions_of(user, page).await?)
    }

    /// One session with its user, ended or not.
    pub async fn find(&self, id: SessionId) -> Result<Option<(Session, Option<User>)>, Failure> {
        Ok(self.0.store.session(id).await?)
    }

    /// Ends a session, whosever it is; whether it was live.
    pub async fn end(
        &self,
        id: SessionId,
        reason: EndReason,
        actor: Actor,
    ) -> Result<bool, Failure> {
        Ok(self.end_some(Sessions::One(id), reason, actor).await? > 0)
    }

    /// Ends the session of a genuine token on its holder's word. Its access tokens are refused from then
    /// on, even where nothing is kept of the session any more.
    pub async fn end_proven(&self, id: SessionId, actor: Actor) -> Result<(), Failure> {
        let token = TokenSubject { user: None, session: Some(id), generation: 0, user_epoch: 0 };
        if self.0.is_revoked(&token, self.0.clock.now()).await? {
            return Ok(());
        }
        self.end_some(Sessions::Proven(id), EndReason::Logout, actor).await.map(drop)
    }

    /// Ends a session if it is this user's; whether it was live and theirs.
    pub async fn end_own(
        &self,
        user: UserId,
        id: SessionId,
        reason: EndReason,
    ) -> Result<bool, Failure> {
        Ok(self.end_some(Sessions::OneOf(user, id), reason, Actor::User(user)).await? > 0)
    }

    /// Ends all sessions of the user but `keep`; how many.
    pub async fn end_others(&self, user: UserId, keep: SessionId) -> Result<u64, Failure> {
        let which = Sessions::AllOfExcept(user, keep);
        self.end_some(which, EndReason::LoggedOutElsewhere, Actor::User(user)).await
    }

    /// Ends all sessions of the user, on an operator's word; how many.
    pub async fn end_all(&self, user: UserId) -> Result<u64, Failure> {
        self.end_some(Sessions::AllOf(user), EndReason::Admin, Actor::Operator).await
    }

    async fn end_some(
        &self,
        which: Sessions,
        reason: EndReason,
        actor: Actor,
    ) -> Result<u64, Failure> {
        Ok(self.0.store.end_sessions(which, reason, self.0.by(actor)).await?)
    }
}
