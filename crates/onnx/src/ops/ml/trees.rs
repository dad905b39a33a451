//! Ensembles of trees.
//!
//! The two forms in which trees are written down become one [`Forest`]. Forests in single precision whose scores are put together in a common way run on
//! the kernel of `lockgate-onnx-ml`; the others take [`Forest::walk`]. A missing value is NaN, which passes no test but ≠ and goes where the node says.

use std::collections::BTreeMap;

use lockgate_onnx_ml::transform::Transform;
use lockgate_onnx_ml::tree::Aggregate;

use super::{EXPORT_AGAIN, choose, class_labels, of_scores, post_transform, singles, work};
use crate::operator::required;
use crate::{Attributes, Build, Data, Kernel, Kind, Meter, Numbers, Problem, Tensor};

mod fast;
mod scores;

use fast::Fast;
use scores::{Choice, Scoring, Sum};

pub(super) const ENSEMBLE: &[&str] = &[
    "aggregate_function",
    "leaf_targetids",
    "leaf_weights",
    "membership_values",
    "n_targets",
    "nodes_falseleafs",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_splits",
    "nodes_trueleafs",
    "nodes_truenodeids",
    "post_transform",
    "tree_roots",
];

/// The attributes of `TreeEnsembleClassifier` in any operator set.
pub const CLASSIFIER: &[&str] = &[
    "base_values",
    "base_values_as_tensor",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "class_weights_as_tensor",
    "classlabels_int64s",
    "classlabels_strings",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
    "post_transform",
];

/// The attributes of `TreeEnsembleRegressor` in any operator set.
pub const REGRESSOR: &[&str] = &[
    "aggregate_function",
    "base_values",
    "base_values_as_tensor",
    "n_targets",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
    "post_transform",
    "target_ids",
    "target_nodeids",
    "target_treeids",
    "target_weights",
    "target_weights_as_tensor",
];

/// A node's test as the specification names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
    /// One of a set.
    Member,
}

/// Where a branch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Node(usize),
    Leaf(usize),
}

#[derive(Debug, Clone, Copy)]
struct Branch {
    column: usize,
    mode: Mode,
    /// What the column is compared with; for a set its number.
    threshold: f64,
    missing_first: bool,
    first: Next,
    second: Next,
}

/// Trees. Thresholds and votes that were written in single precision are exact in double precision.
#[derive(Debug, Default)]
struct Forest {
    nodes: Vec<Branch>,
    roots: Vec<Next>,
    /// What each leaf votes for, and with which weight.
    leaves: Vec<Vec<(usize, f64)>>,
    sets: Vec<Vec<f64>>,
    /// How many columns are looked at.
    columns: usize,
    /// The deepest path of each tree, summed up.
    depth: usize,
    /// A threshold, vote or base value is written in double precision.
    wide: bool,
    /// A node is reached on two ways.
    shared: bool,
}

impl Forest {
    /// Checks that every descent ends, and measures the depths.
    fn check(&mut self) -> Result<(), Problem> {
        // The depth below each node; 0 while that is being found out, which is where a branch must not lead.
        let mut depths: Vec<Option<usize>> = vec![None; self.nodes.len()];
        for root in &self.roots {
            let mut open = vec![(*root, false)];
            while let Some((next, left)) = open.pop() {
                let at = match next {
                    Next::Leaf(at) if at < self.leaves.len() => continue,
                    Next::Leaf(at) => {
                        return Err(refuse(format!("a branch leads to leaf {at}, which does not exist")));
                    }
                    Next::Node(at) => at,
                };
                let Some(node) = self.nodes.get(at) else {
                    return Err(refuse(format!("a branch leads to node {at}, which does not exist")));
                };
                let below = |next: Next| match next {
                    Next::Leaf(_) => Some(1),
                    Next::Node(at) => depths.get(at).copied().flatten(),
                };
                let depth = below(node.first).max(below(node.second)).unwrap_or(0).saturating_add(1);
                let Some(place) = depths.get_mut(at) else { continue };
                match (*place, left) {
                    (_, true) => *place = Some(depth),
                    (None, false) => {
                        *place = Some(0);
                        self.columns = self.columns.max(node.column.saturating_add(1));
                        open.extend([(next, true), (node.second, false), (node.first, false)]);
                    }
                    (Some(0), false) => {
                        return Err(refuse(format!("node {at} is reached from below itself")));
                    }
                    (Some(_), false) => self.shared = true,
                }
            }
            let depth = match *root {
                Next::Leaf(_) => 1,
                Next::Node(at) => depths.get(at).copied().flatten().unwrap_or(1),
            };
            self.depth = self.depth.saturating_add(depth);
        }
        Ok(())
    }

    /// The leaf of a tree that a row comes to.
    fn descend(&self, root: Next, row: &[f64]) -> &[(usize, f64)] {
        let mut next = root;
        loop {
            let node = match next {
                Next::Leaf(leaf) => return self.leaves.get(leaf).map(Vec::as_slice).unwrap_or_default(),
                Next::Node(at) => self.nodes.get(at),
            };
            let Some(node) = node else { return &[] };
            let x = row.get(node.column).copied().unwrap_or(f64::NAN);
            let passes = match node.mode {
                Mode::LessOrEqual => x <= node.threshold,
                Mode::Less => x < node.threshold,
                Mode::GreaterOrEqual => x >= node.threshold,
                Mode::Greater => x > node.threshold,
                Mode::Equal => x == node.threshold,
                Mode::NotEqual => x != node.threshold,
                Mode::Member => self.sets.get(node.threshold as usize).is_some_and(|set| set.contains(&x)),
            };
            next = if passes || (node.missing_first && x.is_nan()) { node.first } else { node.second };
        }
    }

    /// The sums of a row's votes, tree by tree.
    fn walk(&self, row: &[f64], aggregate: Aggregate, wide: bool, sums: &mut [Sum]) {
        sums.fill(Sum::default());
        for root in &self.roots {
            for &(target, weight) in self.descend(*root, row) {
                let Some(sum) = sums.get_mut(target) else { continue };
                sum.add(weight, aggregate, wide);
            }
        }
    }
}

fn refuse(message: String) -> Problem {
    Problem::unsupported(message, EXPORT_AGAIN)
}

/// What all three operators do when they run.
struct Runner {
    forest: Forest,
    fast: Option<Fast>,
    scoring: Scoring,
}

impl Runner {
    fn new(mut forest: Forest, scoring: Scoring) -> Result<Self, Problem> {
        forest.check()?;
        if let Some(vote) = forest.leaves.iter().flatten().find(|vote| vote.0 >= scoring.targets) {
            return Err(refuse(format!("a leaf votes for target {} of {}", vote.0, scoring.targets)));
        }
        if scoring.targets == 1 {
            // onnxruntime gives a tree one vote for an only target.
            forest.leaves.iter_mut().for_each(|votes| votes.truncate(1));
        }
        let fast = if forest.wide || forest.shared { None } else { Fast::new(&forest, &scoring) };
        Ok(Self { forest, fast, scoring })
    }

    /// The scores, of which those in double precision were summed in double precision, and the class of each row.
    fn run(&self, x: &Tensor, meter: &mut Meter) -> Result<(Tensor, Vec<usize>), Problem> {
        let (rows, columns) = super::matrix(x)?;
        if columns < self.forest.columns {
            let message =
                format!("the trees test column {} of {columns}", self.forest.columns.saturating_sub(1));
            return Err(Problem::invalid(message));
        }
        let targets = self.scoring.targets;
        work(meter, rows, self.forest.depth.saturating_mul(4).saturating_add(targets.saturating_mul(20)))?;
        let shape = [rows, targets];
        // Without rows there are sums all the same.
        meter.room(&[rows.max(1), targets], size_of::<f64>() + size_of::<Sum>())?;
        meter.room(&[rows], 2 * crate::meter::PLACE)?;
        let wide = self.forest.wide || x.kind() == Kind::F64;
        if let Some(fast) = self.fast.as_ref().filter(|_| !wide && columns > 0) {
            let (scores, classes) = fast.run(&singles(x)?, rows, columns);
            return Ok((Tensor::of(shape, scores)?, classes));
        }
        let all: Vec<f64> = match x.numbers()? {
            Numbers::F64(all) => all.into_owned(),
            _ => singles(x)?.iter().map(|&x| f64::from(x)).collect(),
        };
        let mut scores = Vec::with_capacity(rows.saturating_mul(targets));
        let mut classes = Vec::with_capacity(rows);
        let mut sums = vec![Sum::default(); targets];
        for number in 0..rows {
            let start = number.saturating_mul(columns);
            let row = all.get(start..start.saturating_add(columns)).unwrap_or_default();
            self.forest.walk(row, self.scoring.aggregate, wide, &mut sums);
            classes.push(self.scoring.finish(&mut sums, wide, self.forest.roots.len(), &mut scores));
        }
        Ok((Tensor::of(shape, scores)?, classes))
    }
}

fn narrow(scores: &Tensor, kind: Kind) -> Result<Tensor, Problem> {
    let data = match (kind, scores.numbers()?) {
        (Kind::F64, Numbers::F32(all)) => Data::F64(all.iter().map(|&x| f64::from(x)).collect()),
        (kind, Numbers::F64(all)) if kind != Kind::F64 => {
            Numbers::F32(all.iter().map(|&x| x as f32).collect()).narrow(kind)
        }
        (kind, all) => all.narrow(kind),
    };
    Tensor::new(scores.shape(), data)
}

/// Scores of targets.
pub(super) fn regressor(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let targets = a.int_or("n_targets", 0)?;
    let aggregate = match a.text_or("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => {
            let message = format!("expected SUM, AVERAGE, MIN or MAX, found `{other}`");
            return Err(Problem::attribute("aggregate_function", message, EXPORT_AGAIN));
        }
    };
    let mut forest = listed(a, "target")?;
    let base = numbers(a, "base_values", &mut forest.wide)?;
    let targets = known_targets(targets)?;
    let transform = of_scores(post_transform(a)?, targets);
    if ![0, targets].contains(&base.len()) {
        let message = format!("expected {targets} numbers, found {}", base.len());
        return Err(Problem::attribute("base_values", message, EXPORT_AGAIN));
    }
    let runner = Runner::new(forest, Scoring { targets, aggregate, base, transform, choice: None })?;
    Ok(Box::new(move |operands, meter| {
        let (scores, _) = runner.run(required(operands, 0)?, meter)?;
        Ok(vec![narrow(&scores, Kind::F32)?])
    }))
}

fn known_targets(targets: i64) -> Result<usize, Problem> {
    usize::try_from(targets).ok().filter(|&targets| targets > 0).ok_or_else(|| {
        Problem::attribute(
            "n_targets",
            format!("expected a number of targets, found {targets}"),
            EXPORT_AGAIN,
        )
    })
}

/// Scores of classes, and the class that they choose.
pub(super) fn classifier(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let labels = class_labels(a, "classlabels_int64s", "classlabels_strings")?;
    let transform = post_transform(a)?;
    let mut forest = listed(a, "class")?;
    let base = numbers(a, "base_values", &mut forest.wide)?;
    let classes = labels.len();
    let allowed: &[usize] = if classes == 2 { &[0, 1, 2] } else { &[0, classes] };
    if classes < 2 {
        return Err(Problem::unsupported(
            "a classifier needs two classes or more",
            "train with more than one class",
        ));
    }
    if !allowed.contains(&base.len()) {
        let message = format!("expected {allowed:?} numbers, found {}", base.len());
        return Err(Problem::attribute("base_values", message, EXPORT_AGAIN));
    }
    let choice = Choice::of(&forest, classes);
    let first_only = matches!(choice, Choice::One { second: false, .. });
    if first_only && base.len() < 2 && transform == Transform::Probit {
        return Err(Problem::attribute(
            "post_transform",
            "PROBIT of a single score is not defined",
            "export votes for each class",
        ));
    }
    let choice = Some(choice);
    let scoring = Scoring { targets: classes, aggregate: Aggregate::Sum, base, transform, choice };
    let runner = Runner::new(forest, scoring)?;
    Ok(Box::new(move |operands, meter| {
        let (scores, classes) = runner.run(required(operands, 0)?, meter)?;
        let label = choose(&labels, &[classes.len()], &classes, meter)?;
        Ok(vec![label, narrow(&scores, Kind::F32)?])
    }))
}

/// Scores of targets, in the input's own kind.
pub(super) fn ensemble(build: &Build<'_>) -> Result<Kernel, Problem> {
    let a = &build.attributes;
    let numbered = |name: &str, default: i64, limit: i64| -> Result<i64, Problem> {
        let number = a.int_or(name, default)?;
        if (0..limit).contains(&number) {
            return Ok(number);
        }
        Err(Problem::attribute(name, format!("expected 0 to {}, found {number}", limit - 1), EXPORT_AGAIN))
    };
    let aggregate = match numbered("aggregate_function", 1, 4)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        _ => Aggregate::Max,
    };
    // The specification calls 1 SOFTMAX and 2 LOGISTIC; onnxruntime, which models are tried in, takes them the other way round.
    let transform = match numbered("post_transform", 0, 5)? {
        0 => Transform::None,
        1 => Transform::Logistic,
        2 => Transform::Softmax,
        3 => Transform::SoftmaxZero,
        _ => Transform::Probit,
    };
    let targets = known_targets(a.int_or("n_targets", 0)?)?;
    let transform = of_scores(transform, targets);
    let forest = numbered_forest(a)?;
    let scoring = Scoring { targets, aggregate, base: Vec::new(), transform, choice: None };
    let runner = Runner::new(forest, scoring)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (scores, _) = runner.run(x, meter)?;
        Ok(vec![narrow(&scores, x.kind())?])
    }))
}

/// A list with an entry for each of `count` nodes or leaves.
fn list<'a>(a: &Attributes<'a>, name: &str, count: usize) -> Result<&'a [i64], Problem> {
    let values = a.ints(name)?.unwrap_or_default();
    same_length(name, values.len(), count)?;
    Ok(values)
}

fn same_length(name: &str, found: usize, expected: usize) -> Result<(), Problem> {
    if found == expected {
        return Ok(());
    }
    Err(Problem::attribute(name, format!("expected {expected} entries, found {found}"), EXPORT_AGAIN))
}

/// Whether each node sends missing values to its first branch; those of a list that is not given do not.
fn tracks(a: &Attributes<'_>, count: usize) -> Result<Vec<bool>, Problem> {
    let name = "nodes_missing_value_tracks_true";
    let given = a.ints(name)?.unwrap_or_default();
    if given.is_empty() {
        return Ok(vec![false; count]);
    }
    same_length(name, given.len(), count)?;
    Ok(given.iter().map(|&tracks| tracks == 1).collect())
}

fn column(id: i64) -> Result<usize, Problem> {
    usize::try_from(id)
        .ok()
        .filter(|&column| u32::try_from(column).is_ok())
        .ok_or_else(|| Problem::attribute("nodes_featureids", format!("{id} is no column"), EXPORT_AGAIN))
}

/// The form of opset 5: nodes and leaves by their places.
fn numbered_forest(a: &Attributes<'_>) -> Result<Forest, Problem> {
    let columns = a.ints("nodes_featureids")?.unwrap_or_default();
    let count = columns.len();
    let mut forest = Forest::default();
    let real = |name: &str, wide: &mut bool| match a.tensor(name)? {
        None => Ok(Vec::new()),
        Some(tensor) => reals(name, tensor, wide),
    };
    let thresholds = real("nodes_splits", &mut forest.wide)?;
    same_length("nodes_splits", thresholds.len(), count)?;
    let members = real("membership_values", &mut forest.wide)?;
    let weights = real("leaf_weights", &mut forest.wide)?;
    let targets = list(a, "leaf_targetids", weights.len())?;
    let modes = match a.tensor("nodes_modes")? {
        None => Vec::new(),
        Some(modes) => modes.integers()?,
    };
    same_length("nodes_modes", modes.len(), count)?;
    let (first, second) = (list(a, "nodes_truenodeids", count)?, list(a, "nodes_falsenodeids", count)?);
    let (first_leaf, second_leaf) = (list(a, "nodes_trueleafs", count)?, list(a, "nodes_falseleafs", count)?);
    // How often training took a branch; it does not change the result.
    a.have_no_effect(&["nodes_hitrates"]);
    let missing_first = tracks(a, count)?;
    // Sets lie one behind the other in the order of the nodes, each ended by NaN.
    let mut sets = members.split(|member| member.is_nan());
    let next = |place: i64, leaf: i64| {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        if leaf != 0 { Next::Leaf(place) } else { Next::Node(place) }
    };
    let branches = first.iter().zip(first_leaf).zip(second.iter().zip(second_leaf));
    let tests = modes.into_iter().zip(thresholds).zip(columns).zip(missing_first);
    for ((((mode, threshold), &id), missing_first), ((&first, &first_leaf), (&second, &second_leaf))) in
        tests.zip(branches)
    {
        let (mode, threshold) = match mode {
            0 => (Mode::LessOrEqual, threshold),
            1 => (Mode::Less, threshold),
            2 => (Mode::GreaterOrEqual, threshold),
            3 => (Mode::Greater, threshold),
            4 => (Mode::Equal, threshold),
            5 => (Mode::NotEqual, threshold),
            6 => {
                let set = sets.next().ok_or_else(|| {
                    Problem::attribute("membership_values", "there are fewer sets than nodes", EXPORT_AGAIN)
                })?;
                forest.sets.push(set.to_vec());
                (Mode::Member, (forest.sets.len() - 1) as f64)
            }
            other => {
                let message = format!("{other} is not supported");
                return Err(Problem::attribute("nodes_modes", message, EXPORT_AGAIN));
            }
        };
        let (first, second) = (next(first, first_leaf), next(second, second_leaf));
        forest.nodes.push(Branch { column: column(id)?, mode, threshold, missing_first, first, second });
    }
    forest.roots = a
        .ints("tree_roots")?
        .unwrap_or_default()
        .iter()
        .map(|&root| Next::Node(usize::try_from(root).unwrap_or(usize::MAX)))
        .collect();
    if forest.roots.is_empty() {
        return Err(Problem::attribute("tree_roots", "there are no trees", EXPORT_AGAIN));
    }
    let targets = targets.iter().map(|&target| usize::try_from(target).unwrap_or(usize::MAX));
    forest.leaves = targets.zip(weights).map(|vote| vec![vote]).collect();
    Ok(forest)
}

/// The form of opsets 1 and 3: nodes by their trees and numbers, leaves among them. `votes` begins the names of the attributes that hold the votes.
/// A tree's first node is its root, and trees come in the order in which they are listed.
fn listed(a: &Attributes<'_>, votes: &str) -> Result<Forest, Problem> {
    let ids = a.ints("nodes_nodeids")?.unwrap_or_default();
    let count = ids.len();
    if count == 0 {
        return Err(Problem::attribute("nodes_nodeids", "there are no nodes", EXPORT_AGAIN));
    }
    let mut forest = Forest::default();
    let trees = list(a, "nodes_treeids", count)?;
    let (first, second) = (list(a, "nodes_truenodeids", count)?, list(a, "nodes_falsenodeids", count)?);
    let columns = list(a, "nodes_featureids", count)?;
    let thresholds = numbers(a, "nodes_values", &mut forest.wide)?;
    same_length("nodes_values", thresholds.len(), count)?;
    // How often training took a branch; it does not change the result.
    a.have_no_effect(&["nodes_hitrates", "nodes_hitrates_as_tensor"]);
    let missing_first = tracks(a, count)?;
    let modes = a.texts("nodes_modes")?.unwrap_or_default();
    same_length("nodes_modes", modes.len(), count)?;
    let modes = modes.iter().map(|mode| {
        Ok(match mode.as_str() {
            "BRANCH_LEQ" => Some(Mode::LessOrEqual),
            "BRANCH_LT" => Some(Mode::Less),
            "BRANCH_GTE" => Some(Mode::GreaterOrEqual),
            "BRANCH_GT" => Some(Mode::Greater),
            "BRANCH_EQ" => Some(Mode::Equal),
            "BRANCH_NEQ" => Some(Mode::NotEqual),
            "LEAF" => None,
            other => {
                let message = format!("`{other}` is not supported");
                return Err(Problem::attribute("nodes_modes", message, EXPORT_AGAIN));
            }
        })
    });
    let modes = modes.collect::<Result<Vec<Option<Mode>>, Problem>>()?;

    // Each listed node's place among the inner nodes or among the leaves.
    let mut places = BTreeMap::new();
    let (mut inner, mut leaves) = (0, 0);
    for ((&tree, &id), mode) in trees.iter().zip(ids).zip(&modes) {
        let counter = if mode.is_some() { &mut inner } else { &mut leaves };
        let place = if mode.is_some() { Next::Node(*counter) } else { Next::Leaf(*counter) };
        *counter += 1;
        if places.insert((tree, id), place).is_some() {
            return Err(refuse(format!("tree {tree} has node {id} twice")));
        }
    }
    let find = |tree: i64, id: i64| {
        places
            .get(&(tree, id))
            .copied()
            .ok_or_else(|| refuse(format!("tree {tree} refers to node {id}, which does not exist")))
    };
    let mut known = BTreeMap::new();
    let mut last = None;
    for (&tree, &id) in trees.iter().zip(ids) {
        if last != Some(tree) {
            if known.insert(tree, ()).is_some() {
                return Err(refuse(format!("the nodes of tree {tree} do not lie together")));
            }
            forest.roots.push(find(tree, id)?);
            last = Some(tree);
        }
    }
    let tests = modes.iter().zip(thresholds).zip(columns).zip(missing_first);
    let branches = trees.iter().zip(first).zip(second);
    for ((((mode, threshold), &id), missing_first), ((&tree, &first), &second)) in tests.zip(branches) {
        let Some(mode) = *mode else { continue };
        let (first, second) = (find(tree, first)?, find(tree, second)?);
        forest.nodes.push(Branch { column: column(id)?, mode, threshold, missing_first, first, second });
    }

    let targets = a.ints(&format!("{votes}_ids"))?.unwrap_or_default();
    let vote_trees = list(a, &format!("{votes}_treeids"), targets.len())?;
    let vote_nodes = list(a, &format!("{votes}_nodeids"), targets.len())?;
    let weights = numbers(a, &format!("{votes}_weights"), &mut forest.wide)?;
    same_length(&format!("{votes}_weights"), weights.len(), targets.len())?;
    forest.leaves = vec![Vec::new(); leaves];
    for (((&target, &tree), &id), weight) in targets.iter().zip(vote_trees).zip(vote_nodes).zip(weights) {
        let target =
            usize::try_from(target).map_err(|_| refuse(format!("a leaf votes for target {target}")))?;
        let leaf = match find(tree, id)? {
            Next::Leaf(leaf) => forest.leaves.get_mut(leaf),
            Next::Node(_) => None,
        };
        let Some(leaf) = leaf else {
            return Err(refuse(format!("a vote belongs to node {id} of tree {tree}, which is no leaf")));
        };
        leaf.push((target, weight));
    }
    Ok(forest)
}

/// Numbers given as floats or, in newer operator sets, as a tensor.
fn numbers(a: &Attributes<'_>, name: &str, wide: &mut bool) -> Result<Vec<f64>, Problem> {
    let floats = a.floats(name)?.unwrap_or_default();
    let as_tensor = format!("{name}_as_tensor");
    match a.tensor(&as_tensor)?.filter(|tensor| !tensor.is_empty()) {
        None => Ok(floats.iter().map(|&number| f64::from(number)).collect()),
        Some(tensor) if floats.is_empty() => reals(&as_tensor, tensor, wide),
        Some(_) => Err(Problem::attribute(&as_tensor, format!("`{name}` is given too"), EXPORT_AGAIN)),
    }
}

fn reals(name: &str, tensor: &Tensor, wide: &mut bool) -> Result<Vec<f64>, Problem> {
    match tensor.kind() {
        Kind::F64 => *wide = true,
        Kind::F32 | Kind::F16 => {}
        other => {
            return Err(Problem::attribute(name, format!("expected floats, found {other}"), EXPORT_AGAIN));
        }
    }
    tensor.doubles()
}
