//! Spectra and windows.
//!
//! Everything is computed in double precision with the sines of the `libm` crate and rounded at the end. A transform is split along
//! the prime factors of its length; the parts are summed from the first to the last.

use std::f64::consts::PI;

use super::product::number::{Number, Width, width};
use super::product::{operations, size};
use crate::operator::{ai, optional, required};
use crate::shape::{axis, strides};
use crate::{Attributes, Build, Data, Kernel, Kind, Meter, Operator, Problem, Tensor};

pub(super) const TABLE: &[Operator] = &[
    ai("BlackmanWindow", 17, &["output_datatype", "periodic"], |build| window(build, [0.42, 0.5, 0.08])),
    ai("DFT", 17, &["axis", "inverse", "onesided"], dft),
    ai("DFT", 20, &["inverse", "onesided"], dft),
    ai("HammingWindow", 17, &["output_datatype", "periodic"], |build| {
        window(build, [25.0 / 46.0, 21.0 / 46.0, 0.0])
    }),
    ai("HannWindow", 17, &["output_datatype", "periodic"], |build| window(build, [0.5, 0.5, 0.0])),
    ai("MelWeightMatrix", 17, &["output_datatype"], mel_weight_matrix),
    ai("STFT", 17, &["onesided"], stft),
];

/// Real and imaginary part.
type Complex = (f64, f64);

/// The kind that `output_datatype` asks for.
fn output_kind(attributes: &Attributes<'_>) -> Result<Kind, Problem> {
    let number = attributes.int_or("output_datatype", 1)?;
    let kind = Kind::from_number(number).filter(|kind| !kind.is_tiny());
    kind.filter(|kind| !matches!(kind, Kind::Bool | Kind::Text)).ok_or_else(|| {
        let message = format!("{number} is no kind of numbers");
        Problem::attribute("output_datatype", message, "use 1 for single precision")
    })
}

/// Numbers as elements of a kind: rounded for floating point, cut off for integers.
fn of_kind(numbers: Vec<f64>, kind: Kind) -> Data {
    match width(kind) {
        Width::Double => Data::F64(numbers),
        Width::Single => f32::data(numbers.iter().map(|&number| number as f32).collect(), kind),
        Width::Whole => i64::data(numbers.iter().map(|&number| number as i64).collect(), kind),
    }
}

/// A length from the data.
fn length(tensor: &Tensor, name: &str) -> Result<usize, Problem> {
    let len = tensor.integer()?;
    usize::try_from(len).map_err(|_| Problem::invalid(format!("{name} is {len}, which is no length")))
}

/// `a − b cos(2πn / N) + c cos(4πn / N)`. A symmetric window of one element is 1.
fn window(build: &Build<'_>, [a, b, c]: [f64; 3]) -> Result<Kernel, Problem> {
    let kind = output_kind(&build.attributes)?;
    let periodic = build.attributes.flag("periodic", true)?;
    Ok(Box::new(move |operands, meter| {
        let size = length(required(operands, 0)?, "size")?;
        meter.room(&[size], size_of::<f64>())?;
        meter.work(operations(&[size, 16]))?;
        let period = if periodic { size } else { size.saturating_sub(1) } as f64;
        let at = |n: usize| {
            if period == 0.0 {
                return 1.0;
            }
            let angle = 2.0 * PI * n as f64 / period;
            a - b * libm::cos(angle) + c * libm::cos(2.0 * angle)
        };
        Ok(vec![Tensor::new([size], of_kind((0..size).map(at).collect(), kind))?])
    }))
}

/// A discrete Fourier transform of one length.
struct Transform {
    len: usize,
    /// e to the power of ±2πik / len.
    roots: Vec<Complex>,
    /// The prime factors of the length, ascending.
    factors: Vec<usize>,
}

impl Transform {
    /// One for `count` signals, which is counted as work.
    fn new(len: usize, inverse: bool, count: usize, meter: &mut Meter) -> Result<Self, Problem> {
        meter.room(&[len, 4], size_of::<Complex>())?;
        meter.work(operations(&[len, 16]))?;
        let (mut factors, mut rest, mut factor) = (Vec::new(), len, 2);
        while factor <= rest / factor {
            if rest % factor == 0 {
                factors.push(factor);
                rest /= factor;
            } else {
                factor += 1;
            }
        }
        if rest > 1 {
            factors.push(rest);
        }
        let passes = factors.iter().fold(1, |sum: usize, &factor| sum.saturating_add(factor));
        meter.work(operations(&[count, len, passes]))?;
        let sign = if inverse { 1.0 } else { -1.0 };
        let root = |k: usize| {
            let angle = 2.0 * PI * k as f64 / len as f64;
            (libm::cos(angle), sign * libm::sin(angle))
        };
        Ok(Self { len, roots: (0..len).map(root).collect(), factors })
    }

    fn run(&self, signal: &[Complex]) -> Vec<Complex> {
        let mut result = vec![(0.0, 0.0); self.len];
        self.part(signal, 1, &self.factors, &mut result);
        result
    }

    /// The transform of every `step`-th element from the first on.
    fn part(&self, signal: &[Complex], step: usize, factors: &[usize], result: &mut [Complex]) {
        let Some((&factor, inner)) = factors.split_first() else {
            if let (Some(to), Some(from)) = (result.first_mut(), signal.first()) {
                *to = *from;
            }
            return;
        };
        let len = result.len() / factor;
        let mut parts = vec![(0.0, 0.0); result.len()];
        for (index, part) in parts.chunks_exact_mut(len).enumerate() {
            self.part(signal.get(index * step..).unwrap_or_default(), step * factor, inner, part);
        }
        for (k, to) in result.iter_mut().enumerate() {
            let mut sum = (0.0, 0.0);
            let mut place = 0;
            for part in parts.chunks_exact(len) {
                let (Some(&(x, y)), Some(&(c, s))) = (part.get(k % len), self.roots.get(place)) else {
                    continue;
                };
                sum = (sum.0 + (x * c - y * s), sum.1 + (x * s + y * c));
                // k · index, on the circle of this part's roots.
                place = (place + k * step) % self.len;
            }
            *to = sum;
        }
    }
}

/// Which transform is wanted.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    inverse: bool,
    one_sided: bool,
}

/// The transform along an axis of `[…, 1 or 2]`; real signals, where they result, are `[…, 1]`. The one-sided inverse reads half of a
/// spectrum and gives a real signal.
fn dft(build: &Build<'_>) -> Result<Kernel, Problem> {
    let attributes = &build.attributes;
    let wanted = Wanted {
        inverse: attributes.flag("inverse", false)?,
        one_sided: attributes.flag("onesided", false)?,
    };
    let fixed = if build.opset < 20 { attributes.int_or("axis", 1)? } else { -2 };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let along = optional(operands, 2).map_or(Ok(fixed), Tensor::integer)?;
        let len = optional(operands, 1).map(|len| length(len, "dft_length")).transpose()?;
        Ok(vec![transformed(x, along, len, wanted, meter)?])
    }))
}

fn transformed(
    x: &Tensor,
    along: i64,
    len: Option<usize>,
    Wanted { inverse, one_sided }: Wanted,
    meter: &mut Meter,
) -> Result<Tensor, Problem> {
    let at = axis(along, x.rank())?;
    let parts = x.shape().last().copied().unwrap_or(0);
    if at + 1 == x.rank() || !matches!(parts, 1 | 2) {
        return Err(Problem::invalid(format!(
            "axis {along} of the shape {:?} cannot be transformed: the last axis holds real and imaginary part",
            x.shape()
        )));
    }
    if one_sided && !inverse && parts == 2 {
        return Err(Problem::invalid("the spectrum of a complex signal is not one-sided"));
    }
    let own = x.shape().get(at).copied().unwrap_or(0);
    let halved = one_sided && inverse;
    let len = len.unwrap_or(if halved { own.saturating_sub(1).saturating_mul(2) } else { own });
    if len == 0 {
        return Err(Problem::invalid("a transform needs a length of 1 or more"));
    }
    let results = if one_sided && !inverse { len / 2 + 1 } else { len };
    let result_parts = if halved { 1 } else { 2 };
    let mut shape = x.shape().to_vec();
    if let Some(axis) = shape.get_mut(at) {
        *axis = results;
    }
    if let Some(last) = shape.last_mut() {
        *last = result_parts;
    }
    let count = meter.room(&shape, size_of::<f64>())?;
    meter.room(x.shape(), size_of::<f64>())?;
    let outer = size(x.shape().iter().take(at).copied());
    let inner = strides(x.shape()).get(at).copied().unwrap_or(1) / parts;
    let transform = Transform::new(len, inverse, outer.saturating_mul(inner), meter)?;
    let all = x.doubles()?;
    let mut numbers = vec![0.0; count];
    let read = |place: usize| all.get(place).copied().unwrap_or_default();
    let mut signal = vec![(0.0, 0.0); len];
    for (outer, inner) in (0..outer).flat_map(|outer| (0..inner).map(move |at| (outer, at))) {
        let stride = strides(x.shape()).get(at).copied().unwrap_or(1);
        let first = outer * own * stride + inner * parts;
        let given = if halved { own.min(len / 2 + 1) } else { own.min(len) };
        signal.fill((0.0, 0.0));
        for (index, to) in signal.iter_mut().take(given).enumerate() {
            let place = first + index * stride;
            *to = (read(place), if parts == 2 { read(place + 1) } else { 0.0 });
        }
        if halved {
            // The other half of a real signal's spectrum mirrors the first.
            for index in 1..len.div_ceil(2) {
                let (re, im) = signal.get(index).copied().unwrap_or_default();
                if let Some(mirrored) = signal.get_mut(len - index) {
                    *mirrored = (re, -im);
                }
            }
        }
        let spectrum = transform.run(&signal);
        let scale = if inverse { 1.0 / len as f64 } else { 1.0 };
        let stride = stride / parts * result_parts;
        let first = outer * results * stride + inner * result_parts;
        for (index, &(re, im)) in spectrum.iter().take(results).enumerate() {
            let place = first + index * stride;
            for (to, part) in numbers.iter_mut().skip(place).take(result_parts).zip([re, im]) {
                *to = part * scale;
            }
        }
    }
    Tensor::new(shape, of_float(numbers, x.kind())?)
}

fn of_float(numbers: Vec<f64>, kind: Kind) -> Result<Data, Problem> {
    if width(kind) == Width::Whole {
        return Err(Problem::invalid(format!("expected a signal of floating-point numbers, found {kind}")));
    }
    Ok(of_kind(numbers, kind))
}

/// The transforms of parts of a signal that overlap.
fn stft(build: &Build<'_>) -> Result<Kernel, Problem> {
    let one_sided = build.attributes.flag("onesided", true)?;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let &[rows, len, parts @ (1 | 2)] = x.shape() else {
            return Err(Problem::invalid(format!(
                "expected signals [rows, length, 1 or 2], found {:?}",
                x.shape()
            )));
        };
        let step = length(required(operands, 1)?, "frame_step")?;
        let weights = optional(operands, 2);
        let frame = match (optional(operands, 3), weights) {
            (Some(frame), _) => length(frame, "frame_length")?,
            (None, Some(weights)) => weights.len(),
            (None, None) => len,
        };
        if step == 0 || frame == 0 || frame > len {
            return Err(Problem::invalid(format!(
                "frames of {frame} elements, {step} apart, do not fit a signal of {len}"
            )));
        }
        if let Some(weights) = weights.filter(|weights| weights.shape() != [frame]) {
            return Err(Problem::invalid(format!(
                "a window of the shape {:?} does not fit frames of {frame} elements",
                weights.shape()
            )));
        }
        let frames = (len - frame) / step + 1;
        let shape = [rows, frames, frame, parts];
        let count = meter.room(&shape, 2 * size_of::<f64>())?;
        let all = x.doubles()?;
        let weights = weights.map(Tensor::doubles).transpose()?;
        let mut numbers = Vec::with_capacity(count);
        for row in all.chunks_exact(len * parts) {
            for first in (0..frames).map(|frame| frame * step * parts) {
                for (index, &number) in row.iter().skip(first).take(frame * parts).enumerate() {
                    let weight =
                        weights.as_ref().map_or(1.0, |all| all.get(index / parts).copied().unwrap_or(0.0));
                    numbers.push(number * weight);
                }
            }
        }
        let framed = Tensor::new(shape, Data::F64(numbers))?;
        let result = transformed(&framed, 2, None, Wanted { inverse: false, one_sided }, meter)?;
        let shape = result.shape().to_vec();
        Ok(vec![Tensor::new(shape, of_float(result.doubles()?, x.kind())?)?])
    }))
}

/// Triangles on the mel scale, `2595 · log10(1 + f / 700)`, as weights of the bins of a spectrum.
fn mel_weight_matrix(build: &Build<'_>) -> Result<Kernel, Problem> {
    let kind = output_kind(&build.attributes)?;
    Ok(Box::new(move |operands, meter| {
        let [bands, dft, rate] = [(0, "num_mel_bins"), (1, "dft_length"), (2, "sample_rate")]
            .map(|(index, name)| length(required(operands, index)?, name));
        let (bands, dft, rate) = (bands?, dft?, rate?);
        let [low, high] = [3, 4].map(|index| -> Result<f64, Problem> {
            match required(operands, index)?.doubles()?.as_slice() {
                [one] => Ok(*one),
                all => Err(Problem::invalid(format!("expected one frequency, found {}", all.len()))),
            }
        });
        let (low, high) = (low?, high?);
        let bins = dft / 2 + 1;
        let count = meter.room(&[bins, bands], size_of::<f64>())?;
        meter.work(operations(&[count, 2]))?;
        let mel = |hertz: f64| 2595.0 * libm::log10(1.0 + hertz / 700.0);
        let (low, high) = (mel(low), mel(high));
        let step = (high - low) / (bands as f64 + 2.0);
        let bin = |band: usize| {
            let hertz = 700.0 * (libm::pow(10.0, (band as f64 * step + low) / 2595.0) - 1.0);
            let bin = ((dft as f64 + 1.0) * hertz / rate as f64).floor();
            if bin >= 0.0 && bin < bins as f64 {
                return Ok(bin as usize);
            }
            Err(Problem::invalid(format!(
                "{hertz} hertz lie outside of a spectrum of {bins} bins at {rate} hertz"
            )))
        };
        let mut numbers = vec![0.0; count];
        for band in 0..bands {
            let (left, centre, right) = (bin(band)?, bin(band + 1)?, bin(band + 2)?);
            let mut set = |bin: usize, weight: f64| {
                if let Some(number) = numbers.get_mut(bin * bands + band) {
                    *number = weight;
                }
            };
            if left == centre {
                set(centre, 1.0);
            } else {
                for bin in left..=centre {
                    set(bin, (bin as f64 - left as f64) / (centre as f64 - left as f64));
                }
            }
            for bin in centre..right {
                set(bin, (right as f64 - bin as f64) / (right as f64 - centre as f64));
            }
        }
        Ok(vec![Tensor::new([bins, bands], of_kind(numbers, kind))?])
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::product::testing::{int, run};

    #[test]
    fn every_length_has_its_transform() {
        for len in 1..=31_usize {
            let signal: Vec<Complex> = (0..len).map(|n| ((n * n % 7) as f64, (n % 3) as f64)).collect();
            let mut meter = Meter::new(1 << 20, 1 << 20);
            let found = Transform::new(len, false, 1, &mut meter).unwrap().run(&signal);
            for (k, found) in found.iter().enumerate() {
                let wanted = signal.iter().enumerate().fold((0.0, 0.0), |sum, (n, (x, y))| {
                    let angle = -2.0 * PI * (k * n) as f64 / len as f64;
                    let (c, s) = (libm::cos(angle), libm::sin(angle));
                    (sum.0 + x * c - y * s, sum.1 + x * s + y * c)
                });
                assert!((found.0 - wanted.0).abs() + (found.1 - wanted.1).abs() < 1e-10, "{len}: {k}");
            }
        }
    }

    #[test]
    fn lengths_from_data_are_bounded() {
        let error = |len: i64| run("HannWindow", 17, &[], &[Tensor::scalar(len)]).unwrap_err();
        assert!(error(i64::MAX).contains("bytes of memory"));
        assert!(error(-1).contains("no length"));
        let signal = Tensor::of([1, 4, 1], vec![0.0_f32; 4]).unwrap();
        let dft = |len: i64| run("DFT", 20, &[], &[signal.clone(), Tensor::scalar(len)]).unwrap_err();
        assert!(dft(i64::MAX).contains("bytes of memory"));
        assert!(dft(0).contains("1 or more"));
        // A prime length takes its square.
        assert!(dft(10_007).contains("operations"));
    }

    #[test]
    fn small_windows() {
        let symmetric = [int("periodic", 0)];
        for (size, wanted) in [(0_i64, &[][..]), (1, &[1.0][..]), (3, &[0.0, 1.0, 0.0][..])] {
            let found = run("HannWindow", 17, &symmetric, &[Tensor::scalar(size)]).unwrap();
            assert_eq!(found[0].elements::<f32>().unwrap(), wanted);
        }
    }
}
