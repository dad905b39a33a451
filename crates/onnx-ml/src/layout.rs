//! Where the nodes of a tree lie.

use std::collections::VecDeque;

/// Nodes that are put together: as many as two cache lines hold.
const CLUSTER: usize = 16;

/// A node in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The node as the caller counts it.
    pub node: usize,
    /// Its level, from 1 for the root on.
    pub depth: u32,
    /// How many places further the first of its two branches lies; 0 for a leaf.
    pub distance: usize,
}

/// The order of a tree's nodes: the two branches of a node side by side behind it, and nodes that are met one after the other close
/// together, so that a descent touches few cache lines. Asks for the branches of each node once.
///
/// # Errors
/// The first that `branches` returns.
pub fn arrange<E>(
    root: usize,
    mut branches: impl FnMut(usize) -> Result<Option<[usize; 2]>, E>,
) -> Result<Vec<Placed>, E> {
    let mut placed = vec![Placed { node: root, depth: 1, distance: 0 }];
    // The places of a cluster's nodes whose branches are still to be asked for, and the places its branches may take.
    let mut open = VecDeque::from([0]);
    let mut room = CLUSTER - placed.len();
    // The places of nodes whose branches begin a cluster; the last one's turn is first.
    let mut clusters = Vec::new();
    loop {
        let mut beyond = Vec::new();
        while let Some(place) = open.pop_front() {
            match branches(placed[place].node)? {
                Some(pair) if room >= pair.len() => {
                    room -= pair.len();
                    open.extend(append(&mut placed, place, pair));
                }
                Some(pair) => beyond.push((place, pair)),
                None => {}
            }
        }
        clusters.extend(beyond.into_iter().rev());
        let Some((place, pair)) = clusters.pop() else { return Ok(placed) };
        room = CLUSTER - pair.len();
        open.extend(append(&mut placed, place, pair));
    }
}

/// Puts the branches of the node in a place at the end. Returns their places.
fn append(placed: &mut Vec<Placed>, place: usize, pair: [usize; 2]) -> [usize; 2] {
    let end = placed.len();
    placed[place].distance = end - place;
    let depth = placed[place].depth.saturating_add(1);
    placed.extend(pair.map(|node| Placed { node, depth, distance: 0 }));
    [end, end + 1]
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// The branches of node `n` are `2n + 1` and `2n + 2` where the tree has them.
    fn complete(nodes: usize) -> Vec<Placed> {
        let branches =
            |node: usize| Ok::<_, Infallible>((2 * node + 2 < nodes).then(|| [2 * node + 1, 2 * node + 2]));
        arrange(0, branches).unwrap()
    }

    #[test]
    fn every_node_has_one_place_and_branches_lie_side_by_side_behind_it() {
        for nodes in [1, 3, 15, 17, 127, 1023] {
            let placed = complete(nodes);
            let mut found: Vec<usize> = placed.iter().map(|placed| placed.node).collect();
            for (place, one) in placed.iter().enumerate() {
                assert_eq!(one.depth, (one.node + 1).ilog2() + 1);
                if 2 * one.node + 2 < nodes {
                    let pair = &placed[place + one.distance..][..2];
                    assert!(one.distance > 0);
                    assert_eq!([pair[0].node, pair[1].node], [2 * one.node + 1, 2 * one.node + 2]);
                } else {
                    assert_eq!(one.distance, 0);
                }
            }
            found.sort_unstable();
            assert!(found.into_iter().eq(0..nodes));
        }
    }

    #[test]
    fn a_descent_touches_few_cache_lines() {
        let placed = complete(1023);
        let mut places = [0; 1023];
        for (place, one) in placed.iter().enumerate() {
            places[one.node] = place;
        }
        let lines_of_all_descents = |place: &dyn Fn(usize) -> usize| -> usize {
            let descents = (511..1023).map(|leaf| {
                let path = std::iter::successors(Some(leaf), |&node| (node > 0).then(|| (node - 1) / 2));
                let mut lines: Vec<usize> = path.map(|node| place(node) / 8).collect();
                lines.dedup();
                lines.len()
            });
            descents.sum()
        };
        let (here, level_by_level) =
            (lines_of_all_descents(&|node| places[node]), lines_of_all_descents(&|node| node));
        assert!(5 * here < 4 * level_by_level, "{here} of {level_by_level}");
    }

    #[test]
    fn an_error_ends_the_order() {
        assert_eq!(
            arrange(0, |node| if node == 2 { Err("two") } else { Ok(Some([node + 1, node + 2])) }),
            Err("two")
        );
    }
}
