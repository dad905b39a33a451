//! A core without modules: the evaluator natively, and models that multiply.

use std::collections::BTreeMap;

use lockgate_abi::{
    AttributeValue, CompactDecision, ContextRecord, DecideRequest, DecideResponseWriter, DecisionRecord,
    PredictRequest, ShadowRecord, write_predict_response,
};
use lockgate_edge::{Catalog, Core, CoreFault};
use lockgate_package::plan::explain::{BASE, CONTRIBUTIONS};
use lockgate_package::{AlignedBytes, Datatype, Digest, Manifest, Tensor};
use lockgate_policy::{Attribute, Bundle, CompileOptions, PackageRef, RequestContext, check, compile, parse};

pub(crate) struct NativeCore {
    bundle: Bundle,
    /// What each package multiplies by, by its handle.
    packages: Vec<(Digest, f32)>,
    pub(crate) is_flat: bool,
    /// Packages whose bytes are not at hand.
    pub(crate) lost: Vec<Digest>,
    /// The next call fails so.
    pub(crate) fault: Option<CoreFault>,
    pub(crate) dropped: usize,
    pub(crate) predictions: usize,
    /// What the last prediction was asked for besides.
    pub(crate) options: Vec<(String, String)>,
}

/// The policy's models by name, and what they multiply by.
pub(crate) type Models<'a> = &'a [(&'a str, &'a str, f32)];

fn manifest(model: &str, version: &str) -> Manifest {
    let text = format!(
        r#"{{"model":"{model}","version":"{version}","engine":"tabular","source_digest":"{:064}","operations_per_row":10,
            "signature":{{"inputs":[{{"name":"x","datatype":"FP32","shape":[-1,1]}}],
            "outputs":[{{"name":"y","datatype":"FP32","shape":[-1,1]}}]}}}}"#,
        0
    );
    serde_json::from_str(&text).unwrap()
}

pub(crate) fn digest_of(model: &str, version: &str) -> Digest {
    Digest::of(format!("{model}@{version}").as_bytes())
}

/// A core that runs those of the models that are placed at an edge, and the catalogue of its bundle.
pub(crate) fn core(policy: &str, version: u64, models: Models<'_>) -> (NativeCore, Catalog) {
    let manifests: BTreeMap<Digest, Manifest> = models
        .iter()
        .map(|(model, version, _)| (digest_of(model, version), manifest(model, version)))
        .collect();
    let packages: Vec<PackageRef> =
        manifests.iter().map(|(digest, manifest)| PackageRef::new(manifest, *digest)).collect();
    let policy = parse("policy.yaml", policy).and_then(|source| check(&source));
    let policy = policy.unwrap_or_else(|problems| panic!("{problems}"));
    let options = CompileOptions { version: Some(version), packages: &packages, ..CompileOptions::default() };
    let compiled = compile(&policy, &options).unwrap_or_else(|problems| panic!("{problems}"));
    let bundle = Bundle::load(AlignedBytes::copy_of(&compiled.bundle)).unwrap();
    let catalog =
        Catalog::new(&bundle, manifests.iter().map(|(digest, manifest)| (*digest, manifest))).unwrap();
    let packages = models.iter().map(|(model, version, by)| (digest_of(model, version), *by)).collect();
    let core = NativeCore {
        bundle,
        packages,
        is_flat: true,
        lost: Vec::new(),
        fault: None,
        dropped: 0,
        predictions: 0,
        options: Vec::new(),
    };
    (core, catalog)
}

/// What a package of these models says to inputs.
pub(crate) fn multiplied(inputs: &[Tensor], by: f32) -> Vec<Tensor> {
    let x = &inputs[0];
    let values: Vec<f32> = x.to_fp32().unwrap().iter().map(|value| value * by).collect();
    vec![Tensor::fp32("y", x.shape.clone(), &values)]
}

/// The same with contributions: the one feature's is everything.
pub(crate) fn explained(mut outputs: Vec<Tensor>) -> Vec<Tensor> {
    let y = &outputs[0];
    let doubles = |name: &str, shape: Vec<i64>, by: f64| Tensor {
        name: name.to_owned(),
        datatype: Datatype::Fp64,
        shape,
        data: y.to_fp32().unwrap().iter().flat_map(|y| (by * f64::from(*y)).to_le_bytes()).collect(),
    };
    let more = [doubles(CONTRIBUTIONS, y.shape.clone(), 1.0), doubles(BASE, vec![y.shape[0]], 0.0)];
    outputs.extend(more);
    outputs
}

fn context(record: &ContextRecord<'_>) -> RequestContext {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let fields = &record.fields;
    let attributes = record.attributes().map(|(name, value)| {
        let value = match value {
            AttributeValue::Text(text) => Attribute::Text(text.to_owned()),
            AttributeValue::Number(number) => Attribute::Number(number),
            AttributeValue::Boolean(value) => Attribute::Boolean(value),
        };
        (name.to_owned(), value)
    });
    RequestContext {
        user: text(fields.user),
        symbol: text(fields.symbol),
        tenant: text(fields.tenant),
        session: text(fields.session),
        variant: text(fields.variant),
        attributes: attributes.collect(),
        ..RequestContext::new(fields.route)
    }
}

impl Core for NativeCore {
    fn is_flat(&self) -> bool {
        self.is_flat
    }

    fn decide(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        let request = DecideRequest::parse(request).unwrap();
        assert!(self.is_flat || !request.compact, "compact decisions are asked of flat cores alone");
        let (version, digest) = (self.bundle.version(), self.bundle.digest().0);
        let mut writer = if request.compact {
            DecideResponseWriter::compact(response, version, &digest, 100).unwrap()
        } else {
            DecideResponseWriter::new(response, version, &digest)
        };
        for record in request.contexts() {
            let context = context(&record.unwrap());
            let decision = self.bundle.decide(&context, request.now_ms, request.unavailable);
            let Ok(decision) = decision else {
                if request.compact { writer.compact_unknown_route() } else { writer.unknown_route() }
                    .unwrap();
                continue;
            };
            // A component numbers as it likes.
            let own = |number: u32| if self.is_flat { number } else { 1000 + number };
            let compact = CompactDecision {
                reason: decision.reason.number(),
                step: decision.step.number(),
                unit_missing: decision.unit_missing,
                holdout: decision.holdout,
                washout: decision.washout,
                unavailable: decision.unavailable,
                route_index: own(decision.route_index),
                variant_index: own(decision.variant_index),
                intended_index: decision.intended_index.map(own),
                target_index: decision.target_index.map(own),
                bucket: decision.bucket,
                stage: decision.stage,
                window: decision.window,
                shadow_mask: decision.shadow_mask,
            };
            if request.compact {
                writer.compact_decision(&compact).unwrap();
                continue;
            }
            let (route, variant) = (decision.route(), decision.variant());
            let record = DecisionRecord {
                compact,
                placement: variant.placement.number(),
                variant: variant.name,
                model: variant.model,
                version: variant.version,
                rule: decision.rule(),
                layer: decision.layer(),
                payload: variant.payload,
                package: variant.digest.0,
                tenant: route.tenant(),
                user: route.user(),
                intended: decision.intended().map(|variant| variant.name),
            };
            let shadows = decision.shadows().map(|shadow| ShadowRecord {
                number: 0,
                name: shadow.name,
                variant_index: own(shadow.variant_index),
                variant: shadow.variant.name,
                model: shadow.variant.model,
                version: shadow.variant.version,
                placement: shadow.variant.placement.number(),
                package: shadow.variant.digest.0,
                rate: shadow.limits.rate,
                concurrency: shadow.limits.concurrency,
                bytes: shadow.limits.bytes,
                deadline_ms: shadow.limits.deadline_ms,
            });
            let shadows: Vec<ShadowRecord<'_>> = shadows.collect();
            writer.decision(&record, shadows.into_iter()).unwrap();
        }
        writer.finish().unwrap();
        Ok(())
    }

    fn predict(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        self.predictions += 1;
        let request = PredictRequest::parse(request).unwrap();
        let inputs: Vec<Tensor> = request.inputs().map(|input| input.unwrap().to_tensor().unwrap()).collect();
        let (digest, by) = self.packages[request.model as usize];
        let options = request.options().map(|option| option.unwrap());
        self.options = options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut outputs = multiplied(&inputs, by);
        if self.options.iter().any(|(name, _)| name == CONTRIBUTIONS) {
            outputs = explained(outputs);
        }
        let views: Vec<_> = outputs.iter().map(Tensor::view).collect();
        write_predict_response(response, &digest.0, views.iter().copied(), std::iter::empty()).unwrap();
        Ok(())
    }

    fn handle(&mut self, package: &Digest) -> Option<u32> {
        let place =
            self.packages.iter().position(|(have, _)| have == package && !self.lost.contains(package))?;
        u32::try_from(place).ok()
    }

    fn drop_policy(&mut self) {
        self.dropped += 1;
    }

    fn drop_inference(&mut self) {
        self.dropped += 1;
    }

    fn policy_identity(&self) -> Digest {
        Digest([1; 32])
    }

    fn inference_identity(&self) -> Digest {
        Digest([2; 32])
    }
}
