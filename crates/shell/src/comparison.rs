//! How far the outputs of one version are from those of another.

use lockgate_package::{Datatype, Tensor};

/// What two versions' outputs differ by.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Differences {
    /// Numbers that were compared.
    pub values: u64,
    /// The sum of their absolute differences; those that are no number are left out.
    pub sum: f64,
    /// The largest absolute difference.
    pub max: f64,
    /// Labels that were compared.
    pub labels: u64,
    /// How many of them differ.
    pub label_mismatches: u64,
}

/// Output by output and element by element; `None` when the outputs are not of one form.
pub fn compare(served: &[Tensor], shadow: &[Tensor]) -> Option<Differences> {
    let mut all = Differences::default();
    for a in served {
        let b = shadow.iter().find(|tensor| tensor.name == a.name)?;
        if (a.datatype, &a.shape) != (b.datatype, &b.shape) {
            return None;
        }
        match a.datatype {
            Datatype::Fp32 => all.add_numbers(floats(a), floats(b)),
            Datatype::Fp64 => all.add_numbers(doubles(a), doubles(b)),
            Datatype::Bytes => all.add_labels(strings(&a.data), strings(&b.data)),
            datatype => {
                let size = datatype.size()?;
                all.add_labels(a.data.chunks(size), b.data.chunks(size));
            }
        }
    }
    Some(all)
}

impl Differences {
    /// Adds those of further outputs.
    pub fn add(&mut self, other: &Self) {
        self.values += other.values;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
        self.labels += other.labels;
        self.label_mismatches += other.label_mismatches;
    }

    fn add_numbers(&mut self, a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) {
        for (a, b) in a.zip(b) {
            self.values += 1;
            let difference = (a - b).abs();
            if difference.is_finite() {
                self.sum += difference;
                self.max = self.max.max(difference);
            }
        }
    }

    fn add_labels<'a>(&mut self, a: impl Iterator<Item = &'a [u8]>, b: impl Iterator<Item = &'a [u8]>) {
        for (a, b) in a.zip(b) {
            self.labels += 1;
            self.label_mismatches += u64::from(a != b);
        }
    }
}

fn floats(tensor: &Tensor) -> impl Iterator<Item = f64> + '_ {
    tensor.data.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
}

fn doubles(tensor: &Tensor) -> impl Iterator<Item = f64> + '_ {
    tensor.data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes))
}

/// Byte strings, each after its u32 length.
fn strings(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        data = rest;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(texts: &[&str]) -> Tensor {
        let data = texts.iter().flat_map(|text| {
            (text.len() as u32).to_le_bytes().into_iter().chain(text.bytes()).collect::<Vec<_>>()
        });
        Tensor {
            name: "label".to_owned(),
            datatype: Datatype::Bytes,
            shape: vec![texts.len() as i64],
            data: data.collect(),
        }
    }

    #[test]
    fn numbers_differ_by_so_much_and_labels_so_often() {
        let served = [Tensor::fp32("p", vec![3], &[1.0, 2.0, f32::NAN]), labels(&["up", "down", "up"])];
        let shadow = [labels(&["up", "up", "up"]), Tensor::fp32("p", vec![3], &[1.5, 1.0, 0.0])];
        let wanted = Differences { values: 3, sum: 1.5, max: 1.0, labels: 3, label_mismatches: 1 };
        assert_eq!(compare(&served, &shadow), Some(wanted));
        assert_eq!(compare(&served, &served[..1]), None, "an output is missing");
        let longer = [Tensor::fp32("p", vec![4], &[0.0; 4]), labels(&[])];
        assert_eq!(compare(&served, &longer), None, "another shape");
    }
}
