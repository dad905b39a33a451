//! Forests as the kernel of `lockgate-onnx-ml` walks them: nodes of 8 bytes with two kinds of tests.
//!
//! With x and t in single precision, x < t is x ≤ the number before t, and the opposite tests exchange the branches.

use lockgate_onnx_ml::layout::{Placed, arrange};
use lockgate_onnx_ml::transform::Transform;
use lockgate_onnx_ml::tree::{self, Ensemble, Leaves, Node, Scratch, Test};

use super::scores::{Choice, Scoring};
use super::{Branch, Forest, Mode, Next};

/// A forest in the kernel's arrays.
pub(super) struct Fast {
    nodes: Vec<Node>,
    roots: Vec<u32>,
    votes: Votes,
    feature_bits: u32,
    levels: Vec<u8>,
    tests_equality: bool,
    tracks_missing: bool,
    targets: usize,
    aggregate: tree::Aggregate,
    base: Vec<f32>,
    transform: Transform,
    choice: Option<tree::Choice>,
    width: usize,
}

enum Votes {
    One,
    Dense(Vec<f32>),
    Sparse { starts: Vec<u32>, targets: Vec<u32>, weights: Vec<f32> },
}

impl Fast {
    /// `None` when the kernel cannot hold the forest, or would put its scores together in another way.
    pub(super) fn new(forest: &Forest, scoring: &Scoring) -> Option<Self> {
        let full = forest.leaves.iter().all(|votes| {
            let mut targets: Vec<usize> = votes.iter().map(|vote| vote.0).collect();
            targets.sort_unstable();
            targets.into_iter().eq(0..scoring.targets)
        });
        let based = !scoring.base.is_empty();
        let votes_once = |always: bool| {
            forest.leaves.iter().all(|votes| votes.len() == 1 || (votes.is_empty() && !always))
        };
        let (choice, targets) = match scoring.choice {
            // A base value does not count where nobody voted.
            None if based && scoring.targets > 1 && !full => return None,
            None => (None, scoring.targets),
            Some(Choice::Largest) => (Some(tree::Choice::Largest), scoring.targets),
            Some(Choice::One { second: false, positive })
                if scoring.base.len() < 2 && scoring.transform != Transform::Probit && votes_once(based) =>
            {
                (Some(tree::Choice::Single { positive }), 1)
            }
            Some(Choice::One { second: true, positive }) if !based && votes_once(true) => {
                (Some(tree::Choice::Second { positive }), 2)
            }
            Some(Choice::Two) if !based && full => (Some(tree::Choice::Both), 2),
            Some(_) => return None,
        };
        let mut fast = Self {
            nodes: Vec::with_capacity(forest.nodes.len()),
            roots: Vec::with_capacity(forest.roots.len()),
            votes: Votes::One,
            feature_bits: usize::BITS - forest.columns.saturating_sub(1).leading_zeros(),
            levels: Vec::new(),
            tests_equality: false,
            tracks_missing: false,
            targets,
            aggregate: scoring.aggregate,
            base: scoring.base.iter().map(|&base| base as f32).collect(),
            transform: scoring.transform,
            choice,
            width: scoring.targets,
        };
        if targets > 1 {
            fast.votes = if full { dense(forest) } else { sparse(forest)? };
        }
        for &root in &forest.roots {
            fast.tree(forest, root)?;
        }
        fast.levels = fast.ensemble(forest.columns.max(1)).validate().ok()?;
        Some(fast)
    }

    fn tree(&mut self, forest: &Forest, root: Next) -> Option<()> {
        self.roots.push(u32::try_from(self.nodes.len()).ok()?);
        // Nodes are met by number; leaves are counted behind them.
        let number = |next: Next| match next {
            Next::Node(inner) => inner,
            Next::Leaf(leaf) => forest.nodes.len() + leaf,
        };
        let placed = arrange(number(root), |node| {
            let Some(branch) = forest.nodes.get(node) else { return Ok::<_, ()>(None) };
            let (_, swapped) = canonical(branch).ok_or(())?;
            let branches = [number(branch.first), number(branch.second)];
            Ok(Some(if swapped { [branches[1], branches[0]] } else { branches }))
        });
        for Placed { node, distance, .. } in placed.ok()? {
            let Some(branch) = forest.nodes.get(node) else {
                let leaf = node - forest.nodes.len();
                self.nodes.push(if self.targets == 1 {
                    let vote = forest.leaves.get(leaf)?.first();
                    Node::leaf(vote.map_or(0.0, |vote| vote.1 as f32))
                } else {
                    Node::indexed_leaf(u32::try_from(leaf).ok()?)
                });
                continue;
            };
            let (test, _) = canonical(branch)?;
            self.tests_equality |= test.equality;
            self.tracks_missing |= test.missing_first;
            self.nodes.push(Node::inner(test, u32::try_from(distance).ok()?, self.feature_bits)?);
        }
        Some(())
    }

    fn ensemble(&self, columns: usize) -> Ensemble<'_> {
        Ensemble {
            nodes: &self.nodes,
            roots: &self.roots,
            levels: &self.levels,
            leaves: match &self.votes {
                Votes::One => Leaves::One,
                Votes::Dense(weights) => Leaves::Dense(weights),
                Votes::Sparse { starts, targets, weights } => Leaves::Sparse { starts, targets, weights },
            },
            columns,
            feature_bits: self.feature_bits,
            tests_equality: self.tests_equality,
            tracks_missing: self.tracks_missing,
            targets: self.targets,
            aggregate: self.aggregate,
            base: &self.base,
            transform: self.transform,
            choice: self.choice,
        }
    }

    /// The scores and classes of rows with at least as many columns as the trees test.
    pub(super) fn run(&self, rows: &[f32], count: usize, columns: usize) -> (Vec<f32>, Vec<usize>) {
        let mut scores = vec![0.0; count.saturating_mul(self.width)];
        let mut classes = vec![0; count];
        self.ensemble(columns).predict(rows, false, &mut scores, &mut classes, &mut Scratch::default());
        (scores, classes.into_iter().map(|class| usize::try_from(class).unwrap_or_default()).collect())
    }
}

fn dense(forest: &Forest) -> Votes {
    let mut weights = Vec::new();
    for votes in &forest.leaves {
        let mut row = votes.clone();
        row.sort_by_key(|vote| vote.0);
        weights.extend(row.into_iter().map(|vote| vote.1 as f32));
    }
    Votes::Dense(weights)
}

fn sparse(forest: &Forest) -> Option<Votes> {
    let (mut starts, mut targets, mut weights) = (vec![0], Vec::new(), Vec::new());
    for votes in &forest.leaves {
        for &(target, weight) in votes {
            targets.push(u32::try_from(target).ok()?);
            weights.push(weight as f32);
        }
        starts.push(u32::try_from(weights.len()).ok()?);
    }
    Some(Votes::Sparse { starts, targets, weights })
}

/// The kernel's form of a test, and whether the branches change places.
fn canonical(branch: &Branch) -> Option<(Test, bool)> {
    let threshold = branch.threshold as f32;
    // No number is below negative infinity, and NaN is above none.
    let below = if threshold == f32::NEG_INFINITY { f32::NAN } else { threshold.next_down() };
    let (threshold, equality, swapped) = match branch.mode {
        Mode::LessOrEqual => (threshold, false, false),
        // Nothing is greater than NaN, and everything is at most infinity.
        Mode::Greater | Mode::GreaterOrEqual if threshold.is_nan() => (f32::INFINITY, false, true),
        Mode::Greater => (threshold, false, true),
        Mode::Less => (below, false, false),
        Mode::GreaterOrEqual => (below, false, true),
        Mode::Equal => (threshold, true, false),
        Mode::NotEqual => (threshold, true, true),
        Mode::Member => return None,
    };
    // NaN passes no test but ≠. With the branches exchanged, the kernel's first branch is the node's second one.
    let to_first = branch.missing_first || branch.mode == Mode::NotEqual;
    let missing_first = to_first != swapped;
    Some((Test { column: u32::try_from(branch.column).ok()?, threshold, equality, missing_first }, swapped))
}
