//! What an asynchronous log doubts when it is opened again: nothing after the death of its process, its last entry
//! after a power failure (R25).

#[cfg(test)]
mod commitlog_support;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::commitlog_support::{Maker, group, options};
    use dledger::commitlog::{LogOptions, Opened, Rule, WriteBatch, open};
    use dledger::config::Durability;
    use dledger::env::memory::{Fate, MemoryDisk};
    use dledger::types::Index;

    fn asynchronous() -> LogOptions {
        LogOptions { durability: Durability::Async { flush_every: Duration::from_secs(1) }, ..options() }
    }

    fn opened(disk: &MemoryDisk, options: LogOptions) -> Opened {
        open(disk.handle(), &group(), options).unwrap()
    }

    /// A log that has taken three records and synced none of them.
    fn written(disk: &MemoryDisk, options: LogOptions) -> Opened {
        let mut log = opened(disk, options);
        let mut maker = Maker::new();
        let records = (0..3).map(|_| maker.of_kind(1, dledger::types::Kind::Data, b"payload")).collect();
        log.writer.write(&WriteBatch { records, ..WriteBatch::default() }).unwrap();
        log
    }

    fn doubts(log: &Opened) -> bool {
        assert_eq!(log.report.rules.contains(&Rule::PowerLost), log.state.last_in_doubt.is_some());
        log.state.last_in_doubt.is_some()
    }

    #[test]
    fn async_log_of_a_killed_process_doubts_nothing() {
        let disk = MemoryDisk::new();
        drop(written(&disk, asynchronous()));
        disk.kill_process();
        let log = opened(&disk, asynchronous());
        assert!(!doubts(&log));
        assert_eq!(log.state.last.index, Index(3));
    }

    #[test]
    fn async_log_after_a_power_failure_doubts_its_last_entry_until_somebody_vouches_for_it() {
        let disk = MemoryDisk::new();
        drop(written(&disk, asynchronous()));
        disk.power_cut(|_| Fate::Lost);
        let log = opened(&disk, asynchronous());
        assert!(doubts(&log));
        assert_eq!(log.state.last.index, Index::ZERO, "nothing of it was synced");
        drop(log);
        disk.kill_process();
        let mut log = opened(&disk, asynchronous());
        assert!(log.state.last_in_doubt.is_some(), "a restart answers nothing");
        log.writer.write(&WriteBatch { trust_last: true, ..WriteBatch::default() }).unwrap();
        drop(log);
        disk.kill_process();
        assert!(!doubts(&opened(&disk, asynchronous())));
    }

    #[test]
    fn async_log_that_was_closed_in_order_doubts_nothing_after_a_power_failure() {
        let disk = MemoryDisk::new();
        written(&disk, asynchronous()).writer.close(Index(3)).unwrap();
        disk.power_cut(|_| Fate::Lost);
        let log = opened(&disk, asynchronous());
        assert!(!doubts(&log));
        assert_eq!(log.state.last.index, Index(3));
    }

    #[test]
    fn async_log_whose_power_fails_at_any_call_of_its_life_doubts_or_has_everything() {
        for call in 1.. {
            let disk = MemoryDisk::new();
            drop(opened(&disk, asynchronous()));
            disk.kill_process();
            disk.cut_power_at(call);
            let life = || {
                let mut log = open(disk.handle(), &group(), asynchronous()).ok()?;
                let mut maker = Maker::new();
                let records = vec![maker.of_kind(1, dledger::types::Kind::Data, b"payload")];
                log.writer.write(&WriteBatch { records, ..WriteBatch::default() }).ok()?;
                let closed = log.writer.close(Index(1)).is_ok();
                Some(closed)
            };
            let acknowledged = life();
            let off = disk.is_off();
            disk.power_cut(|_| Fate::Lost);
            let log = opened(&disk, asynchronous());
            assert!(acknowledged.is_none() || doubts(&log) || log.state.last.index == Index(1), "call {call}");
            if !off {
                assert!(call > 20 && !doubts(&log), "{call}");
                return;
            }
        }
    }

    #[test]
    fn synced_log_leaves_no_note_and_one_that_becomes_so_removes_it() {
        let disk = MemoryDisk::new();
        drop(written(&disk, asynchronous()));
        disk.kill_process();
        drop(opened(&disk, options()));
        disk.power_cut(|_| Fate::Lost);
        let log = opened(&disk, options());
        assert!(!doubts(&log), "opening has synced everything");
        assert_eq!(log.state.last.index, Index(3));
    }
}
