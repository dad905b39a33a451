//! The released files themselves: no imports, the identity, the component's embedded module, the size bars.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::PathBuf;

use lockgate_tests::core_dir;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use wasmparser::{Parser, Payload};

#[derive(Deserialize)]
struct Manifest {
    modules: Vec<Module>,
}

#[derive(Deserialize)]
struct Module {
    name: String,
    #[serde(skip)]
    folder: PathBuf,
    file: String,
    component: String,
    identity: String,
    gzip_bytes: u64,
}

const IDENTITY_SECTION: &str = "lockgate-identity";

/// The modules of the core and of the fault core.
fn modules() -> Vec<Module> {
    let mut modules = Vec::new();
    for folder in [core_dir(), core_dir().join("fault")] {
        let text = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
        let manifest: Manifest = serde_json::from_str(&text).unwrap();
        modules
            .extend(manifest.modules.into_iter().map(|module| Module { folder: folder.clone(), ..module }));
    }
    modules
}

impl Module {
    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(file)).unwrap()
    }
}

/// The module's bytes without the identity section, and that section's content.
fn without_identity(module: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let (mut rest, mut identity, mut end) = (Vec::new(), None, 0);
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload.unwrap();
        if let Payload::CustomSection(section) = &payload
            && section.name() == IDENTITY_SECTION
        {
            // A section is its id, the length of its content in LEB128, and the content.
            let content = section.range();
            let content = usize::try_from(content.start).unwrap()..usize::try_from(content.end).unwrap();
            let mut length = content.len();
            let mut header = 2;
            while length >= 0x80 {
                length >>= 7;
                header += 1;
            }
            rest.extend_from_slice(&module[end..content.start - header]);
            end = content.end;
            identity = Some(section.data().to_vec());
        }
    }
    rest.extend_from_slice(&module[end..]);
    (rest, identity)
}

#[test]
fn every_flavour_is_there() {
    let mut names: Vec<String> = modules().into_iter().map(|module| module.name).collect();
    names.sort();
    let fault = ["inference-tabular", "policy"];
    let core = ["inference-graph", "inference-tabular", "policy"];
    let mut wanted = [&core[..], &fault[..]].concat();
    wanted.sort();
    assert_eq!(names, wanted);
}

#[test]
fn nothing_is_imported() {
    for module in modules() {
        for file in [&module.file, &module.component] {
            // What lies within a component imports what the component gives it; the outermost level counts.
            let mut depth = 0;
            for payload in Parser::new(0).parse_all(&module.read(file)) {
                match payload.unwrap() {
                    Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                    Payload::End(_) => depth -= 1,
                    Payload::ImportSection(section) if depth == 0 => {
                        assert_eq!(section.count(), 0, "{file} imports");
                    }
                    Payload::ComponentImportSection(section) if depth == 0 => {
                        assert_eq!(section.count(), 0, "{file} imports");
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn the_identity_is_the_digest_of_the_module_without_its_identity_section() {
    for module in modules() {
        let (rest, section) = without_identity(&module.read(&module.file));
        let section = section.unwrap_or_else(|| panic!("{} has no identity section", module.file));
        assert_eq!(hex::encode(&section), module.identity, "{}", module.name);
        assert_eq!(hex::encode(Sha256::digest(&rest)), module.identity, "{}", module.name);
    }
}

#[test]
fn the_component_embeds_the_released_module() {
    for module in modules() {
        let (component, released) = (module.read(&module.component), module.read(&module.file));
        let embedded = Parser::new(0).parse_all(&component).find_map(|payload| match payload.unwrap() {
            Payload::ModuleSection { unchecked_range: range, .. } => {
                let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                Some(component[range].to_vec())
            }
            _ => None,
        });
        assert!(
            embedded.as_deref() == Some(&released[..]),
            "{} does not embed {}",
            module.component,
            module.file
        );
    }
}

#[test]
fn sizes_stay_below_their_bars() {
    for (name, bar) in [("policy", 60 * 1024), ("inference-tabular", 100 * 1024)] {
        let module = modules().into_iter().find(|module| module.name == name).unwrap();
        assert!(module.gzip_bytes <= bar, "{name} has {} bytes gzipped, the bar is {bar}", module.gzip_bytes);
    }
}
