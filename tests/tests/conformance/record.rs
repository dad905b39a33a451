//! What a whole run leaves behind for `docs/conformance.md`: a file for each of the two runners here, once all its suites have
//! passed. `tests/node/record.mjs` writes the like for the runtimes of JavaScript.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lockgate_core::{CoreModules, Module};
use lockgate_tests::{core_dir, root};
use serde_json::{Map, Value, json};

/// Who compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Runner {
    Native,
    Wasmtime,
}

/// The suites, and the fewest comparisons that make a whole run.
const LEAST: [(&str, usize); 4] =
    [("decisions", 100_000), ("predictions", 3_500), ("errors", 30), ("faults", 16)];

static PASSED: Mutex<BTreeMap<Runner, Map<String, Value>>> = Mutex::new(BTreeMap::new());

/// Says that a suite compared so much and found no difference; `more` goes beside that.
pub(crate) fn passed(runner: Runner, suite: &str, compared: usize, more: &[(&str, Value)]) {
    let (_, least) = LEAST.iter().find(|(name, _)| *name == suite).unwrap();
    assert!(compared >= *least, "{runner:?}, {suite}: {compared} comparisons only");
    let mut result = Map::new();
    result.insert("compared".to_owned(), json!(compared));
    result.insert("mismatches".to_owned(), json!(0));
    result.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    add(runner, suite, Value::Object(result));
}

/// Says why a runner does not run a suite.
pub(crate) fn not_run(runner: Runner, suite: &str, why: &str) {
    add(runner, suite, json!({ "not_run": why }));
}

fn add(runner: Runner, suite: &str, result: Value) {
    // A test that failed meanwhile has left nothing half done here.
    let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
    let suites = passed.entry(runner).or_default();
    suites.insert(suite.to_owned(), result);
    let ordered: Map<String, Value> =
        LEAST.iter().filter_map(|(name, _)| Some(((*name).to_owned(), suites.get(*name)?.clone()))).collect();
    if ordered.len() == LEAST.len() {
        write(runner, &ordered);
    }
}

fn write(runner: Runner, suites: &Map<String, Value>) {
    let release = env!("CARGO_PKG_VERSION");
    let (name, versions, modules) = match runner {
        Runner::Native => ("native", json!({ "lockgate": release }), json!({})),
        Runner::Wasmtime => {
            // Reading them recomputes each identity from the module's bytes.
            let core = CoreModules::from_dir(&core_dir()).unwrap();
            let identity = |module: &Module| module.identity().to_string();
            let modules = json!({
                "policy": identity(&core.policy),
                "inference-tabular": identity(&core.tabular),
                "inference-graph": identity(core.graph.as_ref().unwrap()),
            });
            ("wasmtime", json!({ "wasmtime": locked("wasmtime"), "lockgate": release }), modules)
        }
    };
    let run = json!({ "runner": name, "versions": versions, "modules": modules, "suites": suites });
    let folder = std::env::var_os("LOCKGATE_CONFORMANCE_DIR")
        .map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("conformance"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let text = serde_json::to_string_pretty(&run).unwrap() + "\n";
    std::fs::write(folder.join(format!("{name}.json")), text).unwrap();
}

/// The version of a dependency in `Cargo.lock`.
fn locked(package: &str) -> String {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \""));
    version.and_then(|line| line.strip_suffix('"')).unwrap().to_owned()
}
