//! The trace of a run: every event enters its hash; the text is kept only when somebody wants to read it.

use std::hash::{DefaultHasher, Hasher};

/// What happened so far.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    lines: Option<Vec<String>>,
    events: u64,
}

impl Trace {
    /// An empty trace; with `text` it keeps lines to print.
    pub(crate) fn new(text: bool) -> Self {
        // `DefaultHasher::new` has fixed keys: the same events give the same hash in every process.
        Self { hasher: DefaultHasher::new(), lines: text.then(Vec::new), events: 0 }
    }

    /// An event at `now` microseconds on `node` (0 is the world). `numbers` tell it from others of its kind.
    pub(crate) fn event(&mut self, now: u64, node: usize, kind: &str, numbers: &[u64], text: impl FnOnce() -> String) {
        self.events += 1;
        self.hasher.write_u64(now);
        self.hasher.write_usize(node);
        self.hasher.write(kind.as_bytes());
        for number in numbers {
            self.hasher.write_u64(*number);
        }
        if let Some(lines) = &mut self.lines {
            let who = if node == 0 { "world".to_owned() } else { format!("node {node}") };
            lines.push(format!("{:>6}.{:03} ms  {who:<7} {kind:<10} {}", now / 1000, now % 1000, text()));
        }
    }

    /// The hash of everything so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// Number of events.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The lines, when they were kept.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
