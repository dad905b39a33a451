use crate::Datatype;

/// A named tensor that owns its data: row-major, little-endian; `BYTES` elements are each a u32 length and that many bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// The tensor's name.
    pub name: String,
    /// The element type.
    pub datatype: Datatype,
    /// The dimensions, none negative.
    pub shape: Vec<i64>,
    /// The elements' bytes.
    pub data: Vec<u8>,
}

/// A named tensor whose parts live elsewhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TensorView<'a> {
    /// The tensor's name.
    pub name: &'a str,
    /// The element type.
    pub datatype: Datatype,
    /// The dimensions, none negative.
    pub shape: &'a [i64],
    /// The elements' bytes, in no particular alignment.
    pub data: &'a [u8],
}

impl Tensor {
    /// The same tensor, borrowed.
    pub fn view(&self) -> TensorView<'_> {
        TensorView { name: &self.name, datatype: self.datatype, shape: &self.shape, data: &self.data }
    }

    /// An `FP32` tensor of these values. The caller sees to it that `shape` has as many elements.
    pub fn fp32(name: impl Into<String>, shape: Vec<i64>, values: &[f32]) -> Self {
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.into(), datatype: Datatype::Fp32, shape, data }
    }

    /// The values of an `FP32` tensor; `None` for another datatype or a length that is no multiple of four.
    pub fn to_fp32(&self) -> Option<Vec<f32>> {
        let (chunks, rest) = self.data.as_chunks::<4>();
        (self.datatype == Datatype::Fp32 && rest.is_empty())
            .then(|| chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    /// The values of an `INT64` tensor; `None` for another datatype or a length that is no multiple of eight.
    pub fn to_int64(&self) -> Option<Vec<i64>> {
        let (chunks, rest) = self.data.as_chunks::<8>();
        (self.datatype == Datatype::Int64 && rest.is_empty())
            .then(|| chunks.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    /// The elements of a `BYTES` tensor; `None` for another datatype or data that end within an element.
    pub fn to_byte_strings(&self) -> Option<Vec<Vec<u8>>> {
        if self.datatype != Datatype::Bytes {
            return None;
        }
        let mut rest = self.data.as_slice();
        let mut elements = Vec::new();
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (element, tail) = tail.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            elements.push(element.to_vec());
            rest = tail;
        }
        rest.is_empty().then_some(elements)
    }
}

impl TensorView<'_> {
    /// A copy that owns its parts.
    pub fn to_tensor(&self) -> Tensor {
        Tensor {
            name: self.name.to_owned(),
            datatype: self.datatype,
            shape: self.shape.to_vec(),
            data: self.data.to_vec(),
        }
    }

    /// The number of elements the shape asks for; `None` for a negative dimension or a product beyond `usize`.
    pub fn element_count(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |count, &dim| count.checked_mul(usize::try_from(dim).ok()?))
    }
}
