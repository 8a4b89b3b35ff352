//! Vote files: what must not be forgotten, and what must not be made up.
//!
//! ```text
//!   0 │ offset (2) │ bytes (up to 4)               one damage
//!   1 │ bytes …                                    a whole file of these bytes
//!   2 │ repeated: block (1) │ prefix's bytes (1) │ the 48 covered bytes of a slot     slots with right checksums
//! ```
//! Claims: after one damage the vote is the newest one, whatever was hit; of any file the vote is the one that
//! `docs/format.md` names, read here by code of its own; a vote that is written is the vote after opening again.

use bytes::Buf;
use dledger::commitlog::WriteBatch;
use dledger::error::OpenError;
use dledger::types::{NodeId, Term, Vote};

use crate::sample_log::{self, CLUSTER, sample};
use crate::{Seed, forge, golden};

const BURST_BYTES: usize = 4;
const SLOTS: usize = 4;
/// Bytes of a slot that mean something.
const SLOT_BYTES: usize = 68;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let sample = sample();
    let mode = data.try_get_u8().unwrap_or(0) % 3;
    let original = sample_log::read_file(&sample.disk, &sample_log::vote_file());
    let bytes = match mode {
        0 => damaged(original, data),
        1 => data.to_vec(),
        _ => forged(data),
    };
    let disk = sample.disk.fork();
    sample_log::write_file(&disk, &sample_log::vote_file(), &bytes);
    let (expected, before) = (verdict(&bytes), disk.counts());
    if mode == 0 {
        assert!(matches!(expected, Verdict::Vote(_) | Verdict::Unsupported));
    }
    let opened = match (sample_log::open(&disk), expected) {
        (Ok(opened), Verdict::Vote(vote)) => {
            assert_eq!(opened.state.vote, vote);
            assert!(mode != 0 || vote == sample.vote, "{vote:?} after one damage");
            opened
        }
        (Err(OpenError::LostVote { .. }), Verdict::Lost)
        | (Err(OpenError::Unsupported { .. }), Verdict::Unsupported)
        | (Err(OpenError::Identity { .. }), Verdict::Stranger) => {
            return assert_eq!(disk.counts(), before, "refused, and changed all the same");
        }
        (Ok(opened), expected) => panic!("opened with {:?}, not {expected:?}", opened.state.vote),
        (Err(error), expected) => panic!("{error}, not {expected:?}"),
    };
    assert_eq!(opened.state.last, sample.last);
    let (mut writer, mut vote) = (opened.writer, opened.state.vote);
    for _ in 0..2 {
        vote = Vote { term: vote.term.next(), voted_for: NodeId(3) };
        writer.write(&WriteBatch { vote: Some(vote), ..WriteBatch::default() }).expect("the disk takes a vote");
    }
    drop(writer);
    disk.kill_process();
    let again = sample_log::open(&disk).unwrap_or_else(|error| panic!("a written vote does not open: {error}"));
    assert_eq!(again.state.vote, vote, "a vote was forgotten");
}

#[derive(Debug)]
enum Verdict {
    Vote(Vote),
    Lost,
    Unsupported,
    Stranger,
}

/// What the format says of a file of these bytes.
fn verdict(bytes: &[u8]) -> Verdict {
    let mut newest: Option<(u64, Verdict)> = None;
    for slot in 0..SLOTS {
        let Some(block) = bytes.get(slot * forge::BLOCK..slot * forge::BLOCK + SLOT_BYTES) else { continue };
        let intact = forge::u32_at(block, 12) == crc32fast::hash(&block[..12]);
        if block[..8] != *b"DLEDGVOT" || !intact {
            continue;
        }
        if forge::u32_at(block, 8) != 1 {
            return Verdict::Unsupported;
        }
        if forge::u32_at(block, 16) != crc32fast::hash(&block[20..SLOT_BYTES]) {
            continue;
        }
        let cluster = u128::from_le_bytes(block[20..36].try_into().expect("16 bytes"));
        let ours = cluster == CLUSTER.0 && forge::u64_at(block, 36) == 1;
        let generation = forge::u64_at(block, 44);
        let vote = Vote { term: Term(forge::u64_at(block, 52)), voted_for: NodeId(forge::u64_at(block, 60)) };
        let read = if ours { Verdict::Vote(vote) } else { Verdict::Stranger };
        if newest.as_ref().is_none_or(|(known, _)| generation >= *known) {
            newest = Some((generation, read));
        }
    }
    newest.map_or(Verdict::Lost, |(_generation, verdict)| verdict)
}

fn damaged(mut bytes: Vec<u8>, mut data: &[u8]) -> Vec<u8> {
    let offset = usize::from(data.try_get_u16_le().unwrap_or(0)) % bytes.len();
    let burst = data.len().min(BURST_BYTES).min(bytes.len() - offset);
    bytes[offset..offset + burst].copy_from_slice(&data[..burst]);
    bytes
}

fn forged(mut data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; SLOTS * forge::BLOCK];
    for _ in 0..SLOTS {
        let (Ok(block), Ok(version)) = (data.try_get_u8(), data.try_get_u8()) else { break };
        let at = usize::from(block) % SLOTS * forge::BLOCK;
        bytes[at..at + 8].copy_from_slice(b"DLEDGVOT");
        bytes[at + 8] = if version == 0 { 1 } else { version };
        let length = data.len().min(SLOT_BYTES - 20);
        bytes[at + 20..at + 20 + length].copy_from_slice(&data[..length]);
        data.advance(length);
        forge::vote(&mut bytes[at..at + forge::BLOCK]);
    }
    bytes
}

/// The file as it is, the golden one, damages of each field, and slots of several generations.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let own = sample_log::read_file(&sample().disk, &sample_log::vote_file());
    let golden = golden::dump(&golden::text("format/v1/groups/1/vote.hex"));
    let mut seeds = vec![
        ("own".to_owned(), [&[1][..], &own].concat()),
        ("golden".to_owned(), [&[1][..], &golden].concat()),
        ("empty".to_owned(), vec![1]),
    ];
    for block in 0..SLOTS {
        for at in [0, 8, 12, 16, 20, 44, 52, 60] {
            let [low, high] = ((block * forge::BLOCK + at) as u16).to_le_bytes();
            seeds.push((format!("damage-{block}-{at}"), vec![0, low, high, 1, 2, 3, 4]));
        }
    }
    let slot = |block: u8, version: u8, generation: u64, term: u64| {
        let numbers = [1, generation, term, 2].map(u64::to_le_bytes).concat();
        [&[block, version][..], &CLUSTER.0.to_le_bytes(), &numbers].concat()
    };
    let several = [&[2][..], &slot(0, 0, 4, 5), &slot(1, 0, 4, 5), &slot(2, 0, 5, 6), &slot(3, 0, 5, 6)].concat();
    let later = [&[2][..], &slot(0, 0, 4, 5), &slot(2, 2, 5, 6)].concat();
    let last = [&[2][..], &slot(0, 0, u64::MAX, u64::MAX), &slot(3, 0, 1, 1)].concat();
    seeds.extend([("several".to_owned(), several), ("later".to_owned(), later), ("last".to_owned(), last)]);
    seeds
}
