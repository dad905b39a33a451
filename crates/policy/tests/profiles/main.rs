//! Units that come from other systems keep their variants: assignments that the systems' own packages made, and flags that
//! were imported. `docs/profiles.md` and `docs/policy-import.md` say what is compared.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking, in their helpers too")]

mod assignments;
mod drafts;
mod imports;
mod specification;

use lockgate_package::AlignedBytes;
use lockgate_policy::{Bundle, CompileOptions, RequestContext, check, compile, parse};
use serde_json::Value;

/// Compiles a source whose packages nobody needs.
fn bundle(source: &str) -> Bundle {
    let policy = parse("policy.yaml", source).and_then(|source| check(&source));
    let policy = policy.unwrap_or_else(|problems| panic!("{problems}\n{source}"));
    let compiled = compile(&policy, &CompileOptions { stand_ins: true, ..Default::default() });
    let compiled = compiled.unwrap_or_else(|problems| panic!("{problems}\n{source}"));
    Bundle::load(AlignedBytes::copy_of(&compiled.bundle)).unwrap()
}

/// The name of the variant that a context has at a time.
fn variant(bundle: &Bundle, context: &RequestContext, now: i64) -> String {
    let decision =
        bundle.decide(context, now, &[]).unwrap_or_else(|_| panic!("there is no route {}", context.route));
    decision.variant().name.to_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}
