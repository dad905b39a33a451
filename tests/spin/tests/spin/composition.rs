//! What is shipped: the manifest, the core as a dependency, and both composed.

use std::collections::BTreeSet;
use std::path::Path;

use lockgate_edge::Settings;
use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions};
use wasmparser::{Parser, Payload};
use wasmtime::PoolingAllocationConfig;

use crate::endpoints::infer;
use crate::fixtures::{Core, POLICY, app, baked_core, core_folder, plain_core, root};
use crate::host::{Host, World};

fn manifest() -> toml::Table {
    std::fs::read_to_string(root().join("edge/spin/spin.toml")).unwrap().parse().unwrap()
}

/// Composes as Spin does (its crate `spin-compose`): each dependency becomes a package under the name of its WIT package, or under its own where
/// that is a plain one, and gives every import of the application that the name matches the export of the same name, or the one that is said.
pub(crate) fn as_spin_composes(
    app: &[u8],
    component: &toml::Value,
    folder: &Path,
) -> Result<Vec<u8>, String> {
    let mut graph = CompositionGraph::new();
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let package = Package::from_bytes("lockgate", None, app.to_vec(), graph.types_mut()).unwrap();
    let world = &graph.types()[package.ty()];
    let imports: Vec<String> = world.imports.keys().cloned().collect();
    let exports: Vec<String> = world.exports.keys().cloned().collect();
    let package = graph.register_package(package).map_err(|error| text(&error))?;
    let app = graph.instantiate(package);
    for (name, how) in component["dependencies"].as_table().unwrap() {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        let (package, interface) =
            path.split_once('/').map_or((path, None), |(package, rest)| (package, Some(rest)));
        let bytes = std::fs::read(folder.join(how["path"].as_str().unwrap())).unwrap();
        let dependency = Package::from_bytes(package, None, bytes, graph.types_mut()).unwrap();
        let dependency = graph.register_package(dependency).map_err(|error| text(&error))?;
        let instance = graph.instantiate(dependency);
        let mut matched = 0;
        for import in &imports {
            let is_meant = match interface {
                _ if !package.contains(':') => import == package,
                Some(interface) => *import == format!("{package}/{interface}@{version}"),
                None => {
                    import.starts_with(&format!("{package}/")) && import.ends_with(&format!("@{version}"))
                }
            };
            if is_meant {
                matched += 1;
                let export = how.get("export").map_or(import.as_str(), |export| export.as_str().unwrap());
                let export = graph.alias_instance_export(instance, export).map_err(|error| text(&error))?;
                graph.set_instantiation_argument(app, import, export).map_err(|error| text(&error))?;
            }
        }
        assert!(matched > 0, "{name} matches none of {imports:?}");
    }
    for name in exports {
        let export = graph.alias_instance_export(app, &name).map_err(|error| text(&error))?;
        graph.export(export, &name).map_err(|error| text(&error))?;
    }
    graph.encode(EncodeOptions::default()).map_err(|error| text(&error))
}

/// The names that the outermost level of a component imports and exports.
fn surface(component: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut imports, mut exports) = (BTreeSet::new(), BTreeSet::new());
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload.unwrap() {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                imports.extend(section.into_iter().map(|import| import.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                exports.extend(section.into_iter().map(|export| export.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports)
}

/// The identities that modules within a component carry.
pub(crate) fn identities(component: &[u8]) -> BTreeSet<String> {
    let mut identities = BTreeSet::new();
    for payload in Parser::new(0).parse_all(component) {
        if let Payload::CustomSection(section) = payload.unwrap()
            && section.name() == "lockgate-identity"
        {
            identities.insert(section.data().iter().map(|byte| format!("{byte:02x}")).collect());
        }
    }
    identities
}

/// A folder with what `lockgate bake` writes.
fn folder_of(core: &Core) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("core")).unwrap();
    for (name, bytes) in [("policy", &core.policy), ("inference", &core.inference), ("about", &core.about)] {
        std::fs::write(folder.path().join(format!("core/{name}.component.wasm")), bytes).unwrap();
    }
    folder
}

#[tokio::test]
async fn spin_composes_the_manifest() {
    let folder = folder_of(&baked_core(false, POLICY));
    let composed = as_spin_composes(app(), &manifest()["component"]["lockgate"], folder.path()).unwrap();
    let answer =
        Host::new(&composed).send(&World::new(), infer(&serde_json::json!({ "user": "alice" }))).await;
    assert_eq!(answer.unwrap().json()["parameters"]["variant"], "canary");
}

/// Why the inference component has a plain name.
#[test]
fn two_dependencies_of_one_package_are_refused() {
    let folder = folder_of(&plain_core());
    let component: toml::Table = r#"
        [dependencies]
        "lockgate:core/policy@0.1.0" = { path = "core/policy.component.wasm" }
        "lockgate:core/types@0.1.0" = { path = "core/inference.component.wasm" }
    "#
    .parse()
    .unwrap();
    let error = as_spin_composes(app(), &component.into(), folder.path()).unwrap_err();
    assert!(error.contains("already been registered"), "{error}");
}

#[test]
fn the_manifest_lists_every_setting_and_nothing_else() {
    let manifest = manifest();
    let mut expected: BTreeSet<&str> = Settings::TABLE.iter().map(|setting| setting.name).collect();
    expected.extend(["origin", "policy_key", "policy_source", "policy_store"]);
    let variables = manifest["variables"].as_table().unwrap();
    assert_eq!(variables.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
    let given = manifest["component"]["lockgate"]["variables"].as_table().unwrap();
    for name in &expected {
        assert_eq!(given[*name].as_str(), Some(&*format!("{{{{ {name} }}}}")));
    }
    assert_eq!(given.len(), expected.len());
    for setting in Settings::TABLE.iter().filter(|setting| setting.help.contains("A secret")) {
        assert_eq!(variables[setting.name]["secret"].as_bool(), Some(true), "{}", setting.name);
    }
}

#[test]
fn a_composed_application_needs_wasi_and_spin_alone() {
    let (imports, exports) = surface(app());
    for import in
        ["lockgate:about/about@0.1.0", "lockgate:core/policy@0.1.0", "lockgate:core/types@0.1.0", "inference"]
    {
        assert!(imports.contains(import), "{imports:?}");
    }
    assert_eq!(exports, ["wasi:http/handler@0.3.0".to_owned()].into());

    let released = |name: &str| {
        let module = std::fs::read(core_folder(false).join(format!("{name}.wasm"))).unwrap();
        lockgate_core::recorded_identity(&module).unwrap().unwrap().to_string()
    };
    for core in [plain_core(), baked_core(false, POLICY)] {
        for component in [&core.policy, &core.inference, &core.about] {
            assert_eq!(surface(component).0, BTreeSet::new(), "a component of the core imports nothing");
        }
        let composed = core.composed();
        let (imports, exports) = surface(&composed);
        let known = |name: &&String| name.starts_with("wasi:") || name.starts_with("spin:");
        assert!(imports.iter().all(|name| known(&name)), "{imports:?}");
        assert!(imports.contains("spin:key-value/key-value@3.0.0"));
        assert!(imports.contains("spin:variables/variables@3.0.0"));
        assert_eq!(exports, ["wasi:http/handler@0.3.0".to_owned()].into());
        assert_eq!(identities(&composed), [released("policy"), released("inference-tabular")].into());
    }
}

#[test]
fn composing_refuses_what_is_not_the_core() {
    let Core { policy, inference, about } = plain_core();
    let error = |result: Result<Vec<u8>, lockgate_compose::ComposeError>| result.unwrap_err().to_string();
    let found = error(lockgate_compose::compose(app(), &inference, &policy, &about));
    assert!(
        found.contains("the policy component is unusable: it does not export `lockgate:core/policy@`"),
        "{found}"
    );
    let found = error(lockgate_compose::compose(app(), b"wasm", &inference, &about));
    assert!(found.contains("the policy component is unusable"), "{found}");
    let found = error(lockgate_compose::compose(&policy, &policy, &inference, &about));
    assert!(found.contains("the application is unusable: it does not import"), "{found}");
    let found = error(lockgate_compose::about(app(), &inference, None));
    assert!(found.contains("no module in it has an identity"), "{found}");
    let found = error(lockgate_compose::about(&policy, &inference, Some(b"{")));
    assert!(found.contains("the catalog is unusable"), "{found}");
    assert_eq!(plain_core().composed(), plain_core().composed(), "the same bytes each time");
}

/// Pools refuse components whose modules need more than they were told of; this one asks for wasmtime's own defaults.
#[tokio::test]
async fn a_pool_with_default_limits_takes_it() {
    let composed = baked_core(false, POLICY).composed();
    let mut config = Host::config();
    config.allocation_strategy(PoolingAllocationConfig::new());
    let host = Host::with_engine(&composed, &mut config).unwrap();
    let world = World::new();
    for _ in 0..20 {
        assert_eq!(host.send(&world, infer(&serde_json::json!({}))).await.unwrap().status, 200);
    }
}
