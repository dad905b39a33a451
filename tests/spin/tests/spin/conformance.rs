//! The conformance vectors on the components that an application is composed with, called through WIT. What is compared is left
//! in `target/conformance/spin.json`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use inference::exports::lockgate::core::inference::Datatype as WitDatatype;
use lockgate_abi::{ErrorCode, Failure};
use lockgate_package::{AlignedBytes, Datatype, Kind, Tensor};
use lockgate_policy::{Bundle, CompileOptions, Compiled as Policy, RequestContext, check, compile, parse};
use serde_json::{Value, json};
use wasmtime::component::{Component, Linker, ResourceAny};
use wasmtime::{Engine, Store};

use crate::answers::Answers;
use crate::cases::{self, Instance};
use crate::fixtures::{core_folder, root};
use crate::vectors::Comparison;
use crate::{example, vectors};

mod policy {
    wasmtime::component::bindgen!({ path: "../../wit", world: "policy-core" });
}

mod inference {
    wasmtime::component::bindgen!({ path: "../../wit", world: "inference-core" });
}

/// An error of either component.
macro_rules! failed {
    ($error:ident) => {
        failure(&format!("{:?}", $error.code), &$error.message, &$error.hint)
    };
}

/// A component of the core, compiled.
#[derive(Clone)]
struct Compiled {
    engine: Engine,
    component: Component,
    identity: String,
}

impl Compiled {
    fn new(name: &str) -> Self {
        let bytes = std::fs::read(core_folder(false).join(format!("{name}.component.wasm"))).unwrap();
        let engine = Engine::default();
        let component = Component::from_binary(&engine, &bytes).unwrap();
        let identity = crate::composition::identities(&bytes).into_iter().next().unwrap();
        Self { engine, component, identity }
    }
}

#[derive(Default)]
struct Suite {
    compared: u64,
    mismatches: Vec<String>,
}

impl Suite {
    fn compare(&mut self, what: &str, found: &Value, expected: &Value) {
        self.compared += 1;
        if found != expected {
            self.mismatches.push(format!("{what}: expected {expected}, found {found}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_components_give_the_vectors_answers() {
    let (policy, graph) = (Compiled::new("policy"), Compiled::new("inference-graph"));
    let tabular = Compiled::new("inference-tabular");
    let decisions = decisions(&policy);
    let first = decisions.mismatches.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(decisions.mismatches.is_empty(), "{} mismatches:\n{first}", decisions.mismatches.len());
    assert!(decisions.compared >= 100_000, "{} decisions", decisions.compared);

    let (Comparison { rows, largest, differences }, answers) = predictions(&graph);
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
    assert!(rows >= 3_500, "{rows} rows");

    let new = |name: &str| -> Box<dyn Instance> {
        match name {
            "policy" => Box::new(Deciding::new(&policy)),
            "inference-tabular" => Box::new(Predicting::new(&tabular)),
            _ => Box::new(Predicting::new(&graph)),
        }
    };
    let errors = cases::compare(&first_with_lists(), &new);
    assert!(errors >= 30, "{errors} refusals");
    let faults = crate::faults::every_mark_is_survived().await;

    let modules = json!({
        "policy": policy.identity, "inference-tabular": tabular.identity, "inference-graph": graph.identity,
    });
    let run = json!({
        "runner": "spin",
        "versions": { "wasmtime": locked("Cargo.lock", "wasmtime"), "spin-sdk": locked("edge/spin/Cargo.lock", "spin-sdk") },
        "modules": modules,
        "suites": {
            "decisions": { "compared": decisions.compared, "mismatches": 0 },
            "predictions": { "compared": rows, "mismatches": 0, "max_difference": largest, "digest": answers },
            "errors": { "compared": errors, "mismatches": 0 },
            "faults": { "compared": faults, "mismatches": 0 },
        },
    });
    let folder = std::env::var_os("LOCKGATE_CONFORMANCE_DIR")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("spin.json"), serde_json::to_vec_pretty(&run).unwrap()).unwrap();
}

/// The version of a dependency.
fn locked(lock: &str, package: &str) -> String {
    let lock: toml::Table = std::fs::read_to_string(root().join(lock)).unwrap().parse().unwrap();
    let mut packages = lock["package"].as_array().unwrap().iter();
    let package = packages.find(|found| found["name"].as_str() == Some(package)).unwrap();
    package["version"].as_str().unwrap().to_owned()
}

/// The golden vectors: every field of every decision.
fn decisions(core: &Compiled) -> Suite {
    let mut suite = Suite::default();
    for file in vector_files() {
        let name = file.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let mut base: Option<Bundle> = None;
        for (number, line) in lines(&file).enumerate() {
            let compiled = compiled(&line, base.take().filter(|_| line["based"] == true).as_ref());
            run_line(core, &format!("{name}-{number:03}"), &line, &compiled, &mut suite);
            let lists = compiled.objects.iter().map(|list| AlignedBytes::copy_of(&list.bytes)).collect();
            base = Some(Bundle::load_with(AlignedBytes::copy_of(&compiled.bundle), lists).unwrap());
        }
    }
    suite
}

fn vector_files() -> Vec<PathBuf> {
    let folder = root().join("tests/reference/vectors");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    files.sort();
    files
}

fn lines(file: &Path) -> impl Iterator<Item = Value> {
    let reader = BufReader::new(flate2::read::GzDecoder::new(std::fs::File::open(file).unwrap()));
    reader.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
}

/// The first policy whose bundle names unit lists.
fn first_with_lists() -> Policy {
    let unbased = vector_files().into_iter().flat_map(|file| lines(&file).collect::<Vec<_>>());
    let mut policies = unbased.filter(|line| line["based"] != true).map(|line| compiled(&line, None));
    policies.find(|policy| !policy.objects.is_empty()).unwrap()
}

fn compiled(line: &Value, base: Option<&Bundle>) -> Policy {
    let source =
        parse("policy.json", line["policy"].as_str().unwrap()).unwrap_or_else(|errors| panic!("{errors}"));
    let policy = check(&source).unwrap_or_else(|errors| panic!("{errors}"));
    let lists: BTreeMap<String, Vec<String>> = serde_json::from_value(line["lists"].clone()).unwrap();
    let options = CompileOptions { parent: base, base, lists: &lists, ..CompileOptions::default() };
    compile(&policy, &options).unwrap_or_else(|errors| panic!("{errors}"))
}

fn run_line(core: &Compiled, place: &str, line: &Value, compiled: &Policy, suite: &mut Suite) {
    use policy::exports::lockgate::core::policy::AttributeValue;
    let mut store = Store::new(&core.engine, ());
    let world =
        policy::PolicyCore::instantiate(&mut store, &core.component, &Linker::new(&core.engine)).unwrap();
    let guest = world.lockgate_core_policy();
    let lists: Vec<Vec<u8>> = compiled.objects.iter().map(|list| list.bytes.clone()).collect();
    let bundle =
        guest.bundle().call_load_with_objects(&mut store, &compiled.bundle, &lists).unwrap().unwrap();

    let policy: Value = serde_json::from_str(line["policy"].as_str().unwrap()).unwrap();
    let array = |value: &'_ Value| value.as_array().unwrap().clone();
    let strings = array(&line["strings"]);
    let contexts: Vec<_> = array(&line["contexts"])
        .iter()
        .map(|row| {
            let text = |place: usize| {
                usize::try_from(row[place].as_i64().unwrap()).ok().map(|at| strings[at].as_str().unwrap())
            };
            let api = guest.context();
            let context = api.call_constructor(&mut store, text(0).unwrap()).unwrap();
            if let Some(user) = text(1) {
                api.call_set_user(&mut store, context, user).unwrap();
            }
            if let Some(symbol) = text(2) {
                api.call_set_symbol(&mut store, context, symbol).unwrap();
            }
            if let Some(tenant) = text(3) {
                api.call_set_tenant(&mut store, context, tenant).unwrap();
            }
            if let Some(session) = text(4) {
                api.call_set_session(&mut store, context, session).unwrap();
            }
            if let Some(variant) = text(5) {
                api.call_set_variant(&mut store, context, variant).unwrap();
            }
            if let Ok(at) = usize::try_from(row[6].as_i64().unwrap()) {
                for (name, value) in line["attributes"][at].as_object().unwrap() {
                    let value = match value {
                        Value::String(text) => AttributeValue::Text(text.clone()),
                        Value::Bool(value) => AttributeValue::Boolean(*value),
                        Value::Number(number) => AttributeValue::Number(number.as_f64().unwrap()),
                        special => {
                            AttributeValue::Number(special["number"].as_str().unwrap().parse().unwrap())
                        }
                    };
                    api.call_set_attribute(&mut store, context, name, &value).unwrap();
                }
            }
            context
        })
        .collect();

    let (times, rows) = (array(&line["batches"]["time"]), array(&line["vectors"]["context"]));
    let size = rows.len() / times.len();
    for (batch, time) in times.iter().enumerate() {
        let now = time.as_i64().unwrap_or_else(|| time.as_str().unwrap().parse().unwrap());
        let unavailable = line["batches"]["unavailable"][batch].as_u64().unwrap() as usize;
        let unavailable: Vec<Vec<u8>> = array(&line["unavailable"][unavailable])
            .iter()
            .map(|digest| digest.as_str().unwrap().parse::<lockgate_package::Digest>().unwrap().0.to_vec())
            .collect();
        let numbers = batch * size..(batch + 1) * size;
        let asked: Vec<_> =
            rows[numbers.clone()].iter().map(|row| contexts[row.as_u64().unwrap() as usize]).collect();
        let answers =
            guest.bundle().call_decide_batch(&mut store, bundle, &asked, now, &unavailable).unwrap();
        for (number, answer) in numbers.zip(answers) {
            let found = answer.map_or(Value::Null, |decision| {
                let found = told(guest, &mut store, decision);
                decision.resource_drop(&mut store).unwrap();
                found
            });
            suite.compare(&format!("{place} vector {number}"), &found, &expected(line, &policy, number));
        }
    }
}

/// What the second evaluator decided; what follows from a variant's name comes out of the policy.
fn expected(line: &Value, policy: &Value, number: usize) -> Value {
    let outcome = &line["outcomes"][line["vectors"]["outcome"][number].as_u64().unwrap() as usize];
    if outcome.is_null() {
        return Value::Null;
    }
    let mut scope = policy;
    for (field, scopes) in [("tenant", "tenants"), ("user", "users")] {
        if let Some(name) = outcome[field].as_str() {
            scope = &scope[scopes][name];
        }
    }
    let version = |name: &Value| {
        let variant =
            &scope["routes"][outcome["route"].as_str().unwrap()]["variants"][name.as_str().unwrap()];
        let model = &policy["models"][variant["model"].as_str().unwrap()];
        let digest = model["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let placement = model["placement"].as_str().unwrap_or("edge");
        (
            json!([name, variant["model"], digest, placement]),
            variant.get("payload").cloned().unwrap_or_default(),
        )
    };
    let number_or_null = |value: &Value| if value.as_i64() < Some(0) { Value::Null } else { value.clone() };
    let (served, payload) = version(&outcome["variant"]);
    let none = Vec::new();
    let shadows: Vec<Value> = outcome["shadows"]
        .as_array()
        .unwrap_or(&none)
        .iter()
        .map(|shadow| json!([shadow[0], version(&shadow[1]).0, shadow[2], shadow[3], shadow[4], shadow[5]]))
        .collect();
    let flag = |name: &str| outcome[name] == true;
    json!({
        "route": outcome["route"], "tenant": outcome["tenant"], "user": outcome["user"],
        "version": served, "payload": payload, "reason": outcome["reason"], "step": outcome["step"],
        "rule": outcome["rule"], "layer": outcome["layer"], "stage": outcome["stage"], "intended": outcome["intended"],
        "bucket": number_or_null(&line["vectors"]["bucket"][number]),
        "window": number_or_null(&line["vectors"]["window"][number]),
        "flags": [flag("unit_missing"), flag("holdout"), flag("washout"), flag("unavailable")],
        "shadows": shadows,
    })
}

/// A decision in the same words.
fn told(
    guest: &policy::exports::lockgate::core::policy::Guest,
    mut store: &mut Store<()>,
    decision: wasmtime::component::ResourceAny,
) -> Value {
    use policy::exports::lockgate::core::policy::{Placement, Reason, Step};
    let placement = |placement: Placement| match placement {
        Placement::Edge => "edge",
        Placement::Host => "host",
        Placement::Gpu => "gpu",
    };
    let digest = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    macro_rules! ask {
        ($api:ident, $of:ident, $($call:ident),*) => { ($(guest.$api().$call(&mut store, $of).unwrap()),*) };
    }
    let (route, tenant, user) = ask!(decision, decision, call_route, call_tenant, call_user);
    let (variant, model, version) = ask!(decision, decision, call_variant, call_model, call_version);
    let (package, place) = ask!(decision, decision, call_package_digest, call_placement);
    let (payload, rule, layer) = ask!(decision, decision, call_payload, call_rule, call_layer);
    let (stage, window, bucket) = ask!(decision, decision, call_stage, call_window, call_bucket);
    let (intended, shadows) = ask!(decision, decision, call_intended_variant, call_shadows);
    let (missing, holdout) = ask!(decision, decision, call_unit_missing, call_holdout);
    let (washout, unavailable) = ask!(decision, decision, call_washout, call_unavailable);
    let reason = match guest.decision().call_reason(&mut store, decision).unwrap() {
        Reason::StaticValue => "STATIC",
        Reason::DefaultValue => "DEFAULT",
        Reason::TargetingMatch => "TARGETING_MATCH",
        Reason::Split => "SPLIT",
        Reason::Disabled => "DISABLED",
        Reason::Error => "ERROR",
    };
    let step = match guest.decision().call_step(&mut store, decision).unwrap() {
        Step::Disabled => 1,
        Step::Scope => 2,
        Step::OverrideEntry => 3,
        Step::Holdout => 4,
        Step::TestGroup => 5,
        Step::SymbolRollout => 6,
        Step::Rule => 7,
        Step::DefaultSplit => 8,
        Step::Fallback => 9,
    };
    let shadows: Vec<Value> = shadows
        .into_iter()
        .map(|shadow| {
            let (name, variant, model, version) =
                ask!(shadow, shadow, call_name, call_variant, call_model, call_version);
            let (package, place) = ask!(shadow, shadow, call_package_digest, call_placement);
            let (rate, concurrency, bytes, deadline) =
                ask!(shadow, shadow, call_rate, call_concurrency, call_bytes, call_deadline_ms);
            shadow.resource_drop(&mut store).unwrap();
            let version = json!([variant, format!("{model}@{version}"), digest(package), placement(place)]);
            json!([name, version, rate, concurrency, bytes, deadline])
        })
        .collect();
    let payload: Value = payload.map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default();
    json!({
        "route": route, "tenant": tenant, "user": user,
        "version": [variant, format!("{model}@{version}"), digest(package), placement(place)], "payload": payload,
        "reason": reason, "step": step, "rule": rule, "layer": layer, "stage": stage, "intended": intended,
        "bucket": bucket, "window": window, "flags": [missing, holdout, washout, unavailable], "shadows": shadows,
    })
}

/// Every vector of `tests/models`, and the example's rows of real prices, beside onnxruntime's answers; and a digest of all answers.
fn predictions(core: &Compiled) -> (Comparison, String) {
    let (mut comparison, mut answers) = (Comparison::default(), Answers::default());
    for vector in vectors::all().iter().chain(&example::vectors()) {
        let mut instance = Predicting::new(core);
        instance.load(&vector.package).unwrap_or_else(|failure| panic!("{}: {failure:?}", vector.name));
        let outputs = instance.ask(0, &vector.inputs).unwrap();
        answers.add(&vector.name, &outputs);
        vector.compare(&outputs, &mut comparison);
    }
    (comparison, answers.digest())
}

/// An instance of the inference component.
struct Predicting {
    core: Compiled,
    store: Store<()>,
    world: inference::InferenceCore,
    models: Vec<ResourceAny>,
    /// The latest.
    package: Vec<u8>,
}

impl Predicting {
    fn new(core: &Compiled) -> Self {
        let mut store = Store::new(&core.engine, ());
        let linker = Linker::new(&core.engine);
        let world = inference::InferenceCore::instantiate(&mut store, &core.component, &linker).unwrap();
        Self { core: core.clone(), store, world, models: Vec::new(), package: Vec::new() }
    }

    fn ask(&mut self, model: u32, inputs: &[Tensor]) -> Result<Vec<Tensor>, Failure> {
        let Self { core, store, world, models, package } = self;
        let guest = world.lockgate_core_inference();
        let Some(model) = models.get(model as usize) else {
            // No number of a caller's is a handle: one that was given back is the nearest thing, and the platform refuses it.
            // It does so by ending the instance, which is another one for that reason.
            let Self { store, world, .. } = &mut Self::new(core);
            let guest = world.lockgate_core_inference();
            let gone = guest.model().call_load(&mut *store, package).unwrap().unwrap();
            gone.resource_drop(&mut *store).unwrap();
            let refused = guest.model().call_predict(&mut *store, gone, &[], &[]).unwrap_err();
            return Err(failure("ErrorCode::UnknownModel", &format!("{refused:#}"), ""));
        };
        let given: Vec<ResourceAny> = inputs
            .iter()
            .map(|Tensor { name, datatype, shape, data }| {
                let (_, datatype) = DATATYPES.iter().find(|(ours, _)| ours == datatype).unwrap();
                guest.tensor().call_constructor(&mut *store, name, *datatype, shape, data).unwrap()
            })
            .collect();
        let prediction = guest.model().call_predict(&mut *store, *model, &given, &[]).unwrap();
        given.into_iter().for_each(|input| input.resource_drop(&mut *store).unwrap());
        let prediction = prediction.map_err(|error| failed!(error))?;
        let outputs = guest.prediction().call_outputs(&mut *store, prediction).unwrap();
        let outputs = outputs
            .into_iter()
            .map(|output| {
                let datatype = guest.tensor().call_datatype(&mut *store, output).unwrap();
                let (datatype, _) = DATATYPES.iter().find(|(_, theirs)| *theirs == datatype).unwrap();
                let tensor = Tensor {
                    name: guest.tensor().call_name(&mut *store, output).unwrap(),
                    datatype: *datatype,
                    shape: guest.tensor().call_shape(&mut *store, output).unwrap(),
                    data: guest.tensor().call_data(&mut *store, output).unwrap(),
                };
                output.resource_drop(&mut *store).unwrap();
                tensor
            })
            .collect();
        prediction.resource_drop(&mut *store).unwrap();
        Ok(outputs)
    }
}

const DATATYPES: [(Datatype, WitDatatype); 13] = [
    (Datatype::Bool, WitDatatype::Bool),
    (Datatype::Uint8, WitDatatype::Uint8),
    (Datatype::Uint16, WitDatatype::Uint16),
    (Datatype::Uint32, WitDatatype::Uint32),
    (Datatype::Uint64, WitDatatype::Uint64),
    (Datatype::Int8, WitDatatype::Int8),
    (Datatype::Int16, WitDatatype::Int16),
    (Datatype::Int32, WitDatatype::Int32),
    (Datatype::Int64, WitDatatype::Int64),
    (Datatype::Fp16, WitDatatype::Fp16),
    (Datatype::Fp32, WitDatatype::Fp32),
    (Datatype::Fp64, WitDatatype::Fp64),
    (Datatype::Bytes, WitDatatype::Bytes),
];

impl Instance for Predicting {
    fn load(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let loaded = self.world.lockgate_core_inference().model().call_load(&mut self.store, bytes).unwrap();
        self.models.push(loaded.map_err(|error| failed!(error))?);
        self.package = bytes.to_vec();
        Ok(())
    }

    fn predict(&mut self, model: u32, inputs: &[Tensor]) -> Result<(), Failure> {
        self.ask(model, inputs).map(drop)
    }

    fn decide(&mut self, _: &RequestContext) -> Result<(), Failure> {
        panic!("it predicts")
    }
}

/// An instance of the policy component. Over WIT a bundle is a handle, and comes together with its unit lists.
struct Deciding {
    store: Store<()>,
    world: policy::PolicyCore,
    lists: Vec<Vec<u8>>,
    bundle: Option<ResourceAny>,
}

impl Deciding {
    fn new(core: &Compiled) -> Self {
        let mut store = Store::new(&core.engine, ());
        let linker = Linker::new(&core.engine);
        let world = policy::PolicyCore::instantiate(&mut store, &core.component, &linker).unwrap();
        Self { store, world, lists: Vec::new(), bundle: None }
    }
}

impl Instance for Deciding {
    fn load(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if bytes.get(12..16) == Some(&Kind::UnitList.number().to_le_bytes()) {
            self.lists.push(bytes.to_vec());
            return Ok(());
        }
        let guest = self.world.lockgate_core_policy();
        let loaded =
            guest.bundle().call_load_with_objects(&mut self.store, bytes, &std::mem::take(&mut self.lists));
        let bundle = loaded.unwrap().map_err(|error| failed!(error))?;
        if self.bundle.is_some() {
            // The first goes on to decide; whoever wants one bundle keeps one handle, as the application does.
            bundle.resource_drop(&mut self.store).unwrap();
            return Err(failure("ErrorCode::AlreadyLoaded", "a second handle", ""));
        }
        self.bundle = Some(bundle);
        Ok(())
    }

    fn predict(&mut self, _: u32, _: &[Tensor]) -> Result<(), Failure> {
        panic!("it decides")
    }

    fn decide(&mut self, context: &RequestContext) -> Result<(), Failure> {
        let guest = self.world.lockgate_core_policy();
        let asked = guest.context().call_constructor(&mut self.store, &context.route).unwrap();
        let bundle = self.bundle.unwrap();
        let decided = guest.bundle().call_decide(&mut self.store, bundle, asked, 0, &[]).unwrap();
        asked.resource_drop(&mut self.store).unwrap();
        match decided {
            Ok(decision) => {
                decision.resource_drop(&mut self.store).unwrap();
                Ok(())
            }
            Err(error) => Err(failed!(error)),
        }
    }
}

/// A failure over WIT in the words of the flat entry point. The components' codes have its names: `ErrorCode::UnknownRoute`.
fn failure(code: &str, message: &str, hint: &str) -> Failure {
    let is_it = |ours: &ErrorCode| code == format!("ErrorCode::{ours:?}");
    let code =
        ErrorCode::ALL.into_iter().find(is_it).unwrap_or_else(|| panic!("the code `{code}` is unknown"));
    Failure { code, message: message.to_owned(), hint: hint.to_owned() }
}
