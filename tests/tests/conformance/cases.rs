//! The cases of `tests/errors.json`: contents and requests that must be refused, each by a certain code. The tests of the Spin application
//! include this module too.

use std::collections::BTreeMap;

use lockgate_abi::Failure;
use lockgate_package::{Datatype, Digest, Tensor};
use lockgate_policy::{Compiled, RequestContext};
use serde::Deserialize;
use serde_json::Value;

use crate::example;

#[derive(Deserialize)]
struct Cases {
    load: Vec<Load>,
    predict: Vec<Predict>,
    decide: Vec<Decide>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    name: String,
    into: String,
    contents: Vec<Content>,
    code: String,
}

/// An object with changes; a negative place counts from the end of its content.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    object: String,
    xor: Option<(i64, u8)>,
    set: Option<(i64, u8)>,
    cut: Option<usize>,
    keep: Option<usize>,
    #[serde(default)]
    rehash: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Predict {
    name: String,
    /// A model that is not loaded; without it, the one that is.
    model: Option<String>,
    inputs: Vec<Input>,
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    datatype: Datatype,
    shape: Vec<i64>,
    fill: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decide {
    name: String,
    context: RequestContext,
    code: String,
}

/// What takes contents and requests, as `docs/abi.md` says.
pub(crate) trait Instance {
    fn load(&mut self, bytes: &[u8]) -> Result<(), Failure>;
    fn predict(&mut self, model: u32, inputs: &[Tensor]) -> Result<(), Failure>;
    fn decide(&mut self, context: &RequestContext) -> Result<(), Failure>;
}

/// How many cases there are; fails when one of them is not refused, or by another code. `listed` is a bundle that names unit lists, with
/// those; `instance` makes a new instance of a module.
pub(crate) fn compare(listed: &Compiled, instance: &dyn Fn(&str) -> Box<dyn Instance>) -> usize {
    let text = std::fs::read(lockgate_tests::root().join("tests/errors.json")).unwrap();
    let cases: Cases = serde_json::from_slice(&text).unwrap();
    let objects = objects(listed);
    let mut problems = Vec::new();
    let mut compared = 0;
    let mut check = |name: &str, code: &str, answer: Result<(), Failure>| {
        let found = answer.err().filter(|failure| !failure.message.is_empty());
        let found = found.map_or("nothing", |failure| failure.code.name());
        if found != code {
            problems.push(format!("{name}: {found} instead of {code}"));
        }
        compared += 1;
    };
    for case in &cases.load {
        let mut instance = instance(&case.into);
        let contents: Vec<_> = case.contents.iter().map(|content| content.bytes(&objects)).collect();
        let (last, before) = contents.split_last().unwrap();
        for bytes in before {
            let loaded = instance.load(bytes);
            // A list is looked into together with its bundle.
            assert!(loaded.is_ok(), "{}: {loaded:?} too early", case.name);
        }
        check(&case.name, &case.code, instance.load(last));
    }
    let mut inference = instance("inference-tabular");
    inference.load(&objects["eurusd_gb"]).unwrap();
    for case in &cases.predict {
        let inputs: Vec<_> = case.inputs.iter().map(Input::tensor).collect();
        let model = u32::from(case.model.is_some());
        check(&case.name, &case.code, inference.predict(model, &inputs));
    }
    let good = Tensor::fp32("input", vec![1, 17], &[0.0; 17]);
    assert_eq!(inference.predict(0, &[good]), Ok(()), "the instance goes on");
    let mut policy = instance("policy");
    policy.load(&objects["bundle"]).unwrap();
    for case in &cases.decide {
        check(&case.name, &case.code, policy.decide(&case.context));
    }
    assert_eq!(policy.decide(&RequestContext::new("eurusd-direction")), Ok(()), "the instance goes on");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    compared
}

/// What the cases call objects.
fn objects(listed: &Compiled) -> BTreeMap<String, Vec<u8>> {
    let mut objects = example::packages().clone();
    objects.insert("bundle".to_owned(), example::bundle(None));
    objects.insert("list".to_owned(), listed.objects[0].bytes.clone());
    objects.insert("listed".to_owned(), listed.bundle.clone());
    objects
}

impl Content {
    fn bytes(&self, objects: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
        let mut bytes = objects[&self.object].clone();
        // Where the content ends and the trailer, which has its digest, begins.
        let end = u64::from_le_bytes(*bytes[24..].first_chunk().unwrap()) as usize;
        let before = Digest::of(&bytes[..end]);
        let place = |at: i64| if at < 0 { end - at.unsigned_abs() as usize } else { at as usize };
        if let Some((at, mask)) = self.xor {
            bytes[place(at)] ^= mask;
        }
        if let Some((at, value)) = self.set {
            bytes[place(at)] = value;
        }
        if self.rehash {
            let after = Digest::of(&bytes[..end]);
            let at = bytes[end..].windows(32).position(|window| window == before.0).unwrap();
            bytes[end + at..][..32].copy_from_slice(&after.0);
        }
        bytes.truncate(self.keep.unwrap_or(bytes.len() - self.cut.unwrap_or(0)));
        bytes
    }
}

impl Input {
    fn tensor(&self) -> Tensor {
        let Self { name, datatype, shape, fill } = self;
        let value = fill.as_f64().unwrap_or_else(|| fill.as_str().unwrap().parse().unwrap());
        let element = match datatype {
            Datatype::Fp32 => (value as f32).to_le_bytes().to_vec(),
            Datatype::Fp64 => value.to_le_bytes().to_vec(),
            other => panic!("no case has {other} yet"),
        };
        let count = shape.iter().product::<i64>() as usize;
        Tensor { name: name.clone(), datatype: *datatype, shape: shape.clone(), data: element.repeat(count) }
    }
}
