//! What a shell says about a request afterwards: one JSON object a line, as `docs/records.md` defines it.
//!
//! [`Record`] is a decision with its prediction, [`Drops`] counts the records that an emitter lost. Both sides use these types: shells
//! write them, the receiver reads them. A field is only ever added, and is optional; a change that breaks a reader raises [`SCHEMA`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The version of the schema that this crate writes, and the only one so far.
pub const SCHEMA: u64 = 1;
/// The most rows that a record describes; [`Record::row_count`] says how many there were.
pub const MAX_ROWS: usize = 256;
/// The most elements of an output that a row repeats; an output that has more is left out.
pub const MAX_ELEMENTS: usize = 32;
/// The longest id, in bytes.
const MAX_ID: usize = 64;
/// What stands in [`Record::units_key`] where units are not hashed.
const PLAIN_UNITS: &str = "plain";

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A [`Record`].
    Decision,
    /// [`Drops`].
    Drops,
}

/// One request: what was decided, what was predicted, how long it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u64,
    /// [`Kind::Decision`].
    pub kind: Kind,
    /// The decision id that the answer named. Two records with one id are the same record.
    pub id: String,
    /// When the request arrived, in milliseconds since 1970.
    pub time_ms: i64,
    /// `cloudflare`, `spin`, `host`, `browser` or `node`.
    pub shell: String,
    /// The shell's version.
    pub shell_version: String,
    /// Which isolate, instance or process of the shell wrote it.
    pub emitter: String,
    /// The route that was asked.
    pub route: String,
    /// Whether the request named its version.
    #[serde(default)]
    pub pinned: bool,
    /// Whether the prediction came from elsewhere.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forwarded: bool,
    /// The bundle's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_version: Option<u64>,
    /// The bundle's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_digest: Option<String>,
    /// The identity of the policy module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_core: Option<String>,
    /// The digest of the baked image that ran, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The share of requests that are recorded: this record stands for `1 / sample_rate` requests.
    pub sample_rate: f64,
    /// The name of the key with which units are hashed, or `plain`; none where there are no units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub units_key: Option<String>,
    /// `user`, `symbol`, `tenant` and `session` of the request, each as [`hash_unit`] gives it; those that all rows share.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, String>,
    /// What served, once each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Version>,
    /// How many rows the request had.
    pub row_count: u64,
    /// The rows in order, the first [`MAX_ROWS`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Row>,
    /// Where the time went.
    #[serde(default)]
    pub latency_us: Latency,
    /// Why there is no prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A version that served rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The variant, unless the request named its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The model's name.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// The package's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package_digest: Option<String>,
    /// `edge`, `host` or `gpu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<String>,
    /// Which engine ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// The identity of the inference module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_core: Option<String>,
}

/// One row: why it got its version, and what that said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The place of its version in [`Record::versions`].
    pub version: u32,
    /// The reason in OpenFeature's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The step of the precedence that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The rule's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The layer in which the unit was hashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<String>,
    /// The unit's bucket there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u64>,
    /// The stage of a ramp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u64>,
    /// The number of a switchback's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// The variant for which another one serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended_variant: Option<String>,
    /// Whether the unit of the split was missing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unit_missing: bool,
    /// Whether the unit is held out.
    #[serde(default, skip_serializing_if = "is_false")]
    pub holdout: bool,
    /// Whether a switchback's window has only begun.
    #[serde(default, skip_serializing_if = "is_false")]
    pub washout: bool,
    /// What of [`Record::units`] differs between rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub units: BTreeMap<String, String>,
    /// What each output says of this row: one value, or a list of at most [`MAX_ELEMENTS`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Value>,
}

/// Microseconds, as the shell's clock has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// From the request's arrival to its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Waiting for a worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u64>,
    /// In the policy module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decide: Option<u64>,
    /// In the inference module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predict: Option<u64>,
    /// Waiting for the node that the request was forwarded to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<u64>,
}

/// The error that the caller got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
}

/// How many records an emitter lost since the drops that it reported before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// [`SCHEMA`].
    pub schema: u64,
    /// [`Kind::Drops`].
    pub kind: Kind,
    /// New for each report.
    pub id: String,
    /// When it was reported, in milliseconds since 1970.
    pub time_ms: i64,
    /// As in [`Record::shell`].
    pub shell: String,
    /// The shell's version.
    pub shell_version: String,
    /// As in [`Record::emitter`].
    pub emitter: String,
    /// How many were lost, by cause: `buffer_full`, `undelivered`, `refused`, `too_large`.
    pub dropped: BTreeMap<String, u64>,
}

/// A line that was read and checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// A decision.
    Decision(Box<Record>),
    /// Lost records.
    Drops(Drops),
}

impl Line {
    /// The id, by which a line that came twice is known.
    pub fn id(&self) -> &str {
        match self {
            Self::Decision(record) => &record.id,
            Self::Drops(drops) => &drops.id,
        }
    }
}

/// Why a line is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Stable, for programs.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new("invalid_record", message)
    }
}

/// What every line begins with, and what only a receiver may add.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    schema: Value,
    #[serde(default)]
    kind: Value,
    #[serde(default)]
    received: Value,
}

/// Reads and checks a line. Fields that nobody knows are let through: a newer writer of the same schema may have added them.
pub fn read(line: &[u8]) -> Result<Line, Refusal> {
    let head: Head = match serde_json::from_slice(line) {
        Ok(head) => head,
        Err(error) if error.is_data() => return Err(Refusal::invalid(error.to_string())),
        Err(error) => return Err(Refusal::new("not_json", format!("the line is not JSON: {error}"))),
    };
    // An array would pass for an object whose fields stand in order.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::invalid("the line is no JSON object"));
    }
    if head.schema.as_u64() != Some(SCHEMA) {
        let found = head.schema;
        let message = format!("`schema` is {found}; this receiver reads {SCHEMA}");
        return Err(Refusal::new("unsupported_schema", message));
    }
    if !head.received.is_null() {
        return Err(Refusal::invalid("`received` is for the receiver to add"));
    }
    let wrong = |error: serde_json::Error| Refusal::invalid(error.to_string());
    match head.kind.as_str() {
        Some("decision") => {
            let record: Record = serde_json::from_slice(line).map_err(wrong)?;
            check(&record)?;
            Ok(Line::Decision(Box::new(record)))
        }
        Some("drops") => {
            let drops: Drops = serde_json::from_slice(line).map_err(wrong)?;
            check_emitter(&drops.id, &drops.shell, &drops.emitter)?;
            Ok(Line::Drops(drops))
        }
        _ => {
            let message = format!("`kind` is {}, expected \"decision\" or \"drops\"", head.kind);
            Err(Refusal::new("unsupported_kind", message))
        }
    }
}

fn check(record: &Record) -> Result<(), Refusal> {
    check_emitter(&record.id, &record.shell, &record.emitter)?;
    if record.route.is_empty() {
        return Err(Refusal::invalid("`route` is empty"));
    }
    if !(record.sample_rate > 0.0 && record.sample_rate <= 1.0) {
        let message = format!("`sample_rate` is {}, expected more than 0 and at most 1", record.sample_rate);
        return Err(Refusal::invalid(message));
    }
    if record.rows.len() > MAX_ROWS || record.rows.len() as u64 > record.row_count {
        let (rows, count) = (record.rows.len(), record.row_count);
        let message =
            format!("`rows` has {rows} rows, `row_count` is {count}, and {MAX_ROWS} rows are the most");
        return Err(Refusal::invalid(message));
    }
    let missing = |row: &&Row| usize::try_from(row.version).is_ok_and(|place| place >= record.versions.len());
    if let Some(row) = record.rows.iter().find(missing) {
        let (place, versions) = (row.version, record.versions.len());
        return Err(Refusal::invalid(format!("a row has version {place} of {versions} in `versions`")));
    }
    let units = || record.units.iter().chain(record.rows.iter().flat_map(|row| &row.units));
    match record.units_key.as_deref() {
        None if units().next().is_some() => Err(Refusal::invalid("there are units, but no `units_key`")),
        None | Some(PLAIN_UNITS) => Ok(()),
        Some(_) => match units().find(|(_, unit)| !is_hashed(unit)) {
            Some((field, _)) => Err(Refusal::new(
                "plain_unit",
                format!("the unit `{field}` is not 32 hexadecimal digits, as a hashed one is"),
            )),
            None => Ok(()),
        },
    }
}

fn check_emitter(id: &str, shell: &str, emitter: &str) -> Result<(), Refusal> {
    for (field, text) in [("id", id), ("shell", shell), ("emitter", emitter)] {
        if text.is_empty() || text.len() > MAX_ID || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = format!("`{field}` is not 1 to {MAX_ID} printable ASCII characters");
            return Err(Refusal::invalid(message));
        }
    }
    Ok(())
}

fn is_hashed(unit: &str) -> bool {
    unit.len() == 32 && unit.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A unit as records carry it: the first 16 bytes of HMAC-SHA-256 over field, colon and value, in hexadecimal digits. Who has the key
/// can join records with their own data, and nobody else can tell whose they are.
pub fn hash_unit(key: &[u8], field: &str, value: &str) -> String {
    let mut code = hmac_sha256(key, &[field.as_bytes(), b":", value.as_bytes()]).to_vec();
    code.truncate(16);
    hex::encode(code)
}

/// Whether the request with this decision id is recorded at this rate. It depends on nothing else, so whoever handles the request again
/// chooses the same.
pub fn is_sampled(id: &str, rate: f64) -> bool {
    let digest: [u8; 32] = Sha256::digest(id.as_bytes()).into();
    let [a, b, c, d, ..] = digest;
    f64::from(u32::from_be_bytes([a, b, c, d])) < rate * (f64::from(u32::MAX) + 1.0)
}

/// HMAC (RFC 2104) with SHA-256 of a message in parts.
pub fn hmac_sha256(key: &[u8], message: &[&[u8]]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0_u8; BLOCK];
    let short: [u8; 32];
    let key = if key.len() > BLOCK {
        short = Sha256::digest(key).into();
        &short[..]
    } else {
        key
    };
    for (into, from) in block.iter_mut().zip(key) {
        *into = *from;
    }
    let mut inner = Sha256::new();
    inner.update(block.map(|byte| byte ^ 0x36));
    for part in message {
        inner.update(part);
    }
    let mut outer = Sha256::new();
    outer.update(block.map(|byte| byte ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/records.md");

    /// The lines of the page's first block of this kind.
    fn example(kind: &str) -> String {
        let block = PAGE.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next());
        let kind = format!("\"kind\": \"{kind}\"");
        block.into_iter().find(|block| block.contains(&kind)).unwrap().to_owned()
    }

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut value: Value = serde_json::from_str(&example("decision")).unwrap();
        change(&mut value);
        let refusal = read(value.to_string().as_bytes()).unwrap_err();
        format!("{}: {}", refusal.code, refusal.message)
    }

    #[test]
    fn the_page_shows_records_that_can_be_read() {
        let text = example("decision");
        let Line::Decision(record) = read(text.as_bytes()).unwrap() else { panic!("{text}") };
        // Every field of the example is known, so what is written back is all of it.
        let (shown, written) =
            (serde_json::from_str::<Value>(&text).unwrap(), serde_json::to_value(&record).unwrap());
        assert_eq!(shown, written);
        let text = example("drops");
        let Line::Drops(drops) = read(text.as_bytes()).unwrap() else { panic!("{text}") };
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), serde_json::to_value(&drops).unwrap());
    }

    #[test]
    fn the_page_names_every_field() {
        let Line::Decision(mut record) = read(example("decision").as_bytes()).unwrap() else { panic!() };
        record.error = Some(Failure { status: 500, code: "trap".to_owned() });
        let mut names = Vec::new();
        fields(&serde_json::to_value(&record).unwrap(), &mut names);
        for name in names {
            assert!(PAGE.contains(&format!("`{name}`")), "docs/records.md does not name `{name}`");
        }
    }

    fn fields(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    names.push(name.clone());
                    if !["units", "outputs"].contains(&name.as_str()) {
                        fields(value, names);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| fields(item, names)),
            _ => {}
        }
    }

    #[test]
    fn what_is_no_record_is_refused_by_name() {
        assert_eq!(read(b"{\"schema\":1").unwrap_err().code, "not_json");
        assert_eq!(read(b"[]").unwrap_err().code, "invalid_record");
        assert_eq!(
            refusal(|v| v["schema"] = 2.into()),
            "unsupported_schema: `schema` is 2; this receiver reads 1"
        );
        assert_eq!(
            refusal(|v| v["kind"] = "outcome".into()),
            "unsupported_kind: `kind` is \"outcome\", expected \"decision\" or \"drops\""
        );
        assert_eq!(
            refusal(|v| v["received"] = 1.into()),
            "invalid_record: `received` is for the receiver to add"
        );
        assert_eq!(
            refusal(|v| v["id"] = "a b".into()),
            "invalid_record: `id` is not 1 to 64 printable ASCII characters"
        );
        assert!(refusal(|v| v["time_ms"] = "now".into()).contains("expected i64"));
        assert!(
            refusal(|v| drop(v.as_object_mut().unwrap().remove("route"))).contains("missing field `route`")
        );
        assert!(refusal(|v| v["sample_rate"] = 0.into()).contains("more than 0"));
        assert!(refusal(|v| v["row_count"] = 1.into()).contains("`row_count` is 1"));
        assert!(refusal(|v| v["rows"][0]["version"] = 9.into()).contains("version 9 of 2"));
        assert!(
            refusal(|v| v["units"]["tenant"] = "acme".into()).starts_with("plain_unit: the unit `tenant`")
        );
        assert!(refusal(|v| drop(v.as_object_mut().unwrap().remove("units_key"))).contains("no `units_key`"));
    }

    #[test]
    fn unknown_fields_of_a_newer_writer_are_let_through() {
        let mut value: Value = serde_json::from_str(&example("decision")).unwrap();
        value["colour"] = "green".into();
        assert!(read(value.to_string().as_bytes()).is_ok());
    }

    #[test]
    fn units_are_hashed_as_documented() {
        // RFC 4231, cases 2 and 6.
        let whole = |key: &[u8], message: &[u8]| hex::encode(hmac_sha256(key, &[message]));
        assert_eq!(
            whole(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            whole(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
        let unit = hash_unit(b"secret", "user", "alice");
        assert!(is_hashed(&unit) && PAGE.contains(&unit), "docs/records.md shows another than {unit}");
        assert_ne!(unit, hash_unit(b"secret", "symbol", "alice"));
    }

    #[test]
    fn samples_have_their_share_and_grow_with_the_rate() {
        let ids: Vec<String> = (0..10_000).map(|n| format!("id-{n}")).collect();
        let count = |rate| ids.iter().filter(|id| is_sampled(id, rate)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        assert!((900..1100).contains(&count(0.1)), "{}", count(0.1));
        assert!(ids.iter().all(|id| is_sampled(id, 0.5) || !is_sampled(id, 0.1)));
    }
}
