//! A live Raft core among peers that say anything.
//!
//! ```text
//!   members, doubt (1) │ records (1) │ steps: kind (1), arguments
//!     0  tick: tens of milliseconds (1)        1  message: sender (1), term (1), what (1), arguments (3)
//!     2  append: sender (1), term (1), prev (1), term of prev (1), commit (1), count (1)
//!     3  propose: count (1)                    4  read
//!     5  the disk completes a write: order (1) 6  connection: peer (1), up or down (1)
//!     7  apply what is committed               8  crash: what of the write under way is on the disk (1)
//!     9  wire: length (1), a message as it travels            10  nonsense of the caller: what (1), number (8)
//!    11  the first hole: none, or where (1)
//! ```
//! Numbers of one byte are taken relative to where the core stands (`Around`), so that they often fit.
//!
//! Claims, after every step: the invariants that the core itself states; whatever leaves it is true of its disk at that
//! moment (votes, durable ends); one vote a term, over crashes too; nothing committed is cut; the log that it orders
//! written has no holes; a leader commits by counting in its own term only; a read is answered once; a clock that has
//! been answered is not due again.

mod node;

use bytes::Buf;
use dledger::codec;
use dledger::raft::Appended;
use dledger::raft::message::{AppendOutcome, Body, Message};
use dledger::types::{EntryId, Index, NodeId, Term, TermRun};

use self::node::Node;
use crate::{Seed, golden};

/// Steps of one run.
const MAX_STEPS: usize = 200;
/// Records of one append or proposal.
const MAX_RECORDS: u64 = 8;

/// Takes one input.
pub fn run(mut data: &[u8]) {
    let (members, records) = (byte(&mut data), byte(&mut data));
    let mut node = Node::start(members, records);
    for _ in 0..MAX_STEPS {
        let Ok(kind) = data.try_get_u8() else { break };
        step(&mut node, kind, &mut data);
    }
    node.check_end();
}

fn byte(data: &mut &[u8]) -> u8 {
    data.try_get_u8().unwrap_or(0)
}

fn step(node: &mut Node, kind: u8, data: &mut &[u8]) {
    match kind % 14 {
        0 => node.tick(u64::from(byte(data)) * 10_000),
        1 => {
            let message = message(&Around::of(node), data);
            node.receive(message);
        }
        2 => {
            let (from, term, appended) = append(&Around::of(node), data);
            node.receive_append(from, term, appended);
        }
        3 => node.propose(u64::from(byte(data)) % MAX_RECORDS + 1),
        4 => node.read(),
        5 => node.complete_write(byte(data)),
        6 => {
            // Members and strangers; nobody is connected to itself.
            let (peer, up) = (NodeId(u64::from(byte(data)) % 5 + 2), byte(data) & 1 == 1);
            node.connection(peer, up);
        }
        7 => node.apply(),
        8 => node.crash(byte(data)),
        9 => {
            let length = usize::from(byte(data)).min(data.len());
            let decoded = codec::decode::<Message>("raft message", &data[..length]);
            data.advance(length);
            if let Ok(message) = decoded {
                node.receive(message);
            }
        }
        10 => {
            let what = byte(data);
            node.nonsense(what, data.try_get_u64_le().unwrap_or(u64::MAX));
        }
        11 => node.compact(Around::of(node).index(byte(data))),
        12 => {
            let around = Around::of(node);
            let last = EntryId::new(around.index(byte(data)), around.term(byte(data)));
            node.install(last);
        }
        _ => {
            let first = byte(data);
            let hole = (first > 0).then(|| Around::of(node).index(first));
            node.hole(hole);
        }
    }
}

/// Where the core stands: what one byte is relative to.
struct Around {
    term: u64,
    last: u64,
    committed: u64,
}

impl Around {
    fn of(node: &Node) -> Self {
        let raft = &node.raft;
        Self { term: raft.term().get(), last: raft.last().index.get(), committed: raft.committed().get() }
    }

    fn term(&self, byte: u8) -> Term {
        Term((self.term + u64::from(byte % 8)).saturating_sub(3))
    }

    fn index(&self, byte: u8) -> Index {
        let part = u64::from(byte & 63);
        Index(match byte >> 6 {
            0 => part,
            1 => self.last.saturating_sub(part),
            2 => (self.committed + part).saturating_sub(8),
            _ => self.last + part,
        })
    }
}

fn message(around: &Around, data: &mut &[u8]) -> Message {
    let (from, to) = (NodeId(u64::from(byte(data)) % 6), NodeId(1));
    let term = around.term(byte(data));
    let (what, one, two, three) = (byte(data), byte(data), byte(data), byte(data));
    let (index, other) = (around.index(one), around.index(two));
    let id = EntryId::new(index, around.term(two));
    let flag = three & 1 == 1;
    let body = match what % 14 {
        0 => Body::PreVote { next: around.term(three), last: id },
        1 => Body::PreVoteAnswer { next: around.term(one), granted: flag },
        2 => Body::Vote { last: id, handed_over: flag },
        3 => Body::VoteAnswer { granted: flag },
        4 => Body::AppendAnswer { outcome: AppendOutcome::Accepted { durable: index, verified: other } },
        5 => {
            let hint = EntryId::new(around.index(three), around.term(one));
            Body::AppendAnswer { outcome: AppendOutcome::Rejected { prev: id, hint } }
        }
        6 => Body::Heartbeat { commit: index, round: two.into() },
        7 => Body::HeartbeatAnswer { round: three.into(), durable: index, verified: other, written: other, full: flag },
        8 => Body::ReadIndex { token: one.into(), by_lease: flag },
        9 => Body::ReadIndexAnswer { token: one.into(), index: flag.then_some(other) },
        10 => Body::HandOver,
        11 => Body::PreVoteInDoubt { next: around.term(one) },
        12 => Body::VoteInDoubt,
        // It must come another way, and is to be ignored.
        _ => Body::Append { prev: id, commit: other, base: around.index(three) },
    };
    Message { from, to, term, body }
}

fn append(around: &Around, data: &mut &[u8]) -> (NodeId, Term, Appended) {
    let (from, term) = (NodeId(u64::from(byte(data)) % 6), around.term(byte(data)));
    let prev = EntryId::new(around.index(byte(data)), around.term(byte(data)));
    let (commit, count) = (around.index(byte(data)), byte(data));
    let records = u64::from(count) % MAX_RECORDS;
    let first = prev.index.next();
    // The second half of the records is of the next term.
    let runs = match records {
        0 => Vec::new(),
        1 => vec![TermRun { first, term: prev.term.max(Term(1)) }],
        _ => vec![
            TermRun { first, term: prev.term.max(Term(1)) },
            TermRun { first: first.plus(records / 2), term: term.max(prev.term.next()) },
        ],
    };
    let last = prev.index.plus(records);
    (
        from,
        term,
        Appended { prev, commit, base: around.index(count), runs, last, memberships: Vec::new(), refutes: None },
    )
}

/// Stories that a core lives through, and the golden messages.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    // Time passes; 2 and 3 grant the pre-vote; the own vote is on disk; 2 and 3 give theirs.
    let ballots =
        [&[1, 2, 3, 1, 4, 0, 1][..], &[1, 3, 3, 1, 4, 0, 1], &[5, 0], &[1, 2, 3, 3, 0, 0, 1], &[1, 3, 3, 3, 0, 0, 1]];
    let elected = [&[0, 40][..], &ballots.concat()].concat();
    // Both followers hold all that there is; the second time also what was proposed; a read; a round of heartbeats.
    let accepted = [1, 2, 3, 4, 64, 64, 0, 1, 3, 3, 4, 64, 64, 0];
    let confirmed = [1, 2, 3, 7, 64, 64, 1, 1, 3, 3, 7, 64, 64, 1, 0, 5];
    let leads = [&elected[..], &[5, 0], &accepted, &[3, 2, 5, 1], &accepted, &[7, 4], &confirmed].concat();
    let falls = [&leads[..], &[3, 1, 0, 40, 4, 8, 1, 0, 40]].concat();
    // A vote for 2, two records from it; then a heartbeat that commits them.
    let takes = [&[1, 2, 4, 2, 64, 3, 0][..], &[5, 0, 2, 2, 3, 64, 2, 64, 2, 5, 1, 7]].concat();
    let follows = [&takes[..], &[1, 2, 3, 6, 192, 1, 0]].concat();
    // 3 leads the next term and has another record in place of the last; the process dies during the write.
    let cut = [&takes[..], &[2, 3, 4, 65, 2, 0, 4, 5, 0, 2, 3, 3, 64, 3, 64, 2, 8, 3, 0, 40]].concat();
    // The first record is found damaged, is mended, and is damaged when the process dies.
    let damaged = [&takes[..], &[11, 1, 0, 40, 1, 2, 3, 6, 192, 1, 0, 11, 0, 0, 40, 11, 2, 8, 0, 0, 40]].concat();
    let leads_damaged = [&leads[..], &[11, 2, 3, 1, 5, 1, 0, 40, 11, 0]].concat();
    let stories = [
        ("elected", elected),
        ("leads", leads),
        ("falls", falls),
        ("follows", follows),
        ("cut", cut),
        ("damaged", damaged),
        ("leads-damaged", leads_damaged),
    ];
    let mut seeds: Vec<Seed> = Vec::new();
    // From 4 on they start in doubt.
    for members in 0..8 {
        for (name, story) in &stories {
            seeds.push((format!("{name}-{members}"), [&[members, 3][..], story].concat()));
        }
    }
    for (name, frame) in golden::named_lines("wire/v1.txt") {
        if name.starts_with("raft_") {
            // The golden messages go from 2 to 3; here 1 receives.
            let mut message = frame[24..].to_vec();
            message[8] = 1;
            let wire = [&[9, message.len() as u8][..], &message].concat();
            seeds.push((name, [&[1, 5][..], &wire, &[0, 30], &wire, &[5, 0]].concat()));
        }
    }
    seeds
}
