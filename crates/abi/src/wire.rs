use crate::{Malformed, TooLarge};

/// Part of a message, read with every access checked. `base` says where it lies, for errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    bytes: &'a [u8],
    base: usize,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(bytes: &'a [u8], base: usize) -> Self {
        Self { bytes, base }
    }

    pub(crate) fn len(self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn fail(self, at: usize, problem: &'static str) -> Malformed {
        Malformed { problem, at: self.base.saturating_add(at) }
    }

    fn array<const N: usize>(self, at: usize) -> Result<&'a [u8; N], Malformed> {
        self.bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .ok_or_else(|| self.fail(at, "a field lies outside its record"))
    }

    pub(crate) fn u8(self, at: usize) -> Result<u8, Malformed> {
        self.array::<1>(at).map(|bytes| bytes[0])
    }

    pub(crate) fn u32(self, at: usize) -> Result<u32, Malformed> {
        self.array(at).map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn u64(self, at: usize) -> Result<u64, Malformed> {
        self.array(at).map(|bytes| u64::from_le_bytes(*bytes))
    }

    pub(crate) fn i64(self, at: usize) -> Result<i64, Malformed> {
        self.array(at).map(|bytes| i64::from_le_bytes(*bytes))
    }

    pub(crate) fn f64(self, at: usize) -> Result<f64, Malformed> {
        self.array(at).map(|bytes| f64::from_le_bytes(*bytes))
    }

    pub(crate) fn digest(self, at: usize) -> Result<[u8; 32], Malformed> {
        self.array(at).copied()
    }

    /// A u32 that counts or measures something.
    pub(crate) fn size(self, at: usize) -> Result<usize, Malformed> {
        self.u32(at).map(|value| value as usize)
    }

    /// `len` bytes at `at`.
    pub(crate) fn part(self, at: usize, len: usize) -> Result<Bytes<'a>, Malformed> {
        let bytes = self
            .bytes
            .get(at..)
            .and_then(|rest| rest.get(..len))
            .ok_or_else(|| self.fail(at, "an offset or length points outside the message"))?;
        Ok(Bytes { bytes, base: self.base.saturating_add(at) })
    }

    pub(crate) fn slice(self) -> &'a [u8] {
        self.bytes
    }

    /// The record at `at`: its first field is its size, a multiple of 8 and at least `least`.
    pub(crate) fn record(self, at: usize, least: usize) -> Result<Bytes<'a>, Malformed> {
        let size = self.size(at)?;
        if size < least || !size.is_multiple_of(8) {
            return Err(self.fail(at, "a record's size is too small or no multiple of 8"));
        }
        self.part(at, size)
    }

    /// The string whose offset and length stand at `at`.
    pub(crate) fn text(self, at: usize) -> Result<&'a str, Malformed> {
        let (offset, len) = (self.size(at)?, self.size(at + 4)?);
        let bytes = self.part(offset, len)?;
        std::str::from_utf8(bytes.slice()).map_err(|_| bytes.fail(0, "a string is not UTF-8"))
    }

    /// The same; offset 0 means that there is none.
    pub(crate) fn optional_text(self, at: usize) -> Result<Option<&'a str>, Malformed> {
        if self.u32(at)? == 0 { Ok(None) } else { self.text(at).map(Some) }
    }
}

/// A length as a u32. One that does not fit makes the message too large as a whole, which [`seal`] reports.
pub(crate) fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

pub(crate) fn put_u32(fields: &mut [u8], at: usize, value: u32) {
    if let Some(bytes) = fields.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *bytes = value.to_le_bytes();
    }
}

pub(crate) fn put_u64(fields: &mut [u8], at: usize, value: u64) {
    if let Some(bytes) = fields.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *bytes = value.to_le_bytes();
    }
}

pub(crate) fn put_digest(fields: &mut [u8], at: usize, digest: &[u8; 32]) {
    if let Some(bytes) = fields.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *bytes = *digest;
    }
}

/// Room for `len` more bytes, without the abort that a failed allocation is otherwise. Close to the memory's limit
/// the usual doubling fails where the exact length still fits.
pub(crate) fn reserve(out: &mut Vec<u8>, len: usize) -> Result<(), TooLarge> {
    out.try_reserve(len).or_else(|_| out.try_reserve_exact(len)).map_err(|_| TooLarge)
}

/// Zeros up to the next multiple of `alignment`.
pub(crate) fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

/// Writes the message's length into its header.
pub(crate) fn seal(out: &mut [u8]) -> Result<(), TooLarge> {
    let len = u32::try_from(out.len()).map_err(|_| TooLarge)?;
    put_u32(out, 4, len);
    Ok(())
}
