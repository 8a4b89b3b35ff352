//! Sessions: what makes a write that is sent twice be done once.
//!
//! A session numbers its commands. The answer to each is kept until the session says, with a later command, that it has
//! it; a number that comes again meanwhile gets the first answer and does nothing. (Thesis, section 6.3; with a window of
//! numbers in the place of the last one, for clients that have many under way.)
//!
//! ```text
//!   number   1   2   3   4   5   6   7
//!            └───────┘   ▲   kept  ▲
//!            let go      │         └ may come in any order
//!                        first unanswered
//! ```
//! A session dies by log time, when nothing was numbered for its time to live, or for a sixteenth less; or when there are
//! [`MAX_SESSIONS`] and another is opened, the one that would die first. It is never opened again: what it numbered before
//! may have been done.
//!
//! Memory is bounded: [`MAX_SESSIONS`] of at most [`MAX_UNANSWERED`] answers, each of up to [`MAX_KEPT_BYTES`], together
//! [`MAX_KEPT_BYTES_OF_ALL`]; of what is beyond, only that it was done is kept. An answer of no bytes always is.
//! Equal calls leave equal sessions. A clone costs nothing: a session is copied when it changes while a clone of it is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdMap, OrdSet};

use crate::error::Rejection;
use crate::types::{Index, LogTime, SessionId};

use super::answer::Answer;
use super::side::{Side, SideName};

/// Most sessions at once.
pub const MAX_SESSIONS: usize = 4096;
/// Most answers that a session waits for at once.
pub const MAX_UNANSWERED: usize = 1024;
/// The largest answer that is kept, in bytes.
pub const MAX_KEPT_BYTES: usize = 64 << 10;
/// The bytes of all answers that are kept.
pub const MAX_KEPT_BYTES_OF_ALL: usize = 64 << 20;
/// Sessions that one entry ends because their time is up.
const MAX_ENDED: usize = 256;
/// A command moves its session's deadline on only when it moves by this part of the time to live: most change nothing.
const DEADLINE_STEPS: u64 = 16;

/// An answer that may be asked for again.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    revision: Index,
    answer: Bytes,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    ttl_ms: u64,
    deadline: LogTime,
    first_unanswered: u64,
    kept: BTreeMap<u64, Kept>,
}

/// What is to be done about a numbered command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Numbered {
    /// It is to be done.
    New,
    /// It was done, at this revision and with this answer.
    Done(Index, Bytes),
    /// It is not to be done.
    Rejected(Rejection),
}

/// All sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    by_id: OrdMap<SessionId, Arc<Session>>,
    due: OrdSet<(LogTime, SessionId)>,
    kept_bytes: usize,
}

impl Sessions {
    /// When the next session ends.
    pub(super) fn next_deadline(&self) -> Option<LogTime> {
        self.due.get_min().map(|(deadline, _session)| *deadline)
    }

    /// Opens a session, and ends the one that would die first when there are too many.
    pub(super) fn open(&mut self, session: SessionId, ttl_ms: u64, now: LogTime, dirty: &mut Vec<SideName>) {
        while self.by_id.len() >= MAX_SESSIONS
            && let Some((_deadline, first)) = self.due.get_min().copied()
        {
            self.close(first, dirty);
        }
        self.insert(
            session,
            Session { ttl_ms, deadline: after(now, ttl_ms), first_unanswered: 1, kept: BTreeMap::new() },
        );
        dirty.push(SideName::Session(session));
    }

    fn insert(&mut self, id: SessionId, session: Session) {
        self.due.insert((session.deadline, id));
        self.by_id.insert(id, Arc::new(session));
    }

    /// Forgets a session. False when there was none.
    pub(super) fn close(&mut self, id: SessionId, dirty: &mut Vec<SideName>) -> bool {
        let Some(session) = self.by_id.remove(&id) else { return false };
        self.due.remove(&(session.deadline, id));
        for (number, kept) in &session.kept {
            self.kept_bytes = self.kept_bytes.saturating_sub(kept.answer.len());
            dirty.push(SideName::Answer(id, *number));
        }
        dirty.push(SideName::Session(id));
        true
    }

    /// Ends sessions whose time is up, a bounded number of them.
    pub(super) fn end_due(&mut self, now: LogTime, dirty: &mut Vec<SideName>) {
        for _turn in 0..MAX_ENDED {
            let due = self.due.get_min().filter(|(deadline, _session)| *deadline <= now);
            let Some((_deadline, session)) = due.copied() else { return };
            self.close(session, dirty);
        }
    }

    /// A numbered command has come.
    pub(super) fn number(
        &mut self,
        id: SessionId,
        number: u64,
        first_unanswered: u64,
        now: LogTime,
        dirty: &mut Vec<SideName>,
    ) -> Numbered {
        let alive = |session: &&mut Arc<Session>| session.deadline > now;
        let Some(session) = self.by_id.get_mut(&id).filter(alive) else {
            return Numbered::Rejected(Rejection::NoSession(id));
        };
        let session = Arc::make_mut(session);
        let deadline = after(now, session.ttl_ms);
        if deadline.get().saturating_sub(session.deadline.get()) > session.ttl_ms / DEADLINE_STEPS {
            self.due.remove(&(session.deadline, id));
            session.deadline = deadline;
            self.due.insert((deadline, id));
            dirty.push(SideName::Session(id));
        }
        if first_unanswered > session.first_unanswered {
            session.first_unanswered = first_unanswered;
            dirty.push(SideName::Session(id));
            while let Some(kept) = session.kept.first_entry().filter(|kept| *kept.key() < first_unanswered) {
                dirty.push(SideName::Answer(id, *kept.key()));
                self.kept_bytes = self.kept_bytes.saturating_sub(kept.remove().answer.len());
            }
        }
        if number < session.first_unanswered {
            return Numbered::Rejected(Rejection::Forgotten(number));
        }
        match session.kept.get(&number) {
            Some(kept) => Numbered::Done(kept.revision, kept.answer.clone()),
            None if session.kept.len() >= MAX_UNANSWERED => {
                Numbered::Rejected(Rejection::TooManyUnanswered(session.kept.len() as u64))
            }
            None => Numbered::New,
        }
    }

    /// A numbered command was done: keeps its answer.
    pub(super) fn keep(
        &mut self,
        id: SessionId,
        number: u64,
        revision: Index,
        answer: &Bytes,
        dirty: &mut Vec<SideName>,
    ) {
        let Some(session) = self.by_id.get_mut(&id) else { return };
        let room = self.kept_bytes + answer.len() <= MAX_KEPT_BYTES_OF_ALL;
        let fits = answer.is_empty() || (answer.len() <= MAX_KEPT_BYTES && room);
        let answer = if fits { answer.clone() } else { Answer::NotKept.encode() };
        self.kept_bytes += answer.len();
        Arc::make_mut(session).kept.insert(number, Kept { revision, answer });
        dirty.push(SideName::Answer(id, number));
    }

    /// The record of this name, as it is now; `None` when there is none.
    pub(super) fn record(&self, name: &SideName) -> Option<Side> {
        match name {
            SideName::Session(id) => {
                let session = self.by_id.get(id)?;
                let Session { ttl_ms, deadline, first_unanswered, kept: _ } = **session;
                Some(Side::Session { session: *id, ttl_ms, deadline, first_unanswered })
            }
            SideName::Answer(id, number) => {
                let kept = self.by_id.get(id)?.kept.get(number)?;
                let Kept { revision, answer } = kept.clone();
                Some(Side::Answer { session: *id, number: *number, revision, answer })
            }
            SideName::Lease(_) | SideName::Bound(_) => None,
        }
    }

    /// All records, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = Side> {
        let sessions = self.by_id.keys().copied().map(SideName::Session);
        let numbers = |(id, session): (&SessionId, &Arc<Session>)| {
            session.kept.keys().map(|number| SideName::Answer(*id, *number)).collect::<Vec<_>>()
        };
        sessions.chain(self.by_id.iter().flat_map(numbers)).filter_map(|name| self.record(&name))
    }

    /// Takes a record in, sessions ahead of their answers. False when it cannot be part of a state.
    pub(super) fn load(&mut self, side: Side) -> bool {
        match side {
            Side::Session { session, ttl_ms, deadline, first_unanswered } => {
                self.insert(session, Session { ttl_ms, deadline, first_unanswered, kept: BTreeMap::new() });
                true
            }
            Side::Answer { session, number, revision, answer } => {
                let Some(session) = self.by_id.get_mut(&session) else { return false };
                self.kept_bytes += answer.len();
                Arc::make_mut(session).kept.insert(number, Kept { revision, answer });
                true
            }
            Side::Lease { .. } | Side::Bound { .. } => false,
        }
    }
}

fn after(now: LogTime, ttl_ms: u64) -> LogTime {
    LogTime(now.get().saturating_add(ttl_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SessionId = SessionId(5);
    const NOW: LogTime = LogTime(1_000);

    fn opened() -> Sessions {
        let mut sessions = Sessions::default();
        sessions.open(ONE, 160, NOW, &mut Vec::new());
        sessions
    }

    fn ask(sessions: &mut Sessions, number: u64, first_unanswered: u64, now: u64) -> Numbered {
        sessions.number(ONE, number, first_unanswered, LogTime(now), &mut Vec::new())
    }

    fn keep(sessions: &mut Sessions, number: u64, answer: &'static [u8]) {
        sessions.keep(ONE, number, Index(number * 10), &Bytes::from_static(answer), &mut Vec::new());
    }

    #[test]
    fn session_number_that_comes_again_gets_the_first_answer_in_whatever_order() {
        let mut sessions = opened();
        for number in [3, 1] {
            assert_eq!(ask(&mut sessions, number, 1, 1_000), Numbered::New);
            keep(&mut sessions, number, b"answer");
        }
        assert_eq!(ask(&mut sessions, 3, 1, 1_000), Numbered::Done(Index(30), "answer".into()));
        assert_eq!(ask(&mut sessions, 2, 1, 1_000), Numbered::New);
        assert_eq!(ask(&mut sessions, 1, 1, 1_000), Numbered::Done(Index(10), "answer".into()));
    }

    #[test]
    fn session_lets_answers_go_that_it_has_and_refuses_their_numbers() {
        let mut sessions = opened();
        for number in 1..=3 {
            keep(&mut sessions, number, b"answer");
        }
        assert_eq!(ask(&mut sessions, 4, 3, 1_000), Numbered::New);
        assert_eq!(sessions.kept_bytes, 6);
        assert_eq!(ask(&mut sessions, 2, 1, 1_000), Numbered::Rejected(Rejection::Forgotten(2)));
        assert_eq!(ask(&mut sessions, 3, 1, 1_000), Numbered::Done(Index(30), "answer".into()));
    }

    #[test]
    fn session_window_is_bounded_in_count_and_bytes() {
        let mut sessions = opened();
        keep(&mut sessions, 1, b"");
        let large = Bytes::from(vec![0; MAX_KEPT_BYTES + 1]);
        sessions.keep(ONE, 2, Index(2), &large, &mut Vec::new());
        assert_eq!(ask(&mut sessions, 2, 1, 1_000), Numbered::Done(Index(2), Answer::NotKept.encode()));
        for number in 3..=MAX_UNANSWERED as u64 {
            keep(&mut sessions, number, b"");
        }
        let full = Rejection::TooManyUnanswered(MAX_UNANSWERED as u64);
        assert_eq!(ask(&mut sessions, 9_999, 1, 1_000), Numbered::Rejected(full));
        assert_eq!(ask(&mut sessions, 9_999, 2, 1_000), Numbered::New);
    }

    #[test]
    fn session_answer_with_nothing_to_say_is_kept_however_many_others_are() {
        let (mut sessions, two) = (opened(), SessionId(6));
        sessions.open(two, 160, NOW, &mut Vec::new());
        let largest = Bytes::from(vec![0; MAX_KEPT_BYTES]);
        for number in 1..=MAX_UNANSWERED as u64 {
            sessions.keep(ONE, number, Index(number), &largest, &mut Vec::new());
        }
        assert_eq!(sessions.kept_bytes, MAX_KEPT_BYTES_OF_ALL);
        let mut again = |number, answer: &Bytes| {
            sessions.keep(two, number, Index(number), answer, &mut Vec::new());
            sessions.number(two, number, 1, NOW, &mut Vec::new())
        };
        assert_eq!(again(1, &largest), Numbered::Done(Index(1), Answer::NotKept.encode()));
        assert_eq!(again(2, &Answer::Done.encode()), Numbered::Done(Index(2), Answer::Done.encode()));
    }

    #[test]
    fn session_lives_by_its_numbers_and_is_refused_once_its_time_is_up() {
        let mut sessions = opened();
        assert_eq!(ask(&mut sessions, 1, 1, 1_005), Numbered::New);
        assert_eq!(sessions.next_deadline(), Some(LogTime(1_160)), "too small a step");
        assert_eq!(ask(&mut sessions, 1, 1, 1_100), Numbered::New);
        assert_eq!(sessions.next_deadline(), Some(LogTime(1_260)));
        assert_eq!(ask(&mut sessions, 1, 1, 1_260), Numbered::Rejected(Rejection::NoSession(ONE)));
        sessions.end_due(LogTime(1_259), &mut Vec::new());
        assert_eq!(sessions.records().count(), 1);
        sessions.end_due(LogTime(1_260), &mut Vec::new());
        assert_eq!((sessions.records().count(), sessions.next_deadline()), (0, None));
    }

    #[test]
    fn session_beyond_the_most_ends_the_one_that_would_die_first() {
        let mut sessions = Sessions::default();
        for id in 1..=MAX_SESSIONS as u64 {
            sessions.open(SessionId(id), 1_000 + id % 7, NOW, &mut Vec::new());
        }
        sessions.open(SessionId(1 << 20), 9_999, NOW, &mut Vec::new());
        assert_eq!(sessions.by_id.len(), MAX_SESSIONS);
        assert!(!sessions.by_id.contains_key(&SessionId(7)), "the lowest of those with the shortest time");
    }

    #[test]
    fn session_records_make_the_same_sessions_again() {
        let mut sessions = opened();
        sessions.open(SessionId(4), 60, NOW, &mut Vec::new());
        let mut dirty = Vec::new();
        sessions.number(ONE, 3, 2, LogTime(1_100), &mut dirty);
        sessions.keep(ONE, 3, Index(30), &"answer".into(), &mut dirty);
        let mut copy = Sessions::default();
        assert!(sessions.records().all(|side| copy.load(side)));
        assert!(copy.by_id == sessions.by_id && copy.due == sessions.due && copy.kept_bytes == sessions.kept_bytes);
        dirty.sort();
        dirty.dedup();
        assert_eq!(dirty, [SideName::Session(ONE), SideName::Answer(ONE, 3)]);
        assert!(sessions.close(ONE, &mut dirty) && !sessions.close(ONE, &mut dirty));
        assert_eq!(sessions.kept_bytes, 0);
    }
}
