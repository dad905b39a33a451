//! Whether the work of a graph depends on what a request says, or on its shapes alone.

use std::collections::BTreeMap;

use lockgate_onnx::{Attribute, Node, Source};

use super::body::CAPTURES;

/// Whether how often a loop runs, or which branch is taken, depends on the elements of the inputs. What one run costs says nothing
/// about the next one's then.
pub(super) fn work_depends_on_values(graph: &Source) -> bool {
    let inputs = usize::try_from(graph.inputs).unwrap_or(0);
    follow(graph, &vec![Reach { elements: true, shape: false }; inputs]).work
}

/// What the elements of the inputs reach in a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Reach {
    elements: bool,
    shape: bool,
}

impl Reach {
    const BOTH: Self = Self { elements: true, shape: true };

    fn or(self, other: Self) -> Self {
        Self { elements: self.elements | other.elements, shape: self.shape | other.shape }
    }

    fn any(reaches: &[Self]) -> Self {
        reaches.iter().fold(Self::default(), |all, one| all.or(*one))
    }
}

/// What they reach in a graph.
struct Followed {
    outputs: Vec<Reach>,
    work: bool,
}

/// Operators whose results have a shape that elements of operands decide, and the first such operand.
const SHAPED_BY: &[(&str, usize)] = &[
    ("BlackmanWindow", 0),
    ("CenterCropPad", 1),
    ("Compress", 0),
    ("ConstantOfShape", 0),
    ("Expand", 1),
    ("HammingWindow", 0),
    ("HannWindow", 0),
    ("MelWeightMatrix", 0),
    ("NonMaxSuppression", 0),
    ("NonZero", 0),
    ("OneHot", 1),
    ("Pad", 1),
    ("Range", 0),
    ("Reshape", 1),
    ("Resize", 1),
    ("Slice", 1),
    ("Split", 1),
    ("StringSplit", 0),
    ("Tile", 1),
    ("Tokenizer", 0),
    ("TopK", 1),
    ("Unique", 0),
    ("Upsample", 1),
];

fn follow(graph: &Source, inputs: &[Reach]) -> Followed {
    let mut values: BTreeMap<u32, Reach> = (0..).zip(inputs.iter().copied()).collect();
    let mut work = false;
    for node in &graph.nodes {
        let of =
            |value: &Option<u32>| value.and_then(|value| values.get(&value)).copied().unwrap_or_default();
        let reads: Vec<Reach> = node.inputs.iter().map(of).collect();
        let results = match node.operator.as_str() {
            "If" => through_branches(node, &reads),
            "Loop" => through_loop(node, &reads),
            "Scan" => through_scan(node, &reads),
            operator => {
                let all = Reach::any(&reads);
                let shaping = SHAPED_BY.iter().find(|(name, _)| *name == operator);
                let shaping = shaping.and_then(|(_, first)| reads.get(*first..)).unwrap_or_default();
                let result = match operator {
                    "Shape" | "Size" => Reach { elements: all.shape, shape: false },
                    _ => Reach { shape: all.shape | Reach::any(shaping).elements, ..all },
                };
                Followed { outputs: vec![result; node.outputs.len()], work: false }
            }
        };
        work |= results.work;
        values.extend(
            node.outputs.iter().zip(results.outputs).filter_map(|(value, reach)| Some(((*value)?, reach))),
        );
    }
    let outputs = graph.outputs.iter().map(|value| values.get(value).copied().unwrap_or_default()).collect();
    Followed { outputs, work }
}

/// The branches capture the operands behind the condition, one branch after the other.
fn through_branches(node: &Node, reads: &[Reach]) -> Followed {
    let work = reads.first().is_some_and(|condition| condition.elements);
    let either = if work { Reach::BOTH } else { Reach::default() };
    let mut all = Followed { outputs: vec![either; node.outputs.len()], work };
    let mut first = 1;
    for branch in node.attributes.values().filter_map(graph_of) {
        let end = usize::try_from(branch.inputs).unwrap_or(0).saturating_add(first);
        let found = follow(branch, reads.get(first..end).unwrap_or_default());
        all.work |= found.work;
        all.outputs.iter_mut().zip(found.outputs).for_each(|(all, found)| *all = all.or(found));
        first = end;
    }
    all
}

/// The operands are the trips, a condition, and the states; the body gives a condition, the states, and what piles up.
fn through_loop(node: &Node, reads: &[Reach]) -> Followed {
    let is_checked = node.inputs.get(1).is_some_and(Option::is_some);
    let [trips, condition] = [0, 1].map(|at| reads.get(at).copied().unwrap_or_default());
    let mut inputs = vec![Reach::default(), condition];
    inputs.extend(reads.get(2..).unwrap_or_default());
    let states = inputs.len().saturating_sub(count(node, CAPTURES));
    let Some(mut found) = settle(node, &mut inputs, 1..states) else { return unknown(node) };
    let condition = inputs.get(1).is_some_and(|condition| condition.elements);
    let counted = trips.elements || (is_checked && condition);
    found.work |= counted;
    found.outputs = found.outputs.into_iter().skip(1).collect();
    if counted {
        found.outputs.fill(Reach::BOTH);
    }
    found
}

/// The operands are lengths in old versions, states, and sequences; the body gives the states, and what piles up.
fn through_scan(node: &Node, reads: &[Reach]) -> Followed {
    let first = usize::from(node.opset < 9);
    let mut inputs = reads.get(first..).unwrap_or_default().to_vec();
    let outer = inputs.len().saturating_sub(count(node, CAPTURES));
    let states = outer.saturating_sub(count(node, "num_scan_inputs"));
    let sequences = Reach::any(inputs.get(states..outer).unwrap_or_default());
    let Some(mut found) = settle(node, &mut inputs, 0..states) else { return unknown(node) };
    found.work |= sequences.shape;
    found.outputs.iter_mut().for_each(|output| output.shape |= sequences.shape);
    found
}

/// Follows a body until what it hands on reaches nothing new. `carried` are the inputs that its first outputs become.
fn settle(node: &Node, inputs: &mut [Reach], carried: std::ops::Range<usize>) -> Option<Followed> {
    let body = node.attributes.get("body").and_then(graph_of)?;
    loop {
        let mut found = follow(body, inputs);
        let mut is_new = false;
        for (input, output) in inputs.get_mut(carried.clone())?.iter_mut().zip(&found.outputs) {
            let both = input.or(*output);
            is_new |= std::mem::replace(input, both) != both;
        }
        if !is_new {
            // A body that never runs hands on what it got.
            let handed_on = inputs.get(carried)?.iter().copied();
            found.outputs.iter_mut().zip(handed_on).for_each(|(output, input)| *output = input);
            return Some(found);
        }
    }
}

/// A loop without a body reaches everything.
fn unknown(node: &Node) -> Followed {
    Followed { outputs: vec![Reach::BOTH; node.outputs.len()], work: true }
}

fn graph_of(attribute: &Attribute) -> Option<&Source> {
    match attribute {
        Attribute::Graph(source) => Some(source),
        _ => None,
    }
}

fn count(node: &Node, attribute: &str) -> usize {
    match node.attributes.get(attribute) {
        Some(Attribute::Int(count)) => usize::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(operator: &str, inputs: &[u32], outputs: &[u32]) -> Node {
        let some = |values: &[u32]| values.iter().copied().map(Some).collect();
        Node {
            operator: operator.to_owned(),
            opset: 17,
            inputs: some(inputs),
            outputs: some(outputs),
            ..Node::default()
        }
    }

    fn with_body(mut node: Node, name: &str, body: Source) -> Node {
        node.attributes.insert(name.to_owned(), Attribute::Graph(Box::new(body)));
        node
    }

    /// One input, the constants 1 and 2, and what `nodes` write last.
    fn depends(nodes: Vec<Node>) -> bool {
        let constants = vec![(1, 0), (2, 0)];
        work_depends_on_values(&Source { inputs: 1, constants, nodes, outputs: vec![] })
    }

    /// Hands its condition on and works on its state with an operator.
    fn body(operator: &str) -> Source {
        let nodes = vec![node("Identity", &[1], &[3]), node(operator, &[2], &[4])];
        Source { inputs: 3, nodes, outputs: vec![3, 4], ..Source::default() }
    }

    /// A loop over its state, value 0, with these trips and this condition.
    fn repeat(trips: Option<u32>, condition: Option<u32>, body: Source) -> Node {
        let mut node = with_body(node("Loop", &[], &[20]), "body", body);
        node.inputs = vec![trips, condition, Some(0)];
        node
    }

    #[test]
    fn loops_whose_ends_are_constants_or_shapes_do_the_same_work() {
        assert!(!depends(vec![repeat(Some(1), Some(2), body("Relu"))]));
        assert!(!depends(vec![repeat(Some(1), None, body("Relu"))]));
        let lengths = vec![node("Shape", &[0], &[5]), node("Gather", &[5, 1], &[6])];
        assert!(!depends([lengths, vec![repeat(Some(6), None, body("Relu"))]].concat()));
    }

    #[test]
    fn loops_whose_ends_are_values_do_not() {
        assert!(depends(vec![repeat(Some(0), None, body("Relu"))]));
        assert!(depends(vec![node("ReduceSum", &[0], &[5]), repeat(Some(1), Some(5), body("Relu"))]));
        // The condition looks at the state, which comes from the input, one trip later.
        let mut looking = body("Relu");
        looking.nodes[0].inputs = vec![Some(2)];
        assert!(depends(vec![repeat(Some(1), Some(2), looking.clone())]));
        assert!(!depends(vec![repeat(Some(1), None, looking)]));
        // The inner loop's trips are the outer one's state.
        let inner = Source {
            nodes: vec![
                node("Identity", &[1], &[3]),
                Node {
                    outputs: vec![Some(4)],
                    inputs: vec![Some(2), None, Some(2)],
                    ..repeat(None, None, body("Relu"))
                },
            ],
            ..body("Relu")
        };
        assert!(depends(vec![repeat(Some(1), None, inner)]));
    }

    #[test]
    fn shapes_that_values_decide_are_values() {
        let length = |operator: &str, inputs: &[u32]| {
            vec![
                node(operator, inputs, &[5]),
                node("Relu", &[5], &[6]),
                node("Shape", &[6], &[7]),
                repeat(Some(7), None, body("Relu")),
            ]
        };
        assert!(depends(length("NonZero", &[0])));
        assert!(depends(length("Expand", &[1, 0])));
        assert!(!depends(length("Expand", &[0, 1])));
        assert!(!depends(length("Add", &[0, 0])));
    }

    #[test]
    fn branches_depend_on_their_condition() {
        let branch =
            |nodes: Vec<Node>| Source { inputs: 1, constants: vec![(1, 0)], nodes, outputs: vec![0] };
        let choose = |condition: u32, then: Source| {
            let node = with_body(node("If", &[condition, 0, 0], &[9]), "else_branch", branch(vec![]));
            with_body(node, "then_branch", then)
        };
        assert!(depends(vec![choose(0, branch(vec![]))]));
        assert!(!depends(vec![choose(1, branch(vec![]))]));
        assert!(depends(vec![choose(1, branch(vec![repeat(Some(0), None, body("Relu"))]))]));
    }

    #[test]
    fn scans_run_along_shapes() {
        let steps = Source {
            inputs: 2,
            nodes: vec![node("Add", &[0, 1], &[2])],
            outputs: vec![2, 2],
            ..Source::default()
        };
        let scan = |sequence: u32| {
            let mut node = with_body(node("Scan", &[1, sequence], &[9, 10]), "body", steps.clone());
            node.attributes.insert("num_scan_inputs".to_owned(), Attribute::Int(1));
            node
        };
        assert!(!depends(vec![scan(0)]));
        assert!(depends(vec![node("NonZero", &[0], &[5]), scan(5)]));
        // What a scan carries along depends on what it scans.
        assert!(depends(vec![scan(0), repeat(Some(9), None, body("Relu"))]));
    }
}
