//! The thread that applies entries to a machine that may wait for its disk.
//!
//! The machine travels: it comes with the entries of one quantum and goes back with the answers, so that only one thread
//! has it at a time and nothing is shared. While the machine's disk stalls, the machine stays away; entries then wait in
//! the log, callers wait for their answers, and the event loop goes on with heartbeats, votes and replication.
//!
//! Deliberately absent: a queue of more than one order. There is one machine.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};

use tokio::sync::mpsc::UnboundedSender;

use crate::state_machine::StateMachine;
use crate::types::NodeId;

use super::apply::{ApplyOrder, ApplyReport};

/// The apply thread.
pub(crate) struct ApplyThread<M> {
    orders: Sender<ApplyOrder<M>>,
    thread: JoinHandle<()>,
}

impl<M: StateMachine> ApplyThread<M> {
    /// Starts it; it sends what it has done to `reports`.
    pub(crate) fn start(id: NodeId, reports: UnboundedSender<ApplyReport<M>>) -> io::Result<Self> {
        let (orders, incoming) = channel();
        let thread = Builder::new().name(format!("dledger-{id}-apply")).spawn(move || run(&incoming, &reports))?;
        Ok(Self { orders, thread })
    }

    /// Hands it a machine and entries, when there are some. False when it has panicked: the machine that it had will not
    /// come back.
    pub(crate) fn order(&self, order: Option<ApplyOrder<M>>) -> bool {
        let taken = order.is_none_or(|order| self.orders.send(order).is_ok());
        taken && !self.thread.is_finished()
    }

    /// Waits for the quantum at hand: as long as the machine's disk takes.
    pub(crate) fn stop(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the apply thread panicked");
        }
    }
}

fn run<M: StateMachine>(orders: &Receiver<ApplyOrder<M>>, reports: &UnboundedSender<ApplyReport<M>>) {
    while let Ok(order) = orders.recv() {
        let _loop_ended = reports.send(order.perform());
    }
}
