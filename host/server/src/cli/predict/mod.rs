mod rows;

use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_oip::{InferResponse, decode_request, encode_response};
use lockgate_package::plan::explain::CONTRIBUTIONS;
use lockgate_package::{Manifest, Package, Tensor, TensorSpec};
use lockgate_runtime::{Contributions, PredictRequest, Settings};
use serde_json::{Map, Value, json};

use super::settings::{SettingsArgs, Signers};
use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct PredictArgs {
    /// The package.
    package: PathBuf,
    /// The rows. JSON: an inference request, or for a model with one input just its rows, `[[1, 2], [3, 4]]`.
    /// CSV: a header with the names of the features (other columns are left out), or no header and one column per feature;
    /// an empty cell is a missing value.
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    /// Say what each feature contributes to the raw score: `true`, `linear`, `path_dependent` or `interventional`.
    #[arg(long, value_name = "METHOD", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    contributions: Option<String>,
    /// The folder of the core modules. Without it: the core built into this program.
    #[arg(long, env = "LOCKGATE_CORE", value_name = "FOLDER")]
    core: Option<PathBuf>,
    /// Demand that the package is this very one, by the digest of its content.
    #[arg(long, value_name = "DIGEST", help_heading = "Trust")]
    pin: Option<lockgate_package::Digest>,
    #[command(flatten)]
    trust: SettingsArgs<Signers>,
}

pub(crate) fn run(args: &PredictArgs, json: bool) -> Result<(), Failure> {
    let file = policy::open_package(&args.package, &args.trust.gate(args.pin)?)?;
    let manifest = file.package.manifest().clone();
    let inputs = read_inputs(&args.input, &manifest)?;
    let answer = predict(args, file, inputs, contributions(args)?)?;
    for warning in answer.out_of_range.iter().take(10) {
        output::note(&format!(
            "warning: row {}: {} is {}, outside the range seen in training",
            warning.row, warning.name, warning.value
        ));
    }
    if answer.out_of_range.len() > 10 {
        output::note(&format!(
            "warning: and {} more values outside the range",
            answer.out_of_range.len() - 10
        ));
    }
    if !json {
        return output::print(&table(&answer.outputs, &manifest)?);
    }
    let mut parameters = Map::new();
    parameters.insert("package_digest".to_owned(), json!(answer.package));
    parameters.insert("engine".to_owned(), json!(manifest.engine));
    parameters.insert("inference_core".to_owned(), json!(answer.core));
    if manifest.mock {
        parameters.insert("mock".to_owned(), json!(true));
    }
    let response = InferResponse {
        model_name: manifest.model,
        model_version: Some(manifest.version),
        id: None,
        parameters,
        outputs: answer.outputs,
    };
    let body = encode_response(&response, |_| false).map_err(|error| Failure::new(error.to_string()))?;
    output::print_json_text(&String::from_utf8_lossy(&body.bytes))
}

fn contributions(args: &PredictArgs) -> Result<Contributions, Failure> {
    let Some(value) = &args.contributions else { return Ok(Contributions::None) };
    Contributions::of(value).ok_or_else(|| {
        Failure::new(format!("--contributions: expected {}, found `{value}`", Contributions::EXPECTED))
    })
}

struct Answer {
    outputs: Vec<Tensor>,
    out_of_range: Vec<lockgate_runtime::OutOfRange>,
    core: lockgate_package::Digest,
    package: lockgate_package::Digest,
}

/// Runs the rows through the core, as a server would.
fn predict(
    args: &PredictArgs,
    file: policy::PackageFile,
    inputs: Vec<Tensor>,
    contributions: Contributions,
) -> Result<Answer, Failure> {
    let spinner = output::spinner("loading the core".to_owned());
    let settings = Settings { workers: 1, ..Settings::default() };
    let runtime = crate::core::runtime(args.core.as_deref(), settings)?;
    let package = Package::digest(&file.package);
    runtime.install(None, vec![file.bytes]).map_err(|error| Failure::new(error.to_string()))?;
    let deadline = Some(std::time::Duration::from_secs(600));
    let request = PredictRequest { package, inputs, contributions, deadline };
    let answer = runtime.predict(request);
    spinner.finish_and_clear();
    let answer = answer.map_err(|error| {
        let failure = Failure::new(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })?;
    Ok(Answer { outputs: answer.outputs, out_of_range: answer.out_of_range, core: answer.core, package })
}

fn read_inputs(path: &Path, manifest: &Manifest) -> Result<Vec<Tensor>, Failure> {
    let text = files::read_text(path)?;
    let at = |problem: String| Failure::new(format!("{}: {problem}", path.display()));
    let is_csv = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let inputs = if is_csv {
        rows::inputs(&text, manifest).map_err(&at)?
    } else {
        json_inputs(&text, manifest).map_err(&at)?
    };
    // One codec reads all three forms, so their values and errors are the same.
    let request = json!({ "inputs": inputs }).to_string();
    let request = if is_csv || text.trim_start().starts_with('[') { request } else { text };
    decode_request(request.as_bytes(), None).map(|request| request.inputs).map_err(|error| {
        let failure = at(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// The only input of a model.
fn only_input(manifest: &Manifest) -> Result<&TensorSpec, String> {
    match manifest.signature.inputs.as_slice() {
        [input] => Ok(input),
        inputs => {
            let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            Err(format!(
                "bare rows need a model with one input, this one has {}; write an inference request",
                names.join(", ")
            ))
        }
    }
}

/// Bare rows as an input. A whole request needs nothing done to it.
fn json_inputs(text: &str, manifest: &Manifest) -> Result<Value, String> {
    if !text.trim_start().starts_with('[') {
        return Ok(Value::Null);
    }
    let input = only_input(manifest)?;
    let rows: Value = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    let mut shape = Vec::new();
    let mut level = &rows;
    while let Value::Array(items) = level {
        shape.push(items.len());
        let Some(first) = items.first() else { break };
        level = first;
    }
    Ok(json!([{ "name": input.name, "datatype": input.datatype, "shape": shape, "data": rows }]))
}

/// The name of a column of contributions: that of its feature, and of its class where there are several raw scores.
fn contribution(output: &Tensor, column: usize, manifest: &Manifest) -> String {
    let scores = output.shape.get(2).and_then(|scores| usize::try_from(*scores).ok()).unwrap_or(1).max(1);
    let (feature, score) = (column / scores, column % scores);
    let feature =
        manifest.features.get(feature).map_or_else(|| feature.to_string(), |found| found.name.clone());
    match manifest.labels.get(score) {
        _ if scores == 1 => format!("{CONTRIBUTIONS}.{feature}"),
        Some(label) if scores == manifest.labels.len() => format!("{CONTRIBUTIONS}.{feature}.{label}"),
        _ => format!("{CONTRIBUTIONS}.{feature}.{score}"),
    }
}

/// The outputs as CSV, one line per row; several columns of one output carry the labels where their number fits.
fn table(outputs: &[Tensor], manifest: &Manifest) -> Result<String, Failure> {
    let mut columns: Vec<(String, Vec<Value>)> = Vec::new();
    for output in outputs {
        let response: InferResponse = InferResponse {
            model_name: String::new(),
            outputs: vec![output.clone()],
            ..InferResponse::default()
        };
        let body = encode_response(&response, |_| false).map_err(|error| Failure::new(error.to_string()))?;
        let message: Value =
            serde_json::from_slice(&body.bytes).map_err(|error| Failure::new(error.to_string()))?;
        let data = message["outputs"][0]["data"].as_array().cloned().unwrap_or_default();
        let rows = output.shape.first().and_then(|rows| usize::try_from(*rows).ok()).unwrap_or(1).max(1);
        let width = (data.len() / rows).max(1);
        for column in 0..width {
            let name = match (width, manifest.labels.get(column)) {
                _ if output.name == CONTRIBUTIONS => contribution(output, column, manifest),
                (1, _) => output.name.clone(),
                (width, Some(label)) if width == manifest.labels.len() => format!("{}.{label}", output.name),
                _ => format!("{}.{column}", output.name),
            };
            columns.push((name, data.iter().skip(column).step_by(width).cloned().collect()));
        }
    }
    let cannot = |error: csv::Error| Failure::new(format!("cannot write the answer as CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().map(|(name, _)| name)).map_err(cannot)?;
    // An output without rows has one line.
    for row in 0..columns.iter().map(|(_, values)| values.len()).max().unwrap_or(0) {
        let cells = columns.iter().map(|(_, values)| match values.get(row) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        });
        writer.write_record(cells).map_err(cannot)?;
    }
    let bytes = writer.into_inner().map_err(|error| Failure::new(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockgate_package::{Datatype, Engine, Feature, Scope, Signature};

    fn manifest(inputs: &[(&str, Datatype, &[i64])], features: &[&str]) -> Manifest {
        let spec = |(name, datatype, shape): &(&str, Datatype, &[i64])| TensorSpec {
            name: (*name).to_owned(),
            datatype: *datatype,
            shape: shape.to_vec(),
        };
        let inputs = inputs.iter().map(spec).collect();
        Manifest {
            model: "m".to_owned(),
            version: "1.0.0".to_owned(),
            description: String::new(),
            signature: Signature { inputs, outputs: Vec::new() },
            features: features
                .iter()
                .map(|name| Feature { name: (*name).to_owned(), min: None, max: None })
                .collect(),
            feature_version: None,
            labels: vec!["down".to_owned(), "up".to_owned()],
            scope: Scope::default(),
            metrics: Default::default(),
            accepts_missing: true,
            engine: Engine::Tabular,
            source_digest: lockgate_package::Digest([0; 32]),
            producer: String::new(),
            operations_per_row: 0,
            memory_per_row: 0,
            contributions: Vec::new(),
            mock: false,
        }
    }

    fn check(file: &str, text: &str, manifest: &Manifest) -> Result<Vec<Tensor>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        read_inputs(&path, manifest)
            .map_err(|failure| failure.message().rsplit_once("rows.").unwrap().1.to_owned())
    }

    #[test]
    fn rows_come_as_csv_or_json() {
        let two = manifest(&[("x", Datatype::Fp32, &[-1, 2])], &["a", "b"]);
        let expected = [Tensor::fp32("x", vec![2, 2], &[1.0, 2.5, 3.0, -4.0])];
        for (file, text) in [
            ("rows.csv", "b,when,a\n2.5,monday,1\n-4,tuesday,3\n"),
            ("rows.csv", "1,2.5\n3,-4"),
            ("rows.json", "[[1, 2.5], [3, -4]]"),
            ("rows.json", r#"{"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32","data":[1,2.5,3,-4]}]}"#),
        ] {
            assert_eq!(check(file, text, &two).unwrap(), expected, "{text}");
        }
        let missing = check("rows.csv", "a,b\n1,\n", &two).unwrap();
        assert!(missing[0].to_fp32().unwrap()[1].is_nan());
        assert_eq!(check("rows.csv", "a,c\n1,2\n", &two).unwrap_err(), "csv: the header lacks the columns b");
        assert_eq!(
            check("rows.csv", "1,2,3\n", &two).unwrap_err(),
            "csv: the first line has 3 columns, the model takes 2"
        );
        assert_eq!(
            check("rows.csv", "a,b\n1,x\n", &two).unwrap_err(),
            "csv: line 2, column b: \"x\" is not a number that FP32 holds"
        );
        assert!(check("rows.csv", "", &two).is_err());
        let twice = check("rows.csv", "a,b,a\n1,2,3\n", &two).unwrap_err();
        assert_eq!(twice, "csv: the header has the column a twice");
        // A first row that lacks a value is no header, and names may be numbers.
        assert_eq!(check("rows.csv", "NA,2.5\n3,-4\n", &two).unwrap()[0].shape, [2, 2]);
        let numbered = manifest(&[("x", Datatype::Fp32, &[-1, 2])], &["0", "1"]);
        let swapped = check("rows.csv", "1,0\n5,6\n", &numbered).unwrap();
        assert_eq!(swapped, [Tensor::fp32("x", vec![1, 2], &[6.0, 5.0])]);
    }

    #[test]
    fn every_line_of_a_single_column_is_a_row() {
        let one = manifest(&[("x", Datatype::Fp32, &[-1, 1])], &["a"]);
        for text in ["a\n1\n\n3\n", "1\n\n3", "a\r\n1\r\n\r\n3\r\n\r\n"] {
            let found = check("rows.csv", text, &one).unwrap()[0].to_fp32().unwrap();
            assert!(found[1].is_nan() && found[0] == 1.0 && found[2] == 3.0 && found.len() == 3, "{text:?}");
        }
    }

    #[test]
    fn texts_are_taken_as_they_stand() {
        let texts = manifest(&[("t", Datatype::Bytes, &[-1, 2])], &["a", "b"]);
        let read = |text: &str| check("rows.csv", text, &texts).unwrap()[0].to_byte_strings().unwrap();
        let want: Vec<Vec<u8>> = [" Private", "x\ny"].map(|text| text.as_bytes().to_vec()).to_vec();
        assert_eq!(read("a, b\n Private,\"x\ny\"\n"), want);
        // No name of a column is in the first line.
        assert_eq!(read(" Private,\"x\ny\"\n"), want);
        let lacks = check("rows.csv", "a,c\nx,y\n", &texts).unwrap_err();
        assert_eq!(lacks, "csv: the header lacks the columns b");
    }

    #[test]
    fn a_column_may_be_an_input_of_its_own() {
        let manifest = manifest(&[("a", Datatype::Int64, &[-1, 1]), ("b", Datatype::Bytes, &[-1, 1])], &[]);
        let inputs = check("rows.csv", "b,a\nred,7\n", &manifest).unwrap();
        assert_eq!(inputs[0].to_int64().unwrap(), [7]);
        assert_eq!(inputs[1].to_byte_strings().unwrap(), [b"red".to_vec()]);
    }

    #[test]
    fn a_table_is_as_long_as_its_longest_output() {
        let outputs = [Tensor::fp32("mean", vec![], &[2.0]), Tensor::fp32("y", vec![2], &[1.0, 3.0])];
        assert_eq!(table(&outputs, &manifest(&[], &[])).unwrap(), "mean,y\n2.0,1.0\n,3.0\n");
    }

    #[test]
    fn outputs_become_a_table() {
        let outputs = [
            Tensor::fp32("score", vec![2, 2], &[0.25, 0.75, 0.5, f32::NAN]),
            Tensor::fp32("y", vec![2, 1], &[1.0, 2.0]),
        ];
        assert_eq!(
            table(&outputs, &manifest(&[], &[])).unwrap(),
            "score.down,score.up,y\n0.25,0.75,1.0\n0.5,NaN,2.0\n"
        );
        let two = [Tensor::fp32("contributions", vec![1, 2, 2], &[1.0, 2.0, 3.0, 4.0])];
        assert_eq!(
            table(&two, &manifest(&[], &["a", "b"])).unwrap(),
            "contributions.a.down,contributions.a.up,contributions.b.down,contributions.b.up\n1.0,2.0,3.0,4.0\n"
        );
    }
}
