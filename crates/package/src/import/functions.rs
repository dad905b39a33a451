//! Functions that a file defines for itself, put in the place of the nodes that call them.

use std::collections::BTreeMap;

use prost::Message as _;

use super::onnx::domain_name;
use super::{ImportError, ImportLimits, pb};

/// How deep functions may call each other.
const DEEPEST: usize = 64;

/// Stands between a domain and its version in the nodes of functions that use another version than the model.
const VERSION: char = '@';

/// A domain without a version.
pub(super) fn without_version(domain: &str) -> &str {
    domain.split_once(VERSION).map_or(domain, |(domain, _)| domain)
}

/// Replaces every call of a function by the function's nodes, in graphs inside of nodes too.
///
/// # Errors
/// Functions that call each other in a circle or become more nodes than the limit; calls that do not fit.
pub(super) fn inline(model: &mut pb::ModelProto, limits: &ImportLimits) -> Result<(), ImportError> {
    let functions = std::mem::take(&mut model.functions);
    if functions.is_empty() {
        return Ok(());
    }
    let mut table = BTreeMap::new();
    for function in &functions {
        let key = (domain_name(&function.domain), function.name(), function.overload.as_str());
        if table.insert(key, function).is_some() {
            return Err(malformed(format!("function `{}` is defined twice", function.name())));
        }
    }
    let mut inliner =
        Inliner { table, opsets: &mut model.opset_import, calls: 0, nodes: 0, bytes: 0, limits };
    if let Some(graph) = &mut model.graph {
        inliner.graph(graph, 0)?;
    }
    Ok(())
}

struct Inliner<'f> {
    table: BTreeMap<(&'f str, &'f str, &'f str), &'f pb::FunctionProto>,
    opsets: &'f mut Vec<pb::OperatorSetIdProto>,
    calls: usize,
    nodes: usize,
    bytes: usize,
    limits: &'f ImportLimits,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut pb::GraphProto, depth: usize) -> Result<(), ImportError> {
        graph.node = self.nodes(std::mem::take(&mut graph.node), depth)?;
        Ok(())
    }

    fn nodes(&mut self, nodes: Vec<pb::NodeProto>, depth: usize) -> Result<Vec<pb::NodeProto>, ImportError> {
        let mut all = Vec::with_capacity(nodes.len());
        for mut node in nodes {
            self.nodes += 1;
            let what = "the number of nodes, those of functions included,";
            self.limits.check("nodes", what, number(self.nodes))?;
            for graph in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
                if depth >= DEEPEST {
                    return Err(malformed("graphs lie too deep inside of each other".to_owned()));
                }
                self.graph(graph, depth + 1)?;
            }
            let key = (domain_name(&node.domain), node.op_type.as_str(), node.overload.as_str());
            let Some(&function) = self.table.get(&key) else {
                all.push(node);
                continue;
            };
            if depth >= DEEPEST {
                return Err(malformed(format!("function `{}` calls itself", function.name())));
            }
            let body = self.call(&node, function)?;
            all.extend(self.nodes(body, depth + 1)?);
        }
        Ok(all)
    }

    /// The nodes of a call, which read and write the caller's values.
    fn call(
        &mut self,
        node: &pb::NodeProto,
        function: &pb::FunctionProto,
    ) -> Result<Vec<pb::NodeProto>, ImportError> {
        let others = self.versions(function);
        self.calls += 1;
        self.bytes = self.bytes.saturating_add(function.encoded_len());
        let what = "the length of all functions that are called";
        self.limits.check("file_bytes", what, number(self.bytes))?;
        let name = function.name();
        if node.input.len() > function.input.len() || node.output.len() > function.output.len() {
            let message = format!("node `{}` calls function `{name}` with too many values", node.name);
            return Err(malformed(message));
        }
        let mut attributes: BTreeMap<&str, &pb::AttributeProto> =
            function.attribute_proto.iter().map(|default| (default.name.as_str(), default)).collect();
        for attribute in &node.attribute {
            let known = attributes.contains_key(attribute.name.as_str())
                || function.attribute.contains(&attribute.name);
            if !known {
                let message = format!("function `{name}` has no attribute `{}`", attribute.name);
                return Err(malformed(message));
            }
            attributes.insert(&attribute.name, attribute);
        }
        let mut values = BTreeMap::new();
        for (index, formal) in function.input.iter().enumerate() {
            values.insert(formal.as_str(), node.input.get(index).cloned().unwrap_or_default());
        }
        let called = if node.name.is_empty() { name } else { node.name.as_str() };
        let prefix = format!("{called}#{}", self.calls);
        let mut passed_through = Vec::new();
        for (formal, actual) in function.output.iter().zip(&node.output).filter(|pair| !pair.1.is_empty()) {
            match values.get(formal.as_str()) {
                // An input that is handed back.
                Some(input) if function.input.contains(formal) => passed_through.push(pb::NodeProto {
                    input: vec![input.clone()],
                    output: vec![actual.clone()],
                    op_type: "Identity".to_owned(),
                    ..pb::NodeProto::default()
                }),
                _ => drop(values.insert(formal.as_str(), actual.clone())),
            }
        }
        let scope = Scope { values, attributes, prefix };
        let mut nodes = function.node.clone();
        for node in &mut nodes {
            scope.node(node);
        }
        self.set_versions(&mut nodes, &others);
        nodes.extend(passed_through);
        Ok(nodes)
    }

    /// Adds the operator sets of a function's body to the model's. Returns the versions that differ from the model's.
    fn versions(&mut self, function: &pb::FunctionProto) -> BTreeMap<String, String> {
        let mut others = BTreeMap::new();
        for set in &function.opset_import {
            let domain = domain_name(&set.domain);
            match self.opsets.iter().find(|have| domain_name(&have.domain) == domain) {
                None => self.opsets.push(set.clone()),
                Some(have) if have.version != set.version => {
                    let versioned = format!("{domain}{VERSION}{}", set.version);
                    if !self.opsets.iter().any(|have| have.domain == versioned) {
                        self.opsets
                            .push(pb::OperatorSetIdProto { domain: versioned.clone(), version: set.version });
                    }
                    others.insert(domain.to_owned(), versioned);
                }
                Some(_) => {}
            }
        }
        others
    }

    /// Writes the versions that a function's nodes are of into their domains.
    fn set_versions(&self, nodes: &mut [pb::NodeProto], others: &BTreeMap<String, String>) {
        for node in nodes {
            let domain = domain_name(&node.domain);
            let is_call = self.table.contains_key(&(domain, node.op_type.as_str(), node.overload.as_str()));
            if let Some(versioned) = others.get(domain).filter(|_| !is_call) {
                node.domain.clone_from(versioned);
            }
            for graph in node.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
                self.set_versions(&mut graph.node, others);
            }
        }
    }
}

/// What names mean inside of a call.
struct Scope<'f> {
    values: BTreeMap<&'f str, String>,
    attributes: BTreeMap<&'f str, &'f pb::AttributeProto>,
    prefix: String,
}

impl Scope<'_> {
    fn name(&self, name: &mut String) {
        if let Some(actual) = self.values.get(name.as_str()) {
            name.clone_from(actual);
        } else if !name.is_empty() {
            *name = format!("{}/{name}", self.prefix);
        }
    }

    fn node(&self, node: &mut pb::NodeProto) {
        node.input.iter_mut().chain(&mut node.output).for_each(|name| self.name(name));
        if !node.name.is_empty() {
            node.name = format!("{}/{}", self.prefix, node.name);
        }
        // An attribute of the call that is not given has no value here either.
        node.attribute = std::mem::take(&mut node.attribute)
            .into_iter()
            .filter_map(|mut attribute| {
                if !attribute.ref_attr_name.is_empty() {
                    let given = self.attributes.get(attribute.ref_attr_name.as_str())?;
                    return Some(pb::AttributeProto { name: attribute.name, ..(*given).clone() });
                }
                if let Some(graph) = &mut attribute.g {
                    self.graph(graph);
                }
                Some(attribute)
            })
            .collect();
    }

    fn graph(&self, graph: &mut pb::GraphProto) {
        graph.input.iter_mut().chain(&mut graph.output).for_each(|info| self.name(&mut info.name));
        graph.initializer.iter_mut().for_each(|tensor| self.name(&mut tensor.name));
        graph.node.iter_mut().for_each(|node| self.node(node));
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn malformed(problem: String) -> ImportError {
    ImportError::Malformed {
        problem,
        hint: "check the file with onnx.checker.check_model, or export it again".to_owned(),
    }
}
