//! The flat entry point of the policy module, called through wasmtime without `host/runtime`: both forms of a decision, and
//! what is refused.

use lockgate_abi::{
    AttributeValue, CompactDecision, ContextFields, DecideRequestWriter, DecisionRecord, ErrorCode, Reply,
};
use lockgate_core::CoreModules;
use lockgate_package::AlignedBytes;
use lockgate_policy::{Bundle, Decision};
use lockgate_runtime::{Attribute, Context};
use lockgate_tests::core_dir;
use wasmtime::{Engine, Instance, Memory, Module, Store, TypedFunc};

use crate::decisions::{NOW, bundle, contexts, native_context};

/// An instance of a module.
pub(crate) struct Guest {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Guest {
    /// An instance of the policy module.
    pub(crate) fn new() -> Self {
        let module = CoreModules::from_dir(&core_dir()).unwrap().policy;
        Self::of(&Module::new(&Engine::default(), module.bytes()).unwrap())
    }

    /// An instance of any module of the core.
    pub(crate) fn of(module: &Module) -> Self {
        let mut store = Store::new(module.engine(), ());
        let instance = Instance::new(&mut store, module, &[]).unwrap();
        let memory = instance.get_memory(&mut store, "memory").unwrap();
        Self { store, instance, memory }
    }

    fn function(&mut self, name: &str) -> TypedFunc<u32, u32> {
        self.instance.get_typed_func(&mut self.store, name).unwrap()
    }

    /// Calls `lockgate_load`, `lockgate_decide` or `lockgate_predict`, and returns the memory and the response's address.
    pub(crate) fn call(&mut self, name: &str, bytes: &[u8]) -> (&[u8], u32) {
        let len = u32::try_from(bytes.len()).unwrap();
        let address = self.function("lockgate_reserve").call(&mut self.store, len).unwrap();
        self.memory.write(&mut self.store, address as usize, bytes).unwrap();
        let address = self.function(name).call(&mut self.store, len).unwrap();
        (self.memory.data(&self.store), address)
    }

    pub(crate) fn load(&mut self, bytes: &[u8]) -> Result<u32, ErrorCode> {
        let (memory, address) = self.call("lockgate_load", bytes);
        match Reply::read(memory, address).unwrap() {
            Reply::Done(response) => Ok(response.count),
            Reply::Failed(failure) => Err(failure.code),
        }
    }
}

/// A decide request of these contexts.
pub(crate) fn request(contexts: &[(String, Context)], unavailable: &[[u8; 32]], compact: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let writer = DecideRequestWriter::new(&mut out, NOW);
    let mut writer = if compact { writer.compact() } else { writer };
    for (route, context) in contexts {
        let fields = ContextFields {
            route,
            user: context.user.as_deref(),
            symbol: context.symbol.as_deref(),
            tenant: context.tenant.as_deref(),
            session: context.session.as_deref(),
            variant: context.variant.as_deref(),
        };
        let attributes = context.attributes.iter().map(|(name, value)| {
            let value = match value {
                Attribute::Text(text) => AttributeValue::Text(text),
                Attribute::Number(number) => AttributeValue::Number(*number),
                Attribute::Boolean(value) => AttributeValue::Boolean(*value),
            };
            (name.as_str(), value)
        });
        writer.context(&fields, attributes).unwrap();
    }
    writer.finish(unavailable).unwrap();
    out
}

fn compact(decision: &Decision<'_>) -> CompactDecision {
    CompactDecision {
        reason: decision.reason.number(),
        step: decision.step.number(),
        unit_missing: decision.unit_missing,
        holdout: decision.holdout,
        washout: decision.washout,
        unavailable: decision.unavailable,
        route_index: decision.route_index,
        variant_index: decision.variant_index,
        intended_index: decision.intended_index,
        target_index: decision.target_index,
        bucket: decision.bucket,
        stage: decision.stage,
        window: decision.window,
        shadow_mask: decision.shadow_mask,
    }
}

#[test]
fn both_forms_say_what_the_native_evaluator_says() {
    let (bytes, _) = bundle();
    let native = Bundle::load(AlignedBytes::copy_of(&bytes)).unwrap();
    let down = [native.models().next().unwrap().digest.0];
    let mut guest = Guest::new();
    guest.load(&bytes).unwrap();
    let contexts = contexts();
    let mut fallbacks = 0;
    for (number, batch) in contexts.chunks(256).enumerate() {
        let unavailable = if number % 2 == 0 { &down[..] } else { &[] };
        let expected: Vec<_> = batch
            .iter()
            .map(|(route, context)| native.decide(&native_context(route, context), NOW, unavailable).ok())
            .collect();

        let (memory, address) = guest.call("lockgate_decide", &request(batch, unavailable, true));
        let Reply::Done(response) = Reply::read(memory, address).unwrap() else { panic!() };
        assert_eq!((response.bundle_version, response.digest), (native.version(), native.digest().0));
        let decisions: Vec<_> = response.compact_decisions().unwrap().collect::<Result<_, _>>().unwrap();
        let wanted: Vec<_> = expected.iter().map(|decision| decision.as_ref().map(compact)).collect();
        assert_eq!(decisions, wanted);

        let (memory, address) = guest.call("lockgate_decide", &request(batch, unavailable, false));
        let Reply::Done(response) = Reply::read(memory, address).unwrap() else { panic!() };
        for (decision, expected) in response.decisions().zip(&expected) {
            let (Some((decision, shadows)), Some(expected)) = (decision.unwrap(), expected) else {
                assert!(expected.is_none());
                continue;
            };
            fallbacks += usize::from(expected.intended_index.is_some());
            let variant = expected.variant();
            let wanted = DecisionRecord {
                compact: compact(expected),
                placement: variant.placement.number(),
                variant: variant.name,
                model: variant.model,
                version: variant.version,
                rule: expected.rule(),
                layer: expected.layer(),
                payload: variant.payload,
                package: variant.digest.0,
                tenant: expected.route().tenant(),
                user: expected.route().user(),
                intended: expected.intended().map(|variant| variant.name),
            };
            assert_eq!(decision, wanted);
            let shadows: Vec<_> = shadows.map(Result::unwrap).collect();
            assert_eq!(shadows.len(), expected.shadows().count());
            for (have, want) in shadows.iter().zip(expected.shadows()) {
                assert_eq!(
                    (have.name, have.variant, have.package),
                    (want.name, want.variant.name, want.variant.digest.0)
                );
                let limits = (have.rate, have.concurrency, have.bytes, have.deadline_ms);
                let want = want.limits;
                assert_eq!(limits, (want.rate, want.concurrency, want.bytes, want.deadline_ms));
                assert_eq!(decision.compact.shadow_mask >> have.number & 1, 1);
            }
        }
    }
    assert!(fallbacks > 100, "{fallbacks} fallbacks");
}

#[test]
fn a_second_bundle_and_bytes_that_are_none_are_refused() {
    let (bytes, _) = bundle();
    let mut guest = Guest::new();
    assert_eq!(guest.load(b"LOCKGATE"), Err(ErrorCode::MalformedEnvelope));
    assert_eq!(guest.load(&bytes), Ok(0));
    assert_eq!(guest.load(&bytes), Err(ErrorCode::AlreadyLoaded));
}
