//! Places at which a test kills the process; outside of tests there is nothing here.

/// The process may die here.
#[cfg(not(test))]
pub(super) const fn site(_what: &str) {}

/// The process may die here, after RocksDB has flushed by itself.
#[cfg(not(test))]
pub(super) fn flushed_site(_what: &str, _flush: impl FnOnce()) {}

#[cfg(test)]
pub(super) use planned::{flushed_site, plan, site};

#[cfg(test)]
mod planned {
    use std::io::Write;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Places still to be passed, the last of them not; 0: none is to kill.
    static LEFT: AtomicU64 = AtomicU64::new(0);

    /// Dies at the place that is passed as the `nth`, from 1.
    pub(in super::super) fn plan(nth: u64) {
        LEFT.store(nth, Ordering::SeqCst);
    }

    /// The process may die here, after RocksDB has flushed by itself: else what was written with the last breath would never
    /// be seen again, and no test would notice that it was half of something.
    pub(in super::super) fn flushed_site(what: &str, flush: impl FnOnce()) {
        if LEFT.load(Ordering::SeqCst) == 1 {
            flush();
        }
        site(what);
    }

    /// The process may die here, as by `kill -9`: nothing is flushed, closed or said.
    pub(in super::super) fn site(what: &str) {
        if LEFT.load(Ordering::SeqCst) > 0 && LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
            // Not by a macro: the harness would keep it for an end that never comes.
            drop(std::io::stderr().write_all(format!("killed {what}\n").as_bytes()));
            std::process::abort();
        }
    }
}
