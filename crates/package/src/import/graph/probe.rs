//! Running a plan to learn what ONNX files do not say, or say wrong: the shapes of the outputs, and what a row costs.

use lockgate_onnx::{Data, Graph, Kind, Meter, Problem, Source, Tensor};

use super::super::onnx::{Dimension, ElementType, OnnxModel};
use super::super::{ImportLimits, Refusal, about_graph};
use super::dependence::work_depends_on_values;
use super::{Cost, refusal_of};
use crate::plan::graph::LONGEST_FREE_DIMENSION;
use crate::{Datatype, TensorSpec};

/// What was learnt.
pub(super) struct Probed {
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) cost: Cost,
}

/// Lengths of the free dimensions: of the batch, and of all others.
#[derive(Clone, Copy)]
struct Lengths {
    batch: usize,
    others: usize,
}

/// Runs a plan on one row and on two.
pub(super) fn probe(
    model: &OnnxModel,
    source: &Source,
    arrays: &[Tensor],
    kinds: &[Kind],
    free: &[Vec<Option<String>>],
    limits: &ImportLimits,
) -> Result<Probed, Refusal> {
    let graph = Graph::new(source, arrays).map_err(|problem| refusal_of(&problem))?;
    let inputs: Vec<TensorSpec> =
        model.inputs.iter().zip(free).filter_map(|(input, free)| spec(input, free)).collect();
    let batch = free.iter().find_map(|names| names.first()?.clone());
    let has_others = free.iter().flatten().flatten().any(|name| Some(name) != batch.as_ref());
    let longest = usize::try_from(LONGEST_FREE_DIMENSION).unwrap_or(usize::MAX);
    let prober = Prober { graph: &graph, inputs: &inputs, kinds, free, batch: batch.as_deref(), limits };

    // What more rows cost is bounded only so that the run ends.
    let (one, mut cost) =
        match prober.run(Lengths { batch: 1, others: if has_others { longest } else { 1 } }, 1) {
            Ok(found) => found,
            Err(Failure::TooLarge(cost)) => return Ok(Probed { outputs: Vec::new(), inputs, cost }),
            Err(Failure::Refused(refusal)) => return Err(refusal),
            // What the values of a request decide cannot be learnt from zeros.
            Err(Failure::Values) => {
                let cost = Cost { operations: limits.operations_per_row, memory: limits.memory_per_row };
                let outputs = model.outputs.iter().map(declared).collect::<Result<_, _>>()?;
                return Ok(Probed { inputs, outputs, cost });
            }
        };
    if work_depends_on_values(source) {
        cost.operations = limits.operations_per_row;
    }
    let mut runs = vec![one];
    for lengths in [Lengths { batch: 2, others: 2 }, Lengths { batch: 3, others: 5 }] {
        match prober.run(lengths, 4) {
            Ok((outputs, _)) => runs.push(outputs),
            Err(Failure::Refused(refusal)) if batch.is_some() => {
                let message = format!("with {} rows in place of one: {}", lengths.batch, refusal.message);
                let hint = "export with a free batch dimension, and with shapes that follow it";
                return Err(Refusal { message, hint: hint.to_owned(), ..refusal });
            }
            Err(_) => {}
        }
    }
    let outputs = model.outputs.iter().enumerate().map(|(index, output)| {
        let seen: Vec<&Tensor> = runs.iter().filter_map(|run| run.get(index)).collect();
        let first = *seen.first().ok_or_else(|| about_graph("an output has no value", ""))?;
        if seen.iter().any(|other| other.rank() != first.rank()) {
            return Err(about_graph(
                format!("output `{}` has another number of axes from request to request", output.name),
                "",
            ));
        }
        let length = |axis: usize| {
            let len = first.shape().get(axis).copied()?;
            let is_declared_free = output
                .shape
                .as_ref()
                .filter(|shape| shape.len() == first.rank())
                .and_then(|shape| shape.get(axis))
                .is_some_and(|dimension| matches!(dimension, Dimension::Named(_)));
            let is_same = seen.iter().all(|other| other.shape().get(axis) == Some(&len));
            if is_same && !is_declared_free { i64::try_from(len).ok() } else { Some(-1) }
        };
        let shape = (0..first.rank()).map(|axis| length(axis).unwrap_or(-1)).collect();
        Ok(TensorSpec { name: output.name.clone(), datatype: Datatype::of_kind(first.kind()), shape })
    });
    let outputs = outputs.collect::<Result<_, _>>()?;
    Ok(Probed { inputs, outputs, cost })
}

/// Why a run gave nothing.
enum Failure {
    /// More than a row may cost: what it would cost.
    TooLarge(Cost),
    /// It cannot run at all.
    Refused(Refusal),
    /// It cannot run on zeros and ones; another request may do.
    Values,
}

struct Prober<'a> {
    graph: &'a Graph,
    inputs: &'a [TensorSpec],
    kinds: &'a [Kind],
    free: &'a [Vec<Option<String>>],
    batch: Option<&'a str>,
    limits: &'a ImportLimits,
}

impl Prober<'_> {
    /// May cost so many times what a row may.
    fn run(&self, lengths: Lengths, times: u64) -> Result<(Vec<Tensor>, Cost), Failure> {
        let mut last = None;
        for element in [0, 1] {
            let mut meter = Meter::new(
                self.limits.memory_per_row.saturating_mul(times),
                self.limits.operations_per_row.saturating_mul(times),
            );
            let tensors: Result<Vec<Tensor>, Problem> = self
                .inputs
                .iter()
                .zip(self.free)
                .zip(self.kinds)
                .map(|((spec, free), kind)| self.tensor(*kind, spec, free, lengths, element))
                .collect();
            let tensors =
                tensors.map_err(|problem| Failure::Refused(about_graph(problem.to_string(), "")))?;
            match self.graph.run(tensors, &mut meter) {
                Ok(outputs) => {
                    return Ok((outputs, Cost { operations: meter.operations(), memory: meter.peak() }));
                }
                Err(problem) => match problem.problem {
                    Problem::Limit { needed, what, .. } => {
                        let (operations, memory) = if what == "operations" {
                            (needed, meter.peak())
                        } else {
                            (meter.operations(), needed)
                        };
                        return Err(Failure::TooLarge(Cost { operations, memory }));
                    }
                    _ => last = Some(refusal_of(&problem)),
                },
            }
        }
        // Shapes fail for zeros and for ones; values often for one of them alone, so this is about shapes unless integers or texts come in.
        let is_about_values = self.inputs.iter().any(|spec| !spec.datatype.kind().is_float());
        Err(if is_about_values { Failure::Values } else { Failure::Refused(last.unwrap_or_default()) })
    }

    fn tensor(
        &self,
        kind: Kind,
        spec: &TensorSpec,
        free: &[Option<String>],
        lengths: Lengths,
        element: u8,
    ) -> Result<Tensor, Problem> {
        let shape: Vec<usize> = spec
            .shape
            .iter()
            .zip(free)
            .map(|(len, name)| match name {
                None => usize::try_from(*len).unwrap_or(0),
                Some(name) if self.batch == Some(name) => lengths.batch,
                Some(_) => lengths.others,
            })
            .collect();
        let mut meter = Meter::new(self.limits.memory_per_row, u64::MAX);
        let count = meter.room(&shape, kind.size())?;
        let mut data = kind.zeros(count);
        if element == 1 {
            let one = match kind {
                // A text that reads as a number, where it is cast to one.
                Kind::Text => Data::Text(vec!["1".to_owned()]),
                kind if kind.is_float() => one_of(kind),
                kind => Tensor::scalar(1_u64).numbers()?.narrow(kind),
            };
            data.put(&one, (0..count).map(|place| (place, 0)))?;
        }
        Tensor::new(shape, data)
    }
}

fn one_of(kind: Kind) -> Data {
    use lockgate_onnx::Numbers;
    match kind {
        Kind::F64 => Numbers::F64(vec![1.0].into()).narrow(kind),
        kind => Numbers::F32(vec![1.0].into()).narrow(kind),
    }
}

fn spec(input: &super::onnx::ValueInfo, free: &[Option<String>]) -> Option<TensorSpec> {
    let datatype = Datatype::of_kind(input.element.and_then(ElementType::kind)?);
    let length = |(dimension, name): (&Dimension, &Option<String>)| match (dimension, name) {
        (Dimension::Fixed(len), None) => *len,
        _ => -1,
    };
    let shape = input.shape.as_ref()?.iter().zip(free).map(length).collect();
    Some(TensorSpec { name: input.name.clone(), datatype, shape })
}

/// An output as the file declares it.
fn declared(output: &super::onnx::ValueInfo) -> Result<TensorSpec, Refusal> {
    let name = &output.name;
    let unknown = || {
        about_graph(
            format!(
                "the form of output `{name}` depends on the values of a request, and the file does not declare it"
            ),
            "export with declared shapes: onnx.shape_inference.infer_shapes",
        )
    };
    let kind = output.element.and_then(ElementType::kind).ok_or_else(unknown)?;
    let length = |dimension: &Dimension| if let Dimension::Fixed(len) = dimension { *len } else { -1 };
    let shape = output.shape.as_ref().ok_or_else(unknown)?.iter().map(length).collect();
    Ok(TensorSpec { name: name.clone(), datatype: Datatype::of_kind(kind), shape })
}
