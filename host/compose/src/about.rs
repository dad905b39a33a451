//! The component that says what a core is: a function that returns a text.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ExportKind, ExportSection, Function, FunctionSection, MemorySection,
    MemoryType, Module, TypeSection, ValType,
};
use wasmparser::{Parser, Payload};
use wit_component::StringEncoding;

use crate::ComposeError;

const WIT: &str = include_str!("../wit/about.wit");
const WORLD: &str = "about-core";
const EXPORT: &str = "lockgate:about/about@0.1.0#describe";
/// The custom section that names the core that a module was made from.
const IDENTITY_SECTION: &str = "lockgate-identity";

/// Where the function puts the text's address and length, and where the text begins.
const RESULT_AT: i32 = 8;
const TEXT_AT: u32 = 16;

/// The component that says what these two are. `catalog` is the JSON that `lockgate bake` writes about what it baked.
///
/// # Errors
/// Bytes that are not the components of the core, or a catalog that is no JSON.
pub fn about(policy: &[u8], inference: &[u8], catalog: Option<&[u8]>) -> Result<Vec<u8>, ComposeError> {
    let catalog: Value = catalog
        .map(serde_json::from_slice)
        .transpose()
        .map_err(|error| ComposeError::unusable("the catalog", error))?
        .unwrap_or(Value::Null);
    let text = json!({
        "policy": describe(policy).map_err(|problem| ComposeError::unusable("the policy component", problem))?,
        "inference":
            describe(inference).map_err(|problem| ComposeError::unusable("the inference component", problem))?,
        "catalog": catalog,
    });
    say(&text.to_string()).map_err(|problem| ComposeError::unusable("the component `about`", problem))
}

/// Identity and image of the core module in a component: the one that carries an identity.
fn describe(component: &[u8]) -> Result<Value, String> {
    let mut module = None;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| error.to_string())? {
            Payload::ModuleSection { unchecked_range, .. } => module = Some(unchecked_range),
            Payload::CustomSection(section) if section.name() == IDENTITY_SECTION => {
                let image = module
                    .and_then(|range| {
                        component.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
                    })
                    .ok_or("its identity stands outside of a module")?;
                return Ok(json!({
                    "identity": hex::encode(section.data()),
                    "image": hex::encode(Sha256::digest(image)),
                }));
            }
            _ => {}
        }
    }
    Err("no module in it has an identity; expected a component of the core".to_owned())
}

/// A component whose function `describe` returns this text.
fn say(text: &str) -> Result<Vec<u8>, String> {
    let len = u32::try_from(text.len()).map_err(|_| "it is too long")?;
    let mut data = Vec::new();
    data.extend_from_slice(&TEXT_AT.to_le_bytes());
    data.extend_from_slice(&len.to_le_bytes());
    data.extend_from_slice(text.as_bytes());
    let pages = (u64::from(TEXT_AT) + u64::from(len)).div_ceil(1 << 16);

    let mut types = TypeSection::new();
    types.ty().function([], [ValType::I32]);
    let mut functions = FunctionSection::new();
    functions.function(0);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType {
        minimum: pages,
        maximum: Some(pages),
        memory64: false,
        shared: false,
        page_size_log2: None,
    });
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    exports.export(EXPORT, ExportKind::Func, 0);
    let mut function = Function::new([]);
    function.instructions().i32_const(RESULT_AT).end();
    let mut code = CodeSection::new();
    code.function(&function);
    let mut segments = DataSection::new();
    segments.active(0, &ConstExpr::i32_const(RESULT_AT), data);
    let mut module = Module::new();
    module
        .section(&types)
        .section(&functions)
        .section(&memories)
        .section(&exports)
        .section(&code)
        .section(&segments);
    let mut module = module.finish();

    let fail = |error: &dyn std::fmt::Display| error.to_string();
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("about.wit", WIT).map_err(|error| fail(&error))?;
    let world = resolve.select_world(&[package], Some(WORLD)).map_err(|error| fail(&error))?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .map_err(|error| fail(&error))?;
    wit_component::ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.validate(true).encode())
        .map_err(|error| format!("{error:#}"))
}
