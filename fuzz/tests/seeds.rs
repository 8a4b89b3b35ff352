//! The targets without a fuzzer: each takes its seeds, and some mutants of them, on any toolchain. One test after the
//! other in one thread, since the targets count what is allocated.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use dledger_fuzz::{TARGETS, Target};

/// Mutants of each target.
const MUTANTS: u64 = 200;

/// Inputs near a seed: some bytes are others, some are gone, some come twice.
fn mutant(seed: &[u8], number: u64) -> Vec<u8> {
    let mut state = number;
    let mut below = |bound: usize| {
        // SplitMix64: the same mutants every time.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ mixed >> 31) % bound.max(1) as u64).unwrap_or(0)
    };
    let mut bytes = seed.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        match below(4) {
            0 => bytes.truncate(at),
            1 => bytes.extend_from_within(at..),
            _ if bytes.is_empty() => bytes.push(below(256) as u8),
            _ => bytes[at] = below(256) as u8,
        }
        bytes.truncate(64 << 10);
    }
    bytes
}

/// Runs one input; one that fails is left where a crash of the fuzzer would be, to be run again.
fn feed(target: &Target, name: &str, bytes: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))).is_err() {
        let crashes = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(target.name);
        let path = crashes.join("crash-seed");
        let kept = std::fs::create_dir_all(&crashes).and_then(|()| std::fs::write(&path, bytes));
        panic!("{}: {name} breaks a claim; the input is in {} ({kept:?})", target.name, path.display());
    }
}

#[test]
fn targets_fed_with_seeds_and_mutants_hold_their_claims() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        let names: BTreeSet<&str> = seeds.iter().map(|(name, _bytes)| name.as_str()).collect();
        assert!(names.len() == seeds.len() && !seeds.is_empty(), "{}: seeds without a name of their own", target.name);
        for (name, bytes) in &seeds {
            feed(target, name, bytes);
        }
        for (number, (name, bytes)) in (0..MUTANTS).zip(seeds.iter().cycle()) {
            feed(target, &format!("mutant {number} of {name}"), &mutant(bytes, number));
        }
        feed(target, "nothing", &[]);
    }
    let programs = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets")).expect("the programs");
    let programs =
        programs.flatten().map(|entry| entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned());
    let listed: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(programs.collect::<BTreeSet<_>>(), listed, "programs on the left, targets on the right");
}
