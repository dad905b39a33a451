//! Graphs inside of nodes.
//!
//! What a body reads of the graph around it comes as operands behind all others, and behind the formal inputs of the body. How many
//! these are cannot be seen from a `Loop` or `Scan`; its attribute `captures`, which ONNX does not have, says it.

use super::product::size;
use crate::operator::{ai, optional, required};
use crate::shape::{axis, strides};
use crate::{Attributes, Build, Graph, Kernel, Meter, Operator, Problem, Source, Tensor};

pub(super) const TABLE: &[Operator] = &[
    ai("If", 1, &["else_branch", "then_branch"], conditional)
        .but("sequences and optional values; let the branches give tensors"),
    ai("Loop", 1, &["body", "captures"], repeat)
        .but("sequences and optional values; let the body carry tensors and give outputs, which pile up"),
    ai("Scan", 8, &["body", "captures", "directions", "num_scan_inputs"], scan_rows),
    ai(
        "Scan",
        9,
        &[
            "body",
            "captures",
            "num_scan_inputs",
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
        ],
        scan,
    ),
];

/// What a node of a body costs beside what it computes, in operations: about a quarter of a microsecond.
const NODE: u64 = 1000;

/// The graph of an attribute, ready to run.
struct Body {
    graph: Graph,
    outputs: usize,
    cost: u64,
}

impl Body {
    /// The graph called `name`, whose captures are the operands from `first` on.
    fn new(
        build: &Build<'_>,
        name: &str,
        source: &Source,
        captures: usize,
        first: usize,
    ) -> Result<Self, Problem> {
        let mut source = source.clone();
        let mut more = Vec::new();
        let inputs = usize::try_from(source.inputs).unwrap_or(usize::MAX);
        let formal = inputs.checked_sub(captures).ok_or_else(|| {
            let message = format!("the graph has {inputs} inputs, but should capture {captures} values");
            Problem::attribute(name, message, "export the model again")
        })?;
        // Kernels prepare from constants, such as weights, wherever they come from.
        for at in 0..captures {
            if let (Some(constant), Ok(value)) = (build.constant(first + at), u32::try_from(formal + at)) {
                let array = build.arrays.len().saturating_add(more.len());
                source.constants.push((value, u32::try_from(array).unwrap_or(u32::MAX)));
                more.push(constant.clone());
            }
        }
        let graph = Graph::with_more(&source, build.arrays, &more).map_err(|inner| {
            Problem::attribute(name, inner.to_string(), "see what is said about this node")
        })?;
        let nodes = u64::try_from(source.nodes.len()).unwrap_or(u64::MAX);
        Ok(Self { graph, outputs: source.outputs.len(), cost: NODE.saturating_mul(nodes.saturating_add(1)) })
    }

    fn run(&self, inputs: Vec<Tensor>, meter: &mut Meter) -> Result<Vec<Tensor>, Problem> {
        meter.work(self.cost)?;
        self.graph.run(inputs, meter).map_err(|inner| match inner.problem {
            limit @ Problem::Limit { .. } => limit,
            _ => Problem::Invalid(inner.to_string()),
        })
    }
}

fn graph<'a>(attributes: &Attributes<'a>, name: &str) -> Result<&'a Source, Problem> {
    let missing = || Problem::attribute(name, "it is missing", "export the model again");
    attributes.graph(name)?.ok_or_else(missing)
}

fn captures(attributes: &Attributes<'_>) -> Result<usize, Problem> {
    usize::try_from(attributes.int_or("captures", 0)?)
        .map_err(|_| Problem::attribute("captures", "it is negative", "import the model again"))
}

/// The only element of a tensor of booleans.
fn truth(tensor: &Tensor) -> Result<bool, Problem> {
    match tensor.elements::<bool>()? {
        [one] => Ok(*one),
        all => Err(Problem::invalid(format!("expected one condition, found {}", all.len()))),
    }
}

fn owned(operands: &[Option<&Tensor>], from: usize, to: usize) -> Result<Vec<Tensor>, Problem> {
    (from..to).map(|index| required(operands, index).cloned()).collect()
}

fn conditional(build: &Build<'_>) -> Result<Kernel, Problem> {
    let branches = ["else_branch", "then_branch"].map(|name| graph(&build.attributes, name));
    let [otherwise, then] = branches;
    let (otherwise, then) = (otherwise?, then?);
    let count = |source: &Source| usize::try_from(source.inputs).unwrap_or(usize::MAX);
    let middle = count(otherwise).saturating_add(1);
    let end = count(then).saturating_add(middle);
    if end != build.inputs {
        return Err(Problem::invalid(format!(
            "the branches capture other values than the {} operands",
            build.inputs
        )));
    }
    // A branch that is never taken may hold anything.
    let known = build.constant(0).map(truth).transpose()?;
    let body = |wanted: bool, name: &str, source: &Source, first: usize| {
        let needed = known.is_none_or(|known| known == wanted);
        needed.then(|| Body::new(build, name, source, count(source), first)).transpose()
    };
    let otherwise = body(false, "else_branch", otherwise, 1)?;
    let then = body(true, "then_branch", then, middle)?;
    Ok(Box::new(move |operands, meter| {
        let condition = truth(required(operands, 0)?)?;
        let (body, range) = if condition { (&then, middle..end) } else { (&otherwise, 1..middle) };
        let body = body.as_ref().ok_or_else(|| Problem::invalid("the condition is not what it was"))?;
        body.run(owned(operands, range.start, range.end)?, meter)
    }))
}

/// Elements of the same shape that pile up along a new axis.
struct Pile {
    elements: Vec<Tensor>,
    bytes: u64,
}

impl Pile {
    fn new() -> Self {
        Self { elements: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, element: Tensor, meter: &mut Meter) -> Result<(), Problem> {
        if let Some(first) = self.elements.first()
            && (first.shape() != element.shape() || first.kind() != element.kind())
        {
            return Err(Problem::invalid(format!(
                "an output of the body was {} {:?} and becomes {} {:?}",
                first.kind(),
                first.shape(),
                element.kind(),
                element.shape()
            )));
        }
        self.bytes = self.bytes.saturating_add(element.bytes()).saturating_add(64);
        meter.room(&[usize::try_from(self.bytes).unwrap_or(usize::MAX)], 2)?;
        self.elements.push(element);
        Ok(())
    }

    /// The elements along a new axis, followed by zeros up to `len` elements. Without elements, they would be like `example`.
    fn stacked(
        self,
        along: i64,
        reverse: bool,
        len: usize,
        example: Option<&Tensor>,
    ) -> Result<Tensor, Problem> {
        let Some(first) = self.elements.first().or(example) else {
            return Err(Problem::invalid("the body has not run, so that the shape of its output is unknown"));
        };
        let at = axis(along, first.rank() + 1)?;
        let (outer, inner) = first.shape().split_at(at.min(first.rank()));
        let block = size(inner.iter().copied());
        let mut data = first.kind().zeros(first.len().saturating_mul(len));
        let count = self.elements.len();
        for (index, element) in self.elements.iter().enumerate() {
            let index = if reverse { count - 1 - index } else { index };
            let place = |from: usize| (from / block.max(1) * len + index) * block + from % block.max(1);
            data.put(element.data(), (0..element.len()).map(|from| (place(from), from)))?;
        }
        Tensor::new([outer, &[len], inner].concat(), data)
    }
}

/// The part of a tensor at an index of an axis, without this axis. Behind the end there are zeros.
fn slice(tensor: &Tensor, at: usize, index: usize, meter: &mut Meter) -> Result<Tensor, Problem> {
    let len = tensor.shape().get(at).copied().unwrap_or(0);
    let block = strides(tensor.shape()).get(at).copied().unwrap_or(1);
    let mut shape = tensor.shape().to_vec();
    if at < shape.len() {
        shape.remove(at);
    }
    let count = meter.room(&shape, tensor.kind().size())?;
    if index >= len {
        return Tensor::new(shape, tensor.kind().zeros(count));
    }
    let outer = tensor.len() / (len * block).max(1);
    let places = (0..outer).flat_map(|outer| {
        let first = (outer * len + index) * block;
        first..first + block
    });
    tensor.take(shape, places)
}

/// What a body gives that runs on nothing, to learn the shapes of its outputs. A body has no effects.
fn example(body: &Body, inputs: Vec<Tensor>, from: usize, meter: &mut Meter) -> Result<Vec<Tensor>, Problem> {
    if body.outputs <= from {
        return Ok(Vec::new());
    }
    Ok(body.run(inputs, meter)?.into_iter().skip(from).collect())
}

fn repeat(build: &Build<'_>) -> Result<Kernel, Problem> {
    let captures = captures(&build.attributes)?;
    let Some(states) = build.inputs.checked_sub(captures).and_then(|formal| formal.checked_sub(2)) else {
        return Err(Problem::invalid(format!("{} operands are too few", build.inputs)));
    };
    let source = graph(&build.attributes, "body")?;
    let body = Body::new(build, "body", source, captures, 2 + states)?;
    check(&source.outputs, source.inputs, 2 + states + captures, 1 + states)?;
    Ok(Box::new(move |operands, meter| {
        let most = optional(operands, 0).map(Tensor::integer).transpose()?;
        let mut goes_on = optional(operands, 1).map_or(Ok(true), truth)?;
        let checked = optional(operands, 1).is_some();
        let mut carried = owned(operands, 2, 2 + states)?;
        let captured = owned(operands, 2 + states, 2 + states + captures)?;
        let mut piles: Vec<Pile> = (1 + states..body.outputs).map(|_| Pile::new()).collect();
        let inputs = |trip: i64, goes_on: bool, carried: Vec<Tensor>| -> Vec<Tensor> {
            let mut inputs = vec![Tensor::scalar(trip), Tensor::scalar(goes_on)];
            inputs.extend(carried);
            inputs.extend(captured.iter().cloned());
            inputs
        };
        let mut trip = 0_i64;
        while goes_on && most.is_none_or(|most| trip < most) {
            let mut results = body.run(inputs(trip, goes_on, carried), meter)?.into_iter();
            let condition = results.next().ok_or_else(|| Problem::invalid("the body gives no condition"))?;
            // Without a condition to start with, what the body says does not count.
            goes_on = !checked || truth(&condition)?;
            carried = results.by_ref().take(states).collect();
            for (pile, element) in piles.iter_mut().zip(results) {
                pile.push(element, meter)?;
            }
            trip += 1;
        }
        let examples = if trip == 0 && !piles.is_empty() {
            example(&body, inputs(0, goes_on, carried.clone()), 1 + states, meter)?
        } else {
            Vec::new()
        };
        for (index, pile) in piles.into_iter().enumerate() {
            let len = pile.elements.len();
            carried.push(pile.stacked(0, false, len, examples.get(index))?);
        }
        Ok(carried)
    }))
}

/// Whether a body has the inputs and at least the outputs that it must have.
fn check(outputs: &[u32], inputs: u32, wanted: usize, least: usize) -> Result<(), Problem> {
    if usize::try_from(inputs).ok() == Some(wanted) && outputs.len() >= least {
        return Ok(());
    }
    let message = format!("the graph has {inputs} inputs and {} outputs", outputs.len());
    Err(Problem::attribute("body", message, format!("expected {wanted} inputs and at least {least} outputs")))
}

/// How a Scan walks along its operands.
struct Steps {
    body: Body,
    states: usize,
    scans: usize,
    captures: usize,
    input_axes: Vec<i64>,
    input_reverse: Vec<bool>,
    output_axes: Vec<i64>,
    output_reverse: Vec<bool>,
}

impl Steps {
    /// The Scan whose operands begin behind `first` others.
    fn new(build: &Build<'_>, first: usize) -> Result<Self, Problem> {
        let attributes = &build.attributes;
        let captures = captures(attributes)?;
        let scans = usize::try_from(attributes.int_or("num_scan_inputs", 0)?).unwrap_or(0);
        let rest = build.inputs.checked_sub(first.saturating_add(captures));
        let Some(states) = rest.and_then(|rest| rest.checked_sub(scans)).filter(|_| scans > 0) else {
            let message = format!("{scans} do not go with {} operands", build.inputs);
            return Err(Problem::attribute("num_scan_inputs", message, "export the model again"));
        };
        let source = graph(attributes, "body")?;
        let body = Body::new(build, "body", source, captures, first + states + scans)?;
        check(&source.outputs, source.inputs, states + scans + captures, states)?;
        let list = |name: &str, count: usize| -> Result<Vec<i64>, Problem> {
            match attributes.ints(name)? {
                None => Ok(vec![0; count]),
                Some(list) if list.len() == count => Ok(list.to_vec()),
                Some(list) => {
                    let message = format!("{} values are given, expected {count}", list.len());
                    Err(Problem::attribute(name, message, "export the model again"))
                }
            }
        };
        let flags = |name: &str, count: usize| -> Result<Vec<bool>, Problem> {
            Ok(list(name, count)?.iter().map(|&value| value != 0).collect())
        };
        let outputs = source.outputs.len() - states;
        let rows = first > 0;
        Ok(Self {
            states,
            scans,
            captures,
            input_axes: if rows { vec![0; scans] } else { list("scan_input_axes", scans)? },
            input_reverse: flags(if rows { "directions" } else { "scan_input_directions" }, scans)?,
            output_axes: if rows { vec![0; outputs] } else { list("scan_output_axes", outputs)? },
            output_reverse: if rows {
                vec![false; outputs]
            } else {
                flags("scan_output_directions", outputs)?
            },
            body,
        })
    }

    /// The length of the sequences.
    fn len(&self, scans: &[Tensor]) -> Result<usize, Problem> {
        let mut common = None;
        for (tensor, &along) in scans.iter().zip(&self.input_axes) {
            let at = axis(along, tensor.rank())?;
            let len = tensor.shape().get(at).copied().unwrap_or(0);
            if *common.get_or_insert(len) != len {
                return Err(Problem::invalid(format!(
                    "sequences of the lengths {} and {len} cannot be walked along together",
                    common.unwrap_or(0)
                )));
            }
        }
        Ok(common.unwrap_or(0))
    }

    /// The final states, then the outputs, of the first `len` steps; the outputs have `whole` of them.
    fn run(
        &self,
        mut states: Vec<Tensor>,
        scans: &[Tensor],
        captured: &[Tensor],
        (len, whole): (usize, usize),
        meter: &mut Meter,
    ) -> Result<Vec<Tensor>, Problem> {
        let mut piles: Vec<Pile> = self.output_axes.iter().map(|_| Pile::new()).collect();
        let inputs = |step: usize, states: Vec<Tensor>, meter: &mut Meter| -> Result<Vec<Tensor>, Problem> {
            let mut inputs = states;
            for ((tensor, &along), &reverse) in scans.iter().zip(&self.input_axes).zip(&self.input_reverse) {
                let index = if reverse { len.saturating_sub(step + 1) } else { step };
                inputs.push(slice(tensor, axis(along, tensor.rank())?, index, meter)?);
            }
            inputs.extend(captured.iter().cloned());
            Ok(inputs)
        };
        for step in 0..len {
            let inputs = inputs(step, states, meter)?;
            let mut results = self.body.run(inputs, meter)?.into_iter();
            states = results.by_ref().take(self.states).collect();
            for (pile, element) in piles.iter_mut().zip(results) {
                pile.push(element, meter)?;
            }
        }
        let examples = if len == 0 {
            let inputs = inputs(0, states.clone(), meter)?;
            example(&self.body, inputs, self.states, meter)?
        } else {
            Vec::new()
        };
        for (index, pile) in piles.into_iter().enumerate() {
            let along = self.output_axes.get(index).copied().unwrap_or(0);
            let reverse = self.output_reverse.get(index).copied().unwrap_or(false);
            let one = pile.elements.first().or(examples.get(index));
            meter.room(&[one.map_or(0, Tensor::len), whole], one.map_or(1, |one| one.kind().size()))?;
            states.push(pile.stacked(along, reverse, whole, examples.get(index))?);
        }
        Ok(states)
    }
}

fn scan(build: &Build<'_>) -> Result<Kernel, Problem> {
    let steps = Steps::new(build, 0)?;
    Ok(Box::new(move |operands, meter| {
        let states = owned(operands, 0, steps.states)?;
        let scans = owned(operands, steps.states, steps.states + steps.scans)?;
        let end = steps.states + steps.scans;
        let captured = owned(operands, end, end + steps.captures)?;
        let len = steps.len(&scans)?;
        steps.run(states, &scans, &captured, (len, len), meter)
    }))
}

/// The first form of Scan: every operand has a batch axis in front, and each row its own length.
fn scan_rows(build: &Build<'_>) -> Result<Kernel, Problem> {
    let steps = Steps::new(build, 1)?;
    Ok(Box::new(move |operands, meter| {
        let states = owned(operands, 1, 1 + steps.states)?;
        let end = 1 + steps.states + steps.scans;
        let scans = owned(operands, 1 + steps.states, end)?;
        let captured = owned(operands, end, end + steps.captures)?;
        let rows = scans.first().and_then(|first| first.shape().first()).copied().unwrap_or(0);
        if states.iter().chain(&scans).any(|tensor| tensor.shape().first() != Some(&rows)) {
            return Err(Problem::invalid(format!("not all states and sequences have {rows} rows")));
        }
        if rows == 0 {
            return Err(Problem::invalid("there are no rows"));
        }
        let lens = optional(operands, 0).map(Tensor::integers).transpose()?;
        if lens.as_ref().is_some_and(|lens| lens.len() != rows) {
            return Err(Problem::invalid(format!("the lengths of the sequences are not {rows}")));
        }
        let mut piles: Vec<Pile> = (0..steps.body.outputs).map(|_| Pile::new()).collect();
        for row in 0..rows {
            let mut of_row = |all: &[Tensor]| {
                all.iter().map(|one| slice(one, 0, row, meter)).collect::<Result<Vec<_>, _>>()
            };
            let (states, scans) = (of_row(&states)?, of_row(&scans)?);
            let whole = steps.len(&scans)?;
            let len = match lens.as_ref().and_then(|lens| lens.get(row)) {
                None => whole,
                Some(&len) => usize::try_from(len).ok().filter(|&len| len <= whole).ok_or_else(|| {
                    Problem::invalid(format!("a length of {len} does not fit sequences of {whole}"))
                })?,
            };
            let results = steps.run(states, &scans, &captured, (len, whole), meter)?;
            for (pile, result) in piles.iter_mut().zip(results) {
                pile.push(result, meter)?;
            }
        }
        piles.into_iter().map(|pile| pile.stacked(0, false, rows, None)).collect()
    }))
}

#[cfg(test)]
mod tests {
    use crate::ops::product::testing::{int, node, none, results};
    use crate::{Attribute, Source, Tensor};

    /// A body whose nodes pass values on.
    fn body(inputs: u32, outputs: &[u32]) -> (String, Attribute) {
        let source = Source {
            inputs,
            constants: Vec::new(),
            nodes: vec![node("Identity", 13, &[], &[Some(0)], &[inputs])],
            outputs: outputs.to_vec(),
        };
        ("body".to_owned(), Attribute::Graph(Box::new(source)))
    }

    #[test]
    fn a_loop_without_end_is_stopped() {
        let operands = [none(), Tensor::scalar(true)];
        let error = results("Loop", 13, &[body(2, &[1])], &operands, 0).unwrap_err();
        assert!(error.contains("operations"), "{error}");
        let error = results(
            "Loop",
            13,
            &[body(3, &[1, 2, 2])],
            &[none(), none(), Tensor::vector(vec![0_u8; 9999])],
            2,
        );
        assert!(error.unwrap_err().contains("bytes of memory"));
    }

    #[test]
    fn a_loop_that_does_not_run_has_empty_outputs() {
        let operands = [Tensor::scalar(0_i64), none(), Tensor::vector(vec![1.0_f32, 2.0])];
        let found = results("Loop", 13, &[body(3, &[1, 2, 2])], &operands, 2).unwrap();
        assert_eq!((found[0].clone(), found[1].shape()), (operands[2].clone(), &[0, 2][..]));
    }

    #[test]
    fn captures_are_no_states() {
        let operands = [Tensor::scalar(2_i64), none(), Tensor::scalar(5_i32), Tensor::scalar(7_i32)];
        let found = results("Loop", 13, &[body(4, &[1, 2, 3]), int("captures", 1)], &operands, 2).unwrap();
        assert_eq!(found, [Tensor::scalar(5_i32), Tensor::vector(vec![7_i32, 7])]);
        let states = results("Loop", 13, &[body(4, &[1, 2, 3])], &operands, 2).unwrap();
        assert_eq!(states, [Tensor::scalar(5_i32), Tensor::scalar(7_i32)]);
    }

    #[test]
    fn a_scan_walks_along_any_axis_both_ways() {
        let x = Tensor::of([2, 3], vec![1_u8, 2, 3, 4, 5, 6]).unwrap();
        let list = |name: &str, value: i64| (name.to_owned(), Attribute::Ints(vec![value]));
        let scan = |more: &[(String, Attribute)]| {
            let attributes = [&[body(1, &[0]), int("num_scan_inputs", 1)][..], more].concat();
            results("Scan", 11, &attributes, std::slice::from_ref(&x), 1).map(|mut all| all.remove(0))
        };
        assert_eq!(scan(&[]).unwrap(), x);
        assert_eq!(scan(&[list("scan_input_axes", -1), list("scan_output_axes", -1)]).unwrap(), x);
        let turned = scan(&[list("scan_input_axes", 1), list("scan_input_directions", 1)]).unwrap();
        assert_eq!(turned, Tensor::of([3, 2], vec![3_u8, 6, 2, 5, 1, 4]).unwrap());
        let back = scan(&[list("scan_input_axes", 1), list("scan_output_directions", 1)]).unwrap();
        assert_eq!(back, turned);
        assert!(scan(&[list("scan_input_axes", 2)]).unwrap_err().contains("axis 2"));
    }

    #[test]
    fn rows_of_a_scan_have_their_own_lengths() {
        let x = Tensor::of([2, 3], vec![1_u8, 2, 3, 4, 5, 6]).unwrap();
        let attributes =
            [body(1, &[0]), int("num_scan_inputs", 1), ("directions".to_owned(), Attribute::Ints(vec![1]))];
        let found = results("Scan", 8, &attributes, &[Tensor::vector(vec![3_i64, 2]), x], 1).unwrap();
        assert_eq!(found, [Tensor::of([2, 3], vec![3_u8, 2, 1, 5, 4, 0]).unwrap()]);
    }
}
