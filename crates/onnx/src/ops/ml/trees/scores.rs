//! From the votes of trees to scores and a class.

use lockgate_onnx_ml::transform::{Transform, both_classes, transform_row};
use lockgate_onnx_ml::tree::Aggregate;

use super::Forest;

/// A sum under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    value: f64,
    /// Somebody voted.
    voted: bool,
}

/// Sums in single precision are rounded after each step; a double holds enough digits for that to be the same.
fn round(value: f64, wide: bool) -> f64 {
    if wide { value } else { f64::from(value as f32) }
}

impl Sum {
    pub(super) fn add(&mut self, weight: f64, aggregate: Aggregate, wide: bool) {
        let weight = round(weight, wide);
        match aggregate {
            Aggregate::Sum | Aggregate::Average => self.value = round(self.value + weight, wide),
            Aggregate::Min if !self.voted || weight < self.value => self.value = weight,
            Aggregate::Max if !self.voted || weight > self.value => self.value = weight,
            Aggregate::Min | Aggregate::Max => {}
        }
        self.voted = true;
    }

    /// The score, which is 0 where nobody voted whatever was added since.
    fn score(self) -> f64 {
        if self.voted { self.value } else { 0.0 }
    }
}

/// How scores choose a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// Two classes, of which only one gets votes. Its score chooses the second class when it is over ½ and no vote is negative, or over 0 if one is.
    One { second: bool, positive: bool },
    /// Two classes with votes: a score of the second one over 0 chooses it.
    Two,
    /// The largest score among the classes that got a vote, the first of equal ones.
    Largest,
}

impl Choice {
    pub(super) fn of(forest: &Forest, classes: usize) -> Self {
        let votes = || forest.leaves.iter().flatten();
        let votes_for = |class: usize| votes().any(|vote| vote.0 == class);
        let positive = !votes().any(|vote| vote.1 < 0.0);
        match (classes, votes_for(0), votes_for(1)) {
            (2, true, true) | (2, false, false) => Self::Two,
            (2, _, second) => Self::One { second, positive },
            _ => Self::Largest,
        }
    }
}

/// What becomes of sums.
#[derive(Debug)]
pub(super) struct Scoring {
    pub(super) targets: usize,
    pub(super) aggregate: Aggregate,
    /// What is added: nothing, a number per target, or one number for two classes.
    pub(super) base: Vec<f64>,
    pub(super) transform: Transform,
    /// Absent for regressors.
    pub(super) choice: Option<Choice>,
}

impl Scoring {
    /// Appends the scores of a row; its class.
    pub(super) fn finish(&self, sums: &mut [Sum], wide: bool, trees: usize, scores: &mut Vec<f64>) -> usize {
        let class = match (self.choice, &mut *sums) {
            (None, sums) => {
                self.add_base(sums, wide, trees);
                // A base value counts for an only score even where nobody voted.
                if let [only] = sums {
                    only.voted = true;
                }
                0
            }
            (Some(Choice::Largest), sums) => {
                self.add_base(sums, wide, trees);
                if !self.base.is_empty() {
                    sums.iter_mut().for_each(|sum| sum.voted = true);
                }
                let mut best: Option<(usize, f64)> = None;
                for (class, sum) in sums.iter().enumerate() {
                    if sum.voted && best.is_none_or(|(_, most)| sum.value > most) {
                        best = Some((class, sum.value));
                    }
                }
                best.map_or(0, |(class, _)| class)
            }
            (Some(choice), [first, second]) => return self.two(choice, first, second, wide, scores),
            (Some(_), _) => 0,
        };
        let row: Vec<f64> = sums.iter().map(|sum| sum.score()).collect();
        write(self.transform, &row, scores);
        class
    }

    fn add_base(&self, sums: &mut [Sum], wide: bool, trees: usize) {
        let divisor = if self.aggregate == Aggregate::Average { trees as f64 } else { 1.0 };
        for sum in sums.iter_mut() {
            sum.value = round(sum.value / divisor, wide);
        }
        for (sum, &base) in sums.iter_mut().zip(&self.base) {
            sum.value = round(sum.value + round(base, wide), wide);
        }
    }

    /// Two classes, as onnxruntime's aggregator treats them: the specification says nothing about base values and votes for one of them.
    fn two(
        &self,
        choice: Choice,
        first: &mut Sum,
        second: &mut Sum,
        wide: bool,
        scores: &mut Vec<f64>,
    ) -> usize {
        let plus = |value: f64, base: f64| round(value + round(base, wide), wide);
        match *self.base.as_slice() {
            [_, base] if second.voted => {
                second.value = plus(first.value, base);
                first.value = -second.value;
            }
            [base, other] => {
                first.value = plus(first.value, base);
                second.value = plus(second.value, other);
            }
            [base] => first.value = plus(first.value, base),
            _ => {}
        }
        let decisive = if second.voted { second.value } else { first.score() };
        let over = match choice {
            Choice::One { positive: true, .. } => decisive > 0.5,
            _ => decisive > 0.0,
        };
        if second.voted || self.base.len() == 2 {
            write(self.transform, &[first.score(), second.score()], scores);
            return usize::from(over);
        }
        let only = first.score();
        let row = match (choice, self.transform) {
            (_, Transform::Probit) => {
                write(self.transform, &[only], scores);
                scores.push(0.0);
                return usize::from(over);
            }
            (Choice::Two, _) if self.base.len() == 1 => [only, 0.0],
            (_, Transform::Logistic) => both_classes(Transform::Logistic, only as f32).map(f64::from),
            (Choice::One { positive: true, .. }, _) => [round(1.0 - only, wide), only],
            _ => [-only, only],
        };
        scores.extend(row);
        usize::from(over)
    }
}

/// Appends transformed scores; transformations are computed in single precision.
fn write(transform: Transform, row: &[f64], scores: &mut Vec<f64>) {
    if transform == Transform::None {
        scores.extend(row);
        return;
    }
    let mut single: Vec<f32> = row.iter().map(|&score| score as f32).collect();
    transform_row(transform, &mut single);
    scores.extend(single.into_iter().map(f64::from));
}
