//! `LinearAttention`: a matrix of state for each head, which keys and values write and queries read.

use std::borrow::Cow;

use lockgate_onnx_ml::math::exp;

use super::super::reduce::lines::{floats, product, tensor};
use super::heads::{Heads, add_times, count};
use crate::operator::{optional, required};
use crate::{Build, Kernel, Meter, Problem, Tensor};

struct Linear {
    q_heads: usize,
    kv_heads: usize,
    scale: f32,
    /// Whether the state decays, and so there is an operand `decay`.
    gated: bool,
    /// Whether only the difference from what the state holds already is written, and so there is an operand `beta`.
    delta: bool,
}

pub(super) fn make(build: &Build<'_>) -> Result<Kernel, Problem> {
    // It is about how the work is cut, not about results.
    build.attributes.have_no_effect(&["chunk_size"]);
    let heads = |name: &str| {
        count(build, name)?.ok_or_else(|| Problem::attribute(name, "it is missing", "export the model again"))
    };
    let (gated, delta) = match build.attributes.text_or("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => {
            let hint = "use `linear`, `gated`, `delta` or `gated_delta`";
            return Err(Problem::attribute("update_rule", format!("there is no rule `{other}`"), hint));
        }
    };
    let (q_heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    if q_heads % kv_heads != 0 {
        let message = format!("{q_heads} query heads cannot share {kv_heads} heads");
        return Err(Problem::attribute("q_num_heads", message, "give a multiple of kv_num_heads"));
    }
    let linear = Linear { q_heads, kv_heads, scale: build.attributes.float_or("scale", 0.0)?, gated, delta };
    Ok(Box::new(move |operands, meter| linear.run(operands, meter)))
}

impl Linear {
    /// One number may stand for all heads.
    fn gate_heads(&self, gate: &Tensor) -> usize {
        if gate.shape().last() == Some(&1) { 1 } else { self.kv_heads }
    }

    fn run(&self, operands: &[Option<&Tensor>], meter: &mut Meter) -> Result<Vec<Tensor>, Problem> {
        let [q, k, v] = [required(operands, 0)?, required(operands, 1)?, required(operands, 2)?];
        let past = optional(operands, 3);
        let kind = q.kind();
        for one in [q, k, v] {
            meter.room(one.shape(), 8)?;
            if one.rank() != 3 {
                return Err(Problem::invalid(format!(
                    "expected three axes, found the shape {:?}",
                    one.shape()
                )));
            }
        }
        let q = Heads::<f32>::of(q, "query", Some(self.q_heads))?;
        let k = Heads::<f32>::of(k, "key", Some(self.kv_heads))?;
        let v = Heads::<f32>::of(v, "value", Some(self.kv_heads))?;
        if [q.batch, q.len, q.size] != [k.batch, k.len, k.size] || [k.batch, k.len] != [v.batch, v.len] {
            return Err(Problem::invalid("query, key and value differ in batch, length or size"));
        }
        let gate = |index: usize, name: &str, wanted: bool| match (optional(operands, index), wanted) {
            (Some(gate), true) => Heads::<f32>::of(gate, name, Some(self.gate_heads(gate))).map(Some),
            (None, false) => Ok(None),
            (given, _) => Err(Problem::invalid(format!(
                "{name} is {}, which the update rule does not go with",
                if given.is_some() { "given" } else { "missing" }
            ))),
        };
        let (decay, beta) = (gate(4, "decay", self.gated)?, gate(5, "beta", self.delta)?);
        let fits = |gate: &Option<Heads<'_, f32>>, full: usize| {
            gate.as_ref().is_none_or(|gate| {
                [gate.batch, gate.len] == [k.batch, k.len] && (gate.size == 1 || gate.size == full)
            })
        };
        let decay_fits = decay.as_ref().is_none_or(|decay| decay.heads == self.kv_heads);
        if !decay_fits || !fits(&decay, k.size) || !fits(&beta, 1) {
            return Err(Problem::invalid(
                "decay or beta does not have the batch, the length and the heads of key",
            ));
        }
        let shape = [k.batch, k.heads, k.size, v.size];
        if let Some(past) = past.filter(|past| past.shape() != shape) {
            return Err(Problem::invalid(format!(
                "the shape of past_state is {:?}, expected {shape:?}",
                past.shape()
            )));
        }
        let count = meter.room(&shape, 8)?;
        let share = self.q_heads / self.kv_heads;
        let (keys, values) = (k.size.saturating_add(1), v.size.saturating_add(1));
        meter.work(product(&[k.batch, k.len, k.heads, keys, values, share.saturating_add(3)]))?;

        let scale = if self.scale == 0.0 { 1.0 / (k.size as f32).sqrt() } else { self.scale };
        let mut y = q.zeros(v.size, false, meter)?;
        let mut states =
            past.map_or_else(|| Ok(vec![0.0; count]), |past| floats::<f32>(past).map(Cow::into_owned))?;
        let state_len = k.size.saturating_mul(v.size).max(1);
        let (mut held, mut fresh) = (vec![0.0_f32; v.size], Vec::with_capacity(v.size));
        for (place, state) in states.chunks_exact_mut(state_len).enumerate() {
            let (batch, head) = (place / self.kv_heads, place % self.kv_heads);
            for at in 0..k.len {
                let key = k.row(batch, head, at);
                if let Some(decay) = &decay {
                    let rates = decay.row(batch, head, at).iter().cycle();
                    for (row, &rate) in state.chunks_exact_mut(v.size).zip(rates) {
                        let factor = exp(rate);
                        row.iter_mut().for_each(|element| *element *= factor);
                    }
                }
                fresh.clear();
                fresh.extend_from_slice(v.row(batch, head, at));
                if let Some(beta) = &beta {
                    held.fill(0.0);
                    for (row, &key) in state.chunks_exact(v.size).zip(key) {
                        add_times(&mut held, key, row);
                    }
                    let of_head = head.min(beta.heads.saturating_sub(1));
                    let rate = beta.row(batch, of_head, at).first().copied().unwrap_or(0.0);
                    fresh.iter_mut().zip(&held).for_each(|(new, &held)| *new = rate * (*new - held));
                }
                for (row, &key) in state.chunks_exact_mut(v.size).zip(key) {
                    add_times(row, key, &fresh);
                }
                for q_head in head.saturating_mul(share)..head.saturating_add(1).saturating_mul(share) {
                    let y = y.row_mut(batch, q_head, at);
                    for (row, &query) in state.chunks_exact(v.size).zip(q.row(batch, q_head, at)) {
                        add_times(y, query, row);
                    }
                    y.iter_mut().for_each(|element| *element *= scale);
                }
            }
        }
        Ok(vec![y.tensor(kind)?, tensor(shape, states, past.map_or(kind, Tensor::kind))?])
    }
}
