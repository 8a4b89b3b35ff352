//! Standard input, shared by whoever reads it: the script, `put KEY -`, `import -`.
//!
//! One buffer for all, so that a script's `put KEY -` gets exactly what follows its line. Lines are bounded: a
//! stream without line ends cannot take all memory.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::Mutex;

/// Longest line of a script or of an import, and longest value from stdin. Beyond every limit a node can be given
/// on a value, even with each byte written as `\xNN`.
pub(crate) const MAX_LINE_BYTES: usize = 256 << 20;

/// A stream of lines.
pub(crate) type Lines = Box<dyn AsyncBufRead + Send + Unpin>;

/// Standard input, or what stands for it.
#[derive(Clone)]
pub(crate) struct Input {
    stream: Arc<Mutex<Lines>>,
    terminal: bool,
}

impl Input {
    /// This process's stdin.
    pub(crate) fn stdin() -> Self {
        let terminal = io::IsTerminal::is_terminal(&io::stdin());
        Self { stream: Arc::new(Mutex::new(Box::new(BufReader::new(tokio::io::stdin())))), terminal }
    }

    /// A given text.
    #[cfg(test)]
    pub(crate) fn text(text: &'static str) -> Self {
        Self { stream: Arc::new(Mutex::new(Box::new(text.as_bytes()))), terminal: false }
    }

    /// True when a person types it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The next line without its end; `None` at the end of the input.
    pub(crate) async fn next_line(&self) -> io::Result<Option<Vec<u8>>> {
        next_line(&mut *self.stream.lock().await).await
    }

    /// Everything that is left.
    pub(crate) async fn rest(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut stream = self.stream.lock().await;
        (&mut *stream).take(MAX_LINE_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
        if bytes.len() > MAX_LINE_BYTES { Err(too_long()) } else { Ok(bytes) }
    }

    /// Holds the stream until the answer is dropped.
    pub(crate) async fn lock(&self) -> tokio::sync::OwnedMutexGuard<Lines> {
        Arc::clone(&self.stream).lock_owned().await
    }
}

/// The next line of `stream` without its `\n`; a last line without one counts too.
pub(crate) async fn next_line(stream: &mut Lines) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let mut bounded = stream.take(MAX_LINE_BYTES as u64 + 1);
    if bounded.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MAX_LINE_BYTES {
        return Err(too_long());
    }
    Ok(Some(line))
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a line or value is longer than {MAX_LINE_BYTES} bytes"))
}
