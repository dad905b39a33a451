//! Models with requests and expected answers in files, as the scripts in `tests/onnx` and `tests/estimators` write them: reading and packaging
//! them, and the same requests in wasmtime.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use lockgate_core::CoreModules;
use lockgate_inference::{Contributions, Model};
use lockgate_onnx::Kind;
use lockgate_package::import::{ImportError, ImportOptions, ManifestSource, import};
use lockgate_package::{AlignedBytes, Datatype, Digest, Engine, Package, Tensor};
use lockgate_runtime::{PredictRequest, Runtime};
use lockgate_tests::core_dir;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// More than a request is usually given time for: what is measured elsewhere is not measured here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tensor of a case.
#[derive(Deserialize)]
pub(crate) struct CaseTensor {
    name: String,
    #[serde(default)]
    kind: i64,
    #[serde(default)]
    shape: Vec<i64>,
    #[serde(default)]
    data: String,
}

/// What became of a case.
pub(crate) enum Outcome<T> {
    /// It answers as it should.
    Passed(T),
    /// It cannot be packaged, and why.
    Refused(String),
    /// It answers something else.
    Wrong(String),
}

/// A request and its answer.
pub(crate) type Exchange = (Vec<Tensor>, Vec<Tensor>);

/// A package, and requests with the answers that it gives natively.
pub(crate) struct Answered {
    pub(crate) package: Vec<u8>,
    pub(crate) exchanges: Vec<Exchange>,
}

/// The names of all cases of a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "onnx"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What is expected of a case.
pub(crate) fn read<T: DeserializeOwned>(folder: &Path, name: &str) -> T {
    let text = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The package of a case's model.
pub(crate) fn package(folder: &Path, name: &str) -> Result<Vec<u8>, ImportError> {
    let onnx = std::fs::read(folder.join(format!("{name}.onnx"))).unwrap();
    let options = ImportOptions {
        model: Some(name.to_owned()),
        version: Some("1.0.0".to_owned()),
        ..ImportOptions::default()
    };
    // Whether NaN means a missing value is the caller's to say where the model itself does not.
    let source = ManifestSource { accepts_missing: Some(true), ..ManifestSource::default() };
    import(&onnx, &source, &options)
}

/// A request to a model and its answer.
pub(crate) fn ask(model: &mut Model, inputs: &[CaseTensor]) -> Result<Exchange, String> {
    let inputs: Vec<Tensor> = inputs.iter().map(CaseTensor::tensor).collect::<Result<_, _>>()?;
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let outputs = model.predict(&views).map_err(|error| error.to_string())?.outputs;
    Ok((inputs, outputs))
}

/// The output that is to be as expected; it has the datatype and the shape.
pub(crate) fn output<'a>(outputs: &'a [Tensor], expected: &Tensor) -> Result<&'a Tensor, String> {
    let name = &expected.name;
    let found = outputs.iter().find(|output| output.name == *name);
    let found = found.ok_or_else(|| format!("there is no output `{name}`"))?;
    if (found.datatype, &found.shape) != (expected.datatype, &expected.shape) {
        let form = |tensor: &Tensor| format!("{} {:?}", tensor.datatype, tensor.shape);
        return Err(format!("output `{name}`: {} instead of {}", form(found), form(expected)));
    }
    Ok(found)
}

impl CaseTensor {
    /// The tensor as a request or an answer holds it.
    pub(crate) fn tensor(&self) -> Result<Tensor, String> {
        let kind = Kind::from_number(self.kind).ok_or_else(|| format!("`{}` is no tensor", self.name))?;
        let datatype = Datatype::of_kind(kind);
        let mut data = hex::decode(&self.data).unwrap();
        if datatype.kind() != kind {
            let shape: Vec<usize> = self.shape.iter().map(|&len| usize::try_from(len).unwrap()).collect();
            let own = lockgate_onnx::Tensor::from_bytes(kind, shape.clone(), &data).unwrap();
            let wide = own.numbers().unwrap().narrow(datatype.kind());
            data = lockgate_onnx::Tensor::new(shape, wide).unwrap().to_bytes();
        }
        Ok(Tensor { name: self.name.clone(), datatype, shape: self.shape.clone(), data })
    }
}

impl Answered {
    pub(crate) fn engine(&self) -> Engine {
        self.open().manifest().engine
    }

    fn digest(&self) -> Digest {
        self.open().digest()
    }

    fn open(&self) -> Package {
        Package::open(AlignedBytes::copy_of(&self.package)).unwrap()
    }
}

/// The same requests in the sandbox, some packages at a time: what is not the same bits there.
pub(crate) fn in_wasmtime(models: &[(String, Answered)]) -> Vec<String> {
    let runtime = Runtime::builder(CoreModules::from_dir(&core_dir()).unwrap()).build().unwrap();
    let mut problems = Vec::new();
    for models in models.chunks(64) {
        // Some cases have equal models.
        let packages: BTreeMap<_, _> =
            models.iter().map(|(_, model)| (model.digest(), model.package.clone())).collect();
        runtime.install(None, packages.into_values().collect()).unwrap();
        for (name, model) in models {
            for (inputs, expected) in &model.exchanges {
                let request = PredictRequest {
                    package: model.digest(),
                    inputs: inputs.clone(),
                    deadline: Some(PATIENCE),
                    contributions: Contributions::None,
                };
                match runtime.predict(request) {
                    Ok(answer) if answer.outputs == *expected => {}
                    Ok(_) => problems.push(format!("{name}: other bits in wasmtime")),
                    Err(error) => problems.push(format!("{name}: in wasmtime: {error}")),
                }
            }
        }
    }
    problems
}

/// Tensors with every bit of their data, for JavaScript.
pub(crate) fn in_json(tensors: &[Tensor]) -> Vec<Value> {
    let tensor = |tensor: &Tensor| {
        let Tensor { name, datatype, shape, data } = tensor;
        json!({ "name": name, "datatype": datatype, "shape": shape, "data": hex::encode(data) })
    };
    tensors.iter().map(tensor).collect()
}

/// Ends a test whose cases have problems.
pub(crate) fn report(problems: &[String]) {
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
