use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use lockgate_package::import::{
    BackgroundSource, FeatureSource, ImportError, ImportLimits, ImportOptions, ManifestSource, MockOutput,
    MockSource, OnnxFile, Scalar, ScalerNumbers, ScalerSource, from_map, import_file, mock,
};
use lockgate_package::{AlignedBytes, Manifest, Package, TensorSpec};

use crate::failure::Failure;
use crate::files::{self, PACKAGE_EXTENSION, Written};
use crate::output;

#[derive(Args)]
pub(crate) struct PackageArgs {
    /// The model, an ONNX file.
    #[arg(required_unless_present = "mock")]
    model: Option<PathBuf>,
    /// Make a mock instead: a package with a signature and no model, which gives every row the same answer. The signature is that of
    /// a package, of an ONNX model, or stands in a YAML or JSON file: `inputs` and `outputs` with name, datatype and shape, as
    /// metadata have them, and where you like the `value` of an output; or what `inspect --json` prints. Production refuses mocks.
    #[arg(long, value_name = "SIGNATURE", conflicts_with_all = ["model", "scaler"])]
    mock: Option<PathBuf>,
    /// Where the package goes: a file, or a folder in which it is called `<model>-<version>.lgp`. A file that exists with other
    /// content is never overwritten.
    #[arg(short, long, value_name = "PATH", default_value = ".")]
    output: PathBuf,
    /// What people say about the model: a YAML, JSON or TOML file.
    #[arg(short, long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// A scaler that requests go through before the model: a JSON file with the kind and the numbers, or with the attributes of a
    /// scikit-learn scaler. Without it: the manifest's.
    #[arg(long, value_name = "FILE")]
    scaler: Option<PathBuf>,
    /// The model's name. Without it: the manifest's, else the ONNX file's name.
    #[arg(long)]
    name: Option<String>,
    /// The model's semantic version. Without it: the manifest's, else 0.1.0.
    #[arg(long, value_name = "SEMVER")]
    version: Option<String>,
    /// A limit on the size of the model that is to be another than usual, such as nodes=200000; may be repeated. An error about a limit says
    /// its name; they are file_bytes, decoded_bytes, nodes, folded_bytes, folded_operations, automaton_bytes, automata_bytes, operations_per_row
    /// and memory_per_row.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = limit)]
    limits: Vec<(String, u64)>,
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, number) = text.split_once('=').ok_or("expected a name and a number, such as nodes=200000")?;
    if !ImportLimits::NAMES.contains(&name) {
        return Err(format!(
            "no limit is called `{name}`; expected one of {}",
            ImportLimits::NAMES.join(", ")
        ));
    }
    let number = number.parse().map_err(|_| format!("`{number}` is not a whole number"))?;
    Ok((name.to_owned(), number))
}

pub(crate) fn run(args: &PackageArgs, json: bool) -> Result<(), Failure> {
    let mut source = match &args.manifest {
        Some(path) => read_manifest(path)?,
        None => ManifestSource::default(),
    };
    // What stands on the command line was meant for this run.
    source.model = args.name.clone().or(source.model);
    source.version = args.version.clone().or(source.version);
    // What the manifest names lies beside it.
    let folder = args.manifest.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    if let Some(file) = &args.scaler {
        source.scaler = Some(read_scaler(file)?);
    } else if let Some(ScalerSource::File(file)) = &source.scaler {
        source.scaler = Some(read_scaler(&folder.join(file))?);
    }
    if let Some(BackgroundSource::File(file)) = &source.background {
        source.background = Some(read_background(&folder.join(file))?);
    }
    let (of, is_mock) = match (&args.model, &args.mock) {
        (Some(model), _) => (model, false),
        (None, Some(signature)) => (signature, true),
        (None, None) => return Err(Failure::new("neither a model nor a mock is named")),
    };
    let mut limits = ImportLimits::default();
    for (name, number) in &args.limits {
        limits.set(name, *number);
    }
    let options = ImportOptions {
        limits,
        model: of.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned),
        version: Some("0.1.0".to_owned()),
        ..ImportOptions::default()
    };
    // A file that is too large is not read at all; one without a length is measured once it is.
    let length = std::fs::metadata(of).map_or(0, |metadata| metadata.len());
    options.limits.check_file(length).map_err(|error| failure(of, &error))?;
    let bytes = files::read(of)?;
    let spinner = output::spinner(format!("packaging {}", of.display()));
    let made = if is_mock {
        mock_of(of, bytes, &mut source, &options)
    } else {
        import_model(of, &bytes, &source, &options)
    };
    spinner.finish_and_clear();
    let bytes = made?;
    let package = Package::open(AlignedBytes::copy_of(&bytes))
        .map_err(|error| Failure::new(format!("the package that was made cannot be read back: {error}")))?;
    let manifest = package.manifest();
    let path = if args.output.is_dir() {
        args.output.join(format!("{}-{}.{PACKAGE_EXTENSION}", manifest.model, manifest.version))
    } else {
        args.output.clone()
    };
    let written = files::write_immutable(&path, &bytes)?;
    if json {
        return output::print_json(&serde_json::json!({
            "file": path.display().to_string(),
            "new": written == Written::New,
            "model": manifest.model,
            "version": manifest.version,
            "engine": manifest.engine,
            "mock": manifest.mock,
            "digest": package.digest(),
            "bytes": bytes.len(),
        }));
    }
    let mock = if manifest.mock { ", MOCK" } else { "" };
    let unchanged = if written == Written::Unchanged { ", unchanged" } else { "" };
    output::print(&format!(
        "{}: {}@{}, {} engine, {} bytes, sha256:{}{mock}{unchanged}",
        path.display(),
        manifest.model,
        manifest.version,
        manifest.engine.name(),
        bytes.len(),
        package.digest()
    ))
}

fn failure(model: &Path, error: &ImportError) -> Failure {
    // The importer's texts end in their hint; errors of this program show it on a line of its own.
    let text = error.to_string();
    if let (ImportError::TooLarge { name, .. }, Some((message, _))) = (error, text.rsplit_once("; hint: ")) {
        let hint = format!("export a smaller model, or raise the limit with --limit {name}=NUMBER");
        return Failure::new(format!("{}: {message}", model.display())).hint(hint);
    }
    match text.rsplit_once("; hint: ") {
        Some((message, hint)) if !text.contains('\n') => {
            Failure::new(format!("{}: {message}", model.display())).hint(hint)
        }
        _ => Failure::new(format!("{}: {text}", model.display())),
    }
}

/// A package of a model's file and of the files that it keeps data in.
fn import_model(
    path: &Path,
    bytes: &[u8],
    source: &ManifestSource,
    options: &ImportOptions,
) -> Result<Vec<u8>, Failure> {
    let file = OnnxFile::decode(bytes, &options.limits).map_err(|error| failure(path, &error))?;
    let files = data_beside(path, &file, &options.limits)?;
    let options = ImportOptions { files, ..options.clone() };
    import_file(file, source, &options).map_err(|error| failure(path, &error))
}

/// The files in which a model keeps data, as far as they lie in its folder or below. What is missing is named when it is needed.
fn data_beside(
    model: &Path,
    file: &OnnxFile<'_>,
    limits: &ImportLimits,
) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let mut found = BTreeMap::new();
    let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(folder) = folder.canonicalize() else { return Ok(found) };
    let mut length = 0_u64;
    for name in file.data_files() {
        // Links may lead out of the folder, and one file may be named in many ways.
        let path = folder.join(name).canonicalize().ok();
        let Some(path) = path.filter(|path| path.starts_with(&folder) && path.is_file()) else { continue };
        length = length.saturating_add(std::fs::metadata(&path).map_or(0, |metadata| metadata.len()));
        limits.check_file(length).map_err(|error| failure(model, &error))?;
        found.insert(name.clone(), files::read(&path)?);
    }
    Ok(found)
}

/// A mock with the signature that a file holds.
fn mock_of(
    path: &Path,
    bytes: Vec<u8>,
    source: &mut ManifestSource,
    options: &ImportOptions,
) -> Result<Vec<u8>, Failure> {
    let at = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
    let signature = if bytes.starts_with(files::MAGIC) {
        let package = Package::open(AlignedBytes::copy_of(&bytes)).map_err(|error| at(&error))?;
        like(package.manifest(), source)
    } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        let package = import_model(path, &bytes, source, options)?;
        let package = Package::open(AlignedBytes::copy_of(&package)).map_err(|error| at(&error))?;
        // What stood beside the model is part of the signature by now.
        (source.scaler, source.answer, source.background) = (None, None, None);
        like(package.manifest(), source)
    } else {
        drop(bytes);
        match read(path)? {
            SignatureFile::Inspected { manifest } => like(&manifest, source),
            SignatureFile::Metadata(metadata) => {
                source.model = source.model.take().or(metadata.name);
                if source.labels.is_empty() {
                    source.labels = metadata.parameters.labels;
                }
                MockSource { inputs: metadata.inputs, outputs: metadata.outputs }
            }
        }
    };
    mock(&signature, source, options).map_err(|error| failure(path, &error))
}

/// The signature of a package, and what its manifest says where the manifest source says nothing.
fn like(manifest: &Manifest, source: &mut ManifestSource) -> MockSource {
    source.model = source.model.take().or_else(|| Some(manifest.model.clone()));
    source.version = source.version.take().or_else(|| Some(manifest.version.clone()));
    if source.labels.is_empty() {
        source.labels = manifest.labels.iter().cloned().map(Scalar).collect();
    }
    if source.features.is_empty() {
        source.features = manifest.features.iter().cloned().map(FeatureSource).collect();
    }
    let feature_version = manifest.feature_version.clone().map(Scalar);
    source.feature_version = source.feature_version.take().or(feature_version);
    source.accepts_missing = source.accepts_missing.or(Some(manifest.accepts_missing));
    MockSource::from(&manifest.signature)
}

/// What a file with a signature can be.
enum SignatureFile {
    /// What `inspect --json` prints.
    Inspected { manifest: Box<Manifest> },
    /// The metadata of a model.
    Metadata(Metadata),
}

/// The metadata of a model, as the Open Inference Protocol has them.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    #[serde(default)]
    name: Option<String>,
    #[serde(default, rename = "versions")]
    _versions: serde::de::IgnoredAny,
    #[serde(default, rename = "platform")]
    _platform: serde::de::IgnoredAny,
    inputs: Vec<TensorSpec>,
    outputs: Vec<MockOutput>,
    #[serde(default)]
    parameters: Parameters,
}

/// What of the parameters a mock repeats.
#[derive(Default, serde::Deserialize)]
struct Parameters {
    #[serde(default)]
    labels: Vec<Scalar>,
}

impl<'de> serde::Deserialize<'de> for SignatureFile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let wrong = |error: serde_json::Error| serde::de::Error::custom(error);
        match value.get("manifest") {
            Some(manifest) => {
                let manifest = serde_json::from_value(manifest.clone()).map_err(wrong)?;
                Ok(Self::Inspected { manifest: Box::new(manifest) })
            }
            None => Ok(Self::Metadata(serde_json::from_value(value).map_err(wrong)?)),
        }
    }
}

/// Reads a scaler's numbers.
fn read_scaler(path: &Path) -> Result<ScalerSource, Failure> {
    let numbers: ScalerNumbers = read(path)?;
    Ok(ScalerSource::Numbers(Box::new(numbers)))
}

/// Reads the rows of a background: JSON, or CSV with a header line, whose empty cells are missing values.
fn read_background(path: &Path) -> Result<BackgroundSource, Failure> {
    let text = files::read_text(path)?;
    let at = |problem: String| Failure::new(format!("{}: {problem}", path.display()));
    if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv")) {
        let rows = serde_json::from_str(&text).map_err(|error| {
            let problem =
                if error.is_data() { error.to_string() } else { format!("this is not JSON: {error}") };
            at(problem).hint("give a .csv file, or a .json file with a list of rows")
        });
        return rows.map(BackgroundSource::Rows);
    }
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(|error| at(error.to_string()))?;
        let cell = |cell: &str| match cell.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            Ok(number) if number.is_nan() => Ok(None),
            _ if cell.is_empty() => Ok(None),
            _ => Err(at(format!("row {row}: `{cell}` is not a number"))),
        };
        rows.push(record.iter().map(cell).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(BackgroundSource::Rows(rows))
}

/// Reads a manifest source.
fn read_manifest(path: &Path) -> Result<ManifestSource, Failure> {
    read(path)
}

/// Reads a value by the ending of the file's name; YAML, of which JSON is a part, unless it says otherwise.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let text = files::read_text(path)?;
    let name = path.display().to_string();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
        return toml::from_str(&text)
            .map_err(|error| Failure::new(format!("{name}: {}", error.to_string().trim_end())));
    }
    let node = lockgate_policy::read(&name, &text).map_err(crate::policy::failure)?;
    let json = node.to_json().map_err(|(position, number)| {
        Failure::new(format!(
            "{name}:{}:{}: `{number}` is not a finite number",
            position.line, position.column
        ))
    })?;
    let mut json = serde_json::Deserializer::from_str(&json);
    let mut track = serde_path_to_error::Track::new();
    let read = from_map(serde_path_to_error::Deserializer::new(&mut json, &mut track));
    read.map_err(|error| {
        // Line and column would be those of the JSON in between.
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        let path = track.path().to_string();
        // Of an unknown field, the message has the name.
        let known = || path.rsplit_once('.').map_or(".", |(before, _)| before);
        let path = if message.starts_with("unknown field") { known() } else { &path };
        let field = if matches!(path, "" | ".") { String::new() } else { format!("`{path}`: ") };
        Failure::new(format!("{name}: {field}{message}"))
    })
}
