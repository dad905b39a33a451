//! The world `policy-core`.

use std::cell::RefCell;

use lockgate_abi::Failure;
use lockgate_package::{AlignedBytes, Digest};
use lockgate_policy::{Attribute, RequestContext};

use self::bindings::exports::lockgate::core::policy::{
    AttributeValue, Bundle, ContextBorrow, Decision, Error, Guest, GuestBundle, GuestContext, GuestDecision,
    Placement, Reason, Step,
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
}

struct OwnedContext(RefCell<RequestContext>);

impl OwnedContext {
    fn with(&self, change: impl FnOnce(&mut RequestContext)) {
        change(&mut self.0.borrow_mut());
    }
}

impl GuestContext for OwnedContext {
    fn new(route: String) -> Self {
        Self(RefCell::new(RequestContext::new(route)))
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

    fn set_attribute(&self, name: String, value: AttributeValue) {
        let value = match value {
            AttributeValue::Text(text) => Attribute::Text(text),
            AttributeValue::Number(number) => Attribute::Number(number),
            AttributeValue::Boolean(boolean) => Attribute::Boolean(boolean),
        };
        self.with(|context| {
            context.attributes.insert(name, value);
        });
    }
}

/// A decision that outlives its bundle.
struct OwnedDecision {
    route: String,
    variant: String,
    model: String,
    version: String,
    package: Digest,
    placement: Placement,
    payload: Option<String>,
    reason: Reason,
    step: Step,
    rule: Option<String>,
    layer: Option<String>,
    bucket: Option<u32>,
    unit_missing: bool,
}

impl From<&lockgate_policy::Decision<'_>> for OwnedDecision {
    fn from(decision: &lockgate_policy::Decision<'_>) -> Self {
        Self {
            route: decision.route.to_owned(),
            variant: decision.variant.to_owned(),
            model: decision.model.to_owned(),
            version: decision.version.to_owned(),
            package: decision.package,
            placement: match decision.placement {
                lockgate_policy::Placement::Edge => Placement::Edge,
                lockgate_policy::Placement::Host => Placement::Host,
                lockgate_policy::Placement::Gpu => Placement::Gpu,
            },
            payload: decision.payload.map(str::to_owned),
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
            rule: decision.rule.map(str::to_owned),
            layer: decision.layer.map(str::to_owned),
            bucket: decision.bucket,
            unit_missing: decision.unit_missing,
        }
    }
}

impl GuestDecision for OwnedDecision {
    fn route(&self) -> String {
        self.route.clone()
    }

    fn variant(&self) -> String {
        self.variant.clone()
    }

    fn model(&self) -> String {
        self.model.clone()
    }

    fn version(&self) -> String {
        self.version.clone()
    }

    fn package_digest(&self) -> Vec<u8> {
        self.package.0.to_vec()
    }

    fn placement(&self) -> Placement {
        self.placement
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
}

struct OwnedBundle(lockgate_policy::Bundle);

impl OwnedBundle {
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
        match self.0.decide(&*context, now, unavailable) {
            Ok(decision) => Ok(Decision::new(OwnedDecision::from(&decision))),
            Err(_) => Err(crate::unknown_route().into()),
        }
    }
}

impl GuestBundle for OwnedBundle {
    fn load(bytes: Vec<u8>) -> Result<Bundle, Error> {
        Ok(Bundle::new(Self(crate::load(AlignedBytes::copy_of(&bytes))?)))
    }

    fn version(&self) -> u64 {
        self.0.version()
    }

    fn digest(&self) -> Vec<u8> {
        self.0.digest().0.to_vec()
    }

    fn parent(&self) -> Option<Vec<u8>> {
        self.0.parent().map(|digest| digest.0.to_vec())
    }

    fn routes(&self) -> Vec<String> {
        self.0.routes().map(|route| route.name().to_owned()).collect()
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

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        use lockgate_abi::ErrorCode as Code;
        let code = match failure.code {
            Code::MalformedRequest => ErrorCode::MalformedRequest,
            Code::MalformedEnvelope => ErrorCode::MalformedEnvelope,
            Code::DigestMismatch => ErrorCode::DigestMismatch,
            Code::UnsupportedVersion => ErrorCode::UnsupportedVersion,
            Code::WrongKind => ErrorCode::WrongKind,
            Code::UnsupportedPlan => ErrorCode::UnsupportedPlan,
            Code::NotLoaded => ErrorCode::NotLoaded,
            Code::AlreadyLoaded => ErrorCode::AlreadyLoaded,
            Code::UnknownRoute => ErrorCode::UnknownRoute,
            Code::InvalidInput => ErrorCode::InvalidInput,
            Code::LimitExceeded => ErrorCode::LimitExceeded,
            Code::UnknownModel => ErrorCode::UnknownModel,
            Code::MissingValue => ErrorCode::MissingValue,
            Code::MalformedContent => ErrorCode::MalformedContent,
            Code::Internal => ErrorCode::Internal,
        };
        Self { code, message: failure.message, hint: failure.hint }
    }
}
