//! Which part of a tabular plan can be explained column by column, and how.
//!
//! A *raw score* is a sum of trees and linear layers over the columns of the request. What stands before them must work on each
//! column for itself (a scaler, a cast, a choice of columns): then whatever it does, a contribution belongs to the column. What
//! stands behind them (a sigmoid, a choice of class) reads raw scores only. [`Explanation::of`] follows the plan forward to find
//! the raw scores that the outputs rest on, and backward from there to the trees and linear layers that they are sums of.

use crate::plan::tabular::{
    Aggregate, Binary, Operand, Reduction, Step, TabularPlan, Transform, Trees, Unary,
};

/// The most columns of all values together, and the most numbers of one linear map, that are followed.
const MOST_FOLLOWED: usize = 1 << 22;

/// The most raw scores.
const MOST_SCORES: usize = 1024;

/// The name of the option that asks for contributions, and of the output that holds them: `[rows, features]`, or
/// `[rows, features, scores]` when there are several raw scores.
pub const CONTRIBUTIONS: &str = "contributions";

/// The output that holds what the contributions are added to: `[rows]` or `[rows, scores]`.
pub const BASE: &str = "contributions_base";

/// Raw scores as sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Columns of all inputs together, one input behind the other.
    pub columns: usize,
    /// What is added to each raw score anyway.
    pub constants: Vec<f64>,
    /// What the raw scores are sums of.
    pub terms: Vec<Term>,
}

/// A linear layer or an ensemble that raw scores are made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Its step in the plan: [`Step::Dense`] or [`Step::Trees`].
    pub step: usize,
    /// The column of the request that decides each column of what the step reads.
    pub players: Vec<u32>,
    /// Where what it computes goes.
    pub parts: Vec<Part>,
}

/// A number of a term, times a factor, is part of a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// The raw score.
    pub score: usize,
    /// The column of what the linear layer writes; the target of the ensemble.
    pub component: usize,
    /// The factor.
    pub factor: f64,
}

/// What stands for a column whose contribution is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Linear layers alone: the weight times the distance from the mean of the background, or from 0 where there is none.
    Linear,
    /// How the rows of the training set went on at each test, which the covers say.
    PathDependent,
    /// The values of each row of the packaged background.
    Interventional,
}

/// What a request asks for: the values of the option `contributions`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Contributions {
    /// `false`: none.
    #[default]
    None,
    /// `true`: by the first of [`Explanation::methods`].
    Usual,
    /// `linear`, `path_dependent` or `interventional`: by this method.
    By(Method),
}

impl Contributions {
    /// The values that the option can have.
    pub const EXPECTED: &'static str = "true, false, linear, path_dependent or interventional";

    /// What the option says; `None` when it can be left out.
    pub fn value(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Usual => Some("true"),
            Self::By(method) => Some(method.name()),
        }
    }

    /// Whether an output of a prediction is one of those that were asked for by this.
    pub fn is_output(self, name: &str) -> bool {
        self != Self::None && (name == CONTRIBUTIONS || name == BASE)
    }

    /// The meaning of a value.
    pub fn of(value: &str) -> Option<Self> {
        Some(match value {
            "false" => Self::None,
            "true" => Self::Usual,
            _ => Self::By(
                [Method::Linear, Method::PathDependent, Method::Interventional]
                    .into_iter()
                    .find(|method| method.name() == value)?,
            ),
        })
    }
}

/// Why a model has no contributions to give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexplained {
    /// What stands in the way.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
enum Class {
    /// Each column rests on one column of the request.
    Columns(Vec<u32>),
    /// A sum of terms.
    Scores,
    /// Computed from these sums of terms.
    Behind(Vec<u32>),
    /// None of these, because of a step.
    Mixed(usize, &'static str),
}

impl Method {
    /// As requests and metadata call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::PathDependent => "path_dependent",
            Self::Interventional => "interventional",
        }
    }
}

impl Unexplained {
    /// A model of the graph engine.
    pub fn graph() -> Self {
        Self {
            message: "the model runs in the graph engine, which gives no contributions".to_owned(),
            hint: "contributions are for linear models and ensembles of trees; ask without them",
        }
    }
}

impl Explanation {
    /// Finds the raw scores of a plan. `numbers` gives the elements of an array of numbers.
    ///
    /// # Errors
    /// What stands in the way.
    #[inline(never)]
    pub fn of(plan: &TabularPlan, numbers: &dyn Fn(u32) -> Option<Vec<f64>>) -> Result<Self, Unexplained> {
        let width = |value: u32| plan.values.get(value as usize).map_or(0, |value| value.columns as usize);
        let all: usize = plan.values.iter().map(|value| value.columns as usize).sum();
        if all > MOST_FOLLOWED {
            return Err(too_large());
        }
        let mut columns = 0;
        let mut classes: Vec<Class> = Vec::with_capacity(plan.values.len());
        for (index, value) in plan.values.iter().enumerate() {
            let is_input = index < plan.inputs as usize;
            let width = if is_input { value.columns } else { 0 };
            classes.push(Class::Columns((columns..columns + width).collect()));
            columns += width;
        }
        for (index, step) in plan.steps.iter().enumerate() {
            let class = classify(plan, &classes, index, step);
            for value in step.writes() {
                if let Some(place) = classes.get_mut(value as usize) {
                    *place = class.clone();
                }
            }
        }

        let roots = roots(plan, &classes)?;
        let mut adjoints: Vec<Vec<Part>> = vec![Vec::new(); plan.values.len()];
        let mut scores = 0;
        for root in roots {
            let writer = plan.steps.iter().find(|step| step.writes().contains(&root));
            let wide = match writer {
                Some(Step::Trees(trees)) => trees.targets as usize,
                _ => width(root),
            };
            if let Some(place) = adjoints.get_mut(root as usize) {
                place.extend((0..wide).map(|component| Part {
                    score: scores + component,
                    component,
                    factor: 1.0,
                }));
            }
            scores += wide;
            if scores > MOST_SCORES {
                return Err(too_large());
            }
        }
        let mut back = Back { classes: &classes, adjoints, constants: vec![0.0; scores] };
        let mut terms = Vec::new();
        for (index, step) in plan.steps.iter().enumerate().rev() {
            let Some(&value) = step.writes().first() else { continue };
            let targets = if let Step::Trees(trees) = step { trees.targets as usize } else { 0 };
            let parts = back.take(value, width(value).max(targets))?;
            if let Some(term) = back.step(index, step, parts, &width, numbers)? {
                terms.push(term);
            }
        }
        terms.reverse();
        if terms.iter().map(|term| term.players.len() + term.parts.len()).sum::<usize>() > MOST_FOLLOWED {
            return Err(too_large());
        }
        Ok(Self { columns: columns as usize, constants: back.constants, terms })
    }

    /// The methods that a plan has all it needs for; the first one is the one for who asks for none in particular.
    ///
    /// # Errors
    /// What is missing.
    #[inline(never)]
    pub fn methods(&self, plan: &TabularPlan) -> Result<Vec<Method>, Unexplained> {
        let mut trees = self.terms.iter().filter_map(|term| match plan.steps.get(term.step) {
            Some(Step::Trees(trees)) => Some(trees.covers.is_some()),
            _ => None,
        });
        let Some(first) = trees.next() else { return Ok(vec![Method::Linear]) };
        let mut methods = Vec::new();
        if first && trees.all(|covers| covers) {
            methods.push(Method::PathDependent);
        }
        if plan.background.is_some() {
            methods.push(Method::Interventional);
        }
        if methods.is_empty() {
            return Err(Unexplained {
                message: "the package carries neither the covers of its trees nor a background".to_owned(),
                hint: "export with lockgate-export, which writes covers, or name a background in the manifest",
            });
        }
        Ok(methods)
    }
}

impl Explanation {
    /// The method that a request asks for.
    ///
    /// # Errors
    /// What is missing for it.
    #[inline(never)]
    pub fn choose(&self, plan: &TabularPlan, asked: Contributions) -> Result<Method, Unexplained> {
        let methods = self.methods(plan)?;
        let Contributions::By(method) = asked else { return methods.first().copied().ok_or_else(too_large) };
        if methods.contains(&method) {
            return Ok(method);
        }
        let can: Vec<&str> = methods.iter().map(|method| method.name()).collect();
        Err(Unexplained {
            message: format!(
                "the package cannot give `{}` contributions, it gives {}",
                method.name(),
                can.join(" and ")
            ),
            hint: if methods == [Method::Linear] {
                "ask with contributions: true; a linear model has one way, with a background or without"
            } else {
                "ask with contributions: true; path_dependent needs covers in the package, interventional a background"
            },
        })
    }
}

/// The sums of terms that the outputs rest on: those of scores, or of labels where there is nothing else.
#[inline(never)]
fn roots(plan: &TabularPlan, classes: &[Class]) -> Result<Vec<u32>, Unexplained> {
    let is_float =
        |output: &u32| plan.values.get(*output as usize).is_some_and(|value| value.kind.is_float());
    let any_float = plan.outputs.iter().any(is_float);
    let mut roots: Vec<u32> = Vec::new();
    for &output in plan.outputs.iter().filter(|output| !any_float || is_float(output)) {
        let more = match classes.get(output as usize) {
            Some(Class::Mixed(step, why)) => {
                let name = plan.steps.get(*step).map_or("", Step::name);
                return Err(Unexplained {
                    message: format!("step {step} of the plan, `{name}`, {why}"),
                    hint: "contributions are for linear models and ensembles of trees behind steps that work on each column for itself",
                });
            }
            Some(Class::Scores) => vec![output],
            Some(Class::Behind(roots)) => roots.clone(),
            _ => Vec::new(),
        };
        union(&mut roots, &more);
    }
    if roots.is_empty() {
        return Err(Unexplained {
            message: "the model has neither a linear layer nor trees".to_owned(),
            hint: "",
        });
    }
    Ok(roots)
}

fn union(roots: &mut Vec<u32>, more: &[u32]) {
    for root in more {
        if !roots.contains(root) {
            roots.push(*root);
        }
    }
}

fn too_large() -> Unexplained {
    Unexplained {
        message: "the plan has too many columns or raw scores to explain".to_owned(),
        hint: "ask without contributions",
    }
}

#[inline(never)]
fn classify(plan: &TabularPlan, classes: &[Class], index: usize, step: &Step) -> Class {
    let class = |value: &u32| classes.get(*value as usize);
    let reads = step.reads();
    if let Some(Class::Mixed(step, why)) =
        reads.iter().filter_map(class).find(|class| matches!(class, Class::Mixed(..)))
    {
        return Class::Mixed(*step, why);
    }
    let first = reads.first().and_then(class);
    let wide = step
        .writes()
        .first()
        .and_then(|value| plan.values.get(*value as usize))
        .map_or(0, |value| value.columns as usize);
    match (step, first) {
        (Step::Dense { .. }, Some(Class::Columns(_) | Class::Scores)) => return Class::Scores,
        (Step::Dense { .. }, _) => return Class::Mixed(index, "is a layer behind another one"),
        (Step::Trees(trees), Some(Class::Columns(_))) => return of_trees(index, trees),
        (Step::Trees(_), _) => return Class::Mixed(index, "reads what another model computes"),
        _ => {}
    }
    let columns: Option<Vec<&[u32]>> = reads
        .iter()
        .map(|value| match class(value) {
            Some(Class::Columns(columns)) => Some(columns.as_slice()),
            _ => None,
        })
        .collect();
    if let Some(columns) = columns {
        return of_columns(index, step, &columns, wide);
    }
    if is_affine(plan, step) && reads.iter().all(|value| class(value) == Some(&Class::Scores)) {
        return Class::Scores;
    }
    let mut behind: Option<Vec<u32>> = None;
    for value in &reads {
        let roots = match class(value) {
            Some(Class::Scores) => vec![*value],
            Some(Class::Behind(roots)) => roots.clone(),
            _ => return Class::Mixed(index, "puts scores and columns of the request together"),
        };
        match &mut behind {
            None => behind = Some(roots),
            Some(all) if matches!(step, Step::Concat { .. }) => union(all, &roots),
            Some(all) if *all == roots => {}
            Some(_) => return Class::Mixed(index, "combines several models behind their raw scores"),
        }
    }
    match behind {
        Some(roots) if roots.len() <= MOST_SCORES => Class::Behind(roots),
        _ => Class::Mixed(index, "reads nothing that can be explained"),
    }
}

fn of_trees(index: usize, trees: &Trees) -> Class {
    if !matches!(trees.aggregate, Aggregate::Sum | Aggregate::Average) {
        return Class::Mixed(
            index,
            "takes the least or the greatest vote of its trees, which is no sum of contributions",
        );
    }
    let is_raw = trees.transform == Transform::None && trees.choice.is_none();
    if is_raw { Class::Scores } else { Class::Behind(vec![trees.scores]) }
}

/// A step that reads columns of the request only.
#[inline(never)]
fn of_columns(index: usize, step: &Step, columns: &[&[u32]], wide: usize) -> Class {
    let all = columns.concat();
    // Whatever is done with one column, the result is that column's.
    if let Some((&only, others)) = all.split_first()
        && others.iter().all(|&other| other == only)
    {
        return Class::Columns(vec![only; wide]);
    }
    let at = |columns: &[u32], place: usize| {
        columns.get(if columns.len() == 1 { 0 } else { place }).copied().unwrap_or(u32::MAX)
    };
    match (step, columns) {
        (Step::Concat { .. }, _) => return Class::Columns(all),
        (Step::Select { columns: chosen, .. }, [from]) => {
            return Class::Columns(chosen.iter().map(|&column| at(from, column as usize)).collect());
        }
        (Step::Binary { .. }, [left, right]) => {
            let columns = (0..wide).map(|place| (at(left, place), at(right, place)));
            if columns.clone().all(|(left, right)| left == right) {
                return Class::Columns(columns.map(|(left, _)| left).collect());
            }
        }
        (
            Step::Cast { .. }
            | Step::Unary { .. }
            | Step::Scale { .. }
            | Step::Clip { .. }
            | Step::Impute { .. }
            | Step::Lookup { .. }
            | Step::Binary { .. },
            [from],
        ) => {
            return Class::Columns((0..wide).map(|place| at(from, place)).collect());
        }
        _ => {}
    }
    Class::Mixed(index, "mixes columns before the scores")
}

/// Whether a step on scores gives sums of the same terms.
#[inline(never)]
fn is_affine(plan: &TabularPlan, step: &Step) -> bool {
    match step {
        Step::Cast { output, .. } => {
            plan.values.get(*output as usize).is_some_and(|value| value.kind.is_float())
        }
        Step::Scale { .. } | Step::Concat { .. } | Step::Select { .. } => true,
        Step::Unary { function, .. } => *function == Unary::Negate,
        Step::Reduce { reduction, .. } => matches!(reduction, Reduction::Sum | Reduction::Mean),
        Step::Binary { function, left, right, .. } => match (left, right) {
            (Operand::Value(_), Operand::Value(_)) => matches!(function, Binary::Add | Binary::Subtract),
            (Operand::Value(_), Operand::Array(_)) => true,
            (Operand::Array(_), _) => *function != Binary::Divide,
        },
        _ => false,
    }
}

/// The way back from the raw scores to their terms.
struct Back<'a> {
    classes: &'a [Class],
    /// What the scores take of each value's columns.
    adjoints: Vec<Vec<Part>>,
    constants: Vec<f64>,
}

impl Back<'_> {
    /// What the scores take of a value of so many columns, each column once.
    #[inline(never)]
    fn take(&mut self, value: u32, width: usize) -> Result<Vec<Part>, Unexplained> {
        let parts = self.adjoints.get_mut(value as usize).map(std::mem::take).unwrap_or_default();
        let place = |part: &Part| part.score * width + part.component;
        if parts.iter().zip(parts.iter().skip(1)).all(|(one, next)| place(one) < place(next)) {
            return Ok(parts);
        }
        let all = self.constants.len().saturating_mul(width);
        if all > MOST_FOLLOWED {
            return Err(too_large());
        }
        let mut factors = vec![0.0; all];
        for part in &parts {
            if let Some(factor) = factors.get_mut(place(part)) {
                *factor += part.factor;
            }
        }
        let mut merged = Vec::new();
        for (place, &factor) in factors.iter().enumerate() {
            if factor != 0.0 {
                merged.push(Part { score: place / width, component: place % width, factor });
            }
        }
        Ok(merged)
    }

    fn give(&mut self, value: u32, parts: impl Iterator<Item = Part>) {
        if let Some(place) = self.adjoints.get_mut(value as usize) {
            place.extend(parts);
        }
    }

    fn constant(&mut self, part: &Part, value: f64) {
        if let Some(place) = self.constants.get_mut(part.score) {
            *place += part.factor * value;
        }
    }

    /// Hands what the scores take of a step's result to what the step reads; a term when it reads columns.
    #[inline(never)]
    fn step(
        &mut self,
        index: usize,
        step: &Step,
        parts: Vec<Part>,
        width: &dyn Fn(u32) -> usize,
        numbers: &dyn Fn(u32) -> Option<Vec<f64>>,
    ) -> Result<Option<Term>, Unexplained> {
        if parts.is_empty() {
            return Ok(None);
        }
        let array = |array: u32| numbers(array).unwrap_or_default();
        let at = |row: &[f64], place: usize| {
            row.get(if row.len() == 1 { 0 } else { place }).copied().unwrap_or(0.0)
        };
        // A value of one column goes with every column of the other.
        let narrowed = |value: u32, factor: f64| {
            let is_narrow = width(value) == 1;
            parts.iter().map(move |part| Part {
                component: if is_narrow { 0 } else { part.component },
                factor: part.factor * factor,
                ..*part
            })
        };
        let source = match step {
            Step::Dense { input, .. } => *input,
            Step::Trees(trees) => trees.input,
            _ => u32::MAX,
        };
        if let Some(Class::Columns(players)) = self.classes.get(source as usize) {
            let players = players.clone();
            return Ok(Some(Term { step: index, players, parts }));
        }
        match step {
            Step::Dense { input, weights, bias, .. } => {
                let (weights, columns) = (array(*weights), width(*input));
                let bias = bias.map(array).unwrap_or_default();
                let wide = weights.len().checked_div(columns).unwrap_or(0);
                if parts.len().saturating_mul(columns) > MOST_FOLLOWED {
                    return Err(too_large());
                }
                let mut given = Vec::with_capacity(parts.len().saturating_mul(columns));
                for part in &parts {
                    self.constant(part, bias.get(part.component).copied().unwrap_or(0.0));
                    let column = weights.iter().skip(part.component).step_by(wide.max(1));
                    given.extend(column.enumerate().map(|(component, weight)| Part {
                        component,
                        factor: part.factor * weight,
                        ..*part
                    }));
                }
                self.give(*input, given.into_iter());
            }
            Step::Cast { input, .. } => self.give(*input, narrowed(*input, 1.0)),
            Step::Unary { input, .. } => self.give(*input, narrowed(*input, -1.0)),
            Step::Scale { input, offset, scale, .. } => {
                let (offset, scale) = (array(*offset), array(*scale));
                for part in &parts {
                    let factor = at(&scale, part.component);
                    self.constant(part, -at(&offset, part.component) * factor);
                    self.give(*input, std::iter::once(Part { factor: part.factor * factor, ..*part }));
                }
            }
            Step::Concat { inputs, .. } => {
                let mut first = 0;
                for &input in inputs {
                    let columns = first..first + width(input);
                    let own = parts.iter().filter(|part| columns.contains(&part.component));
                    self.give(input, own.map(|part| Part { component: part.component - first, ..*part }));
                    first = columns.end;
                }
            }
            Step::Select { input, columns, .. } => {
                let chosen = |part: &Part| {
                    let component = columns.get(part.component).map_or(0, |&column| column as usize);
                    Part { component, ..*part }
                };
                self.give(*input, parts.iter().map(chosen));
            }
            Step::Reduce { reduction, input, .. } => {
                let columns = width(*input);
                let share = if *reduction == Reduction::Mean { 1.0 / columns as f64 } else { 1.0 };
                if parts.len().saturating_mul(columns) > MOST_FOLLOWED {
                    return Err(too_large());
                }
                for part in &parts {
                    let factor = part.factor * share;
                    self.give(*input, (0..columns).map(|component| Part { component, factor, ..*part }));
                }
            }
            Step::Binary { function, left, right, .. } => match (*left, *right) {
                (Operand::Value(left), Operand::Value(right)) => {
                    let sign = if *function == Binary::Subtract { -1.0 } else { 1.0 };
                    self.give(left, narrowed(left, 1.0));
                    self.give(right, narrowed(right, sign));
                }
                (Operand::Value(value), Operand::Array(row))
                | (Operand::Array(row), Operand::Value(value)) => {
                    let row = array(row);
                    let is_left = matches!(left, Operand::Value(_));
                    for (part, narrow) in parts.iter().zip(narrowed(value, 1.0)) {
                        let number = at(&row, part.component);
                        let (factor, constant) = match function {
                            Binary::Add => (1.0, number),
                            Binary::Subtract if is_left => (1.0, -number),
                            Binary::Subtract => (-1.0, number),
                            Binary::Multiply => (number, 0.0),
                            Binary::Divide => (1.0 / number, 0.0),
                        };
                        self.constant(part, constant);
                        self.give(value, std::iter::once(Part { factor: narrow.factor * factor, ..narrow }));
                    }
                }
                (Operand::Array(_), Operand::Array(_)) => {}
            },
            _ => {}
        }
        Ok(None)
    }
}
