//! Coups: leaders in a row are cut off right after they took office, each until its successor is.
//!
//! ```text
//!   1 leads, writes, is cut off ─► 2 leads, writes, is cut off; 1 is back ─► 1 leads … is cut off; 2 is back ─► …
//! ```
//! So logs part, and entries of an earlier term reach a majority late (paper, figure 8).

use dledger::transport::Channel;

use super::nemesis::Lasting;
use super::{Event, World};
use crate::faults::Fault;

/// How long a leader holds office, at most: most of them, and the others, in microseconds.
const OFFICE: (u64, u64) = (1_500, 20_000);
/// How long one is cut off when nobody succeeds it.
const APART: u64 = 700_000;
/// How late frames to a leader are that is cut off while they are on their way, at most.
const LATE: u64 = 100_000;

impl World {
    /// The leader of now is cut off, and some of those that follow.
    pub(super) fn coup(&mut self) {
        self.nemesis.coups = self.nemesis.random.within(2..7);
        let leader = self.nodes.iter().enumerate().find(|(_place, node)| node.leads());
        let Some((node, life)) = leader.map(|(place, node)| (place, node.life)) else { return };
        if !self.profile.has(Fault::SlowLink) || self.nemesis.random.chance(300) {
            return self.cut_leader(node, life);
        }
        // Once: what was on its way to it arrives when its successor has long been serving.
        self.nemesis.coups = 1;
        let directions: Vec<(usize, usize)> =
            (0..self.nodes.len()).filter(|other| *other != node).map(|other| (other, node)).collect();
        self.network.slow.extend(directions.iter().map(|direction| (*direction, LATE)));
        self.network.note_sound(self.now);
        self.schedule(LATE * 2, Event::Heal(Lasting::Slow(directions)));
        let wait = self.nemesis.random.within(0..LATE);
        self.schedule(wait, Event::Coup { node, life });
    }

    /// A node has just taken office.
    pub(super) fn office_taken(&mut self, node: usize) {
        if let Some(it) = self.nodes.get_mut(node) {
            it.office_since = self.now;
        }
        if self.nemesis.coups > 0 {
            let most = if self.nemesis.random.chance(700) { OFFICE.0 } else { OFFICE.1 };
            let (wait, life) = (self.nemesis.random.within(0..most), self.nodes.get(node).map_or(0, |it| it.life));
            self.schedule(wait, Event::Coup { node, life });
        }
    }

    /// Cuts a leader off, alone or with less than a quorum; the one before is back.
    pub(super) fn cut_leader(&mut self, node: usize, life: u64) {
        let leads = self.nodes.get(node).is_some_and(|it| it.life == life && it.leads());
        if self.nemesis.coups == 0 || self.now >= self.profile.faults_end() || !leads {
            return;
        }
        self.nemesis.coups -= 1;
        self.marks.met("fault: leader cut off in a coup");
        self.trace.event(self.now, node + 1, "cut off", &[], String::new);
        let back = std::mem::take(&mut self.nemesis.deposed);
        self.heal(Lasting::Cut(back));
        let count = self.nodes.len();
        let mut outside: Vec<usize> = (0..count).filter(|other| *other != node).collect();
        let mut inside = vec![node];
        for _friend in 0..self.nemesis.random.place((count / 2).max(1)) {
            inside.push(outside.remove(self.nemesis.random.place(outside.len())));
        }
        let late = self.network.slow.keys().any(|(_from, to)| *to == node);
        let both = !late && self.nemesis.random.chance(700);
        let across = |one: usize| {
            outside.iter().flat_map(move |two| [(one, *two), (*two, one)].into_iter().take(1 + usize::from(both)))
        };
        let directions: Vec<(usize, usize)> = inside.iter().flat_map(|one| across(*one)).collect();
        self.network.cut.extend(&directions);
        // The others notice at once that their connections are gone; the leader does not.
        for other in &outside {
            for one in &inside {
                for channel in Channel::ALL {
                    if self.nemesis.random.chance(800) {
                        self.break_connection(*other, *one, channel, false);
                    }
                }
            }
        }
        if self.profile.damages() && self.nemesis.random.chance(700) {
            let wait = self.nemesis.random.within(50_000..APART);
            self.schedule(wait, Event::DamageTail { node, life });
        }
        self.network.note_sound(self.now);
        self.nemesis.deposed.clone_from(&directions);
        self.schedule(APART, Event::Heal(Lasting::Cut(directions)));
    }
}
