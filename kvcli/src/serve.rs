//! `serve`: one node in the foreground.
//!
//! `ready` on stdout says that the node has recovered and listens; not that there is a leader. SIGTERM or SIGINT
//! stop it cleanly, in the shell Ctrl-C does.

use std::net::{IpAddr, ToSocketAddrs};

use crate::args::ServeArgs;
use crate::exit::{Failure, Kind, Outcome};
use crate::node::Node;
use crate::report;
use crate::run::{Session, Source, no_signals};
use crate::settings::{self, Sources};
use crate::signals;

/// Runs a node until it is asked to stop.
pub(crate) async fn run(session: &Session, args: ServeArgs) -> Result<Outcome, Failure> {
    let resolved = settings::resolve(&Sources {
        flags: flags(&args),
        environment: std::env::vars_os().collect(),
        file: args.config.as_deref(),
    })?;
    for warning in &resolved.warnings {
        report::remark(&format!("warning: {warning}"));
    }
    let config = &resolved.config;
    config.validate()?;
    if args.print_config {
        session.printer.write(settings::print(&resolved, session.printer.format()).as_bytes())?;
        return Ok(Outcome::Done);
    }
    if !config.insecure && !is_loopback(&config.listen)? {
        return Err(Failure::config(format!(
            "{} is not a loopback address, and nothing is encrypted or authenticated yet; \
             listen on 127.0.0.1, or give --insecure if everyone who can reach it may read and write everything",
            config.listen
        )));
    }
    // Listened for before the node opens, so that a stop during a long recovery is not lost.
    let kinds: &[_] = match session.source {
        Source::Shell => &signals::TERMINATE,
        Source::Arguments | Source::Script => &signals::STOP,
    };
    let mut stop = signals::Stop::on(kinds).map_err(|error| no_signals(&error))?;
    let node = tokio::select! {
        opened = Node::open(resolved.config) => opened?,
        // Recovery may take long, and is begun again by the next start.
        () = stop.requested() => return Ok(Outcome::Done),
    };
    session.printer.write(b"ready\n")?;
    session.printer.flush()?;
    tokio::select! {
        () = stop.requested() => {}
        reason = node.stopped() => {
            return Err(Failure::new(Kind::Unavailable, format!("the node has stopped: {reason}")));
        }
    }
    node.stop().await?;
    Ok(Outcome::Done)
}

fn flags(args: &ServeArgs) -> Vec<(&'static str, String)> {
    let insecure = args.insecure.then(|| true.to_string());
    let given = [
        ("id", &args.id),
        ("listen", &args.listen),
        ("advertise", &args.advertise),
        ("cluster", &args.cluster),
        ("join", &args.join),
        ("data_dir", &args.data_dir),
        ("durability", &args.durability),
        ("insecure", &insecure),
    ];
    given.into_iter().filter_map(|(name, text)| text.clone().map(|text| (name, text))).collect()
}

/// Whether only this machine can reach `address`.
fn is_loopback(address: &str) -> Result<bool, Failure> {
    let wrong = |reason: String| Failure::config(format!("cannot listen on {address}: {reason}"));
    let mut found = address.to_socket_addrs().map_err(|error| wrong(error.to_string()))?.peekable();
    if found.peek().is_none() {
        return Err(wrong("the name has no address".to_owned()));
    }
    Ok(found.all(|socket| match socket.ip() {
        IpAddr::V4(ip) => ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_all_other_addresses() {
        for (address, loopback) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            assert_eq!(is_loopback(address).unwrap(), loopback, "{address}");
        }
        assert_eq!(is_loopback("nowhere").unwrap_err().code(), 2);
    }
}
