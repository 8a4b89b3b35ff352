//! Writes the seeds of every target into `corpus/NAME/` beside this crate's manifest, and prints how many.

use std::fs;
use std::path::Path;

use dledger_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        fs::create_dir_all(&corpus)?;
        let seeds = (target.seeds)();
        for (name, bytes) in &seeds {
            fs::write(corpus.join(format!("seed-{name}")), bytes)?;
        }
        println!("{}: {} seeds", target.name, seeds.len());
    }
    Ok(())
}
