//! Operators of `com.microsoft` that exporters of classical models write.

use crate::operator::{ai, required};
use crate::{Build, Data, Kernel, Numbers, Operator, Problem, Tensor};

pub(super) const TABLE: &[Operator] = &[
    ai("CDist", 1, &["metric"], distances).of("com.microsoft"),
    ai("MurmurHash3", 1, &["positive", "seed"], murmur_hash)
        .of("com.microsoft")
        .but("numbers; only texts are hashed"),
];

/// The distance of each row of one matrix to each row of another, summed from the first column to the last.
fn distances(build: &Build<'_>) -> Result<Kernel, Problem> {
    let is_squared = match build.attributes.text_or("metric", "sqeuclidean")? {
        "sqeuclidean" => true,
        "euclidean" => false,
        other => {
            let message = format!("expected euclidean or sqeuclidean, found `{other}`");
            return Err(Problem::attribute("metric", message, "export the model again"));
        }
    };
    Ok(Box::new(move |operands, meter| {
        let (left, right) = (required(operands, 0)?, required(operands, 1)?);
        let (&[rows, columns], &[others, width]) = (left.shape(), right.shape()) else {
            return Err(Problem::invalid("expected two matrices"));
        };
        if columns != width {
            return Err(Problem::invalid(format!("rows have {columns} columns and {width}")));
        }
        meter.room(&[rows, others], left.kind().size())?;
        let work = [rows, others, columns].iter().try_fold(3_usize, |product, len| product.checked_mul(*len));
        meter.work(u64::try_from(work.unwrap_or(usize::MAX)).unwrap_or(u64::MAX))?;
        let data = match (left.numbers()?, right.numbers()?) {
            (Numbers::F32(left), Numbers::F32(right)) => {
                let all = pairs(&left, &right, columns).map(|(a, b)| {
                    let sum = a.iter().zip(b).fold(0.0_f32, |sum, (a, b)| sum + (a - b) * (a - b));
                    if is_squared { sum } else { sum.sqrt() }
                });
                Data::F32(all.collect())
            }
            (Numbers::F64(left), Numbers::F64(right)) => {
                let all = pairs(&left, &right, columns).map(|(a, b)| {
                    let sum = a.iter().zip(b).fold(0.0_f64, |sum, (a, b)| sum + (a - b) * (a - b));
                    if is_squared { sum } else { sum.sqrt() }
                });
                Data::F64(all.collect())
            }
            _ => return Err(Problem::invalid("expected float or double, the same of both")),
        };
        let data = if columns == 0 { left.kind().zeros(rows.saturating_mul(others)) } else { data };
        Ok(vec![Tensor::new([rows, others], data)?])
    }))
}

fn pairs<'t, T>(left: &'t [T], right: &'t [T], columns: usize) -> impl Iterator<Item = (&'t [T], &'t [T])> {
    let columns = columns.max(1);
    left.chunks_exact(columns).flat_map(move |row| right.chunks_exact(columns).map(move |other| (row, other)))
}

/// MurmurHash3 of each text, as 32 bits (<https://github.com/aappleby/smhasher/wiki/MurmurHash3>).
fn murmur_hash(build: &Build<'_>) -> Result<Kernel, Problem> {
    let is_positive = build.attributes.flag("positive", true)?;
    let seed = build.attributes.int_or("seed", 0)? as u32;
    Ok(Box::new(move |operands, meter| {
        let x = required(operands, 0)?;
        let texts = x.elements::<String>()?;
        meter.room(x.shape(), size_of::<u32>())?;
        let bytes = texts.iter().fold(0_usize, |sum, text| sum.saturating_add(text.len()));
        meter.work(u64::try_from(bytes).unwrap_or(u64::MAX))?;
        let hashes = texts.iter().map(|text| hash(text.as_bytes(), seed));
        let data = if is_positive {
            Data::U32(hashes.collect())
        } else {
            Data::I32(hashes.map(u32::cast_signed).collect())
        };
        Ok(vec![Tensor::new(x.shape(), data)?])
    }))
}

fn hash(bytes: &[u8], seed: u32) -> u32 {
    let scrambled = |block: u32| block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (blocks, rest) = bytes.as_chunks::<4>();
    let mut state = blocks.iter().fold(seed, |state, block| {
        let state = (state ^ scrambled(u32::from_le_bytes(*block))).rotate_left(13);
        state.wrapping_mul(5).wrapping_add(0xe654_6b64)
    });
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0_u32, |last, byte| last << 8 | u32::from(*byte));
        state ^= scrambled(last);
    }
    state ^= bytes.len() as u32;
    state = (state ^ state >> 16).wrapping_mul(0x85eb_ca6b);
    state = (state ^ state >> 13).wrapping_mul(0xc2b2_ae35);
    state ^ state >> 16
}

#[cfg(test)]
mod tests {
    use super::hash;

    #[test]
    fn hashes_are_those_of_the_reference() {
        let check =
            |text: &str, seed: u32, want: u32| assert_eq!(hash(text.as_bytes(), seed), want, "{text}");
        check("", 0, 0);
        check("", 1, 0x514e_28b7);
        check("abc", 0, 0xb3dd_93fa);
        check("Hello, world!", 0, 0xc036_3e43);
        check("The quick brown fox jumps over the lazy dog", 0x9747_b28c, 0x2fa8_26cd);
    }
}
