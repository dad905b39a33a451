//! Convolutions, pools and other windows that move over axes.
//!
//! A window is walked in row-major order. A convolution's sums start with the bias and run over the channels of the group, within a
//! channel over the window; padding counts as zeros. The sums of pools leave padding out.

use lockgate_onnx_ml::math::Float;

use super::product::number::{Number, Width, float, wide, width};
use super::product::panels::{Matrix, Panels};
use super::product::{operations, quantized, size};
use crate::operator::{ai, optional, required};
use crate::shape::{elements, strides};
use crate::{Attributes, Build, Kernel, Kind, Meter, Operator, Problem, Tensor};

pub(super) const TABLE: &[Operator] = &[
    ai(
        "AveragePool",
        7,
        &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"],
        average_pool,
    ),
    ai("Conv", 1, &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"], conv),
    ai(
        "ConvInteger",
        10,
        &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"],
        conv_integer,
    ),
    ai(
        "ConvTranspose",
        1,
        &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
        conv_transpose,
    ),
    ai(
        "DeformConv",
        19,
        &["dilations", "group", "kernel_shape", "offset_group", "pads", "strides"],
        deform_conv,
    ),
    ai("GlobalAveragePool", 1, &[], global_average_pool),
    ai("GlobalLpPool", 2, &["p"], global_lp_pool),
    ai("GlobalMaxPool", 1, &[], global_max_pool),
    ai("LpPool", 2, &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "p", "pads", "strides"], lp_pool),
    ai(
        "MaxPool",
        1,
        &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"],
        max_pool,
    ),
    ai("MaxUnpool", 9, &["kernel_shape", "pads", "strides"], max_unpool),
    ai(
        "QLinearConv",
        10,
        &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"],
        quantized_conv,
    ),
];

/// Windows whose products are computed together.
const BLOCK: usize = 32;

/// How the padding is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    Explicit,
    Valid,
    /// As much as keeps the length, the odd one behind or in front.
    SameUpper,
    SameLower,
}

/// What the attributes say about windows. Lists that are not there are empty.
#[derive(Debug)]
struct Geometry {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
    padding: Padding,
    ceil: bool,
}

/// Windows along one axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
}

/// The part of a window that lies on the input, along one axis.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    kernel: usize,
    input: usize,
    count: usize,
    /// As many elements of the window lie on the input or its padding.
    padded: usize,
}

/// Elements of a window that follow each other along the last axis: their first places in the window and in the input.
#[derive(Debug, Clone, Copy)]
struct Run {
    kernel: usize,
    input: usize,
    count: usize,
}

/// One position of a window.
struct Window<'w> {
    number: usize,
    runs: &'w [Run],
    /// How many elements of it lie on the input or its padding.
    padded: usize,
}

/// Writes the elements of a window of a row and group, `[channel, kernel]`, into zeros.
type Fill<'f, T> = dyn FnMut(usize, usize, &Window<'_>, &mut [T]) + 'f;

/// All positions of a window over the spatial axes.
#[derive(Debug)]
struct Places {
    axes: Vec<Axis>,
    /// How far apart elements of a run lie in the input.
    step: usize,
}

impl Geometry {
    fn new(attributes: &Attributes<'_>) -> Result<Self, Problem> {
        let padding = match attributes.text_or("auto_pad", "NOTSET")? {
            "NOTSET" | "" => Padding::Explicit,
            "VALID" => Padding::Valid,
            "SAME_UPPER" => Padding::SameUpper,
            "SAME_LOWER" => Padding::SameLower,
            other => {
                let hint = "use NOTSET, VALID, SAME_UPPER or SAME_LOWER";
                return Err(Problem::attribute("auto_pad", format!("`{other}` is unknown"), hint));
            }
        };
        let pads = lengths(attributes, "pads", 0)?;
        if padding != Padding::Explicit && pads.iter().any(|&pad| pad > 0) {
            let message = "there is padding beside `auto_pad`";
            return Err(Problem::attribute("pads", message, "give one or the other"));
        }
        Ok(Self {
            kernel: lengths(attributes, "kernel_shape", 1)?,
            strides: lengths(attributes, "strides", 1)?,
            dilations: lengths(attributes, "dilations", 1)?,
            pads,
            padding,
            ceil: false,
        })
    }

    /// Windows of a pool, which must have a shape.
    fn of_pool(attributes: &Attributes<'_>) -> Result<Self, Problem> {
        let geometry = Self { ceil: attributes.flag("ceil_mode", false)?, ..Self::new(attributes)? };
        if geometry.kernel.is_empty() {
            return Err(Problem::attribute("kernel_shape", "it is missing", "export the model again"));
        }
        Ok(geometry)
    }

    /// The windows of weights `[_, _, kernel…]` over `[row, channel, spatial…]`.
    fn over_weights(&self, x: &[usize], w: &[usize]) -> Result<Places, Problem> {
        let kernel = w.get(2..).unwrap_or_default();
        if x.len() != w.len() || !self.kernel.is_empty() && self.kernel != kernel {
            return Err(Problem::invalid(format!(
                "weights of the shape {w:?} do not fit an input of {x:?} and the kernel {:?}",
                self.kernel
            )));
        }
        self.over(x, kernel)
    }

    /// The windows of a kernel over `[row, channel, spatial…]`.
    fn over(&self, x: &[usize], kernel: &[usize]) -> Result<Places, Problem> {
        let axes = self.axes(x, kernel)?;
        let axes =
            axes.into_iter().map(|axis| axis.placed(self.padding, self.ceil)).collect::<Result<_, _>>()?;
        Ok(Places::new(axes))
    }

    /// The axes with explicit padding and without an output yet.
    fn axes(&self, x: &[usize], kernel: &[usize]) -> Result<Vec<Axis>, Problem> {
        let [_, _, spatial @ ..] = x else { return Err(no_axes(x)) };
        let rank = spatial.len();
        let fits = |list: &[usize], len: usize| list.is_empty() || list.len() == len;
        if rank == 0 {
            return Err(no_axes(x));
        }
        if kernel.len() != rank
            || !fits(&self.strides, rank)
            || !fits(&self.dilations, rank)
            || !fits(&self.pads, 2 * rank)
        {
            return Err(Problem::invalid(format!(
                "kernel {kernel:?}, strides {:?}, dilations {:?} or pads {:?} do not fit an input of the shape {x:?}",
                self.strides, self.dilations, self.pads
            )));
        }
        let of = |list: &[usize], index: usize, default: usize| list.get(index).copied().unwrap_or(default);
        let axes = spatial.iter().zip(kernel).enumerate();
        Ok(axes
            .map(|(index, (&input, &kernel))| Axis {
                input,
                output: 0,
                kernel,
                stride: of(&self.strides, index, 1),
                dilation: of(&self.dilations, index, 1),
                before: of(&self.pads, index, 0),
                after: of(&self.pads, rank + index, 0),
            })
            .collect())
    }
}

/// A bias has an element for each channel.
fn check_bias<T>(bias: Option<&[T]>, channels: usize) -> Result<(), Problem> {
    match bias {
        Some(bias) if bias.len() != channels => Err(Problem::invalid(format!(
            "a bias of {} elements does not fit {channels} channels",
            bias.len()
        ))),
        _ => Ok(()),
    }
}

fn no_axes(x: &[usize]) -> Problem {
    Problem::invalid(format!("expected rows, channels and at least one more axis, the shape is {x:?}"))
}

/// A list of integers that are not below `least`; empty if it is not there.
fn lengths(attributes: &Attributes<'_>, name: &str, least: i64) -> Result<Vec<usize>, Problem> {
    let all = attributes.ints(name)?.unwrap_or_default().iter();
    // What packages a model has wider words than what runs it.
    let fits = |value: i64| u32::try_from(value).ok().and_then(|value| usize::try_from(value).ok());
    let all = all.map(|&value| fits(value).filter(|_| value >= least));
    all.collect::<Option<_>>().ok_or_else(|| {
        let message = format!("a value is not from {least} to {}", u32::MAX);
        Problem::attribute(name, message, "export the model with valid lengths")
    })
}

fn group(attributes: &Attributes<'_>, name: &str) -> Result<usize, Problem> {
    let group = usize::try_from(attributes.int_or(name, 1)?).unwrap_or(0);
    if group == 0 {
        return Err(Problem::attribute(name, "it must be positive", "use 1 for a plain convolution"));
    }
    Ok(group)
}

impl Axis {
    /// The elements from the first to the last of a window.
    fn extent(&self) -> usize {
        self.dilation.saturating_mul(self.kernel.saturating_sub(1)).saturating_add(1)
    }

    /// The same axis with its padding and the number of windows.
    fn placed(mut self, padding: Padding, ceil: bool) -> Result<Self, Problem> {
        let extent = self.extent();
        if matches!(padding, Padding::SameUpper | Padding::SameLower) {
            self.output = self.input.div_ceil(self.stride);
            let reach = self.output.saturating_sub(1).saturating_mul(self.stride).saturating_add(extent);
            self.pad(reach.saturating_sub(self.input), padding);
            return Ok(self);
        }
        let whole = self.input.saturating_add(self.before).saturating_add(self.after);
        let Some(room) = whole.checked_sub(extent) else {
            return Err(Problem::invalid(format!(
                "a window of {extent} elements does not fit an axis of {} with {} elements of padding",
                self.input,
                self.before.saturating_add(self.after)
            )));
        };
        self.output = (room / self.stride).saturating_add(1);
        // The last window of those that are not full must not begin in the padding behind.
        if ceil
            && room % self.stride != 0
            && self.output.saturating_mul(self.stride) < self.input.saturating_add(self.before)
        {
            self.output = self.output.saturating_add(1);
        }
        Ok(self)
    }

    /// Splits padding; the odd one goes behind for `SameUpper`, else in front.
    fn pad(&mut self, total: usize, padding: Padding) {
        self.before = if padding == Padding::SameUpper { total / 2 } else { total - total / 2 };
        self.after = total - self.before;
    }

    fn span(&self, window: usize) -> Span {
        let start = window.saturating_mul(self.stride);
        let kernel = self.before.saturating_sub(start).div_ceil(self.dilation);
        let input = start.saturating_add(kernel.saturating_mul(self.dilation)).saturating_sub(self.before);
        let within = |from: usize, to: usize| to.saturating_sub(from).div_ceil(self.dilation);
        let whole = self.input.saturating_add(self.before).saturating_add(self.after);
        Span {
            kernel,
            input,
            count: within(input, self.input).min(self.kernel.saturating_sub(kernel)),
            padded: within(start, whole).min(self.kernel),
        }
    }
}

impl Places {
    fn new(axes: Vec<Axis>) -> Self {
        let step = axes.last().map_or(1, |axis| axis.dilation);
        Self { axes, step }
    }

    fn outputs(&self) -> impl Iterator<Item = usize> {
        self.axes.iter().map(|axis| axis.output)
    }

    /// The number of elements in a window.
    fn kernel(&self) -> usize {
        size(self.axes.iter().map(|axis| axis.kernel))
    }

    /// Whether some window has no element of the input.
    fn some_empty(&self) -> bool {
        self.axes.iter().any(|axis| (0..axis.output).any(|window| axis.span(window).count == 0))
    }

    /// Visits every window in row-major order.
    fn each(&self, visit: &mut dyn FnMut(&Window<'_>)) {
        let windows = self.positions();
        let input_strides = strides(&self.axes.iter().map(|axis| axis.input).collect::<Vec<_>>());
        let kernel_strides = strides(&self.axes.iter().map(|axis| axis.kernel).collect::<Vec<_>>());
        let mut index = vec![0_usize; self.axes.len()];
        let mut spans: Vec<Span> = self.axes.iter().map(|axis| axis.span(0)).collect();
        let mut runs = Vec::new();
        for number in 0..windows {
            runs.clear();
            if spans.iter().all(|span| span.count > 0) {
                self.find_runs(&spans, &kernel_strides, &input_strides, (0, 0), &mut runs);
            }
            let padded = spans.iter().map(|span| span.padded).fold(1, usize::saturating_mul);
            visit(&Window { number, runs: &runs, padded });
            for ((axis, index), span) in self.axes.iter().zip(&mut index).zip(&mut spans).rev() {
                *index += 1;
                if *index < axis.output {
                    *span = axis.span(*index);
                    break;
                }
                *index = 0;
                *span = axis.span(0);
            }
        }
    }

    fn find_runs(
        &self,
        spans: &[Span],
        kernel_strides: &[usize],
        input_strides: &[usize],
        (kernel, input): (usize, usize),
        runs: &mut Vec<Run>,
    ) {
        let depth = self.axes.len() - spans.len();
        let (Some((span, inner)), Some(axis)) = (spans.split_first(), self.axes.get(depth)) else { return };
        if inner.is_empty() {
            runs.push(Run { kernel: kernel + span.kernel, input: input + span.input, count: span.count });
            return;
        }
        let kernel_stride = kernel_strides.get(depth).copied().unwrap_or(0);
        let input_stride = input_strides.get(depth).copied().unwrap_or(0);
        for at in 0..span.count {
            let kernel = kernel + (span.kernel + at) * kernel_stride;
            let input = input + (span.input + at * axis.dilation) * input_stride;
            self.find_runs(inner, kernel_strides, input_strides, (kernel, input), runs);
        }
    }

    /// The elements of a window in one plane of the input, with their places.
    fn elements<'p, T: Copy>(
        &'p self,
        window: &'p Window<'_>,
        plane: &'p [T],
    ) -> impl Iterator<Item = (usize, T)> + 'p {
        window.runs.iter().flat_map(move |run| {
            let places = (run.input..).step_by(self.step).take(run.count);
            places.filter_map(|place| Some((place, *plane.get(place)?)))
        })
    }
}

/// The lengths of a convolution.
struct Shapes {
    rows: usize,
    groups: usize,
    /// Channels per group.
    channels: usize,
    /// Results per group.
    outputs: usize,
    /// Elements of a channel of the input.
    plane: usize,
    windows: usize,
    /// Elements of a channel of a window.
    kernel: usize,
}

impl Shapes {
    /// Of weights `[output, channel in its group, kernel…]`.
    fn new(x: &[usize], w: &[usize], groups: usize, places: &Places) -> Result<Self, Problem> {
        match (x, w) {
            (&[rows, channels, ref spatial @ ..], &[outputs, within, ..])
                if within.checked_mul(groups) == Some(channels) && outputs % groups == 0 =>
            {
                Ok(Self {
                    rows,
                    groups,
                    channels: within,
                    outputs: outputs / groups,
                    plane: size(spatial.iter().copied()),
                    windows: places.positions(),
                    kernel: places.kernel(),
                })
            }
            _ => Err(Problem::invalid(format!(
                "weights of the shape {w:?} do not fit an input of {x:?} in {groups} groups"
            ))),
        }
    }

    fn inner(&self) -> usize {
        self.channels.saturating_mul(self.kernel)
    }

    fn shape(&self, places: &Places) -> Vec<usize> {
        [self.rows, self.groups * self.outputs].into_iter().chain(places.outputs()).collect()
    }

    /// One matrix per group of weights `[output, channel in its group, kernel…]`.
    fn panels<T: Number>(w: &[T], groups: usize, outputs: usize, inner: usize) -> Vec<Panels<T>> {
        let part = outputs.saturating_mul(inner).max(1);
        let mut parts: Vec<_> =
            w.chunks_exact(part).map(|part| Panels::new(Matrix::by_columns(part, inner, outputs))).collect();
        parts.truncate(groups);
        parts
    }

    /// The products of windows with the weights.
    fn convolve<T: Number>(
        &self,
        places: &Places,
        panels: &[Panels<T>],
        bias: Option<&[T]>,
        fill: &mut Fill<'_, T>,
        meter: &mut Meter,
    ) -> Result<Vec<T>, Problem> {
        let inner = self.inner();
        let count = meter.room(&self.shape(places), size_of::<T>())?;
        meter.room(&[BLOCK, inner.saturating_add(self.outputs)], size_of::<T>())?;
        meter.work(operations(&[count, inner]))?;
        meter.work(operations(&[self.rows, self.groups, self.windows, 16]))?;
        let all = self.groups.saturating_mul(self.outputs);
        check_bias(bias, all)?;
        let mut y = vec![T::default(); count];
        if count == 0 {
            return Ok(y);
        }
        let none = vec![T::default(); all];
        let bias = bias.unwrap_or(&none);
        let mut block = vec![T::default(); BLOCK.min(self.windows) * inner];
        let mut sums = vec![T::default(); BLOCK.min(self.windows) * self.outputs];
        let results = y.chunks_exact_mut(self.outputs * self.windows);
        for (part, y) in results.enumerate() {
            let (row, group) = (part / self.groups, part % self.groups);
            let bias =
                bias.get(group * self.outputs..).and_then(|bias| bias.get(..self.outputs)).unwrap_or(&[]);
            let mut filled = 0;
            places.each(&mut |window| {
                if let Some(elements) =
                    block.get_mut(filled * inner..).and_then(|block| block.get_mut(..inner))
                {
                    elements.fill(T::default());
                    fill(row, group, window, elements);
                }
                filled += 1;
                if filled < BLOCK && window.number + 1 < self.windows {
                    return;
                }
                for sums in sums.chunks_exact_mut(self.outputs) {
                    sums.copy_from_slice(bias);
                }
                if let Some(panels) = panels.get(group).filter(|_| inner > 0) {
                    panels.add_products(block.chunks_exact(inner).take(filled), &mut sums, self.outputs);
                }
                let first = window.number + 1 - filled;
                for (channel, y) in y.chunks_exact_mut(self.windows).enumerate() {
                    let sums = sums.iter().skip(channel).step_by(self.outputs).take(filled);
                    for (y, &sum) in y.iter_mut().skip(first).zip(sums) {
                        *y = sum;
                    }
                }
                filled = 0;
            });
        }
        Ok(y)
    }

    /// The channels of one row and group.
    fn channels<'x, T>(&self, x: &'x [T], row: usize, group: usize) -> impl Iterator<Item = &'x [T]> {
        let first = (row * self.groups + group) * self.channels;
        let part = x.get(first * self.plane..).unwrap_or_default();
        part.chunks_exact(self.plane.max(1)).take(self.channels)
    }

    fn convolve_plainly<T: Number>(
        &self,
        places: &Places,
        x: &[T],
        panels: &[Panels<T>],
        bias: Option<&[T]>,
        meter: &mut Meter,
    ) -> Result<Vec<T>, Problem> {
        let mut fill = |row: usize, group: usize, window: &Window<'_>, elements: &mut [T]| {
            let channels = self.channels(x, row, group).zip(elements.chunks_exact_mut(self.kernel.max(1)));
            for (plane, elements) in channels {
                for run in window.runs {
                    let from = plane.get(run.input..).unwrap_or_default();
                    let Some(to) = elements.get_mut(run.kernel..run.kernel + run.count) else { continue };
                    if places.step == 1 {
                        for (to, &from) in to.iter_mut().zip(from) {
                            *to = from;
                        }
                    } else {
                        for (to, &from) in to.iter_mut().zip(from.iter().step_by(places.step)) {
                            *to = from;
                        }
                    }
                }
            }
        };
        self.convolve(places, panels, bias, &mut fill, meter)
    }
}

fn conv(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::new(&build.attributes)?;
    let groups = group(&build.attributes, "group")?;
    let prepared = match build.constant(1) {
        Some(w) if width(w.kind()) == Width::Single => weights::<f32>(w, groups)?,
        _ => None,
    };
    Ok(Box::new(move |operands, meter| {
        let (x, w) = (required(operands, 0)?, required(operands, 1)?);
        float!(x.kind(), T => {
            let places = geometry.over_weights(x.shape(), w.shape())?;
            let shapes = Shapes::new(x.shape(), w.shape(), groups, &places)?;
            let bias = optional(operands, 2).map(T::read).transpose()?;
            let built;
            let panels = match prepared.as_deref().and_then(T::panels) {
                Some(panels) => panels,
                None => {
                    meter.room(&[w.len()], 2 * size_of::<T>())?;
                    built = weights::<T>(w, groups)?.unwrap_or_default();
                    &built
                }
            };
            let y = shapes.convolve_plainly(&places, &T::read(x)?, panels, bias.as_deref(), meter)?;
            Ok(vec![Tensor::new(shapes.shape(&places), T::data(y, x.kind()))?])
        })
    }))
}

/// Weights `[output, channel in its group, kernel…]`, laid out; `None` if they do not have these axes.
fn weights<T: Number>(w: &Tensor, groups: usize) -> Result<Option<Vec<Panels<T>>>, Problem> {
    let &[outputs, ref inner @ ..] = w.shape() else { return Ok(None) };
    let inner = elements(inner).unwrap_or(0);
    Ok(Some(Shapes::panels(&T::read(w)?, groups, outputs / groups, inner)))
}

/// Integers minus their zero point, which may be one per entry of the first axis.
fn centred(tensor: &Tensor, zero: Option<&Tensor>) -> Result<Vec<i64>, Problem> {
    let mut all = i64::read(tensor)?.into_owned();
    let Some(zero) = zero else { return Ok(all) };
    let zeros = i64::read(zero)?;
    let count = if zeros.len() == 1 { 1 } else { tensor.shape().first().copied().unwrap_or(1) };
    if zeros.len() != count {
        return Err(Problem::invalid(format!(
            "{} zero points do not fit an operand of the shape {:?}",
            zeros.len(),
            tensor.shape()
        )));
    }
    let size = (all.len() / count.max(1)).max(1);
    for (part, &zero) in all.chunks_exact_mut(size).zip(zeros.iter()) {
        part.iter_mut().for_each(|element| *element = element.wrapping_sub(zero));
    }
    Ok(all)
}

/// The sums of a convolution of integers, with their shape and how many outputs each row has.
fn integer_sums(
    geometry: &Geometry,
    groups: usize,
    (x, x_zero): (&Tensor, Option<&Tensor>),
    (w, w_zero): (&Tensor, Option<&Tensor>),
    bias: Option<&Tensor>,
    meter: &mut Meter,
) -> Result<(Vec<usize>, Vec<i64>, usize), Problem> {
    let places = geometry.over_weights(x.shape(), w.shape())?;
    let shapes = Shapes::new(x.shape(), w.shape(), groups, &places)?;
    meter.room(&[x.len().saturating_add(w.len().saturating_mul(2))], size_of::<i64>())?;
    let (x, w) = (centred(x, x_zero)?, centred(w, w_zero)?);
    let panels = Shapes::panels(&w, groups, shapes.outputs, shapes.inner());
    let bias = bias.map(i64::read).transpose()?;
    let sums = shapes.convolve_plainly(&places, &x, &panels, bias.as_deref(), meter)?;
    Ok((shapes.shape(&places), sums, shapes.windows))
}

fn conv_integer(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::new(&build.attributes)?;
    let groups = group(&build.attributes, "group")?;
    Ok(Box::new(move |operands, meter| {
        let x = (required(operands, 0)?, optional(operands, 2));
        let w = (required(operands, 1)?, optional(operands, 3));
        let (shape, sums, _) = integer_sums(&geometry, groups, x, w, None, meter)?;
        Ok(vec![Tensor::new(shape, i64::data(sums, Kind::I32))?])
    }))
}

fn quantized_conv(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::new(&build.attributes)?;
    let groups = group(&build.attributes, "group")?;
    Ok(Box::new(move |operands, meter| {
        let x = (required(operands, 0)?, Some(required(operands, 2)?));
        let w = (required(operands, 3)?, Some(required(operands, 5)?));
        let (shape, sums, windows) = integer_sums(&geometry, groups, x, w, optional(operands, 8), meter)?;
        let [x_scale, w_scale, y_scale] = [1, 4, 6].map(|index| f32::read(required(operands, index)?));
        let (x_scale, w_scale, y_scale) = (x_scale?, w_scale?, y_scale?);
        let (&[x_scale], &[y_scale]) = (&*x_scale, &*y_scale) else {
            return Err(Problem::invalid("the scales of input and result must be single values"));
        };
        let channels = shape.get(1).copied().unwrap_or(0);
        if w_scale.len() != 1 && w_scale.len() != channels {
            return Err(Problem::invalid(format!("{} scales do not fit {channels} channels", w_scale.len())));
        }
        let mut numbers: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        for (plane, &w_scale) in numbers.chunks_exact_mut(windows.max(1)).zip(w_scale.iter().cycle()) {
            let scale = x_scale * w_scale / y_scale;
            plane.iter_mut().for_each(|number| *number *= scale);
        }
        Ok(vec![quantized(shape, &numbers, required(operands, 7)?)?])
    }))
}

/// Each element of the input times the weights is added where the windows of the corresponding convolution lie.
fn conv_transpose(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::new(&build.attributes)?;
    let groups = group(&build.attributes, "group")?;
    let extra = lengths(&build.attributes, "output_padding", 0)?;
    let wanted = lengths(&build.attributes, "output_shape", 0)?;
    Ok(Box::new(move |operands, meter| {
        let (x, w) = (required(operands, 0)?, required(operands, 1)?);
        let misfit = || {
            Problem::invalid(format!(
                "weights of the shape {:?} do not fit an input of {:?} in {groups} groups",
                w.shape(),
                x.shape()
            ))
        };
        let (&[rows, channels, ..], &[w_channels, outputs, ref kernel @ ..]) = (x.shape(), w.shape()) else {
            return Err(misfit());
        };
        if w_channels != channels
            || channels % groups != 0
            || !geometry.kernel.is_empty() && geometry.kernel != kernel
        {
            return Err(misfit());
        }
        let mut axes = geometry.axes(x.shape(), kernel)?;
        // All lengths of the result, behind those of rows and channels, where an exporter has written these too.
        let wanted = wanted.get(wanted.len().saturating_sub(axes.len())..).unwrap_or_default();
        if !wanted.is_empty() && wanted.len() != axes.len() || !extra.is_empty() && extra.len() != axes.len()
        {
            return Err(Problem::invalid(format!(
                "`output_shape` {wanted:?} or `output_padding` {extra:?} do not fit an input of the shape {:?}",
                x.shape()
            )));
        }
        for (index, axis) in axes.iter_mut().enumerate() {
            axis.transpose(
                geometry.padding,
                extra.get(index).copied().unwrap_or(0),
                wanted.get(index).copied(),
            );
        }
        let places = Places::new(axes);
        let outputs_of_group = outputs;
        let shape: Vec<usize> = [rows, outputs.saturating_mul(groups)]
            .into_iter()
            .chain(places.axes.iter().map(|axis| axis.input))
            .collect();
        float!(x.kind(), T => {
            let bias = optional(operands, 2).map(T::read).transpose()?;
            let transposed = Transposed {
                rows,
                groups,
                channels: channels / groups,
                outputs: outputs_of_group,
                kernel: places.kernel(),
            };
            let y = transposed.run(&places, &shape, &T::read(x)?, &T::read(w)?, bias.as_deref(), meter)?;
            Ok(vec![Tensor::new(shape, T::data(y, x.kind()))?])
        })
    }))
}

impl Axis {
    /// Makes the axis of a convolution's input of that of its output: `input` becomes the length of the result.
    fn transpose(&mut self, padding: Padding, extra: usize, wanted: Option<usize>) {
        self.output = self.input;
        let reach = (self.output.saturating_sub(1).saturating_mul(self.stride))
            .saturating_add(self.extent())
            .saturating_add(extra);
        let wanted = match padding {
            Padding::SameUpper | Padding::SameLower => {
                Some(wanted.unwrap_or_else(|| self.output.saturating_mul(self.stride)))
            }
            _ => wanted,
        };
        match wanted {
            Some(wanted) => {
                self.pad(reach.saturating_sub(wanted), padding);
                self.input = wanted;
            }
            None => self.input = reach.saturating_sub(self.before.saturating_add(self.after)),
        }
    }
}

/// The lengths of a transposed convolution; channels and outputs are those of a group.
struct Transposed {
    rows: usize,
    groups: usize,
    channels: usize,
    outputs: usize,
    kernel: usize,
}

impl Transposed {
    fn run<T: Number>(
        &self,
        places: &Places,
        shape: &[usize],
        x: &[T],
        w: &[T],
        bias: Option<&[T]>,
        meter: &mut Meter,
    ) -> Result<Vec<T>, Problem> {
        let columns = self.outputs.saturating_mul(self.kernel);
        let count = meter.room(shape, size_of::<T>())?;
        let positions = places.positions();
        meter.room(&[BLOCK, columns.saturating_add(self.channels)], size_of::<T>())?;
        meter.room(&[w.len()], 2 * size_of::<T>())?;
        meter.work(operations(&[
            self.rows,
            self.groups,
            positions,
            columns,
            self.channels.saturating_add(1),
        ]))?;
        let all = self.groups.saturating_mul(self.outputs);
        check_bias(bias, all)?;
        let mut y = vec![T::default(); count];
        if count == 0 {
            return Ok(y);
        }
        let plane = places.plane();
        if let Some(bias) = bias {
            for (y, &bias) in y.chunks_exact_mut(plane).zip(bias.iter().cycle()) {
                y.fill(bias);
            }
        }
        if self.channels == 0 || positions == 0 {
            return Ok(y);
        }
        let part = self.channels * columns;
        let panels: Vec<Panels<T>> = w
            .chunks_exact(part.max(1))
            .map(|part| Panels::new(Matrix::by_rows(part, self.channels, columns)))
            .collect();
        let mut block = vec![T::default(); BLOCK * self.channels];
        let mut sums = vec![T::default(); BLOCK * columns];
        let images = x.chunks_exact(self.channels * positions).zip(y.chunks_exact_mut(self.outputs * plane));
        for (index, (x, y)) in images.enumerate() {
            let Some(panels) = panels.get(index % self.groups) else { continue };
            places.each(&mut |window| {
                let at = window.number % BLOCK;
                if at == 0 {
                    let positions = window.number..positions.min(window.number + BLOCK);
                    for (position, row) in positions.clone().zip(block.chunks_exact_mut(self.channels)) {
                        for (to, &from) in
                            row.iter_mut().zip(x.iter().skip(position).step_by(places.positions()))
                        {
                            *to = from;
                        }
                    }
                    sums.fill(T::default());
                    panels.add_products(
                        block.chunks_exact(self.channels).take(positions.len()),
                        &mut sums,
                        columns,
                    );
                }
                let sums = sums.chunks_exact(columns).nth(at).unwrap_or_default();
                for (y, sums) in y.chunks_exact_mut(plane).zip(sums.chunks_exact(self.kernel)) {
                    for run in window.runs {
                        let to = y.iter_mut().skip(run.input).step_by(places.step);
                        let from = sums.iter().skip(run.kernel).take(run.count);
                        for (to, &from) in to.zip(from) {
                            *to = to.plus(from);
                        }
                    }
                }
            });
        }
        Ok(y)
    }
}

impl Places {
    /// The number of windows.
    fn positions(&self) -> usize {
        size(self.outputs())
    }

    /// The number of elements in a plane of the input.
    fn plane(&self) -> usize {
        size(self.axes.iter().map(|axis| axis.input))
    }
}

/// A convolution whose windows' elements lie anywhere, between four (in two dimensions) elements of the input; outside of it there
/// are zeros.
fn deform_conv(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::new(&build.attributes)?;
    let groups = group(&build.attributes, "group")?;
    let offset_groups = group(&build.attributes, "offset_group")?;
    let prepared = match build.constant(1) {
        Some(w) if width(w.kind()) == Width::Single => weights::<f32>(w, groups)?,
        _ => None,
    };
    Ok(Box::new(move |operands, meter| {
        let (x, w) = (required(operands, 0)?, required(operands, 1)?);
        let (offset, mask) = (required(operands, 2)?, optional(operands, 4));
        float!(x.kind(), T => {
            let places = geometry.over_weights(x.shape(), w.shape())?;
            let shapes = Shapes::new(x.shape(), w.shape(), groups, &places)?;
            let axes = places.axes.len();
            let expected = |per_element: usize| -> Vec<usize> {
                let channels = offset_groups.saturating_mul(shapes.kernel).saturating_mul(per_element);
                [shapes.rows, channels].into_iter().chain(places.outputs()).collect()
            };
            let channels = shapes.channels * groups;
            for (name, tensor, per_element) in [("offset", Some(offset), axes), ("mask", mask, 1)] {
                if let Some(tensor) = tensor.filter(|tensor| tensor.shape() != expected(per_element)) {
                    return Err(Problem::invalid(format!(
                        "{name} has the shape {:?}, expected {:?}",
                        tensor.shape(),
                        expected(per_element)
                    )));
                }
            }
            if channels % offset_groups != 0 {
                return Err(Problem::invalid(format!("{channels} channels cannot have {offset_groups} groups")));
            }
            let corners = 1_usize.checked_shl(u32::try_from(axes).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
            meter.room(&[corners], 2 * size_of::<T>())?;
            meter.work(operations(&[shapes.rows, shapes.windows, channels, shapes.kernel, corners]))?;
            let built;
            let panels = match prepared.as_deref().and_then(T::panels) {
                Some(panels) => panels,
                None => {
                    meter.room(&[w.len()], 2 * size_of::<T>())?;
                    built = weights::<T>(w, groups)?.unwrap_or_default();
                    &built
                }
            };
            let bias = optional(operands, 3).map(T::read).transpose()?;
            let deformed = Deformed {
                places: &places,
                shapes: &shapes,
                offset: &T::read(offset)?,
                mask: mask.map(T::read).transpose()?,
                offset_groups,
            };
            let x_elements = T::read(x)?;
            let mut fill = |row: usize, group: usize, window: &Window<'_>, elements: &mut [T]| {
                deformed.fill(&x_elements, (row, group, window.number), elements);
            };
            let y = shapes.convolve(&places, panels, bias.as_deref(), &mut fill, meter)?;
            Ok(vec![Tensor::new(shapes.shape(&places), T::data(y, x.kind()))?])
        })
    }))
}

struct Deformed<'d, T: Clone> {
    places: &'d Places,
    shapes: &'d Shapes,
    offset: &'d [T],
    mask: Option<std::borrow::Cow<'d, [T]>>,
    offset_groups: usize,
}

impl<T: Float + Number> Deformed<'_, T> {
    fn fill(&self, x: &[T], (row, group, window): (usize, usize, usize), elements: &mut [T]) {
        let (kernel, windows) = (self.shapes.kernel, self.shapes.windows);
        let per_offset_group = (self.shapes.channels * self.shapes.groups / self.offset_groups).max(1);
        let channels: Vec<&[T]> = self.shapes.channels(x, row, group).collect();
        let of = |all: &[T], place: usize| all.get(place).copied().unwrap_or_default();
        let mut corners = Vec::new();
        let mut first = 0;
        while first < channels.len() {
            let offset_group = (group * self.shapes.channels + first) / per_offset_group;
            let next = ((offset_group + 1) * per_offset_group).saturating_sub(group * self.shapes.channels);
            for element in 0..kernel {
                let place = (row * self.offset_groups + offset_group) * kernel + element;
                let offsets = (0..self.places.axes.len()).map(|axis| {
                    of(self.offset, (place * self.places.axes.len() + axis) * windows + window).to_f64()
                });
                self.corners(window, element, offsets, &mut corners);
                let mask = self.mask.as_ref().map_or(T::ONE, |mask| of(mask, place * windows + window));
                for (index, plane) in channels.iter().enumerate().take(next).skip(first) {
                    let mut sum = T::ZERO;
                    for &(place, weight) in &corners {
                        sum += of(plane, place) * weight;
                    }
                    if let Some(to) = elements.get_mut(index * kernel + element) {
                        *to = sum * mask;
                    }
                }
            }
            first = next.max(first + 1);
        }
    }

    /// The elements of the input around one of a window's, with their weights.
    fn corners(
        &self,
        mut window: usize,
        mut element: usize,
        offsets: impl Iterator<Item = f64>,
        corners: &mut Vec<(usize, T)>,
    ) {
        corners.clear();
        corners.push((0, T::ONE));
        let offsets: Vec<f64> = offsets.collect();
        let mut stride = 1_usize;
        for (axis, offset) in self.places.axes.iter().zip(offsets).rev() {
            let (at, tap) = (window % axis.output.max(1), element % axis.kernel.max(1));
            window /= axis.output.max(1);
            element /= axis.kernel.max(1);
            let place = at as f64 * axis.stride as f64 + tap as f64 * axis.dilation as f64
                - axis.before as f64
                + offset;
            let low = place.floor();
            let part = place - low;
            let low = low as i64;
            let before = std::mem::take(corners);
            for (place, weight) in [(low, 1.0 - part), (low.saturating_add(1), part)] {
                let Some(place) = usize::try_from(place).ok().filter(|&place| place < axis.input) else {
                    continue;
                };
                let along = T::from_f64(weight);
                corners
                    .extend(before.iter().map(|&(inner, weight)| (place * stride + inner, weight * along)));
            }
            stride = stride.saturating_mul(axis.input);
        }
    }
}

/// The windows of a pool over a tensor, and the shape of the result, for which there is room.
fn pooled(
    geometry: &Geometry,
    x: &Tensor,
    needs_elements: bool,
    meter: &mut Meter,
) -> Result<(Places, Vec<usize>), Problem> {
    let places = geometry.over(x.shape(), &geometry.kernel)?;
    let shape: Vec<usize> = x.shape().iter().take(2).copied().chain(places.outputs()).collect();
    let count = meter.room(&shape, size_of::<f64>())?;
    meter.work(operations(&[count, places.kernel()]))?;
    if needs_elements && count > 0 && places.some_empty() {
        return Err(Problem::invalid(format!(
            "a window of {:?} lies on nothing but padding of an input of the shape {:?}",
            geometry.kernel,
            x.shape()
        )));
    }
    Ok((places, shape))
}

/// A value for every window of every plane.
fn over_planes<T: Number>(
    places: &Places,
    shape: &[usize],
    x: &[T],
    value: impl Fn(&Window<'_>, &[T]) -> T,
) -> Vec<T> {
    let mut y = vec![T::default(); elements(shape).unwrap_or(0)];
    let (windows, plane) = (places.positions(), places.plane());
    if y.is_empty() || plane == 0 {
        return y;
    }
    places.each(&mut |window| {
        for (y, plane) in y.iter_mut().skip(window.number).step_by(windows).zip(x.chunks_exact(plane)) {
            *y = value(window, plane);
        }
    });
    y
}

fn average_pool(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::of_pool(&build.attributes)?;
    let padding_counts = build.attributes.flag("count_include_pad", false)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (places, shape) = pooled(&geometry, x, !padding_counts, meter)?;
        float!(x.kind(), T => {
            let y = over_planes(&places, &shape, &T::read(x)?, |window, plane| {
                let inside: usize = window.runs.iter().map(|run| run.count).sum();
                let count = if padding_counts { window.padded } else { inside };
                places.elements(window, plane).fold(T::default(), |sum, (_, x)| sum + x) / T::from_f64(count as f64)
            });
            Ok(vec![Tensor::new(shape, T::data(y, x.kind()))?])
        })
    }))
}

/// `(|x|ᵖ)` summed, and the root of that.
#[derive(Debug, Clone, Copy)]
struct Norm {
    p: i64,
}

impl Norm {
    fn new(build: &Build<'_>) -> Result<Self, Problem> {
        match build.attributes.int_or("p", 2)? {
            p if p >= 1 => Ok(Self { p }),
            _ => Err(Problem::attribute("p", "a norm needs a p of 1 or more", "use 1 or 2")),
        }
    }

    fn of<T: Float>(self, all: impl Iterator<Item = T>) -> T {
        let p = self.p as f64;
        let sum = all.fold(T::ZERO, |sum, x| {
            sum + match self.p {
                1 => x.abs(),
                2 => x * x,
                _ => T::from_f64(libm::pow(x.abs().to_f64(), p)),
            }
        });
        match self.p {
            1 => sum,
            2 => sum.sqrt(),
            _ => T::from_f64(libm::pow(sum.to_f64(), 1.0 / p)),
        }
    }
}

fn lp_pool(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::of_pool(&build.attributes)?;
    let norm = Norm::new(build)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (places, shape) = pooled(&geometry, x, false, meter)?;
        float!(x.kind(), T => {
            let y = over_planes(&places, &shape, &T::read(x)?, |window, plane| {
                norm.of(places.elements(window, plane).map(|(_, x)| x))
            });
            Ok(vec![Tensor::new(shape, T::data(y, x.kind()))?])
        })
    }))
}

/// The first of the largest, or the first NaN, with what comes with it.
fn largest<T: Number>(all: impl Iterator<Item = (usize, T)>) -> Option<(usize, T)> {
    let is_nan = |x: T| x.partial_cmp(&x).is_none();
    all.reduce(|best, next| if next.1 > best.1 || is_nan(next.1) && !is_nan(best.1) { next } else { best })
}

fn max_pool(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::of_pool(&build.attributes)?;
    let column_major = build.attributes.flag("storage_order", false)?;
    let with_places = build.outputs > 1;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (places, shape) = pooled(&geometry, x, true, meter)?;
        let kind = x.kind();
        let data = wide!(kind, T => {
            let y = over_planes(&places, &shape, &T::read(x)?, |window, plane| {
                largest(places.elements(window, plane)).map_or(T::default(), |(_, x)| x)
            });
            T::data(y, kind)
        });
        let mut results = vec![Tensor::new(shape.as_slice(), data)?];
        if with_places {
            let indices = wide!(kind, T => indices(&places, &shape, &T::read(x)?, column_major));
            results.push(Tensor::of(shape, indices)?);
        }
        Ok(results)
    }))
}

/// Where the largest elements lie in the whole input.
fn indices<T: Number>(places: &Places, shape: &[usize], x: &[T], column_major: bool) -> Vec<i64> {
    let mut found = vec![0_i64; elements(shape).unwrap_or(0)];
    let (windows, plane) = (places.positions(), places.plane());
    if found.is_empty() || plane == 0 {
        return found;
    }
    let turned = |place: usize| {
        let (mut rest, mut result) = (place, 0);
        for axis in places.axes.iter().rev() {
            result = result * axis.input + rest % axis.input;
            rest /= axis.input;
        }
        result
    };
    places.each(&mut |window| {
        let planes = found.iter_mut().skip(window.number).step_by(windows).zip(x.chunks_exact(plane));
        for (index, (found, elements)) in planes.enumerate() {
            let place = largest(places.elements(window, elements)).map_or(0, |(place, _)| place);
            let place = if column_major { turned(place) } else { place };
            *found = i64::try_from(index * plane + place).unwrap_or(i64::MAX);
        }
    });
    found
}

/// The planes of `[row, channel, spatial…]`: how long each is, and the shape with one element for each.
fn planes(x: &Tensor, meter: &mut Meter) -> Result<(usize, Vec<usize>), Problem> {
    let [rows, channels, spatial @ ..] = x.shape() else { return Err(no_axes(x.shape())) };
    let mut shape = vec![*rows, *channels];
    shape.resize(x.rank(), 1);
    let count = meter.room(&shape, size_of::<f64>())?;
    meter.work(operations(&[x.len()]))?;
    let plane = size(spatial.iter().copied());
    if plane == 0 && count > 0 {
        return Err(Problem::invalid(format!("the shape {:?} leaves nothing to pool", x.shape())));
    }
    Ok((plane, shape))
}

fn global_average_pool(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        let (plane, shape) = planes(x, meter)?;
        float!(x.kind(), T => {
            let count = T::from_f64(plane as f64);
            let average = |plane: &[T]| plane.iter().fold(T::default(), |sum, &x| sum + x) / count;
            let y = T::read(x)?.chunks_exact(plane.max(1)).map(average).collect();
            Ok(vec![Tensor::new(shape, T::data(y, x.kind()))?])
        })
    }))
}

fn global_lp_pool(build: &Build<'_>) -> Result<Kernel, Problem> {
    let norm = Norm::new(build)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let (plane, shape) = planes(x, meter)?;
        float!(x.kind(), T => {
            let all = T::read(x)?;
            let y = all.chunks_exact(plane.max(1)).map(|plane| norm.of(plane.iter().copied())).collect();
            Ok(vec![Tensor::new(shape, T::data(y, x.kind()))?])
        })
    }))
}

fn global_max_pool(_: &Build<'_>) -> Result<Kernel, Problem> {
    Ok(Box::new(|operands, meter| {
        let x = required(operands, 0)?;
        let (plane, shape) = planes(x, meter)?;
        let data = wide!(x.kind(), T => {
            let most = |plane: &[T]| largest(plane.iter().map(|&x| (0, x))).map_or(T::default(), |(_, x)| x);
            T::data(T::read(x)?.chunks_exact(plane.max(1)).map(most).collect(), x.kind())
        });
        Ok(vec![Tensor::new(shape, data)?])
    }))
}

/// Puts elements back where a MaxPool found them. The indices are those of the shape that the attributes lead to; a larger
/// `output_shape` has zeros behind it.
fn max_unpool(build: &Build<'_>) -> Result<Kernel, Problem> {
    let geometry = Geometry::of_pool(&build.attributes)?;
    Ok(Box::new(move |operands, meter| {
        let (x, places) = (required(operands, 0)?, required(operands, 1)?);
        let axes = geometry.axes(x.shape(), &geometry.kernel)?;
        let inner = axes.iter().map(|axis| {
            let reach = axis.input.saturating_sub(1).saturating_mul(axis.stride).saturating_add(axis.kernel);
            reach.saturating_sub(axis.before.saturating_add(axis.after))
        });
        let inner: Vec<usize> = x.shape().iter().take(2).copied().chain(inner).collect();
        let shape = match optional(operands, 2) {
            None => inner.clone(),
            Some(wanted) => wanted.integers()?.iter().map(|&len| usize::try_from(len).unwrap_or(0)).collect(),
        };
        if shape.len() != inner.len() || shape.iter().zip(&inner).any(|(shape, inner)| shape < inner) {
            return Err(Problem::invalid(format!(
                "the elements lie in the shape {inner:?}, which {shape:?} does not hold"
            )));
        }
        if places.shape() != x.shape() {
            return Err(Problem::invalid(format!(
                "indices of the shape {:?} do not fit elements of {:?}",
                places.shape(),
                x.shape()
            )));
        }
        let count = meter.room(&shape, x.kind().size())?;
        let size = elements(&inner).unwrap_or(0);
        let outer = strides(&shape);
        let mut pairs = Vec::with_capacity(x.len());
        for (from, &place) in places.elements::<i64>()?.iter().enumerate() {
            let Some(mut rest) = usize::try_from(place).ok().filter(|&place| place < size) else {
                return Err(Problem::invalid(format!("index {place} is outside of the shape {inner:?}")));
            };
            let mut to = 0;
            for (&len, &stride) in inner.iter().zip(&outer).rev() {
                to += rest % len * stride;
                rest /= len;
            }
            pairs.push((to, from));
        }
        let mut y = x.kind().zeros(count);
        y.put(x.data(), pairs.into_iter())?;
        Ok(vec![Tensor::new(shape, y)?])
    }))
}

#[cfg(test)]
mod tests {
    use crate::Tensor;
    use crate::ops::product::testing::{int, ints, none, results, run};

    fn floats(shape: &[usize]) -> Tensor {
        Tensor::of(shape, (0..shape.iter().product()).map(|at: usize| at as f32).collect()).unwrap()
    }

    #[test]
    fn more_windows_than_a_block_and_dilated_runs() {
        let (x, w) = (floats(&[2, 1, 40]), Tensor::of([1, 1, 2], vec![1.0_f32, -1.0]).unwrap());
        let y = run("Conv", 11, &[ints("dilations", &[3])], &[x, w]).unwrap();
        assert_eq!(y[0].shape(), [2, 1, 37]);
        assert_eq!(y[0].elements::<f32>().unwrap(), [-3.0; 74]);
    }

    #[test]
    fn empty_rows_and_channels() {
        let y = run("Conv", 11, &[], &[floats(&[0, 1, 4]), floats(&[3, 1, 2])]).unwrap();
        assert_eq!(y[0].shape(), [0, 3, 3]);
        let y = run("Conv", 11, &[], &[floats(&[1, 0, 4]), floats(&[2, 0, 2]), floats(&[2])]).unwrap();
        assert_eq!(y[0].elements::<f32>().unwrap(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        let y = run("ConvTranspose", 11, &[], &[floats(&[1, 0, 2]), floats(&[0, 1, 2])]).unwrap();
        assert_eq!(y[0].elements::<f32>().unwrap(), [0.0; 3]);
        let pool = [ints("kernel_shape", &[2])];
        assert_eq!(run("MaxPool", 12, &pool, &[floats(&[1, 0, 4])]).unwrap()[0].shape(), [1, 0, 3]);
    }

    #[test]
    fn nan_is_larger_than_everything() {
        let x = Tensor::of([1, 1, 4], vec![3.0_f32, f32::NAN, 5.0, 1.0]).unwrap();
        let y =
            results("MaxPool", 12, &[ints("kernel_shape", &[2]), ints("strides", &[2])], &[x], 2).unwrap();
        let values = y[0].elements::<f32>().unwrap();
        assert!(values[0].is_nan() && values[1] == 5.0);
        assert_eq!(y[1].elements::<i64>().unwrap(), [1, 2]);
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let pool = |attributes: &[_]| run("AveragePool", 11, attributes, &[floats(&[1, 1, 4])]).unwrap_err();
        assert!(pool(&[]).contains("missing"));
        assert!(pool(&[ints("kernel_shape", &[5])]).contains("5 elements does not fit an axis of 4"));
        assert!(pool(&[ints("kernel_shape", &[0])]).contains("not from 1 to 4294967295"));
        assert!(pool(&[ints("kernel_shape", &[1]), ints("pads", &[2, 0])]).contains("nothing but padding"));
        let huge = [
            ints("kernel_shape", &[1]),
            ints("pads", &[i64::from(u32::MAX); 2]),
            int("count_include_pad", 1),
        ];
        assert!(pool(&huge).contains("bytes of memory"));
        let conv = |x: &[usize], w: &[usize]| {
            run("Conv", 11, &[int("group", 2)], &[floats(x), floats(w)]).unwrap_err()
        };
        assert!(conv(&[1, 4, 3], &[2, 1, 1]).contains("in 2 groups"));
        assert!(conv(&[1, 4], &[2, 2]).contains("at least one more axis"));
    }

    #[test]
    fn unpooling_refuses_indices_outside() {
        let indices = Tensor::of([1, 1, 2], vec![0_i64, 4]).unwrap();
        let attributes = [ints("kernel_shape", &[2]), ints("strides", &[2])];
        let error = run("MaxUnpool", 11, &attributes, &[floats(&[1, 1, 2]), indices]).unwrap_err();
        assert!(error.contains("index 4"), "{error}");
    }

    #[test]
    fn zero_points_of_channels() {
        let x = Tensor::of([1, 1, 2], vec![5_u8, 6]).unwrap();
        let w = Tensor::of([2, 1, 1], vec![3_u8, 4]).unwrap();
        let y = run("ConvInteger", 10, &[], &[x, w, none(), Tensor::vector(vec![1_u8, 2])]).unwrap();
        assert_eq!(y[0].elements::<i32>().unwrap(), [10, 12, 10, 12]);
    }
}
