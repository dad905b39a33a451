//! The strings of a record, where writers put them: one behind the other, behind everything else.

#![expect(
    unsafe_code,
    reason = "checking every string again that is known to be ASCII would cost more than deciding"
)]

/// The bytes behind a record's fields.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts<'a> {
    /// Where they begin in the record.
    start: usize,
    bytes: &'a [u8],
    /// Whether every one of them is ASCII; [`new`](Self::new) has looked.
    ascii: bool,
}

impl<'a> Texts<'a> {
    /// `bytes` begin at `start` of their record.
    #[inline]
    pub(crate) fn new(start: usize, bytes: &'a [u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let word = words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word));
        let ascii = word & 0x8080_8080_8080_8080 == 0 && rest.is_ascii();
        Self { start, bytes, ascii }
    }

    /// Where they begin in the record.
    #[inline]
    pub(crate) fn start(self) -> usize {
        self.start
    }

    /// The string of `len` bytes at `offset` of the record; `None` when it is not among these bytes or not UTF-8.
    #[inline]
    pub(crate) fn get(self, offset: u32, len: u32) -> Option<&'a str> {
        let from = (offset as usize).checked_sub(self.start)?;
        let bytes = self.bytes.get(from..)?.get(..len as usize)?;
        if self.ascii {
            // SAFETY: `bytes` is part of `self.bytes`, all of which are ASCII, and ASCII is UTF-8.
            Some(unsafe { std::str::from_utf8_unchecked(bytes) })
        } else {
            checked(bytes)
        }
    }

    /// The same; offset 0 means that there is none.
    #[inline]
    pub(crate) fn optional(self, offset: u32, len: u32) -> Option<Option<&'a str>> {
        if offset == 0 { Some(None) } else { self.get(offset, len).map(Some) }
    }
}

#[cold]
#[inline(never)]
fn checked(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::Texts;

    #[test]
    fn a_string_is_given_if_it_is_utf_8_and_lies_there() {
        let whole = "EURUSD.größer.日本 and some more of it".as_bytes();
        let mut broken = whole.to_vec();
        broken[3] = 0xff;
        for bytes in [whole, b"only ASCII, 24 bytes long", &broken, b""] {
            let texts = Texts::new(56, bytes);
            for from in 0..=bytes.len() + 1 {
                for to in from..=bytes.len() + 1 {
                    let want = bytes.get(from..to).and_then(|part| std::str::from_utf8(part).ok());
                    let got = texts.get(u32::try_from(56 + from).unwrap(), u32::try_from(to - from).unwrap());
                    assert_eq!(got, want, "{from}..{to} of {bytes:?}");
                }
            }
            assert_eq!(texts.get(55, 1), None);
            assert_eq!(texts.get(u32::MAX, u32::MAX), None);
        }
    }
}
