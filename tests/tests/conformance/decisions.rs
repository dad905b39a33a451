//! Decisions: the evaluator native, through wasmtime's flat entry point, and as a component, on the same contexts.

use lockgate_core::CoreModules;
use lockgate_package::{AlignedBytes, Package};
use lockgate_policy::{
    Bundle, CompileOptions, PackageRef, Reason, RequestContext, Step, check, compile, parse,
};
use lockgate_runtime::{Attribute, Context, DecideRequest, Runtime, RuntimeError};
use lockgate_tests::{core_dir, root};
use serde_json::json;

/// The time of every decision here, a Tuesday.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// Every step of the precedence, on two models.
pub(crate) const POLICY: &str = "
lockgate: 1
layers:
  pricing: { salt: pricing-2026, unit: user, holdout: 5 }
tenants:
  acme:
    routes:
      single: { variants: { own: { model: boosting_binary@1.0.0 } }, default: { serve: own } }
segments:
  desk: { users: [dana], tenants: [acme] }
  wide: { segments: [desk], symbols: [ÄÖÜ, EURCHF] }
routes:
  closed:
    enabled: false
    variants: { a: { model: lr_binary@1.0.0 }, b: { model: boosting_binary@1.0.0 } }
    baseline: a
    default: { split: { a: 50, b: 50 } }
  single:
    variants: { only: { model: lr_binary@1.0.0 } }
    default: { serve: only }
  moving:
    variants: { a: { model: lr_binary@1.0.0 }, b: { model: boosting_binary@1.0.0 }, c: { model: boosting_binary@1.0.0 } }
    baseline: a
    access: { not: { tenant: { eq: t2 } } }
    fallbacks: [c, a]
    requests: [{ name: desk, segments: [desk], variants: [c] }]
    rules:
      - { name: by-turns, if: { symbol: { prefix: EURG } }, unit: symbol, switchback: { variants: [a, b, c], start: 2023-11-01T00:00:00Z, window: 4h, washout: 15m } }
      - { name: pricing-test, experiment: { layer: pricing, share: 20, split: { b: 50, c: 50 } } }
    default:
      unit: user
      ramp: { to: b, start: 2023-11-10T00:00:00Z, approved_stage: 2, stages: [{ share: 10, hold: 24h }, { share: 50, hold: 2d }, { share: 100 }] }
    shadows:
      - { name: next, variant: b, unit: user, sample: 50, limits: { rate: 7, concurrency: 3, bytes: 64KiB, deadline: 200ms } }
      - { name: eur, variant: a, if: { symbol: { suffix: USD } }, unit: symbol, sample: 100 }
  wide:
    variants:
      a: { model: lr_binary@1.0.0, payload: { threshold: 0.5 } }
      b: { model: boosting_binary@1.0.0 }
      c: { model: boosting_binary@1.0.0 }
    baseline: a
    overrides: [{ user: olga, serve: c }]
    test_groups: [{ name: desk, segments: [wide], serve: b }]
    symbol_rollouts: [{ name: crosses, symbols: [EURGBP], split: { b: 30, c: 70 }, unit: user }]
    rules:
      - name: rich
        if: { all: [{ attribute: balance, gte: 1000, lt: 5000.5 }, { not: { attribute: country, in: [US, 日本] } }] }
        unit: symbol
        split: { a: 33.333, b: 33.333, c: 33.334 }
      - { name: flagged, if: { any: [{ attribute: beta, eq: true }, { tenant: { in: [t1, t2] } }] }, serve: b }
    default: { unit: [user, symbol], split: { a: 99.999, b: 0.001 } }
";

/// The policy's bundle and its packages.
pub(crate) fn bundle() -> (Vec<u8>, Vec<Vec<u8>>) {
    let packages: Vec<_> = ["lr_binary", "boosting_binary"]
        .map(|name| {
            let onnx = std::fs::read(root().join(format!("tests/models/{name}.onnx"))).unwrap();
            crate::vectors::package(name, &onnx, &Default::default())
        })
        .into();
    let refs: Vec<_> = packages
        .iter()
        .map(|bytes: &Vec<u8>| {
            let package = Package::open(AlignedBytes::copy_of(bytes)).unwrap();
            PackageRef::new(package.manifest(), package.digest())
        })
        .collect();
    let source = parse("wide.yaml", POLICY).unwrap_or_else(|errors| panic!("{errors}"));
    let policy = check(&source).unwrap_or_else(|errors| panic!("{errors}"));
    let options = CompileOptions { packages: &refs, ..CompileOptions::default() };
    (compile(&policy, &options).unwrap_or_else(|errors| panic!("{errors}")).bundle, packages)
}

/// Contexts that reach every step, with texts of every length and script.
pub(crate) fn contexts() -> Vec<(String, Context)> {
    let mut contexts = Vec::new();
    let users = ["", "olga", "dana", "u", "Müller", "ユーザー", "👩‍💻"];
    let symbols = ["", "EURUSD", "EURGBP", "EURCHF", "ÄÖÜ"];
    for number in 0..4000_usize {
        let route = ["wide", "wide", "moving", "moving", "single", "closed", "missing"][number % 7];
        let pick = |texts: &[&str], step: usize| {
            let text = texts[number / step % texts.len()];
            (!text.is_empty()).then(|| text.to_owned())
        };
        let mut attributes = Vec::new();
        if number % 3 == 0 {
            attributes.push(("balance".to_owned(), Attribute::Number((number as f64 - 500.0) * 2.5)));
        }
        if number % 5 == 0 {
            attributes
                .push(("country".to_owned(), Attribute::Text(["US", "日本", "DE"][number % 3].to_owned())));
        }
        if number % 7 == 0 {
            attributes.push(("beta".to_owned(), Attribute::Boolean(number % 2 == 0)));
        }
        let user = match number % 4 {
            0 => pick(&users, 5),
            _ => Some(format!("user-{number}-{}", "x".repeat(number % 70))),
        };
        let tenant = (number % 11 == 0).then(|| ["t1", "t2", "acme"][number / 11 % 3].to_owned());
        let context = Context {
            user,
            symbol: pick(&symbols, 3),
            tenant,
            session: None,
            variant: (number % 9 == 0).then(|| "c".to_owned()),
            attributes: attributes.into_iter().collect(),
        };
        contexts.push((route.to_owned(), context));
    }
    contexts
}

/// The same context in the form that the native evaluator takes.
pub(crate) fn native_context(route: &str, context: &Context) -> RequestContext {
    let attributes: serde_json::Map<_, _> = context
        .attributes
        .iter()
        .map(|(name, value)| {
            let value = match value {
                Attribute::Text(text) => json!(text),
                Attribute::Number(number) => json!(number),
                Attribute::Boolean(value) => json!(value),
            };
            (name.clone(), value)
        })
        .collect();
    serde_json::from_value(json!({
        "route": route, "user": context.user, "symbol": context.symbol, "tenant": context.tenant,
        "session": context.session, "variant": context.variant, "attributes": attributes,
    }))
    .unwrap()
}

#[test]
fn wasmtime_decides_as_the_native_evaluator() {
    let (bundle, packages) = bundle();
    let native = Bundle::load(AlignedBytes::copy_of(&bundle)).unwrap();
    let runtime = Runtime::builder(CoreModules::from_dir(&core_dir()).unwrap()).build().unwrap();
    runtime.install(Some(bundle), packages).unwrap();
    let (mut steps, mut reasons) = (Vec::new(), Vec::new());
    let (mut unknown, mut shadows) = (0, 0);
    for (route, context) in contexts() {
        let expected = native.decide(&native_context(&route, &context), NOW, &[]);
        let answer = runtime.decide(DecideRequest {
            route,
            contexts: vec![context],
            now_ms: Some(NOW),
            deadline: None,
        });
        let (expected, answer) = match (expected, answer) {
            (Ok(expected), Ok(answer)) => (expected, answer),
            (Err(_), Err(RuntimeError::UnknownRoute { .. })) => {
                unknown += 1;
                continue;
            }
            (expected, answer) => panic!("{expected:?} against {answer:?}"),
        };
        steps.push(expected.step);
        reasons.push(expected.reason);
        shadows += expected.shadows().count();
        let (row, version) = answer.served.row(0).unwrap();
        let why = row.decision.as_ref().unwrap();
        assert_eq!(version.variant.as_deref(), Some(expected.variant().name));
        assert_eq!(
            (&*version.model, &*version.version),
            (expected.variant().model, expected.variant().version)
        );
        assert_eq!(version.payload.as_deref(), expected.variant().payload);
        assert_eq!(version.package, expected.variant().digest);
        assert_eq!((why.reason, why.step), (expected.reason, expected.step));
        assert_eq!((why.rule.as_deref(), why.layer.as_deref()), expected.names());
        assert_eq!((why.bucket, why.unit_missing), (expected.bucket, expected.unit_missing));
        assert_eq!((why.stage, why.window), (expected.stage, expected.window));
        assert_eq!((why.holdout, why.washout), (expected.holdout, expected.washout));
        assert_eq!((why.unavailable, &why.intended), (false, &None));
        assert_eq!((why.tenant.as_deref(), why.user.as_deref()), (expected.route().tenant(), None));
    }
    for step in [
        Step::Disabled,
        Step::Override,
        Step::Holdout,
        Step::TestGroup,
        Step::SymbolRollout,
        Step::Rule,
        Step::Default,
    ] {
        assert!(steps.contains(&step), "no context reached {}", step.name());
    }
    assert!(unknown > 100 && shadows > 100, "{unknown} unknown routes, {shadows} shadows");
    for reason in [Reason::Static, Reason::Default, Reason::TargetingMatch, Reason::Split, Reason::Disabled] {
        assert!(reasons.contains(&reason), "no context got {}", reason.name());
    }
}
