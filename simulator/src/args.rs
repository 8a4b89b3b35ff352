//! The command line.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;

use crate::faults::Fault;
use crate::plants::Catalogued;
use crate::profile::{Fixed, Theme};
use crate::{beyond, plants, report, sweep};

/// Runs dledger clusters on simulated machines and checks that nothing happens which must not.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Args {
    /// Run so many seeds, from --from on
    #[arg(long, default_value_t = 100, conflicts_with = "seed", value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed alone
    #[arg(long)]
    seed: Option<u64>,
    /// Print what happened, event by event (with --seed)
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Run each seed twice and compare the hashes of the traces
    #[arg(long)]
    twice: bool,
    /// Nodes of each cluster: 3, 5 or 7; drawn from the seed when not given
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// What kind of faults
    #[arg(long, value_enum, default_value_t = Theme::Swarm)]
    profile: Theme,
    /// Exactly these faults, with commas between; an empty list for none
    #[arg(long, value_delimiter = ',')]
    faults: Option<Vec<String>>,
    /// Simulated milliseconds of each run
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(4_000..=1_000_000))]
    ticks: u64,
    /// Break a rule on purpose and see whether a checker notices: a plant's name, or `all`
    #[arg(long)]
    plant: Option<String>,
    /// Break every rule, one after the other (the same as --plant all)
    #[arg(long, value_parser = ["all"], conflicts_with = "plant")]
    plants: Option<String>,
    /// Runs at once
    #[arg(long, default_value_t = cores())]
    jobs: NonZeroUsize,
}

fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

impl Args {
    /// Does what was asked.
    pub(crate) fn run(self) -> ExitCode {
        match self.try_run() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(usage) => {
                report::complain(&usage);
                ExitCode::from(2)
            }
        }
    }

    fn try_run(self) -> Result<bool, String> {
        let fixed = self.fixed()?;
        let wanted = self.plants.as_deref().or(self.plant.as_deref());
        match (wanted, self.seed) {
            (Some("all"), _) => Ok(plants::find_all(&fixed, self.from, self.jobs.get())),
            (Some(name), None) => Ok(plants::find_one(Catalogued::named(name)?, &fixed, self.from, self.jobs.get())),
            (Some(name), Some(seed)) => {
                let plant = Catalogued::named(name)?;
                Ok(sweep::one(seed, &plant.conditions(&fixed), Some(plant.plant), self.trace, self.twice))
            }
            (None, Some(seed)) => Ok(sweep::one(seed, &fixed, None, self.trace, self.twice)),
            (None, None) if fixed.theme == Theme::Skew => Ok(beyond::find(&fixed, self.from, self.jobs.get())),
            (None, None) => {
                Ok(sweep::many(self.from..self.from.saturating_add(self.seeds), &fixed, self.jobs.get(), self.twice))
            }
        }
    }

    fn fixed(&self) -> Result<Fixed, String> {
        let parse = |names: &Vec<String>| {
            let names = names.iter().filter(|name| !name.is_empty());
            names.map(|name| name.parse()).collect::<Result<BTreeSet<Fault>, String>>()
        };
        Ok(Fixed {
            nodes: self.nodes.map(|nodes| usize::try_from(nodes).unwrap_or(3)),
            theme: self.profile,
            faults: self.faults.as_ref().map(parse).transpose()?,
            ticks: self.ticks,
        })
    }
}
