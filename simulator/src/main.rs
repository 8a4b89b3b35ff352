//! `simulator`: runs whole clusters of the production code on one thread, from a seed, and looks for what must not
//! happen. docs/simulation.md tells how to run it, replay a seed and read a trace.
//!
//! ```text
//!   args ─► sweep ─► World (one a seed, as many at once as there are cores) ─► Outcome ─► report
//!              └──► plants: the same with a rule broken, until a checker notices
//! ```

mod args;
mod beyond;
mod checkers;
mod clock;
mod faults;
mod machine;
mod marks;
mod memberships;
mod plants;
mod profile;
mod random;
mod report;
mod sweep;
mod trace;
mod truth;
mod world;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    args::Args::parse().run()
}
