//! Models: ONNX files through packaging, packages through loading, and requests through what was loaded.

use std::path::{Path, PathBuf};

use lockgate_inference::{Model, RequestLimits};
use lockgate_package::import::{ImportLimits, ImportOptions, ManifestSource, OnnxFile, import_file};
use lockgate_package::{AlignedBytes, Datatype, Digest, Tensor, TensorSpec};

/// What packaging may take here, so that no input takes long.
fn limits() -> ImportLimits {
    ImportLimits {
        file_bytes: 1 << 20,
        decoded_bytes: 1 << 24,
        nodes: 2_000,
        folded_bytes: 1 << 22,
        folded_operations: 1 << 22,
        automaton_bytes: 1 << 15,
        automata_bytes: 1 << 18,
        operations_per_row: 1 << 20,
        memory_per_row: 1 << 22,
    }
}

/// An ONNX file: what is packaged loads, and answers requests or refuses them.
pub fn onnx(data: &[u8]) -> bool {
    let Ok(package) = packaged(data) else { return false };
    let model = Model::load(AlignedBytes::copy_of(&package));
    let mut model = model.unwrap_or_else(|error| panic!("what was packaged does not load: {error}"));
    ask(&mut model, data);
    true
}

fn packaged(data: &[u8]) -> Result<Vec<u8>, String> {
    let file = OnnxFile::decode(data, &limits()).map_err(|error| error.to_string())?;
    let options = ImportOptions {
        model: Some("m".to_owned()),
        version: Some("1.0.0".to_owned()),
        limits: limits(),
        files: file.data_files().iter().map(|name| (name.clone(), data.to_vec())).collect(),
    };
    let source = ManifestSource { accepts_missing: Some(true), ..ManifestSource::default() };
    let again = import_file(file.clone(), &source, &options);
    let package = import_file(file, &source, &options).map_err(|error| error.to_string())?;
    assert_eq!(again.as_ref(), Ok(&package), "equal files give other packages");
    Ok(package)
}

/// A package, its digest made right: it is refused, or answers requests or refuses them.
pub fn model(data: &[u8]) -> bool {
    let Ok(mut model) = Model::load(AlignedBytes::copy_of(&super::resealed(data))) else { return false };
    ask(&mut model, data);
    true
}

/// Some requests, whose forms and elements follow from the input.
fn ask(model: &mut Model, data: &[u8]) {
    model.limit_requests(RequestLimits { memory: 1 << 24, operations: 1 << 22 });
    let mut state = u64::from_le_bytes(Digest::of(data).0.first_chunk().copied().unwrap_or_default());
    let mut below = move |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % end.max(1) as u64) as usize
    };
    for _ in 0..3 {
        let rows = [1, 1, 2, 3, 0, 40][below(6)];
        let specs = model.manifest().signature.inputs.clone();
        let inputs: Vec<Tensor> = specs.iter().map(|spec| tensor(spec, rows, &mut below)).collect();
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let (first, again) = (model.predict(&views), model.predict(&views));
        let bits = |outputs: Vec<Tensor>| {
            outputs.into_iter().map(|output| (output.shape, output.data)).collect::<Vec<_>>()
        };
        match (first, again) {
            (Ok(first), Ok(again)) => {
                assert_eq!(bits(first.outputs), bits(again.outputs), "asked again, it answers otherwise");
            }
            (first, again) => assert_eq!(first.err(), again.err(), "asked again, it answers otherwise"),
        }
    }
}

fn tensor(spec: &TensorSpec, rows: i64, below: &mut dyn FnMut(usize) -> usize) -> Tensor {
    let mut shape: Vec<i64> = spec.shape.clone();
    for (axis, length) in shape.iter_mut().enumerate() {
        if *length < 0 {
            *length = if axis == 0 { rows } else { [1, 2, 3, 5, 0][below(5)] };
        } else if below(60) == 0 {
            *length = length.saturating_add(1);
        }
    }
    let count =
        shape.iter().try_fold(1_usize, |count, &length| count.checked_mul(usize::try_from(length).ok()?));
    let count = count.filter(|count| *count <= 1 << 14).unwrap_or(0);
    let style = below(4);
    let mut data = Vec::new();
    for _ in 0..count {
        let small = below(7) as i64 - 2;
        match spec.datatype {
            Datatype::Bytes => {
                let text = ["", "a", "ab cd", "1", "é,b", "-1e3"][below(6)];
                data.extend_from_slice(&(text.len() as u32).to_le_bytes());
                data.extend_from_slice(text.as_bytes());
            }
            Datatype::Fp32 if style == 0 => {
                data.extend_from_slice(&[f32::NAN, f32::INFINITY, -0.0, 1e38][below(4)].to_le_bytes());
            }
            Datatype::Fp32 => data.extend_from_slice(&(small as f32 / 2.0).to_le_bytes()),
            Datatype::Fp64 if style == 0 => {
                data.extend_from_slice(&[f64::NAN, f64::INFINITY, -0.0, 1e300][below(4)].to_le_bytes());
            }
            Datatype::Fp64 => data.extend_from_slice(&(small as f64 / 2.0).to_le_bytes()),
            datatype => {
                let bytes = if style == 0 { [i64::MIN, i64::MAX, -1, 1 << 32][below(4)] } else { small }
                    .to_le_bytes();
                data.extend_from_slice(&bytes[..datatype.size().unwrap_or(1)]);
            }
        }
    }
    Tensor { name: spec.name.clone(), datatype: spec.datatype, shape, data }
}

/// Models of the repository that are small enough, for both engines.
pub(super) fn onnx_seeds() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = ["tests/models", "crates/inference/tests/data/graph", "fuzz/models"];
    let mut files: Vec<PathBuf> = folders
        .iter()
        .filter_map(|folder| std::fs::read_dir(root.join(folder)).ok())
        .flat_map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())))
        .filter(|file| file.extension().is_some_and(|extension| extension == "onnx"))
        .collect();
    files.sort();
    let files = files.iter().filter_map(|file| std::fs::read(file).ok());
    files.filter(|bytes| bytes.len() <= 24 << 10 && packaged(bytes).is_ok()).collect()
}

pub(super) fn model_seeds() -> Vec<Vec<u8>> {
    onnx_seeds().iter().filter_map(|file| packaged(file).ok()).collect()
}
