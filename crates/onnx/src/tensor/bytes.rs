//! Tensors as bytes: elements little-endian, one byte for a boolean or a tiny number, texts behind their lengths of 4 bytes.

use half::{bf16, f16};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Data, Kind, Tensor};
use crate::Problem;

impl Tensor {
    /// The elements as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self.data() {
            Data::F32(all) => bytemuck::cast_slice(all).to_vec(),
            Data::F64(all) => bytemuck::cast_slice(all).to_vec(),
            Data::F16(all) => all.iter().flat_map(|one| one.to_le_bytes()).collect(),
            Data::Bf16(all) => all.iter().flat_map(|one| one.to_le_bytes()).collect(),
            Data::I8(all) => bytemuck::cast_slice(all).to_vec(),
            Data::I16(all) => bytemuck::cast_slice(all).to_vec(),
            Data::I32(all) => bytemuck::cast_slice(all).to_vec(),
            Data::I64(all) => bytemuck::cast_slice(all).to_vec(),
            Data::U8(all) | Data::Tiny(_, all) => all.clone(),
            Data::U16(all) => bytemuck::cast_slice(all).to_vec(),
            Data::U32(all) => bytemuck::cast_slice(all).to_vec(),
            Data::U64(all) => bytemuck::cast_slice(all).to_vec(),
            Data::Bool(all) => all.iter().map(|&one| u8::from(one)).collect(),
            Data::Text(all) => {
                let mut bytes = Vec::new();
                for text in all {
                    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                bytes
            }
        }
    }

    /// A tensor of elements that lie in bytes as [`Tensor::to_bytes`] writes them.
    ///
    /// # Errors
    /// Bytes that do not hold as many elements as the shape asks for.
    pub fn from_bytes(kind: Kind, shape: impl Into<Vec<usize>>, bytes: &[u8]) -> Result<Self, Problem> {
        if kind != Kind::Text && !bytes.len().is_multiple_of(kind.size()) {
            return Err(Problem::invalid(format!(
                "{} bytes are no elements of the kind {kind}",
                bytes.len()
            )));
        }
        let pairs = || bytes.as_chunks::<2>().0.iter();
        let data = match kind {
            Kind::F32 => Data::F32(bytemuck::pod_collect_to_vec(bytes)),
            Kind::F64 => Data::F64(bytemuck::pod_collect_to_vec(bytes)),
            Kind::F16 => Data::F16(pairs().map(|pair| f16::from_le_bytes(*pair)).collect()),
            Kind::Bf16 => Data::Bf16(pairs().map(|pair| bf16::from_le_bytes(*pair)).collect()),
            Kind::I8 => Data::I8(bytemuck::pod_collect_to_vec(bytes)),
            Kind::I16 => Data::I16(bytemuck::pod_collect_to_vec(bytes)),
            Kind::I32 => Data::I32(bytemuck::pod_collect_to_vec(bytes)),
            Kind::I64 => Data::I64(bytemuck::pod_collect_to_vec(bytes)),
            Kind::U8 => Data::U8(bytes.to_vec()),
            Kind::U16 => Data::U16(bytemuck::pod_collect_to_vec(bytes)),
            Kind::U32 => Data::U32(bytemuck::pod_collect_to_vec(bytes)),
            Kind::U64 => Data::U64(bytemuck::pod_collect_to_vec(bytes)),
            Kind::Bool => Data::Bool(bytes.iter().map(|&byte| byte != 0).collect()),
            Kind::Text => Data::Text(texts(bytes)?),
            kind => Data::Tiny(kind, bytes.to_vec()),
        };
        Self::new(shape, data)
    }
}

fn texts(mut bytes: &[u8]) -> Result<Vec<String>, Problem> {
    let mut texts = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let (text, rest) = rest
            .split_at_checked(len)
            .ok_or_else(|| Problem::invalid("a text runs past the end of its bytes"))?;
        let text = str::from_utf8(text)
            .map_err(|_| Problem::invalid(format!("text {} is not UTF-8", texts.len())))?;
        texts.push(text.to_owned());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(texts) } else { Err(Problem::invalid("bytes of texts end within a length")) }
}

struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut bytes: A) -> Result<Bytes, A::Error> {
                let mut all = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    all.push(byte);
                }
                Ok(Bytes(all))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

impl Serialize for Tensor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.kind() as u8, self.shape(), Bytes(self.to_bytes())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tensor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, shape, bytes): (u8, Vec<usize>, Bytes) = Deserialize::deserialize(deserializer)?;
        let kind = Kind::from_number(i64::from(kind))
            .ok_or_else(|| D::Error::custom(format!("no kind has the number {kind}")))?;
        Self::from_bytes(kind, shape, &bytes.0).map_err(D::Error::custom)
    }
}
