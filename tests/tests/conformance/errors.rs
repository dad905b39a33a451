//! What must be refused, and by which code: the cases of `tests/errors.json`, natively and by the flat entry point in wasmtime.

use std::collections::BTreeMap;

use lockgate_abi::{ContextFields, DecideRequestWriter, ErrorCode, Failure, Reply, write_predict_request};
use lockgate_core::CoreModules;
use lockgate_inference::{LoadError, Model, PredictError};
use lockgate_package::{AlignedBytes, Engine, Kind, Package, PackageError, Tensor};
use lockgate_policy::{Bundle, LoadError as BundleError, RequestContext};
use lockgate_tests::core_dir;
use wasmtime::{Config, Module, OptLevel};

use crate::cases::{self, Instance};
use crate::decisions::NOW;
use crate::flat::Guest;
use crate::golden;
use crate::record::{self, Runner};

#[test]
fn what_must_be_refused_is_by_its_code() {
    let core = CoreModules::from_dir(&core_dir()).unwrap();
    // What is compared does not depend on how well the code is compiled.
    let engine = wasmtime::Engine::new(Config::new().cranelift_opt_level(OptLevel::None)).unwrap();
    let compiled: BTreeMap<&str, Module> = [
        ("policy", &core.policy),
        ("inference-tabular", &core.tabular),
        ("inference-graph", core.graph.as_ref().unwrap()),
    ]
    .map(|(name, module)| (name, Module::new(&engine, module.bytes()).unwrap()))
    .into();
    let native = |module: &str| Box::new(Native::new(module)) as Box<dyn Instance>;
    let guest = |module: &str| Box::new(Guest::of(&compiled[module])) as Box<dyn Instance>;
    let listed = golden::first_with_lists();
    let compared = [cases::compare(&listed, &native), cases::compare(&listed, &guest)];
    for (runner, compared) in [Runner::Native, Runner::Wasmtime].into_iter().zip(compared) {
        record::passed(runner, "errors", compared, &[]);
    }
}

/// The crates without the modules around them. What belongs to an instance rather than to a bundle or a package is done here as
/// `docs/abi.md` asks: it holds one bundle, knows its packages by handles, and is of a flavour. The other refusals are the crates' own.
struct Native {
    is_tabular: bool,
    lists: Vec<AlignedBytes>,
    bundle: Option<Bundle>,
    /// Of an inference instance, its packages.
    models: Option<Vec<Model>>,
}

impl Native {
    fn new(module: &str) -> Self {
        Self {
            is_tabular: module == "inference-tabular",
            lists: Vec::new(),
            bundle: None,
            models: (module != "policy").then(Vec::new),
        }
    }
}

fn failure(code: ErrorCode, message: &dyn ToString) -> Failure {
    Failure { code, message: message.to_string(), hint: String::new() }
}

impl Instance for Native {
    fn load(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let bytes = AlignedBytes::copy_of(bytes);
        if let Some(models) = &mut self.models {
            let is_graph = |package: &Package| package.manifest().engine == Engine::Graph;
            if self.is_tabular
                && Package::open(AlignedBytes::copy_of(&bytes)).is_ok_and(|package| is_graph(&package))
            {
                return Err(failure(ErrorCode::UnsupportedPlan, &"a graph"));
            }
            models.push(Model::load(bytes).map_err(|error| {
                let code = match &error {
                    LoadError::Package(PackageError::Envelope(error)) => error.into(),
                    LoadError::UnsupportedPlan { .. } => ErrorCode::UnsupportedPlan,
                    _ => ErrorCode::MalformedContent,
                };
                failure(code, &error)
            })?);
            return Ok(());
        }
        if self.bundle.is_some() {
            return Err(failure(ErrorCode::AlreadyLoaded, &"a second bundle"));
        }
        if bytes.get(12..16) == Some(&Kind::UnitList.number().to_le_bytes()) {
            self.lists.push(bytes);
            return Ok(());
        }
        let bundle = Bundle::load_with(bytes, std::mem::take(&mut self.lists)).map_err(|error| {
            let code = match &error {
                BundleError::Envelope(error) => error.into(),
                BundleError::OldFormat { .. } => ErrorCode::UnsupportedVersion,
                BundleError::MissingObject { .. } => ErrorCode::MissingObject,
                _ => ErrorCode::MalformedContent,
            };
            failure(code, &error)
        })?;
        self.bundle = Some(bundle);
        Ok(())
    }

    fn predict(&mut self, model: u32, inputs: &[Tensor]) -> Result<(), Failure> {
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let model = self.models.as_mut().and_then(|models| models.get_mut(model as usize));
        let model = model.ok_or_else(|| failure(ErrorCode::UnknownModel, &"no such handle"))?;
        model.predict(&views).map(drop).map_err(|error| {
            let code = match &error {
                PredictError::InvalidInput { .. } => ErrorCode::InvalidInput,
                PredictError::MissingValue { .. } => ErrorCode::MissingValue,
                PredictError::LimitExceeded { .. } => ErrorCode::LimitExceeded,
                _ => ErrorCode::Internal,
            };
            failure(code, &error)
        })
    }

    fn decide(&mut self, context: &RequestContext) -> Result<(), Failure> {
        let bundle = self.bundle.as_ref().unwrap();
        bundle.decide(context, NOW, &[]).map(drop).map_err(|error| failure(ErrorCode::UnknownRoute, &error))
    }
}

impl Guest {
    /// What the module answers, through what `read` makes of a good answer.
    fn ask(
        &mut self,
        export: &str,
        bytes: &[u8],
        read: impl FnOnce(lockgate_abi::Response<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (memory, address) = self.call(export, bytes);
        match Reply::read(memory, address).unwrap() {
            Reply::Done(response) => read(response),
            Reply::Failed(failure) => Err(failure),
        }
    }
}

impl Instance for Guest {
    fn load(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.ask("lockgate_load", bytes, |_| Ok(()))
    }

    fn predict(&mut self, model: u32, inputs: &[Tensor]) -> Result<(), Failure> {
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let mut request = Vec::new();
        write_predict_request(&mut request, model, &views, &[]).unwrap();
        self.ask("lockgate_predict", &request, |_| Ok(()))
    }

    fn decide(&mut self, context: &RequestContext) -> Result<(), Failure> {
        let fields = ContextFields { route: &context.route, ..ContextFields::default() };
        let mut request = Vec::new();
        let mut writer = DecideRequestWriter::new(&mut request, NOW);
        writer.context(&fields, std::iter::empty()).unwrap();
        writer.finish(&[]).unwrap();
        self.ask("lockgate_decide", &request, |response| {
            // A route that is unknown is said of its context, not of the request, and without words.
            match response.decisions().next().unwrap().unwrap() {
                Some(_) => Ok(()),
                None => Err(failure(ErrorCode::UnknownRoute, &"said of the context")),
            }
        })
    }
}
