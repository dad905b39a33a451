//! `CausalConvWithState`: a convolution of each channel with what came before.

use lockgate_onnx_ml::math::sigmoid;

use super::super::reduce::lines::{floats, product, round, tensor};
use crate::operator::{optional, required};
use crate::{Build, Kernel, Problem, Tensor};

pub(super) fn make(build: &Build<'_>) -> Result<Kernel, Problem> {
    let silu = match build.attributes.text_or("activation", "none")? {
        "none" => false,
        "silu" | "swish" => true,
        other => {
            let message = format!("there is no activation `{other}`");
            return Err(Problem::attribute("activation", message, "use `silu`, `swish` or `none`"));
        }
    };
    Ok(Box::new(move |operands, meter| {
        let [x, weight] = [required(operands, 0)?, required(operands, 1)?];
        let (bias, past) = (optional(operands, 2), optional(operands, 3));
        let (&[batch, channels, len], &[filters, 1, taps]) = (x.shape(), weight.shape()) else {
            return Err(Problem::invalid(format!(
                "expected [batch, channels, length] and weights of [channels, 1, taps], found {:?} and {:?}",
                x.shape(),
                weight.shape()
            )));
        };
        let state = taps.saturating_sub(1);
        let bias_fits = bias.is_none_or(|bias| bias.shape() == [channels]);
        if taps == 0
            || filters != channels
            || !bias_fits
            || past.is_some_and(|past| past.shape() != [batch, channels, state])
        {
            return Err(Problem::invalid(format!(
                "{taps} weights of {filters} channels, the bias {:?} or the past {:?} do not go with {:?} and {state} past elements",
                bias.map(Tensor::shape),
                past.map(Tensor::shape),
                x.shape()
            )));
        }
        let padded_len = state.saturating_add(len);
        meter.room(x.shape(), 16)?;
        meter.room(&[batch, channels, padded_len], 8)?;
        meter.work(product(&[batch, channels, padded_len.saturating_add(1), taps.saturating_add(8)]))?;

        let kind = x.kind();
        let (all, weight) = (floats::<f32>(x)?, floats::<f32>(weight)?);
        let bias = bias.map(floats::<f32>).transpose()?;
        let past = past.map(floats::<f32>).transpose()?;
        let mut y = Vec::with_capacity(all.len());
        let mut present = Vec::new();
        let mut padded = Vec::with_capacity(padded_len);
        for line in 0..batch.saturating_mul(channels) {
            let part = |all: &[f32], len: usize, line: usize| -> Vec<f32> {
                let start = line.saturating_mul(len);
                all.get(start..start.saturating_add(len)).unwrap_or_default().to_vec()
            };
            let channel = line.checked_rem(channels).unwrap_or(0);
            padded.clear();
            match &past {
                Some(past) => padded.extend(part(past, state, line)),
                None => padded.resize(state, 0.0),
            }
            padded.extend(part(&all, len, line));
            let taps_of_channel = part(&weight, taps, channel);
            let added = bias.as_ref().and_then(|bias| bias.get(channel)).copied().unwrap_or(0.0);
            let start = y.len();
            for window in padded.windows(taps) {
                let products = window.iter().zip(&taps_of_channel);
                y.push(products.fold(0.0, |sum, (&x, &weight)| sum + x * weight) + added);
            }
            let fresh = y.get_mut(start..).unwrap_or_default();
            if silu {
                round(fresh, kind);
                fresh.iter_mut().for_each(|x| *x *= sigmoid(*x));
            }
            present.extend_from_slice(padded.get(len..).unwrap_or_default());
        }
        Ok(vec![tensor(x.shape(), y, kind)?, tensor([batch, channels, state], present, kind)?])
    }))
}
