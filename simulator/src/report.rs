//! What the simulator prints.

use std::io::Write;

use crate::marks::Marks;
use crate::profile::{Fixed, Profile, Theme};

/// A line for the user.
pub(crate) fn say(line: &str) {
    // A reader that went away wants no more lines.
    let _closed = writeln!(std::io::stdout(), "{line}");
}

/// A line about what is wrong.
pub(crate) fn complain(line: &str) {
    let _closed = writeln!(std::io::stderr(), "simulator: {line}");
}

/// The command that replays a seed.
pub(crate) fn command(seed: u64, fixed: &Fixed) -> String {
    let conditions = conditions(fixed);
    format!("cargo run --release -p simulator -- --seed {seed} {conditions}").trim_end().to_owned()
}

/// The flags that stand for these settings.
pub(crate) fn conditions(fixed: &Fixed) -> String {
    let mut flags: Vec<String> = Vec::new();
    if let Some(nodes) = fixed.nodes {
        flags.push(format!("--nodes {nodes}"));
    }
    if fixed.theme != Theme::Swarm {
        flags.push(format!("--profile {}", format!("{:?}", fixed.theme).to_lowercase()));
    }
    if let Some(faults) = &fixed.faults {
        let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
        flags.push(format!("--faults {}", if names.is_empty() { "''".to_owned() } else { names.join(",") }));
    }
    if fixed.ticks != 10_000 {
        flags.push(format!("--ticks {}", fixed.ticks));
    }
    if !fixed.without.is_empty() {
        let names: Vec<&str> = fixed.without.iter().map(String::as_str).collect();
        flags.push(format!("--without {}", names.join(",")));
    }
    flags.join(" ")
}

/// One line about a seed's settings.
pub(crate) fn settings(seed: u64, fixed: &Fixed) -> String {
    format!("seed {seed}: {}", Profile::of(seed, fixed).summary())
}

/// The table of marks; false when one that these settings must reach was not, which is a complaint when `required`.
pub(crate) fn marks(marks: &Marks, fixed: &Fixed, seeds: u64, required: bool) -> bool {
    let all = marks.all();
    for (name, count) in &all {
        say(&format!("{count:>12}  {name}"));
    }
    let reached = all.iter().filter(|(_name, count)| *count > 0).count();
    let missed = marks.missed(fixed, seeds);
    say(&format!("marks: {reached} of {} reached, {} missed", all.len(), missed.len()));
    for name in missed.iter().filter(|_name| required) {
        complain(&format!("never reached: {name}"));
    }
    missed.is_empty()
}
