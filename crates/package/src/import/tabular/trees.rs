//! Tree ensembles, from the lists of `ai.onnx.ml` to nodes that lie where they are walked.
//!
//! The specification has six tests; the engine has two. With x and t in single precision, x < t is x ≤ the number before t,
//! and the opposite tests exchange the branches. What a missing value does is carried along, so no test changes its answer
//! for NaN.

use std::collections::{BTreeMap, BTreeSet};

use lockgate_onnx_ml::layout::{Placed, arrange};
use lockgate_onnx_ml::tree as kernel;

use lockgate_onnx::{Data, Tensor};

use super::classic::{class_labels, of_targets, post_transform};
use super::{Form, Lowering, Tracked};
use crate::import::Refusal;
use crate::import::onnx::{Attributes, ElementType, Node};
use crate::plan::tabular::{Aggregate, ArrayKind, Choice, Kind, Leaves, Rounding, Step, Transform, Trees};

const EXPORT_AGAIN: &str = "export the model again";

/// A classifier: scores, and the class they choose.
pub(in crate::import) fn classifier<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let labels = class_labels(a, "classlabels_int64s", "classlabels_strings");
    let transform = post_transform(a);
    let forest = Forest::read(node, a, "class")?;
    let base = numbers(a, "base_values");
    if labels.len() < 2 {
        return Err(node.refusal("a classifier needs two classes or more", "train with more than one class"));
    }
    if let Some(&(.., class, _)) = forest.votes.iter().find(|vote| vote.2 >= labels.len()) {
        let message = format!("a leaf votes for class {class} of {}", labels.len());
        return Err(node.refusal(message, EXPORT_AGAIN));
    }
    let positive = forest.votes.iter().all(|vote| vote.3 >= 0.0 || vote.3.is_nan());
    let votes_for = |class: usize| forest.votes.iter().any(|vote| vote.2 == class);
    let (choice, targets) = match (labels.len(), votes_for(0), votes_for(1)) {
        (2, true, false) => (Choice::Single { positive }, 1),
        (2, false, _) => (Choice::Second { positive }, 2),
        (2, true, true) => (Choice::Both, 2),
        (classes, ..) => (Choice::Largest, classes),
    };
    let allowed: &[usize] = match choice {
        Choice::Single { .. } => &[0, 1],
        Choice::Second { .. } | Choice::Both => &[0],
        Choice::Largest => &[0, targets],
    };
    if !allowed.contains(&base.len()) {
        a.refuse(
            "base_values",
            format!("{} numbers are not supported here, expected {allowed:?}", base.len()),
            "with two classes, export votes for one class and one base value",
        );
    }
    if transform == Transform::Probit && matches!(choice, Choice::Single { .. }) {
        a.refuse("post_transform", "PROBIT of a single score is not defined", "export votes for each class");
    }
    if matches!(choice, Choice::Both) && !forest.every_leaf_votes_for_all(targets) {
        return Err(node.refusal(
            "some leaves vote for one of two classes and some for the other, which the specification leaves open",
            "export votes for one class, as current versions of skl2onnx and onnxmltools do",
        ));
    }
    if matches!(choice, Choice::Single { .. }) && !base.is_empty() && !forest.every_leaf_votes_for_all(1) {
        return Err(node.refusal(
            "a base value does not count where no tree votes, which is not supported",
            "export votes of 0 where a leaf has none",
        ));
    }
    let scores = l.value(Kind::F32, u32::try_from(labels.len()).unwrap_or(u32::MAX));
    let class = l.value(Kind::I64, 1);
    let score = Scores {
        scores,
        class: Some(class),
        targets,
        aggregate: Aggregate::Sum,
        base,
        transform,
        choice: Some(choice),
    };
    forest.lower(l, node, a, score)?;
    let label = l.labels(class, &labels, Form::Vector);
    l.bind_output(node, 0, label);
    let scores =
        Tracked { value: scores, form: Form::Matrix, element: ElementType::Float, classes: Some(labels) };
    l.bind_output(node, 1, scores);
    Ok(())
}

/// A regressor: scores.
pub(in crate::import) fn regressor<'m>(
    l: &mut Lowering<'m>,
    node: &'m Node,
    a: &Attributes<'m>,
) -> Result<(), Refusal> {
    let targets = usize::try_from(a.int_or("n_targets", 1)).unwrap_or(0);
    let transform = of_targets(post_transform(a), targets);
    let aggregate = match a.string_or("aggregate_function", "SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => {
            let message = format!("expected SUM, AVERAGE, MIN or MAX, found `{other}`");
            a.refuse("aggregate_function", message, EXPORT_AGAIN);
            Aggregate::Sum
        }
    };
    let forest = Forest::read(node, a, "target")?;
    let base = numbers(a, "base_values");
    if ![0, targets].contains(&base.len()) {
        a.refuse("base_values", format!("expected {targets} numbers, found {}", base.len()), EXPORT_AGAIN);
    }
    if targets == 0 || forest.votes.iter().any(|vote| vote.2 >= targets) {
        return Err(
            node.refusal(format!("a leaf votes for a target beyond the {targets} declared"), EXPORT_AGAIN)
        );
    }
    if !base.is_empty() && targets > 1 && !forest.every_leaf_votes_for_all(targets) {
        return Err(node.refusal(
            "a base value does not count for a target that no tree votes for, which is not supported",
            "export votes of 0 where a leaf has none",
        ));
    }
    let scores = l.value(Kind::F32, u32::try_from(targets).unwrap_or(u32::MAX));
    forest.lower(
        l,
        node,
        a,
        Scores { scores, class: None, targets, aggregate, base, transform, choice: None },
    )?;
    l.bind_output(
        node,
        0,
        Tracked { value: scores, form: Form::Matrix, element: ElementType::Float, classes: None },
    );
    Ok(())
}

/// What becomes of the votes.
struct Scores {
    scores: u32,
    class: Option<u32>,
    targets: usize,
    aggregate: Aggregate,
    base: Vec<f32>,
    transform: Transform,
    choice: Option<Choice>,
}

/// The lists of a tree operator, of equal lengths.
struct Forest<'m> {
    trees: &'m [i64],
    ids: &'m [i64],
    columns: Vec<u32>,
    tests: Vec<Mode>,
    thresholds: Vec<f64>,
    first: &'m [i64],
    second: &'m [i64],
    missing_first: Vec<bool>,
    /// How many rows of the training set came to each node, as far as the exporter says so.
    covers: Vec<f32>,
    /// Tree, node, target, weight.
    votes: Vec<(i64, i64, usize, f32)>,
    index: BTreeMap<(i64, i64), usize>,
}

/// A node's test as the specification names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
    Leaf,
}

impl<'m> Forest<'m> {
    /// Reads the lists; `votes` is the prefix of the attributes that hold the votes.
    fn read(node: &Node, a: &Attributes<'m>, votes: &str) -> Result<Self, Refusal> {
        let ids = a.ints("nodes_nodeids");
        let count = ids.len();
        let list = |name: &str| {
            let values = a.ints(name);
            if values.len() != count {
                a.refuse(
                    name,
                    format!("expected {count} numbers, one per node, found {}", values.len()),
                    EXPORT_AGAIN,
                );
            }
            values
        };
        let (trees, first, second) =
            (list("nodes_treeids"), list("nodes_truenodeids"), list("nodes_falsenodeids"));
        let features = list("nodes_featureids");
        let columns = features.iter().map(|&column| u32::try_from(column).unwrap_or(u32::MAX)).collect();
        let thresholds = exact_numbers(a, "nodes_values");
        if thresholds.len() != count {
            a.refuse(
                "nodes_values",
                format!("expected {count} numbers, found {}", thresholds.len()),
                EXPORT_AGAIN,
            );
        }
        // How many rows of the training set came to each node. It changes no prediction, so that nothing is refused here.
        let covers = exact_numbers(a, "nodes_hitrates").iter().map(|&cover| cover as f32).collect();
        let missing = a.ints("nodes_missing_value_tracks_true");
        if ![0, count].contains(&missing.len()) {
            let message = format!("expected {count} numbers, one per node, found {}", missing.len());
            a.refuse("nodes_missing_value_tracks_true", message, EXPORT_AGAIN);
        }
        let missing_first =
            (0..count).map(|index| missing.get(index).is_some_and(|&tracks| tracks != 0)).collect();
        let modes = a.strings("nodes_modes");
        if modes.len() != count {
            a.refuse(
                "nodes_modes",
                format!("expected {count} texts, one per node, found {}", modes.len()),
                EXPORT_AGAIN,
            );
        }
        let mut tests = Vec::with_capacity(count);
        for mode in modes {
            tests.push(match mode {
                "BRANCH_LEQ" => Mode::LessOrEqual,
                "BRANCH_LT" => Mode::Less,
                "BRANCH_GTE" => Mode::GreaterOrEqual,
                "BRANCH_GT" => Mode::Greater,
                "BRANCH_EQ" => Mode::Equal,
                "BRANCH_NEQ" => Mode::NotEqual,
                "LEAF" => Mode::Leaf,
                other => {
                    let message = format!("`{other}` is not supported");
                    a.refuse("nodes_modes", message.clone(), "export with target_opset {\"ai.onnx.ml\": 3}");
                    return Err(node.refusal(message, EXPORT_AGAIN));
                }
            });
        }
        let targets = a.ints(&format!("{votes}_ids"));
        let vote_trees = a.ints(&format!("{votes}_treeids"));
        let vote_nodes = a.ints(&format!("{votes}_nodeids"));
        let weights = numbers(a, &format!("{votes}_weights"));
        let equal =
            [vote_trees.len(), vote_nodes.len(), weights.len()].iter().all(|&len| len == targets.len());
        let lists = [trees.len(), first.len(), second.len(), tests.len(), thresholds.len()];
        if !equal || count == 0 || lists.iter().any(|&len| len != count) {
            return Err(node.refusal("the lists of nodes and votes do not have equal lengths", EXPORT_AGAIN));
        }
        if let Some(target) = targets.iter().find(|&&target| target < 0) {
            let message = format!("a leaf votes for {votes} {target}, but they are counted from 0");
            return Err(node.refusal(message, EXPORT_AGAIN));
        }
        let is_test = |(column, test): &(&i64, &Mode)| **column < 0 && **test != Mode::Leaf;
        if let Some((column, _)) = features.iter().zip(&tests).find(is_test) {
            let message = format!("a test is of column {column}, but they are counted from 0");
            let attribute = Some("nodes_featureids".to_owned());
            return Err(Refusal { attribute, ..node.refusal(message, EXPORT_AGAIN) });
        }
        let votes = targets.iter().zip(vote_trees).zip(vote_nodes).zip(weights);
        let votes = votes
            .map(|(((&target, &tree), &node), weight)| {
                (tree, node, usize::try_from(target).unwrap_or(usize::MAX), weight)
            })
            .collect();
        let mut index = BTreeMap::new();
        for (position, key) in trees.iter().copied().zip(ids.iter().copied()).enumerate() {
            if index.insert(key, position).is_some() {
                return Err(node.refusal(format!("tree {} has node {} twice", key.0, key.1), EXPORT_AGAIN));
            }
        }
        Ok(Self {
            trees,
            ids,
            columns,
            tests,
            thresholds,
            first,
            second,
            missing_first,
            covers,
            votes,
            index,
        })
    }

    fn every_leaf_votes_for_all(&self, targets: usize) -> bool {
        let leaves = self.tests.iter().filter(|&&test| test == Mode::Leaf).count();
        leaves.checked_mul(targets) == Some(self.votes.len())
    }

    /// Whether the numbers given as hit rates are covers: those of the branches of every test make up the test's own. Some
    /// exporters write 1 everywhere, which says nothing.
    fn has_covers(&self) -> bool {
        let cover = |position: usize| self.covers.get(position).copied().map(f64::from);
        let mut tests = 0;
        for (position, &test) in self.tests.iter().enumerate() {
            let Some(own) = cover(position).filter(|own| *own >= 0.0 && own.is_finite()) else {
                return false;
            };
            if test == Mode::Leaf {
                continue;
            }
            tests += 1;
            let branch = |ids: &[i64]| {
                let key = (*self.trees.get(position)?, *ids.get(position)?);
                cover(*self.index.get(&key)?)
            };
            let (Some(first), Some(second)) = (branch(self.first), branch(self.second)) else { return false };
            if own == 0.0 || (own - (first + second)).abs() > 1e-3 * own {
                return false;
            }
        }
        tests > 0 && self.covers.len() == self.ids.len()
    }

    /// Lays the trees out and adds the step.
    fn lower(
        self,
        l: &mut Lowering<'_>,
        node: &Node,
        a: &Attributes<'_>,
        score: Scores,
    ) -> Result<(), Refusal> {
        let (input, wide) = self.input(l, node, a)?;
        let columns = l.form(input).columns;
        if let Some(position) = (0..self.ids.len())
            .find(|&at| self.tests.get(at) != Some(&Mode::Leaf) && self.columns.get(at) >= Some(&columns))
        {
            let column = self.columns.get(position).copied().unwrap_or_default();
            let message = format!(
                "node {} of tree {} tests column {column} of {columns}",
                self.ids[position], self.trees[position]
            );
            a.refuse(
                "nodes_featureids",
                message,
                "check that the input has as many columns as the model was trained with",
            );
            return Ok(());
        }
        let feature_bits = u32::BITS - (columns - 1).leading_zeros();
        let leaves = self.leaves(node, &score)?;
        let has_covers = self.has_covers();
        let layout = self.layout(node, feature_bits, &leaves.place)?;
        if self.missing_first.iter().zip(&self.tests).any(|(&missing, &test)| missing && test != Mode::Leaf) {
            l.accept_missing();
        }
        let operations =
            layout.operations.saturating_mul(4).saturating_add(20_u64.saturating_mul(score.targets as u64));
        let nodes = l.array(ArrayKind::Node, &layout.nodes);
        let roots = l.array(ArrayKind::U32, &layout.roots);
        let covers = has_covers.then(|| l.array(ArrayKind::F32, &layout.covers));
        let leaves = match leaves.kind {
            LeafKind::One => Leaves::One,
            LeafKind::Dense(weights) => Leaves::Dense { weights: l.array(ArrayKind::F32, &weights) },
            LeafKind::Sparse { starts, targets, weights } => Leaves::Sparse {
                starts: l.array(ArrayKind::U32, &starts),
                targets: l.array(ArrayKind::U32, &targets),
                weights: l.array(ArrayKind::F32, &weights),
            },
        };
        let trees = Trees {
            input,
            scores: score.scores,
            class: score.class,
            nodes,
            roots,
            feature_bits,
            tests_equality: layout.tests_equality,
            tracks_missing: layout.tracks_missing,
            wide,
            leaves,
            targets: u32::try_from(score.targets).unwrap_or(u32::MAX),
            aggregate: score.aggregate,
            base: score.base,
            transform: score.transform,
            choice: score.choice,
            covers,
        };
        l.step(Step::Trees(Box::new(trees)), operations);
        Ok(())
    }

    /// The input in single precision, such that every test keeps its answer; and whether sums are in double precision.
    fn input(&self, l: &mut Lowering<'_>, node: &Node, a: &Attributes<'_>) -> Result<(u32, bool), Refusal> {
        let input = l.matrix(node, 0)?;
        if l.form(input.value).kind != Kind::F64 {
            return Ok((l.single_matrix(node, 0)?.value, false));
        }
        let has = |modes: &[Mode]| self.tests.iter().any(|test| modes.contains(test));
        let up = has(&[Mode::LessOrEqual, Mode::Greater]);
        let down = has(&[Mode::Less, Mode::GreaterOrEqual]);
        let inexact = self
            .thresholds
            .iter()
            .any(|&threshold| f64::from(threshold as f32) != threshold && !threshold.is_nan());
        if (up && down) || has(&[Mode::Equal, Mode::NotEqual]) || inexact {
            a.refuse(
                if inexact { "nodes_values_as_tensor" } else { "nodes_modes" },
                "these tests of double inputs cannot be made in single precision without changing answers",
                "export with FloatTensorType inputs",
            );
        }
        let columns = l.form(input.value).columns;
        let output = l.value(Kind::F32, columns);
        let rounding = if down { Rounding::Down } else { Rounding::Up };
        l.step(Step::Cast { input: input.value, output, rounding }, columns.into());
        Ok((output, true))
    }

    /// Where each leaf's votes lie.
    fn leaves(&self, node: &Node, score: &Scores) -> Result<LeafTable, Refusal> {
        let mut of_leaf: Vec<Vec<(usize, f32)>> = vec![Vec::new(); self.ids.len()];
        let mut voted = BTreeSet::new();
        for &(tree, id, target, weight) in &self.votes {
            let position = self.index.get(&(tree, id)).copied();
            let place = position
                .filter(|&at| self.tests.get(at) == Some(&Mode::Leaf))
                .and_then(|at| of_leaf.get_mut(at));
            let Some(place) = place else {
                let message = format!("a vote belongs to node {id} of tree {tree}, which is no leaf");
                return Err(node.refusal(message, EXPORT_AGAIN));
            };
            if !voted.insert((tree, id, target)) {
                let message = format!("leaf {id} of tree {tree} votes twice for target {target}");
                return Err(node.refusal(message, EXPORT_AGAIN));
            }
            place.push((target, weight));
        }
        let is_leaf = |position: &usize| self.tests.get(*position) == Some(&Mode::Leaf);
        let positions: Vec<usize> = (0..self.ids.len()).filter(is_leaf).collect();
        let sums = matches!(score.aggregate, Aggregate::Sum | Aggregate::Average);
        if !sums && positions.iter().any(|&at| of_leaf.get(at).is_none_or(Vec::is_empty)) {
            return Err(node
                .refusal("a leaf has no vote, which has no meaning for a minimum or maximum", EXPORT_AGAIN));
        }
        let mut place = BTreeMap::new();
        if score.targets == 1 {
            for &at in &positions {
                let weight = of_leaf.get(at).and_then(|votes| votes.first()).map_or(0.0, |vote| vote.1);
                place.insert(at, kernel::Node::leaf(weight));
            }
            return Ok(LeafTable { place, kind: LeafKind::One });
        }
        for (number, &at) in positions.iter().enumerate() {
            place.insert(at, kernel::Node::indexed_leaf(u32::try_from(number).unwrap_or(u32::MAX)));
        }
        let all =
            positions.iter().all(|&at| of_leaf.get(at).is_some_and(|votes| votes.len() == score.targets));
        if all {
            let mut weights = Vec::with_capacity(positions.len().saturating_mul(score.targets));
            for &at in &positions {
                let mut row = of_leaf.get(at).cloned().unwrap_or_default();
                row.sort_by_key(|vote| vote.0);
                weights.extend(row.into_iter().map(|vote| vote.1));
            }
            return Ok(LeafTable { place, kind: LeafKind::Dense(weights) });
        }
        let (mut starts, mut targets, mut weights) = (vec![0_u32], Vec::new(), Vec::new());
        for &at in &positions {
            for &(target, weight) in of_leaf.get(at).into_iter().flatten() {
                targets.push(u32::try_from(target).unwrap_or(u32::MAX));
                weights.push(weight);
            }
            starts.push(u32::try_from(weights.len()).unwrap_or(u32::MAX));
        }
        Ok(LeafTable { place, kind: LeafKind::Sparse { starts, targets, weights } })
    }

    /// Trees one behind the other.
    fn layout(
        &self,
        node: &Node,
        feature_bits: u32,
        leaves: &BTreeMap<usize, kernel::Node>,
    ) -> Result<Layout, Refusal> {
        let mut layout = Layout::default();
        let mut visited = vec![false; self.ids.len()];
        let mut known = BTreeSet::new();
        let mut start = 0;
        while let Some(&tree) = self.trees.get(start) {
            let len = self
                .trees
                .get(start..)
                .unwrap_or_default()
                .iter()
                .take_while(|&&other| other == tree)
                .count();
            if !known.insert(tree) {
                return Err(
                    node.refusal(format!("the nodes of tree {tree} do not lie together"), EXPORT_AGAIN)
                );
            }
            self.tree(node, feature_bits, leaves, start, &mut visited, &mut layout)?;
            start += len;
        }
        Ok(layout)
    }

    /// One tree, whose root is the first node listed.
    fn tree(
        &self,
        node: &Node,
        feature_bits: u32,
        leaves: &BTreeMap<usize, kernel::Node>,
        root: usize,
        visited: &mut [bool],
        layout: &mut Layout,
    ) -> Result<(), Refusal> {
        let problem = |position: usize, what: &str| {
            let (tree, id) = (self.trees.get(position).copied(), self.ids.get(position).copied());
            let message =
                format!("node {} of tree {} {what}", id.unwrap_or_default(), tree.unwrap_or_default());
            node.refusal(message, EXPORT_AGAIN)
        };
        let placed = arrange(root, |position| {
            if std::mem::replace(visited.get_mut(position).unwrap_or(&mut true), true) {
                return Err(problem(position, "is reached twice"));
            }
            let test = self.tests.get(position).copied().unwrap_or(Mode::Leaf);
            if test == Mode::Leaf {
                return Ok(None);
            }
            let tree = self.trees.get(position).copied().unwrap_or_default();
            let child = |ids: &[i64]| self.index.get(&(tree, *ids.get(position)?)).copied();
            let (Some(first), Some(second)) = (child(self.first), child(self.second)) else {
                return Err(problem(position, "has a branch that leads to no node"));
            };
            let (_, swapped) = self.canonical(position, test);
            Ok(Some(if swapped { [second, first] } else { [first, second] }))
        })?;
        layout.roots.push(u32::try_from(layout.nodes.len()).unwrap_or(u32::MAX));
        for &Placed { node: position, distance, .. } in &placed {
            layout.covers.extend(self.covers.get(position));
            let test = self.tests.get(position).copied().unwrap_or(Mode::Leaf);
            if test == Mode::Leaf {
                layout.nodes.extend(leaves.get(&position));
                continue;
            }
            let (canonical, _) = self.canonical(position, test);
            let distance = u32::try_from(distance).unwrap_or(u32::MAX);
            let Some(inner) = kernel::Node::inner(canonical, distance, feature_bits) else {
                return Err(problem(
                    position,
                    "belongs to a tree that is too large for its number of columns",
                ));
            };
            layout.tests_equality |= canonical.equality;
            layout.tracks_missing |= canonical.missing_first;
            layout.nodes.push(inner);
        }
        let deepest = placed.iter().map(|placed| u64::from(placed.depth)).max().unwrap_or_default();
        layout.operations = layout.operations.saturating_add(deepest);
        Ok(())
    }

    /// The engine's form of a test, and whether the branches change places.
    fn canonical(&self, position: usize, mode: Mode) -> (kernel::Test, bool) {
        let threshold = self.thresholds.get(position).copied().unwrap_or(f64::NAN);
        // The largest single-precision number x with x ≤ threshold; exact for thresholds in single precision.
        let at_most = lockgate_onnx_ml::dense::round_down(threshold);
        let tracks = self.missing_first.get(position).copied().unwrap_or(false);
        let (threshold, equality, swapped) = match mode {
            Mode::LessOrEqual | Mode::Leaf => (at_most, false, false),
            // Nothing is greater than NaN, and everything is at most infinity.
            Mode::Greater | Mode::GreaterOrEqual if threshold.is_nan() => (f32::INFINITY, false, true),
            Mode::Greater => (at_most, false, true),
            Mode::Less => (below(threshold), false, false),
            Mode::GreaterOrEqual => (below(threshold), false, true),
            Mode::Equal => (exactly(threshold), true, false),
            Mode::NotEqual => (exactly(threshold), true, true),
        };
        // NaN fails every test but ≠, and then goes to the first branch only when it is tracked there. With the branches
        // exchanged, the engine's first branch is the node's second one.
        let to_true_branch = tracks || mode == Mode::NotEqual;
        let missing_first = if swapped { !to_true_branch } else { to_true_branch };
        let column = self.columns.get(position).copied().unwrap_or_default();
        (kernel::Test { column, threshold, equality, missing_first }, swapped)
    }
}

/// The largest single-precision number below a threshold; NaN when there is none, which no number passes.
fn below(threshold: f64) -> f32 {
    let at_most = lockgate_onnx_ml::dense::round_down(threshold);
    if f64::from(at_most) < threshold {
        at_most
    } else if at_most == f32::NEG_INFINITY {
        f32::NAN
    } else {
        at_most.next_down()
    }
}

/// The threshold in single precision; NaN, which equals nothing, when no such number equals it.
fn exactly(threshold: f64) -> f32 {
    let nearest = threshold as f32;
    if f64::from(nearest) == threshold { nearest } else { f32::NAN }
}

/// The leaves' nodes by their position in the lists, and their votes.
struct LeafTable {
    place: BTreeMap<usize, kernel::Node>,
    kind: LeafKind,
}

enum LeafKind {
    One,
    Dense(Vec<f32>),
    Sparse { starts: Vec<u32>, targets: Vec<u32>, weights: Vec<f32> },
}

#[derive(Default)]
struct Layout {
    nodes: Vec<kernel::Node>,
    covers: Vec<f32>,
    roots: Vec<u32>,
    tests_equality: bool,
    tracks_missing: bool,
    /// The depths of all trees together.
    operations: u64,
}

/// Numbers given as floats or, in newer operator sets, as a tensor.
fn exact_numbers(a: &Attributes<'_>, name: &str) -> Vec<f64> {
    let as_tensor = format!("{name}_as_tensor");
    if !a.has(&as_tensor) {
        return a.floats(name).iter().map(|&number| number.into()).collect();
    }
    if a.has(name) {
        a.refuse(&as_tensor, format!("`{name}` is given too"), EXPORT_AGAIN);
    }
    match a.tensor(&as_tensor).map(Tensor::into_data) {
        Some(Data::F32(numbers)) => numbers.iter().map(|&number| number.into()).collect(),
        Some(Data::F64(numbers)) => numbers,
        Some(_) => {
            a.refuse(&as_tensor, "expected a tensor of float or double", EXPORT_AGAIN);
            Vec::new()
        }
        None => Vec::new(),
    }
}

/// The same in single precision, which must be able to hold them.
fn numbers(a: &Attributes<'_>, name: &str) -> Vec<f32> {
    let exact = exact_numbers(a, name);
    let narrow: Vec<f32> = exact.iter().map(|&number| number as f32).collect();
    if exact.iter().zip(&narrow).any(|(&exact, &narrow)| f64::from(narrow) != exact && !exact.is_nan()) {
        let message = "numbers in double precision are not supported";
        a.refuse(&format!("{name}_as_tensor"), message, "export with FloatTensorType inputs");
    }
    narrow
}
