//! A decide request.

use crate::texts::Texts;
use crate::wire::{Bytes, len32, put_u32, put_u64, reserve, seal};
use crate::{Malformed, TooLarge};

const REQUEST_HEADER: usize = 32;
const CONTEXT: usize = 56;
const ATTRIBUTE: usize = 24;
/// Asks for compact decisions.
const COMPACT: u32 = 1;

/// The fixed part of a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContextFields<'a> {
    /// The route.
    pub route: &'a str,
    /// The user.
    pub user: Option<&'a str>,
    /// The instrument.
    pub symbol: Option<&'a str>,
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// The session.
    pub session: Option<&'a str>,
    /// The variant that the caller asks for.
    pub variant: Option<&'a str>,
}

/// The value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttributeValue<'a> {
    /// A string.
    Text(&'a str),
    /// A number.
    Number(f64),
    /// True or false.
    Boolean(bool),
}

/// Shell: writes a decide request.
#[derive(Debug)]
pub struct DecideRequestWriter<'b> {
    out: &'b mut Vec<u8>,
    count: u32,
}

impl<'b> DecideRequestWriter<'b> {
    /// Starts a request in `out`, whose former content is forgotten.
    pub fn new(out: &'b mut Vec<u8>, now_ms: i64) -> Self {
        out.clear();
        let mut header = [0; REQUEST_HEADER];
        put_u32(&mut header, 0, len32(REQUEST_HEADER));
        put_u64(&mut header, 16, now_ms.cast_unsigned());
        out.extend_from_slice(&header);
        Self { out, count: 0 }
    }

    /// Asks for decisions of indices alone, which a shell turns into names with the bundle at hand. A module of ABI 1.0
    /// does not know them and answers in full.
    #[must_use]
    pub fn compact(self) -> Self {
        put_u32(self.out, 12, COMPACT);
        self
    }

    /// Adds a context.
    ///
    /// # Errors
    /// A context that the memory has no room for.
    #[inline]
    pub fn context<'v>(
        &mut self,
        fields: &ContextFields<'_>,
        attributes: impl Iterator<Item = (&'v str, AttributeValue<'v>)> + Clone,
    ) -> Result<(), TooLarge> {
        let texts =
            [Some(fields.route), fields.user, fields.symbol, fields.tenant, fields.session, fields.variant];
        // Saturated lengths end beyond what a u32 measures, which is found before anything is written.
        let mut count = 0_usize;
        let mut end = CONTEXT;
        for (name, value) in attributes.clone() {
            let text = if let AttributeValue::Text(text) = value { text.len() } else { 0 };
            end = end.saturating_add(ATTRIBUTE).saturating_add(name.len()).saturating_add(text);
            count = count.saturating_add(1);
        }
        for text in texts.into_iter().flatten() {
            end = end.saturating_add(text.len());
        }
        let size = end.checked_next_multiple_of(8).ok_or(TooLarge)?;
        let size32 = u32::try_from(size).map_err(|_| TooLarge)?;
        reserve(self.out, size)?;

        // Everything below fits a u32, for the record as a whole does.
        let mut at = len32(count.saturating_mul(ATTRIBUTE).saturating_add(CONTEXT));
        let mut place = |text: &str| {
            let offset = at;
            at = at.wrapping_add(len32(text.len()));
            (offset, len32(text.len()))
        };
        let mut fixed = [0; CONTEXT];
        put_u32(&mut fixed, 0, size32);
        put_u32(&mut fixed, 4, len32(count));
        for (index, text) in texts.into_iter().enumerate() {
            if let Some(text) = text {
                let (offset, len) = place(text);
                put_u32(&mut fixed, 8 + 8 * index, offset);
                put_u32(&mut fixed, 12 + 8 * index, len);
            }
        }
        self.out.extend_from_slice(&fixed);
        for (name, value) in attributes.clone() {
            let mut fields = [0; ATTRIBUTE];
            let (offset, len) = place(name);
            put_u32(&mut fields, 0, offset);
            put_u32(&mut fields, 4, len);
            match value {
                AttributeValue::Text(text) => {
                    let (offset, len) = place(text);
                    put_u32(&mut fields, 8, 1);
                    put_u32(&mut fields, 12, len);
                    put_u32(&mut fields, 16, offset);
                }
                AttributeValue::Number(number) => {
                    put_u32(&mut fields, 8, 2);
                    put_u64(&mut fields, 16, number.to_bits());
                }
                AttributeValue::Boolean(value) => {
                    put_u32(&mut fields, 8, 3);
                    put_u64(&mut fields, 16, u64::from(value));
                }
            }
            self.out.extend_from_slice(&fields);
        }
        for text in texts.into_iter().flatten() {
            self.out.extend_from_slice(text.as_bytes());
        }
        for (name, value) in attributes {
            self.out.extend_from_slice(name.as_bytes());
            if let AttributeValue::Text(text) = value {
                self.out.extend_from_slice(text.as_bytes());
            }
        }
        let padding = [0; 8];
        self.out.extend_from_slice(padding.get(..size.saturating_sub(end)).unwrap_or_default());
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Ends the request with the digests of the packages that cannot serve now.
    ///
    /// # Errors
    /// A request that a u32 cannot measure or the memory has no room for.
    pub fn finish(self, unavailable: &[[u8; 32]]) -> Result<(), TooLarge> {
        put_u32(self.out, 8, self.count);
        if !unavailable.is_empty() {
            let offset = len32(self.out.len());
            put_u32(self.out, 24, offset);
            put_u32(self.out, 28, len32(unavailable.len()));
            reserve(self.out, unavailable.as_flattened().len())?;
            self.out.extend_from_slice(unavailable.as_flattened());
        }
        seal(self.out)
    }
}

/// Module: a decide request, its header checked.
#[derive(Debug, Clone, Copy)]
pub struct DecideRequest<'a> {
    bytes: Bytes<'a>,
    header_size: usize,
    count: u32,
    /// Milliseconds since 1970-01-01T00:00Z.
    pub now_ms: i64,
    /// Digests of the packages that cannot serve.
    pub unavailable: &'a [[u8; 32]],
    /// Whether decisions of indices alone are wanted.
    pub compact: bool,
}

impl<'a> DecideRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// A header that makes no sense.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (bytes, header_size) = message(bytes, REQUEST_HEADER)?;
        let (offset, count) = (bytes.size(24)?, bytes.size(28)?);
        let unavailable = if offset == 0 {
            &[]
        } else {
            let len = count.checked_mul(32).ok_or_else(|| bytes.fail(28, "too many unavailable packages"))?;
            bytes.part(offset, len)?.slice().as_chunks().0
        };
        let compact = bytes.u32(12)? & COMPACT != 0;
        Ok(Self { bytes, header_size, count: bytes.u32(8)?, now_ms: bytes.i64(16)?, unavailable, compact })
    }

    /// The contexts, each checked when its turn comes.
    pub fn contexts(&self) -> Contexts<'a> {
        Contexts { bytes: self.bytes, at: self.header_size, left: self.count }
    }

    /// Gives each context to `use_it`, in place.
    ///
    /// # Errors
    /// The first malformed context, or what `use_it` says.
    #[inline]
    pub fn each<E: From<Malformed>>(
        &self,
        mut use_it: impl FnMut(&ContextRecord<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = self.header_size;
        for _ in 0..self.count {
            let record = self.bytes.record(at, CONTEXT)?;
            at += record.len();
            match ContextRecord::read_at_once(record) {
                Some(context) => use_it(&context)?,
                None => unusual(record, &mut use_it)?,
            }
        }
        Ok(())
    }

    /// How many contexts there can be: what the header says, or less where the request is too short for so many.
    pub fn context_limit(&self) -> usize {
        (self.count as usize).min(self.bytes.len() / CONTEXT)
    }
}

/// Reads a context that is not laid out as writers do it. Apart, so that the usual one is not copied to where this one would lie.
#[cold]
#[inline(never)]
fn unusual<'a, E: From<Malformed>>(
    record: Bytes<'a>,
    use_it: &mut dyn FnMut(&ContextRecord<'a>) -> Result<(), E>,
) -> Result<(), E> {
    use_it(&ContextRecord::read_field_by_field(record)?)
}

/// A request cut to its `total_size`, and the size of its header.
pub(crate) fn message(bytes: &[u8], least: usize) -> Result<(Bytes<'_>, usize), Malformed> {
    let bytes = Bytes::new(bytes, 0);
    let (header_size, total_size) = (bytes.size(0)?, bytes.size(4)?);
    if header_size < least || !header_size.is_multiple_of(8) || total_size < header_size {
        return Err(bytes.fail(0, "header_size or total_size is too small"));
    }
    Ok((bytes.part(0, total_size)?, header_size))
}

/// Iterates over the contexts of a request; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Contexts<'a> {
    bytes: Bytes<'a>,
    at: usize,
    left: u32,
}

impl<'a> Iterator for Contexts<'a> {
    type Item = Result<ContextRecord<'a>, Malformed>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.bytes.record(self.at, CONTEXT).and_then(|record| {
            self.at += record.len();
            ContextRecord::read(record)
        });
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

/// A context of a decide request, all of it checked.
#[derive(Debug, Clone, Copy)]
pub struct ContextRecord<'a> {
    /// The fixed part.
    pub fields: ContextFields<'a>,
    record: Bytes<'a>,
    attribute_count: usize,
    /// What lies behind the attributes, where writers put the strings.
    texts: Texts<'a>,
}

impl<'a> ContextRecord<'a> {
    #[inline(always)]
    fn read(record: Bytes<'a>) -> Result<Self, Malformed> {
        Self::read_at_once(record).map_or_else(|| Self::read_field_by_field(record), Ok)
    }

    /// Reads a record as writers write it, the strings behind everything else. `None` for any other record.
    #[inline(always)]
    fn read_at_once(record: Bytes<'a>) -> Option<Self> {
        let bytes = record.slice();
        let fixed: &[u8; CONTEXT] = bytes.first_chunk()?;
        let word = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let attribute_count = word(4) as usize;
        let start = attribute_count.checked_mul(ATTRIBUTE)?.checked_add(CONTEXT)?;
        let texts = Texts::new(start, bytes.get(start..)?);
        let fields = ContextFields {
            route: texts.get(word(8), word(12))?,
            user: texts.optional(word(16), word(20))?,
            symbol: texts.optional(word(24), word(28))?,
            tenant: texts.optional(word(32), word(36))?,
            session: texts.optional(word(40), word(44))?,
            variant: texts.optional(word(48), word(52))?,
        };
        let attributes = bytes.get(CONTEXT..start)?.as_chunks::<ATTRIBUTE>().0;
        if !attributes.iter().all(|fields| Raw::of(fields).is_sound(texts)) {
            return None;
        }
        Some(Self { fields, record, attribute_count, texts })
    }

    /// Reads any record that the ABI allows, and says what is wrong with others.
    #[cold]
    #[inline(never)]
    fn read_field_by_field(record: Bytes<'a>) -> Result<Self, Malformed> {
        let fields = ContextFields {
            route: record.text(8)?,
            user: record.optional_text(16)?,
            symbol: record.optional_text(24)?,
            tenant: record.optional_text(32)?,
            session: record.optional_text(40)?,
            variant: record.optional_text(48)?,
        };
        let attribute_count = record.size(4)?;
        for index in 0..attribute_count {
            read_attribute(record, index)?;
        }
        Ok(Self { fields, record, attribute_count, texts: Texts::new(usize::MAX, &[]) })
    }

    /// The attributes in the order they were written.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { record: self.record, index: 0, count: self.attribute_count }
    }

    /// The value of the first attribute called `name`.
    #[inline]
    pub fn attribute(&self, name: &str) -> Option<AttributeValue<'a>> {
        if self.attribute_count == 0 {
            return None;
        }
        let bytes = self.record.slice();
        let start = self.texts.start();
        let Some(end) = start.checked_sub(CONTEXT).filter(|_| start <= bytes.len()) else {
            return self.attributes().find(|(have, _)| *have == name).map(|(_, value)| value);
        };
        let attributes = bytes.get(CONTEXT..CONTEXT + end)?.as_chunks::<ATTRIBUTE>().0;
        for fields in attributes {
            let raw = Raw::of(fields);
            if raw.name_len as usize == name.len() && self.texts.get(raw.name, raw.name_len) == Some(name) {
                return raw.value(self.texts);
            }
        }
        None
    }
}

/// The fields of an attribute as they lie there.
#[derive(Clone, Copy)]
struct Raw {
    name: u32,
    name_len: u32,
    kind: u32,
    text_len: u32,
    value: u64,
}

impl Raw {
    #[inline]
    fn of(fields: &[u8; ATTRIBUTE]) -> Self {
        let word =
            |at: usize| u32::from_le_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
        let value = u64::from(word(16)) | u64::from(word(20)) << 32;
        Self { name: word(0), name_len: word(4), kind: word(8), text_len: word(12), value }
    }

    fn is_sound(self, texts: Texts<'_>) -> bool {
        texts.get(self.name, self.name_len).is_some() && self.value(texts).is_some()
    }

    fn value(self, texts: Texts<'_>) -> Option<AttributeValue<'_>> {
        match (self.kind, self.value) {
            // The upper half is reserved.
            (1, value) => texts.get(value as u32, self.text_len).map(AttributeValue::Text),
            (2, value) => Some(AttributeValue::Number(f64::from_bits(value))),
            (3, 0) => Some(AttributeValue::Boolean(false)),
            (3, 1) => Some(AttributeValue::Boolean(true)),
            _ => None,
        }
    }
}

fn read_attribute(record: Bytes<'_>, index: usize) -> Result<(&str, AttributeValue<'_>), Malformed> {
    let at = index
        .checked_mul(ATTRIBUTE)
        .and_then(|offset| offset.checked_add(CONTEXT))
        .ok_or_else(|| record.fail(4, "too many attributes"))?;
    let fields = record.part(at, ATTRIBUTE)?;
    let name = record.text(at)?;
    let value = match fields.u32(8)? {
        1 => {
            let bytes = record.part(fields.size(16)?, fields.size(12)?)?;
            let text = std::str::from_utf8(bytes.slice());
            AttributeValue::Text(text.map_err(|_| bytes.fail(0, "a string is not UTF-8"))?)
        }
        2 => AttributeValue::Number(fields.f64(16)?),
        3 => match fields.u64(16)? {
            0 => AttributeValue::Boolean(false),
            1 => AttributeValue::Boolean(true),
            _ => return Err(fields.fail(16, "a boolean is neither 0 nor 1")),
        },
        _ => return Err(fields.fail(8, "an attribute's type is none of this ABI")),
    };
    Ok((name, value))
}

/// Iterates over the attributes of a context.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    record: Bytes<'a>,
    index: usize,
    count: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, AttributeValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            return None;
        }
        let attribute = read_attribute(self.record, self.index).ok();
        self.index += 1;
        attribute
    }
}
