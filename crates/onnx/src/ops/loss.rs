//! Losses, which exporters leave in graphs.

use super::normalize::log_soften;
use super::reduce::lines::{Lines, Real, floats, product, tensor};
use crate::operator::{ai, optional, required};
use crate::shape::elements;
use crate::{Build, Kernel, Kind, Meter, Operator, Problem, Tensor};

const LOSS: &[&str] = &["ignore_index", "reduction"];

pub(super) const TABLE: &[Operator] = &[
    ai("NegativeLogLikelihoodLoss", 12, LOSS, |build| loss(build, false)),
    ai("SoftmaxCrossEntropyLoss", 12, LOSS, |build| loss(build, true)),
];

#[derive(Debug, Clone, Copy)]
enum Reduction {
    None,
    Sum,
    Mean,
}

struct Loss {
    reduction: Reduction,
    ignored: Option<i64>,
    /// Whether the operand has scores, else it has the logarithms of probabilities.
    scores: bool,
}

fn loss(build: &Build<'_>, scores: bool) -> Result<Kernel, Problem> {
    let reduction = match build.attributes.text_or("reduction", "mean")? {
        "none" => Reduction::None,
        "sum" => Reduction::Sum,
        "mean" => Reduction::Mean,
        other => {
            let hint = "use `none`, `sum` or `mean`";
            return Err(Problem::attribute("reduction", format!("`{other}` is no reduction"), hint));
        }
    };
    let loss = Loss { reduction, ignored: build.attributes.int("ignore_index")?, scores };
    Ok(Box::new(move |operands, meter| {
        let [x, targets] = [required(operands, 0)?, required(operands, 1)?];
        let run = if x.kind() == Kind::F64 { Loss::run::<f64> } else { Loss::run::<f32> };
        run(&loss, x, targets, optional(operands, 2), meter)
    }))
}

impl Loss {
    /// The loss, and for scores the logarithms of their probabilities. Sums run from the first target to the last. Without a
    /// target that counts the mean is NaN.
    fn run<T: Real>(
        &self,
        x: &Tensor,
        targets: &Tensor,
        weights: Option<&Tensor>,
        meter: &mut Meter,
    ) -> Result<Vec<Tensor>, Problem> {
        let [batch, classes, rest @ ..] = x.shape() else {
            return Err(Problem::invalid(format!(
                "expected a batch and classes, found the shape {:?}",
                x.shape()
            )));
        };
        if targets.shape().split_first() != Some((batch, rest)) {
            return Err(Problem::invalid(format!(
                "targets of the shape {:?} do not go with {:?}",
                targets.shape(),
                x.shape()
            )));
        }
        let weights = weights.map(floats::<T>).transpose()?;
        if let Some(weights) = weights.as_ref().filter(|weights| weights.len() != *classes) {
            return Err(Problem::invalid(format!(
                "{} weights are given for {classes} classes",
                weights.len()
            )));
        }
        meter.room(x.shape(), 16)?;
        meter.room(targets.shape(), 16)?;
        meter.work(product(&[x.len().saturating_add(targets.len()), 4]))?;
        let mut all = floats::<T>(x)?;
        if self.scores {
            let lines = Lines::new(x.shape(), &[1]);
            let mut scores = lines.gather(all).into_owned();
            scores.chunks_exact_mut(lines.len.max(1)).for_each(log_soften);
            all = lines.scatter(scores).into();
        }
        let len = elements(rest).unwrap_or(usize::MAX).max(1);
        let (mut losses, mut total, mut weight_of_all) =
            (Vec::with_capacity(targets.len()), T::ZERO, T::ZERO);
        for (at, target) in targets.integers()?.into_iter().enumerate() {
            let (mut loss, mut weight) = (T::ZERO, T::ZERO);
            if Some(target) != self.ignored {
                let class =
                    usize::try_from(target).ok().filter(|class| class < classes).ok_or_else(|| {
                        Problem::invalid(format!("target {target} is outside of the {classes} classes"))
                    })?;
                let item = all.get((at / len).saturating_mul(classes.saturating_mul(len))..);
                let place = class.saturating_mul(len).saturating_add(at % len);
                weight = weights.as_ref().map_or(T::ONE, |all| all.get(class).copied().unwrap_or(T::ONE));
                loss = -item.and_then(|item| item.get(place)).copied().unwrap_or(T::ZERO) * weight;
            }
            losses.push(loss);
            total += loss;
            weight_of_all += weight;
        }
        let mut results = vec![match self.reduction {
            Reduction::None => tensor(targets.shape(), losses, x.kind())?,
            Reduction::Sum => tensor([], vec![total], x.kind())?,
            Reduction::Mean => tensor([], vec![total / weight_of_all], x.kind())?,
        }];
        if self.scores {
            results.push(tensor(x.shape(), all.into_owned(), x.kind())?);
        }
        Ok(results)
    }
}
