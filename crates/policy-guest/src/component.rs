//! The world `policy-core`.

use std::cell::RefCell;

use lockgate_abi::{ContextFields, Failure};
use lockgate_package::{AlignedBytes, Digest};
use lockgate_policy::{Attribute, ShadowLimits};

use crate::view::View;

use self::bindings::exports::lockgate::core::policy::{
    AttributeValue, Bundle, ContextBorrow, Decision, Error, Guest, GuestBundle, GuestContext, GuestDecision,
    GuestShadow, Placement, Reason, Shadow, Step,
};
use self::bindings::exports::lockgate::core::types::ErrorCode;

#[expect(unsafe_code, reason = "the canonical ABI, as wit-bindgen generates it")]
mod bindings {
    use super::Component;

    wit_bindgen::generate!({ path: "../../wit", world: "policy-core" });
    export!(Component);
}

struct Component;

impl Guest for Component {
    type Context = OwnedContext;
    type Decision = OwnedDecision;
    type Bundle = OwnedBundle;
    type Shadow = OwnedShadow;
}

#[derive(Default)]
struct OwnedContext(RefCell<ContextParts>);

/// A context under construction.
#[derive(Default)]
pub(crate) struct ContextParts {
    pub(crate) route: String,
    pub(crate) user: Option<String>,
    pub(crate) symbol: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) session: Option<String>,
    pub(crate) variant: Option<String>,
    pub(crate) attributes: Vec<(String, Attribute)>,
}

impl ContextParts {
    fn fields(&self) -> ContextFields<'_> {
        ContextFields {
            route: &self.route,
            user: self.user.as_deref(),
            symbol: self.symbol.as_deref(),
            tenant: self.tenant.as_deref(),
            session: self.session.as_deref(),
            variant: self.variant.as_deref(),
        }
    }
}

impl OwnedContext {
    fn with(&self, change: impl FnOnce(&mut ContextParts)) {
        change(&mut self.0.borrow_mut());
    }
}

impl GuestContext for OwnedContext {
    fn new(route: String) -> Self {
        Self(RefCell::new(ContextParts { route, ..ContextParts::default() }))
    }

    fn set_user(&self, value: String) {
        self.with(|context| context.user = Some(value));
    }

    fn set_symbol(&self, value: String) {
        self.with(|context| context.symbol = Some(value));
    }

    fn set_tenant(&self, value: String) {
        self.with(|context| context.tenant = Some(value));
    }

    fn set_session(&self, value: String) {
        self.with(|context| context.session = Some(value));
    }

    fn set_variant(&self, value: String) {
        self.with(|context| context.variant = Some(value));
    }

    fn set_attribute(&self, name: String, value: AttributeValue) {
        let value = match value {
            AttributeValue::Text(text) => Attribute::Text(text),
            AttributeValue::Number(number) => Attribute::Number(number),
            AttributeValue::Boolean(boolean) => Attribute::Boolean(boolean),
        };
        self.with(|context| match context.attributes.iter_mut().find(|(have, _)| *have == name) {
            Some((_, have)) => *have = value,
            None => context.attributes.push((name, value)),
        });
    }
}

/// A decision that outlives its bundle.
struct OwnedDecision {
    route: String,
    tenant: Option<String>,
    user: Option<String>,
    served: OwnedVariant,
    intended: Option<String>,
    payload: Option<String>,
    reason: Reason,
    step: Step,
    rule: Option<String>,
    layer: Option<String>,
    bucket: Option<u32>,
    stage: Option<u32>,
    window: Option<u32>,
    unit_missing: bool,
    holdout: bool,
    washout: bool,
    unavailable: bool,
    shadows: Vec<OwnedShadow>,
}

#[derive(Clone)]
struct OwnedVariant {
    name: String,
    model: String,
    version: String,
    package: Digest,
    placement: Placement,
}

#[derive(Clone)]
struct OwnedShadow {
    name: String,
    variant: OwnedVariant,
    limits: ShadowLimits,
}

impl From<lockgate_policy::VariantView<'_>> for OwnedVariant {
    fn from(variant: lockgate_policy::VariantView<'_>) -> Self {
        Self {
            name: variant.name.to_owned(),
            model: variant.model.to_owned(),
            version: variant.version.to_owned(),
            package: variant.digest,
            placement: match variant.placement {
                lockgate_policy::Placement::Edge => Placement::Edge,
                lockgate_policy::Placement::Host => Placement::Host,
                lockgate_policy::Placement::Gpu => Placement::Gpu,
            },
        }
    }
}

impl From<&lockgate_policy::Decision<'_>> for OwnedDecision {
    fn from(decision: &lockgate_policy::Decision<'_>) -> Self {
        let route = decision.route();
        let shadow = |shadow: lockgate_policy::ShadowView<'_>| OwnedShadow {
            name: shadow.name.to_owned(),
            variant: shadow.variant.into(),
            limits: shadow.limits,
        };
        Self {
            route: route.name().to_owned(),
            tenant: route.tenant().map(str::to_owned),
            user: route.user().map(str::to_owned),
            payload: decision.variant().payload.map(str::to_owned),
            served: decision.variant().into(),
            intended: decision.intended().map(|variant| variant.name.to_owned()),
            reason: match decision.reason {
                lockgate_policy::Reason::Static => Reason::StaticValue,
                lockgate_policy::Reason::Default => Reason::DefaultValue,
                lockgate_policy::Reason::TargetingMatch => Reason::TargetingMatch,
                lockgate_policy::Reason::Split => Reason::Split,
                lockgate_policy::Reason::Disabled => Reason::Disabled,
                lockgate_policy::Reason::Error => Reason::Error,
            },
            step: match decision.step {
                lockgate_policy::Step::Disabled => Step::Disabled,
                lockgate_policy::Step::Scope => Step::Scope,
                lockgate_policy::Step::Override => Step::OverrideEntry,
                lockgate_policy::Step::Holdout => Step::Holdout,
                lockgate_policy::Step::TestGroup => Step::TestGroup,
                lockgate_policy::Step::SymbolRollout => Step::SymbolRollout,
                lockgate_policy::Step::Rule => Step::Rule,
                lockgate_policy::Step::Default => Step::DefaultSplit,
                lockgate_policy::Step::Fallback => Step::Fallback,
            },
            rule: decision.rule().map(str::to_owned),
            layer: decision.layer().map(str::to_owned),
            bucket: decision.bucket,
            stage: decision.stage,
            window: decision.window,
            unit_missing: decision.unit_missing,
            holdout: decision.holdout,
            washout: decision.washout,
            unavailable: decision.unavailable,
            shadows: decision.shadows().map(shadow).collect(),
        }
    }
}

impl GuestShadow for OwnedShadow {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn variant(&self) -> String {
        self.variant.name.clone()
    }

    fn model(&self) -> String {
        self.variant.model.clone()
    }

    fn version(&self) -> String {
        self.variant.version.clone()
    }

    fn package_digest(&self) -> Vec<u8> {
        self.variant.package.0.to_vec()
    }

    fn placement(&self) -> Placement {
        self.variant.placement
    }

    fn rate(&self) -> u32 {
        self.limits.rate
    }

    fn concurrency(&self) -> u32 {
        self.limits.concurrency
    }

    fn bytes(&self) -> u32 {
        self.limits.bytes
    }

    fn deadline_ms(&self) -> u32 {
        self.limits.deadline_ms
    }
}

impl GuestDecision for OwnedDecision {
    fn route(&self) -> String {
        self.route.clone()
    }

    fn variant(&self) -> String {
        self.served.name.clone()
    }

    fn model(&self) -> String {
        self.served.model.clone()
    }

    fn version(&self) -> String {
        self.served.version.clone()
    }

    fn package_digest(&self) -> Vec<u8> {
        self.served.package.0.to_vec()
    }

    fn placement(&self) -> Placement {
        self.served.placement
    }

    fn payload(&self) -> Option<String> {
        self.payload.clone()
    }

    fn reason(&self) -> Reason {
        self.reason
    }

    fn step(&self) -> Step {
        self.step
    }

    fn rule(&self) -> Option<String> {
        self.rule.clone()
    }

    fn layer(&self) -> Option<String> {
        self.layer.clone()
    }

    fn bucket(&self) -> Option<u32> {
        self.bucket
    }

    fn unit_missing(&self) -> bool {
        self.unit_missing
    }

    fn tenant(&self) -> Option<String> {
        self.tenant.clone()
    }

    fn user(&self) -> Option<String> {
        self.user.clone()
    }

    fn intended_variant(&self) -> Option<String> {
        self.intended.clone()
    }

    fn stage(&self) -> Option<u32> {
        self.stage
    }

    fn window(&self) -> Option<u32> {
        self.window
    }

    fn holdout(&self) -> bool {
        self.holdout
    }

    fn washout(&self) -> bool {
        self.washout
    }

    fn unavailable(&self) -> bool {
        self.unavailable
    }

    fn shadows(&self) -> Vec<Shadow> {
        self.shadows.iter().cloned().map(Shadow::new).collect()
    }
}

/// A bundle that was loaded through this world; `None` stands for the one that the module was baked with.
struct OwnedBundle(Option<lockgate_policy::Bundle>);

impl OwnedBundle {
    fn with<R>(&self, ask: impl FnOnce(&lockgate_policy::Bundle) -> R) -> R {
        crate::flat::with_bundle(|baked| match self.0.as_ref().or(baked) {
            Some(bundle) => ask(bundle),
            // A handle without a bundle is given out when there is a baked one, and an instance never loses that.
            None => std::process::abort(),
        })
    }

    fn decide_one(
        &self,
        context: &OwnedContext,
        now: i64,
        unavailable: &[[u8; 32]],
    ) -> Result<Decision, Error> {
        let context = context.0.borrow();
        #[cfg(feature = "fault")]
        if let Some(mark) = context.user.as_deref().and_then(lockgate_abi::fault::Mark::of_user) {
            mark.act();
        }
        self.with(|bundle| {
            match bundle.decide(&View::of_parts(&context.fields(), &context), now, unavailable) {
                Ok(decision) => Ok(Decision::new(OwnedDecision::from(&decision))),
                Err(_) => Err(crate::unknown_route().into()),
            }
        })
    }
}

impl GuestBundle for OwnedBundle {
    fn load(bytes: Vec<u8>) -> Result<Bundle, Error> {
        Self::load_with_objects(bytes, Vec::new())
    }

    fn load_with_objects(bytes: Vec<u8>, objects: Vec<Vec<u8>>) -> Result<Bundle, Error> {
        let bundle = AlignedBytes::copy_of(&bytes);
        drop(bytes);
        let objects = objects.into_iter().map(|object| AlignedBytes::copy_of(&object)).collect();
        Ok(Bundle::new(Self(Some(crate::load(bundle, objects)?))))
    }

    fn baked() -> Option<Bundle> {
        crate::flat::with_bundle(|baked| baked.map(|_| ())).map(|()| Bundle::new(Self(None)))
    }

    fn version(&self) -> u64 {
        self.with(lockgate_policy::Bundle::version)
    }

    fn digest(&self) -> Vec<u8> {
        self.with(|bundle| bundle.digest().0.to_vec())
    }

    fn parent(&self) -> Option<Vec<u8>> {
        self.with(|bundle| bundle.parent().map(|digest| digest.0.to_vec()))
    }

    fn routes(&self) -> Vec<String> {
        self.with(|bundle| bundle.routes().map(|route| route.name().to_owned()).collect())
    }

    fn decide(
        &self,
        context: ContextBorrow<'_>,
        now: i64,
        unavailable: Vec<Vec<u8>>,
    ) -> Result<Decision, Error> {
        self.decide_one(context.get(), now, &digests(&unavailable)?)
    }

    fn decide_batch(
        &self,
        contexts: Vec<ContextBorrow<'_>>,
        now: i64,
        unavailable: Vec<Vec<u8>>,
    ) -> Vec<Result<Decision, Error>> {
        let unavailable = digests(&unavailable);
        let decide = |context: &ContextBorrow<'_>| match &unavailable {
            Ok(unavailable) => self.decide_one(context.get(), now, unavailable),
            Err(failure) => Err(failure.clone().into()),
        };
        contexts.iter().map(decide).collect()
    }
}

fn digests(lists: &[Vec<u8>]) -> Result<Vec<[u8; 32]>, Failure> {
    let digest = |bytes: &Vec<u8>| bytes.as_slice().try_into();
    lists.iter().map(digest).collect::<Result<_, _>>().map_err(|_| Failure {
        code: lockgate_abi::ErrorCode::MalformedRequest,
        message: "an unavailable package is not named by a digest of 32 bytes".to_owned(),
        hint: String::new(),
    })
}

lockgate_abi::wit_errors!(Error, ErrorCode);
