//! The core as components: flat requests in, calls of the WIT interfaces, flat responses out.
//!
//! What all shells share speaks the flat entry point (`docs/abi.md`). A composed application reaches the core through handles instead, so
//! this module is a reader of flat requests and a writer of flat responses around them. Places in the bundle (routes, variants, targets)
//! are not known over WIT: responses name them and the numbers in them mean nothing.
//!
//! A trap inside a component ends the whole instance of the application with all its requests, so no call here reports one.

use lockgate_abi::{
    AttributeValue, CompactDecision, ContextRecord, DecideRequest, DecideResponseWriter, DecisionRecord,
    ErrorCode, Malformed, OutOfRangeRecord, PredictRequest, ShadowRecord, TooLarge, write_failure,
    write_predict_response,
};
use lockgate_edge::{Core, CoreFault};
use lockgate_package::{Datatype, Digest, TensorView};
use serde::Deserialize;

use bindings::inference;
use bindings::lockgate::about::about;
use bindings::lockgate::core::{policy, types};

mod bindings {
    spin_sdk::wit_bindgen::generate!({
        path: ["../../wit", "../../host/compose/wit", "wit"],
        world: "lockgate:spin/shell",
        runtime_path: "::spin_sdk::wit_bindgen::rt",
        generate_all,
    });
}

/// What the core says of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct About {
    pub(crate) policy: Module,
    pub(crate) inference: Module,
    /// The names of what is baked in.
    pub(crate) catalog: Option<Box<serde_json::value::RawValue>>,
}

/// A module of the core.
#[derive(Debug, Deserialize)]
pub(crate) struct Module {
    pub(crate) identity: Digest,
    pub(crate) image: Digest,
}

/// Asks the core what it is.
pub(crate) fn about() -> Result<About, String> {
    serde_json::from_str(&about::describe())
        .map_err(|error| format!("what the core says of itself makes no sense: {error}"))
}

/// A bundle and the models that it routes to, loaded.
pub(crate) struct Loaded {
    identities: [Digest; 2],
    bundle: policy::Bundle,
    version: u64,
    digest: [u8; 32],
    /// By their handles.
    models: Vec<Model>,
}

struct Model {
    digest: Digest,
    state: State,
}

enum State {
    Loaded(inference::Model),
    /// A package that no request has needed yet. What loading said stays, so that it is not tried for each row.
    Bytes(Vec<u8>),
    Refused(types::Error),
}

impl Loaded {
    /// What the core was baked with, if it was.
    pub(crate) fn baked(about: &About) -> Option<Self> {
        let bundle = policy::Bundle::baked()?;
        let models = inference::Model::baked();
        let models = models.into_iter().filter_map(|model| {
            Some(Model { digest: Digest(digest(&model.digest())?), state: State::Loaded(model) })
        });
        Self::new(about, bundle, models.collect())
    }

    /// Loads a bundle with the unit lists that it names. Packages wait until they are needed.
    pub(crate) fn load(
        about: &About,
        bundle: &[u8],
        lists: &[Vec<u8>],
        packages: Vec<(Digest, Vec<u8>)>,
    ) -> Result<Self, String> {
        let loaded = if lists.is_empty() {
            policy::Bundle::load(bundle)
        } else {
            policy::Bundle::load_with_objects(bundle, lists)
        };
        let bundle = loaded.map_err(|error| error.message)?;
        let models = packages.into_iter().map(|(digest, bytes)| Model { digest, state: State::Bytes(bytes) });
        Self::new(about, bundle, models.collect())
            .ok_or_else(|| "the bundle's digest does not have 32 bytes".to_owned())
    }

    fn new(about: &About, bundle: policy::Bundle, models: Vec<Model>) -> Option<Self> {
        let digest = digest(&bundle.digest())?;
        let version = bundle.version();
        let identities = [about.policy.identity, about.inference.identity];
        Some(Self { identities, version, digest, bundle, models })
    }

    /// The bundle's version and digest.
    pub(crate) fn bundle(&self) -> (u64, Digest) {
        (self.version, Digest(self.digest))
    }
}

fn digest(bytes: &[u8]) -> Option<[u8; 32]> {
    bytes.try_into().ok()
}

impl Core for Loaded {
    fn is_flat(&self) -> bool {
        false
    }

    fn decide(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        let request = DecideRequest::parse(request).map_err(broken)?;
        let mut contexts = Vec::with_capacity(request.context_limit());
        for context in request.contexts() {
            contexts.push(context_of(&context.map_err(broken)?));
        }
        let contexts: Vec<&policy::Context> = contexts.iter().collect();
        let unavailable: Vec<Vec<u8>> = request.unavailable.iter().map(|digest| digest.to_vec()).collect();
        let decisions = self.bundle.decide_batch(&contexts, request.now_ms, &unavailable);

        let mut writer = DecideResponseWriter::new(response, self.version, &self.digest);
        for decision in decisions {
            match decision {
                Ok(decision) => Decision::of(&decision).write(&mut writer).map_err(too_large)?,
                Err(error) if code(error.code) == ErrorCode::UnknownRoute => {
                    writer.unknown_route().map_err(too_large)?;
                }
                Err(error) => {
                    write_failure(response, code(error.code), &error.message, &error.hint);
                    return Ok(());
                }
            }
        }
        writer.finish().map_err(too_large)
    }

    fn predict(&mut self, request: &[u8], response: &mut Vec<u8>) -> Result<(), CoreFault> {
        let request = PredictRequest::parse(request).map_err(broken)?;
        let mut inputs = Vec::new();
        for input in request.inputs() {
            let input = input.map_err(broken)?;
            let shape: Vec<i64> = input.shape().collect();
            inputs.push(inference::Tensor::new(input.name, to_wit(input.datatype), &shape, input.data));
        }
        let mut options = Vec::new();
        for option in request.options() {
            let (name, value) = option.map_err(broken)?;
            options.push((name.to_owned(), value.to_owned()));
        }
        let Some(model) = self.models.get_mut(request.model as usize) else {
            write_failure(response, ErrorCode::UnknownModel, "no package was loaded under this handle", "");
            return Ok(());
        };
        let digest = model.digest;
        let inputs: Vec<&inference::Tensor> = inputs.iter().collect();
        let prediction = match model.get().and_then(|model| model.predict(&inputs, &options)) {
            Ok(prediction) => prediction,
            Err(error) => {
                write_failure(response, code(error.code), &error.message, &error.hint);
                return Ok(());
            }
        };
        let outputs: Vec<Output> = prediction.outputs().iter().map(Output::of).collect();
        let warnings = prediction.out_of_range().into_iter().map(|warning| OutOfRangeRecord {
            row: warning.row,
            feature: warning.feature,
            value: warning.value,
        });
        write_predict_response(response, &digest.0, outputs.iter().map(Output::view), warnings)
            .map_err(too_large)
    }

    fn handle(&mut self, package: &Digest) -> Option<u32> {
        let place = self.models.iter().position(|model| model.digest == *package)?;
        u32::try_from(place).ok()
    }

    // Handles outlive every error that a call reports, and what traps takes this shell with it.
    fn drop_policy(&mut self) {}

    fn drop_inference(&mut self) {}

    fn policy_identity(&self) -> Digest {
        self.identities[0]
    }

    fn inference_identity(&self) -> Digest {
        self.identities[1]
    }

    fn micros(&self) -> Option<u64> {
        Some(spin_sdk::wasip3::clocks::monotonic_clock::now() / 1_000)
    }
}

impl Model {
    fn get(&mut self) -> Result<&inference::Model, types::Error> {
        if let State::Bytes(bytes) = &self.state {
            self.state = match inference::Model::load(bytes) {
                Ok(model) => State::Loaded(model),
                Err(error) => State::Refused(error),
            };
        }
        match &self.state {
            State::Loaded(model) => Ok(model),
            State::Refused(error) => Err(error.clone()),
            State::Bytes(_) => Err(types::Error {
                code: types::ErrorCode::NotLoaded,
                message: "the package is not loaded".to_owned(),
                hint: String::new(),
            }),
        }
    }
}

fn context_of(record: &ContextRecord<'_>) -> policy::Context {
    let fields = &record.fields;
    let context = policy::Context::new(fields.route);
    if let Some(user) = fields.user {
        context.set_user(user);
    }
    if let Some(symbol) = fields.symbol {
        context.set_symbol(symbol);
    }
    if let Some(tenant) = fields.tenant {
        context.set_tenant(tenant);
    }
    if let Some(session) = fields.session {
        context.set_session(session);
    }
    if let Some(variant) = fields.variant {
        context.set_variant(variant);
    }
    for (name, value) in record.attributes() {
        let value = match value {
            AttributeValue::Text(text) => policy::AttributeValue::Text(text.to_owned()),
            AttributeValue::Number(number) => policy::AttributeValue::Number(number),
            AttributeValue::Boolean(boolean) => policy::AttributeValue::Boolean(boolean),
        };
        context.set_attribute(name, &value);
    }
    context
}

/// A decision's parts, which its flat record borrows.
struct Decision {
    compact: CompactDecision,
    placement: u8,
    variant: String,
    model: String,
    version: String,
    rule: Option<String>,
    layer: Option<String>,
    payload: Option<String>,
    package: [u8; 32],
    tenant: Option<String>,
    user: Option<String>,
    intended: Option<String>,
    shadows: Vec<Shadow>,
}

struct Shadow {
    name: String,
    variant: String,
    model: String,
    version: String,
    placement: u8,
    package: [u8; 32],
    /// Requests per second, requests at once, bytes, milliseconds.
    limits: [u32; 4],
}

impl Decision {
    fn of(decision: &policy::Decision) -> Self {
        let intended = decision.intended_variant();
        let shadows: Vec<Shadow> = decision.shadows().iter().map(Shadow::of).collect();
        Self {
            compact: CompactDecision {
                reason: match decision.reason() {
                    policy::Reason::StaticValue => 1,
                    policy::Reason::DefaultValue => 2,
                    policy::Reason::TargetingMatch => 3,
                    policy::Reason::Split => 4,
                    policy::Reason::Disabled => 5,
                    policy::Reason::Error => 6,
                },
                step: match decision.step() {
                    policy::Step::Disabled => 1,
                    policy::Step::Scope => 2,
                    policy::Step::OverrideEntry => 3,
                    policy::Step::Holdout => 4,
                    policy::Step::TestGroup => 5,
                    policy::Step::SymbolRollout => 6,
                    policy::Step::Rule => 7,
                    policy::Step::DefaultSplit => 8,
                    policy::Step::Fallback => 9,
                },
                unit_missing: decision.unit_missing(),
                holdout: decision.holdout(),
                washout: decision.washout(),
                unavailable: decision.unavailable(),
                route_index: 0,
                variant_index: 0,
                intended_index: intended.as_ref().map(|_| 0),
                target_index: None,
                bucket: decision.bucket(),
                stage: decision.stage(),
                window: decision.window(),
                shadow_mask: shadows.iter().zip(0..32).fold(0, |mask, (_, bit)| mask | 1 << bit),
            },
            placement: placement(decision.placement()),
            variant: decision.variant(),
            model: decision.model(),
            version: decision.version(),
            rule: decision.rule(),
            layer: decision.layer(),
            payload: decision.payload(),
            package: digest(&decision.package_digest()).unwrap_or_default(),
            tenant: decision.tenant(),
            user: decision.user(),
            intended,
            shadows,
        }
    }

    fn write(&self, writer: &mut DecideResponseWriter<'_>) -> Result<(), TooLarge> {
        let record = DecisionRecord {
            compact: self.compact,
            placement: self.placement,
            variant: &self.variant,
            model: &self.model,
            version: &self.version,
            rule: self.rule.as_deref(),
            layer: self.layer.as_deref(),
            payload: self.payload.as_deref(),
            package: self.package,
            tenant: self.tenant.as_deref(),
            user: self.user.as_deref(),
            intended: self.intended.as_deref(),
        };
        let shadows = self.shadows.iter().zip(0..32).map(|(shadow, number)| {
            let [rate, concurrency, bytes, deadline_ms] = shadow.limits;
            ShadowRecord {
                number,
                name: &shadow.name,
                variant_index: 0,
                variant: &shadow.variant,
                model: &shadow.model,
                version: &shadow.version,
                placement: shadow.placement,
                package: shadow.package,
                rate,
                concurrency,
                bytes,
                deadline_ms,
            }
        });
        writer.decision(&record, shadows)
    }
}

impl Shadow {
    fn of(shadow: &policy::Shadow) -> Self {
        Self {
            name: shadow.name(),
            variant: shadow.variant(),
            model: shadow.model(),
            version: shadow.version(),
            placement: placement(shadow.placement()),
            package: digest(&shadow.package_digest()).unwrap_or_default(),
            limits: [shadow.rate(), shadow.concurrency(), shadow.bytes(), shadow.deadline_ms()],
        }
    }
}

fn placement(placement: policy::Placement) -> u8 {
    match placement {
        policy::Placement::Edge => 1,
        policy::Placement::Host => 2,
        policy::Placement::Gpu => 3,
    }
}

/// A tensor's parts, which its view borrows.
struct Output {
    name: String,
    datatype: Datatype,
    shape: Vec<i64>,
    data: Vec<u8>,
}

impl Output {
    fn of(tensor: &inference::Tensor) -> Self {
        Self {
            name: tensor.name(),
            datatype: from_wit(tensor.datatype()),
            shape: tensor.shape(),
            data: tensor.data(),
        }
    }

    fn view(&self) -> TensorView<'_> {
        TensorView { name: &self.name, datatype: self.datatype, shape: &self.shape, data: &self.data }
    }
}

macro_rules! same_names {
    ($($name:ident),*) => {
        fn to_wit(datatype: Datatype) -> inference::Datatype {
            match datatype {
                $(Datatype::$name => inference::Datatype::$name),*
            }
        }

        fn from_wit(datatype: inference::Datatype) -> Datatype {
            match datatype {
                $(inference::Datatype::$name => Datatype::$name),*
            }
        }
    };
}

same_names!(Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64, Bytes);

macro_rules! same_codes {
    ($($name:ident),*) => {
        fn code(code: types::ErrorCode) -> ErrorCode {
            match code {
                $(types::ErrorCode::$name => ErrorCode::$name),*
            }
        }
    };
}

same_codes!(
    MalformedRequest,
    MalformedEnvelope,
    DigestMismatch,
    UnsupportedVersion,
    WrongKind,
    UnsupportedPlan,
    NotLoaded,
    AlreadyLoaded,
    UnknownRoute,
    InvalidInput,
    LimitExceeded,
    UnknownModel,
    MissingValue,
    MalformedContent,
    Internal,
    MissingObject
);

/// A request that this shell wrote and cannot read.
fn broken(malformed: Malformed) -> CoreFault {
    CoreFault::Malformed(malformed)
}

fn too_large(_: TooLarge) -> CoreFault {
    CoreFault::NoRoom
}
