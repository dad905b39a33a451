//! Attributes as the plan holds them, and graphs inside of nodes: what they read from around them becomes inputs of their own.

use std::collections::{BTreeMap, BTreeSet};

use lockgate_onnx::expressions::AUTOMATA;
use lockgate_onnx::{Attribute, Node, Source, Tensor};

use super::super::functions::without_version;
use super::super::onnx::{self, OnnxModel};
use super::super::pb::attribute_proto::AttributeType;
use super::super::{Refusal, pb};
use crate::plan::graph::DEEPEST_GRAPH as DEEPEST;

/// The attribute of a loop in a plan that says how many of its operands are captured.
pub(super) const CAPTURES: &str = "captures";

/// The plan's own attributes, which say what a file leaves to be found out. A file that has one is not believed.
const OWN: [&str; 2] = [AUTOMATA, CAPTURES];

/// The attributes of a node, and the names that its graphs read from around it, graph by graph in the order of the attributes.
pub(super) fn attributes(
    node: &onnx::Node,
    model: &OnnxModel,
    arrays: &mut Vec<Tensor>,
) -> Result<(BTreeMap<String, Attribute>, Vec<String>), Refusal> {
    let mut captured = Vec::new();
    let mut all = BTreeMap::new();
    if let Some(own) = own(node) {
        let refusal = node.refusal("this attribute is not supported", "export the model again");
        return Err(Refusal { attribute: Some(own.to_owned()), ..refusal });
    }
    for (name, attribute) in &node.attributes {
        let value = value(attribute, model, arrays, &mut captured, 0).map_err(|problem| Refusal {
            attribute: Some(name.clone()),
            ..node.refusal(problem, "export the model again, or without it")
        })?;
        all.insert(name.clone(), value);
    }
    say_captured(&node.operator, captured.len(), &mut all);
    Ok((all, captured))
}

/// An attribute that a node of a file must not have.
fn own(node: &onnx::Node) -> Option<&'static str> {
    OWN.into_iter().find(|name| node.attributes.contains_key(*name))
}

/// The names that the graphs of a node read from around it.
pub(super) fn reads(node: &onnx::Node) -> impl Iterator<Item = &str> {
    let graphs = node.attributes.values().filter_map(|attribute| attribute.g.as_ref());
    graphs.flat_map(|graph| free_names(graph, 0))
}

/// The arrays that the graphs of a node refer to.
pub(super) fn arrays_of(node: &Node, into: &mut BTreeSet<usize>) {
    for attribute in node.attributes.values() {
        if let Attribute::Graph(source) = attribute {
            into.extend(source.constants.iter().filter_map(|(_, array)| usize::try_from(*array).ok()));
            source.nodes.iter().for_each(|node| arrays_of(node, into));
        }
    }
}

/// The node with the arrays of its graphs under other numbers.
pub(super) fn renumbered(mut node: Node, position: &dyn Fn(usize) -> Option<u32>) -> Node {
    for attribute in node.attributes.values_mut() {
        if let Attribute::Graph(source) = attribute {
            for (_, array) in &mut source.constants {
                *array = usize::try_from(*array).ok().and_then(position).unwrap_or(u32::MAX);
            }
            source.nodes = std::mem::take(&mut source.nodes)
                .into_iter()
                .map(|node| renumbered(node, position))
                .collect();
        }
    }
    node
}

fn value(
    attribute: &pb::AttributeProto,
    model: &OnnxModel,
    arrays: &mut Vec<Tensor>,
    captured: &mut Vec<String>,
    depth: usize,
) -> Result<Attribute, String> {
    let text = |bytes: &[u8]| {
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| "the text is not UTF-8".to_owned())
    };
    Ok(match attribute.r#type() {
        AttributeType::Int => Attribute::Int(attribute.i),
        AttributeType::Float => Attribute::Float(attribute.f),
        AttributeType::String => Attribute::Text(text(&attribute.s)?),
        AttributeType::Ints => Attribute::Ints(attribute.ints.clone()),
        AttributeType::Floats => Attribute::Floats(attribute.floats.clone()),
        AttributeType::Strings => {
            Attribute::Texts(attribute.strings.iter().map(|bytes| text(bytes)).collect::<Result<_, _>>()?)
        }
        AttributeType::Tensor => {
            let tensor = attribute.t.as_ref().ok_or("it holds no tensor")?;
            Attribute::Tensor(onnx::constant(tensor)?)
        }
        AttributeType::Graph => {
            let graph = attribute.g.as_ref().ok_or("it holds no graph")?;
            Attribute::Graph(Box::new(body(graph, model, arrays, captured, depth + 1)?))
        }
        other => return Err(format!("an attribute of the type {} is not supported", other.name())),
    })
}

/// The names that a graph reads from around it.
#[derive(Default)]
struct Free<'g> {
    /// What is written where the walk is.
    bound: BTreeSet<&'g str>,
    /// Each name once, in the order in which it is read.
    names: Vec<&'g str>,
    seen: BTreeSet<&'g str>,
}

/// What a graph reads that it does not write itself.
fn free_names(graph: &pb::GraphProto, depth: usize) -> Vec<&str> {
    let mut free = Free::default();
    free.walk(graph, depth);
    free.names
}

impl<'g> Free<'g> {
    fn read(&mut self, name: &'g str) {
        if !name.is_empty() && !self.bound.contains(name) && self.seen.insert(name) {
            self.names.push(name);
        }
    }

    fn walk(&mut self, graph: &'g pb::GraphProto, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let mut own = Vec::new();
        let mut write = |bound: &mut BTreeSet<&'g str>, name: &'g str| {
            if bound.insert(name) {
                own.push(name);
            }
        };
        graph.input.iter().for_each(|input| write(&mut self.bound, &input.name));
        graph.initializer.iter().for_each(|tensor| write(&mut self.bound, &tensor.name));
        for node in &graph.node {
            node.input.iter().for_each(|name| self.read(name));
            for inner in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
                self.walk(inner, depth + 1);
            }
            node.output.iter().for_each(|name| write(&mut self.bound, name));
        }
        graph.output.iter().for_each(|output| self.read(&output.name));
        for name in own {
            self.bound.remove(name);
        }
    }
}

fn body(
    graph: &pb::GraphProto,
    model: &OnnxModel,
    arrays: &mut Vec<Tensor>,
    captured: &mut Vec<String>,
    depth: usize,
) -> Result<Source, String> {
    if depth > DEEPEST {
        return Err(format!("graphs lie more than {DEEPEST} deep inside of each other"));
    }
    let mut ids: BTreeMap<String, u32> = BTreeMap::new();
    let mut next = 0_u32;
    let mut place = |ids: &mut BTreeMap<String, u32>, name: &str| {
        let value = next;
        next = next.saturating_add(1);
        match ids.insert(name.to_owned(), value) {
            None => Ok(value),
            Some(_) => Err(format!("value `{name}` is written twice")),
        }
    };
    let initialized: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    for input in graph.input.iter().filter(|input| !initialized.contains(input.name.as_str())) {
        place(&mut ids, &input.name)?;
    }
    for name in free_names(graph, depth) {
        place(&mut ids, name)?;
        captured.push(name.to_owned());
    }
    let mut source = Source { inputs: u32::try_from(ids.len()).unwrap_or(u32::MAX), ..Source::default() };
    for tensor in &graph.initializer {
        let value = place(&mut ids, &tensor.name)?;
        let tensor = onnx::constant(tensor)?;
        add_constant(&mut source, arrays, tensor, value);
    }
    for proto in &graph.node {
        let name = if proto.name.is_empty() {
            proto.output.first().cloned().unwrap_or_default()
        } else {
            proto.name.clone()
        };
        let domain = onnx::domain_name(&proto.domain).to_owned();
        let opset = *model
            .opsets
            .get(&domain)
            .ok_or_else(|| format!("node `{name}` is of the unknown domain {domain}"))?;
        let domain = without_version(&domain).to_owned();
        let node = onnx::node(proto, name, domain, opset).map_err(|error| error.to_string())?;
        if let Some(found) = onnx::plain_constant(&node).map_err(|error| error.to_string())? {
            let value = place(&mut ids, node.output(0).unwrap_or_default())?;
            add_constant(&mut source, arrays, found, value);
            continue;
        }
        if let Some(own) = own(&node) {
            return Err(format!(
                "node `{}` ({}): the attribute `{own}` is not supported",
                node.name, node.operator
            ));
        }
        let mut more = Vec::new();
        let mut attributes = BTreeMap::new();
        for (key, attribute) in &node.attributes {
            attributes.insert(key.clone(), value(attribute, model, arrays, &mut more, depth)?);
        }
        say_captured(&node.operator, more.len(), &mut attributes);
        let known = |name: &str| {
            ids.get(name)
                .copied()
                .ok_or_else(|| format!("node `{}` reads `{name}`, which nothing writes before it", node.name))
        };
        let mut inputs = Vec::new();
        for name in &node.inputs {
            inputs.push(if name.is_empty() { None } else { Some(known(name)?) });
        }
        for name in &more {
            inputs.push(Some(known(name)?));
        }
        let mut outputs = Vec::new();
        for name in &node.outputs {
            outputs.push(if name.is_empty() { None } else { Some(place(&mut ids, name)?) });
        }
        let onnx::Node { name, operator, domain, opset, .. } = node;
        source.nodes.push(Node { name, domain, operator, opset, attributes, inputs, outputs });
    }
    for output in &graph.output {
        let value =
            ids.get(&output.name).ok_or_else(|| format!("output `{}` is written by nothing", output.name))?;
        source.outputs.push(*value);
    }
    Ok(source)
}

fn add_constant(source: &mut Source, arrays: &mut Vec<Tensor>, tensor: Tensor, value: u32) {
    source.constants.push((value, u32::try_from(arrays.len()).unwrap_or(u32::MAX)));
    arrays.push(tensor);
}

/// Says how many of the operands of a loop are captured: its other operands may be of any number.
fn say_captured(operator: &str, captured: usize, attributes: &mut BTreeMap<String, Attribute>) {
    if matches!(operator, "Loop" | "Scan") && captured > 0 {
        attributes.insert(CAPTURES.to_owned(), Attribute::Int(i64::try_from(captured).unwrap_or(i64::MAX)));
    }
}
