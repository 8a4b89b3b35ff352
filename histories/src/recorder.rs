//! Writes a history down while threads make it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Answer, Operation};

/// Takes down what threads ask and are told. Its clock is a counter: only the order matters.
#[derive(Debug, Default)]
pub struct Recorder {
    clock: AtomicU64,
    operations: Mutex<Vec<Operation>>,
}

/// An operation under way. Dropped without an answer, its outcome is unknown.
#[derive(Debug)]
pub struct Call<'a> {
    recorder: &'a Recorder,
    place: usize,
}

impl Recorder {
    /// An empty history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A client is about to ask.
    pub fn invoke(&self, client: u64, key: &[u8], call: crate::Call) -> Call<'_> {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let invoked = self.clock.fetch_add(1, Ordering::SeqCst);
        operations.push(Operation { client, key: key.to_vec(), call, invoked, answered: None });
        Call { recorder: self, place: operations.len() - 1 }
    }

    /// The history so far.
    #[must_use]
    pub fn history(&self) -> Vec<Operation> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Call<'_> {
    /// The client was told.
    pub fn answered(self, answer: Answer) {
        let mut operations = self.recorder.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.recorder.clock.fetch_add(1, Ordering::SeqCst);
        if let Some(operation) = operations.get_mut(self.place) {
            operation.answered = Some((at, answer));
        }
    }

    /// The client was told that it certainly did not happen.
    pub fn refused(self) {
        let mut operations = self.recorder.operations.lock().unwrap_or_else(PoisonError::into_inner);
        // A read without an answer shows nothing, and so stands for what never happened.
        if let Some(operation) = operations.get_mut(self.place) {
            operation.call = crate::Call::Get;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Call as Asked;

    #[test]
    fn recorder_orders_what_threads_do_and_keeps_calls_without_an_answer() {
        let recorder = Recorder::new();
        recorder.invoke(1, b"k", Asked::Put(b"a".to_vec())).answered(Answer::Done);
        std::thread::scope(|scope| {
            for client in 2..6 {
                let recorder = &recorder;
                scope.spawn(move || {
                    recorder.invoke(client, b"k", Asked::Get).answered(Answer::Value(Some(b"a".to_vec())))
                });
            }
        });
        let _unanswered = recorder.invoke(6, b"k", Asked::Delete);
        let history = recorder.history();
        let mut times: Vec<u64> = history.iter().map(|operation| operation.invoked).collect();
        times.extend(history.iter().filter_map(|operation| operation.answered.as_ref()).map(|(at, _answer)| *at));
        times.sort_unstable();
        assert_eq!(times, (0..11).collect::<Vec<u64>>(), "every call and every answer has a time of its own");
        assert!(
            history.iter().all(|operation| operation.answered.as_ref().is_none_or(|(at, _)| *at > operation.invoked))
        );
        assert_eq!(history.iter().filter(|operation| operation.answered.is_none()).count(), 1);
        crate::check(&history).unwrap();
    }

    #[test]
    fn recorder_of_a_refused_write_leaves_nothing_that_could_be_read() {
        let recorder = Recorder::new();
        recorder.invoke(1, b"k", Asked::Put(b"a".to_vec())).refused();
        recorder.invoke(2, b"k", Asked::Get).answered(Answer::Value(Some(b"a".to_vec())));
        crate::check(&recorder.history()).unwrap_err();
    }
}
