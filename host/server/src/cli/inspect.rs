use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use lockgate_package::import::{
    AnswerSource, Beside, CalibrationMethod, CalibrationSource, LabelKind, Scaler,
};
use lockgate_package::signing::TrustedKeys;
use lockgate_package::{AlignedBytes, Digest, Envelope, Kind, Manifest, Package, TensorSpec};
use lockgate_policy::{Bundle, ListObject};
use lockgate_shell::versions::versions;
use serde_json::{Value, json};

use super::keys;
use crate::failure::Failure;
use crate::{files, output, policy};

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// A package, a bundle or a unit list.
    file: PathBuf,
    /// Show at most this many routes of a bundle.
    #[arg(long, default_value_t = 50, value_name = "COUNT")]
    routes: usize,
}

pub(crate) fn run(args: &InspectArgs, json: bool) -> Result<(), Failure> {
    let file = files::read(&args.file)?;
    let bytes = AlignedBytes::copy_of(&file);
    let at = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", args.file.display()));
    if kind_of(&bytes) == Some(Kind::Bundle) {
        let bundle = policy::load_bundle(&args.file, &file)?;
        if json {
            output::print_json(&with_signatures(bundle_json(&bundle), bundle.as_bytes())?)
        } else {
            let signatures = signatures_text(bundle.as_bytes())?;
            output::print(&bundle_text(&bundle, &signatures, args.routes))
        }
    } else if kind_of(&bytes) == Some(Kind::UnitList) {
        let list = ListObject::open(bytes).map_err(|error| at(&error))?;
        let (digest, len, units) = (list.digest(), list.as_bytes().len(), list.units().count());
        if json {
            let value = json!({ "kind": "list", "digest": digest, "bytes": len, "units": units });
            output::print_json(&with_signatures(value, list.as_bytes())?)
        } else {
            let signatures = signatures_text(list.as_bytes())?;
            output::print(&format!(
                "unit list         {units} units, {len} bytes\ndigest            sha256:{digest}\n{signatures}"
            ))
        }
    } else {
        let package = Package::open(bytes).map_err(|error| match error {
            lockgate_package::PackageError::Envelope(lockgate_package::EnvelopeError::NotAnEnvelope {
                ..
            }) => at(&"neither a model package nor a policy bundle: the first bytes are not `LOCKGATE`"),
            error => at(&error),
        })?;
        let beside = Beside::read(&package).map_err(|error| at(&error))?;
        if json {
            output::print_json(&with_signatures(
                package_json(&package, &beside),
                package.envelope().as_bytes(),
            )?)
        } else {
            let signatures = signatures_text(package.envelope().as_bytes())?;
            output::print(&(package_text(&package, &beside) + &signatures))
        }
    }
}

/// Who claims to have signed it. Only `lockgate keys verify` knows whom to believe.
fn signatures_text(bytes: &[u8]) -> Result<String, Failure> {
    let mut text = String::new();
    let signed_by = |line: String| {
        let _ = writeln!(text, "{:<18}{line}", "signed by");
    };
    let signatures = keys::signatures(bytes, &TrustedKeys::default(), signed_by)?;
    // An unsigned file needs no line to say so.
    Ok(if signatures.as_array().is_some_and(Vec::is_empty) { String::new() } else { text })
}

fn with_signatures(mut value: Value, bytes: &[u8]) -> Result<Value, Failure> {
    value["signatures"] = keys::signatures(bytes, &TrustedKeys::default(), |_| ())?;
    Ok(value)
}

fn sections(envelope: &Envelope) -> Vec<(String, usize)> {
    envelope
        .section_names()
        .map(|name| (name.to_owned(), envelope.section(name).map_or(0, |section| section.len)))
        .collect()
}

fn package_json(package: &Package, beside: &Beside) -> Value {
    let (major, minor) = package.envelope().format();
    let mut value = json!({
        "kind": "package",
        "digest": package.digest(),
        "format": format!("{major}.{minor}"),
        "bytes": package.envelope().as_bytes().len(),
        "manifest": package.manifest(),
        "sections": sections(package.envelope()).iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect::<Value>(),
    });
    if let Some(scaler) = &beside.scaler {
        value["scaler"] = json!(scaler);
    }
    if let Some(answer) = &beside.answer {
        value["answer"] = json!(answer);
    }
    value
}

fn package_text(package: &Package, beside: &Beside) -> String {
    let manifest: &Manifest = package.manifest();
    let (major, minor) = package.envelope().format();
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<18}{value}");
    };
    line("package", format!("{}@{}", manifest.model, manifest.version));
    if !manifest.description.is_empty() {
        line("", manifest.description.clone());
    }
    if manifest.mock {
        line("MOCK", "it gives every row the same answer; production refuses it".to_owned());
    }
    line("digest", format!("sha256:{}", package.digest()));
    line("format", format!("{major}.{minor}, {} bytes", package.envelope().as_bytes().len()));
    line("engine", manifest.engine.name().to_owned());
    line("made from", format!("sha256:{} ({})", manifest.source_digest, or_unknown(&manifest.producer)));
    for spec in &manifest.signature.inputs {
        line("input", tensor(spec));
    }
    for spec in &manifest.signature.outputs {
        line("output", tensor(spec));
    }
    if !manifest.labels.is_empty() {
        line("labels", manifest.labels.join(", "));
    }
    if !manifest.features.is_empty() {
        let version = manifest.feature_version.as_ref().map(|v| format!(", version {v}")).unwrap_or_default();
        line("features", format!("{}{version}", manifest.features.len()));
        for feature in &manifest.features {
            let bound = |value: Option<f64>| value.map_or("…".to_owned(), |value| value.to_string());
            let range = match (feature.min, feature.max) {
                (None, None) => String::new(),
                (min, max) => format!("  {} to {}", bound(min), bound(max)),
            };
            line("", format!("{}{range}", feature.name));
        }
    }
    if let Some(scaler) = &beside.scaler {
        line("scaler", scaler_text(scaler));
    }
    if let Some(answer) = &beside.answer {
        for (name, value) in answer_lines(answer) {
            line(name, value);
        }
    }
    let scope = &manifest.scope;
    for (name, values) in [("symbols", &scope.symbols), ("tenants", &scope.tenants)] {
        if !values.is_empty() {
            line(name, values.join(", "));
        }
    }
    if let Some(timeframe) = &scope.timeframe {
        line("timeframe", timeframe.clone());
    }
    for (name, value) in &manifest.metrics {
        line("metric", format!("{name} = {value}"));
    }
    line("missing values", if manifest.accepts_missing { "accepted" } else { "refused" }.to_owned());
    line(
        "cost of a row",
        format!("{} operations, {} bytes", manifest.operations_per_row, manifest.memory_per_row),
    );
    text
}

fn scaler_text(scaler: &Scaler) -> String {
    let columns = match scaler.columns() {
        1 => "all columns alike".to_owned(),
        columns => format!("{columns} columns"),
    };
    let input = scaler.input.as_ref().map(|input| format!(" of `{input}`")).unwrap_or_default();
    let clip = scaler.clip.map(|(low, high)| format!(", kept within {low} and {high}")).unwrap_or_default();
    format!("{}, {columns}{input}{clip}", scaler.kind.name())
}

/// What is made of the scores, a line each.
fn answer_lines(answer: &AnswerSource) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    match &answer.calibration {
        Some(calibration) if calibration.per_class.is_empty() => {
            lines.push(("calibration", calibration_text(calibration)));
        }
        Some(calibration) => {
            for (class, calibration) in calibration.per_class.iter().enumerate() {
                lines.push(("calibration", format!("class {class}: {}", calibration_text(calibration))));
            }
        }
        None => {}
    }
    if let Some(threshold) = answer.threshold {
        lines.push(("threshold", format!("the second class from {threshold} on")));
    }
    for (label, threshold) in &answer.thresholds {
        lines.push(("threshold", format!("{label} from {threshold} on")));
    }
    if let Some(otherwise) = &answer.otherwise {
        lines.push(("threshold", format!("otherwise {}", otherwise.0)));
    }
    match answer.labels {
        Some(LabelKind::Names) => lines.push(("label", "by name".to_owned())),
        Some(LabelKind::Integers) => lines.push(("label", "as an integer".to_owned())),
        None => {}
    }
    if answer.confidence {
        lines.push(("confidence", "the top score".to_owned()));
    }
    lines
}

fn calibration_text(calibration: &CalibrationSource) -> String {
    match calibration.method {
        Some(CalibrationMethod::Sigmoid) => {
            let number = |number: Option<f64>| number.unwrap_or(f64::NAN);
            format!("sigmoid, a = {}, b = {}", number(calibration.a), number(calibration.b))
        }
        _ => format!("isotonic, {} points", calibration.x.len()),
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown producer" } else { text }
}

fn tensor(spec: &TensorSpec) -> String {
    format!("{} {} {:?}", spec.name, spec.datatype, spec.shape)
}

fn bundle_json(bundle: &Bundle) -> Value {
    let routes: Vec<Value> = bundle
        .routes()
        .map(|route| {
            let variants: Vec<Value> = route
                .variants()
                .map(|variant| {
                    json!({
                        "name": variant.name,
                        "model": variant.model,
                        "version": variant.version,
                        "digest": variant.digest,
                        "placement": variant.placement.name(),
                        "payload": variant.payload.and_then(|payload| serde_json::from_str::<Value>(payload).ok()),
                    })
                })
                .collect();
            let shadows: Vec<Value> = route
                .shadows()
                .map(|shadow| {
                    json!({ "name": shadow.name, "variant": shadow.variant.name, "limits": shadow.limits })
                })
                .collect();
            json!({
                "name": route.name(),
                "tenant": route.tenant(),
                "user": route.user(),
                "description": route.description(),
                "enabled": route.enabled(),
                "baseline": route.baseline().name,
                "signature": route.signature().ok(),
                "versions": versions(route.variants()).iter().map(|version| version.name.clone()).collect::<Vec<_>>(),
                "variants": variants,
                "shadows": shadows,
            })
        })
        .collect();
    json!({
        "kind": "bundle",
        "digest": bundle.digest(),
        "version": bundle.version(),
        "parent": bundle.parent(),
        "bytes": bundle.as_bytes().len(),
        "source": bundle.source().is_some(),
        "objects": objects(bundle),
        "routes": routes,
    })
}

/// The unit lists that the bundle needs.
fn objects(bundle: &Bundle) -> Vec<Digest> {
    // It has been opened, so its envelope can be read.
    Bundle::required_objects(bundle.as_bytes()).unwrap_or_default()
}

fn bundle_text(bundle: &Bundle, signatures: &str, limit: usize) -> String {
    let mut text = format!(
        "bundle            version {}, {} bytes\ndigest            sha256:{}\n",
        bundle.version(),
        bundle.as_bytes().len(),
        bundle.digest()
    );
    if let Some(parent) = bundle.parent() {
        let _ = writeln!(text, "parent            sha256:{parent}");
    }
    text.push_str(signatures);
    for digest in objects(bundle) {
        let _ = writeln!(text, "unit list         sha256:{digest}");
    }
    for route in bundle.routes().take(limit) {
        let disabled = if route.enabled() { "" } else { " (disabled)" };
        let whose = match (route.tenant(), route.user()) {
            (None, None) => String::new(),
            (Some(tenant), None) => format!(" of tenant {tenant}"),
            (None, Some(user)) => format!(" of user {user}"),
            (Some(tenant), Some(user)) => format!(" of user {user} of tenant {tenant}"),
        };
        let _ = writeln!(text, "route             {}{whose}{disabled}", route.name());
        let signature = route.signature().unwrap_or_default();
        for (what, specs) in [("input", &signature.inputs), ("output", &signature.outputs)] {
            for spec in specs {
                let _ = writeln!(text, "  {what:<16}{}", tensor(spec));
            }
        }
        for variant in route.variants() {
            let _ = writeln!(
                text,
                "  variant         {:<16} {}@{} on {}, sha256:{}",
                variant.name,
                variant.model,
                variant.version,
                variant.placement.name(),
                variant.digest
            );
        }
        for shadow in route.shadows() {
            let _ = writeln!(text, "  shadow          {:<16} {}", shadow.name, shadow.variant.name);
        }
    }
    let hidden = bundle.route_count().saturating_sub(limit);
    if hidden > 0 {
        let _ = writeln!(
            text,
            "                  and {hidden} more routes; `--routes {}` shows all",
            bundle.route_count()
        );
    }
    text
}

/// What the preamble says the file is. Whether the rest is sound is for the opener of that kind to say.
fn kind_of(bytes: &[u8]) -> Option<Kind> {
    match (bytes.starts_with(files::MAGIC), bytes.get(12..16)?) {
        (true, [1, 0, 0, 0]) => Some(Kind::Bundle),
        (true, [2, 0, 0, 0]) => Some(Kind::Package),
        (true, [3, 0, 0, 0]) => Some(Kind::UnitList),
        _ => None,
    }
}
