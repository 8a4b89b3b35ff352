//! Every disk that a power cut may leave at one moment.
//!
//! ```text
//!   moment ─► each choice of names ─► its changes, without those that cannot matter ─► each choice of fates
//!                                                       │
//!                     one disk image each ◄─────────────┘
//! ```
//! Nothing is drawn at random. What is put together or left out:
//! - A sector that reads the same whether it was kept, lost or garbled (zeros written over zeros that were never
//!   there) is no choice: the images are equal byte for byte. It is found by comparing the two images.
//! - The bytes of files whose names end in `.tmp` after the cut share one fate, and are lost in all states but two for
//!   each choice of names: opening removes such files by their names and never opens one. Names have their fate before
//!   bytes, so these are the names that recovery sees.
//! - Such names, added or removed, share one fate too: what opening does about one does not depend on any other file. A
//!   rename from such a name is a choice of its own.
//!
//! Up to [`COMPLETE`] changes every subset is tried; above that the family that [`family`] describes, and the count of
//! such moments is in [`Counts`]. Up to [`COMPLETE_GARBLED`] changes each of the three fates is tried for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

use dledger::env::memory::{Fate, MemoryDisk, Pending, SECTOR_BYTES};
use dledger::env::{Disk, OpenMode};

/// So many pending changes have all their subsets tried.
const COMPLETE: usize = 12;
/// So many have garbled ones among them in every combination.
const COMPLETE_GARBLED: usize = 4;
/// What all names of unfinished files that come or go are called: they share one fate.
const UNFINISHED: &str = "all names ending in .tmp, added or removed";
/// More pending names than any history here makes: more would need a family of their own.
const MAX_NAMES: usize = 12;

/// A change of a file's bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Change {
    /// Anything pending in any unfinished file.
    Unfinished,
    Length(PathBuf),
    Sector(PathBuf, u64),
}

/// True for a file that opening removes by its name.
fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tmp")
}

impl Change {
    fn of(pending: &Pending<'_>) -> Option<Self> {
        let (Pending::Length { path, .. } | Pending::Sector { path, .. }) = *pending else { return None };
        Some(match *pending {
            _ if is_unfinished(path) => Self::Unfinished,
            Pending::Sector { sector, .. } => Self::Sector(path.to_owned(), sector),
            Pending::Length { .. } | Pending::Added { .. } | Pending::Removed { .. } | Pending::Renamed { .. } => {
                Self::Length(path.to_owned())
            }
        })
    }
}

/// One way in which a moment may end: enough to make the same disk again.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// In the order in which the disk asks for them.
    names: Vec<(String, Fate)>,
    changes: Vec<(Change, Fate)>,
    /// Of all bytes in files that are not finished.
    unfinished: Fate,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, fate) in &self.names {
            writeln!(f, "    {fate:?}: {name}")?;
        }
        for (change, fate) in &self.changes {
            match change {
                Change::Unfinished => {}
                Change::Length(path) => writeln!(f, "    {fate:?}: length of {}", path.display())?,
                Change::Sector(path, sector) => writeln!(f, "    {fate:?}: sector {sector} of {}", path.display())?,
            }
        }
        writeln!(f, "    {:?}: all bytes of files named .tmp", self.unfinished)?;
        write!(f, "    all else pending reads the same either way")
    }
}

/// How much was enumerated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// States, equal images included.
    pub(crate) states: u64,
    /// Those whose image and expectation had not been seen before.
    pub(crate) recovered: u64,
    /// Choices of names whose changes were too many for all their subsets.
    pub(crate) by_family: u64,
    /// The largest number of changes that had all its subsets tried.
    pub(crate) most_changes: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.recovered += other.recovered;
        self.by_family += other.by_family;
        self.most_changes = self.most_changes.max(other.most_changes);
    }
}

/// Images that were recovered already, with what was expected of them.
pub(crate) type Seen = BTreeSet<u64>;

/// Hands `visit` a disk for each state of this moment that was not seen before under the same `key`.
pub(crate) fn each_state(
    moment: &MemoryDisk,
    key: &str,
    seen: &mut Seen,
    mut visit: impl FnMut(&MemoryDisk, &State) -> Result<(), String>,
) -> Result<Counts, String> {
    let mut counts = Counts::default();
    for names in name_choices(moment)? {
        let Changes { changes, any_unfinished, image } = changes(moment, &names);
        match changes.len() {
            many if many > COMPLETE => counts.by_family += 1,
            few => counts.most_changes = counts.most_changes.max(few),
        }
        let every = fates(changes.len()).into_iter().map(|fates| (fates, Fate::Lost));
        // What unfinished files hold is seen twice for each choice of names, with all else kept.
        let unfinished: &[Fate] = if any_unfinished { &[Fate::Kept, Fate::Garbled] } else { &[] };
        let unfinished = unfinished.iter().map(|fate| (vec![Fate::Kept; changes.len()], *fate));
        let every: Vec<_> = every.chain(unfinished).collect();
        counts.states += every.len() as u64;
        // Most syncs find pending what the write before them left: then all of it was seen.
        if !seen.insert(number(&(key, format!("{names:?}"), &changes, any_unfinished, image))) {
            continue;
        }
        for (fates, unfinished) in every {
            let changes = changes.iter().cloned().zip(fates).collect();
            let state = State { names: names.clone(), changes, unfinished };
            let disk = apply(moment, &state);
            if seen.insert(fingerprint(&disk, &format!("{key} {unfinished:?}"))) {
                counts.recovered += 1;
                visit(&disk, &state)?;
            }
        }
    }
    Ok(counts)
}

/// The two plain ends of a moment: everything pending lost, and everything kept.
pub(crate) fn plain_states(moment: &MemoryDisk) -> [(&'static str, MemoryDisk); 2] {
    [("all lost", Fate::Lost), ("all kept", Fate::Kept)].map(|(name, fate)| {
        let disk = moment.fork();
        disk.power_cut(|_| fate);
        (name, disk)
    })
}

/// A copy of the moment with its power cut and this state as the outcome.
pub(crate) fn apply(moment: &MemoryDisk, state: &State) -> MemoryDisk {
    let fates: BTreeMap<&Change, Fate> = state.changes.iter().map(|(change, fate)| (change, *fate)).collect();
    let disk = moment.fork();
    let mut name_fate = name_fates(&state.names);
    disk.power_cut(|pending| match Change::of(pending) {
        None => name_fate(pending),
        Some(Change::Unfinished) => state.unfinished,
        // What reads the same either way has no fate of its own.
        Some(change) => fates.get(&change).copied().unwrap_or(Fate::Lost),
    });
    disk
}

/// Every choice of the names that survive. Which names are asked for depends on the choices above them: names in a
/// directory that is lost are not.
fn name_choices(moment: &MemoryDisk) -> Result<Vec<Vec<(String, Fate)>>, String> {
    let mut choices = Vec::new();
    let mut kept: Vec<bool> = Vec::new();
    loop {
        let mut asked: Vec<(String, Fate)> = Vec::new();
        moment.fork().power_cut(|pending| {
            if Change::of(pending).is_some() {
                return Fate::Lost;
            }
            let name = describe(pending);
            if let Some((_name, fate)) = asked.iter().find(|(known, _)| *known == name && name == UNFINISHED) {
                return *fate;
            }
            let fate = if kept.get(asked.len()) == Some(&true) { Fate::Kept } else { Fate::Lost };
            asked.push((name, fate));
            fate
        });
        if asked.len() > MAX_NAMES {
            return Err(format!("{} names are pending: more than are enumerated", asked.len()));
        }
        kept = asked.iter().map(|(_name, fate)| *fate == Fate::Kept).collect();
        choices.push(asked);
        while kept.pop_if(|last| *last).is_some() {}
        match kept.last_mut() {
            Some(lost) => *lost = true,
            None => return Ok(choices),
        }
    }
}

/// Answers for each name that the disk asks for, in the order of the choice.
fn name_fates(names: &[(String, Fate)]) -> impl FnMut(&Pending<'_>) -> Fate {
    let unfinished = names.iter().find(|(name, _)| name == UNFINISHED).map(|(_, fate)| *fate);
    let mut others = names.iter().filter(|(name, _)| name != UNFINISHED);
    move |pending| {
        if describe(pending) == UNFINISHED {
            return unfinished.unwrap_or(Fate::Lost);
        }
        others.next().map_or(Fate::Lost, |(_name, fate)| *fate)
    }
}

fn describe(pending: &Pending<'_>) -> String {
    match pending {
        Pending::Added { path } | Pending::Removed { path } if is_unfinished(path) => UNFINISHED.to_owned(),
        Pending::Added { path } => format!("name {} added", path.display()),
        Pending::Removed { path } => format!("name {} removed", path.display()),
        Pending::Renamed { from, to } => format!("{} renamed to {}", from.display(), to.display()),
        Pending::Length { .. } | Pending::Sector { .. } => format!("{pending:?}"),
    }
}

/// What is pending in files, once the names have their fates.
struct Changes {
    /// Those whose fate makes a difference.
    changes: Vec<Change>,
    /// Whether there are others, in unfinished files.
    any_unfinished: bool,
    /// A number for the bytes and lengths, with all of them kept and with all of them lost.
    image: u64,
}

fn changes(moment: &MemoryDisk, names: &[(String, Fate)]) -> Changes {
    let settle = |sectors: Fate| {
        let disk = moment.fork();
        let mut name_fate = name_fates(names);
        let (mut changes, mut lengths) = (BTreeSet::new(), Vec::new());
        disk.power_cut(|pending| match Change::of(pending) {
            None => name_fate(pending),
            Some(change) => {
                if let (Change::Length(path), Pending::Length { durable, written, .. }) = (&change, pending) {
                    lengths.push((path.clone(), *durable, *written));
                }
                changes.insert(change);
                if matches!(pending, Pending::Sector { .. }) { sectors } else { Fate::Kept }
            }
        });
        (files(&disk), changes, lengths)
    };
    // With the lengths kept every sector can be read: what is equal here is equal under any length.
    let ((lost, changes, lengths), (kept, ..)) = (settle(Fate::Lost), settle(Fate::Kept));
    let matters = |change: &Change| match change {
        Change::Unfinished => false,
        Change::Length(_) => true,
        Change::Sector(path, sector) => {
            let bytes = |files: &BTreeMap<PathBuf, Vec<u8>>| {
                let from = usize::try_from(*sector).ok()?.checked_mul(SECTOR_BYTES)?;
                let file = files.get(path)?;
                file.get(from..file.len().min(from + SECTOR_BYTES)).map(<[u8]>::to_vec)
            };
            bytes(&lost) != bytes(&kept)
        }
    };
    let any_unfinished = changes.contains(&Change::Unfinished);
    let image = number(&(&lost, &kept, lengths));
    Changes { changes: changes.into_iter().filter(matters).collect(), any_unfinished, image }
}

/// The fates to try for so many changes.
fn fates(changes: usize) -> Vec<Vec<Fate>> {
    let digits = |base: usize| {
        let all = [Fate::Lost, Fate::Kept, Fate::Garbled];
        let count = base.pow(u32::try_from(changes).unwrap_or(u32::MAX));
        (0..count).map(move |code| {
            let mut rest = code;
            let digit = |_| {
                let fate = all[rest % base];
                rest /= base;
                fate
            };
            (0..changes).map(digit).collect::<Vec<_>>()
        })
    };
    if changes <= COMPLETE_GARBLED {
        return digits(3).collect();
    }
    let subsets: Vec<_> = if changes <= COMPLETE { digits(2).collect() } else { family(changes) };
    subsets.into_iter().chain(garbled(changes)).collect()
}

/// For more changes than can be tried in every combination: each start of the row of changes, in their order, kept and
/// the rest lost, and the other way round; each one, and each pair, alone kept and alone lost.
fn family(changes: usize) -> Vec<Vec<Fate>> {
    let mut sets: BTreeSet<Vec<bool>> = BTreeSet::new();
    for first in 0..=changes {
        sets.insert((0..changes).map(|at| at < first).collect());
        for second in 0..changes {
            sets.insert((0..changes).map(|at| at == first || at == second).collect());
        }
    }
    let whole = sets.iter().map(|set| fates_of(set, Fate::Kept, Fate::Lost));
    let inverse = sets.iter().map(|set| fates_of(set, Fate::Lost, Fate::Kept));
    whole.chain(inverse).collect()
}

/// Each change alone garbled, with the rest kept and with the rest lost; and all of them.
fn garbled(changes: usize) -> Vec<Vec<Fate>> {
    let mut fates = vec![vec![Fate::Garbled; changes]];
    for one in 0..changes {
        let alone: Vec<bool> = (0..changes).map(|at| at == one).collect();
        fates.extend([Fate::Kept, Fate::Lost].map(|rest| fates_of(&alone, Fate::Garbled, rest)));
    }
    fates
}

fn fates_of(set: &[bool], inside: Fate, outside: Fate) -> Vec<Fate> {
    set.iter().map(|is_in| if *is_in { inside } else { outside }).collect()
}

/// All finished files on a disk.
fn files(memory: &MemoryDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    walk(&*memory.handle(), Path::new("/"), &mut |path, bytes| {
        files.insert(path.to_owned(), bytes.unwrap_or_default().to_vec());
    });
    files
}

/// A number for a value: equal ones have equal numbers.
fn number(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A number for a disk image, without what unfinished files hold, and what else tells states apart. Equal images have equal numbers; that two of the thousands of
/// others here share one among 2^64 is not to be expected.
pub(crate) fn fingerprint(memory: &MemoryDisk, key: &str) -> u64 {
    const ZEROS: &[u8] = &[0; SECTOR_BYTES];
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    walk(&*memory.handle(), Path::new("/"), &mut |path, bytes| {
        path.as_os_str().hash(&mut hasher);
        bytes.map(<[u8]>::len).hash(&mut hasher);
        for (sector, bytes) in bytes.unwrap_or_default().chunks(SECTOR_BYTES).enumerate() {
            if bytes != &ZEROS[..bytes.len()] {
                sector.hash(&mut hasher);
                hasher.write(bytes);
            }
        }
    });
    hasher.finish()
}

/// Shows every directory (without bytes) and every file (unfinished ones without bytes) below a path.
fn walk(disk: &dyn Disk, path: &Path, visit: &mut impl FnMut(&Path, Option<&[u8]>)) {
    if let Ok(names) = disk.list(path) {
        visit(path, None);
        for name in names {
            walk(disk, &path.join(name), visit);
        }
        return;
    }
    if is_unfinished(path) {
        visit(path, None);
        return;
    }
    let file = disk.open(path, OpenMode::Read).expect("a listed file can be opened");
    let mut bytes = vec![0; usize::try_from(file.len().expect("an open file has a length")).expect("it is small")];
    file.read_exact_at(&mut bytes, 0).expect("all of an open file can be read");
    visit(path, Some(&bytes));
}
