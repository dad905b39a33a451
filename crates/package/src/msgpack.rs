//! Reads MessagePack by hand where the core does, because a derived reader is many times larger than what it reads.

use rmp::Marker;
use rmp::decode;

/// The bytes are no MessagePack, end early, or hold another type than was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the MessagePack that was expected")]
pub struct UnexpectedMessagePack;

/// A cursor over MessagePack.
#[derive(Debug, Clone, Copy)]
pub struct MessagePackReader<'a> {
    rest: &'a [u8],
}

/// Nested deeper than this, nothing is read.
const MAX_DEPTH: usize = 16;

impl<'a> MessagePackReader<'a> {
    /// A reader of `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The number of entries of a map; each is a key and a value.
    ///
    /// # Errors
    /// Something else is next.
    pub fn map(&mut self) -> Result<u32, UnexpectedMessagePack> {
        decode::read_map_len(&mut self.rest).map_err(|_| UnexpectedMessagePack)
    }

    /// The number of elements of an array.
    ///
    /// # Errors
    /// Something else is next.
    pub fn array(&mut self) -> Result<u32, UnexpectedMessagePack> {
        decode::read_array_len(&mut self.rest).map_err(|_| UnexpectedMessagePack)
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// Something else is next.
    pub fn unsigned(&mut self) -> Result<u64, UnexpectedMessagePack> {
        decode::read_int(&mut self.rest).map_err(|_| UnexpectedMessagePack)
    }

    /// A whole number.
    ///
    /// # Errors
    /// Something else is next.
    pub fn signed(&mut self) -> Result<i64, UnexpectedMessagePack> {
        decode::read_int(&mut self.rest).map_err(|_| UnexpectedMessagePack)
    }

    /// A floating-point number of either precision.
    ///
    /// # Errors
    /// Something else is next.
    pub fn float(&mut self) -> Result<f64, UnexpectedMessagePack> {
        if self.rest.first() == Some(&Marker::F32.to_u8()) {
            return decode::read_f32(&mut self.rest).map(f64::from).map_err(|_| UnexpectedMessagePack);
        }
        decode::read_f64(&mut self.rest).map_err(|_| UnexpectedMessagePack)
    }

    /// A truth value.
    ///
    /// # Errors
    /// Something else is next.
    pub fn boolean(&mut self) -> Result<bool, UnexpectedMessagePack> {
        decode::read_bool(&mut self.rest).map_err(|_| UnexpectedMessagePack)
    }

    /// A text.
    ///
    /// # Errors
    /// Something else is next, or it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, UnexpectedMessagePack> {
        let len = decode::read_str_len(&mut self.rest).map_err(|_| UnexpectedMessagePack)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| UnexpectedMessagePack)
    }

    /// A text, as its place among these; behind the last one if it is none of them.
    ///
    /// # Errors
    /// Those of [`MessagePackReader::text`].
    #[inline(never)]
    pub fn one_of(&mut self, names: &[&str]) -> Result<usize, UnexpectedMessagePack> {
        let text = self.text()?;
        Ok(names.iter().position(|name| *name == text).unwrap_or(names.len()))
    }

    /// A byte string.
    ///
    /// # Errors
    /// Something else is next.
    pub fn bytes(&mut self) -> Result<&'a [u8], UnexpectedMessagePack> {
        let len = decode::read_bin_len(&mut self.rest).map_err(|_| UnexpectedMessagePack)?;
        self.take(len)
    }

    /// Reads a nil if that is next and says whether it was.
    pub fn nil(&mut self) -> bool {
        let is_nil = self.rest.first() == Some(&Marker::Null.to_u8());
        if is_nil {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        is_nil
    }

    /// Passes over one value, whatever it is.
    ///
    /// # Errors
    /// The bytes are no MessagePack, end early, or are nested too deep.
    pub fn skip(&mut self) -> Result<(), UnexpectedMessagePack> {
        self.skip_nested(MAX_DEPTH)
    }

    fn skip_nested(&mut self, depth: usize) -> Result<(), UnexpectedMessagePack> {
        let depth = depth.checked_sub(1).ok_or(UnexpectedMessagePack)?;
        let (&first, tail) = self.rest.split_first().ok_or(UnexpectedMessagePack)?;
        let fixed = match Marker::from_u8(first) {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 => 2,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                return self.text().map(|_| ());
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => return self.bytes().map(|_| ()),
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                for _ in 0..self.array()? {
                    self.skip_nested(depth)?;
                }
                return Ok(());
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                for _ in 0..self.map()? {
                    self.skip_nested(depth)?;
                    self.skip_nested(depth)?;
                }
                return Ok(());
            }
            // No format of ours has extension types.
            _ => return Err(UnexpectedMessagePack),
        };
        self.rest = tail;
        self.take(fixed).map(|_| ())
    }

    fn take(&mut self, len: u32) -> Result<&'a [u8], UnexpectedMessagePack> {
        let (taken, rest) = self.rest.split_at_checked(len as usize).ok_or(UnexpectedMessagePack)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    struct Sample<'a> {
        number: u64,
        text: &'a str,
        nested: Vec<(String, f64, Option<bool>)>,
        last: u8,
    }

    #[test]
    fn what_serde_writes_is_read_and_what_is_unknown_is_skipped() {
        let nested = vec![("a".to_owned(), 1.5, Some(true)), ("b".repeat(40), -2.0, None)];
        let sample = Sample { number: 1 << 40, text: "ä", nested, last: 7 };
        let bytes = rmp_serde::to_vec_named(&sample).unwrap();
        let mut reader = MessagePackReader::new(&bytes);
        assert_eq!(reader.map(), Ok(4));
        assert_eq!((reader.text(), reader.unsigned()), (Ok("number"), Ok(1 << 40)));
        assert_eq!((reader.one_of(&["number", "text"]), reader.one_of(&["a"])), (Ok(1), Ok(1)));
        assert_eq!((reader.text(), reader.skip()), (Ok("nested"), Ok(())));
        assert_eq!((reader.text(), reader.unsigned()), (Ok("last"), Ok(7)));
        assert!(reader.rest().is_empty());
        for end in 0..bytes.len() {
            assert!(MessagePackReader::new(&bytes[..end]).skip().is_err(), "cut at {end}");
        }
        assert!(MessagePackReader::new(&[0x91; 1000]).skip().is_err(), "nested too deep");
    }
}
