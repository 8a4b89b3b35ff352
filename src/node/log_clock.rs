//! Log time: the clock of the log itself, in milliseconds since the Unix epoch.
//!
//! A leader stamps `max(previous stamp, stamp of the last record before its no-op + monotonic time since that
//! no-op)`. So log time goes on from where the log stands, at the pace of the present leader's monotonic clock, and
//! no wall clock that jumps can make it leap: the wall clock is used once, for the very first record of a cluster.

use std::time::Duration;

use crate::types::{LogTime, Monotonic};

/// Stamps records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogClock {
    last: LogTime,
    /// The last stamp before this leader's no-op, and when the no-op was framed; `None` when not leading.
    office: Option<(LogTime, Monotonic)>,
}

impl LogClock {
    /// A clock of a log whose last record is stamped `last`.
    pub(crate) fn new(last: LogTime) -> Self {
        Self { last, office: None }
    }

    /// This node leads from `now` on.
    pub(crate) fn take_office(&mut self, now: Monotonic) {
        self.office = Some((self.last, now));
    }

    /// Records of another leader were added; the last is stamped `last`.
    pub(crate) fn follow(&mut self, last: LogTime) {
        self.last = last;
        self.office = None;
    }

    /// When the stamps of this leader reach `time`; `None` when it does not lead.
    pub(crate) fn when(&self, time: LogTime) -> Option<Monotonic> {
        let (before, since) = self.office?;
        Some(since.after(Duration::from_millis(time.get().saturating_sub(before.get()))))
    }

    /// The stamp of a record framed at `now`.
    pub(crate) fn stamp(&mut self, now: Monotonic) -> LogTime {
        if let Some((before, since)) = self.office {
            let passed = u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
            self.last = self.last.max(LogTime(before.get().saturating_add(passed)));
        }
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(millis * 1000)
    }

    #[test]
    fn log_time_goes_on_from_the_log_at_the_pace_of_the_leader() {
        let mut clock = LogClock::new(LogTime(1_000));
        clock.take_office(at(50_000));
        assert_eq!(clock.stamp(at(50_000)), LogTime(1_000));
        assert_eq!(clock.stamp(at(50_250)), LogTime(1_250));
        assert_eq!(clock.stamp(at(50_100)), LogTime(1_250), "never backwards");
    }

    #[test]
    fn log_time_is_reached_when_a_record_would_be_stamped_so() {
        let mut clock = LogClock::new(LogTime(1_000));
        assert_eq!(clock.when(LogTime(2_000)), None);
        clock.take_office(at(50_000));
        assert_eq!(clock.when(LogTime(2_000)), Some(at(51_000)));
        assert_eq!(clock.when(LogTime(500)), Some(at(50_000)), "is past");
        assert_eq!(clock.stamp(at(51_000)), LogTime(2_000));
    }

    #[test]
    fn log_time_stands_still_while_following_and_resumes_from_the_new_last_record() {
        let mut clock = LogClock::new(LogTime(1_000));
        clock.take_office(at(0));
        clock.follow(LogTime(5_000));
        assert_eq!(clock.stamp(at(9_000)), LogTime(5_000));
        clock.take_office(at(10_000));
        assert_eq!(clock.stamp(at(10_007)), LogTime(5_007));
    }
}
