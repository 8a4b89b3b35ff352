//! Whether an order that is known fits the times at which things were asked and answered.

/// One operation of a known order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed {
    /// Its place; those of one place may stand in any order.
    pub(crate) rank: u64,
    pub(crate) invoked: u64,
    /// `None` when its outcome is unknown to whoever asked.
    pub(crate) answered: Option<u64>,
}

/// The first operation, in the order of places, that was answered before another of an earlier place was asked for; and
/// that one. Without any, some order has each operation between its call and its answer.
pub(crate) fn misfit(placed: &mut [Placed]) -> Option<(Placed, Placed)> {
    placed.sort_by_key(|it| it.rank);
    let (mut latest, mut latest_of_place): (Option<Placed>, Option<Placed>) = (None, None);
    for it in placed.iter() {
        if latest_of_place.is_some_and(|other| other.rank < it.rank) {
            latest = later(latest, latest_of_place.take());
        }
        if let Some(other) = latest.filter(|other| it.answered.is_some_and(|at| at < other.invoked)) {
            return Some((*it, other));
        }
        latest_of_place = later(latest_of_place, Some(*it));
    }
    None
}

fn later(one: Option<Placed>, other: Option<Placed>) -> Option<Placed> {
    one.into_iter().chain(other).max_by_key(|it| it.invoked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rank: u64, invoked: u64, answered: Option<u64>) -> Placed {
        Placed { rank, invoked, answered }
    }

    #[test]
    fn order_that_an_answer_contradicts_is_a_misfit() {
        assert!(misfit(&mut [at(1, 5, Some(9)), at(2, 1, Some(6))]).is_none(), "they overlap");
        let (early, late) = misfit(&mut [at(2, 1, Some(4)), at(1, 5, Some(9))]).unwrap();
        assert_eq!((early.rank, late.rank), (2, 1));
        assert!(misfit(&mut [at(1, 5, None), at(2, 1, None)]).is_none(), "who was told nothing contradicts nothing");
        assert!(misfit(&mut [at(1, 5, Some(6)), at(1, 1, Some(2))]).is_none(), "of one place");
    }
}
