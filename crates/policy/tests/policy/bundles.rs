use insta::assert_snapshot;
use lockgate_package::{AlignedBytes, Digest, Envelope, EnvelopeBuilder, Kind};
use lockgate_policy::{Bundle, CompileOptions, LoadError, compile};
use proptest::prelude::*;

use crate::{bundle, bundle_with, context, packages, policy, signature};

const SMALL: &str = "
lockgate: 1
segments: { s: { users: [a, b], tenants: [t] } }
routes:
  one:
    variants: { x: { model: m@1.0.0 }, y: { model: n@1.0.0, payload: 1 } }
    baseline: x
    overrides: [{ user: o, serve: y }]
    test_groups: [{ name: g, segments: [s], serve: y }]
    rules:
      - { name: many, if: { symbol: { in: [A, B, C, D, E, F, G, H, I, J] } }, split: { x: 50, y: 50 } }
      - { name: number, if: { attribute: n, gte: 1.5 }, serve: y }
    default: { split: { x: 90, y: 10 } }
  two:
    enabled: false
    variants: { x: { model: m@1.0.0 } }
    default: { serve: x }
";

#[test]
fn versions_rise_from_parent_to_child() {
    let first = bundle(SMALL);
    assert_eq!((first.version(), first.parent()), (1, None));
    let second = bundle_with(SMALL, CompileOptions { parent: Some(&first), ..Default::default() });
    assert_eq!((second.version(), second.parent()), (2, Some(first.digest())));
    let third = CompileOptions { parent: Some(&second), version: Some(40), ..Default::default() };
    let third = bundle_with(SMALL, third);
    assert_eq!(third.version(), 40);

    let policy = policy(&SMALL.replace("lockgate: 1", "lockgate: 1\nversion: 40"));
    let packages = packages(&policy);
    let options = CompileOptions { parent: Some(&third), packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r"
    policy.yaml:1:1: version: version 40 is not above the parent's, which is 40
      expected: 41 or higher
      hint: a rollback, too, is old content under a higher version
    ");
    let options = CompileOptions { version: Some(41), ..options };
    assert_eq!(crate::load(&compile(&policy, &options).unwrap()).version(), 41);
    let options = CompileOptions { version: Some(0), packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r"
    policy.yaml:1:1: version: 0 is no version
      expected: 1 or higher
    ");
}

#[test]
fn equal_policies_give_equal_bytes() {
    let reordered =
        SMALL.replace("split: { x: 90, y: 10 }", "split: { y: 10.000, x: 90.0 }").replace("[a, b]", "[b, a]");
    assert_ne!(SMALL, reordered);
    assert_eq!(bundle(SMALL).as_bytes(), bundle(&reordered).as_bytes());
    assert_ne!(bundle(SMALL).digest(), bundle(&SMALL.replace("x: 90, y: 10", "x: 91, y: 9")).digest());
}

#[test]
fn models_are_pinned_to_packages() {
    let source = "
lockgate: 1
models:
  lr@1.0.0: { digest: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef }
  gb@1.1.0:
  rf@1.0.0:
routes:
  pinned:
    variants: { x: { model: lr@1.0.0 }, y: { model: gb@1.1.0 }, z: { model: rf@1.0.0 } }
    default: { serve: x }
";
    let policy = policy(source);
    let mut packages = packages(&policy);
    packages.retain(|package| package.model != "rf");
    packages[0].version = "1.1.1".to_owned();
    let mut other = packages[0].clone();
    other.digest = Digest::of(b"other");
    packages.push(other);
    let options = CompileOptions { packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r#"
    policy.yaml:1:1: two different packages are called `gb@1.1.1`: sha256:d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa and sha256:db06669aea46dd3528957983eed04d77fa8866a05fd3294df09a831b3ac9261b
      hint: a version's package never changes; keep one of them, and give new content a new version
    policy.yaml:4:3: models."lr@1.0.0": the package of `lr@1.0.0` has the digest sha256:c02f227c80fb38a77525705698e2a3dcead0f6bece4979c8f6a870a729a37e7c
      expected: sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef, as the policy pins it
      hint: a version's package never changes; get the pinned one, or pin the new one under a new version
    policy.yaml:9:41: routes.pinned.variants.y: there is no package of `gb@1.1.0`
      expected: a package of this model version, or its digest in `models`
      hint: of this model there is `gb@1.1.1`
    policy.yaml:9:65: routes.pinned.variants.z: there is no package of `rf@1.0.0`
      expected: a package of this model version, or its digest in `models`
      hint: say where the packages are with `--packages`
    "#);
}

#[test]
fn packages_must_fit_the_signature() {
    let source = "
lockgate: 1
routes:
  declared:
    signature:
      inputs: [{ name: input, datatype: FP32, shape: [-1, 17] }]
      outputs: [{ name: label, datatype: INT64, shape: [-1] }, { name: scores, datatype: FP32, shape: [-1, 2] }]
    variants: { x: { model: x@1.0.0 }, y: { model: y@1.0.0 } }
    default: { serve: x }
  taken:
    variants: { x: { model: x@1.0.0 }, z: { model: z@1.0.0 } }
    default: { serve: x }
";
    let policy = policy(source);
    let mut packages = packages(&policy);
    let declared = policy.routes["declared"].signature.clone().unwrap();
    for package in &mut packages {
        package.signature = declared.clone();
    }
    // `y` takes another type, a narrower shape, has another name and one output too many.
    packages[1].signature.inputs[0].datatype = lockgate_package::Datatype::Fp64;
    packages[1].signature.outputs[1].name = "probabilities".to_owned();
    // `z` answers more freely than `x` does.
    packages[2].signature.outputs[1].shape = vec![-1, -1];
    let options = CompileOptions { packages: &packages, ..Default::default() };
    assert_snapshot!(compile(&policy, &options).unwrap_err(), @r"
    policy.yaml:8:40: routes.declared.variants.y: `y@1.0.0` has a further output `probabilities`, FP32 [-1, 2]
      expected: no outputs but `label`, `scores`, as the route's signature says
    policy.yaml:8:40: routes.declared.variants.y: `y@1.0.0` has no output `scores`
      expected: FP32 [-1, 2], as the route's signature says
    policy.yaml:8:40: routes.declared.variants.y: input `input` of `y@1.0.0` is FP64 [-1, 17]
      expected: FP32 [-1, 17], as the route's signature says
    policy.yaml:11:40: routes.taken.variants.z: output `scores` of `z@1.0.0` is FP32 [-1, -1]
      expected: FP32 [-1, 2], as in variant `x`
    ");

    // A model may take more and answer less than the route says, not the reverse.
    let fits = |input: &str, model: &str| {
        let policy = crate::policy(&format!(
            "lockgate: 1\nroutes: {{ r: {{ signature: {{ inputs: [{{ name: input, datatype: FP32, shape: {input} }}], outputs: [{{ name: label, datatype: INT64, shape: [-1] }}] }}, variants: {{ v: {{ model: m@1.0.0 }} }}, default: {{ serve: v }} }} }}"
        ));
        let mut packages = crate::packages(&policy);
        packages[0].signature = signature(model);
        compile(&policy, &CompileOptions { packages: &packages, ..Default::default() }).is_ok()
    };
    assert!(fits("[-1, 17]", "[-1, 17]") && fits("[1, 17]", "[-1, 17]") && fits("[-1, 17]", "[-1, -1]"));
    assert!(
        !fits("[-1, 17]", "[1, 17]") && !fits("[-1, 17]", "[-1, 17, 1]") && !fits("[-1, 17]", "[-1, 16]")
    );
}

#[test]
fn a_route_needs_a_signature_from_somewhere() {
    let source = "
lockgate: 1
models: { remote@1.0.0: { placement: gpu, digest: 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef } }
routes:
  remote: { variants: { x: { model: remote@1.0.0 } }, default: { serve: x } }
";
    assert_snapshot!(compile(&policy(source), &CompileOptions::default()).unwrap_err(), @r"
    policy.yaml:5:3: routes.remote: the route has no signature, and no package at hand says it
      expected: `signature: { inputs: […], outputs: […] }`
      hint: declare it, or say where the packages are with `--packages`
    ");
}

#[test]
fn broken_bundles_are_refused() {
    let good = bundle(SMALL).as_bytes().to_vec();
    let refusal = |bytes: &[u8]| Bundle::load(AlignedBytes::copy_of(bytes)).unwrap_err().to_string();
    assert_snapshot!(refusal(b"routes:"), @"not a Lockgate policy bundle: the first bytes are not `LOCKGATE`");
    assert_snapshot!(refusal(&good[..good.len() / 2]), @"the policy bundle is truncated or has bytes behind its end: 999 bytes are there");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    assert!(matches!(
        Bundle::load(AlignedBytes::copy_of(&flipped)),
        Err(LoadError::Envelope(lockgate_package::EnvelopeError::DigestMismatch { .. }))
    ));
    let newer = EnvelopeBuilder::new(Kind::Bundle, (2, 0), Vec::new()).seal().unwrap();
    assert_snapshot!(refusal(&newer), @"the policy bundle has format 2.0, this program reads formats up to 1.x; use a newer Lockgate");
    let package = EnvelopeBuilder::new(Kind::Package, (1, 0), Vec::new()).seal().unwrap();
    assert_snapshot!(refusal(&package), @"expected a policy bundle, found a model package");
    let empty = EnvelopeBuilder::new(Kind::Bundle, (1, 0), Vec::new()).seal().unwrap();
    assert_snapshot!(refusal(&empty), @"the policy bundle is malformed: section `meta`: it cannot be read");
    assert_snapshot!(refusal(&edited("digests", |bytes| bytes.truncate(1))), @"the policy bundle is malformed: section `digests`: not one digest per model");
    assert_snapshot!(refusal(&edited("string-bytes", |bytes| bytes[0] = 0xff)), @"the policy bundle is malformed: section `string-bytes`: it is not UTF-8");
    assert_snapshot!(refusal(&edited("routes", |bytes| bytes[12] = 9)), @"the policy bundle is malformed: section `routes`: a baseline does not exist");
    assert_snapshot!(refusal(&edited("intervals", |bytes| bytes[..4].fill(0))), @"the policy bundle is malformed: section `intervals`: the intervals are not in order");
}

#[test]
fn a_newer_minor_format_is_read() {
    let envelope = opened();
    let mut builder = EnvelopeBuilder::new(Kind::Bundle, (1, 9), envelope.meta().to_vec());
    for name in envelope.section_names() {
        builder.section(name, envelope.bytes_of(envelope.section(name).unwrap()).to_vec());
    }
    builder.section("from-the-future", vec![1, 2, 3]);
    assert_eq!(crate::load(&builder.seal().unwrap()).route_count(), 2);
}

fn opened() -> Envelope {
    let bytes = AlignedBytes::copy_of(bundle(SMALL).as_bytes());
    Envelope::open(bytes, Kind::Bundle, (1, 0)).unwrap()
}

/// The small bundle with one section changed and sealed again.
fn edited(section: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    resealed(&opened(), section, edit)
}

fn resealed(envelope: &Envelope, section: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut builder = EnvelopeBuilder::new(Kind::Bundle, (1, 0), envelope.meta().to_vec());
    let mut edit = Some(edit);
    for name in envelope.section_names() {
        let mut bytes = envelope.bytes_of(envelope.section(name).unwrap()).to_vec();
        if name == section {
            edit.take().unwrap()(&mut bytes);
        }
        builder.section(name, bytes);
    }
    builder.seal().unwrap()
}

/// Uses everything that a bundle offers; it may answer nonsense, but it must answer.
fn exercise(bundle: &Bundle) {
    for words in [
        "one",
        "one user=a",
        "one user=o tenant=t",
        "one symbol=C n=2",
        "one symbol=Z user=z",
        "two user=a",
        "x",
    ] {
        let context = context(words);
        let decision = bundle.decide(&context, 0, &[]);
        let trace = lockgate_policy::explain(bundle, &context, 0, &[]);
        assert_eq!(decision.is_ok(), trace.is_ok());
        let _ = trace.map(|trace| trace.to_string());
    }
    for route in bundle.routes() {
        let _ = (route.name(), route.description(), route.signature(), route.baseline());
        assert!(route.variants().all(|variant| variant.payload.is_none_or(|payload| payload.len() < 1000)));
    }
    assert!(bundle.models().count() < 1000);
}

#[test]
fn every_flipped_bit_of_every_section_loads_or_is_refused() {
    let envelope = opened();
    let names: Vec<String> = envelope.section_names().map(str::to_owned).collect();
    let (mut loaded, mut refused) = (0, 0);
    for name in &names {
        let len = envelope.bytes_of(envelope.section(name).unwrap()).len();
        for at in 0..len {
            for bit in [0, 3, 7] {
                let bytes = resealed(&envelope, name, |bytes| bytes[at] ^= 1 << bit);
                match Bundle::load(AlignedBytes::copy_of(&bytes)) {
                    Ok(bundle) => {
                        loaded += 1;
                        exercise(&bundle);
                    }
                    Err(LoadError::Malformed { .. }) => refused += 1,
                    Err(other) => panic!("{name} {at}: {other}"),
                }
            }
        }
    }
    assert!(loaded > 100 && refused > 1000, "{loaded} loaded, {refused} refused");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn sections_of_random_bytes_load_or_are_refused(section in 0_usize..17, at in any::<prop::sample::Index>(), random in prop::collection::vec(any::<u8>(), 0..64), replace in any::<bool>()) {
        let envelope = opened();
        let name = envelope.section_names().nth(section).unwrap().to_owned();
        let bytes = resealed(&envelope, &name, |bytes| {
            if replace || bytes.is_empty() {
                *bytes = random;
            } else {
                let start = at.index(bytes.len());
                bytes.splice(start..(start + random.len()).min(bytes.len()), random);
            }
        });
        if let Ok(bundle) = Bundle::load(AlignedBytes::copy_of(&bytes)) {
            exercise(&bundle);
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Bundle::load(AlignedBytes::copy_of(&bytes)).is_err());
    }
}
