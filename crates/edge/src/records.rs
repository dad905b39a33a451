//! Records of requests: made here, kept in a bounded queue, and sent to the origin in batches, off the path of any request.
//! `docs/records.md` is the schema and says what a receiver answers.

use std::collections::{BTreeMap, VecDeque};

use lockgate_package::{Datatype, Digest, Tensor, TensorView};
use lockgate_shell::record::{
    Drops, Failure, Kind, Latency, MAX_ELEMENTS, MAX_ROWS, Record, Row, SCHEMA, Version, hash_unit,
    is_sampled,
};
use lockgate_shell::{Context, Problem, ServedVersion};
use serde::Serialize;
use serde_json::{Value, json};

use crate::edge::{Edge, Identity, Surroundings};
use crate::http::Moment;
use crate::infer::Infer;
use crate::settings::Settings;

/// Where batches are posted to, behind the origin's address.
pub const PATH: &str = "/v1/records";
/// The content type of a batch.
pub const CONTENT_TYPE: &str = "application/x-ndjson";
/// The most lines of a batch.
const BATCH_LINES: usize = 1000;
/// The most bytes of a batch.
const BATCH_BYTES: usize = 1 << 20;
/// The first pause after a batch that nobody took; it doubles with each further one.
const FIRST_PAUSE_MS: i64 = 1000;
const LONGEST_PAUSE_MS: i64 = 60_000;

/// What `/health` says of records.
#[derive(Serialize)]
pub(crate) struct QueueReport<'a> {
    pub(crate) enabled: bool,
    pub(crate) waiting: usize,
    pub(crate) accepted: u64,
    pub(crate) dropped: &'a BTreeMap<String, u64>,
    /// For whoever reports to judge.
    pub(crate) status: &'static str,
}

/// Records that wait to be sent, and how many were lost.
pub struct Queue {
    is_on: bool,
    limit: usize,
    shell: &'static str,
    emitter: String,
    waiting: VecDeque<Vec<u8>>,
    /// Lost since the last report that was acknowledged, by cause.
    dropped: BTreeMap<String, u64>,
    accepted: u64,
    failures: u32,
    next_ms: i64,
    most_lines: usize,
}

/// Records on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What is posted to [`PATH`].
    pub body: Vec<u8>,
    lines: Vec<Vec<u8>>,
    /// The losses that it reports.
    reported: BTreeMap<String, u64>,
}

impl Queue {
    pub(crate) fn new(settings: &Settings, identity: &Identity) -> Self {
        Self {
            is_on: settings.records && identity.has_origin,
            limit: usize::try_from(settings.record_buffer).unwrap_or(usize::MAX),
            shell: identity.shell,
            emitter: identity.emitter.clone(),
            waiting: VecDeque::new(),
            dropped: BTreeMap::new(),
            accepted: 0,
            failures: 0,
            next_ms: 0,
            most_lines: BATCH_LINES,
        }
    }

    /// Whether a batch should be sent now.
    pub fn is_due(&self, now_ms: i64) -> bool {
        now_ms >= self.next_ms && !(self.waiting.is_empty() && self.dropped.is_empty())
    }

    pub(crate) fn push(&mut self, record: &Record) {
        if !self.is_on {
            return;
        }
        if self.waiting.len() >= self.limit {
            return self.lose("buffer_full", 1);
        }
        match serde_json::to_vec(record) {
            Ok(line) if line.len() < BATCH_BYTES => self.waiting.push_back(line),
            _ => self.lose("too_large", 1),
        }
    }

    /// Takes what is sent next. The batch goes back with [`settle`](Self::settle), whatever came of it.
    pub fn batch(&mut self, moment: Moment) -> Option<Batch> {
        if !self.is_due(moment.now_ms) {
            return None;
        }
        let mut batch = Batch { body: Vec::new(), lines: Vec::new(), reported: self.dropped.clone() };
        if !batch.reported.is_empty() {
            let drops = Drops {
                schema: SCHEMA,
                kind: Kind::Drops,
                id: uuid(moment, 2),
                time_ms: moment.now_ms,
                shell: self.shell.to_owned(),
                shell_version: env!("CARGO_PKG_VERSION").to_owned(),
                emitter: self.emitter.clone(),
                dropped: batch.reported.clone(),
            };
            // Numbers and texts alone; writing them into a vector cannot fail.
            batch.body.extend(serde_json::to_vec(&drops).unwrap_or_default());
            batch.body.push(b'\n');
        }
        while let Some(line) = self.waiting.front() {
            let is_full = batch.lines.len() >= self.most_lines
                || (!batch.lines.is_empty() && batch.body.len() + line.len() >= BATCH_BYTES);
            if is_full {
                break;
            }
            batch.body.extend_from_slice(line);
            batch.body.push(b'\n');
            batch.lines.extend(self.waiting.pop_front());
        }
        // Two batches are never under way at once with the same losses in them.
        self.dropped.clear();
        Some(batch)
    }

    /// Says what came of a batch: the status and the body of the answer, or `None` when there was none.
    pub fn settle(&mut self, batch: Batch, answer: Option<(u16, &[u8])>, now_ms: i64) {
        let Batch { lines, reported, .. } = batch;
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        match answer {
            Some((200..=299, body)) => {
                let refused = serde_json::from_slice::<Value>(body)
                    .ok()
                    .and_then(|answer| Some(answer.get("refused")?.as_array()?.len()))
                    .and_then(|refused| u64::try_from(refused).ok())
                    .unwrap_or(0);
                self.accepted = self.accepted.saturating_add(count.saturating_sub(refused));
                self.lose("refused", refused);
                self.failures = 0;
                self.next_ms = 0;
                self.most_lines = self.most_lines.saturating_mul(2).min(BATCH_LINES);
            }
            Some((413, _)) if lines.len() > 1 => {
                self.most_lines = (lines.len() / 2).max(1);
                self.put_back(lines, reported);
            }
            Some((413, _)) => {
                self.lose("too_large", count);
                self.report_again(reported);
            }
            // The origin does not want them: coming back changes nothing. Nor is there any use in asking at once with others.
            Some((status @ 400..=499, _)) if status != 429 && status != 408 => {
                self.lose("undelivered", count);
                self.report_again(reported);
                self.pause(now_ms);
            }
            _ => {
                self.put_back(lines, reported);
                self.pause(now_ms);
            }
        }
    }

    /// What `/health` says of it.
    pub(crate) fn report(&self) -> QueueReport<'_> {
        QueueReport {
            enabled: self.is_on,
            waiting: self.waiting.len(),
            accepted: self.accepted,
            dropped: &self.dropped,
            status: "",
        }
    }

    fn put_back(&mut self, lines: Vec<Vec<u8>>, reported: BTreeMap<String, u64>) {
        for line in lines.into_iter().rev() {
            if self.waiting.len() >= self.limit {
                self.lose("undelivered", 1);
            } else {
                self.waiting.push_front(line);
            }
        }
        self.report_again(reported);
    }

    fn report_again(&mut self, reported: BTreeMap<String, u64>) {
        for (cause, count) in reported {
            self.lose(&cause, count);
        }
    }

    fn pause(&mut self, now_ms: i64) {
        let pause = FIRST_PAUSE_MS.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE_MS);
        self.failures = self.failures.saturating_add(1);
        self.next_ms = now_ms.saturating_add(pause);
    }

    fn lose(&mut self, cause: &str, count: u64) {
        if count > 0 {
            let lost = self.dropped.entry(cause.to_owned()).or_default();
            *lost = lost.saturating_add(count);
        }
    }
}

/// The record of a request; `None` where it is not sampled, or nobody wants one.
pub(crate) fn of(
    edge: &Edge,
    infer: &Infer,
    outputs: Option<&[Tensor]>,
    problem: Option<&Problem>,
    surroundings: &Surroundings,
    now_ms: i64,
) -> Option<Record> {
    let rate = infer.asked.recorded.share(edge.settings.record_sample);
    if !edge.records.is_on || rate <= 0.0 || !is_sampled(&infer.decision_id, rate) {
        return None;
    }
    let key = edge.settings.record_units_key.get();
    let (units, per_row) = units(&infer.contexts, key.map(|(_, key)| key));
    let served = &infer.asked.served;
    let count = infer.rows.max(infer.contexts.len());
    let shown = count.min(MAX_ROWS);
    let digest = |digest: Digest| digest.to_string();
    let rows = (0..shown).filter_map(|row| {
        let (entry, _) = served.row(row)?;
        let why = entry.decision.as_ref();
        let text = |text: Option<&std::sync::Arc<str>>| text.map(ToString::to_string);
        Some(Row {
            version: u32::try_from(entry.version).ok()?,
            reason: why.map(|why| why.reason.name().to_owned()),
            step: why.map(|why| why.step.name().to_owned()),
            rule: text(why.and_then(|why| why.rule.as_ref())),
            layer: text(why.and_then(|why| why.layer.as_ref())),
            bucket: why.and_then(|why| why.bucket).map(u64::from),
            stage: why.and_then(|why| why.stage).map(u64::from),
            window: why.and_then(|why| why.window).map(u64::from),
            intended_variant: text(why.and_then(|why| why.intended.as_ref())),
            unit_missing: why.is_some_and(|why| why.unit_missing),
            holdout: why.is_some_and(|why| why.holdout),
            washout: why.is_some_and(|why| why.washout),
            units: per_row.get(row).cloned().unwrap_or_default(),
            outputs: outputs.map(|outputs| row_outputs(outputs, row, count)).unwrap_or_default(),
        })
    });
    let waited =
        u64::try_from(now_ms.saturating_sub(surroundings.moment.now_ms)).unwrap_or(0).saturating_mul(1000);
    let computed = infer.decide_us.unwrap_or(0).saturating_add(infer.predict_us.unwrap_or(0));
    Some(Record {
        schema: SCHEMA,
        kind: Kind::Decision,
        id: infer.decision_id.clone(),
        time_ms: surroundings.moment.now_ms,
        shell: edge.identity.shell.to_owned(),
        shell_version: env!("CARGO_PKG_VERSION").to_owned(),
        emitter: edge.identity.emitter.clone(),
        route: infer.name.route.clone(),
        pinned: infer.name.version.is_some(),
        forwarded: infer.forward_us.is_some(),
        bundle_version: Some(infer.bundle.version),
        bundle_digest: Some(digest(infer.bundle.digest)),
        policy_core: Some(digest(infer.policy_core)),
        image: infer.image.map(digest),
        sample_rate: rate,
        units_key: key.map(|(name, _)| name.to_owned()),
        units,
        versions: served.versions.iter().map(version).collect(),
        row_count: u64::try_from(count).unwrap_or(u64::MAX),
        rows: rows.collect(),
        latency_us: Latency {
            total: Some(waited.max(computed)),
            queue: None,
            decide: infer.decide_us,
            predict: infer.predict_us,
            forward: infer.forward_us,
        },
        error: problem.map(|problem| Failure { status: problem.status, code: problem.code.to_owned() }),
    })
}

fn version(version: &ServedVersion) -> Version {
    Version {
        variant: version.variant.clone(),
        model: version.model.clone(),
        version: version.version.clone(),
        package_digest: Some(version.package.to_string()),
        placement: Some(version.placement.name().to_owned()),
        engine: version.execution.map(|execution| execution.engine.name().to_owned()),
        inference_core: version.execution.map(|execution| execution.core.to_string()),
    }
}

type Units = BTreeMap<String, String>;

/// The units that all rows share, and what differs between rows.
fn units(contexts: &[Context], key: Option<&[u8]>) -> (Units, Vec<Units>) {
    let Some(key) = key else { return Default::default() };
    let of = |context: &Context| -> Units {
        let fields = [
            ("user", &context.user),
            ("symbol", &context.symbol),
            ("tenant", &context.tenant),
            ("session", &context.session),
        ];
        // Inserting takes less code than collecting, which sorts first; this goes for all of these maps.
        let mut hashed = Units::new();
        for (name, value) in fields {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                hashed.insert(name.to_owned(), hash_unit(key, name, value));
            }
        }
        hashed
    };
    let all: Vec<Units> = contexts.iter().take(MAX_ROWS).map(of).collect();
    let Some((first, others)) = all.split_first() else { return Default::default() };
    let is_shared = |(field, unit): &(&String, &String)| {
        contexts.len() <= MAX_ROWS && others.iter().all(|other| other.get(*field) == Some(*unit))
    };
    let mut shared = Units::new();
    for (field, unit) in first.iter().filter(is_shared) {
        shared.insert(field.clone(), unit.clone());
    }
    let rest = |mut units: Units| {
        units.retain(|field, _| !shared.contains_key(field));
        units
    };
    let per_row = if others.is_empty() { Vec::new() } else { all.into_iter().map(rest).collect() };
    (shared, per_row)
}

/// What each output says of a row.
fn row_outputs(outputs: &[Tensor], row: usize, rows: usize) -> BTreeMap<String, Value> {
    let mut said = BTreeMap::new();
    for output in outputs {
        if let Some(values) = row_values(output.view(), row, rows) {
            said.insert(output.name.clone(), values);
        }
    }
    said
}

fn row_values(tensor: TensorView<'_>, row: usize, rows: usize) -> Option<Value> {
    let elements = tensor.element_count()?;
    if tensor.shape.first().and_then(|leading| usize::try_from(*leading).ok()) != Some(rows) {
        return None;
    }
    let per_row = elements.checked_div(rows)?;
    if per_row == 0 || per_row > MAX_ELEMENTS {
        return None;
    }
    let first = row.checked_mul(per_row)?;
    let mut values: Vec<Value> = match tensor.datatype.size() {
        Some(size) => {
            let bytes = tensor.data.get(first.checked_mul(size)?..)?.get(..per_row.checked_mul(size)?)?;
            bytes.chunks_exact(size).map(|bytes| element(tensor.datatype, bytes)).collect::<Option<_>>()?
        }
        None => {
            let mut rest = tensor.data;
            let mut values = Vec::new();
            for place in 0..first.checked_add(per_row)? {
                let (len, tail) = rest.split_first_chunk()?;
                let (text, tail) = tail.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
                if place >= first {
                    values.push(Value::String(String::from_utf8_lossy(text).into_owned()));
                }
                rest = tail;
            }
            values
        }
    };
    if tensor.shape.len() == 1 { values.pop() } else { Some(Value::Array(values)) }
}

fn element(datatype: Datatype, bytes: &[u8]) -> Option<Value> {
    let float = |value: f64| match value {
        value if value.is_finite() => json!(value),
        value if value.is_nan() => json!("NaN"),
        value if value > 0.0 => json!("Infinity"),
        _ => json!("-Infinity"),
    };
    Some(match datatype {
        Datatype::Bool => Value::Bool(*bytes.first()? != 0),
        Datatype::Uint8 => json!(u8::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Uint16 => json!(u16::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Uint32 => json!(u32::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Uint64 => json!(u64::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Int8 => json!(i8::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Int16 => json!(i16::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Int32 => json!(i32::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Int64 => json!(i64::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Fp32 => {
            let value = f32::from_le_bytes(bytes.try_into().ok()?);
            // The number that the shortest text of an FP32 stands for, not the FP64 that holds the FP32.
            let text = serde_json::to_string(&value).unwrap_or_default();
            float(text.parse().unwrap_or(f64::from(value)))
        }
        Datatype::Fp64 => float(f64::from_le_bytes(bytes.try_into().ok()?)),
        Datatype::Fp16 | Datatype::Bytes => return None,
    })
}

/// A UUID of version 7; `which` tells several of one moment apart.
pub(crate) fn uuid(moment: Moment, which: u8) -> String {
    let mut bytes = moment.random;
    let millis = u64::try_from(moment.now_ms).unwrap_or(0).to_be_bytes();
    for (into, byte) in bytes.iter_mut().zip(millis.iter().skip(2)) {
        *into = *byte;
    }
    let [_, _, _, _, _, _, version, _, variant, .., last] = &mut bytes;
    *version = 0x70 | (*version & 0x0f);
    *variant = 0x80 | (*variant & 0x3f);
    *last ^= which;
    let mut digits = [0; 32];
    let written = hex::encode_to_slice(bytes, &mut digits);
    debug_assert!(written.is_ok());
    let mut text = String::with_capacity(36);
    for (place, digit) in digits.into_iter().enumerate() {
        if matches!(place, 8 | 12 | 16 | 20) {
            text.push('-');
        }
        text.push(char::from(digit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(buffer: &str) -> Queue {
        let look_up = |name: &str| (name == "record_buffer").then(|| buffer.to_owned());
        let identity = Identity { shell: "spin", emitter: "e".to_owned(), has_origin: true, started_ms: 0 };
        Queue::new(&Settings::read(&look_up).unwrap(), &identity)
    }

    fn record(id: &str) -> Record {
        let text = format!(
            r#"{{"schema":1,"kind":"decision","id":"{id}","time_ms":0,"shell":"spin","shell_version":"0","emitter":"e","route":"r","sample_rate":1,"row_count":0}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn at(now_ms: i64) -> Moment {
        Moment { now_ms, random: [9; 16] }
    }

    fn ids(batch: &Batch) -> Vec<String> {
        let lines = batch.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let line: Value = serde_json::from_slice(line).unwrap();
                match line["kind"].as_str() {
                    Some("drops") => line["dropped"].to_string(),
                    _ => line["id"].as_str().unwrap().to_owned(),
                }
            })
            .collect()
    }

    #[test]
    fn what_was_not_taken_comes_again_in_order() {
        let mut queue = queue("4");
        assert!(queue.batch(at(0)).is_none(), "nothing waits");
        for id in ["a", "b"] {
            queue.push(&record(id));
        }
        let batch = queue.batch(at(0)).unwrap();
        assert_eq!(ids(&batch), ["a", "b"]);
        queue.push(&record("c"));
        queue.settle(batch, Some((503, b"")), 0);
        assert!(queue.batch(at(999)).is_none(), "a pause");
        let batch = queue.batch(at(1000)).unwrap();
        assert_eq!(ids(&batch), ["a", "b", "c"]);
        queue.settle(batch, None, 1000);
        assert!(queue.batch(at(2999)).is_none(), "a longer one");
        let batch = queue.batch(at(3000)).unwrap();
        queue.settle(batch, Some((200, br#"{"received":3,"refused":[{"line":2}]}"#)), 3000);
        assert_eq!(queue.report().accepted, 2);
        assert_eq!(ids(&queue.batch(at(3000)).unwrap()), [r#"{"refused":1}"#]);
    }

    #[test]
    fn losses_are_counted_once_and_reported_until_taken() {
        let mut queue = queue("2");
        for id in ["a", "b", "c"] {
            queue.push(&record(id));
        }
        let batch = queue.batch(at(0)).unwrap();
        assert_eq!(ids(&batch), [r#"{"buffer_full":1}"#, "a", "b"]);
        for id in ["d", "e"] {
            queue.push(&record(id));
        }
        queue.settle(batch, None, 0);
        let batch = queue.batch(at(1000)).unwrap();
        assert_eq!(ids(&batch), [r#"{"buffer_full":1,"undelivered":2}"#, "d", "e"]);
        queue.settle(batch, Some((413, b"")), 1000);
        let batch = queue.batch(at(1000)).unwrap();
        assert_eq!(ids(&batch), [r#"{"buffer_full":1,"undelivered":2}"#, "d"], "half of it");
        queue.settle(batch, Some((200, b"{}")), 1000);
        let batch = queue.batch(at(1000)).unwrap();
        assert_eq!(ids(&batch), ["e"]);
        queue.settle(batch, Some((401, b"")), 1000);
        assert_eq!(ids(&queue.batch(at(2000)).unwrap()), [r#"{"undelivered":1}"#]);
    }

    #[test]
    fn units_are_hashed_and_shared_where_rows_agree() {
        let context = |user: &str| Context {
            user: Some(user.to_owned()),
            tenant: Some("acme".to_owned()),
            ..Context::default()
        };
        assert_eq!(units(&[context("a")], None), (Units::new(), Vec::new()));
        let (shared, rows) = units(&[context("a"), context("b")], Some(b"key"));
        assert_eq!(shared.keys().collect::<Vec<_>>(), ["tenant"]);
        assert_eq!(rows[1]["user"], hash_unit(b"key", "user", "b"));
        let (shared, rows) = units(&[context("a")], Some(b"key"));
        assert_eq!((shared.len(), rows.len()), (2, 0));
    }

    #[test]
    fn a_row_has_its_outputs() {
        let outputs = [
            Tensor::fp32("p", vec![2, 2], &[0.1, 0.9, f32::NAN, 0.5]),
            Tensor::fp32("s", vec![2], &[1.0, 2.0]),
            Tensor::fp32("wide", vec![2, 33], &[0.0; 66]),
        ];
        let row = row_outputs(&outputs, 1, 2);
        assert_eq!(serde_json::to_string(&row).unwrap(), r#"{"p":["NaN",0.5],"s":2.0}"#);
        assert_eq!(
            serde_json::to_string(&row_outputs(&outputs, 0, 2)).unwrap(),
            r#"{"p":[0.1,0.9],"s":1.0}"#
        );
    }

    #[test]
    fn ids_are_uuids_of_version_7() {
        let id = uuid(Moment { now_ms: 0x0123_4567_89ab, random: [0xff; 16] }, 0);
        assert_eq!(id, "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_ne!(id, uuid(Moment { now_ms: 0x0123_4567_89ab, random: [0xff; 16] }, 1));
    }
}
