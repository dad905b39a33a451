//! A request against the signature: names, datatypes, shapes, lengths, missing values, training ranges.

use std::borrow::Cow;

use lockgate_onnx_ml::dense::{round_down, round_up};
use lockgate_package::{Datatype, Manifest, TensorSpec, TensorView};

use crate::PredictError;
use crate::model::{MOST_ROWS, OutOfRange, WARNING_LIMIT};

/// What a model checks in every request, worked out once.
#[derive(Debug)]
pub(crate) struct Checker {
    /// Of each input.
    ranges: Vec<Ranges>,
}

/// The ranges of an input's last dimension; empty when none is known.
#[derive(Debug, Default)]
struct Ranges {
    /// The feature that the first of them belongs to.
    first: usize,
    /// Infinite where training gave no bound.
    doubles: Vec<[f64; 2]>,
    /// The same for numbers in single precision: no such number lies between these bounds and the others.
    singles: Vec<[f32; 2]>,
}

/// A request that fits.
pub(crate) struct Request<'a> {
    /// The tensors, in the order of the signature.
    pub(crate) inputs: Cow<'a, [TensorView<'a>]>,
    /// The length of the leading dimension.
    pub(crate) rows: usize,
    pub(crate) out_of_range: Vec<OutOfRange>,
}

impl Checker {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let mut features = manifest.features.iter();
        let has_ranges =
            manifest.features.iter().any(|feature| feature.min.is_some() || feature.max.is_some());
        let mut first = 0;
        let ranges = manifest.signature.inputs.iter().map(|input| {
            let declared = if input.shape.len() > 1 { input.shape.last().copied().unwrap_or(1) } else { 1 };
            // A free last dimension takes all features; it can only be the only input's.
            let width = usize::try_from(declared).unwrap_or(manifest.features.len());
            let bounds = |feature: &lockgate_package::Feature| {
                [feature.min.unwrap_or(f64::NEG_INFINITY), feature.max.unwrap_or(f64::INFINITY)]
            };
            let doubles: Vec<[f64; 2]> = features.by_ref().take(width).map(bounds).collect();
            let ranges = if has_ranges && doubles.len() == width {
                let singles = doubles.iter().map(|&[low, high]| [round_up(low), round_down(high)]).collect();
                Ranges { first, doubles, singles }
            } else {
                Ranges { first, ..Ranges::default() }
            };
            first += width;
            ranges
        });
        Self { ranges: ranges.collect() }
    }

    pub(crate) fn check<'a>(
        &self,
        manifest: &Manifest,
        tensors: &'a [TensorView<'a>],
    ) -> Result<Request<'a>, PredictError> {
        let specs = &manifest.signature.inputs;
        let in_order = tensors.len() == specs.len()
            && specs.iter().zip(tensors).all(|(spec, tensor)| spec.name == tensor.name);
        let inputs = if in_order { Cow::Borrowed(tensors) } else { Cow::Owned(ordered(specs, tensors)?) };
        for (spec, tensor) in specs.iter().zip(inputs.iter()) {
            check_form(spec, tensor)?;
        }
        let rows = rows(specs, &inputs)?;
        let mut out_of_range = Vec::new();
        for ((spec, tensor), ranges) in specs.iter().zip(inputs.iter()).zip(&self.ranges) {
            if is_ordinary(tensor, ranges) {
                continue;
            }
            if !manifest.accepts_missing {
                refuse_missing(manifest, spec, tensor, ranges.first)?;
            }
            find_out_of_range(tensor, ranges, rows, &mut out_of_range);
        }
        // With several inputs they were found input by input.
        if inputs.len() > 1 {
            sort(&mut out_of_range);
        }
        Ok(Request { inputs, rows, out_of_range })
    }
}

/// The tensors in the order of the signature.
#[inline(never)]
fn ordered<'a>(
    specs: &[TensorSpec],
    tensors: &[TensorView<'a>],
) -> Result<Vec<TensorView<'a>>, PredictError> {
    let mut inputs = Vec::with_capacity(specs.len());
    for spec in specs {
        let mut named = tensors.iter().filter(|tensor| tensor.name == spec.name);
        let tensor = named.next().ok_or_else(|| missing_tensor(spec, tensors))?;
        if named.next().is_some() {
            return Err(invalid(format!("input `{}` is given twice", spec.name), "send each input once"));
        }
        inputs.push(*tensor);
    }
    match tensors.iter().find(|tensor| !specs.iter().any(|spec| spec.name == tensor.name)) {
        Some(unknown) => Err(invalid(
            format!("the model has no input `{}`; its inputs are {}", unknown.name, names(specs)),
            "leave it out, or check its name",
        )),
        None => Ok(inputs),
    }
}

/// Whether every value is a number within its range, which is seldom otherwise: no value is looked at alone.
fn is_ordinary(tensor: &TensorView<'_>, ranges: &Ranges) -> bool {
    match tensor.datatype {
        Datatype::Fp32 => {
            let values = tensor.data.as_chunks::<4>().0;
            let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
            if ranges.singles.is_empty() {
                return values.iter().fold(true, |all, bytes| all & !value(bytes).is_nan());
            }
            let row = |row: &[[u8; 4]]| {
                row.iter().zip(&ranges.singles).fold(true, |all, (bytes, &[low, high])| {
                    all & (value(bytes) >= low) & (value(bytes) <= high)
                })
            };
            values.chunks(ranges.singles.len()).fold(true, |all, values| all & row(values))
        }
        _ => false,
    }
}

fn check_form(spec: &TensorSpec, tensor: &TensorView<'_>) -> Result<(), PredictError> {
    let name = &spec.name;
    if tensor.datatype != spec.datatype {
        let message =
            format!("input `{name}`: expected datatype {}, found {}", spec.datatype, tensor.datatype);
        return Err(invalid(message, "convert the values before sending them"));
    }
    if !spec.admits(tensor.shape) {
        let message =
            format!("input `{name}`: expected shape {:?} (-1 is free), found {:?}", spec.shape, tensor.shape);
        return Err(invalid(message, "one row per prediction, one column per feature"));
    }
    let count = tensor.element_count().ok_or_else(|| {
        invalid(
            format!("input `{name}`: shape {:?} has a negative dimension or is too large", tensor.shape),
            "",
        )
    })?;
    let wanted = spec.datatype.size().map(|size| count.checked_mul(size));
    if let Some(wanted) = wanted
        && wanted != Some(tensor.data.len())
    {
        let message = format!(
            "input `{name}`: shape {:?} asks for {count} elements of {}, found {} bytes",
            tensor.shape,
            spec.datatype,
            tensor.data.len()
        );
        return Err(invalid(message, "send as many elements as the shape says"));
    }
    if spec.datatype == Datatype::Bool && tensor.data.iter().any(|&byte| byte > 1) {
        return Err(invalid(format!("input `{name}`: a BOOL element is neither 0 nor 1"), ""));
    }
    Ok(())
}

/// The common length of the leading dimension. An input whose leading dimension is the same in every request counts only where no input's
/// is free.
fn rows(specs: &[TensorSpec], inputs: &[TensorView<'_>]) -> Result<usize, PredictError> {
    let length = |tensor: &TensorView<'_>| {
        tensor.shape.first().and_then(|&rows| usize::try_from(rows).ok()).unwrap_or(1)
    };
    let mut free =
        specs.iter().zip(inputs).filter(|(spec, _)| spec.shape.first() == Some(&-1)).map(|(_, input)| input);
    let Some(first) = free.next() else { return Ok(inputs.first().map_or(1, length)) };
    let rows = length(first);
    if let Some(other) = free.find(|tensor| length(tensor) != rows) {
        let message = format!(
            "input `{}` has {rows} rows and input `{}` has {}; expected as many in each",
            first.name,
            other.name,
            length(other)
        );
        return Err(invalid(message, "send every input for every row"));
    }
    if rows > MOST_ROWS {
        return Err(PredictError::LimitExceeded {
            message: format!("the request has {rows} rows, one request may have {MOST_ROWS}"),
            hint: "send the rows in several requests".to_owned(),
        });
    }
    Ok(rows)
}

#[inline(never)]
fn refuse_missing(
    manifest: &Manifest,
    spec: &TensorSpec,
    tensor: &TensorView<'_>,
    first_feature: usize,
) -> Result<(), PredictError> {
    let missing = match spec.datatype {
        Datatype::Fp32 => {
            tensor.data.as_chunks::<4>().0.iter().position(|bytes| f32::from_le_bytes(*bytes).is_nan())
        }
        Datatype::Fp64 => {
            tensor.data.as_chunks::<8>().0.iter().position(|bytes| f64::from_le_bytes(*bytes).is_nan())
        }
        // Exponent all ones and a mantissa that is not 0.
        Datatype::Fp16 => {
            let is_nan = |bytes: &[u8; 2]| u16::from_le_bytes(*bytes) & 0x7fff > 0x7c00;
            tensor.data.as_chunks::<2>().0.iter().position(is_nan)
        }
        _ => None,
    };
    let Some(position) = missing else {
        return Ok(());
    };
    let size =
        |dims: &[i64]| dims.iter().map(|&dim| usize::try_from(dim).unwrap_or(1)).product::<usize>().max(1);
    let row = position / size(tensor.shape.get(1..).unwrap_or_default());
    let width = if tensor.shape.len() > 1 {
        size(tensor.shape.last().map(std::slice::from_ref).unwrap_or_default())
    } else {
        1
    };
    let column = position % width;
    let feature = match manifest.features.get(first_feature + column) {
        Some(feature) => format!("feature {column} (`{}`)", feature.name),
        None => format!("feature {column}"),
    };
    Err(PredictError::MissingValue {
        message: format!(
            "input `{}`: row {row}, {feature} is NaN, and the model does not accept missing values",
            spec.name
        ),
        hint:
            "fill the value in, or package the model with accepts_missing: true if NaN means something to it"
                .to_owned(),
    })
}

#[inline(never)]
fn find_out_of_range(tensor: &TensorView<'_>, ranges: &Ranges, rows: usize, found: &mut Vec<OutOfRange>) {
    let count = tensor.element_count().unwrap_or(0);
    let per_row = count.checked_div(rows).unwrap_or(0);
    if per_row == 0 {
        return;
    }
    let mut of_row = ranges.doubles.iter().zip(ranges.first..);
    let mut check = |index: usize, value: f64| {
        let next = of_row.next().or_else(|| {
            of_row = ranges.doubles.iter().zip(ranges.first..);
            of_row.next()
        });
        let Some((&[low, high], feature)) = next else { return };
        if (value < low || value > high) && found.len() < WARNING_LIMIT {
            let row = u32::try_from(index / per_row).unwrap_or(u32::MAX);
            found.push(OutOfRange { row, feature: u32::try_from(feature).unwrap_or(u32::MAX), value });
        }
    };
    match tensor.datatype {
        Datatype::Fp32 => {
            let values = tensor.data.as_chunks::<4>().0;
            values
                .iter()
                .enumerate()
                .for_each(|(index, bytes)| check(index, f32::from_le_bytes(*bytes).into()));
        }
        Datatype::Fp64 => {
            let values = tensor.data.as_chunks::<8>().0;
            values.iter().enumerate().for_each(|(index, bytes)| check(index, f64::from_le_bytes(*bytes)));
        }
        Datatype::Int32 => {
            let values = tensor.data.as_chunks::<4>().0;
            values
                .iter()
                .enumerate()
                .for_each(|(index, bytes)| check(index, i32::from_le_bytes(*bytes).into()));
        }
        Datatype::Int64 => {
            let values = tensor.data.as_chunks::<8>().0;
            values
                .iter()
                .enumerate()
                .for_each(|(index, bytes)| check(index, i64::from_le_bytes(*bytes) as f64));
        }
        _ => {}
    }
}

/// By row and feature. There are at most [`WARNING_LIMIT`], which a sort from the library is not worth its kilobytes for.
fn sort(found: &mut [OutOfRange]) {
    for end in 1..found.len() {
        let key = |one: &OutOfRange| (one.row, one.feature);
        let mut at = end;
        while at > 0 && found.get(at - 1).map(key) > found.get(at).map(key) {
            found.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[inline(never)]
fn missing_tensor(spec: &TensorSpec, tensors: &[TensorView<'_>]) -> PredictError {
    let given: Vec<String> = tensors.iter().map(|tensor| format!("`{}`", tensor.name)).collect();
    let given = if given.is_empty() { "none".to_owned() } else { given.join(", ") };
    invalid(
        format!(
            "input `{}` is missing; expected {} {:?}, the request has {given}",
            spec.name, spec.datatype, spec.shape
        ),
        "send a tensor with this name",
    )
}

fn names(specs: &[TensorSpec]) -> String {
    specs.iter().map(|spec| format!("`{}`", spec.name)).collect::<Vec<_>>().join(", ")
}

fn invalid(message: String, hint: &str) -> PredictError {
    PredictError::InvalidInput { message, hint: hint.to_owned() }
}
