//! `RotaryEmbedding`: pairs of numbers of a vector, turned by angles that depend on its position.

use super::super::reduce::lines::{floats, product};
use super::heads::{Heads, count};
use crate::operator::{optional, required};
use crate::{Build, Kernel, Problem, Tensor};

struct Rotary {
    /// Whether pairs are neighbours; else the second of a pair is in the second half.
    interleaved: bool,
    heads: Option<usize>,
    /// How many numbers at the front of a vector are turned; 0 for all.
    turned: usize,
}

pub(super) fn make(build: &Build<'_>) -> Result<Kernel, Problem> {
    let turned = build.attributes.int_or("rotary_embedding_dim", 0)?;
    let turned = usize::try_from(turned).ok().filter(|turned| turned % 2 == 0).ok_or_else(|| {
        let message = format!("{turned} numbers do not make pairs");
        Problem::attribute("rotary_embedding_dim", message, "give an even number, or 0 for all")
    })?;
    let heads = match build.attributes.int("num_heads")? {
        // What some exporters write for four axes.
        Some(0) => None,
        _ => count(build, "num_heads")?,
    };
    let rotary = Rotary { interleaved: build.attributes.flag("interleaved", false)?, heads, turned };
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        meter.room(x.shape(), 8)?;
        let heads = Heads::<f32>::of(x, "X", rotary.heads)?;
        let numbers = heads.heads.saturating_mul(heads.size).saturating_add(1);
        meter.work(product(&[heads.batch, heads.len, numbers, 4]))?;
        let y = rotary.turn(heads, required(operands, 1)?, required(operands, 2)?, optional(operands, 3))?;
        Ok(vec![y.tensor(x.kind())?])
    }))
}

impl Rotary {
    fn turn<'a>(
        &self,
        x: Heads<'a, f32>,
        cosines: &Tensor,
        sines: &Tensor,
        positions: Option<&Tensor>,
    ) -> Result<Heads<'a, f32>, Problem> {
        let turned = if self.turned == 0 { x.size } else { self.turned };
        if turned > x.size || turned % 2 != 0 {
            return Err(Problem::invalid(format!(
                "{turned} numbers of vectors of {} cannot be turned in pairs",
                x.size
            )));
        }
        let pairs = turned / 2;
        let rows = match (cosines.shape(), positions) {
            (&[rows, last], Some(_)) if last == pairs => rows,
            (&[batch, len, last], None) if [batch, len, last] == [x.batch, x.len, pairs] => {
                batch.saturating_mul(len)
            }
            (shape, _) => {
                return Err(Problem::invalid(format!(
                    "cosines of the shape {shape:?} do not go with a batch of {}, {} positions and {pairs} pairs",
                    x.batch, x.len
                )));
            }
        };
        if cosines.shape() != sines.shape() {
            return Err(Problem::invalid(format!(
                "cosines and sines have different shapes: {:?} and {:?}",
                cosines.shape(),
                sines.shape()
            )));
        }
        let positions = positions.map(|positions| {
            if positions.shape() == [x.batch, x.len] {
                return positions.integers();
            }
            Err(Problem::invalid(format!(
                "the shape of position_ids is {:?}, expected {:?}",
                positions.shape(),
                [x.batch, x.len]
            )))
        });
        let positions = positions.transpose()?;
        let (cosines, sines) = (floats::<f32>(cosines)?, floats::<f32>(sines)?);
        let mut y = x;
        for batch in 0..y.batch {
            for at in 0..y.len {
                let place = batch.saturating_mul(y.len).saturating_add(at);
                let row = match positions.as_ref().and_then(|positions| positions.get(place)) {
                    None => place,
                    Some(&position) => {
                        usize::try_from(position).ok().filter(|&row| row < rows).ok_or_else(|| {
                            Problem::invalid(format!(
                                "position {position} is outside of the {rows} rows of cosines"
                            ))
                        })?
                    }
                };
                let angles = row.saturating_mul(pairs)..row.saturating_add(1).saturating_mul(pairs);
                let cosines = cosines.get(angles.clone()).unwrap_or_default();
                let angles = cosines.iter().zip(sines.get(angles).unwrap_or_default());
                for head in 0..y.heads {
                    let vector = y.row_mut(batch, head, at).get_mut(..turned).unwrap_or_default();
                    if self.interleaved {
                        for (pair, (&cosine, &sine)) in
                            vector.as_chunks_mut::<2>().0.iter_mut().zip(angles.clone())
                        {
                            let [a, b] = *pair;
                            *pair = [cosine * a - sine * b, sine * a + cosine * b];
                        }
                    } else {
                        let (front, back) = vector.split_at_mut_checked(pairs).unwrap_or_default();
                        for ((a, b), (&cosine, &sine)) in front.iter_mut().zip(back).zip(angles.clone()) {
                            (*a, *b) = (cosine * *a - sine * *b, sine * *a + cosine * *b);
                        }
                    }
                }
            }
        }
        Ok(y)
    }
}
