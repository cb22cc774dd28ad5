//! The view that every verification asks: what has been ended, in memory, with no database read.
//!
//! The view holds the live part of the store's revocation table. The store feeds it
//! (`app::Committed`) after each commit and before any answer; at start it is filled from the table,
//! in the background where that is long, and until it is loaded verification asks the table itself.
//! On one node it is therefore never stale.
//!
//! It grows with what is ended and not with how often: of one user it keeps the newest ending and the
//! newest with another exception, of one session's generations those whose grace is not over and one more.
//! It is locked in parts, each for one look-up or one change.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::RwLock;

use crate::domain::revocation::{Revocation, RevocationEntry, TokenSubject};
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use crate::domain::user::UserId;

/// Parts that are locked apart.
const SHARDS: usize = 64;

/// An epoch below which a user's tokens are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ended {
    sequence: i64,
    epoch: u64,
}

/// All endings of one user's sessions. A token of epoch u in session s is refused when some ending has
/// an epoch above u and does not except s. The newest has the highest epoch, so for all sessions but the
/// one it excepts it decides alone; for that one the newest ending with another exception does.
#[derive(Clone, Copy, Debug)]
struct UserEnded {
    newest: Ended,
    except: Option<SessionId>,
    with_another: Option<Ended>,
}

/// A generation below which a session's tokens are refused from a time on.
#[derive(Clone, Copy, Debug)]
struct EndedGeneration {
    sequence: i64,
    generation: u32,
    from: Timestamp,
}

#[derive(Debug, Default)]
struct SessionEnded {
    /// The sequence number of its end, if it is ended as a whole.
    whole: Option<i64>,
    generations: Vec<EndedGeneration>,
}

/// What has been ended and still matters.
#[derive(Debug)]
pub struct RevocationView {
    sessions: [RwLock<HashMap<SessionId, SessionEnded>>; SHARDS],
    users: [RwLock<HashMap<UserId, UserEnded>>; SHARDS],
    hasher: RandomState,
    loaded: AtomicBool,
    /// See [`RevocationView::forget`]; microseconds.
    swept_until: AtomicI64,
}

impl Default for RevocationView {
    fn default() -> Self {
        Self {
            sessions: std::array::from_fn(|_| RwLock::default()),
            users: std::array::from_fn(|_| RwLock::default()),
            hasher: RandomState::new(),
            loaded: AtomicBool::new(false),
            swept_until: AtomicI64::new(0),
        }
    }
}

impl RevocationView {
    /// Takes entries; an entry that is there already is taken once, and their order does not matter.
    pub fn apply(&self, entries: &[RevocationEntry], now: Timestamp) {
        for entry in entries {
            let sequence = entry.sequence;
            match entry.revocation {
                Revocation::Session(id) => {
                    self.session(id).write().entry(id).or_default().whole = Some(sequence);
                }
                Revocation::User { user, epoch, except } => {
                    let ended =
                        UserEnded { newest: Ended { sequence, epoch }, except, with_another: None };
                    let mut users = self.user(user).write();
                    users.entry(user).and_modify(|known| known.add(ended)).or_insert(ended);
                }
                Revocation::Generation { session, generation, from } => {
                    let mut sessions = self.session(session).write();
                    let ended = &mut sessions.entry(session).or_default().generations;
                    add_generation(ended, EndedGeneration { sequence, generation, from }, now);
                }
            }
        }
    }

    /// All that the table held when the process started is here now.
    pub fn set_loaded(&self) {
        self.loaded.store(true, Ordering::Release);
    }

    /// Whether it can be asked for everything.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Notes what the wall clock said at the last sweep: [`RevocationView::is_complete_at`].
    pub fn set_swept_until(&self, until: Timestamp) {
        self.swept_until.fetch_max(until.micros(), Ordering::Relaxed);
    }

    /// Whether every token that is unexpired at `now` and ended is known here. Under a clock that was set
    /// back behind the last sweep it may not be.
    pub fn is_complete_at(&self, now: Timestamp) -> bool {
        now.micros() >= self.swept_until.load(Ordering::Relaxed)
    }

    /// Drops entries that the store has swept.
    pub fn forget(&self, swept: &[RevocationEntry]) {
        for entry in swept {
            match entry.revocation {
                Revocation::User { user, .. } => {
                    let mut users = self.user(user).write();
                    let Some(known) = users.get_mut(&user) else { continue };
                    // Older ones have been swept before.
                    if known.newest.sequence == entry.sequence {
                        users.remove(&user);
                    } else if known.with_another.is_some_and(|e| e.sequence == entry.sequence) {
                        known.with_another = None;
                    }
                }
                Revocation::Session(id) | Revocation::Generation { session: id, .. } => {
                    let mut sessions = self.session(id).write();
                    let Some(known) = sessions.get_mut(&id) else { continue };
                    known.whole = known.whole.filter(|sequence| *sequence != entry.sequence);
                    known.generations.retain(|ended| ended.sequence != entry.sequence);
                    if known.whole.is_none() && known.generations.is_empty() {
                        sessions.remove(&id);
                    }
                }
            }
        }
    }

    /// Whether a genuine token has been ended.
    pub fn is_revoked(&self, token: &TokenSubject, now: Timestamp) -> bool {
        let by_user = token.user.is_some_and(|user| {
            let users = self.user(user).read();
            users.get(&user).is_some_and(|ended| ended.ends(token))
        });
        by_user
            || token.session.is_some_and(|session| {
                let sessions = self.session(session).read();
                sessions.get(&session).is_some_and(|ended| {
                    let over =
                        |e: &EndedGeneration| token.generation < e.generation && now >= e.from;
                    ended.whole.is_some() || ended.generations.iter().any(over)
                })
            })
    }

    /// The sequence number of the newest ending of all of a user's sessions.
    pub fn newest_ending(&self, user: UserId) -> Option<i64> {
        self.user(user).read().get(&user).map(|ended| ended.newest.sequence)
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        let of_session =
            |ended: &SessionEnded| usize::from(ended.whole.is_some()) + ended.generations.len();
        let of_user = |ended: &UserEnded| 1 + usize::from(ended.with_another.is_some());
        let sessions =
            self.sessions.iter().map(|s| s.read().values().map(of_session).sum::<usize>());
        let users = self.users.iter().map(|s| s.read().values().map(of_user).sum::<usize>());
        sessions.chain(users).sum()
    }

    /// Whether nothing is ended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn session(&self, id: SessionId) -> &RwLock<HashMap<SessionId, SessionEnded>> {
        part(&self.sessions, self.hasher.hash_one(id))
    }

    fn user(&self, id: UserId) -> &RwLock<HashMap<UserId, UserEnded>> {
        part(&self.users, self.hasher.hash_one(id))
    }
}

fn part<T>(parts: &[T; SHARDS], hash: u64) -> &T {
    let [first, ..] = parts;
    parts.get(usize::try_from(hash % SHARDS as u64).unwrap_or(0)).unwrap_or(first)
}

impl UserEnded {
    fn ends(&self, token: &TokenSubject) -> bool {
        let kept = self.except.is_some() && self.except == token.session;
        let decides = if kept { self.with_another } else { Some(self.newest) };
        decides.is_some_and(|ended| token.user_epoch < ended.epoch)
    }

    /// Adds an ending, older or newer.
    fn add(&mut self, other: Self) {
        if other.newest.sequence == self.newest.sequence {
            return;
        }
        let (older, newer) =
            if other.newest.epoch > self.newest.epoch { (*self, other) } else { (other, *self) };
        let of_older =
            if older.except == newer.except { older.with_another } else { Some(older.newest) };
        let higher = |a: Ended, b: Ended| if a.epoch > b.epoch { a } else { b };
        let with_another = match (of_older, newer.with_another) {
            (Some(a), Some(b)) => Some(higher(a, b)),
            (a, b) => a.or(b),
        };
        *self = Self { with_another: with_another.filter(|_| newer.except.is_some()), ..newer };
    }
}

/// Adds a generation; of those whose grace is over the highest says all.
fn add_generation(ended: &mut Vec<EndedGeneration>, new: EndedGeneration, now: Timestamp) {
    if ended.iter().any(|known| known.sequence == new.sequence) {
        return;
    }
    ended.push(new);
    let over = |known: &EndedGeneration| known.from <= now;
    let highest = ended.iter().filter(|e| over(e)).map(|e| e.generation).max().unwrap_or(0);
    ended.retain(|known| !over(known) || known.generation == highest);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SessionId = SessionId([1; 16]);
    const OTHER: SessionId = SessionId([2; 16]);
    const USER: UserId = UserId(7);

    #[test]
    fn it_is_loaded_once_it_was_said_to_be() {
        let view = RevocationView::default();
        assert!(!view.is_loaded());
        view.set_loaded();
        assert!(view.is_loaded());
    }

    #[test]
    fn under_a_clock_behind_the_last_sweep_it_does_not_know_everything() {
        let view = RevocationView::default();
        assert!(view.is_complete_at(at(1)), "nothing was swept");
        view.set_swept_until(at(100));
        view.set_swept_until(at(50));
        assert!(view.is_complete_at(at(100)) && !view.is_complete_at(at(99)));
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn entry(sequence: i64, revocation: Revocation) -> RevocationEntry {
        RevocationEntry { sequence, revocation, at: at(100) }
    }

    fn view(revocations: &[Revocation]) -> RevocationView {
        let view = RevocationView::default();
        for (sequence, revocation) in (1..).zip(revocations) {
            view.apply(
                &[RevocationEntry { sequence, revocation: *revocation, at: at(100) }],
                at(100),
            );
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
        view.forget(&[entry(1, Revocation::Session(SESSION))]);
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
        view.apply(&[entry(2, second)], at(100));
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
        view.apply(&[entry(3, ended(3, 360))], at(300));
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

    #[test]
    fn what_was_swept_is_forgotten_and_nothing_else() {
        let [first, second] = [(1, SESSION), (2, OTHER)].map(|(epoch, kept)| Revocation::User {
            user: USER,
            epoch,
            except: Some(kept),
        });
        let [whole, other] = [SESSION, OTHER].map(Revocation::Session);
        let generation = Revocation::Generation { session: SESSION, generation: 1, from: at(150) };
        let all = [first, second, generation, whole, other];
        let view = view(&all);
        assert_eq!((view.len(), view.newest_ending(USER)), (5, Some(2)));
        assert_eq!(view.newest_ending(UserId(8)), None);
        let left = (1..).zip(all).map(|(sequence, revocation)| {
            assert!(!view.is_empty());
            view.forget(&[entry(sequence, revocation)]);
            (view.len(), view.newest_ending(USER), revoked(&view, SESSION, 1, 0))
        });
        assert_eq!(
            left.collect::<Vec<_>>(),
            [
                (4, Some(2), true),
                (3, None, true),
                (2, None, true),
                (1, None, false),
                (0, None, false)
            ]
        );
        assert!(view.is_empty());

        // What is forgotten was swept under its own number: a newer one stays.
        let view = self::view(&[whole, first, generation]);
        view.forget(&[entry(9, whole), entry(9, first), entry(9, generation)]);
        assert_eq!(view.len(), 3);
        view.forget(&[entry(1, whole), entry(9, Revocation::Session(OTHER))]);
        assert_eq!(view.len(), 2, "the generation is still there");
    }

    #[test]
    fn entries_are_spread_over_all_parts() {
        let sessions: Vec<_> = (0..2000_u16)
            .map(|number| {
                let mut id = [0; 16];
                id[..2].copy_from_slice(&number.to_be_bytes());
                Revocation::Session(SessionId(id))
            })
            .collect();
        let view = view(&sessions);
        let empty = view.sessions.iter().filter(|part| part.read().is_empty());
        assert_eq!(empty.count(), 0, "with 31 in each on average");
    }

    /// What the view swallows must change no answer: compared with all endings, in any order.
    #[test]
    fn one_users_endings_take_room_for_two_and_answer_like_all_of_them() {
        let mut random = 1_u64;
        let mut draw = move |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % below
        };
        let sessions = [1, 2, 3].map(|n| SessionId([n; 16]));
        for _ in 0..2000 {
            let endings: Vec<(u64, Option<SessionId>)> = (1..=6)
                .take(1 + draw(6))
                .map(|epoch| (epoch, sessions.get(draw(4)).copied()))
                .collect();
            let mut entries: Vec<RevocationEntry> = endings
                .iter()
                .map(|(epoch, except)| {
                    let (user, epoch, except) = (USER, *epoch, *except);
                    entry(epoch.cast_signed(), Revocation::User { user, epoch, except })
                })
                .collect();
            for index in (1..entries.len()).rev() {
                entries.swap(index, draw(index + 1));
            }
            let view = RevocationView::default();
            view.apply(&entries, at(100));
            view.apply(&entries, at(100));
            assert!(view.len() <= 2, "{endings:?}");
            for session in sessions {
                for epoch in 0..8 {
                    let all = endings
                        .iter()
                        .any(|(ended, except)| epoch < *ended && *except != Some(session));
                    assert_eq!(revoked(&view, session, epoch, 0), all, "{endings:?} {epoch}");
                }
            }
        }
    }
}
