//! Operators of our own, as tract sees them.

use std::fmt::Debug;

use tract_core::internal::*;

/// A computation with its constants; shapes were settled when the plan was checked.
pub(super) trait Kernel: Debug + Send + Sync {
    /// The results for these operands, which have the shapes that the plan promised.
    fn run(&self, operands: &[TValue]) -> TractResult<TVec<TValue>>;
}

/// A [`Kernel`] wired into a tract model.
#[derive(Debug, Clone)]
pub(super) struct KernelOp {
    name: &'static str,
    kernel: Arc<dyn Kernel>,
    results: TVec<TypedFact>,
}

impl KernelOp {
    /// `kernel`, which gives `results`, called `name` in tract's messages.
    pub(super) fn new(name: &'static str, kernel: impl Kernel + 'static, results: TVec<TypedFact>) -> Self {
        Self { name, kernel: Arc::new(kernel), results }
    }
}

/// Two are equal when they share their constants: comparing weights would cost more than any rewriting could save.
impl PartialEq for KernelOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kernel, &other.kernel)
    }
}

impl Eq for KernelOp {}

impl Op for KernelOp {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    op_as_typed_op!();
}

impl EvalOp for KernelOp {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.kernel.run(&inputs)
    }
}

impl TypedOp for KernelOp {
    as_op!();

    fn output_facts(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.results.clone())
    }
}

/// The elements of an `f32` tensor.
pub(super) fn floats(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

/// An `f32` tensor of these elements.
pub(super) fn output(shape: &[usize], values: &[f32]) -> TractResult<TValue> {
    Ok(Tensor::from_shape(shape, values)?.into_tvalue())
}

/// Changes a copy of the first operand, in place.
pub(super) fn in_place(
    operands: &[TValue],
    change: impl FnOnce(&mut [f32], &[usize]) -> TractResult<()>,
) -> TractResult<TVec<TValue>> {
    let Some(operand) = operands.first() else { bail!("an operand is missing") };
    let shape: TVec<usize> = operand.shape().into();
    let mut tensor = Tensor::from_shape(&shape, floats(operand)?)?;
    change(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?, &shape)?;
    Ok(tvec!(tensor.into_tvalue()))
}
