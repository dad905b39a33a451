//! A checked plan, wired onto tract's operators.

use lockgate_package::Datatype;
use lockgate_package::plan::graph::{Binary, Bound, Dim, Fact, GraphPlan, Node, Operator, PoolKind, Window};
use tract_core::internal::*;
use tract_core::ops::array::{MultiBroadcastTo, Pad, PadMode, Slice, TypedConcat};
use tract_core::ops::cast::cast;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::math::{add, div, max, min, mul, sub};
use tract_core::ops::nn::DataFormat;

use super::kernel_op::KernelOp;
use super::kernels::{
    ArgKernel, DenseKernel, GatherKernel, PowKernel, ReduceKernel, SoftmaxKernel, UnaryKernel,
};
use super::recurrent::RecurrentKernel;

/// Where the bytes of the plan's arrays are.
pub(super) type ArrayBytes<'a> = &'a dyn Fn(usize) -> &'a [u8];

/// Why a plan cannot be wired: the node, and what tract or a kernel said.
#[derive(Debug)]
pub(super) struct WireError {
    pub(super) node: String,
    pub(super) problem: String,
}

/// The tract model of a plan whose facts are `facts`.
pub(super) fn wire<'a>(
    plan: &'a GraphPlan,
    facts: &'a [Fact],
    bytes: ArrayBytes<'a>,
) -> Result<TypedModel, WireError> {
    let mut wiring =
        Wiring { plan, facts, bytes, model: TypedModel::default(), symbols: Vec::new(), wires: Vec::new() };
    let whole = |error: TractError| WireError { node: String::new(), problem: chain(&error) };
    wiring.sources().map_err(whole)?;
    for (index, node) in plan.nodes.iter().enumerate() {
        let fail = |error: TractError| WireError { node: node.name.clone(), problem: chain(&error) };
        wiring.node(index, node).map_err(fail)?;
    }
    wiring.finish().map_err(whole)
}

/// An error and its causes in one line.
pub(super) fn chain(error: &TractError) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ")
}

struct Wiring<'a> {
    plan: &'a GraphPlan,
    facts: &'a [Fact],
    bytes: ArrayBytes<'a>,
    model: TypedModel,
    symbols: Vec<Symbol>,
    /// Where each value comes from; an array gets its place when the first operator of tract's own reads it.
    wires: Vec<Option<OutletId>>,
}

impl Wiring<'_> {
    fn sources(&mut self) -> TractResult<()> {
        self.symbols =
            (0..self.plan.symbols.len()).map(|index| self.model.sym(&format!("D{index}"))).collect();
        for (index, input) in self.plan.inputs.iter().enumerate() {
            let fact = self.fact(&input.fact)?;
            let wire = self.model.add_source(format!("input{index}"), fact)?;
            self.wires.push(Some(wire));
        }
        for (index, symbol) in self.plan.symbols.iter().enumerate() {
            let binds = |dim: &Dim| matches!(dim, Dim::Free { symbol, times: 1 } if usize::try_from(*symbol) == Ok(index));
            let bound = self.plan.inputs.iter().any(|input| input.fact.shape.iter().any(binds));
            // A plan without a free batch still names it.
            let used =
                self.facts.iter().flat_map(|fact| &fact.shape).any(
                    |dim| matches!(dim, Dim::Free { symbol, .. } if usize::try_from(*symbol) == Ok(index)),
                );
            ensure!(bound || !used, "no input tells the length of the free dimension `{symbol}`");
        }
        self.wires.resize(self.wires.len() + self.plan.arrays.len(), None);
        Ok(())
    }

    fn node(&mut self, index: usize, node: &Node) -> TractResult<()> {
        let first = self.wires.len();
        let operands: Vec<Fact> =
            node.inputs.iter().map(|&value| self.value_fact(value).cloned()).collect::<TractResult<_>>()?;
        let borrowed: Vec<&Fact> = operands.iter().collect();
        let results = node.operator.results(&borrowed).map_err(|problem| format_err!("{problem}"))?;
        let label = format!("node{index}");
        let outlets = self.operator(&label, node, &operands, &results)?;
        ensure!(
            outlets.len() == results.len(),
            "expected {} results, tract gives {}",
            results.len(),
            outlets.len()
        );
        for (fact, &outlet) in results.iter().zip(&outlets) {
            let (want, have) = (self.fact(fact)?, self.model.outlet_fact(outlet)?);
            let same = want.datum_type == have.datum_type
                && want.rank() == have.rank()
                && want
                    .shape
                    .iter()
                    .zip(have.shape.iter())
                    .all(|(a, b)| (a.clone() - b).simplify() == 0.to_dim());
            ensure!(same, "expected {want:?}, tract gives {have:?}");
        }
        self.wires.extend(outlets.into_iter().map(Some));
        ensure!(
            self.wires.len() <= self.facts.len() && first <= self.wires.len(),
            "more results than the plan has values"
        );
        Ok(())
    }

    fn finish(mut self) -> TractResult<TypedModel> {
        let outputs = self
            .plan
            .outputs
            .iter()
            .map(|output| self.wire(output.value))
            .collect::<TractResult<Vec<_>>>()?;
        self.model.select_output_outlets(&outputs)?;
        Ok(self.model)
    }

    fn operator(
        &mut self,
        label: &str,
        node: &Node,
        operands: &[Fact],
        results: &[Fact],
    ) -> TractResult<TVec<OutletId>> {
        let result = results.first();
        match &node.operator {
            Operator::Recurrent(layer) => {
                let inputs = fixed_last(operands.first())?;
                let (weights, recurrent, bias) =
                    (self.floats(node, 1)?, self.floats(node, 2)?, self.floats(node, 3)?);
                let kernel = RecurrentKernel::new(layer, inputs, &weights, &recurrent, &bias)?;
                let mut wires = tvec!(self.operand(node, 0)?);
                for position in 4..node.inputs.len() {
                    wires.push(self.operand(node, position)?);
                }
                self.kernel(label, node.operator.name(), kernel, &wires, results)
            }
            Operator::Dense => {
                let (inputs, outputs) = (fixed_last(operands.first())?, fixed_last(operands.get(1))?);
                let weights = self.floats(node, 1)?;
                let bias = if node.inputs.len() > 2 { Some(self.floats(node, 2)?) } else { None };
                let kernel = DenseKernel::new(inputs, outputs, &weights, bias.as_deref())?;
                let x = self.operand(node, 0)?;
                self.kernel(label, "Dense", kernel, &[x], results)
            }
            Operator::MatMul => self.mat_mul(label, node, operands, results),
            Operator::Conv { window, group } => self.conv(label, node, operands, window, *group),
            Operator::Pool { window, kind } => {
                let channels = operands.first().and_then(|fact| fact.shape.get(1)?.fixed());
                let channels = usize::try_from(channels.unwrap_or(0))?;
                let pool_spec = pool_spec(window, channels, channels)?;
                let x = self.operand(node, 0)?;
                match *kind {
                    PoolKind::Max => {
                        self.model.wire_node(label, MaxPool { pool_spec, with_index_outputs: None }, &[x])
                    }
                    PoolKind::Average { count_include_pad } => self.model.wire_node(
                        label,
                        SumPool { pool_spec, count_include_pad, normalize: true },
                        &[x],
                    ),
                }
            }
            Operator::Unary(function) => {
                let x = self.operand(node, 0)?;
                self.kernel(label, "Unary", UnaryKernel(*function), &[x], results)
            }
            Operator::Binary(function) => self.binary(label, node, *function, results),
            Operator::Cast { to } => {
                let x = self.operand(node, 0)?;
                self.model.wire_node(label, cast(datum_type(*to)?), &[x])
            }
            Operator::Softmax { axis, log } => {
                let kernel = SoftmaxKernel { axis: usize::try_from(*axis)?, log: *log };
                let x = self.operand(node, 0)?;
                self.kernel(label, "Softmax", kernel, &[x], results)
            }
            Operator::Reduce { kind, axes, keep } => {
                let axes = axes.iter().map(|&axis| usize::try_from(axis)).collect::<Result<_, _>>()?;
                let kernel = ReduceKernel { kind: *kind, axes, keep: *keep };
                let x = self.operand(node, 0)?;
                self.kernel(label, "Reduce", kernel, &[x], results)
            }
            Operator::ArgExtreme { axis, keep, largest, last } => {
                let kernel =
                    ArgKernel { axis: usize::try_from(*axis)?, keep: *keep, largest: *largest, last: *last };
                let x = self.operand(node, 0)?;
                self.kernel(label, "ArgExtreme", kernel, &[x], results)
            }
            Operator::Transpose { permutation } => {
                let permutation: Vec<usize> =
                    permutation.iter().map(|&axis| usize::try_from(axis)).collect::<Result<_, _>>()?;
                let x = self.operand(node, 0)?;
                self.axis_ops(label, perm_to_ops(&permutation).into_iter(), x)
            }
            Operator::Reshape { shape } => self.reshape(label, node, operands, shape),
            Operator::Broadcast { shape } => {
                let x = self.operand(node, 0)?;
                let x = self.broadcast(label, x, shape)?;
                Ok(tvec!(x))
            }
            Operator::Concat { axis } => {
                let wires: TVec<OutletId> = (0..node.inputs.len())
                    .map(|position| self.operand(node, position))
                    .collect::<TractResult<_>>()?;
                self.model.wire_node(label, TypedConcat::new(usize::try_from(*axis)?), &wires)
            }
            Operator::Slice { axis, start, end } => {
                let axis = usize::try_from(*axis)?;
                let len = operands.first().and_then(|fact| fact.shape.get(axis)).copied();
                let len = self.dim(len.unwrap_or(Dim::Fixed(0)))?;
                let x = self.operand(node, 0)?;
                let place = |bound: &Bound| -> TractResult<TDim> {
                    Ok(match bound {
                        Bound::FromStart(at) => i64::try_from(*at)?.to_dim(),
                        Bound::FromEnd(back) => len.clone() - i64::try_from(*back)?,
                    })
                };
                let slice = Slice { axis, start: place(start)?, end: place(end)? };
                self.model.wire_node(label, slice, &[x])
            }
            Operator::Gather { axis } => {
                let kernel = GatherKernel { axis: usize::try_from(*axis)? };
                let wires = [self.operand(node, 0)?, self.operand(node, 1)?];
                self.kernel(label, "Gather", kernel, &wires, results)
            }
            Operator::Pad { pads, value } => {
                ensure!(result.is_some(), "a pad without result");
                let pads = pads.iter().map(|&(a, b)| Ok((usize::try_from(a)?, usize::try_from(b)?)));
                let pad = Pad {
                    pads: pads.collect::<TractResult<_>>()?,
                    mode: PadMode::Constant(rctensor0(*value)),
                };
                let x = self.operand(node, 0)?;
                self.model.wire_node(label, pad, &[x])
            }
        }
    }

    fn kernel(
        &mut self,
        label: &str,
        name: &'static str,
        kernel: impl super::kernel_op::Kernel + 'static,
        wires: &[OutletId],
        results: &[Fact],
    ) -> TractResult<TVec<OutletId>> {
        let results = results.iter().map(|fact| self.fact(fact)).collect::<TractResult<_>>()?;
        self.model.wire_node(label, KernelOp::new(name, kernel, results), wires)
    }

    fn mat_mul(
        &mut self,
        label: &str,
        node: &Node,
        operands: &[Fact],
        results: &[Fact],
    ) -> TractResult<TVec<OutletId>> {
        let Some(batch) = results
            .first()
            .and_then(|fact| fact.shape.split_last_chunk::<2>())
            .map(|(batch, _)| batch.to_vec())
        else {
            bail!("a product without matrices")
        };
        let mut wires = tvec!();
        for (position, fact) in operands.iter().enumerate() {
            let wire = self.operand(node, position)?;
            let matrix = fact.shape.split_last_chunk::<2>().map_or(&[][..], |(_, matrix)| matrix);
            let shape = [batch.as_slice(), matrix].concat();
            wires.push(self.broadcast(&format!("{label}.{position}"), wire, &shape)?);
        }
        let axes = AxesMapping::for_numpy_matmul(batch.len() + 2, false, false, false)?;
        self.model.wire_node(label, EinSum::new(axes, f32::datum_type()), &wires)
    }

    fn conv(
        &mut self,
        label: &str,
        node: &Node,
        operands: &[Fact],
        window: &Window,
        group: u64,
    ) -> TractResult<TVec<OutletId>> {
        let channels = |fact: Option<&Fact>, axis: usize| -> TractResult<usize> {
            let dim = fact.and_then(|fact| fact.shape.get(axis)).and_then(|dim| dim.fixed());
            Ok(usize::try_from(dim.unwrap_or(0))?)
        };
        let (inputs, outputs) = (channels(operands.first(), 1)?, channels(operands.get(1), 0)?);
        let (x, kernel) = (self.operand(node, 0)?, self.operand(node, 1)?);
        let bias = if node.inputs.len() > 2 {
            self.operand(node, 2)?
        } else {
            self.model.add_const(format!("{label}.bias"), Tensor::zero::<f32>(&[outputs])?)?
        };
        let conv = Conv {
            pool_spec: pool_spec(window, inputs, outputs)?,
            kernel_fmt: KernelFormat::OIHW,
            group: usize::try_from(group)?,
            q_params: None,
        };
        self.model.wire_node(label, conv, &[x, kernel, bias])
    }

    fn binary(
        &mut self,
        label: &str,
        node: &Node,
        function: Binary,
        results: &[Fact],
    ) -> TractResult<TVec<OutletId>> {
        let wires = [self.operand(node, 0)?, self.operand(node, 1)?];
        let operator = match function {
            Binary::Add => add(),
            Binary::Sub => sub(),
            Binary::Mul => mul(),
            Binary::Div => div(),
            Binary::Max => max(),
            Binary::Min => min(),
            Binary::Pow => {
                let shape = results.first().map(|fact| fact.shape.clone()).unwrap_or_default();
                let base = self.broadcast(&format!("{label}.base"), wires[0], &shape)?;
                let exponent = self.broadcast(&format!("{label}.exponent"), wires[1], &shape)?;
                return self.kernel(label, "Pow", PowKernel, &[base, exponent], results);
            }
        };
        wire_with_rank_broadcast(label, &mut self.model, operator, &wires)
    }

    fn broadcast(&mut self, label: &str, mut wire: OutletId, shape: &[Dim]) -> TractResult<OutletId> {
        let shape = self.shape(shape)?;
        for added in self.model.outlet_fact(wire)?.rank()..shape.len() {
            wire = self.model.wire_node(format!("{label}.axis{added}"), AxisOp::Add(0), &[wire])?[0];
        }
        if *self.model.outlet_fact(wire)?.shape == *shape {
            return Ok(wire);
        }
        let shape = ShapeFact::from_dims(shape);
        Ok(self.model.wire_node(format!("{label}.broadcast"), MultiBroadcastTo { shape }, &[wire])?[0])
    }

    fn reshape(
        &mut self,
        label: &str,
        node: &Node,
        operands: &[Fact],
        shape: &[Dim],
    ) -> TractResult<TVec<OutletId>> {
        let from = operands.first().map(|fact| fact.shape.clone()).unwrap_or_default();
        let wire = self.operand(node, 0)?;
        let one = Dim::Fixed(1);
        if from.iter().filter(|dim| **dim != one).eq(shape.iter().filter(|dim| **dim != one)) {
            // Only axes of length 1 come and go, which tract can move past its operators.
            let gone = from
                .iter()
                .enumerate()
                .rev()
                .filter(|(_, dim)| **dim == one)
                .map(|(axis, _)| AxisOp::Rm(axis));
            let new =
                shape.iter().enumerate().filter(|(_, dim)| **dim == one).map(|(axis, _)| AxisOp::Add(axis));
            return self.axis_ops(label, gone.chain(new), wire);
        }
        let operation = AxisOp::Reshape(0, self.shape(&from)?, self.shape(shape)?);
        self.model.wire_node(label, operation, &[wire])
    }

    fn axis_ops(
        &mut self,
        label: &str,
        operations: impl Iterator<Item = AxisOp>,
        mut wire: OutletId,
    ) -> TractResult<TVec<OutletId>> {
        for (step, operation) in operations.enumerate() {
            wire = self.model.wire_node(format!("{label}.{step}"), operation, &[wire])?[0];
        }
        Ok(tvec!(wire))
    }

    fn operand(&mut self, node: &Node, position: usize) -> TractResult<OutletId> {
        let Some(&value) = node.inputs.get(position) else { bail!("operand {position} is missing") };
        self.wire(value)
    }

    /// Where a value comes from; wires an array's constant when it is asked for the first time.
    fn wire(&mut self, value: u32) -> TractResult<OutletId> {
        let index = usize::try_from(value)?;
        if let Some(&Some(wire)) = self.wires.get(index) {
            return Ok(wire);
        }
        let tensor = self.array(value)?;
        let wire = self.model.add_const(format!("array{index}"), tensor)?;
        if let Some(place) = self.wires.get_mut(index) {
            *place = Some(wire);
        }
        Ok(wire)
    }

    fn array(&self, value: u32) -> TractResult<Tensor> {
        let Some(index) = self.plan.array_index(value) else { bail!("value {value} is no array") };
        let Some(array) = self.plan.arrays.get(index) else { bail!("array {index} is missing") };
        let shape = array.shape.iter().map(|&len| usize::try_from(len)).collect::<Result<TVec<_>, _>>()?;
        tensor(array.datatype, &shape, (self.bytes)(index))
    }

    fn floats(&self, node: &Node, position: usize) -> TractResult<Vec<f32>> {
        let Some(index) = node.inputs.get(position).and_then(|&value| self.plan.array_index(value)) else {
            bail!("operand {position} is no array")
        };
        let (chunks, rest) = (self.bytes)(index).as_chunks::<4>();
        ensure!(rest.is_empty(), "array {index} is cut off");
        Ok(chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn value_fact(&self, value: u32) -> TractResult<&Fact> {
        match usize::try_from(value).ok().and_then(|value| self.facts.get(value)) {
            Some(fact) => Ok(fact),
            None => bail!("value {value} does not exist"),
        }
    }

    fn fact(&self, fact: &Fact) -> TractResult<TypedFact> {
        Ok(datum_type(fact.datatype)?.fact(self.shape(&fact.shape)?))
    }

    fn shape(&self, shape: &[Dim]) -> TractResult<TVec<TDim>> {
        shape.iter().map(|&dim| self.dim(dim)).collect()
    }

    fn dim(&self, dim: Dim) -> TractResult<TDim> {
        match dim {
            Dim::Fixed(len) => Ok(i64::try_from(len)?.to_dim()),
            Dim::Free { symbol, times } => {
                let Some(symbol) = self.symbols.get(usize::try_from(symbol)?) else {
                    bail!("unknown free dimension")
                };
                Ok(symbol.to_dim() * i64::try_from(times)?)
            }
        }
    }
}

/// A tensor of these little-endian elements.
pub(super) fn tensor(datatype: Datatype, shape: &[usize], bytes: &[u8]) -> TractResult<Tensor> {
    if datatype == Datatype::Bool {
        let values: Vec<bool> = bytes.iter().map(|&byte| byte != 0).collect();
        return Tensor::from_shape(shape, &values);
    }
    let mut tensor = Tensor::zero_dt(datum_type(datatype)?, shape)?;
    let target = tensor.as_bytes_mut();
    ensure!(target.len() == bytes.len(), "{} bytes do not fill {datatype} {shape:?}", bytes.len());
    target.copy_from_slice(bytes);
    Ok(tensor)
}

fn datum_type(datatype: Datatype) -> TractResult<DatumType> {
    Ok(match datatype {
        Datatype::Bool => DatumType::Bool,
        Datatype::Uint8 => DatumType::U8,
        Datatype::Uint16 => DatumType::U16,
        Datatype::Uint32 => DatumType::U32,
        Datatype::Uint64 => DatumType::U64,
        Datatype::Int8 => DatumType::I8,
        Datatype::Int16 => DatumType::I16,
        Datatype::Int32 => DatumType::I32,
        Datatype::Int64 => DatumType::I64,
        Datatype::Fp32 => DatumType::F32,
        Datatype::Fp64 => DatumType::F64,
        Datatype::Fp16 | Datatype::Bytes => bail!("{datatype} is no datatype of the graph engine"),
    })
}

fn pool_spec(window: &Window, input_channels: usize, output_channels: usize) -> TractResult<PoolSpec> {
    let lengths = |values: &[u64]| -> TractResult<TVec<usize>> {
        values.iter().map(|&value| Ok(usize::try_from(value)?)).collect()
    };
    let before: Vec<u64> = window.pads.iter().map(|&(before, _)| before).collect();
    let behind: Vec<u64> = window.pads.iter().map(|&(_, behind)| behind).collect();
    Ok(PoolSpec {
        data_format: DataFormat::NCHW,
        kernel_shape: lengths(&window.kernel)?,
        padding: PaddingSpec::Explicit(lengths(&before)?, lengths(&behind)?),
        dilations: Some(lengths(&window.dilations)?),
        strides: Some(lengths(&window.strides)?),
        input_channels,
        output_channels,
    })
}

fn fixed_last(fact: Option<&Fact>) -> TractResult<usize> {
    let dim = fact.and_then(|fact| fact.shape.last()).and_then(|dim| dim.fixed());
    match dim {
        Some(len) => Ok(usize::try_from(len)?),
        None => bail!("the last axis is free"),
    }
}
