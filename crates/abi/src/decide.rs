use crate::response::{HEADER as RESPONSE_HEADER, Response, begin};
use crate::wire::{Bytes, len32, pad, put_digest, put_u32, put_u64, reserve, seal};
use crate::{ErrorCode, Malformed, TooLarge};

const REQUEST_HEADER: usize = 32;
const CONTEXT: usize = 56;
const ATTRIBUTE: usize = 24;
const DECISION: usize = 112;

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

    /// Adds a context.
    ///
    /// # Errors
    /// A context that the memory has no room for.
    pub fn context<'v>(
        &mut self,
        fields: &ContextFields<'_>,
        attributes: impl Iterator<Item = (&'v str, AttributeValue<'v>)> + Clone,
    ) -> Result<(), TooLarge> {
        let texts = [Some(fields.route), fields.user, fields.symbol, fields.tenant, fields.session];
        let count = attributes.clone().count();
        let start = self.out.len();
        let fixed = count.checked_mul(ATTRIBUTE).and_then(|len| len.checked_add(CONTEXT)).ok_or(TooLarge)?;
        reserve(self.out, fixed)?;
        self.out.resize(start + fixed, 0);
        put_u32(self.out, start + 4, len32(count));
        for (index, text) in texts.into_iter().enumerate() {
            if let Some(text) = text {
                append(self.out, start, start + 8 + 8 * index, text)?;
            }
        }
        for (index, (name, value)) in attributes.enumerate() {
            let at = start + CONTEXT + ATTRIBUTE * index;
            append(self.out, start, at, name)?;
            match value {
                AttributeValue::Text(text) => {
                    put_u32(self.out, at + 8, 1);
                    put_u32(self.out, at + 12, len32(text.len()));
                    let offset = self.out.len() - start;
                    put_u32(self.out, at + 16, len32(offset));
                    reserve(self.out, text.len())?;
                    self.out.extend_from_slice(text.as_bytes());
                }
                AttributeValue::Number(number) => {
                    put_u32(self.out, at + 8, 2);
                    put_u64(self.out, at + 16, number.to_bits());
                }
                AttributeValue::Boolean(value) => {
                    put_u32(self.out, at + 8, 3);
                    put_u64(self.out, at + 16, u64::from(value));
                }
            }
        }
        pad(self.out, 8);
        let size = len32(self.out.len() - start);
        put_u32(self.out, start, size);
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

/// Appends a string to the record at `start` and writes its offset and length at `at`.
fn append(out: &mut Vec<u8>, start: usize, at: usize, text: &str) -> Result<(), TooLarge> {
    let offset = out.len() - start;
    put_u32(out, at, len32(offset));
    put_u32(out, at + 4, len32(text.len()));
    reserve(out, text.len())?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
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
}

impl<'a> DecideRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// A header that makes no sense.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (bytes, header_size) = message(bytes, REQUEST_HEADER)?;
        let (offset, count) = (bytes.size(24)?, bytes.size(28)?);
        let unavailable = if offset == 0 {
            &[]
        } else {
            let len = count.checked_mul(32).ok_or_else(|| bytes.fail(28, "too many unavailable packages"))?;
            bytes.part(offset, len)?.slice().as_chunks().0
        };
        Ok(Self { bytes, header_size, count: bytes.u32(8)?, now_ms: bytes.i64(16)?, unavailable })
    }

    /// The contexts, each checked when its turn comes.
    pub fn contexts(&self) -> Contexts<'a> {
        Contexts { bytes: self.bytes, at: self.header_size, left: self.count }
    }
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
}

impl<'a> ContextRecord<'a> {
    fn read(record: Bytes<'a>) -> Result<Self, Malformed> {
        let fields = ContextFields {
            route: record.text(8)?,
            user: record.optional_text(16)?,
            symbol: record.optional_text(24)?,
            tenant: record.optional_text(32)?,
            session: record.optional_text(40)?,
        };
        let attribute_count = record.size(4)?;
        for index in 0..attribute_count {
            read_attribute(record, index)?;
        }
        Ok(Self { fields, record, attribute_count })
    }

    /// The attributes in the order they were written.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { record: self.record, index: 0, count: self.attribute_count }
    }

    /// The value of the first attribute called `name`.
    pub fn attribute(&self, name: &str) -> Option<AttributeValue<'a>> {
        self.attributes().find(|(have, _)| *have == name).map(|(_, value)| value)
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

/// A decision as it travels: the module writes it, the shell reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionRecord<'a> {
    /// OpenFeature's reason, 1 … 6.
    pub reason: u8,
    /// Where the version runs, 1 … 3.
    pub placement: u8,
    /// The step of the precedence that decided, 1 … 9.
    pub step: u8,
    /// The unit that the split sticks to was missing.
    pub unit_missing: bool,
    /// The unit's bucket, 0 … 99 999.
    pub bucket: Option<u32>,
    /// The route's place in the bundle.
    pub route_index: u32,
    /// The variant's place in the route.
    pub variant_index: u32,
    /// The variant.
    pub variant: &'a str,
    /// The model.
    pub model: &'a str,
    /// The model's version.
    pub version: &'a str,
    /// What matched.
    pub rule: Option<&'a str>,
    /// The layer that was hashed into.
    pub layer: Option<&'a str>,
    /// The variant's payload, JSON text.
    pub payload: Option<&'a str>,
    /// The digest of the package.
    pub package: [u8; 32],
}

/// Module: writes the response to a decide request.
#[derive(Debug)]
pub struct DecideResponseWriter<'b> {
    out: &'b mut Vec<u8>,
    count: u32,
}

impl<'b> DecideResponseWriter<'b> {
    /// Starts a response in `out`, whose former content is forgotten.
    pub fn new(out: &'b mut Vec<u8>, bundle_version: u64, bundle: &[u8; 32]) -> Self {
        begin(out, bundle_version, bundle);
        Self { out, count: 0 }
    }

    /// Adds a decision.
    ///
    /// # Errors
    /// A response that the memory has no room for.
    pub fn decision(&mut self, decision: &DecisionRecord<'_>) -> Result<(), TooLarge> {
        let start = self.out.len();
        let texts = [
            (24, Some(decision.variant)),
            (32, Some(decision.model)),
            (40, Some(decision.version)),
            (48, decision.rule),
            (56, decision.layer),
            (64, decision.payload),
        ];
        let flags = u8::from(decision.bucket.is_some()) | u8::from(decision.unit_missing) << 1;
        let mut fields = [0; DECISION];
        fields[8..12].copy_from_slice(&[decision.reason, decision.placement, decision.step, flags]);
        put_u32(&mut fields, 12, decision.bucket.unwrap_or(0));
        put_u32(&mut fields, 16, decision.route_index);
        put_u32(&mut fields, 20, decision.variant_index);
        put_digest(&mut fields, 72, &decision.package);
        let mut end = DECISION;
        for (at, text) in texts {
            if let Some(text) = text {
                put_u32(&mut fields, at, len32(end));
                put_u32(&mut fields, at + 4, len32(text.len()));
                end = end.saturating_add(text.len());
            }
        }
        let size = end.checked_next_multiple_of(8).ok_or(TooLarge)?;
        put_u32(&mut fields, 0, len32(size));
        reserve(self.out, size)?;
        self.out.extend_from_slice(&fields);
        for (_, text) in texts {
            self.out.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        self.out.resize(start + size, 0);
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Adds the answer for a context whose route the bundle does not have.
    ///
    /// # Errors
    /// A response that the memory has no room for.
    pub fn unknown_route(&mut self) -> Result<(), TooLarge> {
        let mut fields = [0; DECISION];
        put_u32(&mut fields, 0, len32(DECISION));
        put_u32(&mut fields, 4, ErrorCode::UnknownRoute.number());
        reserve(self.out, DECISION)?;
        self.out.extend_from_slice(&fields);
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Ends the response.
    ///
    /// # Errors
    /// A response that a u32 cannot measure.
    pub fn finish(self) -> Result<(), TooLarge> {
        put_u32(self.out, 12, self.count);
        seal(self.out)
    }
}

impl<'a> Response<'a> {
    /// Shell: the decisions, in the order of the contexts, each checked when its turn comes; `None` stands for an
    /// unknown route.
    pub fn decisions(&self) -> Decisions<'a> {
        Decisions { bytes: self.bytes, at: self.header_size.max(RESPONSE_HEADER), left: self.count }
    }
}

/// Iterates over the decisions of a response; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Decisions<'a> {
    bytes: Bytes<'a>,
    at: usize,
    left: u32,
}

impl<'a> Iterator for Decisions<'a> {
    type Item = Result<Option<DecisionRecord<'a>>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.bytes.record(self.at, DECISION).and_then(|record| {
            self.at += record.len();
            read_decision(record)
        });
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

fn read_decision(record: Bytes<'_>) -> Result<Option<DecisionRecord<'_>>, Malformed> {
    match record.u32(4)? {
        0 => {}
        status if status == ErrorCode::UnknownRoute.number() => return Ok(None),
        _ => return Err(record.fail(4, "a decision's status is none of this ABI")),
    }
    let within = |at: usize, most: u8| match record.u8(at)? {
        number if (1..=most).contains(&number) => Ok(number),
        _ => Err(record.fail(at, "a decision's reason, placement or step is none of this ABI")),
    };
    let flags = record.u8(11)?;
    let bucket = record.u32(12)?;
    if bucket >= 100_000 {
        return Err(record.fail(12, "a bucket is above 99 999"));
    }
    Ok(Some(DecisionRecord {
        reason: within(8, 6)?,
        placement: within(9, 3)?,
        step: within(10, 9)?,
        unit_missing: flags & 2 != 0,
        bucket: (flags & 1 != 0).then_some(bucket),
        route_index: record.u32(16)?,
        variant_index: record.u32(20)?,
        variant: record.text(24)?,
        model: record.text(32)?,
        version: record.text(40)?,
        rule: record.optional_text(48)?,
        layer: record.optional_text(56)?,
        payload: record.optional_text(64)?,
        package: record.digest(72)?,
    }))
}
