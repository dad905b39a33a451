//! `Attention`: softmax(Q Kᵀ · scale + bias) V.

use std::borrow::Cow;

use super::super::reduce::lines::{Real, dot, floats, product, round};
use super::heads::{Heads, add_times, count, factors, precision, share, soften};
use crate::operator::{optional, required};
use crate::shape;
use crate::{Build, Kernel, Kind, Meter, Problem, Tensor};

struct Attention {
    scale: Option<f32>,
    causal: bool,
    q_heads: Option<usize>,
    kv_heads: Option<usize>,
    precision: Option<Kind>,
    softcap: f32,
    shown: Shown,
    /// How many keys before and after its own position a query sees.
    window: (Option<i64>, Option<i64>),
    outputs: usize,
}

/// What the fourth result has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Products,
    Capped,
    Biased,
    Probabilities,
}

pub(super) fn make(build: &Build<'_>) -> Result<Kernel, Problem> {
    let all = &build.attributes;
    let side = |name: &str| match all.int_or(name, -1)? {
        -1 => Ok(None),
        size if size >= 0 => Ok(Some(size)),
        size => {
            Err(Problem::attribute(name, format!("{size} is no size"), "give 0 or more, or -1 for no limit"))
        }
    };
    let shown = match all.int_or("qk_matmul_output_mode", 0)? {
        0 => Shown::Products,
        1 => Shown::Capped,
        2 => Shown::Biased,
        3 => Shown::Probabilities,
        other => {
            let message = format!("there is no mode {other}");
            return Err(Problem::attribute("qk_matmul_output_mode", message, "use 0, 1, 2 or 3"));
        }
    };
    let softcap = all.float_or("softcap", 0.0)?;
    if softcap < 0.0 || softcap.is_nan() {
        return Err(Problem::attribute(
            "softcap",
            format!("{softcap} is no bound"),
            "give a positive one, or 0 for none",
        ));
    }
    let scale = all.float("scale")?;
    if scale.is_some_and(|scale| scale < 0.0 || scale.is_nan()) {
        return Err(Problem::attribute("scale", "its square root is needed", "give a positive one"));
    }
    let attention = Attention {
        scale,
        causal: all.flag("is_causal", false)?,
        q_heads: count(build, "q_num_heads")?,
        kv_heads: count(build, "kv_num_heads")?,
        precision: precision(build)?,
        softcap,
        shown,
        window: (side("left_window_size")?, side("right_window_size")?),
        outputs: build.outputs,
    };
    Ok(Box::new(move |operands, meter| {
        let [q, k, v] = [required(operands, 0)?, required(operands, 1)?, required(operands, 2)?];
        if [Some(q.kind()), Some(k.kind()), Some(v.kind()), attention.precision].contains(&Some(Kind::F64)) {
            attention.run::<f64>(operands, meter)
        } else {
            attention.run::<f32>(operands, meter)
        }
    }))
}

impl Attention {
    fn run<T: Real>(&self, operands: &[Option<&Tensor>], meter: &mut Meter) -> Result<Vec<Tensor>, Problem> {
        let [q, k, v] = [required(operands, 0)?, required(operands, 1)?, required(operands, 2)?];
        let (kind, value_kind) = (q.kind(), v.kind());
        [q, k, v].into_iter().try_for_each(|one| meter.room(one.shape(), 16).map(|_| ()))?;
        let past = match (optional(operands, 4), optional(operands, 5)) {
            (None, None) => None,
            (Some(k), Some(v)) => {
                meter.room(k.shape(), 8)?;
                meter.room(v.shape(), 8)?;
                Some((Heads::<T>::of(k, "past_key", None)?, Heads::<T>::of(v, "past_value", None)?))
            }
            _ => return Err(Problem::invalid("past_key and past_value are given together or not at all")),
        };
        let q = Heads::<T>::of(q, "Q", self.q_heads)?;
        let before = past.as_ref().map_or(0, |(k, _)| k.len);
        let k = Heads::of(k, "K", self.kv_heads)?.behind(past.as_ref().map(|(k, _)| k), meter)?;
        let v = Heads::of(v, "V", self.kv_heads)?.behind(past.as_ref().map(|(_, v)| v), meter)?;
        let share = share(&q, &k, &v)?;
        let scores = [q.batch, q.heads, q.len, k.len];
        let bias = Bias::<T>::new(self, operands, scores, before, meter)?;
        let of_score = q.size.saturating_add(v.size).saturating_add(16);
        meter.work(product(&[q.batch, q.heads, q.len, k.len.saturating_add(1), of_score]))?;

        let mut present = Vec::new();
        if self.outputs > 1 {
            present.push(k.clone().tensor(kind)?);
            present.push(v.clone().tensor(value_kind)?);
        }
        let mut shown = (self.outputs > 3).then(|| q.zeros(k.len, true, meter)).transpose()?;
        let (of_q, of_k) = factors::<T>(self.scale, q.size, kind);
        let mut y = q.zeros(v.size, false, meter)?;
        let (q, k) = (q.times(of_q, kind), k.times(of_k, kind));
        let softcap = T::from_f32(self.softcap);
        let precision = self.precision.unwrap_or(kind);
        meter.room(&[k.len], 16)?;
        let mut line = vec![T::ZERO; k.len];
        let mut biases = vec![T::ZERO; k.len];
        for batch in 0..q.batch {
            for head in 0..q.heads {
                let of_keys = head / share;
                for at in 0..q.len {
                    let mut show = |wanted: Shown, line: &[T]| {
                        if let Some(shown) = shown.as_mut().filter(|_| wanted == self.shown) {
                            let row = shown.row_mut(batch, head, at);
                            row.iter_mut().zip(line).for_each(|(to, &from)| *to = from);
                        }
                    };
                    let query = q.row(batch, head, at);
                    for (key, score) in line.iter_mut().enumerate() {
                        *score = dot(query, k.row(batch, of_keys, key));
                    }
                    round(&mut line, kind);
                    show(Shown::Products, &line);
                    if softcap > T::ZERO {
                        line.iter_mut().for_each(|score| *score = (*score / softcap).tanh() * softcap);
                        round(&mut line, kind);
                    }
                    show(Shown::Capped, &line);
                    let masked = bias.fill(&mut biases, batch, head, at);
                    line.iter_mut().zip(&biases).for_each(|(score, &bias)| *score += bias);
                    round(&mut line, kind);
                    show(Shown::Biased, &line);
                    round(&mut line, precision);
                    soften(&mut line, precision);
                    round(&mut line, kind);
                    if masked {
                        line.fill(T::ZERO);
                    }
                    show(Shown::Probabilities, &line);
                    let y = y.row_mut(batch, head, at);
                    for (key, &probability) in line.iter().enumerate() {
                        add_times(y, probability, v.row(batch, of_keys, key));
                    }
                }
            }
        }
        let mut results = vec![y.tensor(kind)?];
        results.append(&mut present);
        if let Some(shown) = shown {
            results.push(shown.tensor(kind)?);
        }
        Ok(results)
    }
}

/// What is added to the scores: the mask, and −∞ where a query may not look.
struct Bias<'a, T: Clone> {
    mask: Option<Mask<'a, T>>,
    /// The keys before the first query, for each batch item; and how many keys are no padding.
    reach: Vec<(i64, i64)>,
    causal: bool,
    window: (Option<i64>, Option<i64>),
}

/// A mask that broadcasts to the batch, the heads and the queries. Keys that it is too short for are masked.
struct Mask<'a, T: Clone> {
    all: Cow<'a, [T]>,
    strides: [usize; 3],
    len: usize,
}

impl<'a, T: Real> Bias<'a, T> {
    fn new(
        attention: &Attention,
        operands: &[Option<&'a Tensor>],
        scores: [usize; 4],
        before: usize,
        meter: &mut Meter,
    ) -> Result<Self, Problem> {
        let [batch, _, queries, _] = scores;
        let signed = |len: usize| i64::try_from(len).unwrap_or(i64::MAX);
        meter.room(&[batch], 16)?;
        let reach = match optional(operands, 6) {
            None => vec![(signed(before), i64::MAX); batch],
            Some(_) if optional(operands, 4).is_some() => {
                return Err(Problem::invalid("nonpad_kv_seqlen and past_key do not go together"));
            }
            Some(lengths) if lengths.shape() != [batch] => {
                return Err(Problem::invalid(format!(
                    "the shape of nonpad_kv_seqlen is {:?}, expected [{batch}]",
                    lengths.shape()
                )));
            }
            Some(lengths) => {
                let lengths = lengths.integers()?.into_iter();
                lengths.map(|len| (len.saturating_sub(signed(queries)), len)).collect()
            }
        };
        let mask = optional(operands, 3).map(|mask| Mask::new(mask, scores, meter)).transpose()?;
        Ok(Self { mask, reach, causal: attention.causal, window: attention.window })
    }

    /// Writes what is added to the scores of a query. Whether it may look nowhere.
    fn fill(&self, line: &mut [T], batch: usize, head: usize, at: usize) -> bool {
        let hidden = T::from_f64(f64::NEG_INFINITY);
        match &self.mask {
            None => line.fill(T::ZERO),
            Some(mask) => {
                line.fill(hidden);
                line.iter_mut().zip(mask.row(batch, head, at)).for_each(|(to, &from)| *to = from);
            }
        }
        let (before, keys) = self.reach.get(batch).copied().unwrap_or_default();
        let position = before.saturating_add(i64::try_from(at).unwrap_or(i64::MAX));
        let first = self.window.0.map_or(i64::MIN, |left| position.saturating_sub(left));
        let last = self.window.1.map_or(i64::MAX, |right| position.saturating_add(right));
        let last = last.min(keys.saturating_sub(1)).min(if self.causal { position } else { i64::MAX });
        for (key, bias) in (0_i64..).zip(line.iter_mut()) {
            if key < first || key > last {
                *bias += hidden;
            }
        }
        line.iter().all(|&bias| bias == hidden)
    }
}

impl<'a, T: Real> Mask<'a, T> {
    fn new(mask: &'a Tensor, scores: [usize; 4], meter: &mut Meter) -> Result<Self, Problem> {
        let own = mask.shape();
        let misfit = || {
            Problem::invalid(format!("attn_mask of the shape {own:?} does not go with scores of {scores:?}"))
        };
        let (Some((&len, outer)), [wanted @ .., keys]) = (own.split_last(), scores) else {
            return Err(misfit());
        };
        let broadcasts =
            outer.iter().rev().zip(wanted.iter().rev()).all(|(&len, &wanted)| len == wanted || len == 1);
        if outer.len() > wanted.len() || !broadcasts || len > keys {
            return Err(misfit());
        }
        meter.room(own, 8)?;
        let all = if mask.kind() == Kind::Bool {
            let hidden = T::from_f64(f64::NEG_INFINITY);
            mask.elements::<bool>()?.iter().map(|&seen| if seen { T::ZERO } else { hidden }).collect()
        } else if mask.kind().is_integer() {
            mask.doubles()?.into_iter().map(T::from_f64).collect()
        } else {
            floats(mask)?
        };
        let mut strides = [0; 3];
        let own = shape::strides(own).into_iter().zip(own).rev().skip(1);
        for (to, (stride, &len)) in strides.iter_mut().rev().zip(own) {
            *to = if len == 1 { 0 } else { stride };
        }
        Ok(Self { all, strides, len })
    }

    fn row(&self, batch: usize, head: usize, at: usize) -> &[T] {
        let places = [batch, head, at].into_iter().zip(self.strides);
        let start =
            places.fold(0_usize, |sum, (place, stride)| sum.saturating_add(place.saturating_mul(stride)));
        self.all.get(start..start.saturating_add(self.len)).unwrap_or_default()
    }
}
