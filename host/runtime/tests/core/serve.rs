//! Requests that are answered, and requests that are refused with good reason.

use std::time::Duration;

use lockgate_package::{Digest, Tensor};
use lockgate_runtime::{
    Context, DecideRequest, Engine, InferRequest, PredictRequest, Reason, Runtime, RuntimeError, Step,
};

use crate::support::{self, MODELS, POLICY, World, infer, package, predict, rows, runtime, user};

fn real() -> Runtime {
    runtime(support::core(), support::settings())
}

#[test]
fn a_row_is_routed_and_says_so() {
    let runtime = real();
    let answer = runtime.infer(infer(vec![user("alice")], vec![rows(1)])).unwrap();
    let (row, version) = answer.served.row(0).unwrap();
    assert_eq!((version.variant.as_deref(), version.model.as_str()), (Some("canary"), "eurusd_gb"));
    assert_eq!(version.package, support::digest(&package("eurusd_gb@1.1.0")));
    let execution = version.execution.unwrap();
    assert_eq!(execution.engine, Engine::Tabular);
    assert_eq!(execution.core, support::core().tabular.identity());
    assert_eq!(answer.core, support::core().policy.identity());
    let why = row.decision.as_ref().unwrap();
    assert_eq!((why.reason, why.step), (Reason::TargetingMatch, Step::Override));
    assert!(!answer.pinned);
    assert_eq!(answer.bundle.version, 1);
    assert_eq!(
        answer.outputs.iter().map(|output| output.name.as_str()).collect::<Vec<_>>(),
        ["output_label", "output_probability"]
    );

    let answer = runtime.infer(infer(vec![user("bob")], vec![rows(1)])).unwrap();
    let why = answer.served.row(0).unwrap().0.decision.clone().unwrap();
    assert_eq!(why.reason, Reason::Split);
    assert!(why.bucket.is_some_and(|bucket| bucket < 100_000));
}

#[test]
fn rows_of_several_versions_come_back_in_order() {
    let runtime = real();
    let users = ["stable", "alice", "forest", "alice", "stable", "stable", "forest"];
    let input = rows(users.len());
    let answer = runtime.infer(infer(users.map(user).to_vec(), vec![input.clone()])).unwrap();
    assert_eq!(answer.served.versions.len(), 3);
    assert_eq!(answer.served.rows.len(), users.len());
    let probabilities = answer.outputs.iter().find(|output| output.name == "output_probability").unwrap();
    assert_eq!(probabilities.shape, [7, 2]);
    for (row, user) in users.iter().enumerate() {
        let one = Tensor { shape: vec![1, 17], data: input.data[row * 68..][..68].to_vec(), ..input.clone() };
        let alone = runtime.infer(infer(vec![support::user(user)], vec![one])).unwrap();
        assert_eq!(alone.served.versions[0].model, answer.served.row(row).unwrap().1.model);
        for (alone, together) in alone.outputs.iter().zip(&answer.outputs) {
            let len = alone.data.len();
            assert_eq!(alone.data, together.data[row * len..][..len], "row {row}, {}", alone.name);
        }
    }
}

#[test]
fn one_context_stands_for_all_rows() {
    let runtime = real();
    let answer = runtime.infer(infer(vec![user("stable")], vec![rows(5)])).unwrap();
    assert_eq!(answer.served.rows.len(), 1);
    assert_eq!(answer.served.row(4).unwrap().1.model, "eurusd_lr");
    let direct = runtime.predict(predict("eurusd_lr@1.0.0", vec![rows(5)])).unwrap();
    assert_eq!(answer.outputs, direct.outputs);
    assert_eq!(direct.engine, Engine::Tabular);
}

#[test]
fn out_of_range_features_are_reported_for_the_rows_of_the_caller() {
    let runtime = real();
    let mut values = vec![0.0; 3 * 17];
    values[2 * 17 + 4] = 5.0;
    values[17] = -7.0;
    let input = Tensor::fp32("input", vec![3, 17], &values);
    let users = ["alice", "stable", "alice"].map(user).to_vec();
    let answer = runtime.infer(infer(users, vec![input])).unwrap();
    let found: Vec<_> =
        answer.out_of_range.iter().map(|w| (w.row, w.feature, w.name.as_ref(), w.value)).collect();
    assert_eq!(found, [(1, 0, "return-0", -7.0), (2, 4, "return-4", 5.0)]);
}

#[test]
fn a_pinned_version_serves_without_a_decision() {
    let runtime = real();
    let pinned = |version: &str| {
        runtime.infer(InferRequest {
            pinned: Some(version.to_owned()),
            ..infer(vec![user("alice")], vec![rows(1)])
        })
    };
    for version in ["eurusd_lr@1.0.0", "eurusd_gb@1.1.0", "1.1.0"] {
        let answer = pinned(version).unwrap();
        let (row, served) = answer.served.row(0).unwrap();
        assert!(answer.pinned);
        assert_eq!((row.decision.as_ref(), served.variant.as_ref()), (None, None));
        assert!(format!("{}@{}", served.model, served.version).ends_with(version));
    }
    assert_eq!(
        pinned("1.0.0").unwrap_err().to_string(),
        "version `1.0.0` of route `eurusd-direction` is ambiguous; ask for one of eurusd_lr@1.0.0, eurusd_rf_a@1.0.0"
    );
    assert_eq!(
        pinned("9.0.0").unwrap_err().to_string(),
        "route `eurusd-direction` has no version `9.0.0`; it has eurusd_lr@1.0.0, eurusd_gb@1.1.0, eurusd_rf_a@1.0.0"
    );
}

#[test]
fn a_pinned_version_does_not_go_past_a_kill_switch() {
    let check = |from: &str, to: &str, expected: [Result<(), &str>; 3]| {
        let policy = POLICY.replacen(from, to, 1);
        assert_ne!(policy, POLICY);
        let runtime = Runtime::builder(support::core()).settings(support::settings()).build().unwrap();
        World::new(&policy, &MODELS).install(&runtime);
        for (version, expected) in MODELS.into_iter().zip(expected) {
            let pinned = Some(version.to_owned());
            let request = InferRequest { pinned, ..infer(vec![user("bob")], vec![rows(1)]) };
            let answer = runtime.infer(request).map(drop).map_err(|error| error.code());
            assert_eq!(answer, expected, "{version}: {to}");
        }
    };
    let disabled = Err("version_disabled");
    let canary = "canary: { model: eurusd_gb@1.1.0 }";
    check(canary, "canary: { model: eurusd_gb@1.1.0, enabled: false }", [Ok(()), disabled, Ok(())]);
    // Another variant with the same version still serves it.
    let two = "canary: { model: eurusd_gb@1.1.0, enabled: false }\n      again: { model: eurusd_gb@1.1.0 }";
    check(canary, two, [Ok(()), Ok(()), Ok(())]);
    // A disabled route serves its baseline to everyone.
    check("    unit: user\n", "    unit: user\n    enabled: false\n", [Ok(()), disabled, disabled]);
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let runtime = real();
    let check = |request: InferRequest, code: &str, message: &str| {
        let error = runtime.infer(request).unwrap_err();
        assert_eq!((error.code(), error.to_string().as_str()), (code, message));
    };
    check(infer(Vec::new(), vec![rows(1)]), "invalid_input", "the request has no context");
    check(
        infer(vec![user("a"), user("b")], vec![rows(3)]),
        "invalid_input",
        "input `input` has 3 rows, but there are 2 contexts",
    );
    let elsewhere = InferRequest { route: "nowhere".to_owned(), ..infer(vec![user("a")], vec![rows(1)]) };
    check(elsewhere.clone(), "unknown_route", "unknown route `nowhere`");
    check(
        InferRequest { pinned: Some("1.0.0".to_owned()), ..elsewhere },
        "unknown_route",
        "unknown route `nowhere`",
    );

    let code = |inputs| runtime.infer(infer(vec![user("stable")], inputs)).unwrap_err().code();
    assert_eq!(code(Vec::new()), "invalid_input");
    assert_eq!(code(vec![Tensor::fp32("other", vec![1, 17], &[0.0; 17])]), "invalid_input");
    assert_eq!(code(vec![Tensor::fp32("input", vec![1, 16], &[0.0; 16])]), "invalid_input");
    assert_eq!(code(vec![Tensor::fp32("input", vec![1, 17], &[0.0; 16])]), "invalid_input");
    assert_eq!(code(vec![Tensor::fp32("input", vec![1, 17], &[f32::NAN; 17])]), "missing_value");
    let nowhere = PredictRequest {
        contributions: Default::default(),
        package: Digest([0; 32]),
        inputs: Vec::new(),
        deadline: None,
    };
    assert_eq!(runtime.predict(nowhere).unwrap_err().code(), "unknown_package");
    assert!(
        runtime.infer(infer(vec![user("stable")], vec![rows(1)])).is_ok(),
        "and the next one is answered"
    );
    assert_eq!(runtime.stats().tabular.traps + runtime.stats().policy.traps, 0);
}

#[test]
fn no_context_gets_the_default_with_its_reason() {
    let answer = real().infer(infer(vec![Context::default()], vec![rows(1)])).unwrap();
    let (row, version) = answer.served.row(0).unwrap();
    let why = row.decision.as_ref().unwrap();
    assert_eq!(version.variant.as_deref(), Some("stable"));
    assert_eq!((why.reason, why.unit_missing), (Reason::Default, true));
}

#[test]
fn many_contexts_are_decided_at_once_and_agree_with_the_native_evaluator() {
    let world = support::World::new(support::POLICY, &support::MODELS);
    let bundle =
        lockgate_policy::Bundle::load(lockgate_package::AlignedBytes::copy_of(&world.bundle)).unwrap();
    let runtime = real();
    let request = DecideRequest {
        route: "eurusd-direction".to_owned(),
        contexts: (0..500).map(|number| user(&format!("user-{number}"))).collect(),
        now_ms: Some(0),
        deadline: None,
    };
    let answer = runtime.decide(request.clone()).unwrap();
    assert_eq!(answer.served.rows.len(), 500);
    for (row, context) in request.contexts.iter().enumerate() {
        let native = lockgate_policy::RequestContext {
            user: context.user.clone(),
            ..lockgate_policy::RequestContext::new("eurusd-direction")
        };
        let native = bundle.decide(&native, 0, &[]).unwrap();
        let (row, version) = answer.served.row(row).unwrap();
        let why = row.decision.as_ref().unwrap();
        assert_eq!(version.variant.as_deref(), Some(native.variant().name));
        assert_eq!((why.bucket, why.step), (native.bucket, native.step));
        assert_eq!((why.rule.as_deref(), why.layer.as_deref()), native.names());
        assert_eq!(version.payload.as_deref(), native.variant().payload);
    }
}

#[test]
fn async_callers_need_no_particular_runtime() {
    let runtime = real();
    let executor = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = executor.block_on(runtime.infer_async(infer(vec![user("alice")], vec![rows(1)]))).unwrap();
    assert_eq!(answer.served.versions[0].model, "eurusd_gb");
    let error = executor.block_on(runtime.infer_async(infer(Vec::new(), Vec::new()))).unwrap_err();
    assert_eq!(error.code(), "invalid_input");
}

#[test]
fn nothing_is_served_before_an_installation() {
    let runtime = Runtime::builder(support::core()).settings(support::settings()).build().unwrap();
    assert_eq!(runtime.infer(infer(vec![user("a")], vec![rows(1)])).unwrap_err(), RuntimeError::NoBundle);
    runtime.install(None, vec![package("eurusd_lr@1.0.0")]).unwrap();
    assert!(
        runtime.predict(predict("eurusd_lr@1.0.0", vec![rows(2)])).is_ok(),
        "packages serve without a bundle"
    );
}

#[test]
fn a_deadline_that_has_passed_is_told() {
    let runtime = real();
    let late = InferRequest { deadline: Some(Duration::ZERO), ..infer(vec![user("a")], vec![rows(1)]) };
    let error = runtime.infer(late).unwrap_err();
    assert_eq!(error.to_string(), "no answer within 0 ms; the request was waiting");
    assert_eq!(runtime.stats().deadline_exceeded, 1);
}

#[test]
fn a_recurrent_model_runs_in_the_graph_flavour() {
    let runtime = Runtime::builder(support::core()).settings(support::settings()).build().unwrap();
    runtime.install(None, vec![package("eurusd_lstm@2.1.0")]).unwrap();
    let input = &runtime.generation().models().next().unwrap().manifest().signature.inputs[0].clone();
    let input = Tensor::fp32(input.name.clone(), vec![2, 20, 17], &[0.1; 2 * 20 * 17]);
    let answer = runtime.predict(predict("eurusd_lstm@2.1.0", vec![input])).unwrap();
    assert_eq!((answer.engine, Some(answer.core)), (Engine::Graph, runtime.inference_core(Engine::Graph)));
    assert!(answer.outputs.iter().all(|output| output.shape[0] == 2));

    let without = lockgate_core::CoreModules { graph: None, ..support::core() };
    let runtime = Runtime::builder(without).settings(support::settings()).build().unwrap();
    let error = runtime.install(None, vec![package("eurusd_lstm@2.1.0")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "eurusd_lstm@2.1.0 needs the graph inference module: this core does not have it"
    );
}
