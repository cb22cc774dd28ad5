//! The view that every verification asks: what has been ended, in memory, with no database read.
//!
//! The view holds the live part of the store's revocation table. The store feeds it
//! (`app::Committed`) after each commit and before any answer; at start it is filled from the table.
//! On one node it is therefore never stale.

use std::collections::{HashMap, HashSet};

use parking_lot::RwLock;

use crate::domain::revocation::{Revocation, RevocationEntry, TokenSubject};
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::UserId;

/// An epoch below which a user's tokens are refused, but for those of one session.
#[derive(Clone, Copy, Debug)]
struct UserEpoch {
    sequence: i64,
    epoch: u64,
    except: Option<SessionId>,
}

/// A generation below which a session's tokens are refused from a time on.
#[derive(Clone, Copy, Debug)]
struct EndedGeneration {
    sequence: i64,
    generation: u32,
    from: Timestamp,
}

#[derive(Debug, Default)]
struct Live {
    sessions: HashMap<SessionId, i64>,
    users: HashMap<UserId, Vec<UserEpoch>>,
    generations: HashMap<SessionId, Vec<EndedGeneration>>,
}

/// What has been ended and still matters.
#[derive(Debug, Default)]
pub struct RevocationView {
    live: RwLock<Live>,
}

impl RevocationView {
    /// Takes entries; an entry that is there already is taken once.
    pub fn apply(&self, entries: &[RevocationEntry]) {
        let mut live = self.live.write();
        for entry in entries {
            live.insert(entry);
        }
    }

    /// Drops entries that the store has swept.
    pub fn forget(&self, sequences: &[i64]) {
        if sequences.is_empty() {
            return;
        }
        let sequences: HashSet<i64> = sequences.iter().copied().collect();
        let gone = |sequence: &i64| sequences.contains(sequence);
        let mut live = self.live.write();
        live.sessions.retain(|_, sequence| !gone(sequence));
        live.users.retain(|_, epochs| {
            epochs.retain(|epoch| !gone(&epoch.sequence));
            !epochs.is_empty()
        });
        live.generations.retain(|_, ended| {
            ended.retain(|generation| !gone(&generation.sequence));
            !ended.is_empty()
        });
    }

    /// Whether a genuine token has been ended.
    pub fn is_revoked(&self, token: &TokenSubject, now: Timestamp) -> bool {
        let live = self.live.read();
        let by_user = token.user.and_then(|user| live.users.get(&user)).is_some_and(|epochs| {
            epochs.iter().any(|ended| {
                let kept = ended.except.is_some() && ended.except == token.session;
                token.user_epoch < ended.epoch && !kept
            })
        });
        let Some(session) = token.session else {
            return by_user;
        };
        by_user
            || live.sessions.contains_key(&session)
            || live.generations.get(&session).is_some_and(|ended| {
                ended.iter().any(|e| token.generation < e.generation && now >= e.from)
            })
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        let live = self.live.read();
        live.sessions.len()
            + live.users.values().map(Vec::len).sum::<usize>()
            + live.generations.values().map(Vec::len).sum::<usize>()
    }

    /// Whether nothing is ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Live {
    fn insert(&mut self, entry: &RevocationEntry) {
        let sequence = entry.sequence;
        match entry.revocation {
            Revocation::Session(id) => {
                self.sessions.insert(id, sequence);
            }
            Revocation::User { user, epoch, except } => {
                let epochs = self.users.entry(user).or_default();
                if epochs.iter().all(|known| known.sequence != sequence) {
                    epochs.push(UserEpoch { sequence, epoch, except });
                }
            }
            Revocation::Generation { session, generation, from } => {
                let ended = self.generations.entry(session).or_default();
                if ended.iter().all(|known| known.sequence != sequence) {
                    // Of those whose grace is over, the highest covers all.
                    let over = |known: &EndedGeneration| known.from <= entry.at;
                    let highest =
                        ended.iter().filter(|e| over(e)).map(|e| e.generation).max().unwrap_or(0);
                    ended.retain(|known| !over(known) || known.generation == highest);
                    ended.push(EndedGeneration { sequence, generation, from });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId([1; 16]);
    const OTHER: SessionId = SessionId([2; 16]);
    const USER: UserId = UserId(7);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn view(revocations: &[Revocation]) -> RevocationView {
        let view = RevocationView::default();
        for (sequence, revocation) in (1..).zip(revocations) {
            view.apply(&[RevocationEntry { sequence, revocation: *revocation, at: at(100) }]);
        }
        view
    }

    fn revoked(view: &RevocationView, session: SessionId, epoch: u64, generation: u32) -> bool {
        let token = TokenSubject {
            user: Some(USER),
            session: Some(session),
            generation,
            user_epoch: epoch,
        };
        view.is_revoked(&token, at(200))
    }

    #[test]
    fn an_ended_session_and_no_other() {
        let view = view(&[Revocation::Session(SESSION)]);
        assert!(revoked(&view, SESSION, 0, 5));
        assert!(!revoked(&view, OTHER, 0, 5));
        view.forget(&[1]);
        assert!(!revoked(&view, SESSION, 0, 5) && view.is_empty());
    }

    #[test]
    fn a_password_change_keeps_the_session_it_came_from_until_the_next_one() {
        let first = Revocation::User { user: USER, epoch: 1, except: Some(SESSION) };
        let view = view(&[first]);
        assert!(!revoked(&view, SESSION, 0, 0));
        assert!(revoked(&view, OTHER, 0, 0));
        assert!(!revoked(&view, OTHER, 1, 0), "a login after the change");
        let second = Revocation::User { user: USER, epoch: 2, except: Some(OTHER) };
        view.apply(&[RevocationEntry { sequence: 2, revocation: second, at: at(100) }]);
        assert!(revoked(&view, SESSION, 1, 0));
        assert!(!revoked(&view, OTHER, 1, 0));
        assert!(revoked(&view, OTHER, 0, 0), "an older token of a session kept only later");
    }

    #[test]
    fn earlier_generations_end_when_the_grace_is_over() {
        let ended = |generation, from| Revocation::Generation {
            session: SESSION,
            generation,
            from: at(from),
        };
        let view = view(&[ended(1, 150), ended(2, 250)]);
        assert!(revoked(&view, SESSION, 0, 0));
        assert!(!revoked(&view, SESSION, 0, 1), "its grace runs until 250");
        assert!(!revoked(&view, SESSION, 0, 2));
        let third = RevocationEntry { sequence: 3, revocation: ended(3, 360), at: at(300) };
        view.apply(&[third]);
        assert_eq!(view.len(), 2, "the first is covered by the second");
        let token = |generation| TokenSubject {
            user: Some(USER),
            session: Some(SESSION),
            generation,
            user_epoch: 0,
        };
        assert!(view.is_revoked(&token(1), at(300)));
        assert!(!view.is_revoked(&token(2), at(300)));
        assert!(view.is_revoked(&token(2), at(360)));
    }
}
