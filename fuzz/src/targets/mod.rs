//! Functions that take any bytes. They must not panic, loop or allocate without bound; what else must hold is asserted.

mod automata;
mod hashes;
mod models;
mod texts;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use lockgate_abi::{ContextRecord, DecideRequest, PredictRequest, Reply};
use lockgate_package::signing::{PrivateKey, Signed, TrustedKey, TrustedKeys};
use lockgate_package::{AlignedBytes, Datatype, Digest, Package, TensorView};
use lockgate_policy::{
    AttributeValue, Bundle, CompileOptions, Compiled, Context, TraceDecision, check, compile, diff, explain,
    lint, parse, unit_lists, verify_source, write_source,
};

pub use automata::{automaton, changed_automaton};
pub use models::{model, onnx};
pub use texts::{bucket, cases, format, import, keys, matches, semver};

/// A target: its name, what runs it, and inputs to begin with.
pub struct Target {
    /// The name, also of the folder of its corpus.
    pub name: &'static str,
    /// What runs it. Returns whether the input got past all checks, so that a test can tell that most is tried.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that reach far.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Texts that matter in its inputs; without any, the inputs are binary.
    pub words: &'static [&'static str],
    /// What changes an input and leaves it readable; the second input is one to take parts from.
    pub change: Option<Change>,
}

/// Changes an input; nothing when it is not of the kind.
pub type Change = fn(wire::Below<'_>, &[u8], &[u8]) -> Option<Vec<u8>>;

/// All targets.
pub const TARGETS: [Target; 16] = [
    Target { name: "policy_source", run: policy_source, seeds: policy_seeds, words: WORDS, change: None },
    Target { name: "bundle", run: bundle, seeds: bundle_seeds, words: &[], change: None },
    Target { name: "unit_list", run: unit_list, seeds: unit_list_seeds, words: &[], change: None },
    Target { name: "package", run: package, seeds: Vec::new, words: &[], change: None },
    Target { name: "decide", run: decide, seeds: decide_seeds, words: &[], change: None },
    Target { name: "predict", run: predict, seeds: predict_seeds, words: &[], change: None },
    Target { name: "format", run: format, seeds: texts::format_seeds, words: texts::FORMATS, change: None },
    Target {
        name: "matches",
        run: matches,
        seeds: texts::matches_seeds,
        words: texts::EXPRESSIONS,
        change: None,
    },
    Target { name: "semver", run: semver, seeds: texts::semver_seeds, words: texts::VERSIONS, change: None },
    Target { name: "bucket", run: bucket, seeds: texts::bucket_seeds, words: &[], change: None },
    Target { name: "import", run: import, seeds: texts::import_seeds, words: texts::FLAGS, change: None },
    Target { name: "cases", run: cases, seeds: texts::cases_seeds, words: texts::CASES, change: None },
    Target { name: "keys", run: keys, seeds: texts::keys_seeds, words: texts::KEYS, change: None },
    Target {
        name: "onnx",
        run: onnx,
        seeds: models::onnx_seeds,
        words: &[],
        change: Some(wire::changed_file),
    },
    Target {
        name: "model",
        run: model,
        seeds: models::model_seeds,
        words: &[],
        change: Some(wire::changed_package),
    },
    Target {
        name: "automaton",
        run: automaton,
        seeds: automata::automaton_seeds,
        words: &[],
        change: Some(changed_automaton),
    },
];

/// A policy that uses every part of the language.
const POLICY: &str = r#"
lockgate: 1
version: 3
freezes: [{ from: 2026-12-24T00:00:00Z, until: 2027-01-02T00:00:00Z, reason: holidays }]
models:
  m@1.0.0: { digest: "sha256:1111111111111111111111111111111111111111111111111111111111111111", placement: host }
  m@2.0.0: { digest: "sha256:2222222222222222222222222222222222222222222222222222222222222222" }
tiers: [{ name: free }, { name: premium, tenants: [acme] }]
segments:
  desk: { users: [dana, "Zoë"], segments: [big] }
  big: { users: { file: big.txt }, if: { attribute: age, gt: 5 }, exclude: { symbols: [EURUSD] } }
layers:
  pricing: { salt: p, unit: session, holdout: 5 }
  old: { hash: unleash, salt: flag }
holdouts: { h1: { share: 5, unit: [tenant, user], routes: [r] } }
tenants:
  acme:
    routes: { r: &r { signature: &s { inputs: [{ name: x, datatype: FP32, shape: [-1, 3] }], outputs: [{ name: y, datatype: FP32, shape: [-1] }] }, variants: { a: { model: m@1.0.0 } }, default: { serve: a } } }
    users: { alice: { routes: { r: *r } } }
routes:
  q: *r
  r:
    signature: *s
    unit: { attribute: account }
    access: { not: { tenant: { prefix: [evil, "東"] } } }
    variants:
      a: { model: m@1.0.0, payload: { t: 0.5, list: [1, null, true, "é"] }, fallbacks: [b] }
      b: { model: m@2.0.0 }
      c: { model: m@1.0.0, enabled: false }
    baseline: a
    fallbacks: [b, a]
    overrides: [{ user: olga, serve: b }, { symbols: [X, Y], serve: c }]
    requests: [{ name: desk, segments: [desk], variants: [b] }]
    test_groups: [{ name: g, from: 2026-01-01T00:00:00Z, until: 2027-01-01T00:00:00Z, segments: [desk], serve: b }]
    symbol_rollouts:
      - { name: s, symbols: [EURCHF], layer: old, split: { a: 40, b: 60 } }
      - { name: w, symbols: [EURGBP], switchback: { variants: [a, b], start: 2026-03-01T00:00:00Z, window: 4h, washout: 15m } }
    rules:
      - { name: e, experiment: { layer: pricing, share: 20, split: { a: 50, b: 50 } } }
      - name: all
        if:
          all: [{ user: { matches: "^(a|é)[a-z0-9]{2,5}$" } }, { attribute: app, semver: "^1.2.3" }, { tier: premium }]
          any: [{ time: { daily: { from: "09:30", until: "16:00" }, weekdays: [mon, fri], offset: "-05:00" } }, { attribute: seen, until: 2026-05-01T00:00:00Z }]
          not: { bucket: { layer: pricing, from: 0, below: 10 } }
        split: { a: 33.333, b: 66.667 }
      - { name: p, if: { route: q, serves: a, attribute: country, in: [DE, 5, true] }, serve: b }
    default:
      ramp: { to: b, start: 2026-03-01T00:00:00Z, approved_stage: 1, pauses: [{ from: 2026-03-02T00:00:00Z }], stages: [{ share: 10, hold: 24h }, { split: { a: 50, b: 50 } }] }
    shadows: [{ name: sh, variant: b, sample: 10, if: { symbol: { suffix: USD, ne: X } }, limits: { rate: 5, bytes: 64KiB, deadline: 200ms } }]
"#;

const WORDS: &[&str] = &[
    "lockgate",
    "routes",
    "variants",
    "default",
    "serve",
    "split",
    "ramp",
    "stages",
    "share",
    "hold",
    "start",
    "switchback",
    "window",
    "washout",
    "experiment",
    "layer",
    "unit",
    "holdout",
    "segments",
    "exclude",
    "users",
    "file",
    "tiers",
    "tenants",
    "freezes",
    "until",
    "if",
    "all",
    "any",
    "not",
    "matches",
    "semver",
    "attribute",
    "bucket",
    "time",
    "daily",
    "weekdays",
    "route",
    "serves",
    "shadows",
    "limits",
    "fallbacks",
    "weights",
    "hash",
    "&x",
    "*x",
    "*r",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ", ",
    "\n",
    "- ",
    "\"",
    "'",
    "|",
    "#",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "100",
    "0.001",
    "18446744073709551616",
    "2026-03-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
    "106751991167300d",
    "(((((",
    "{1,1000}",
    "[^\\w]",
    "\\d",
    "\u{0}",
    "é",
    "\u{10FFFF}",
    "!!str",
    "%YAML",
    "---",
    "<<",
];

/// A policy: YAML, or JSON when it begins with a brace.
pub fn policy_source(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let Ok(source) = parse(file_of(text), text) else { return false };
    let Ok(policy) = check(&source) else { return false };
    let _ = lint(&policy);
    let written = write_source(&policy);
    let again = parse("policy.json", &written).and_then(|source| check(&source));
    assert_eq!(
        again.map(|again| write_source(&again)).as_ref(),
        Ok(&written),
        "what was written reads otherwise"
    );
    let Ok(compiled) = compiled(&policy) else { return false };
    let bundle = loaded(&compiled);
    decide_with(&bundle);
    assert_eq!(verify_source(&bundle), Ok(()), "the source is not what was compiled");
    assert!(diff(&bundle, &bundle, 1_772_452_800_000).is_empty(), "a bundle differs from itself");
    true
}

/// A bundle, its digest made right.
pub fn bundle(data: &[u8]) -> bool {
    let objects = objects(known());
    let _ = Bundle::required_objects(data);
    let Ok(bundle) = Bundle::load_with(AlignedBytes::copy_of(&resealed(data)), objects) else { return false };
    decide_with(&bundle);
    let _ = (bundle.source(), unit_lists(&bundle), verify_source(&bundle));
    let _ = (diff(known_bundle(), &bundle, 0), diff(&bundle, known_bundle(), 0));
    true
}

/// A unit list, its digest made right, here and in the bundle that names it.
pub fn unit_list(data: &[u8]) -> bool {
    let known = known();
    let object = resealed(data);
    let Some(first) = known.objects.first() else { return false };
    let named = first.digest.0.to_vec();
    let Some(content) = content_length(&object) else { return false };
    let digest = Digest::of(&object[..content]);
    let mut bundle = known.bundle.clone();
    for at in 0..bundle.len().saturating_sub(31) {
        if bundle[at..at + 32] == named[..] {
            bundle[at..at + 32].copy_from_slice(&digest.0);
        }
    }
    let objects = known.objects[1..].iter().map(|object| AlignedBytes::copy_of(&object.bytes));
    let objects = objects.chain([AlignedBytes::copy_of(&object)]).collect();
    let Ok(bundle) = Bundle::load_with(AlignedBytes::copy_of(&resealed(&bundle)), objects) else {
        return false;
    };
    decide_with(&bundle);
    true
}

/// A package: as it is, and its digest made right.
pub fn package(data: &[u8]) -> bool {
    let mut opened = false;
    for bytes in [data.to_vec(), resealed(data)] {
        if let Ok(signed) = Signed::read(&bytes) {
            let key = PrivateKey::from_seed(&[7; 32]);
            let keys = TrustedKeys::new([TrustedKey::for_everything(key.public(), "key")]);
            let _ = keys.judge(&signed);
            let signed_again =
                signed.sign(&key).map(|bytes| Signed::read(&bytes).map(|signed| keys.require(&signed)));
            if let Ok(judged) = signed_again {
                assert_eq!(judged, Ok(Ok(())), "a signature that was just made is trusted");
            }
            let bare = signed.strip().expect("signatures are taken off");
            let mut once =
                Signed::read(&bare).and_then(|bare| bare.sign(&key)).expect("there is room for one");
            let Digest([bit, low, high, ..]) = Digest::of(data);
            let at = (usize::from(u16::from_le_bytes([low, high])) * once.len()) >> 16;
            once[at] ^= 1 << (bit & 7);
            let trusted = Signed::read(&once).is_ok_and(|signed| keys.require(&signed).is_ok());
            assert!(!trusted, "a bit at {at} changed, and the signature holds");
        }
        if let Ok(package) = Package::open(AlignedBytes::copy_of(&bytes)) {
            let _ = package.tabular_plan();
            let _ = package.graph_plan();
            opened = true;
        }
    }
    opened
}

/// A decide request; the same bytes as a response of the module.
pub fn decide(data: &[u8]) -> bool {
    let mut decided = false;
    if let Ok(request) = DecideRequest::parse(data) {
        for context in request.contexts() {
            let Ok(context) = context else { break };
            same_when_written_again(&request, &context);
            if let Ok(decision) =
                known_bundle().decide(&Request(context), request.now_ms, request.unavailable)
            {
                let _ = (decision.variant(), decision.shadows().count());
                decided = true;
            }
        }
    }
    let address = data.first().map_or(0, |byte| u32::from(*byte & 3));
    if let Ok(Reply::Done(response)) = Reply::read(data, address) {
        for decision in response.decisions().map_while(Result::ok).flatten() {
            let _ = decision.1.filter(Result::is_ok).count();
        }
        if let Ok(decisions) = response.compact_decisions() {
            let _ = decisions.filter(Result::is_ok).count();
        }
    }
    decided
}

/// Writers lay records out in one way, which has a fast reader; other records, which come from elsewhere, have a slow one.
fn same_when_written_again(request: &DecideRequest<'_>, context: &ContextRecord<'_>) {
    let mut bytes = Vec::new();
    let mut writer = lockgate_abi::DecideRequestWriter::new(&mut bytes, request.now_ms);
    writer.context(&context.fields, context.attributes()).expect("there is room");
    writer.finish(request.unavailable).expect("there is room");
    let again = DecideRequest::parse(&bytes).expect("what was written is read");
    assert_eq!((again.now_ms, again.unavailable), (request.now_ms, request.unavailable), "another header");
    let read = again.contexts().next().expect("there is one").expect("what was written is read");
    assert_eq!(read.fields, context.fields, "other fields");
    // NaN is not equal to itself.
    let words = |value: Option<lockgate_abi::AttributeValue<'_>>| format!("{value:?}");
    assert!(read.attributes().map(words_of).eq(context.attributes().map(words_of)), "other attributes");
    for (name, _) in context.attributes() {
        assert_eq!(words(read.attribute(name)), words(context.attribute(name)), "another value of {name}");
    }
}

fn words_of(attribute: (&str, lockgate_abi::AttributeValue<'_>)) -> String {
    format!("{attribute:?}")
}

/// A predict request; the same bytes as a response of the module. What is read is written, and read again as the same.
pub fn predict(data: &[u8]) -> bool {
    let mut whole = false;
    if let Ok(request) = PredictRequest::parse(data) {
        let options: Result<Vec<_>, _> = request.options().collect();
        let inputs: Result<Vec<_>, _> =
            request.inputs().map(|tensor| tensor.and_then(|tensor| tensor.to_tensor())).collect();
        if let (Ok(options), Ok(inputs)) = (options, inputs) {
            let views: Vec<_> = inputs.iter().map(|tensor| tensor.view()).collect();
            let mut bytes = Vec::new();
            lockgate_abi::write_predict_request(&mut bytes, request.model, &views, &options)
                .expect("there is room");
            let again = PredictRequest::parse(&bytes).expect("what was written is read");
            let read: Vec<_> =
                again.inputs().map(|tensor| tensor.and_then(|tensor| tensor.to_tensor())).collect();
            assert!(read.into_iter().eq(inputs.into_iter().map(Ok)), "other inputs");
            assert!(again.options().eq(options.into_iter().map(Ok)), "other options");
            whole = true;
        }
    }
    let address = data.first().map_or(0, |byte| u32::from(*byte & 3));
    if let Ok(Reply::Done(response)) = Reply::read(data, address) {
        for output in response.outputs().map_while(Result::ok) {
            let _ = output.to_tensor();
        }
        let _ = response.out_of_range();
    }
    whole
}

/// Decides for every route of the bundle and some contexts, and looks at all of each decision.
fn decide_with(bundle: &Bundle) {
    const USERS: [Option<&str>; 6] =
        [None, Some(""), Some("alice"), Some("dana"), Some("u17"), Some("a日本bc")];
    let names: Vec<String> = bundle.routes().map(|route| route.name().to_owned()).take(20).collect();
    for (number, route) in names.iter().enumerate() {
        for now in [i64::MIN, 0, 1_772_452_800_000, 1_773_000_000_123, i64::MAX] {
            for (place, user) in USERS.iter().enumerate() {
                let given = Given { route, user: *user, place: place + number };
                let unavailable = [[0x11; 32], [0x22; 32]];
                let Ok(decision) = bundle.decide(&given, now, &unavailable[..place % 3]) else { continue };
                if now > 0 && place % 3 == 1 {
                    let told =
                        explain(bundle, &given, now, &unavailable[..place % 3]).expect("there is the route");
                    assert_eq!(told.decision, TraceDecision::new(&decision, bundle), "told otherwise");
                }
                let _ = (decision.route().name(), decision.variant().name, decision.variant().payload);
                let _ = (
                    decision.rule(),
                    decision.layer(),
                    decision.intended().map(|variant| variant.name.len()),
                );
                for shadow in decision.shadows() {
                    let _ = (shadow.name, shadow.variant.digest, shadow.limits);
                }
            }
        }
    }
}

struct Given<'a> {
    route: &'a str,
    user: Option<&'a str>,
    place: usize,
}

impl Context for Given<'_> {
    fn route(&self) -> &str {
        self.route
    }
    fn user(&self) -> Option<&str> {
        self.user
    }
    fn symbol(&self) -> Option<&str> {
        [Some("EURUSD"), Some("EURCHF"), None, Some("EURGBP")][self.place % 4]
    }
    fn tenant(&self) -> Option<&str> {
        [None, Some("acme"), Some("東京")][self.place % 3]
    }
    fn session(&self) -> Option<&str> {
        [Some("s"), None][self.place % 2]
    }
    fn requested_variant(&self) -> Option<&str> {
        [Some("b"), None][self.place % 2]
    }
    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        let values = [
            None,
            Some(AttributeValue::Text("1.2.3")),
            Some(AttributeValue::Number(6.0)),
            Some(AttributeValue::Boolean(true)),
            Some(AttributeValue::Text("2026-03-01T00:00:00Z")),
            Some(AttributeValue::Number(f64::NAN)),
            Some(AttributeValue::Text("DE")),
        ];
        values[(name.len() + self.place) % values.len()]
    }
}

struct Request<'a>(ContextRecord<'a>);

impl Context for Request<'_> {
    fn route(&self) -> &str {
        self.0.fields.route
    }
    fn user(&self) -> Option<&str> {
        self.0.fields.user
    }
    fn symbol(&self) -> Option<&str> {
        self.0.fields.symbol
    }
    fn tenant(&self) -> Option<&str> {
        self.0.fields.tenant
    }
    fn session(&self) -> Option<&str> {
        self.0.fields.session
    }
    fn requested_variant(&self) -> Option<&str> {
        self.0.fields.variant
    }
    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        self.0.attribute(name).map(|value| match value {
            lockgate_abi::AttributeValue::Text(text) => AttributeValue::Text(text),
            lockgate_abi::AttributeValue::Number(number) => AttributeValue::Number(number),
            lockgate_abi::AttributeValue::Boolean(value) => AttributeValue::Boolean(value),
        })
    }
}

fn compiled(policy: &lockgate_policy::Policy) -> Result<Compiled, lockgate_policy::Diagnostics> {
    let units = ["alice", "bob", "Zoë", "u17"].map(str::to_owned).to_vec();
    let lists: BTreeMap<_, _> =
        policy.list_files().into_iter().map(|name| (name.to_owned(), units.clone())).collect();
    compile(policy, &CompileOptions { lists: &lists, stand_ins: true, ..CompileOptions::default() })
}

/// The bundle of [`POLICY`].
fn known() -> &'static Compiled {
    static KNOWN: OnceLock<Compiled> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let policy = parse("policy.yaml", POLICY).and_then(|source| check(&source));
        policy.and_then(|policy| compiled(&policy)).unwrap_or_else(|errors| panic!("{errors}"))
    })
}

fn known_bundle() -> &'static Bundle {
    static BUNDLE: OnceLock<Bundle> = OnceLock::new();
    BUNDLE.get_or_init(|| loaded(known()))
}

fn loaded(compiled: &Compiled) -> Bundle {
    let bundle = Bundle::load_with(AlignedBytes::copy_of(&compiled.bundle), objects(compiled));
    bundle.expect("what was compiled loads")
}

/// A name for a text: JSON when it begins with a brace.
fn file_of(text: &str) -> &'static str {
    if text.starts_with('{') { "policy.json" } else { "policy.yaml" }
}

fn objects(compiled: &Compiled) -> Vec<AlignedBytes> {
    compiled.objects.iter().map(|object| AlignedBytes::copy_of(&object.bytes)).collect()
}

fn content_length(envelope: &[u8]) -> Option<usize> {
    let length = usize::try_from(u64::from_le_bytes(envelope.get(24..32)?.try_into().ok()?)).ok()?;
    (length <= envelope.len()).then_some(length)
}

/// An envelope with the trailer that its content wants; bytes that are no envelope, as they are.
fn resealed(data: &[u8]) -> Vec<u8> {
    let Some(length) = content_length(data) else { return data.to_vec() };
    let mut bytes = data[..length].to_vec();
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(b"\x82\xa6sha256\xc4\x20");
    bytes.extend_from_slice(&digest.0);
    bytes.extend_from_slice(b"\xaasignatures\x90");
    bytes
}

fn policy_seeds() -> Vec<Vec<u8>> {
    vec![POLICY.as_bytes().to_vec()]
}

fn bundle_seeds() -> Vec<Vec<u8>> {
    vec![known().bundle.clone()]
}

fn unit_list_seeds() -> Vec<Vec<u8>> {
    known().objects.iter().map(|object| object.bytes.clone()).collect()
}

fn decide_seeds() -> Vec<Vec<u8>> {
    let mut request = Vec::new();
    let mut writer = lockgate_abi::DecideRequestWriter::new(&mut request, 1_772_452_800_000);
    for (route, user) in [("r", Some("alice")), ("q", None), ("nowhere", Some("Zoë"))] {
        let fields =
            lockgate_abi::ContextFields { route, user, symbol: Some("EURCHF"), ..Default::default() };
        let attributes = [
            ("age", lockgate_abi::AttributeValue::Number(6.0)),
            ("app", lockgate_abi::AttributeValue::Text("1.2.4")),
        ];
        writer.context(&fields, attributes.into_iter()).expect("there is room");
    }
    writer.finish(&[[0x11; 32]]).expect("there is room");
    vec![request]
}

fn predict_seeds() -> Vec<Vec<u8>> {
    let tensor = |name, datatype, shape: &'static [i64], data| TensorView { name, datatype, shape, data };
    let inputs = [
        tensor("x", Datatype::Fp32, &[1, 2], &[0, 0, 128, 63, 0, 0, 192, 127]),
        tensor("word", Datatype::Bytes, &[2], &[1, 0, 0, 0, b'a', 0, 0, 0, 0]),
    ];
    let mut request = Vec::new();
    lockgate_abi::write_predict_request(&mut request, 1, &inputs, &[("outputs", "label")])
        .expect("there is room");
    vec![request]
}
