//! Resizing and sampling along axes.
//!
//! What is a mean of several elements is computed in double precision and rounded at the end: half precision by way
//! of single precision, integers to the nearest (of two, the even one) that their kind holds. Coordinates are
//! computed as the specification writes them.

use super::movement::{ABSENT, PLACE, around, element, lengths, select};
use crate::operator::{ai, optional, required};
use crate::shape::{axes, axis};
use crate::{Attributes, Build, Data, Kernel, Kind, Meter, Numbers, Operator, Problem, Tensor};

mod sample;

pub(super) const TABLE: &[Operator] = &[
    ai("AffineGrid", 20, &["align_corners"], sample::affine_grid),
    ai("GridSample", 16, &["align_corners", "mode", "padding_mode"], sample::grid_sample),
    ai("MaxRoiPool", 1, &["pooled_shape", "spatial_scale"], sample::max_roi_pool),
    ai(
        "Resize",
        10,
        &[
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ],
        resize,
    ),
    ai(
        "RoiAlign",
        10,
        &[
            "coordinate_transformation_mode",
            "mode",
            "output_height",
            "output_width",
            "sampling_ratio",
            "spatial_scale",
        ],
        sample::roi_align,
    ),
    ai("Upsample", 7, &["mode", "scales"], upsample),
];

fn choice<T: Copy>(
    attributes: &Attributes<'_>,
    name: &str,
    default: &'static str,
    choices: &[(&str, T)],
) -> Result<T, Problem> {
    let text = attributes.text_or(name, default)?;
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        Problem::attribute(name, format!("there is no `{text}`"), format!("use one of {}", names.join(", ")))
    })
}

/// Doubles as elements of a kind.
fn rounded(kind: Kind, numbers: Vec<f64>) -> Data {
    match kind {
        Kind::F64 => Data::F64(numbers),
        kind if kind.is_float() => {
            Numbers::F32(numbers.into_iter().map(|one| one as f32).collect()).narrow(kind)
        }
        kind => {
            let (least, most) = match kind {
                Kind::Bool => (0.0, 1.0),
                Kind::I8 => (f64::from(i8::MIN), f64::from(i8::MAX)),
                Kind::I16 => (f64::from(i16::MIN), f64::from(i16::MAX)),
                Kind::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
                Kind::I64 => (i64::MIN as f64, i64::MAX as f64),
                Kind::U8 => (0.0, f64::from(u8::MAX)),
                Kind::U16 => (0.0, f64::from(u16::MAX)),
                Kind::U32 => (0.0, f64::from(u32::MAX)),
                _ => (0.0, u64::MAX as f64),
            };
            let all = numbers.into_iter().map(|one| one.round_ties_even().clamp(least, most));
            if kind == Kind::U64 {
                return Data::U64(all.map(|one| one as u64).collect());
            }
            Numbers::I64(all.map(|one| one as i64).collect()).narrow(kind)
        }
    }
}

/// How an element of the result comes from those around its place.
#[derive(Clone, Copy)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

#[derive(Clone, Copy)]
enum Nearest {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

#[derive(Clone, Copy, PartialEq)]
enum Coordinates {
    AlignCorners,
    Asymmetric,
    CropAndResize,
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    /// Of operator set 11 only.
    TfHalfPixel,
}

#[derive(Clone, Copy, PartialEq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// What a node says about how to resize.
struct Resizing {
    mode: Mode,
    nearest: Nearest,
    coordinates: Coordinates,
    policy: Policy,
    antialias: bool,
    exclude_outside: bool,
    /// The parameter of the cubic filter.
    a: f64,
    extrapolation: f64,
}

/// One axis that is resized.
struct Resized {
    axis: usize,
    from: usize,
    to: usize,
    scale: f64,
    /// The part of the axis that is seen, from 0 to 1.
    seen: (f64, f64),
}

fn resize(build: &Build<'_>) -> Result<Kernel, Problem> {
    let all = &build.attributes;
    let mode = choice(
        all,
        "mode",
        "nearest",
        &[("nearest", Mode::Nearest), ("linear", Mode::Linear), ("cubic", Mode::Cubic)],
    )?;
    if build.opset == 10 {
        return scaled(mode, None);
    }
    let how = Resizing {
        mode,
        nearest: choice(
            all,
            "nearest_mode",
            "round_prefer_floor",
            &[
                ("round_prefer_floor", Nearest::PreferFloor),
                ("round_prefer_ceil", Nearest::PreferCeil),
                ("floor", Nearest::Floor),
                ("ceil", Nearest::Ceil),
            ],
        )?,
        coordinates: choice(
            all,
            "coordinate_transformation_mode",
            "half_pixel",
            &[
                ("align_corners", Coordinates::AlignCorners),
                ("asymmetric", Coordinates::Asymmetric),
                ("half_pixel", Coordinates::HalfPixel),
                ("half_pixel_symmetric", Coordinates::HalfPixelSymmetric),
                ("pytorch_half_pixel", Coordinates::PytorchHalfPixel),
                ("tf_crop_and_resize", Coordinates::CropAndResize),
                ("tf_half_pixel_for_nn", Coordinates::TfHalfPixel),
            ],
        )?,
        policy: choice(
            all,
            "keep_aspect_ratio_policy",
            "stretch",
            &[
                ("stretch", Policy::Stretch),
                ("not_larger", Policy::NotLarger),
                ("not_smaller", Policy::NotSmaller),
            ],
        )?,
        antialias: all.flag("antialias", false)?,
        exclude_outside: all.flag("exclude_outside", false)?,
        a: f64::from(all.float_or("cubic_coeff_a", -0.75)?),
        extrapolation: f64::from(all.float_or("extrapolation_value", 0.0)?),
    };
    let given = all.ints("axes")?.map(<[i64]>::to_vec);
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let given = match &given {
            None => (0..x.rank()).collect(),
            Some(given) => {
                axes(given, x.rank())?;
                given.iter().map(|&one| axis(one, x.rank())).collect::<Result<Vec<_>, _>>()?
            }
        };
        // An empty tensor stands for an operand that is omitted.
        let there = |index: usize| optional(operands, index).filter(|tensor| !tensor.is_empty());
        let mut plan = match (there(2), there(3)) {
            (Some(scales), None) => by_scales(x, &given, &scales.doubles()?)?,
            (None, Some(sizes)) => by_sizes(x, &given, &lengths(sizes)?, how.policy)?,
            (None, None) if given.is_empty() => Vec::new(),
            _ => return Err(Problem::invalid("expected either `scales` or `sizes`")),
        };
        if how.coordinates == Coordinates::CropAndResize {
            let seen = there(1).map(Tensor::doubles).transpose()?.unwrap_or_default();
            if seen.len() != given.len().saturating_mul(2) {
                return Err(Problem::invalid(format!(
                    "`roi` has {} entries for {} axes",
                    seen.len(),
                    given.len()
                )));
            }
            let (starts, ends) = seen.split_at_checked(given.len()).unwrap_or_default();
            for ((axis, &start), &end) in plan.iter_mut().zip(starts).zip(ends) {
                axis.seen = (start, end);
            }
        }
        Ok(vec![resized(x, &plan, &how, meter)?])
    }))
}

fn upsample(build: &Build<'_>) -> Result<Kernel, Problem> {
    let modes = [("nearest", Mode::Nearest), ("linear", Mode::Linear), ("bilinear", Mode::Linear)];
    let mode = choice(&build.attributes, "mode", "nearest", &modes)?;
    let scales = if build.opset < 9 { build.attributes.floats("scales")? } else { None };
    scaled(mode, scales.map(|scales| scales.iter().map(|&one| f64::from(one)).collect()))
}

/// As before operator set 11: by scales only, which are an attribute or operand 1.
fn scaled(mode: Mode, fixed: Option<Vec<f64>>) -> Result<Kernel, Problem> {
    let how = Resizing {
        mode,
        nearest: Nearest::Floor,
        coordinates: Coordinates::Asymmetric,
        policy: Policy::Stretch,
        antialias: false,
        exclude_outside: false,
        a: -0.75,
        extrapolation: 0.0,
    };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let scales = fixed.clone().map_or_else(|| required(operands, 1)?.doubles(), Ok)?;
        let all: Vec<usize> = (0..x.rank()).collect();
        Ok(vec![resized(x, &by_scales(x, &all, &scales)?, &how, meter)?])
    }))
}

fn by_scales(x: &Tensor, axes: &[usize], scales: &[f64]) -> Result<Vec<Resized>, Problem> {
    if scales.len() != axes.len() {
        return Err(Problem::invalid(format!("{} scales for {} axes", scales.len(), axes.len())));
    }
    let plan = axes.iter().zip(scales).map(|(&axis, &scale)| {
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Problem::invalid(format!("an axis cannot be scaled by {scale}")));
        }
        let from = x.shape().get(axis).copied().unwrap_or(0);
        let to = (from as f64 * scale).floor() as usize;
        Ok(Resized { axis, from, to, scale, seen: (0.0, 1.0) })
    });
    plan.collect()
}

fn by_sizes(x: &Tensor, axes: &[usize], sizes: &[usize], policy: Policy) -> Result<Vec<Resized>, Problem> {
    if sizes.len() != axes.len() {
        return Err(Problem::invalid(format!("{} sizes for {} axes", sizes.len(), axes.len())));
    }
    let mut plan = Vec::with_capacity(axes.len());
    for (&axis, &to) in axes.iter().zip(sizes) {
        let from = x.shape().get(axis).copied().unwrap_or(0);
        if from == 0 && to > 0 {
            return Err(Problem::invalid(format!("axis {axis} is empty and cannot be resized to {to}")));
        }
        let scale = if from == to { 1.0 } else { to as f64 / from as f64 };
        plan.push(Resized { axis, from, to, scale, seen: (0.0, 1.0) });
    }
    let scales = plan.iter().map(|axis| axis.scale);
    let scale = match policy {
        Policy::Stretch => None,
        Policy::NotLarger => scales.reduce(f64::min),
        Policy::NotSmaller => scales.reduce(f64::max),
    };
    if let Some(scale) = scale {
        for axis in &mut plan {
            axis.scale = scale;
            axis.to = (scale * axis.from as f64 + 0.5).floor() as usize;
        }
    }
    Ok(plan)
}

impl Resized {
    /// Where the element at an index of the result lies in the operand; `None` outside of what a crop may see.
    fn place(&self, index: usize, coordinates: Coordinates) -> Option<f64> {
        let at = index as f64;
        let last = self.from as f64 - 1.0;
        // The length that the scale asks for, which need not be whole.
        let to = self.scale * self.from as f64;
        let half_pixel = (at + 0.5) / self.scale - 0.5;
        Some(match coordinates {
            Coordinates::AlignCorners if to == 1.0 => 0.0,
            Coordinates::AlignCorners => at * last / (to - 1.0),
            Coordinates::Asymmetric => at / self.scale,
            Coordinates::PytorchHalfPixel if self.to == 1 => 0.0,
            Coordinates::HalfPixel | Coordinates::PytorchHalfPixel => half_pixel,
            Coordinates::TfHalfPixel => (at + 0.5) / self.scale,
            Coordinates::HalfPixelSymmetric => {
                self.from as f64 / 2.0 * (1.0 - self.to as f64 / to) + half_pixel
            }
            Coordinates::CropAndResize => {
                let (start, end) = self.seen;
                let place = if to == 1.0 {
                    (end - start) * last / 2.0
                } else {
                    at * (end - start) * last / (to - 1.0)
                } + start * last;
                return Some(place).filter(|place| (0.0..=last).contains(place));
            }
        })
    }

    fn is_identity(&self) -> bool {
        self.from == self.to && (self.scale - 1.0).abs() < 1e-9 && self.seen == (0.0, 1.0)
    }

    /// An index that exists: the nearest to one that perhaps does not.
    fn inside(&self, index: i64) -> usize {
        usize::try_from(index.max(0)).unwrap_or(usize::MAX).min(self.from.saturating_sub(1))
    }
}

/// What an element of the result is the sum of: indices and weights. `None` outside of what a crop may see.
type Taps = Option<Vec<(usize, f64)>>;

impl Resizing {
    fn nearest(&self, axis: &Resized, index: usize) -> usize {
        let Some(place) = axis.place(index, self.coordinates) else { return ABSENT };
        axis.inside(match self.nearest {
            Nearest::PreferFloor => (place - 0.5).ceil(),
            Nearest::PreferCeil => (place + 0.5).floor(),
            Nearest::Floor => place.floor(),
            Nearest::Ceil => place.ceil(),
        } as i64)
    }

    /// The weight of an element at this distance.
    fn filter(&self, distance: f64) -> f64 {
        let (x, a) = (distance.abs(), self.a);
        match self.mode {
            Mode::Cubic if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Mode::Cubic if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
            Mode::Cubic => 0.0,
            _ => (1.0 - x).max(0.0),
        }
    }

    /// How much wider than for one element in between the filter is: it is stretched when an axis shrinks.
    fn stretch(&self, axis: &Resized) -> f64 {
        if self.antialias { axis.scale.min(1.0) } else { 1.0 }
    }

    /// How many elements before and behind its place the filter sees.
    fn reach(&self, axis: &Resized) -> usize {
        let support = if matches!(self.mode, Mode::Cubic) { 2.0 } else { 1.0 };
        (support / self.stretch(axis)).ceil() as usize
    }

    /// Elements beyond an end are those at the end, or count nothing.
    fn taps(&self, axis: &Resized, index: usize) -> Taps {
        let place = axis.place(index, self.coordinates)?;
        let (stretch, reach) = (self.stretch(axis), self.reach(axis));
        let first = (place.floor() as i64).saturating_sub(i64::try_from(reach).unwrap_or(i64::MAX) - 1);
        let mut taps = Vec::new();
        for step in 0..reach.saturating_mul(2) {
            let at = first.saturating_add(i64::try_from(step).unwrap_or(i64::MAX));
            let weight = self.filter((at as f64 - place) * stretch);
            let inside = axis.inside(at);
            let exists = i64::try_from(inside) == Ok(at);
            // An element without weight is passed over: were it infinite, the sum would not be a number.
            if weight != 0.0 && (exists || !self.exclude_outside) {
                taps.push((inside, weight));
            }
        }
        let sum: f64 = taps.iter().map(|(_, weight)| weight).sum();
        if (self.antialias || self.exclude_outside) && sum != 0.0 {
            for (_, weight) in &mut taps {
                *weight /= sum;
            }
        }
        Some(taps)
    }
}

fn resized(x: &Tensor, plan: &[Resized], how: &Resizing, meter: &mut Meter) -> Result<Tensor, Problem> {
    let mut shape = x.shape().to_vec();
    for axis in plan {
        if let Some(len) = shape.get_mut(axis.axis) {
            *len = axis.to;
        }
    }
    if plan.iter().all(Resized::is_identity) {
        return Ok(x.clone());
    }
    if let Mode::Nearest = how.mode {
        let mut by_axis: Vec<Option<&Resized>> = vec![None; x.rank()];
        for axis in plan.iter().filter(|axis| !axis.is_identity()) {
            if let Some(place) = by_axis.get_mut(axis.axis) {
                *place = Some(axis);
            }
        }
        let outside = if x.kind() == Kind::Text { None } else { Some(element(x.kind(), how.extrapolation)) };
        let place = |at: usize, index: usize| match by_axis.get(at).copied().flatten() {
            Some(axis) => how.nearest(axis, index),
            None => index,
        };
        return select(x, shape, outside.as_ref(), meter, &place);
    }
    if meter.room(&shape, size_of::<f64>())? == 0 {
        return Tensor::new(shape, x.kind().empty());
    }
    meter.room(x.shape(), size_of::<f64>())?;
    let mut numbers = x.doubles()?;
    let mut shape = x.shape().to_vec();
    for axis in plan.iter().filter(|axis| !axis.is_identity()) {
        let reach = how.reach(axis).saturating_mul(2);
        meter.room(&[axis.to, reach], 2 * PLACE)?;
        let (before, len, after) = around(&shape, axis.axis);
        if let Some(len) = shape.get_mut(axis.axis) {
            *len = axis.to;
        }
        let count = meter.room(&shape, size_of::<f64>())?;
        meter.work(u64::try_from(count.saturating_mul(reach)).unwrap_or(u64::MAX))?;
        let taps: Vec<Taps> = (0..axis.to).map(|index| how.taps(axis, index)).collect();
        let mut sums = vec![0.0; count];
        let mut rows = sums.chunks_exact_mut(after.max(1));
        for block in numbers.chunks_exact(len.saturating_mul(after).max(1)).take(before) {
            for (taps, row) in taps.iter().zip(&mut rows) {
                let Some(taps) = taps else {
                    row.fill(how.extrapolation);
                    continue;
                };
                for &(at, weight) in taps {
                    let from = block.iter().skip(at.saturating_mul(after));
                    for (sum, number) in row.iter_mut().zip(from) {
                        *sum += weight * number;
                    }
                }
            }
        }
        numbers = sums;
    }
    Tensor::new(shape, rounded(x.kind(), numbers))
}

#[cfg(test)]
mod tests {
    use crate::ops::movement::tests::{floats, ints, run};
    use crate::{Attribute, Tensor};

    fn text(value: &str) -> Attribute {
        Attribute::Text(value.to_owned())
    }

    #[test]
    fn integers_are_rounded_to_even_and_stay_in_range() {
        let x = Some(Tensor::vector(vec![0_u8, 255, 254]));
        let mode = [("mode", text("cubic"))];
        let y = run("Resize", &mode, &[x, None, None, ints(&[6])]).unwrap();
        assert_eq!(y[0].elements::<u8>().unwrap(), [0, 58, 197, 255, 255, 254]);
    }

    #[test]
    fn a_neighbour_without_weight_does_not_count() {
        let x = floats(&[2], &[1.0, f32::INFINITY]);
        let how = [("mode", text("linear")), ("coordinate_transformation_mode", text("align_corners"))];
        let y = run("Resize", &how, &[x, None, None, ints(&[3])]).unwrap();
        assert_eq!(y[0].elements::<f32>().unwrap(), [1.0, f32::INFINITY, f32::INFINITY]);
    }

    #[test]
    fn texts_are_resized_too() {
        let x = Some(Tensor::vector(vec!["a".to_owned(), "b".to_owned()]));
        let y = run("Resize", &[], &[x.clone(), None, None, ints(&[4])]).unwrap();
        assert_eq!(y[0].elements::<String>().unwrap(), ["a", "a", "b", "b"]);
        assert!(run("Resize", &[("mode", text("linear"))], &[x, None, None, ints(&[4])]).is_err());
    }

    #[test]
    fn scales_that_make_no_sense() {
        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY, 1e30] {
            assert!(run("Resize", &[], &[floats(&[1], &[1.0]), None, floats(&[1], &[scale])]).is_err());
        }
        let nothing = run("Resize", &[], &[floats(&[1], &[1.0]), None, floats(&[1], &[1e-30])]).unwrap();
        assert_eq!(nothing[0].shape(), [0]);
    }

    #[test]
    fn a_huge_region_is_refused() {
        let roi = floats(&[1, 4], &[0.0, 0.0, 1e30, 1e30]);
        let problem = run("RoiAlign", &[], &[floats(&[1, 1, 1, 1], &[1.0]), roi, ints(&[0])]);
        assert!(problem.unwrap_err().contains("operations"));
    }

    #[test]
    fn regions_are_pooled_in_whole_elements() {
        let x: Vec<f32> = (0..16_u8).map(f32::from).collect();
        let shape = [("pooled_shape", Attribute::Ints(vec![2, 2]))];
        let rois = floats(&[2, 5], &[0.0, 0.0, 0.0, 3.0, 3.0, 0.0, 9.0, 9.0, 9.0, 9.0]);
        let y = run("MaxRoiPool", &shape, &[floats(&[1, 1, 4, 4], &x), rois]).unwrap();
        assert_eq!(y[0].elements::<f32>().unwrap(), [5.0, 7.0, 13.0, 15.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
