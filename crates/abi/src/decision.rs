//! The response to a decide request.

use crate::response::{HEADER as RESPONSE_HEADER, Response, begin, header};
use crate::wire::{Bytes, len32, put_digest, put_u32, reserve, seal};
use crate::{ErrorCode, Malformed, TooLarge};

/// The fixed part of a decision, and what ABI 1.0 had of it.
const DECISION: usize = 160;
const DECISION_1_0: usize = 112;
const SHADOW: usize = 88;
const COMPACT: usize = 32;
/// Where the response's header says which form its decisions have, and how long their fixed part is.
const FORM_AT: usize = 56;
const FIXED_AT: usize = 60;

const BUCKET: u8 = 1;
const UNIT_MISSING: u8 = 1 << 1;
const HOLDOUT: u8 = 1 << 2;
const WASHOUT: u8 = 1 << 3;
const UNAVAILABLE: u8 = 1 << 4;
const FALLBACK: u8 = 1 << 5;

/// A decision without its names: numbers, indices into the bundle, and flags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactDecision {
    /// OpenFeature's reason, 1 … 6.
    pub reason: u8,
    /// The step of the precedence that decided, 1 … 9.
    pub step: u8,
    /// The unit that the split sticks to was missing.
    pub unit_missing: bool,
    /// The unit is held out.
    pub holdout: bool,
    /// A switchback's window has only begun.
    pub washout: bool,
    /// The variant is unavailable, and so are its fallbacks.
    pub unavailable: bool,
    /// The definition of the route, by its place in the bundle.
    pub route_index: u32,
    /// The variant's place in the route.
    pub variant_index: u32,
    /// The place of the variant that was chosen, when a fallback serves in its place.
    pub intended_index: Option<u32>,
    /// What matched, by its place in the bundle: equal places have equal rules and layers.
    pub target_index: Option<u32>,
    /// The unit's bucket.
    pub bucket: Option<u32>,
    /// The stage of a ramp; 0 before the first.
    pub stage: Option<u32>,
    /// The window of a switchback.
    pub window: Option<u32>,
    /// The shadows that run, one bit for each of the route's.
    pub shadow_mask: u32,
}

/// A decision with its names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionRecord<'a> {
    /// What a compact decision has too.
    pub compact: CompactDecision,
    /// Where the version runs, 1 … 3.
    pub placement: u8,
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
    /// The tenant whose definition of the route it is.
    pub tenant: Option<&'a str>,
    /// The user whose definition of the route it is.
    pub user: Option<&'a str>,
    /// The variant that was chosen, when a fallback serves in its place.
    pub intended: Option<&'a str>,
}

/// A version that gets a copy of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShadowRecord<'a> {
    /// The shadow's number in the route, its bit in the mask.
    pub number: u8,
    /// Its name.
    pub name: &'a str,
    /// The variant's place in the route.
    pub variant_index: u32,
    /// The variant.
    pub variant: &'a str,
    /// The model.
    pub model: &'a str,
    /// The model's version.
    pub version: &'a str,
    /// Where the version runs, 1 … 3.
    pub placement: u8,
    /// The digest of the package.
    pub package: [u8; 32],
    /// Requests per second.
    pub rate: u32,
    /// Requests at once.
    pub concurrency: u32,
    /// Bytes of a request.
    pub bytes: u32,
    /// Milliseconds until its answer is no longer waited for.
    pub deadline_ms: u32,
}

/// Module: writes the response to a decide request, all of it compact or nothing.
#[derive(Debug)]
pub struct DecideResponseWriter<'b> {
    out: &'b mut Vec<u8>,
    count: u32,
}

impl<'b> DecideResponseWriter<'b> {
    /// Starts a response of full decisions in `out`, whose former content is forgotten.
    pub fn new(out: &'b mut Vec<u8>, bundle_version: u64, bundle: &[u8; 32]) -> Self {
        begin(out, bundle_version, bundle);
        put_u32(out, FIXED_AT, len32(DECISION));
        Self { out, count: 0 }
    }

    /// Starts a response of up to `most` compact decisions in `out`, whose former content is forgotten.
    ///
    /// # Errors
    /// A response that the memory has no room for.
    pub fn compact(
        out: &'b mut Vec<u8>,
        bundle_version: u64,
        bundle: &[u8; 32],
        most: usize,
    ) -> Result<Self, TooLarge> {
        let mut header = header(bundle_version, bundle);
        put_u32(&mut header, FORM_AT, 1);
        put_u32(&mut header, FIXED_AT, len32(COMPACT));
        out.clear();
        let len = most.checked_mul(COMPACT).and_then(|len| len.checked_add(header.len()));
        reserve(out, len.ok_or(TooLarge)?)?;
        out.extend_from_slice(&header);
        Ok(Self { out, count: 0 })
    }

    /// Adds a compact decision.
    ///
    /// # Errors
    /// A response that the memory has no room for.
    #[inline]
    pub fn compact_decision(&mut self, decision: &CompactDecision) -> Result<(), TooLarge> {
        let small = |index: u32| u16::try_from(index).unwrap_or(u16::MAX);
        let variant = small(decision.variant_index).to_le_bytes();
        let intended = small(successor(decision.intended_index)).to_le_bytes();
        let mut fields = [0; COMPACT];
        fields[1..4].copy_from_slice(&[decision.reason, decision.step, flags(decision)]);
        put_u32(&mut fields, 4, decision.route_index);
        fields[8..12].copy_from_slice(&[variant[0], variant[1], intended[0], intended[1]]);
        put_u32(&mut fields, 12, successor(decision.target_index));
        put_u32(&mut fields, 16, decision.bucket.unwrap_or(0));
        put_u32(&mut fields, 20, successor(decision.stage));
        put_u32(&mut fields, 24, successor(decision.window));
        put_u32(&mut fields, 28, decision.shadow_mask);
        self.append(&fields);
        Ok(())
    }

    /// Adds the compact answer for a context whose route the bundle does not have or the caller may not see.
    ///
    /// # Errors
    /// A response that the memory has no room for.
    pub fn compact_unknown_route(&mut self) -> Result<(), TooLarge> {
        let mut fields = [0; COMPACT];
        put_u32(&mut fields, 0, ErrorCode::UnknownRoute.number());
        self.append(&fields);
        Ok(())
    }

    #[inline]
    fn append(&mut self, fields: &[u8; COMPACT]) {
        self.out.extend_from_slice(fields);
        self.count = self.count.saturating_add(1);
    }

    /// Adds a decision.
    ///
    /// # Errors
    /// A response that the memory has no room for.
    pub fn decision<'s>(
        &mut self,
        decision: &DecisionRecord<'_>,
        shadows: impl Iterator<Item = ShadowRecord<'s>> + Clone,
    ) -> Result<(), TooLarge> {
        let start = self.out.len();
        let texts = [
            (24, Some(decision.variant)),
            (32, Some(decision.model)),
            (40, Some(decision.version)),
            (48, decision.rule),
            (56, decision.layer),
            (64, decision.payload),
            (128, decision.tenant),
            (136, decision.user),
            (152, decision.intended),
        ];
        let compact = &decision.compact;
        let mut fields = [0; DECISION];
        fields[8..12].copy_from_slice(&[compact.reason, decision.placement, compact.step, flags(compact)]);
        put_u32(&mut fields, 12, compact.bucket.unwrap_or(0));
        put_u32(&mut fields, 16, compact.route_index);
        put_u32(&mut fields, 20, compact.variant_index);
        put_digest(&mut fields, 72, &decision.package);
        put_u32(&mut fields, 112, successor(compact.stage));
        put_u32(&mut fields, 116, successor(compact.window));
        put_u32(&mut fields, 120, successor(compact.intended_index));
        put_u32(&mut fields, 124, successor(compact.target_index));
        put_u32(&mut fields, 144, compact.shadow_mask);

        let count = shadows.clone().count();
        let fixed = count.checked_mul(SHADOW).and_then(|len| len.checked_add(DECISION)).ok_or(TooLarge)?;
        if count > 0 {
            put_u32(&mut fields, 104, len32(count));
            put_u32(&mut fields, 108, len32(DECISION));
        }
        let mut end = fixed;
        let mut place = |fields: &mut [u8], at: usize, text: &str| {
            put_u32(fields, at, len32(end));
            put_u32(fields, at + 4, len32(text.len()));
            end = end.saturating_add(text.len());
        };
        for (at, text) in texts {
            if let Some(text) = text {
                place(&mut fields, at, text);
            }
        }
        reserve(self.out, fixed)?;
        self.out.extend_from_slice(&fields);
        for shadow in shadows.clone() {
            let mut fields = [0; SHADOW];
            put_u32(&mut fields, 0, shadow.variant_index);
            fields[4..6].copy_from_slice(&[shadow.placement, shadow.number]);
            for (at, text) in [8, 16, 24, 32].into_iter().zip(shadow.texts()) {
                place(&mut fields, at, text);
            }
            put_digest(&mut fields, 40, &shadow.package);
            put_u32(&mut fields, 72, shadow.rate);
            put_u32(&mut fields, 76, shadow.concurrency);
            put_u32(&mut fields, 80, shadow.bytes);
            put_u32(&mut fields, 84, shadow.deadline_ms);
            self.out.extend_from_slice(&fields);
        }
        let size = end.checked_next_multiple_of(8).ok_or(TooLarge)?;
        reserve(self.out, size.saturating_sub(fixed))?;
        put_u32(self.out, start, len32(size));
        for (_, text) in texts {
            self.out.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
        for text in shadows.flat_map(|shadow| shadow.texts()) {
            self.out.extend_from_slice(text.as_bytes());
        }
        self.out.resize(start.saturating_add(size), 0);
        self.count = self.count.saturating_add(1);
        Ok(())
    }

    /// Adds the answer for a context whose route the bundle does not have or the caller may not see.
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

impl<'a> ShadowRecord<'a> {
    fn texts(&self) -> [&'a str; 4] {
        [self.name, self.variant, self.model, self.version]
    }
}

/// Zero for none, else the number plus one.
#[inline]
fn successor(number: Option<u32>) -> u32 {
    // No place is the highest number, which stands for none in a bundle.
    number.map_or(0, |number| number.wrapping_add(1))
}

#[inline]
fn flags(decision: &CompactDecision) -> u8 {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    flag(decision.bucket.is_some(), BUCKET)
        | flag(decision.unit_missing, UNIT_MISSING)
        | flag(decision.holdout, HOLDOUT)
        | flag(decision.washout, WASHOUT)
        | flag(decision.unavailable, UNAVAILABLE)
        | flag(decision.intended_index.is_some(), FALLBACK)
}

impl<'a> Response<'a> {
    /// Shell: the decisions, in the order of the contexts, each checked when its turn comes; `None` stands for an
    /// unknown route. A response of compact decisions gives one error.
    pub fn decisions(&self) -> Decisions<'a> {
        let fixed = match self.fixed_size() {
            0 => DECISION_1_0,
            size => size,
        };
        Decisions {
            bytes: self.bytes,
            at: self.header_size.max(RESPONSE_HEADER),
            left: self.count,
            fixed,
            compact: self.is_compact(),
        }
    }

    /// Shell: whether the decisions are compact. They are not, though asked for, when the module speaks ABI 1.0.
    pub fn is_compact(&self) -> bool {
        self.bytes.u32(FORM_AT) == Ok(1)
    }

    /// Shell: the compact decisions, in the order of the contexts, each checked when its turn comes; `None` stands for an
    /// unknown route.
    ///
    /// # Errors
    /// A response of another form, or one that is too short for them.
    pub fn compact_decisions(
        &self,
    ) -> Result<impl ExactSizeIterator<Item = Result<Option<CompactDecision>, Malformed>> + use<'a>, Malformed>
    {
        let size = self.fixed_size();
        if !self.is_compact() || size < COMPACT {
            return Err(self.bytes.fail(FORM_AT, "the decisions are not compact"));
        }
        let count = self.count as usize;
        let len = count.checked_mul(size).ok_or_else(|| self.bytes.fail(12, "too many decisions"))?;
        let records = self.bytes.part(self.header_size, len)?;
        Ok((0..count).map(move |index| read_compact(records, index * size)))
    }

    fn fixed_size(&self) -> usize {
        self.bytes.size(FIXED_AT).unwrap_or(0)
    }
}

/// Iterates over the decisions of a response; ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Decisions<'a> {
    bytes: Bytes<'a>,
    at: usize,
    left: u32,
    fixed: usize,
    compact: bool,
}

impl<'a> Iterator for Decisions<'a> {
    type Item = Result<Option<(DecisionRecord<'a>, Shadows<'a>)>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        if self.compact {
            self.left = 0;
            return Some(Err(self.bytes.fail(FORM_AT, "the decisions are compact")));
        }
        let record = self.bytes.record(self.at, self.fixed.max(DECISION_1_0)).and_then(|record| {
            self.at += record.len();
            read_decision(record, self.fixed)
        });
        if record.is_err() {
            self.left = 0;
        }
        Some(record)
    }
}

fn status(record: Bytes<'_>, at: usize, status: u32) -> Result<bool, Malformed> {
    match status {
        0 => Ok(true),
        status if status == ErrorCode::UnknownRoute.number() => Ok(false),
        _ => Err(record.fail(at, "a decision's status is none of this ABI")),
    }
}

fn within(record: Bytes<'_>, at: usize, most: u8) -> Result<u8, Malformed> {
    match record.u8(at)? {
        number if (1..=most).contains(&number) => Ok(number),
        _ => Err(record.fail(at, "a decision's reason, placement or step is none of this ABI")),
    }
}

fn flagged(decision: CompactDecision, flags: u8, bucket: u32) -> CompactDecision {
    CompactDecision {
        unit_missing: flags & UNIT_MISSING != 0,
        holdout: flags & HOLDOUT != 0,
        washout: flags & WASHOUT != 0,
        unavailable: flags & UNAVAILABLE != 0,
        bucket: (flags & BUCKET != 0).then_some(bucket),
        ..decision
    }
}

fn read_decision<'a>(
    record: Bytes<'a>,
    fixed: usize,
) -> Result<Option<(DecisionRecord<'a>, Shadows<'a>)>, Malformed> {
    if !status(record, 4, record.u32(4)?)? {
        return Ok(None);
    }
    let compact = CompactDecision {
        reason: within(record, 8, 6)?,
        step: within(record, 10, 9)?,
        route_index: record.u32(16)?,
        variant_index: record.u32(20)?,
        ..CompactDecision::default()
    };
    let mut decision = DecisionRecord {
        compact: flagged(compact, record.u8(11)?, record.u32(12)?),
        placement: within(record, 9, 3)?,
        variant: record.text(24)?,
        model: record.text(32)?,
        version: record.text(40)?,
        rule: record.optional_text(48)?,
        layer: record.optional_text(56)?,
        payload: record.optional_text(64)?,
        package: record.digest(72)?,
        ..DecisionRecord::default()
    };
    let mut shadows = Shadows { record, at: 0, left: 0 };
    if fixed >= DECISION {
        let compact = &mut decision.compact;
        compact.stage = record.u32(112)?.checked_sub(1);
        compact.window = record.u32(116)?.checked_sub(1);
        compact.intended_index = record.u32(120)?.checked_sub(1);
        compact.target_index = record.u32(124)?.checked_sub(1);
        compact.shadow_mask = record.u32(144)?;
        decision.tenant = record.optional_text(128)?;
        decision.user = record.optional_text(136)?;
        decision.intended = record.optional_text(152)?;
        let (count, at) = (record.size(104)?, record.size(108)?);
        let len =
            count.checked_mul(SHADOW).ok_or_else(|| record.fail(104, "a decision has too many shadows"))?;
        record.part(at, len)?;
        shadows = Shadows { record, at, left: count };
        for shadow in shadows.clone() {
            shadow?;
        }
    }
    Ok(Some((decision, shadows)))
}

/// The shadows of a decision.
#[derive(Debug, Clone)]
pub struct Shadows<'a> {
    record: Bytes<'a>,
    at: usize,
    left: usize,
}

impl<'a> Iterator for Shadows<'a> {
    type Item = Result<ShadowRecord<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let shadow = read_shadow(self.record, self.at);
        self.at = self.at.saturating_add(SHADOW);
        if shadow.is_err() {
            self.left = 0;
        }
        Some(shadow)
    }
}

fn read_shadow(record: Bytes<'_>, at: usize) -> Result<ShadowRecord<'_>, Malformed> {
    record.part(at, SHADOW)?;
    Ok(ShadowRecord {
        variant_index: record.u32(at)?,
        placement: within(record, at + 4, 3)?,
        number: record.u8(at + 5)?,
        name: record.text(at + 8)?,
        variant: record.text(at + 16)?,
        model: record.text(at + 24)?,
        version: record.text(at + 32)?,
        package: record.digest(at + 40)?,
        rate: record.u32(at + 72)?,
        concurrency: record.u32(at + 76)?,
        bytes: record.u32(at + 80)?,
        deadline_ms: record.u32(at + 84)?,
    })
}

#[inline]
fn read_compact(records: Bytes<'_>, at: usize) -> Result<Option<CompactDecision>, Malformed> {
    let bytes = records.slice().get(at..).and_then(<[u8]>::first_chunk::<COMPACT>);
    let fields = bytes.ok_or_else(|| records.fail(at, "a field lies outside its record"))?;
    let word = |at: usize| u32::from_le_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
    let half = |at: usize| u32::from(u16::from_le_bytes([fields[at], fields[at + 1]]));
    if fields[0] != 0 {
        status(records, at, u32::from(fields[0]))?;
        return Ok(None);
    }
    let (reason, step) = (fields[1], fields[2]);
    if !(1..=6).contains(&reason) || !(1..=9).contains(&step) {
        return Err(records.fail(at + 1, "a decision's reason, placement or step is none of this ABI"));
    }
    let decision = CompactDecision {
        reason,
        step,
        route_index: word(4),
        variant_index: half(8),
        intended_index: half(10).checked_sub(1),
        target_index: word(12).checked_sub(1),
        stage: word(20).checked_sub(1),
        window: word(24).checked_sub(1),
        shadow_mask: word(28),
        ..CompactDecision::default()
    };
    Ok(Some(flagged(decision, fields[3], word(16))))
}
