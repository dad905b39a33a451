//! The golden vectors of the second evaluator (`tests/reference`): the native evaluator and the core through wasmtime must give
//! every field of every decision. What V8 needs for the same comparison, the bundles, is left in `target/tmp/golden`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::read::GzDecoder;
use lockgate_abi::{ContextFields, DecideRequestWriter, DecisionRecord, Reply, Response, Shadows};
use lockgate_core::CoreModules;
use lockgate_package::AlignedBytes;
use lockgate_policy::{
    AttributeValue, Bundle, CompileOptions, Compiled, Context, Decision, Placement, Reason, VariantView,
    check, compile, parse,
};
use lockgate_tests::{core_dir, root};
use serde::Deserialize;
use serde_json::Value;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

use crate::record::{self, Runner};

/// A line of a vector file: a policy and its vectors. `tests/reference/README.md` describes it.
#[derive(Deserialize)]
pub(crate) struct Line {
    policy: String,
    based: bool,
    lists: BTreeMap<String, Vec<String>>,
    strings: Vec<String>,
    attributes: Vec<BTreeMap<String, Attribute>>,
    unavailable: Vec<Vec<String>>,
    outcomes: Vec<Option<Outcome>>,
    contexts: Vec<[i32; 7]>,
    batches: Batches,
    vectors: Vectors,
}

#[derive(Deserialize)]
struct Batches {
    time: Vec<Value>,
    unavailable: Vec<usize>,
}

#[derive(Deserialize)]
struct Vectors {
    context: Vec<usize>,
    outcome: Vec<usize>,
    bucket: Vec<i64>,
    window: Vec<i64>,
}

#[derive(Deserialize, Debug)]
#[serde(untagged)]
enum Attribute {
    Text(String),
    Boolean(bool),
    Number(f64),
    Special { number: String },
}

/// A decision without what differs from unit to unit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    route: String,
    tenant: Option<String>,
    user: Option<String>,
    variant: String,
    reason: String,
    step: u8,
    rule: Option<String>,
    layer: Option<String>,
    stage: Option<u32>,
    #[serde(default)]
    unit_missing: bool,
    #[serde(default)]
    holdout: bool,
    #[serde(default)]
    washout: bool,
    #[serde(default)]
    unavailable: bool,
    intended: Option<String>,
    #[serde(default)]
    shadows: Vec<(String, String, u32, u32, u32, u32)>,
}

/// A whole decision, in the same words whoever gave it.
#[derive(Debug, PartialEq)]
struct Answer {
    route: String,
    tenant: Option<String>,
    user: Option<String>,
    variant: Version,
    reason: String,
    step: u8,
    rule: Option<String>,
    layer: Option<String>,
    bucket: Option<u32>,
    stage: Option<u32>,
    window: Option<u32>,
    unit_missing: bool,
    holdout: bool,
    washout: bool,
    unavailable: bool,
    intended: Option<String>,
    shadows: Vec<(String, Version, [u32; 4])>,
}

/// A variant and what it runs.
#[derive(Debug, PartialEq)]
struct Version {
    name: String,
    model: String,
    digest: String,
    placement: String,
    payload: Option<Value>,
}

/// How often something occurs in the vectors.
pub(crate) type Counts = BTreeMap<String, usize>;

#[test]
fn native_and_wasmtime_decide_as_the_second_evaluator() {
    let files = files();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden");
    // Bundles of an earlier run would pass for this one's.
    std::fs::remove_dir_all(&folder).ok();
    std::fs::create_dir_all(&folder).unwrap();
    let core = CoreModules::from_dir(&core_dir()).unwrap();
    let engine = Engine::default();
    let module = Module::new(&engine, core.policy.bytes()).unwrap();

    let next = AtomicUsize::new(0);
    let (counts, failures) = (Mutex::new(Counts::new()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run_file(file, &folder, &module, &counts, &failures);
                }
            });
        }
    });

    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of the vectors or policies fail, the first of them:\n{}",
        failures.len(),
        failures[..failures.len().min(10)].join("\n")
    );
    let counts = counts.into_inner().unwrap();
    assert_coverage(&counts);
    for runner in [Runner::Native, Runner::Wasmtime] {
        record::passed(runner, "decisions", counts["vectors"], &[]);
    }
}

/// The first policy of the vectors whose bundle names unit lists.
pub(crate) fn first_with_lists() -> Compiled {
    for file in files() {
        let mut base: Option<Bundle> = None;
        for line in lines(&file) {
            let compiled = compiled(&line, base.take().filter(|_| line.based).as_ref()).unwrap();
            if !compiled.objects.is_empty() {
                return compiled;
            }
            base = Some(Bundle::load(AlignedBytes::copy_of(&compiled.bundle)).unwrap());
        }
    }
    panic!("no policy of the vectors has a long list");
}

/// The vectors reach everything that a decision can say.
fn assert_coverage(counts: &Counts) {
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    assert!(count("vectors") >= 100_000, "{counts:#?}");
    let reasons = Reason::ALL
        .iter()
        .filter(|reason| **reason != Reason::Error)
        .map(|reason| format!("reason {reason}"));
    let steps = [1, 3, 4, 5, 6, 7, 8, 9].map(|step| format!("step {step}"));
    let others = [
        "unknown_route",
        "unit_missing",
        "holdout",
        "washout",
        "unavailable",
        "intended",
        "shadow",
        "window",
        "stage",
        "bucket",
        "based",
    ];
    for name in reasons.chain(steps).chain(others.map(str::to_owned)) {
        assert!(count(&name) >= 200, "{name} occurs {} times only", count(&name));
    }
}

pub(crate) fn files() -> Vec<PathBuf> {
    let folder = root().join("tests/reference/vectors");
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    files.sort();
    files
}

fn lines(file: &Path) -> impl Iterator<Item = Line> {
    let reader = BufReader::new(GzDecoder::new(std::fs::File::open(file).unwrap()));
    reader.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

fn run_file(
    file: &Path,
    folder: &Path,
    module: &Module,
    counts: &Mutex<Counts>,
    failures: &Mutex<Vec<String>>,
) {
    let name = file.file_name().unwrap().to_str().unwrap().split('.').next().unwrap();
    let mut base: Option<Bundle> = None;
    for (number, line) in lines(file).enumerate() {
        let place = format!("{name}-{number:03}");
        let compiled = match compiled(&line, base.take().filter(|_| line.based).as_ref()) {
            Ok(compiled) => compiled,
            Err(problem) => {
                failures.lock().unwrap().push(format!("{place}: {problem}\n{}", line.policy));
                continue;
            }
        };
        std::fs::write(folder.join(format!("{place}.lgb")), &compiled.bundle).unwrap();
        for (number, object) in compiled.objects.iter().enumerate() {
            std::fs::write(folder.join(format!("{place}.{number}.lgl")), &object.bytes).unwrap();
        }
        let objects = compiled.objects.iter().map(|object| AlignedBytes::copy_of(&object.bytes)).collect();
        let bundle = Bundle::load_with(AlignedBytes::copy_of(&compiled.bundle), objects).unwrap();
        let mut core = Core::new(module, &compiled);
        run_line(&place, &line, &bundle, &mut core, counts, failures);
        base = Some(bundle);
    }
}

pub(crate) fn compiled(line: &Line, base: Option<&Bundle>) -> Result<Compiled, String> {
    if line.based && base.is_none() {
        return Err("its base is missing".to_owned());
    }
    let source = parse("policy.json", &line.policy).map_err(|errors| errors.to_string())?;
    let policy = check(&source).map_err(|errors| errors.to_string())?;
    let options = CompileOptions { parent: base, base, lists: &line.lists, ..CompileOptions::default() };
    compile(&policy, &options).map_err(|errors| errors.to_string())
}

pub(crate) fn run_line(
    place: &str,
    line: &Line,
    bundle: &Bundle,
    core: &mut Core,
    counts: &Mutex<Counts>,
    failures: &Mutex<Vec<String>>,
) {
    let policy: Value = serde_json::from_str(&line.policy).unwrap();
    let contexts: Vec<_> = (0..line.contexts.len()).map(|number| Given::new(line, number)).collect();
    let size = line.vectors.context.len() / line.batches.time.len();
    let mut found = Counts::new();
    for batch in 0..line.batches.time.len() {
        let now = match &line.batches.time[batch] {
            Value::String(text) => text.parse().unwrap(),
            number => number.as_i64().unwrap(),
        };
        let unavailable: Vec<[u8; 32]> = line.unavailable[line.batches.unavailable[batch]]
            .iter()
            .map(|digest| hex::decode(digest).unwrap().try_into().unwrap())
            .collect();
        let rows = batch * size..(batch + 1) * size;
        let given: Vec<&Given<'_>> =
            line.vectors.context[rows.clone()].iter().map(|context| &contexts[*context]).collect();
        let in_core = core.decide(&given, now, &unavailable, bundle);
        for ((row, given), in_core) in rows.zip(given).zip(in_core) {
            let expected = expected(line, &policy, row);
            count(&mut found, expected.as_ref(), line.based);
            let native = bundle.decide(given, now, &unavailable).ok().map(|decision| native(&decision));
            for (answer, runtime) in [(native, "native"), (in_core, "wasmtime")] {
                if answer != expected {
                    let text = format!(
                        "{place} vector {row}, {runtime}: {}context {given:?} at {now}, unavailable {:?}",
                        difference(expected.as_ref(), answer.as_ref()),
                        line.unavailable[line.batches.unavailable[batch]],
                    );
                    failures.lock().unwrap().push(text);
                }
            }
        }
    }
    let mut counts = counts.lock().unwrap();
    for (name, number) in found {
        *counts.entry(name).or_default() += number;
    }
}

/// The lines of the two answers that differ.
fn difference(expected: Option<&Answer>, found: Option<&Answer>) -> String {
    let (expected, found) = (format!("{expected:#?}"), format!("{found:#?}"));
    let mut text = String::new();
    for (word, these, those) in [("expected", &expected, &found), ("found", &found, &expected)] {
        let others: BTreeSet<&str> = those.lines().collect();
        let differing = these.lines().filter(|line| !others.contains(line)).map(str::trim);
        writeln!(text, "{word} {}", differing.collect::<Vec<_>>().join(" ")).unwrap();
    }
    text
}

fn count(counts: &mut Counts, answer: Option<&Answer>, based: bool) {
    let mut add = |name: &str, times: bool| *counts.entry(name.to_owned()).or_default() += usize::from(times);
    add("vectors", true);
    let Some(answer) = answer else {
        return add("unknown_route", true);
    };
    add(&format!("reason {}", answer.reason), true);
    add(&format!("step {}", answer.step), true);
    add("unit_missing", answer.unit_missing);
    add("holdout", answer.holdout);
    add("washout", answer.washout);
    add("unavailable", answer.unavailable);
    add("intended", answer.intended.is_some());
    add("shadow", !answer.shadows.is_empty());
    add("window", answer.window.is_some());
    add("stage", answer.stage.is_some());
    add("bucket", answer.bucket.is_some());
    add("based", based && answer.bucket.is_some());
}

/// What the second evaluator decided; what follows from a variant's name comes out of the policy.
fn expected(line: &Line, policy: &Value, row: usize) -> Option<Answer> {
    let outcome = line.outcomes[line.vectors.outcome[row]].as_ref()?;
    let mut scope = policy;
    if let Some(tenant) = &outcome.tenant {
        scope = &scope["tenants"][tenant];
    }
    if let Some(user) = &outcome.user {
        scope = &scope["users"][user];
    }
    let version = |name: &str| {
        let variant = &scope["routes"][&outcome.route]["variants"][name];
        let model = variant["model"].as_str().unwrap();
        let entry = &policy["models"][model];
        Version {
            name: name.to_owned(),
            model: model.to_owned(),
            digest: entry["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned(),
            placement: entry["placement"].as_str().unwrap_or("edge").to_owned(),
            payload: variant.get("payload").cloned(),
        }
    };
    let shadow =
        |(name, variant, rate, concurrency, bytes, deadline): &(String, String, u32, u32, u32, u32)| {
            (
                name.clone(),
                Version { payload: None, ..version(variant) },
                [*rate, *concurrency, *bytes, *deadline],
            )
        };
    Some(Answer {
        route: outcome.route.clone(),
        tenant: outcome.tenant.clone(),
        user: outcome.user.clone(),
        variant: version(&outcome.variant),
        reason: outcome.reason.clone(),
        step: outcome.step,
        rule: outcome.rule.clone(),
        layer: outcome.layer.clone(),
        bucket: u32::try_from(line.vectors.bucket[row]).ok(),
        stage: outcome.stage,
        window: u32::try_from(line.vectors.window[row]).ok(),
        unit_missing: outcome.unit_missing,
        holdout: outcome.holdout,
        washout: outcome.washout,
        unavailable: outcome.unavailable,
        intended: outcome.intended.clone(),
        shadows: outcome.shadows.iter().map(shadow).collect(),
    })
}

fn native(decision: &Decision<'_>) -> Answer {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let version = |variant: &VariantView<'_>| Version {
        name: variant.name.to_owned(),
        model: format!("{}@{}", variant.model, variant.version),
        digest: variant.digest.to_string(),
        placement: variant.placement.to_string(),
        payload: variant.payload.map(|text| serde_json::from_str(text).unwrap()),
    };
    let route = decision.route();
    let shadows = decision.shadows().map(|shadow| {
        let limits = shadow.limits;
        (
            shadow.name.to_owned(),
            Version { payload: None, ..version(&shadow.variant) },
            [limits.rate, limits.concurrency, limits.bytes, limits.deadline_ms],
        )
    });
    Answer {
        route: route.name().to_owned(),
        tenant: owned(route.tenant()),
        user: owned(route.user()),
        variant: version(&decision.variant()),
        reason: decision.reason.to_string(),
        step: decision.step.number(),
        rule: owned(decision.rule()),
        layer: owned(decision.layer()),
        bucket: decision.bucket,
        stage: decision.stage,
        window: decision.window,
        unit_missing: decision.unit_missing,
        holdout: decision.holdout,
        washout: decision.washout,
        unavailable: decision.unavailable,
        intended: decision.intended().map(|variant| variant.name.to_owned()),
        shadows: shadows.collect(),
    }
}

/// A context of the vectors.
#[derive(Debug)]
struct Given<'l> {
    route: &'l str,
    user: Option<&'l str>,
    symbol: Option<&'l str>,
    tenant: Option<&'l str>,
    session: Option<&'l str>,
    variant: Option<&'l str>,
    attributes: Option<&'l BTreeMap<String, Attribute>>,
}

impl<'l> Given<'l> {
    fn new(line: &'l Line, number: usize) -> Self {
        let row = line.contexts[number];
        let field =
            |place: usize| usize::try_from(row[place]).ok().map(|string| line.strings[string].as_str());
        Self {
            route: field(0).unwrap(),
            user: field(1),
            symbol: field(2),
            tenant: field(3),
            session: field(4),
            variant: field(5),
            attributes: usize::try_from(row[6]).ok().map(|place| &line.attributes[place]),
        }
    }
}

impl Attribute {
    fn value(&self) -> AttributeValue<'_> {
        match self {
            Self::Text(text) => AttributeValue::Text(text),
            Self::Boolean(value) => AttributeValue::Boolean(*value),
            Self::Number(number) => AttributeValue::Number(*number),
            Self::Special { number } => AttributeValue::Number(number.parse().unwrap()),
        }
    }
}

impl Context for Given<'_> {
    fn route(&self) -> &str {
        self.route
    }
    fn user(&self) -> Option<&str> {
        self.user
    }
    fn symbol(&self) -> Option<&str> {
        self.symbol
    }
    fn tenant(&self) -> Option<&str> {
        self.tenant
    }
    fn session(&self) -> Option<&str> {
        self.session
    }
    fn requested_variant(&self) -> Option<&str> {
        self.variant
    }
    fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        self.attributes?.get(name).map(Attribute::value)
    }
}

/// The module `policy` with a bundle, through its flat entry point.
pub(crate) struct Core {
    store: Store<()>,
    memory: Memory,
    reserve: TypedFunc<u32, u32>,
    load: TypedFunc<u32, u32>,
    decide: TypedFunc<u32, u32>,
    request: Vec<u8>,
}

impl Core {
    /// A plain module, loaded.
    fn new(module: &Module, compiled: &Compiled) -> Self {
        let mut core = Self::of(module);
        for bytes in compiled.objects.iter().map(|object| &object.bytes).chain([&compiled.bundle]) {
            let length = u32::try_from(bytes.len()).unwrap();
            let address = core.reserve.call(&mut core.store, length).unwrap();
            core.memory.write(&mut core.store, address as usize, bytes).unwrap();
            let address = core.load.call(&mut core.store, length).unwrap();
            core.response(address);
        }
        core
    }

    /// A module as it wakes up.
    pub(crate) fn of(module: &Module) -> Self {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        let mut function = |name| instance.get_typed_func::<u32, u32>(&mut store, name).unwrap();
        let (reserve, load, decide) =
            (function("lockgate_reserve"), function("lockgate_load"), function("lockgate_decide"));
        Self { store, memory, reserve, load, decide, request: Vec::new() }
    }

    /// The decisions, after making sure that their compact form says the same.
    fn decide(
        &mut self,
        given: &[&Given<'_>],
        now: i64,
        unavailable: &[[u8; 32]],
        bundle: &Bundle,
    ) -> Vec<Option<Answer>> {
        let address = self.call(given, now, unavailable, true);
        let compact: Vec<_> =
            self.response(address).compact_decisions().unwrap().map(Result::unwrap).collect();
        let address = self.call(given, now, unavailable, false);
        let decisions = self.response(address).decisions().map(Result::unwrap);
        decisions
            .zip(compact)
            .map(|(decision, compact)| {
                assert_eq!(decision.as_ref().map(|(record, _)| record.compact), compact);
                decision.map(|(record, shadows)| in_core(&record, shadows, bundle))
            })
            .collect()
    }

    fn response(&self, address: u32) -> Response<'_> {
        match Reply::read(self.memory.data(&self.store), address).unwrap() {
            Reply::Done(response) => response,
            Reply::Failed(failure) => panic!("{failure:?}"),
        }
    }

    fn call(&mut self, given: &[&Given<'_>], now: i64, unavailable: &[[u8; 32]], compact: bool) -> u32 {
        let mut writer = DecideRequestWriter::new(&mut self.request, now);
        if compact {
            writer = writer.compact();
        }
        for given in given {
            let fields = ContextFields {
                route: given.route,
                user: given.user,
                symbol: given.symbol,
                tenant: given.tenant,
                session: given.session,
                variant: given.variant,
            };
            let attributes = given.attributes.into_iter().flatten().map(|(name, value)| {
                let value = match value.value() {
                    AttributeValue::Text(text) => lockgate_abi::AttributeValue::Text(text),
                    AttributeValue::Number(number) => lockgate_abi::AttributeValue::Number(number),
                    AttributeValue::Boolean(value) => lockgate_abi::AttributeValue::Boolean(value),
                };
                (name.as_str(), value)
            });
            writer.context(&fields, attributes).unwrap();
        }
        writer.finish(unavailable).unwrap();
        let length = u32::try_from(self.request.len()).unwrap();
        let address = self.reserve.call(&mut self.store, length).unwrap();
        self.memory.write(&mut self.store, address as usize, &self.request).unwrap();
        self.decide.call(&mut self.store, length).unwrap()
    }
}

fn in_core(record: &DecisionRecord<'_>, shadows: Shadows<'_>, bundle: &Bundle) -> Answer {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let placement = |number| Placement::from_number(number).unwrap().to_string();
    let route = bundle.route_at(record.compact.route_index).unwrap();
    let shadows = shadows.map(|shadow| {
        let shadow = shadow.unwrap();
        (
            shadow.name.to_owned(),
            Version {
                name: shadow.variant.to_owned(),
                model: format!("{}@{}", shadow.model, shadow.version),
                digest: hex::encode(shadow.package),
                placement: placement(shadow.placement),
                payload: None,
            },
            [shadow.rate, shadow.concurrency, shadow.bytes, shadow.deadline_ms],
        )
    });
    Answer {
        route: route.name().to_owned(),
        tenant: owned(record.tenant),
        user: owned(record.user),
        variant: Version {
            name: record.variant.to_owned(),
            model: format!("{}@{}", record.model, record.version),
            digest: hex::encode(record.package),
            placement: placement(record.placement),
            payload: record.payload.map(|text| serde_json::from_str(text).unwrap()),
        },
        reason: Reason::from_number(record.compact.reason).unwrap().to_string(),
        step: record.compact.step,
        rule: owned(record.rule),
        layer: owned(record.layer),
        bucket: record.compact.bucket,
        stage: record.compact.stage,
        window: record.compact.window,
        unit_missing: record.compact.unit_missing,
        holdout: record.compact.holdout,
        washout: record.compact.washout,
        unavailable: record.compact.unavailable,
        intended: owned(record.intended),
        shadows: shadows.collect(),
    }
}
