//! Whole or not there: the store on a disk that forgets, with the power cut at every disk call.
//!
//! A short history writes snapshots, fetches one and removes old ones. For each of its calls that can change the disk
//! the power fails during that call; what was not synced is lost, kept or garbled. Then the newest snapshot that was
//! acknowledged is there, or a newer one whose writing was under way, with exactly its items; none is damaged, nothing
//! is left over, and more can be written. The same holds when the power fails again while the store is opened, when the
//! process is killed first, and when each sync in turn fails. Two tests prove that a disk that lies is noticed.

#[cfg(test)]
mod snapshot_support;

#[cfg(test)]
mod tests {
    use super::snapshot_support::*;
    use dledger::env::memory::{Fate, MemoryDisk, Pending};
    use dledger::snapshot::{Snapshot, SnapshotError, SnapshotStore};
    use dledger::types::EntryId;

    /// What a history was told.
    #[derive(Clone, Debug, Default)]
    struct Told {
        /// The newest that was acknowledged.
        done: u64,
        /// One that was begun later.
        begun: u64,
    }

    fn state(index: u64) -> List {
        list(index as usize, 30)
    }

    fn peer(index: u64) -> Snapshot {
        let mut store = open(&MemoryDisk::new());
        store.write(base(index), &state(index)).unwrap();
        store.get(id(index)).unwrap()
    }

    fn fetch(store: &mut SnapshotStore, from: &Snapshot) -> Result<(), SnapshotError> {
        let mut writer = store.begin_copy(from.manifest().clone())?;
        for number in 0..from.manifest().chunks {
            writer.write(&from.chunk(number)?)?;
        }
        writer.finish().map(drop)
    }

    /// Ends early when a call fails.
    fn history(memory: &MemoryDisk, told: &mut Told, peer: &Snapshot) -> Result<(), String> {
        let text = |error: SnapshotError| error.to_string();
        let mut store = SnapshotStore::open(memory.handle(), &group(), options()).map_err(|error| error.to_string())?;
        for index in [2, 4] {
            told.begun = index;
            store.write(base(index), &state(index)).map_err(text)?;
            told.done = index;
        }
        told.begun = 6;
        fetch(&mut store, peer).map_err(text)?;
        told.done = 6;
        store.retain(2, &[]).map_err(text)?;
        drop(store.begin(base(7)).map_err(text)?);
        told.begun = 8;
        store.write(base(8), &state(8)).map_err(text)?;
        told.done = 8;
        store.retain(1, &[]).map(drop).map_err(text)
    }

    /// Opens what a failure left, and finds what must be there; then goes on, and finds that too after one more cut.
    fn check(memory: &MemoryDisk, told: &Told) -> Result<(), String> {
        for round in ["after the failure", "after one more cut"] {
            let mut store = SnapshotStore::open(memory.handle(), &group(), options()).map_err(|e| e.to_string())?;
            let (last, found) = newest(&mut store)?.unwrap_or_default();
            let index = last.index.get();
            if index != told.done && index != told.begun {
                return Err(format!("{round}: found {index}, told {told:?}"));
            }
            if last != EntryId::ZERO && found != state(index) {
                return Err(format!("{round}: snapshot {index} has other items"));
            }
            for other in store.list().map_err(|error| error.to_string())? {
                let snapshot = store.get(other).map_err(|error| error.to_string())?;
                snapshot.verify().map_err(|error| format!("{round}: {error}"))?;
            }
            let names = memory.handle().list(&dir()).unwrap().len();
            if names != store.list().unwrap().len() {
                return Err(format!("{round}: something is left over"));
            }
            // What was found must stay: the log before it may be removed now.
            memory.power_cut(|_| Fate::Lost);
            let again = newest(&mut open(memory))?.unwrap_or_default();
            if again != (last, found) {
                return Err(format!("{round}: {index} was found and then lost"));
            }
        }
        let mut store = open(memory);
        store.write(base(20), &state(20)).map_err(|error| format!("going on: {error}"))?;
        store.retain(1, &[]).map_err(|error| format!("going on: {error}"))?;
        memory.power_cut(|_| Fate::Lost);
        match newest(&mut open(memory))? {
            Some((last, found)) if last == id(20) && found == state(20) => Ok(()),
            other => Err(format!("going on: found {:?}", other.map(|(id, _)| id))),
        }
    }

    type NamedFate = (String, Box<dyn FnMut(&Pending<'_>) -> Fate>);

    fn fates(call: u64) -> Vec<NamedFate> {
        let mut fates: Vec<NamedFate> = Vec::new();
        for fate in [Fate::Lost, Fate::Kept, Fate::Garbled] {
            fates.push((format!("all {fate:?}"), Box::new(move |_| fate)));
        }
        for seed in call * 8..call * 8 + 8 {
            fates.push((format!("seed {seed}"), Box::new(Fate::seeded(seed))));
        }
        fates
    }

    /// Runs the history with the power cut at each of its calls, and shows each moment.
    fn at_each_call(
        setup: impl Fn(&MemoryDisk),
        mut check: impl FnMut(u64, &MemoryDisk, &Told) -> Result<(), String>,
    ) -> Result<u64, String> {
        let peer = peer(6);
        for call in 1..1000 {
            let memory = MemoryDisk::new();
            setup(&memory);
            memory.cut_power_at(call);
            let mut told = Told::default();
            if history(&memory, &mut told, &peer).is_ok() && !memory.is_off() {
                return Ok(call - 1);
            }
            check(call, &memory, &told)?;
        }
        Err("the history does not end".to_owned())
    }

    fn survives_each_fate(call: u64, memory: &MemoryDisk, told: &Told) -> Result<(), String> {
        for (name, fate) in fates(call) {
            let memory = memory.fork();
            memory.power_cut(fate);
            check(&memory, told).map_err(|error| format!("cut at call {call}, {name}: {error}"))?;
        }
        Ok(())
    }

    #[test]
    fn snapshot_power_cut_at_each_call_leaves_whole_ones_only() {
        let calls = at_each_call(|_| {}, survives_each_fate).unwrap();
        assert!(calls > 80, "only {calls} calls: the history shows little");
    }

    #[test]
    fn snapshot_power_cut_at_each_call_of_opening_leaves_whole_ones_only() {
        let mut openings = 0;
        let cut_openings = |call: u64, memory: &MemoryDisk, told: &Told| {
            let fallen = memory.fork();
            fallen.power_cut(Fate::seeded(call));
            for again in 1..100 {
                let memory = fallen.fork();
                memory.cut_power_at(again);
                if SnapshotStore::open(memory.handle(), &group(), options()).is_ok() && !memory.is_off() {
                    break;
                }
                openings += 1;
                memory.power_cut(Fate::seeded(call * 100 + again));
                check(&memory, told).map_err(|error| format!("cut at call {call}, again at {again}: {error}"))?;
            }
            Ok(())
        };
        at_each_call(|_| {}, cut_openings).unwrap();
        assert!(openings > 300, "only {openings} openings were cut");
    }

    #[test]
    fn snapshot_process_killed_at_each_call_leaves_whole_ones_only() {
        // What is found after the kill is durable from then on, though nobody synced it before.
        let killed = |call: u64, memory: &MemoryDisk, told: &Told| {
            let memory = memory.fork();
            check(&memory, told).map_err(|error| format!("killed at call {call}: {error}"))
        };
        at_each_call(|_| {}, killed).unwrap();
    }

    #[test]
    fn snapshot_sync_that_fails_acknowledges_nothing_and_leaves_whole_ones_only() {
        let peer = peer(6);
        let unharmed = MemoryDisk::new();
        history(&unharmed, &mut Told::default(), &peer).unwrap();
        let syncs = unharmed.counts().syncs + unharmed.counts().dir_syncs;
        assert!(syncs > 30, "only {syncs} syncs");
        for call in 1..=syncs {
            let memory = MemoryDisk::new();
            memory.fail_sync(call);
            let mut told = Told::default();
            // Only when it cleans up behind itself a failure is of no concern to the caller.
            let ended = history(&memory, &mut told, &peer);
            assert!(ended.is_err() || told.done == 8, "sync {call}");
            for seed in 0..4 {
                let memory = memory.fork();
                memory.power_cut(Fate::seeded(seed * 1000 + call));
                check(&memory, &told).map_err(|error| format!("sync {call} failed, seed {seed}: {error}")).unwrap();
            }
        }
    }

    #[test]
    fn snapshot_lost_by_a_disk_that_lies_about_syncs_is_noticed() {
        at_each_call(|memory| memory.drop_syncs(true), survives_each_fate).unwrap_err();
    }

    #[test]
    fn snapshot_lost_by_a_disk_that_lies_about_names_is_noticed() {
        at_each_call(|memory| memory.drop_dir_syncs(true), survives_each_fate).unwrap_err();
    }
}
