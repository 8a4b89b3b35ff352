//! What may stand at the cursor, read from the one definition of the command line.
//!
//! Positional arguments and flags that take keys are known by their names in that definition (`KEY_ARGUMENTS`), so
//! a new command is completed without a line here.

use clap::{Arg, Command, CommandFactory};

use super::words::Word;
use crate::args::Cli;

/// Names of arguments that are keys of the store.
const KEY_ARGUMENTS: &[&str] = &["key", "prefix", "from", "to"];
/// The command whose `--from` and `--to` are indexes instead.
const INDEX_COMMAND: &str = "log";

/// What may stand at the cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One of these.
    Names(Vec<String>),
    /// A key of the store.
    Keys,
    /// Anything; there is nothing to offer.
    Nothing,
}

/// The definition of the command line.
pub(crate) struct Grammar {
    root: Command,
}

/// Where a line stands in the definition.
struct Position<'a> {
    command: &'a Command,
    /// True inside `log`.
    indexes: bool,
    /// The flag whose value comes next.
    flag: Option<&'a Arg>,
    /// How many positional arguments are given.
    positionals: usize,
    /// True behind `--`.
    flags_ended: bool,
}

impl Grammar {
    pub(crate) fn new() -> Self {
        let mut root = Cli::command();
        root.build();
        Self { root }
    }

    /// What may stand at the cursor, behind `before`.
    pub(crate) fn wanted(&self, before: &[Word], current: &Word) -> Wanted {
        let position = self.position(before);
        let of_argument = |argument: &Arg| {
            let values: Vec<String> =
                argument.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
            if !values.is_empty() {
                Wanted::Names(values)
            } else if !position.indexes && KEY_ARGUMENTS.contains(&argument.get_id().as_str()) {
                Wanted::Keys
            } else {
                Wanted::Nothing
            }
        };
        if let Some(flag) = position.flag {
            return of_argument(flag);
        }
        if !current.quoted && !position.flags_ended && current.bytes.starts_with(b"-") {
            let flags = position.command.get_arguments().filter(|argument| !argument.is_hide_set());
            return Wanted::Names(flags.filter_map(Arg::get_long).map(|name| format!("--{name}")).collect());
        }
        if position.positionals == 0 && position.command.has_subcommands() {
            let names = position.command.get_subcommands().map(|command| command.get_name().to_owned());
            return Wanted::Names(names.collect());
        }
        position.command.get_positionals().nth(position.positionals).map_or(Wanted::Nothing, of_argument)
    }

    /// The positional arguments that are still to come, as a hint behind a blank.
    pub(crate) fn usage(&self, before: &[Word], current: &Word) -> Option<String> {
        if before.is_empty() || !current.bytes.is_empty() || current.quoted {
            return None;
        }
        let position = self.position(before);
        if position.flag.is_some() || position.command.has_subcommands() {
            return None;
        }
        let shown = |argument: &Arg| {
            let dashes = if argument.is_last_set() && !position.flags_ended { "-- " } else { "" };
            format!("{dashes}{argument}")
        };
        let names: Vec<String> = position.command.get_positionals().skip(position.positionals).map(shown).collect();
        (!names.is_empty()).then(|| names.join(" "))
    }

    fn position(&self, before: &[Word]) -> Position<'_> {
        let mut position =
            Position { command: &self.root, indexes: false, flag: None, positionals: 0, flags_ended: false };
        for word in before {
            position.step(word);
        }
        position
    }
}

impl<'a> Position<'a> {
    fn step(&mut self, word: &Word) {
        let text = String::from_utf8_lossy(&word.bytes);
        if self.flag.take().is_some() {
            return;
        }
        if !self.flags_ended && text == "--" {
            self.flags_ended = true;
            return;
        }
        if !self.flags_ended
            && let Some(name) = text.strip_prefix("--")
        {
            self.flag = self
                .command
                .get_arguments()
                .find(|argument| argument.get_long() == Some(name))
                .filter(|argument| argument.get_action().takes_values());
            return;
        }
        let command: &'a Command = self.command;
        match command.find_subcommand(text.as_ref()) {
            Some(command) if self.positionals == 0 => {
                self.indexes |= command.get_name() == INDEX_COMMAND;
                self.command = command;
            }
            Some(_) | None => self.positionals += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::words::split;

    fn wanted(line: &str) -> Wanted {
        let (before, current) = parts(line);
        Grammar::new().wanted(&before, &current)
    }

    fn parts(line: &str) -> (Vec<Word>, Word) {
        let mut words = split(line.as_bytes()).unwrap();
        let empty = Word { bytes: Vec::new(), start: line.len(), quoted: false, touches_end: true };
        let current = if words.last().is_some_and(|word| word.touches_end) { words.pop() } else { None };
        (words, current.unwrap_or(empty))
    }

    fn names(line: &str) -> Vec<String> {
        match wanted(line) {
            Wanted::Names(names) => names,
            other @ (Wanted::Keys | Wanted::Nothing) => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_are_offered_where_one_is_missing() {
        let all = names("");
        for name in
            ["get", "put", "scan", "cas", "incr", "txn", "watch", "lease", "lock", "bench", "log", "help", "quit"]
        {
            assert!(all.iter().any(|found| found == name), "{name} is not in {all:?}");
        }
        assert!(names("log ").contains(&"verify".to_owned()));
        let leases = names("lease ");
        for name in ["grant", "keepalive", "revoke", "list"] {
            assert!(leases.iter().any(|found| found == name), "{name} is not in {leases:?}");
        }
        let changes = names("members ");
        for name in ["add", "promote", "remove", "replace", "prefer"] {
            assert!(changes.iter().any(|found| found == name), "{name} is not in {changes:?}");
        }
        assert!(names("members add --").contains(&"--learner".to_owned()));
        assert!(names("--output json ").contains(&"get".to_owned()));
    }

    #[test]
    fn flags_of_the_command_and_of_all_commands_are_offered() {
        let flags = names("scan --");
        for flag in ["--limit", "--keys-only", "--output", "--consistency"] {
            assert!(flags.iter().any(|found| found == flag), "{flag} is not in {flags:?}");
        }
        assert_eq!(names("get --output "), ["plain", "table", "json"]);
        for (line, wanted) in [
            ("put a b --", &["--if-absent", "--if-revision", "--lease"][..]),
            ("watch --", &["--prefix", "--from-revision", "--count"]),
            ("lock --", &["--ttl"]),
        ] {
            let flags = names(line);
            assert!(wanted.iter().all(|flag| flags.iter().any(|found| found == flag)), "{line}: {flags:?}");
        }
        assert_eq!(names("get --consistency "), ["linearizable", "lease", "stale", "stale:500ms"]);
    }

    #[test]
    fn keys_are_offered_where_a_key_stands() {
        for line in ["get ", "get us", "put a", "del --prefix ", "scan ", "scan --from a", "scan a --to ", "export "]
            .into_iter()
            .chain(["cas ", "incr --output json n", "watch ", "watch --count 3 a", "watch --prefix "])
        {
            assert_eq!(wanted(line), Wanted::Keys, "{line}");
        }
        for line in ["put a ", "get a ", "scan --limit ", "import ", "log cat --from "].into_iter().chain([
            "cas a ",
            "incr n ",
            "txn ",
            "watch --from-revision ",
            "lease revoke ",
            "put --lease ",
            "lock l -- ",
        ]) {
            assert_eq!(wanted(line), Wanted::Nothing, "{line}");
        }
        assert_eq!(wanted("get -- -"), Wanted::Keys);
    }

    #[test]
    fn usage_names_what_is_still_to_come() {
        let usage = |line: &str| {
            let (before, current) = parts(line);
            Grammar::new().usage(&before, &current)
        };
        assert_eq!(usage("put ").as_deref(), Some("<KEY> <VALUE>"));
        assert_eq!(usage("put a ").as_deref(), Some("<VALUE>"));
        assert_eq!(usage("put a b "), None);
        assert_eq!(usage("members replace 3 ").as_deref(), Some("<NEW=ADDR>"));
        assert_eq!(usage("transfer ").as_deref(), Some("<ID>"));
        assert_eq!(usage("cas a ").as_deref(), Some("<EXPECTED> <NEW>"));
        assert_eq!(usage("incr ").as_deref(), Some("<KEY> [N]"));
        assert_eq!(usage("lease grant ").as_deref(), Some("<TTL>"));
        assert_eq!(usage("lock ").as_deref(), Some("<NAME> -- <CMD>..."));
        assert_eq!(usage("put"), None);
    }
}
