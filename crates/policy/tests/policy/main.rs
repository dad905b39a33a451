//! The policy from source to decision. One binary, a module per area.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking, in their helpers too")]

mod bundles;
mod conditions;
mod decisions;
mod diagnostics;
mod documents;
mod movement;
mod random;

use lockgate_package::{AlignedBytes, Digest, Signature};
use lockgate_policy::{
    Attribute, Bundle, CompileOptions, Decision, Diagnostics, PackageRef, Policy, RequestContext, check,
    compile, parse,
};

/// A package for every model version that the tests use.
fn packages(policy: &Policy) -> Vec<PackageRef> {
    let package = |name: &lockgate_policy::ModelVersion| PackageRef {
        model: name.model.clone(),
        version: name.version.clone(),
        digest: Digest::of(name.to_string().as_bytes()),
        signature: signature("[-1, 17]"),
    };
    policy.model_versions().into_iter().map(package).collect()
}

/// One FP32 input of this shape, one INT64 output per row.
fn signature(shape: &str) -> Signature {
    let source = format!(
        "lockgate: 1\nroutes: {{ r: {{ signature: {{ inputs: [{{ name: input, datatype: FP32, shape: {shape} }}], outputs: [{{ name: label, datatype: INT64, shape: [-1] }}] }}, variants: {{ v: {{ model: m@1.0.0 }} }}, default: {{ serve: v }} }} }}"
    );
    policy(&source).routes["r"].signature.clone().unwrap()
}

fn policy(source: &str) -> Policy {
    checked("policy.yaml", source).unwrap_or_else(|problems| panic!("{problems}"))
}

fn checked(file: &str, source: &str) -> Result<Policy, Diagnostics> {
    check(&parse(file, source)?)
}

fn load(bytes: &[u8]) -> Bundle {
    Bundle::load(AlignedBytes::copy_of(bytes)).unwrap()
}

fn bundle(source: &str) -> Bundle {
    bundle_with(source, CompileOptions::default())
}

fn bundle_with(source: &str, options: CompileOptions<'_>) -> Bundle {
    let policy = policy(source);
    let packages = packages(&policy);
    let bytes = compile(&policy, &CompileOptions { packages: &packages, ..options });
    load(&bytes.unwrap_or_else(|problems| panic!("{problems}")))
}

/// A context from words: `user=alice symbol=EURUSD tier="premium" age=5 beta=true`. The first word is the route.
fn context(words: &str) -> RequestContext {
    let mut words = words.split_whitespace();
    let mut context = RequestContext::new(words.next().unwrap_or_default());
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        let text = Some(value.to_owned());
        match name {
            "user" => context.user = text,
            "symbol" => context.symbol = text,
            "tenant" => context.tenant = text,
            "session" => context.session = text,
            _ => {
                let value = match value {
                    "true" | "false" => Attribute::Boolean(value == "true"),
                    _ => value
                        .parse()
                        .map_or_else(|_| Attribute::Text(value.trim_matches('"').into()), Attribute::Number),
                };
                context.attributes.insert(name.to_owned(), value);
            }
        }
    }
    context
}

/// `variant REASON step` and, where there are, `rule=`, `layer=`, `bucket=`, `unit missing`.
fn words(decision: &Decision<'_>) -> String {
    let mut text = format!("{} {} {}", decision.variant, decision.reason, decision.step);
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {name}={value}"));
        }
    };
    add("rule", decision.rule.map(str::to_owned));
    add("layer", decision.layer.map(str::to_owned));
    add("bucket", decision.bucket.map(|bucket| bucket.to_string()));
    if decision.unit_missing {
        text.push_str(" unit missing");
    }
    text
}

#[track_caller]
fn check_decision(bundle: &Bundle, words_of_context: &str, expected: &str) {
    let decision = bundle.decide(&context(words_of_context), 0, &[]);
    let found = decision.map_or_else(|error| error.to_string(), |decision| words(&decision));
    assert_eq!(found, expected, "{words_of_context}");
}
