//! Lists: an item is appended by reading the list and setting it on condition that nobody was quicker. Each item at most
//! once; an acknowledged one exactly once.

use bytes::Bytes;
use dledger::kv::Txn;
use dledger::kv::answer::Answer as FromMachine;
use dledger::kv::command::Command;
use dledger::kv::view::KvView;
use dledger::types::Index;
use histories::lists::{Answer, Call, Operation};

use super::{Desk, Step, Task, Told};

/// How many lists there are.
const LISTS: u64 = 2;
/// How often an append is tried again after others were quicker.
const TRIES: u32 = 4;

/// What is under way.
#[derive(Debug)]
struct Doing {
    key: Vec<u8>,
    /// The item, unless it only reads.
    item: Option<Vec<u8>>,
    invoked: u64,
    /// When the read under way was asked for.
    read_at: u64,
    /// What the list is, and its revision, once it is read.
    found: Option<(Vec<u8>, Index)>,
    tries: u32,
}

/// A client of lists.
#[derive(Debug)]
pub(super) struct Lists {
    client: u64,
    items: u64,
    doing: Option<Doing>,
}

impl Lists {
    pub(super) fn new(number: u64) -> Self {
        Self { client: number, items: 0, doing: None }
    }

    fn begin(&mut self, desk: &mut Desk<'_>) -> Doing {
        let key = format!("list/{}", desk.random.within(0..LISTS)).into_bytes();
        let item = desk.random.chance(700).then(|| {
            self.items += 1;
            format!("{}-{}", self.client, self.items).into_bytes()
        });
        Doing { key, item, invoked: desk.now, read_at: desk.now, found: None, tries: 0 }
    }

    fn record(&self, doing: &Doing, call: Call, invoked: u64, answered: Option<(u64, Answer)>, desk: &mut Desk<'_>) {
        let (client, key) = (self.client, doing.key.clone());
        desk.records.lists.push(Operation { client, key, call, invoked, answered });
    }

    /// The list was read: whether there is something to append to it.
    fn read(&mut self, mut doing: Doing, view: &KvView, desk: &mut Desk<'_>) -> Option<Doing> {
        let item = view.get(&doing.key).ok().flatten();
        let text = item.as_ref().map(|item| item.value.to_vec()).unwrap_or_default();
        let items = text.split(|byte| *byte == b',').filter(|item| !item.is_empty()).map(<[u8]>::to_vec).collect();
        self.record(&doing, Call::Read, doing.read_at, Some((desk.now, Answer::Items(items))), desk);
        doing.found = Some((text, item.map_or(Index::ZERO, |item| item.mod_revision)));
        doing.item.is_some().then_some(doing)
    }

    /// The append is done, or somebody was quicker.
    fn tried(&mut self, mut doing: Doing, answer: &FromMachine, desk: &mut Desk<'_>) -> Option<Doing> {
        doing.tries += 1;
        let FromMachine::Txn { succeeded, .. } = answer else { return None };
        if *succeeded {
            desk.met("seen: item appended");
            let call = Call::Append(doing.item.clone().unwrap_or_default());
            self.record(&doing, call, doing.invoked, Some((desk.now, Answer::Appended)), desk);
            return None;
        }
        desk.met("seen: append refused, somebody was quicker");
        doing.found = None;
        (doing.tries < TRIES).then_some(doing)
    }
}

impl Task for Lists {
    fn next(&mut self, desk: &mut Desk<'_>) -> Step {
        let mut doing = self.doing.take().unwrap_or_else(|| self.begin(desk));
        let step = match (&doing.found, &doing.item) {
            (Some((text, revision)), Some(item)) => {
                let appended = if text.is_empty() { item.clone() } else { [text, &b","[..], item].concat() };
                let txn = Txn::put_if_revision(Bytes::from(doing.key.clone()), appended, *revision);
                Step::Write(Command::Txn(txn).encode())
            }
            _ => {
                doing.read_at = desk.now;
                Step::Read
            }
        };
        self.doing = Some(doing);
        step
    }

    fn told(&mut self, told: Told, desk: &mut Desk<'_>) {
        let Some(mut doing) = self.doing.take() else { return };
        self.doing = match told {
            Told::View(view) => self.read(doing, &view, desk),
            Told::Done(_revision, answer) => self.tried(doing, &answer, desk),
            Told::Unknown => {
                if let (Some(_found), Some(item)) = (&doing.found, &doing.item) {
                    self.record(&doing, Call::Append(item.clone()), doing.invoked, None, desk);
                }
                None
            }
            Told::Never => {
                doing.found = None;
                doing.item.is_some().then_some(doing)
            }
        };
    }

    fn is_idle(&self) -> bool {
        self.doing.is_none()
    }

    fn hurries(&self) -> bool {
        self.doing.as_ref().is_some_and(|doing| doing.found.is_some())
    }
}
