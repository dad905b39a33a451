//! Sampling at places that are operands.

use super::{choice, rounded};
use crate::operator::required;
use crate::ops::movement::{ABSENT, index, lengths, room, walk};
use crate::shape::{elements, strides};
use crate::{Build, Kernel, Kind, Problem, Tensor};

/// Rounds what is computed with coordinates to the precision that they have, so that a place at a border lies where
/// single precision puts it.
fn precision(kind: Kind) -> fn(f64) -> f64 {
    if kind == Kind::F64 { |number| number } else { |number| f64::from(number as f32) }
}

fn work(parts: &[usize]) -> u64 {
    parts
        .iter()
        .fold(1, |product: u64, &part| product.saturating_mul(u64::try_from(part).unwrap_or(u64::MAX)))
}

/// `theta` times the coordinates of each place of a grid over -1 to 1, the last coordinate first.
pub(super) fn affine_grid(build: &Build<'_>) -> Result<Kernel, Problem> {
    let align = build.attributes.flag("align_corners", false)?;
    Ok(Box::new(move |operands, meter| {
        let (theta, size) = (required(operands, 0)?, lengths(required(operands, 1)?)?);
        let (batch, sides) = match size.as_slice() {
            [batch, _, sides @ ..] if matches!(sides.len(), 2 | 3) => (*batch, sides),
            size => {
                return Err(Problem::invalid(format!(
                    "`size` {size:?} is not [N, C, H, W] or [N, C, D, H, W]"
                )));
            }
        };
        let rank = sides.len();
        if theta.shape() != [batch, rank, rank + 1] {
            return Err(Problem::invalid(format!(
                "`theta` has the shape {:?}, expected {:?}",
                theta.shape(),
                [batch, rank, rank + 1]
            )));
        }
        let mut shape = vec![batch];
        shape.extend(sides);
        shape.push(rank);
        let count = meter.room(&shape, size_of::<f64>())?;
        let mut numbers = Vec::with_capacity(count);
        if count == 0 {
            return Ok(vec![Tensor::new(shape, theta.kind().empty())?]);
        }
        meter.work(work(&[count, rank + 1]))?;
        let theta_rows = theta.doubles()?;
        let steps = strides(sides);
        let points = elements(sides).unwrap_or(0);
        for matrix in theta_rows.chunks_exact(rank * (rank + 1)) {
            for point in 0..points {
                let coordinates: Vec<f64> = sides
                    .iter()
                    .zip(&steps)
                    .map(|(&len, &step)| {
                        let at = (point / step.max(1) % len.max(1)) as f64;
                        match len {
                            _ if !align => (2.0 * at + 1.0) / len as f64 - 1.0,
                            1 => 0.0,
                            _ => 2.0 * at / (len as f64 - 1.0) - 1.0,
                        }
                    })
                    .collect();
                for row in matrix.chunks_exact(rank + 1) {
                    let ones = coordinates.iter().rev().copied().chain([1.0]);
                    numbers.push(row.iter().zip(ones).map(|(a, b)| a * b).sum());
                }
            }
        }
        Ok(vec![Tensor::new(shape, rounded(theta.kind(), numbers))?])
    }))
}

#[derive(Clone, Copy, PartialEq)]
enum Padding {
    Zeros,
    Border,
    Reflection,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Nearest,
    Linear,
    Cubic,
}

/// A place between `low` and `high`: mirrored there as often as needed.
fn reflected(at: f64, low: f64, high: f64) -> f64 {
    let range = high - low;
    if range <= 0.0 {
        return low;
    }
    let at = (at - low).rem_euclid(2.0 * range);
    low + if at > range { 2.0 * range - at } else { at }
}

/// Samples along one axis of length `len`: the index, or [`ABSENT`], and the weight of each element.
fn axis_taps(at: f64, len: usize, mode: Mode, padding: Padding, align: bool) -> Vec<(usize, f64)> {
    let end = len as f64;
    let (low, high) = if align { (0.0, end - 1.0) } else { (-0.5, end - 0.5) };
    let at = if mode == Mode::Nearest { at.round_ties_even() } else { at };
    let at = match padding {
        Padding::Border if !(low..=high).contains(&at) => at.clamp(0.0, end - 1.0),
        Padding::Reflection if !(low..=high).contains(&at) => reflected(at, low, high),
        _ => at,
    };
    let existing = |index: i64| match usize::try_from(index) {
        Ok(index) if index < len => index,
        _ if padding == Padding::Zeros => ABSENT,
        _ if padding == Padding::Border => {
            if index < 0 {
                0
            } else {
                len - 1
            }
        }
        _ => (reflected(index as f64, low, high).max(0.0) as usize).min(len - 1),
    };
    let floor = at.floor();
    let (first, x) = (floor as i64, at - floor);
    match mode {
        Mode::Nearest => vec![(existing(at as i64), 1.0)],
        Mode::Linear => vec![(existing(first), 1.0 - x), (existing(first.saturating_add(1)), x)],
        Mode::Cubic => {
            const A: f64 = -0.75;
            let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
            let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
            let weights = [far(x + 1.0), near(x), near(1.0 - x), far(2.0 - x)];
            (-1..).zip(weights).map(|(step, weight)| (existing(first.saturating_add(step)), weight)).collect()
        }
    }
}

pub(super) fn grid_sample(build: &Build<'_>) -> Result<Kernel, Problem> {
    let align = build.attributes.flag("align_corners", false)?;
    let default = if build.opset < 20 { "bilinear" } else { "linear" };
    let mode = choice(
        &build.attributes,
        "mode",
        default,
        &[
            ("linear", Mode::Linear),
            ("nearest", Mode::Nearest),
            ("cubic", Mode::Cubic),
            ("bilinear", Mode::Linear),
            ("bicubic", Mode::Cubic),
        ],
    )?;
    let padding = choice(
        &build.attributes,
        "padding_mode",
        "zeros",
        &[("zeros", Padding::Zeros), ("border", Padding::Border), ("reflection", Padding::Reflection)],
    )?;
    Ok(Box::new(move |operands, meter| {
        let (x, grid) = (required(operands, 0)?, required(operands, 1)?);
        let misfit = || {
            Problem::invalid(format!("a grid of the shape {:?} does not fit {:?}", grid.shape(), x.shape()))
        };
        let (&[batch, channels], sides) = x.shape().split_first_chunk().ok_or_else(misfit)?;
        let (&rank, points) = grid.shape().split_last().ok_or_else(misfit)?;
        let (&same, points) = points.split_first().ok_or_else(misfit)?;
        if rank != sides.len() || rank == 0 || points.len() != rank || same != batch {
            return Err(misfit());
        }
        let mut shape = vec![batch, channels];
        shape.extend(points);
        room(meter, &shape, x)?;
        let count = meter.room(&shape, size_of::<f64>())?;
        if count == 0 {
            return Ok(vec![Tensor::new(shape, x.kind().empty())?]);
        }
        if sides.contains(&0) {
            return Err(misfit());
        }
        let each = match mode {
            Mode::Nearest => 1_usize,
            Mode::Linear => 2,
            Mode::Cubic => 4,
        };
        let taps = each.saturating_pow(u32::try_from(rank).unwrap_or(u32::MAX));
        meter.work(work(&[count, taps]))?;
        meter.room(&[taps], 32)?;
        meter.room(grid.shape(), size_of::<f64>())?;
        let round = precision(grid.kind());
        let coordinates = grid.doubles()?;
        let (strides, plane) = (strides(sides), elements(sides).unwrap_or(0));
        let points = elements(points).unwrap_or(0);
        let mut places = vec![ABSENT; if mode == Mode::Nearest { count } else { 0 }];
        let mut sums = vec![0.0_f64; if mode == Mode::Nearest { 0 } else { count }];
        let numbers = if mode == Mode::Nearest { Vec::new() } else { x.doubles()? };
        for (point, coordinates) in coordinates.chunks_exact(rank).enumerate() {
            let (image, point) = (point / points, point % points);
            let mut all = vec![(0_usize, 1.0_f64)];
            for ((&at, &len), &stride) in coordinates.iter().rev().zip(sides).zip(&strides) {
                let end = len as f64;
                let at = if align {
                    round(round(round(at + 1.0) / 2.0) * (end - 1.0))
                } else {
                    round(round(round(at + 1.0) * end) - 1.0) / 2.0
                };
                let axis = axis_taps(at, len, mode, padding, align);
                all = all
                    .iter()
                    .flat_map(|&(place, weight)| {
                        axis.iter().map(move |&(at, own)| {
                            (place.saturating_add(at.saturating_mul(stride)), weight * own)
                        })
                    })
                    .collect();
            }
            for channel in 0..channels {
                let plane_at = image * channels + channel;
                let (base, to) = (plane_at * plane, plane_at * points + point);
                if let (Some(to), Some((place, _))) = (places.get_mut(to), all.first()) {
                    *to = base.saturating_add(*place);
                }
                if let Some(to) = sums.get_mut(to) {
                    for (place, weight) in &all {
                        *to += numbers.get(base.saturating_add(*place)).map_or(0.0, |number| weight * number);
                    }
                }
            }
        }
        let data =
            if mode == Mode::Nearest { walk(x.data(), &[places], None)? } else { rounded(x.kind(), sums) };
        Ok(vec![Tensor::new(shape, data)?])
    }))
}

/// An image of `[N, C, H, W]` in double precision.
struct Images {
    channels: usize,
    height: usize,
    width: usize,
    numbers: Vec<f64>,
}

impl Images {
    fn new(x: &Tensor) -> Result<(Self, usize), Problem> {
        let &[batch, channels, height, width] = x.shape() else {
            return Err(Problem::invalid(format!("the shape {:?} is not [N, C, H, W]", x.shape())));
        };
        Ok((Self { channels, height, width, numbers: x.doubles()? }, batch))
    }

    fn at(&self, plane: usize, row: usize, column: usize) -> f64 {
        let place = (plane * self.height + row) * self.width + column;
        self.numbers.get(place).copied().unwrap_or(0.0)
    }
}

/// Four corners around a place and their weights; none outside of the image, whose border is one element wide.
fn corners(y: f64, x: f64, height: usize, width: usize) -> Option<[(usize, usize, f64); 4]> {
    let (end_y, end_x) = (height as f64, width as f64);
    if !(-1.0..=end_y).contains(&y) || !(-1.0..=end_x).contains(&x) || height == 0 || width == 0 {
        return None;
    }
    let split = |at: f64, len: usize| {
        let at = at.max(0.0).min(len as f64 - 1.0);
        let low = (at as usize).min(len - 1);
        (low, (low + 1).min(len - 1), at - low as f64)
    };
    let ((top, bottom, y), (left, right, x)) = (split(y, height), split(x, width));
    Some([
        (top, left, (1.0 - y) * (1.0 - x)),
        (top, right, (1.0 - y) * x),
        (bottom, left, y * (1.0 - x)),
        (bottom, right, y * x),
    ])
}

/// Each bin is the mean, or the greatest, of samples at a grid of places in it. For the greatest, the four corners
/// are not summed but compared, each with its weight.
pub(super) fn roi_align(build: &Build<'_>) -> Result<Kernel, Problem> {
    let all = &build.attributes;
    let side = |name: &str, default: i64| -> Result<usize, Problem> {
        let value = all.int_or(name, default)?;
        usize::try_from(value).map_err(|_| {
            Problem::attribute(name, format!("{value} is not a length"), "export the model again")
        })
    };
    let (high, wide, ratio) =
        (side("output_height", 1)?, side("output_width", 1)?, side("sampling_ratio", 0)?);
    let scale = f64::from(all.float_or("spatial_scale", 1.0)?);
    let max = choice(all, "mode", "avg", &[("avg", false), ("max", true)])?;
    let half = if build.opset < 16 {
        false
    } else {
        let modes = [("half_pixel", true), ("output_half_pixel", false)];
        choice(all, "coordinate_transformation_mode", "half_pixel", &modes)?
    };
    Ok(Box::new(move |operands, meter| {
        let (x, rois, batches) =
            (required(operands, 0)?, required(operands, 1)?, required(operands, 2)?.integers()?);
        meter.room(x.shape(), size_of::<f64>())?;
        let (images, batch) = Images::new(x)?;
        if rois.shape() != [batches.len(), 4] {
            return Err(Problem::invalid(format!(
                "`rois` has the shape {:?}, expected {:?}",
                rois.shape(),
                [batches.len(), 4]
            )));
        }
        let shape = [batches.len(), images.channels, high, wide];
        let count = meter.room(&shape, size_of::<f64>())?;
        let mut numbers = Vec::with_capacity(count);
        if count == 0 {
            return Ok(vec![Tensor::new(shape, x.kind().empty())?]);
        }
        let round = precision(x.kind());
        for (roi, &image) in rois.doubles()?.chunks_exact(4).zip(&batches) {
            let image = index(image, batch)?;
            let offset = if half { 0.5 } else { 0.0 };
            let place = |at: usize| round(round(roi.get(at).copied().unwrap_or(0.0) * scale) - offset);
            let span = |from: usize, to: usize| {
                let span = round(place(to) - place(from));
                if half { span } else { span.max(1.0) }
            };
            let bin = (round(span(1, 3) / high as f64), round(span(0, 2) / wide as f64));
            let samples = |bin: f64| if ratio > 0 { ratio } else { bin.ceil().max(0.0) as usize };
            let (rows, columns) = (samples(bin.0), samples(bin.1));
            let rows = if columns == 0 { 0 } else { rows };
            meter.work(work(&[images.channels, high, wide, rows, columns, 8]))?;
            let mean = work(&[rows, columns]).max(1) as f64;
            for channel in 0..images.channels {
                let plane = image * images.channels + channel;
                for (row, column) in (0..high).flat_map(|row| (0..wide).map(move |column| (row, column))) {
                    let mut result: Option<f64> = None;
                    for (down, right) in
                        (0..rows).flat_map(|down| (0..columns).map(move |right| (down, right)))
                    {
                        let at = |start: f64, cell: usize, bin: f64, sample: usize, all: usize| {
                            start + cell as f64 * bin + (sample as f64 + 0.5) * bin / all as f64
                        };
                        let y = at(place(1), row, bin.0, down, rows);
                        let x = at(place(0), column, bin.1, right, columns);
                        let parts = corners(y, x, images.height, images.width).unwrap_or_default();
                        let parts = parts.map(|(row, column, weight)| weight * images.at(plane, row, column));
                        result = Some(match result {
                            sum if !max => sum.unwrap_or(0.0) + parts.iter().sum::<f64>(),
                            most => parts.into_iter().chain(most).fold(f64::NEG_INFINITY, f64::max),
                        });
                    }
                    numbers.push(result.unwrap_or(0.0) / if max { 1.0 } else { mean });
                }
            }
        }
        Ok(vec![Tensor::new(shape, rounded(x.kind(), numbers))?])
    }))
}

/// The greatest element of each bin of each region; 0 where a bin holds nothing. Corners of regions are rounded to
/// whole elements.
pub(super) fn max_roi_pool(build: &Build<'_>) -> Result<Kernel, Problem> {
    let scale = f64::from(build.attributes.float_or("spatial_scale", 1.0)?);
    let pooled = build.attributes.ints("pooled_shape")?.unwrap_or(&[]);
    let lens: Vec<usize> =
        pooled.iter().filter_map(|&len| usize::try_from(len).ok()).filter(|&len| len > 0).collect();
    let &[high, wide] = lens.as_slice() else {
        let message = format!("{pooled:?} is not a height and a width");
        return Err(Problem::attribute("pooled_shape", message, "export the model again"));
    };
    Ok(Box::new(move |operands, meter| {
        let (x, rois) = (required(operands, 0)?, required(operands, 1)?);
        meter.room(x.shape(), size_of::<f64>())?;
        let (images, batch) = Images::new(x)?;
        let &[regions, 5] = rois.shape() else {
            return Err(Problem::invalid(format!(
                "`rois` has the shape {:?}, expected [regions, 5]",
                rois.shape()
            )));
        };
        let shape = [regions, images.channels, high, wide];
        let count = meter.room(&shape, size_of::<f64>())?;
        let mut numbers = Vec::with_capacity(count);
        let round = precision(x.kind());
        if count == 0 {
            return Ok(vec![Tensor::new(shape, x.kind().empty())?]);
        }
        for roi in rois.doubles()?.chunks_exact(5) {
            let place = |at: usize| libm::round(round(roi.get(at).copied().unwrap_or(0.0) * scale));
            let image = index(roi.first().copied().unwrap_or(0.0) as i64, batch)?;
            // The part of an axis that a bin covers, cut to what exists.
            let part = |from: usize, to: usize, cell: usize, cells: usize, len: usize| {
                let bin = round((place(to) - place(from) + 1.0).max(1.0) / cells as f64);
                let inside = |at: f64| at.clamp(0.0, len as f64) as usize;
                let cell = cell as f64;
                inside((cell * bin).floor() + place(from))..inside(((cell + 1.0) * bin).ceil() + place(from))
            };
            for channel in 0..images.channels {
                let plane = image * images.channels + channel;
                for (row, column) in (0..high).flat_map(|row| (0..wide).map(move |column| (row, column))) {
                    let rows = part(2, 4, row, high, images.height);
                    let columns = part(1, 3, column, wide, images.width);
                    meter.work(work(&[rows.len(), columns.len()]))?;
                    let all = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
                    let most = all.map(|(row, column)| images.at(plane, row, column)).reduce(f64::max);
                    numbers.push(most.unwrap_or(0.0));
                }
            }
        }
        Ok(vec![Tensor::new(shape, rounded(x.kind(), numbers))?])
    }))
}
