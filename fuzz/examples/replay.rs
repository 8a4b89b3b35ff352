//! Runs one input through one target, on any toolchain: `replay NAME FILE`.

use dledger_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_program, name, file] = arguments.as_slice() else {
        return Err(std::io::Error::other("usage: replay NAME FILE"));
    };
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.ok_or_else(|| std::io::Error::other(format!("no target is named {name}")))?;
    (target.run)(&std::fs::read(file)?);
    println!("{name}: every claim holds");
    Ok(())
}
