use std::sync::Arc;

use super::super::onnx::ElementType;
use super::literal::Literal;
use crate::plan::graph::{Array, Dim, Fact, GraphInput, GraphOutput, GraphPlan, Node, Operator};

/// What is known about a value of the graph.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// The same in every request.
    Constant(Arc<Literal>),
    /// One constant repeated over a shape that has free dimensions; what exporters write for initial states.
    Uniform { element: Arc<Literal>, fact: Fact },
    /// Computed from the request.
    Computed { place: Place, fact: Fact },
    /// A constant of an element type that the graph engine does not have.
    Unsupported(ElementType),
}

/// Where a value will be in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Input(usize),
    Array(usize),
    Result(usize),
}

/// A plan while it grows.
#[derive(Debug, Default)]
pub(super) struct Builder {
    inputs: Vec<GraphInput>,
    arrays: Vec<(Array, Arc<Literal>, Vec<u8>)>,
    nodes: Vec<(String, Operator, Vec<Place>)>,
    results: usize,
}

impl Value {
    pub(super) fn constant(literal: Literal) -> Self {
        Self::Constant(Arc::new(literal))
    }

    pub(super) fn fact(&self) -> Fact {
        match self {
            Self::Constant(literal) => literal.fact(),
            Self::Uniform { fact, .. } | Self::Computed { fact, .. } => fact.clone(),
            Self::Unsupported(_) => Fact::new(crate::Datatype::Bytes, Vec::new()),
        }
    }

    pub(super) fn shape(&self) -> Vec<Dim> {
        self.fact().shape
    }

    pub(super) fn literal(&self) -> Option<Arc<Literal>> {
        match self {
            Self::Constant(literal) => Some(Arc::clone(literal)),
            _ => None,
        }
    }

    /// Whether every element is zero in every request.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Constant(literal) | Self::Uniform { element: literal, .. } => literal.is_zero(),
            _ => false,
        }
    }
}

impl Builder {
    pub(super) fn input(&mut self, name: &str, fact: Fact) -> Value {
        let place = Place::Input(self.inputs.len());
        self.inputs.push(GraphInput { name: name.to_owned(), fact: fact.clone() });
        Value::Computed { place, fact }
    }

    /// Adds a node, and arrays for its constant operands. The message of an error is for the author of the model.
    pub(super) fn emit(
        &mut self,
        name: &str,
        operator: Operator,
        operands: &[&Value],
    ) -> Result<Vec<Value>, String> {
        let facts: Vec<Fact> = operands.iter().map(|operand| operand.fact()).collect();
        let borrowed: Vec<&Fact> = facts.iter().collect();
        let results = operator.results(&borrowed)?;
        if let Some(element) = self.stays_uniform(&operator, operands) {
            return Ok(results
                .into_iter()
                .map(|fact| Value::Uniform { element: Arc::clone(&element), fact })
                .collect());
        }
        let mut places = Vec::with_capacity(operands.len());
        for operand in operands {
            places.push(self.place(name, operand)?);
        }
        self.nodes.push((name.to_owned(), operator, places));
        let first = self.results;
        self.results += results.len();
        let place = |(index, fact)| Value::Computed { place: Place::Result(first + index), fact };
        Ok(results.into_iter().enumerate().map(place).collect())
    }

    /// Where a value is; a constant becomes an array, a uniform value is repeated by a node.
    pub(super) fn place(&mut self, name: &str, value: &Value) -> Result<Place, String> {
        match value {
            Value::Computed { place, .. } => Ok(*place),
            Value::Constant(literal) => self.array(literal),
            Value::Uniform { element, fact } => {
                let element = Value::Constant(Arc::clone(element));
                let repeat = Operator::Broadcast { shape: fact.shape.clone() };
                let facts = repeat.results(&[&element.fact()])?;
                let place = self.place(name, &element)?;
                self.nodes.push((name.to_owned(), repeat, vec![place]));
                self.results += facts.len();
                Ok(Place::Result(self.results - 1))
            }
            Value::Unsupported(element) => Err(format!("a constant is {element}, which is not supported")),
        }
    }

    /// The plan and its arrays' bytes.
    pub(super) fn finish(
        self,
        symbols: Vec<String>,
        outputs: Vec<(String, Place)>,
    ) -> Result<(GraphPlan, Vec<Vec<u8>>), String> {
        let (inputs, arrays) = (self.inputs.len(), self.arrays.len());
        let number = |place: Place| -> Result<u32, String> {
            let index = match place {
                Place::Input(index) => index,
                Place::Array(index) => inputs + index,
                Place::Result(index) => inputs + arrays + index,
            };
            u32::try_from(index).map_err(|_| "the graph has too many values".to_owned())
        };
        let nodes = self.nodes.into_iter().map(|(name, operator, places)| {
            let inputs = places.into_iter().map(number).collect::<Result<_, _>>()?;
            Ok::<_, String>(Node { name, operator, inputs })
        });
        let nodes = nodes.collect::<Result<_, _>>()?;
        let outputs = outputs
            .into_iter()
            .map(|(name, place)| Ok::<_, String>(GraphOutput { name, value: number(place)? }));
        let outputs = outputs.collect::<Result<_, _>>()?;
        let (arrays, bytes) = self.arrays.into_iter().map(|(array, _, bytes)| (array, bytes)).unzip();
        let plan = GraphPlan::new(symbols, self.inputs, arrays, nodes, outputs);
        plan.facts().map_err(|error| error.to_string())?;
        Ok((plan, bytes))
    }

    fn array(&mut self, literal: &Arc<Literal>) -> Result<Place, String> {
        if let Some(index) = self.arrays.iter().position(|(_, have, _)| Arc::ptr_eq(have, literal)) {
            return Ok(Place::Array(index));
        }
        let bytes =
            literal.bytes().ok_or("integers that depend on the batch are used as numbers, not as a shape")?;
        let shape = literal.shape.iter().map(|&len| len as u64).collect();
        self.arrays.push((Array { datatype: literal.data.datatype(), shape }, Arc::clone(literal), bytes));
        Ok(Place::Array(self.arrays.len() - 1))
    }

    /// Moving the elements of a uniform value gives a uniform value.
    fn stays_uniform(&self, operator: &Operator, operands: &[&Value]) -> Option<Arc<Literal>> {
        let moves = matches!(
            operator,
            Operator::Transpose { .. }
                | Operator::Reshape { .. }
                | Operator::Broadcast { .. }
                | Operator::Slice { .. }
                | Operator::Concat { .. }
        );
        if !moves {
            return None;
        }
        let element = |value: &Value| match value {
            Value::Uniform { element, .. } => Some(Arc::clone(element)),
            Value::Constant(literal) => literal.repeated_element().map(Arc::new),
            _ => None,
        };
        // Constants alone are computed ahead where that is possible at all.
        operands.iter().find(|operand| matches!(operand, Value::Uniform { .. }))?;
        let first = element(operands.first()?)?;
        operands.iter().all(|operand| element(operand).is_some_and(|other| other == first)).then_some(first)
    }
}
