//! Ensembles of trees, as arrays of 8-byte nodes.
//!
//! Descending a tree is a chain of loads that wait for each other, so a row walks down several trees side by side. A leaf points
//! to itself, so a group of descents goes as many levels down as its trees have, and no branch depends on a comparison. Many
//! rows take turns on some trees at a time, which stay in the caches. Votes are always added in the order of the trees.

use bytemuck::{Pod, Zeroable};

use crate::math::Float;
use crate::transform::{Transform, transform_row};

/// How many descents run side by side.
const LANES: usize = 8;

/// How many rows take turns.
const BLOCK: usize = 256;

/// Columns that fit the place a row is copied to. Its size is known when compiling, so that no access to it needs a check.
const NARROW: usize = 1024;

/// How many trees one row walks down in its turn, before they vote: the votes, which wait for each other, overlap with the next
/// walks.
const TREES: usize = 128;

/// Levels between two looks at whether all descents of a group have ended.
const STRIDE: u32 = 8;

/// Stands for more levels than an entry of [`Ensemble::levels`] can hold.
const MANY: u8 = u8::MAX;

const INNER: u32 = 1;
const MISSING_FIRST: u32 = 2;
const EQUALITY: u32 = 4;
const FLAGS: u32 = 3;

/// One node. A link of 0 is a leaf, whose threshold is its value or the bits of an index into the leaves. Else the link holds,
/// from the lowest bit on: 1; whether a missing value takes the first branch; whether the test is x = threshold rather than
/// x ≤ threshold; the column in `feature_bits` bits; the distance to the node of the first branch. The node of the second
/// branch follows that of the first.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Node {
    /// What the column is compared with; in a leaf its value or index.
    pub threshold: f32,
    /// Where to go.
    pub link: u32,
}

/// A node's test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// The column that is compared.
    pub column: u32,
    /// What it is compared with.
    pub threshold: f32,
    /// The first branch is taken on x = threshold rather than on x ≤ threshold.
    pub equality: bool,
    /// NaN takes the first branch.
    pub missing_first: bool,
}

impl Node {
    /// An inner node whose first branch lies `distance` nodes further. `None` when the numbers do not fit the link.
    pub fn inner(test: Test, distance: u32, feature_bits: u32) -> Option<Self> {
        let shift = FLAGS.checked_add(feature_bits).filter(|&shift| shift < 32)?;
        let fits = distance > 0 && distance <= u32::MAX >> shift && test.column >> feature_bits == 0;
        let flags = INNER
            | if test.missing_first { MISSING_FIRST } else { 0 }
            | if test.equality { EQUALITY } else { 0 };
        fits.then_some(Self {
            threshold: test.threshold,
            link: flags | test.column << FLAGS | distance << shift,
        })
    }

    /// A leaf with a value.
    pub fn leaf(value: f32) -> Self {
        Self { threshold: value, link: 0 }
    }

    /// A leaf with an index into the leaves.
    pub fn indexed_leaf(index: u32) -> Self {
        Self { threshold: f32::from_bits(index), link: 0 }
    }
}

/// What the leaves hold.
#[derive(Debug, Clone, Copy)]
pub enum Leaves<'a> {
    /// One vote for the only target, in the node.
    One,
    /// A vote for every target: a row per leaf.
    Dense(&'a [f32]),
    /// Votes for some targets: leaf `i` holds the votes from `starts[i]` up to `starts[i + 1]`.
    Sparse {
        /// One more than there are leaves.
        starts: &'a [u32],
        /// The targets voted for.
        targets: &'a [u32],
        /// The votes.
        weights: &'a [f32],
    },
}

/// How votes are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in the specification")]
pub enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// How the scores of a classifier choose a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// One score for two classes; it becomes two. The second class is chosen by a score over ½ when no vote is negative, else by
    /// a score over 0.
    Single {
        /// No vote is negative.
        positive: bool,
    },
    /// Two classes with a score each, of which only the second gets votes; chosen like [`Choice::Single`].
    Second {
        /// No vote is negative.
        positive: bool,
    },
    /// Two classes, both with votes: the second is chosen by a score over 0.
    Both,
    /// The largest score among the classes that got a vote, the first of equal ones.
    Largest,
}

/// An ensemble, borrowed from where its arrays lie.
#[derive(Debug, Clone, Copy)]
pub struct Ensemble<'a> {
    /// The nodes of all trees.
    pub nodes: &'a [Node],
    /// Each tree's first node.
    pub roots: &'a [u32],
    /// How many levels of inner nodes each tree has, as [`Ensemble::validate`] found out. Without it descents look for their end.
    pub levels: &'a [u8],
    /// What the leaves hold.
    pub leaves: Leaves<'a>,
    /// Columns of a row of the input.
    pub columns: usize,
    /// Bits of a link that hold the column.
    pub feature_bits: u32,
    /// A node tests for equality.
    pub tests_equality: bool,
    /// A node sends missing values to its first branch.
    pub tracks_missing: bool,
    /// How many scores the trees vote for.
    pub targets: usize,
    /// How votes are put together.
    pub aggregate: Aggregate,
    /// What is added to the scores: nothing, or one number per target.
    pub base: &'a [f32],
    /// What happens to the scores at the end.
    pub transform: Transform,
    /// How scores choose a class; absent for regressors.
    pub choice: Option<Choice>,
}

/// A node as a row meets it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fork {
    Leaf(Node),
    Inner {
        column: u32,
        /// The node of the first branch; that of the second follows it.
        first: u32,
        takes_first: bool,
    },
}

/// Sums under way and the row whose turn it is; kept between calls, so that a warm call allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Scratch {
    narrow: Vec<f32>,
    wide: Vec<f64>,
    voted: Vec<bool>,
    row: Vec<f32>,
}

impl Ensemble<'_> {
    /// Checks that no descent can leave the arrays or run forever: every branch leads forward and inside, every column
    /// exists, every leaf has its votes. Returns what [`Ensemble::levels`] shall be.
    ///
    /// # Errors
    /// What is wrong, and at which node.
    pub fn validate(&self) -> Result<Vec<u8>, String> {
        let shift = FLAGS + self.feature_bits;
        if self.columns == 0 || self.targets == 0 || self.roots.is_empty() || shift >= 32 {
            return Err("an ensemble needs columns, targets and trees".to_owned());
        }
        let leaf_count = match self.leaves {
            Leaves::One => usize::MAX,
            Leaves::Dense(weights) => weights.len() / self.targets,
            Leaves::Sparse { starts, targets, weights } => {
                let rising =
                    starts.is_sorted() && starts.last().is_some_and(|&end| end as usize <= weights.len());
                let known = targets.iter().all(|&target| (target as usize) < self.targets);
                if !rising || !known || targets.len() != weights.len() {
                    return Err("the votes of an ensemble lie outside of their arrays".to_owned());
                }
                starts.len().saturating_sub(1)
            }
        };
        for (index, node) in self.nodes.iter().enumerate() {
            if node.link & INNER == 0 {
                let has_votes =
                    matches!(self.leaves, Leaves::One) || (node.threshold.to_bits() as usize) < leaf_count;
                if node.link != 0 || !has_votes {
                    return Err(format!("leaf {index} has no votes"));
                }
                continue;
            }
            let distance = (node.link >> shift) as usize;
            let second = index.checked_add(distance).and_then(|first| first.checked_add(1));
            if distance == 0 || second.is_none_or(|second| second >= self.nodes.len()) {
                return Err(format!("node {index} has a branch that leads backwards or outside"));
            }
            if (node.link >> FLAGS & ((1 << self.feature_bits) - 1)) as usize >= self.columns {
                return Err(format!("node {index} tests a column that does not exist"));
            }
            if (node.link & EQUALITY != 0 && !self.tests_equality)
                || (node.link & MISSING_FIRST != 0 && !self.tracks_missing)
            {
                return Err(format!("node {index} has a test that the ensemble does not declare"));
            }
        }
        match self.roots.iter().find(|&&root| root as usize >= self.nodes.len()) {
            Some(root) => Err(format!("a tree begins at node {root}, which does not exist")),
            None => Ok(self.count_levels()),
        }
    }

    /// The levels of inner nodes of each tree. Branches lead forward, so from the end on the heights of both branches are known.
    fn count_levels(&self) -> Vec<u8> {
        let shift = FLAGS + self.feature_bits;
        let mut heights = vec![0_u8; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            if node.link & INNER != 0 {
                let first = index + (node.link >> shift) as usize;
                heights[index] = heights[first].max(heights[first + 1]).saturating_add(1);
            }
        }
        self.roots.iter().map(|&root| heights[root as usize]).collect()
    }

    /// The levels of the deepest of some trees.
    #[inline]
    fn deepest(&self, trees: std::ops::Range<usize>) -> u32 {
        let levels = self.levels.get(trees).and_then(|levels| levels.iter().max());
        levels.filter(|&&levels| levels < MANY).map_or(u32::MAX, |&levels| levels.into())
    }

    /// Scores, and classes for a classifier, of every row. The ensemble must have passed [`Ensemble::validate`]. Sums are in
    /// single precision, or in double when `wide`.
    pub fn predict(
        &self,
        rows: &[f32],
        wide: bool,
        scores: &mut [f32],
        classes: &mut [i64],
        scratch: &mut Scratch,
    ) {
        let Scratch { narrow, wide: doubles, voted, row } = scratch;
        row.resize(NARROW, 0.0);
        let Some(row) = row.first_chunk_mut() else { return };
        if wide {
            self.run(rows, scores, classes, doubles, voted, row);
        } else {
            self.run(rows, scores, classes, narrow, voted, row);
        }
    }

    /// Where a row goes from a node.
    #[inline]
    pub(crate) fn fork(&self, at: u32, row: &[f32]) -> Fork {
        let node = self.nodes[at as usize];
        if node.link & INNER == 0 {
            return Fork::Leaf(node);
        }
        let column = node.link >> FLAGS & ((1 << self.feature_bits) - 1);
        let first = at + (node.link >> (FLAGS + self.feature_bits));
        let x = row[column as usize];
        let mut takes_first =
            if node.link & EQUALITY != 0 { x == node.threshold } else { x <= node.threshold };
        takes_first |= x.is_nan() & (node.link & MISSING_FIRST != 0);
        Fork::Inner { column, first, takes_first }
    }

    /// The first of the two nodes behind an inner node.
    pub(crate) fn behind(&self, at: usize) -> Option<usize> {
        let link = self.nodes.get(at)?.link;
        (link & INNER != 0).then(|| at + (link >> (FLAGS + self.feature_bits)) as usize)
    }

    /// What a leaf votes for: the targets, counted from 0 where there are none, and the votes.
    #[inline(never)]
    pub(crate) fn votes<'s>(&'s self, leaf: &'s Node) -> (&'s [u32], &'s [f32]) {
        let index = leaf.threshold.to_bits() as usize;
        match self.leaves {
            Leaves::One => (&[], std::slice::from_ref(&leaf.threshold)),
            Leaves::Dense(weights) => {
                let weights = weights.get(index * self.targets..).unwrap_or_default();
                (&[], weights.get(..self.targets).unwrap_or_default())
            }
            Leaves::Sparse { starts, targets, weights } => {
                let (Some(&start), Some(&end)) = (starts.get(index), starts.get(index + 1)) else {
                    return (&[], &[]);
                };
                let votes = start as usize..end as usize;
                (targets.get(votes.clone()).unwrap_or_default(), weights.get(votes).unwrap_or_default())
            }
        }
    }

    fn run<T: Float>(
        &self,
        rows: &[f32],
        scores: &mut [f32],
        classes: &mut [i64],
        sums: &mut Vec<T>,
        voted: &mut Vec<bool>,
        narrow: &mut [f32; NARROW],
    ) {
        let width = if matches!(self.choice, Some(Choice::Single { .. })) { 2 } else { self.targets };
        let blocks = rows.chunks(self.columns * BLOCK).zip(scores.chunks_mut(width * BLOCK));
        for (block, (rows, scores)) in blocks.enumerate() {
            let count = rows.len() / self.columns;
            sums.clear();
            sums.resize(count * self.targets, T::ZERO);
            voted.clear();
            voted.resize(count * self.targets, false);
            for first in (0..self.roots.len()).step_by(TREES) {
                let sums = sums.chunks_exact_mut(self.targets).zip(voted.chunks_exact_mut(self.targets));
                for (row, (sums, voted)) in rows.chunks_exact(self.columns).zip(sums) {
                    self.vote_on(row, narrow, first, sums, voted);
                }
            }
            let classes = classes.get_mut(block * BLOCK..).unwrap_or_default();
            let sums = sums.chunks_exact_mut(self.targets).zip(voted.chunks_exact(self.targets));
            for (index, ((sums, voted), scores)) in sums.zip(scores.chunks_exact_mut(width)).enumerate() {
                let class = self.finish(sums, voted, scores);
                if let Some(place) = classes.get_mut(index) {
                    *place = class;
                }
            }
        }
    }

    /// The votes on a row of some trees, from `first` on.
    fn vote_on<T: Float>(
        &self,
        row: &[f32],
        narrow: &mut [f32; NARROW],
        first: usize,
        sums: &mut [T],
        voted: &mut [bool],
    ) {
        let mut leaves = [0.0; TREES];
        let leaves = &mut leaves[..TREES.min(self.roots.len() - first)];
        if row.len() > NARROW || self.tests_equality {
            self.leaves_of_trees::<true, true>(|column| row[column as usize], first, leaves);
        } else {
            narrow.iter_mut().zip(row).for_each(|(place, &x)| *place = x);
            let value = |column| narrow[column as usize & (NARROW - 1)];
            if self.tracks_missing {
                self.leaves_of_trees::<false, true>(value, first, leaves);
            } else {
                self.leaves_of_trees::<false, false>(value, first, leaves);
            }
        }
        self.vote_in_turn(leaves, sums, voted);
    }

    /// Where a row, of which `value` returns a column, ends in the trees from `first` on. There is one copy of the walk for sums in
    /// every precision.
    #[inline(never)]
    fn leaves_of_trees<const EQUAL: bool, const MISSING: bool>(
        &self,
        value: impl Fn(u32) -> f32 + Copy,
        first: usize,
        leaves: &mut [f32],
    ) {
        let roots = &self.roots[first..first + leaves.len()];
        let (groups, rest) = roots.as_chunks::<LANES>();
        let (places, left) = leaves.as_chunks_mut::<LANES>();
        for (group, (roots, place)) in groups.iter().zip(places).enumerate() {
            let first = first + group * LANES;
            let levels = self.deepest(first..first + LANES);
            *place = self.descend::<EQUAL, MISSING, LANES>(value, *roots, levels);
        }
        for (tree, (&root, place)) in (first + groups.len() * LANES..).zip(rest.iter().zip(left)) {
            let levels = self.deepest(tree..tree + 1);
            [*place] = self.descend::<EQUAL, MISSING, 1>(value, [root], levels);
        }
    }

    /// Walks from the given nodes down to leaves.
    #[inline(always)]
    fn descend<const EQUAL: bool, const MISSING: bool, const N: usize>(
        &self,
        value: impl Fn(u32) -> f32 + Copy,
        mut at: [u32; N],
        mut levels: u32,
    ) -> [f32; N] {
        while levels >= STRIDE {
            for _ in 0..STRIDE {
                self.step::<EQUAL, MISSING, N>(value, &mut at);
            }
            levels -= STRIDE;
            if levels > 0 && at.iter().fold(0, |links, &at| links | self.nodes[at as usize].link) & INNER == 0
            {
                levels = 0;
            }
        }
        for _ in 0..levels {
            self.step::<EQUAL, MISSING, N>(value, &mut at);
        }
        at.map(|at| self.nodes[at as usize].threshold)
    }

    /// One level down.
    #[inline(always)]
    fn step<const EQUAL: bool, const MISSING: bool, const N: usize>(
        &self,
        value: impl Fn(u32) -> f32,
        at: &mut [u32; N],
    ) {
        let shift = FLAGS + self.feature_bits;
        let mask = (1_u32 << self.feature_bits) - 1;
        for at in at {
            let node = self.nodes[*at as usize];
            let x = value(node.link >> FLAGS & mask);
            let mut first = x <= node.threshold;
            if EQUAL {
                first = if node.link & EQUALITY != 0 { x == node.threshold } else { first };
            }
            if MISSING {
                first |= x.is_nan() & (node.link & MISSING_FIRST != 0);
            }
            *at += (node.link >> shift) + (u32::from(!first) & node.link & INNER);
        }
    }

    /// The votes of several trees for one row, in the order of the trees.
    #[inline]
    fn vote_in_turn<T: Float>(&self, leaves: &[f32], sums: &mut [T], voted: &mut [bool]) {
        if let (Leaves::One, Aggregate::Sum | Aggregate::Average, [sum], [voted]) =
            (self.leaves, self.aggregate, &mut *sums, &mut *voted)
        {
            for &leaf in leaves {
                *sum += T::from_f32(leaf);
            }
            *voted = true;
            return;
        }
        for &leaf in leaves {
            self.vote(leaf, sums, voted);
        }
    }

    /// Adds the votes of a leaf, of which this is the vote or the bits of the index.
    #[inline]
    fn vote<T: Float>(&self, leaf: f32, sums: &mut [T], voted: &mut [bool]) {
        match self.leaves {
            Leaves::One => {
                if let ([sum], [voted]) = (sums, voted) {
                    self.add(sum, voted, leaf);
                }
            }
            Leaves::Dense(weights) => {
                let start = leaf.to_bits() as usize * self.targets;
                let weights = weights.get(start..).unwrap_or_default();
                if matches!(self.aggregate, Aggregate::Sum | Aggregate::Average) {
                    for (sum, &weight) in sums.iter_mut().zip(weights) {
                        *sum += T::from_f32(weight);
                    }
                    voted.fill(true);
                    return;
                }
                for ((sum, voted), &weight) in sums.iter_mut().zip(voted).zip(weights) {
                    self.add(sum, voted, weight);
                }
            }
            Leaves::Sparse { starts, targets, weights } => {
                let leaf = leaf.to_bits() as usize;
                let (Some(&start), Some(&end)) = (starts.get(leaf), starts.get(leaf + 1)) else {
                    return;
                };
                for vote in start as usize..end as usize {
                    let target = targets[vote] as usize;
                    self.add(&mut sums[target], &mut voted[target], weights[vote]);
                }
            }
        }
    }

    #[inline]
    fn add<T: Float>(&self, sum: &mut T, voted: &mut bool, weight: f32) {
        let weight = T::from_f32(weight);
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => *sum += weight,
            // NaN is less and greater than nothing: as the first vote it stays, later it is passed over, as in onnxruntime.
            Aggregate::Min if !*voted || weight < *sum => *sum = weight,
            Aggregate::Max if !*voted || weight > *sum => *sum = weight,
            Aggregate::Min | Aggregate::Max => {}
        }
        *voted = true;
    }

    /// Turns sums into scores and chooses the class, as onnxruntime's aggregators do.
    fn finish<T: Float>(&self, sums: &mut [T], voted: &[bool], scores: &mut [f32]) -> i64 {
        if self.aggregate == Aggregate::Average {
            let trees = T::from_f64(self.roots.len() as f64);
            sums.iter_mut().for_each(|sum| *sum = *sum / trees);
        }
        for (sum, &base) in sums.iter_mut().zip(self.base) {
            *sum += T::from_f32(base);
        }
        let half = T::from_f32(0.5);
        let over =
            |score: T, positive: bool| i64::from(if positive { score > half } else { score > T::ZERO });
        if let (Some(Choice::Single { positive }), [sum]) = (self.choice, &*sums) {
            let score = sum.to_f32();
            let both = match self.transform {
                Transform::Logistic => crate::transform::both_classes(Transform::Logistic, score),
                _ if positive => [(T::ONE - *sum).to_f32(), score],
                _ => [-score, score],
            };
            scores.iter_mut().zip(both).for_each(|(place, score)| *place = score);
            return over(*sum, positive);
        }
        let class = match (self.choice, &*sums) {
            (Some(Choice::Second { positive }), [_, second]) => over(*second, positive),
            (Some(Choice::Both), [_, second]) => over(*second, false),
            (Some(Choice::Largest), sums) => {
                let mut best: Option<(usize, T)> = None;
                for (index, (&sum, &voted)) in sums.iter().zip(voted).enumerate() {
                    let counts = voted || !self.base.is_empty();
                    if counts && best.is_none_or(|(_, score)| sum > score) {
                        best = Some((index, sum));
                    }
                }
                best.map_or(0, |(index, _)| index as i64)
            }
            _ => 0,
        };
        scores.iter_mut().zip(&*sums).for_each(|(place, sum)| *place = sum.to_f32());
        // A single score is only ever transformed by PROBIT in onnxruntime.
        if scores.len() > 1 || self.transform == Transform::Probit {
            transform_row(self.transform, scores);
        }
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(column: u32, threshold: f32) -> Test {
        Test { column, threshold, equality: false, missing_first: false }
    }

    /// x₀ ≤ 0 → leaf 0, else leaf 1; two such trees.
    fn stumps(leaves: [Node; 4]) -> Vec<Node> {
        let root = Node::inner(test(0, 0.0), 1, 1).unwrap();
        vec![root, leaves[0], leaves[1], root, leaves[2], leaves[3]]
    }

    fn ensemble<'a>(nodes: &'a [Node], leaves: Leaves<'a>) -> Ensemble<'a> {
        Ensemble {
            nodes,
            roots: &[0, 3],
            levels: &[],
            leaves,
            columns: 1,
            feature_bits: 1,
            tests_equality: false,
            tracks_missing: false,
            targets: 1,
            aggregate: Aggregate::Sum,
            base: &[],
            transform: Transform::None,
            choice: None,
        }
    }

    fn predict(ensemble: &Ensemble<'_>, rows: &[f32]) -> (Vec<f32>, Vec<i64>) {
        ensemble.validate().unwrap();
        let count = rows.len() / ensemble.columns;
        let width = if matches!(ensemble.choice, Some(Choice::Single { .. })) { 2 } else { ensemble.targets };
        let mut scores = vec![f32::NAN; count * width];
        let mut classes = vec![-1; count];
        ensemble.predict(rows, false, &mut scores, &mut classes, &mut Scratch::default());
        (scores, classes)
    }

    #[test]
    fn votes_are_put_together_as_the_aggregate_says() {
        let nodes = stumps([0.3, 0.7, 0.1, -0.2].map(Node::leaf));
        let plain = ensemble(&nodes, Leaves::One);
        let check = |aggregate, base: &[f32], want: [f32; 2]| {
            let (scores, _) = predict(&Ensemble { aggregate, base, ..plain }, &[-1.0, 1.0]);
            for (found, want) in scores.iter().zip(want) {
                assert!((found - want).abs() < 1e-6, "{aggregate:?} {base:?}: {scores:?}");
            }
        };
        check(Aggregate::Sum, &[], [0.4, 0.5]);
        check(Aggregate::Sum, &[0.1], [0.5, 0.6]);
        check(Aggregate::Average, &[0.1], [0.3, 0.35]);
        check(Aggregate::Min, &[], [0.1, -0.2]);
        check(Aggregate::Max, &[0.1], [0.4, 0.8]);
    }

    #[test]
    fn a_missing_vote_is_a_minimum_only_when_it_is_the_first() {
        // The first tree votes NaN on the left, the second on the right.
        let nodes = stumps([f32::NAN, 0.5, 0.25, f32::NAN].map(Node::leaf));
        for aggregate in [Aggregate::Min, Aggregate::Max] {
            for double in [false, true] {
                let ensemble = Ensemble { aggregate, ..ensemble(&nodes, Leaves::One) };
                let mut scores = [0.0; 2];
                ensemble.predict(&[-1.0, 1.0], double, &mut scores, &mut [], &mut Scratch::default());
                assert!(scores[0].is_nan() && scores[1] == 0.5, "{aggregate:?}: {scores:?}");
            }
        }
    }

    #[test]
    fn classes_are_chosen_as_onnxruntime_does() {
        let nodes = stumps([0.3, 0.7, 0.0, 0.0].map(Node::leaf));
        let single =
            Ensemble { choice: Some(Choice::Single { positive: true }), ..ensemble(&nodes, Leaves::One) };
        assert_eq!(predict(&single, &[-1.0, 1.0]), (vec![0.7, 0.3, 1.0 - 0.7, 0.7], vec![0, 1]));
        let mixed = Ensemble { choice: Some(Choice::Single { positive: false }), base: &[-0.5], ..single };
        let (scores, classes) = predict(&mixed, &[-1.0, 1.0]);
        assert_eq!(classes, [0, 1]);
        assert!((scores[0] - 0.2).abs() < 1e-6 && (scores[1] + 0.2).abs() < 1e-6, "{scores:?}");

        let nodes = stumps([0, 1, 2, 3].map(Node::indexed_leaf));
        // The first class gets votes only on the left, the second never: they must not win with their score of 0.
        let leaves =
            Leaves::Sparse { starts: &[0, 2, 3, 3, 3], targets: &[0, 2, 2], weights: &[-0.8, -0.1, -0.6] };
        let largest = Ensemble { choice: Some(Choice::Largest), targets: 3, ..ensemble(&nodes, leaves) };
        assert_eq!(predict(&largest, &[-1.0, 1.0]).1, [2, 2]);
        let with_base = Ensemble { base: &[0.0; 3], ..largest };
        assert_eq!(predict(&with_base, &[-1.0, 1.0]).1, [1, 0]);
    }

    #[test]
    fn missing_values_and_equality_follow_their_flags() {
        let check = |equality, missing_first, want: [f32; 3]| {
            let root =
                Node::inner(Test { column: 0, threshold: 1.0, equality, missing_first }, 1, 1).unwrap();
            let nodes = [root, Node::leaf(10.0), Node::leaf(20.0)];
            let ensemble = Ensemble {
                roots: &[0],
                tests_equality: equality,
                tracks_missing: missing_first,
                ..ensemble(&nodes, Leaves::One)
            };
            assert_eq!(predict(&ensemble, &[0.5, 1.0, f32::NAN]).0, want, "{equality} {missing_first}");
        };
        check(false, false, [10.0, 10.0, 20.0]);
        check(false, true, [10.0, 10.0, 10.0]);
        check(true, false, [20.0, 10.0, 20.0]);
        check(true, true, [20.0, 10.0, 10.0]);
    }

    #[test]
    fn one_row_and_many_rows_give_the_same_bits() {
        // A chain of tests per tree, so that lanes end at different depths.
        let mut nodes = Vec::new();
        let mut roots = Vec::new();
        for tree in 0..7_u32 {
            roots.push(nodes.len() as u32);
            for depth in 0..=tree {
                nodes.push(Node::inner(test(depth % 3, 0.4 - 0.1 * depth as f32), 1, 2).unwrap());
                nodes.push(Node::leaf(0.1 * (tree + depth) as f32));
            }
            // The second branch of every test is the next test; the last one's is this leaf.
            nodes.push(Node::leaf(7.3));
        }
        let ensemble =
            Ensemble { roots: &roots, columns: 3, feature_bits: 2, ..ensemble(&nodes, Leaves::One) };
        let rows: Vec<f32> = (0..3 * 150).map(|i| (i as f32 * 0.77).sin()).collect();
        let (together, _) = predict(&ensemble, &rows);
        let levels = ensemble.validate().unwrap();
        assert_eq!(levels, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(predict(&Ensemble { levels: &levels, ..ensemble }, &rows).0, together);
        for (row, want) in rows.chunks(3).zip(together) {
            assert_eq!(predict(&ensemble, row).0, [want]);
            assert_eq!(predict(&Ensemble { levels: &levels, ..ensemble }, row).0, [want]);
        }
    }

    #[test]
    fn wide_rows_are_walked_like_narrow_ones() {
        for columns in [NARROW - 1, NARROW, NARROW + 1, 2 * NARROW + 1] {
            let last = columns as u32 - 1;
            let root = Node::inner(test(last, 0.5), 1, 12).unwrap();
            let nodes = [root, Node::leaf(1.0), Node::leaf(2.0), root, Node::leaf(4.0), Node::leaf(8.0)];
            let ensemble = Ensemble { columns, feature_bits: 12, ..ensemble(&nodes, Leaves::One) };
            // The column that a wrapped number would reach says the opposite.
            let row = |x: f32| {
                let mut row = vec![1.0 - x; columns];
                row[columns - 1] = x;
                row
            };
            assert_eq!(predict(&ensemble, &[row(0.0), row(1.0)].concat()).0, [5.0, 10.0], "{columns}");
        }
    }

    #[test]
    fn arrays_that_could_lead_astray_are_refused() {
        let good = stumps([1.0; 4].map(Node::leaf));
        let check = |change: fn(&mut Vec<Node>), want: &str| {
            let mut nodes = good.clone();
            change(&mut nodes);
            let problem = ensemble(&nodes, Leaves::One).validate().unwrap_err();
            assert!(problem.contains(want), "{problem}");
        };
        check(|nodes| nodes[0].link = 1, "backwards or outside");
        check(|nodes| nodes[3].link = 1 | 2 << 4, "backwards or outside");
        check(|nodes| nodes[0].link |= 1 << 3, "column that does not exist");
        check(|nodes| nodes[1].link = 2, "no votes");
        check(|nodes| nodes[0].link |= MISSING_FIRST, "does not declare");
        check(|nodes| nodes.truncate(3), "does not exist");
        let indexed = stumps([0, 1, 2, 9].map(Node::indexed_leaf));
        let dense = Ensemble { targets: 2, ..ensemble(&indexed, Leaves::Dense(&[0.0; 8])) };
        assert!(dense.validate().unwrap_err().contains("leaf 5 has no votes"));
    }

    #[test]
    fn links_have_limits() {
        assert!(Node::inner(test(2, 0.0), 1, 1).is_none());
        assert!(Node::inner(test(0, 0.0), 1 << 28, 1).is_none());
        assert!(Node::inner(test(0, 0.0), (1 << 28) - 1, 1).is_some());
    }
}
