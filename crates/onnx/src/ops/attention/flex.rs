//! `FlexAttention`: attention whose scores and probabilities graphs may change.

use super::super::normalize;
use super::super::reduce::lines::{Real, along, dot, product, round};
use super::heads::{Heads, add_times, factors, precision, share};
use crate::operator::required;
use crate::{Build, Graph, Kernel, Kind, Meter, Problem, Tensor};

struct Flex {
    scale: Option<f32>,
    precision: Option<Kind>,
    change_scores: Option<Change>,
    change_probabilities: Option<Change>,
}

/// A graph from one tensor to one of the same shape and kind, and the operands that hold what else it reads.
struct Change {
    name: &'static str,
    graph: Graph,
    first: usize,
    count: usize,
}

pub(super) fn make(build: &Build<'_>) -> Result<Kernel, Problem> {
    // Behind Q, K and V stand the values that the graphs read, those of the first name first.
    let change_probabilities = Change::new(build, "prob_mod", 3)?;
    let next = change_probabilities.as_ref().map_or(3, |change| change.first.saturating_add(change.count));
    let flex = Flex {
        scale: build.attributes.float("scale")?,
        precision: precision(build)?,
        change_scores: Change::new(build, "score_mod", next)?,
        change_probabilities,
    };
    Ok(Box::new(move |operands, meter| {
        let kind = required(operands, 0)?.kind();
        let precision = flex.precision.unwrap_or(if kind == Kind::F64 { Kind::F64 } else { Kind::F32 });
        if kind == Kind::F64 || precision == Kind::F64 {
            flex.run::<f64>(operands, precision, meter)
        } else {
            flex.run::<f32>(operands, precision, meter)
        }
    }))
}

impl Flex {
    fn run<T: Real>(
        &self,
        operands: &[Option<&Tensor>],
        precision: Kind,
        meter: &mut Meter,
    ) -> Result<Vec<Tensor>, Problem> {
        let [q, k, v] = [required(operands, 0)?, required(operands, 1)?, required(operands, 2)?];
        let kind = q.kind();
        [q, k, v].into_iter().try_for_each(|one| meter.room(one.shape(), 16).map(|_| ()))?;
        let q = Heads::<T>::of(q, "Q", None)?;
        let (k, v) = (Heads::of(k, "K", None)?, Heads::of(v, "V", None)?);
        let share = share(&q, &k, &v)?;
        let of_score = q.size.saturating_add(v.size).saturating_add(16);
        meter.work(product(&[q.batch, q.heads, q.len, k.len.saturating_add(1), of_score]))?;

        let mut scores = q.zeros(k.len, true, meter)?;
        let mut y = q.zeros(v.size, true, meter)?;
        let (of_q, of_k) = factors::<T>(self.scale, q.size, kind);
        let (q, k) = (q.times(of_q, kind), k.times(of_k, kind));
        for (batch, head, at) in places(&q) {
            let query = q.row(batch, head, at);
            let line = scores.row_mut(batch, head, at);
            for (key, score) in line.iter_mut().enumerate() {
                *score = dot(query, k.row(batch, head / share, key));
            }
            round(line, kind);
        }
        let scores = Change::run(self.change_scores.as_ref(), scores.tensor(precision)?, operands, meter)?;
        meter.room(scores.shape(), 8)?;
        let probabilities = along::<T>(&scores, &[3], |line| normalize::soften(line, precision))?;
        let probabilities = Change::run(self.change_probabilities.as_ref(), probabilities, operands, meter)?;
        let probabilities = Heads::<T>::of(&probabilities, "the probabilities", None)?;
        for (batch, head, at) in places(&q) {
            let y = y.row_mut(batch, head, at);
            for (key, &probability) in probabilities.row(batch, head, at).iter().enumerate() {
                add_times(y, probability, v.row(batch, head / share, key));
            }
        }
        // The product is one of the precision's kind, which is then cast.
        round(y.all.to_mut(), precision);
        Ok(vec![y.tensor(kind)?])
    }
}

fn places<T: Real>(heads: &Heads<'_, T>) -> impl Iterator<Item = (usize, usize, usize)> {
    let (batch, count, len) = (heads.batch, heads.heads, heads.len);
    (0..batch)
        .flat_map(move |batch| (0..count).flat_map(move |head| (0..len).map(move |at| (batch, head, at))))
}

impl Change {
    fn new(build: &Build<'_>, name: &'static str, first: usize) -> Result<Option<Self>, Problem> {
        let Some(source) = build.attributes.graph(name)? else { return Ok(None) };
        let inputs = usize::try_from(source.inputs).unwrap_or(usize::MAX);
        if inputs == 0 || source.outputs.len() != 1 {
            let message = "expected a graph from one tensor to one";
            return Err(Problem::attribute(name, message, "export the model again"));
        }
        let graph = Graph::new(source, build.arrays).map_err(|failed| {
            Problem::attribute(name, failed.to_string(), "change the graph, or leave it out")
        })?;
        Ok(Some(Self { name, graph, first, count: inputs.saturating_sub(1) }))
    }

    fn run(
        change: Option<&Self>,
        x: Tensor,
        operands: &[Option<&Tensor>],
        meter: &mut Meter,
    ) -> Result<Tensor, Problem> {
        let Some(Self { name, graph, first, count }) = change else { return Ok(x) };
        let (shape, kind) = (x.shape().to_vec(), x.kind());
        let mut inputs = vec![x];
        for index in 0..*count {
            inputs.push(required(operands, first.saturating_add(index))?.clone());
        }
        let results = graph.run(inputs, meter).map_err(|failed| match failed.problem {
            limit @ Problem::Limit { .. } => limit,
            _ => Problem::invalid(format!("in {name}: {failed}")),
        })?;
        match results.into_iter().next() {
            Some(y) if y.shape() == shape && y.kind() == kind => Ok(y),
            _ => Err(Problem::invalid(format!(
                "{name} does not give a tensor of the shape {shape:?} and the kind {kind}"
            ))),
        }
    }
}
