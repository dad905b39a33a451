//! From the compiler's output to what is released: a core module without imports, and the component around it.
//!
//! Encoding a component rewrites the module inside it, and those bytes are what every platform should run. But an
//! exported WIT resource makes the module import the canonical built-ins that hand out and drop handles
//! (`[resource-new]decision`). They are replaced by calls through new places at the end of the module's function table, which it exports:
//! the component fills them, a shell that uses the flat entry point leaves them empty, since that entry point knows no
//! handles. A table of their own would be refused by pools that count on one table per module, wasmtime's among them.
//!
//! ```text
//! component { main = module { … imports }, shims, lifts }              as wit-component encodes it
//! component { main = module { … grown table }, shims, lifts, filler }  as it is released
//! ```
//!
//! Everything in the component keeps its index: the module keeps its function indices because the calls through the
//! table take the places of the imports, and the filler stands at the very end.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use wasm_encoder::{Encode, Section};
use wasmparser::{BinaryReader, Instance, TypeRef};

/// The custom section that holds the identity: 32 bytes.
const IDENTITY_SECTION: &str = "lockgate-identity";

/// The export of the module's function table, through which a component hands its resource built-ins over.
const INTRINSICS_TABLE: &str = "lockgate:intrinsics";

/// What is released.
pub(crate) struct Released {
    /// The core module, its identity section included.
    pub(crate) module: Vec<u8>,
    /// The component that embeds exactly those bytes.
    pub(crate) component: Vec<u8>,
    /// SHA-256 of the module without its identity section.
    pub(crate) identity: [u8; 32],
}

/// Releases what the compiler wrote.
pub(crate) fn release(compiled: &[u8]) -> Result<Released> {
    let component = wit_component::ComponentEncoder::default().module(compiled)?.validate(true).encode()?;
    let sections = sections(&component)?;
    let main =
        sections.iter().position(|section| section.id == CORE_MODULE).context("no module is embedded")?;
    let (module, intrinsics) = without_imports(&component[sections[main].content.clone()])?;
    let mut module = without_names(&module)?;
    let Intrinsics { all: intrinsics, first } = intrinsics;
    let identity: [u8; 32] = Sha256::digest(&module).into();
    let section = wasm_encoder::CustomSection { name: IDENTITY_SECTION.into(), data: (&identity).into() };
    section.append_to(&mut module);

    let mut released = component[..PREAMBLE].to_vec();
    for (index, section) in sections.iter().enumerate() {
        let content = if index == main { &module[..] } else { &component[section.content.clone()] };
        append_section(&mut released, section.id, content);
    }
    if !intrinsics.is_empty() {
        append_filler(&mut released, &component, &sections, &intrinsics, first)?;
    }

    wasmparser::Validator::new().validate_all(&module).context("the module without imports is invalid")?;
    wasmparser::Validator::new().validate_all(&released).context("the component around it is invalid")?;
    ensure_no_imports(&module, IMPORT)?;
    ensure_no_imports(&released, COMPONENT_IMPORT)?;
    Ok(Released { module, component: released, identity })
}

/// Length of the magic number and version, in modules and components alike.
const PREAMBLE: usize = 8;

// Sections of a module.
const CUSTOM: u8 = 0;
const TYPE: u8 = 1;
const IMPORT: u8 = 2;
const FUNCTION: u8 = 3;
const TABLE: u8 = 4;
const EXPORT: u8 = 7;
const CODE: u8 = 10;

// Sections of a component.
const CORE_MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const COMPONENT_IMPORT: u8 = 10;

struct RawSection {
    id: u8,
    content: Range<usize>,
}

/// The sections of a module or of a component's outermost level.
fn sections(bytes: &[u8]) -> Result<Vec<RawSection>> {
    let mut sections = Vec::new();
    let mut reader = BinaryReader::new(bytes, 0);
    reader.read_bytes(PREAMBLE)?;
    while !reader.eof() {
        let id = reader.read_u8()?;
        let len = reader.read_var_u32()? as usize;
        let start = usize::try_from(reader.original_position())?;
        reader.read_bytes(len)?;
        sections.push(RawSection { id, content: start..start + len });
    }
    Ok(sections)
}

/// The identity of a module, recomputed, and the one that it records; `None` for what is no module or records none.
pub(crate) fn identity(module: &[u8]) -> Result<Option<([u8; 32], [u8; 32])>> {
    let mut hash = Sha256::new();
    let mut recorded = None;
    let mut end = PREAMBLE;
    hash.update(module.get(..PREAMBLE).context("the module ends at once")?);
    for section in sections(module)? {
        let content = module.get(section.content.clone()).unwrap_or_default();
        // A custom section begins with its name, as a length and the bytes.
        let data = content
            .strip_prefix(&[IDENTITY_SECTION.len() as u8])
            .and_then(|rest| rest.strip_prefix(IDENTITY_SECTION.as_bytes()));
        match data {
            Some(data) if section.id == CUSTOM => {
                recorded = Some(data.try_into().context("the identity is not 32 bytes")?);
            }
            _ => hash.update(module.get(end..section.content.end).unwrap_or_default()),
        }
        end = section.content.end;
    }
    Ok(recorded.map(|recorded| (hash.finalize().into(), recorded)))
}

fn append_section(out: &mut Vec<u8>, id: u8, content: &[u8]) {
    out.push(id);
    content.encode(out);
}

/// A built-in that the module imported.
struct Intrinsic {
    module: String,
    name: String,
    parameters: u32,
    result: bool,
}

/// What a module imported, in the order of the table's last places.
#[derive(Default)]
struct Intrinsics {
    all: Vec<Intrinsic>,
    /// The first of those places.
    first: u32,
}

/// The module with each import replaced by a call through the exported table, and what was imported.
fn without_imports(module: &[u8]) -> Result<(Vec<u8>, Intrinsics)> {
    let sections = sections(module)?;
    let content =
        |id| sections.iter().find(|section| section.id == id).map(|section| &module[section.content.clone()]);
    let Some(imports) = content(IMPORT) else {
        return Ok((module.to_vec(), Intrinsics::default()));
    };

    let types =
        wasmparser::TypeSectionReader::new(BinaryReader::new(content(TYPE).context("no type section")?, 0))?;
    let types: Vec<_> = types.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
    let mut intrinsics = Vec::new();
    let mut type_indices = Vec::new();
    for import in wasmparser::ImportSectionReader::new(BinaryReader::new(imports, 0))?.into_imports() {
        let import = import?;
        let (TypeRef::Func(index), true) = (import.ty, import.module.starts_with("[export]")) else {
            bail!("it imports {}.{}; the core imports nothing", import.module, import.name);
        };
        let ty = types.get(index as usize).context("an import's type does not exist")?;
        type_indices.push(index);
        intrinsics.push(Intrinsic {
            module: import.module.to_owned(),
            name: import.name.to_owned(),
            parameters: u32::try_from(ty.params().len())?,
            result: !ty.results().is_empty(),
        });
    }

    let count = u32::try_from(intrinsics.len())?;
    let first = own_places(content(TABLE).context("the module has no table of its own")?)?;
    let mut functions = Vec::new();
    let mut bodies = Vec::new();
    for (slot, (intrinsic, index)) in (first..).zip(intrinsics.iter().zip(&type_indices)) {
        index.encode(&mut functions);
        let mut body = wasm_encoder::Function::new([]);
        let mut code = body.instructions();
        for parameter in 0..intrinsic.parameters {
            code.local_get(parameter);
        }
        code.i32_const(i32::try_from(slot)?).call_indirect(0, *index).end();
        body.encode(&mut bodies);
    }
    let mut new_tables = Vec::new();
    1_u32.encode(&mut new_tables);
    function_table(first + count).encode(&mut new_tables);
    let mut new_export = Vec::new();
    INTRINSICS_TABLE.encode(&mut new_export);
    wasm_encoder::ExportKind::Table.encode(&mut new_export);
    0_u32.encode(&mut new_export);

    let mut out = module[..PREAMBLE].to_vec();
    for section in &sections {
        let content = &module[section.content.clone()];
        match section.id {
            IMPORT => {}
            FUNCTION => append_section(&mut out, FUNCTION, &grown(content, count, &functions, &[])?),
            TABLE => append_section(&mut out, TABLE, &new_tables),
            EXPORT => append_section(&mut out, EXPORT, &grown(content, 1, &[], &new_export)?),
            CODE => append_section(&mut out, CODE, &grown(content, count, &bodies, &[])?),
            id => append_section(&mut out, id, content),
        }
    }
    Ok((out, Intrinsics { all: intrinsics, first }))
}

/// The module without the names of its functions, which are a fifth of it. Cargo's `strip` does not reach a crate that has a
/// profile of its own.
fn without_names(module: &[u8]) -> Result<Vec<u8>> {
    let mut out = module[..PREAMBLE].to_vec();
    for section in sections(module)? {
        let content = &module[section.content];
        if section.id == CUSTOM && BinaryReader::new(content, 0).read_string()? == "name" {
            continue;
        }
        append_section(&mut out, section.id, content);
    }
    Ok(out)
}

/// How many places the module's only table has.
fn own_places(tables: &[u8]) -> Result<u32> {
    let tables = wasmparser::TableSectionReader::new(BinaryReader::new(tables, 0))?;
    let tables = tables.into_iter().collect::<Result<Vec<_>, _>>()?;
    let [table] = tables.as_slice() else { bail!("the module has {} tables, expected one", tables.len()) };
    ensure!(
        table.ty.element_type == wasmparser::RefType::FUNCREF && table.ty.maximum == Some(table.ty.initial),
        "the module's table is not one of functions whose size is fixed"
    );
    Ok(u32::try_from(table.ty.initial)?)
}

fn function_table(places: u32) -> wasm_encoder::TableType {
    wasm_encoder::TableType {
        element_type: wasm_encoder::RefType::FUNCREF,
        table64: false,
        minimum: u64::from(places),
        maximum: Some(u64::from(places)),
        shared: false,
    }
}

/// A section's vector with `more` elements, which stand encoded in `before` or `behind`.
fn grown(content: &[u8], more: u32, before: &[u8], behind: &[u8]) -> Result<Vec<u8>> {
    let mut reader = BinaryReader::new(content, 0);
    let count = reader.read_var_u32()?;
    let mut out = Vec::new();
    (count + more).encode(&mut out);
    out.extend_from_slice(before);
    out.extend_from_slice(&content[usize::try_from(reader.original_position())?..]);
    out.extend_from_slice(behind);
    Ok(out)
}

/// Appends the module that fills the table, and its instance: it takes the table from the main instance and the
/// built-ins from where the main instance was given them.
fn append_filler(
    out: &mut Vec<u8>,
    component: &[u8],
    sections: &[RawSection],
    intrinsics: &[Intrinsic],
    first: u32,
) -> Result<()> {
    let mut instances = Vec::new();
    for section in sections.iter().filter(|section| section.id == CORE_INSTANCE) {
        let content = BinaryReader::new(&component[section.content.clone()], 0);
        for instance in wasmparser::InstanceSectionReader::new(content)? {
            instances.push(instance?);
        }
    }
    let (main, given) = (0_u32..)
        .zip(&instances)
        .find_map(|(index, instance)| match instance {
            Instance::Instantiate { module_index: 0, args } => Some((index, args)),
            _ => None,
        })
        .context("the component does not instantiate its main module")?;

    let mut types = wasm_encoder::TypeSection::new();
    let mut imports = wasm_encoder::ImportSection::new();
    let count = u32::try_from(intrinsics.len())?;
    for (index, intrinsic) in (0..count).zip(intrinsics) {
        let value = wasm_encoder::ValType::I32;
        let parameters = vec![value; usize::try_from(intrinsic.parameters)?];
        types.ty().function(parameters, intrinsic.result.then_some(value));
        imports.import(&intrinsic.module, &intrinsic.name, wasm_encoder::EntityType::Function(index));
    }
    imports.import("main", INTRINSICS_TABLE, function_table(first + count));
    let mut elements = wasm_encoder::ElementSection::new();
    let functions: Vec<u32> = (0..count).collect();
    let offset = wasm_encoder::ConstExpr::i32_const(i32::try_from(first)?);
    elements.active(Some(0), &offset, wasm_encoder::Elements::Functions(functions.into()));
    let mut filler = wasm_encoder::Module::new();
    filler.section(&types).section(&imports).section(&elements);
    append_section(out, CORE_MODULE, filler.as_slice());

    let mut arguments = vec![("main", wasm_encoder::ModuleArg::Instance(main))];
    for intrinsic in intrinsics {
        if arguments.iter().all(|(name, _)| *name != intrinsic.module) {
            let argument = given.iter().find(|argument| argument.name == intrinsic.module);
            let argument = argument.with_context(|| format!("nothing provides {}", intrinsic.module))?;
            arguments.push((&intrinsic.module, wasm_encoder::ModuleArg::Instance(argument.index)));
        }
    }
    let filler = sections.iter().filter(|section| section.id == CORE_MODULE).count();
    let mut instance = wasm_encoder::InstanceSection::new();
    instance.instantiate(u32::try_from(filler)?, arguments);
    wasm_encoder::ComponentSection::append_to_component(&instance, out);
    Ok(())
}

fn ensure_no_imports(bytes: &[u8], import_section: u8) -> Result<()> {
    let imports =
        sections(bytes)?.iter().any(|section| section.id == import_section && section.content.len() > 1);
    ensure!(!imports, "it has imports; the core imports nothing");
    Ok(())
}
