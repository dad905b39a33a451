//! The core through `host/runtime`: its queue, its worker threads and its checks included.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use lockgate_core::CoreModules;
use lockgate_package::Tensor;
use lockgate_runtime::{Context, DecideRequest, Digest, PredictRequest, Runtime, Settings};

use crate::case::{Case, Peer, Spent, Turn, first_row};
use crate::setup::{Caller, Setup};
use crate::wasm::{callers, weigh};

pub(crate) struct Embedded {
    /// With the bundle; it keeps only the packages that the bundle pins.
    decides: Runtime,
    /// Without a bundle, so that it keeps every package.
    predicts: Runtime,
    models: Vec<Loaded>,
    callers: Vec<Caller>,
    route: String,
    /// The name of the policy.
    policy: Option<String>,
    /// In the order of their indices.
    variants: Vec<String>,
}

struct Loaded {
    name: String,
    package: Digest,
    row_shape: Vec<usize>,
    pool: Vec<f32>,
}

impl Embedded {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let runtime = |bundle: Option<&Path>| {
            let settings = Settings { workers: 1, ..Settings::default() };
            let core = CoreModules::from_dir(&setup.core_folder)?;
            let runtime = Runtime::builder(core).settings(settings).build()?;
            let packages: Vec<_> =
                setup.models.iter().map(|model| std::fs::read(&model.package)).collect::<Result<_, _>>()?;
            runtime.install(bundle.map(std::fs::read).transpose()?, packages)?;
            anyhow::Ok(runtime)
        };
        let (decides, predicts) =
            (runtime(setup.policies.first().map(|policy| policy.bundle.as_path()))?, runtime(None)?);
        let generation = predicts.generation();
        let mut models = Vec::new();
        for model in &setup.models {
            let installed = generation.models().find(|installed| installed.manifest().model == model.name);
            let package = installed.with_context(|| format!("{} is not installed", model.name))?.digest();
            models.push(Loaded {
                name: model.name.clone(),
                package,
                row_shape: model.row_shape.clone(),
                pool: model.pool()?,
            });
        }
        let generation = decides.generation();
        let route = generation.bundle().and_then(|bundle| bundle.route(&setup.route));
        let variants = route
            .context("the bundle lacks the route")?
            .variants()
            .map(|variant| variant.name.to_owned())
            .collect();
        Ok(Self {
            decides,
            predicts,
            models,
            callers: setup.callers()?,
            route: setup.route.clone(),
            policy: setup.policies.first().map(|policy| policy.name.clone()),
            variants,
        })
    }
}

impl Peer for Embedded {
    fn name(&self) -> &str {
        "core in host/runtime"
    }

    fn can_run(&self, case: &Case) -> bool {
        match case {
            Case::Decide { policy, .. } => Some(policy) == self.policy.as_ref(),
            Case::Predict { .. } => true,
            Case::First { .. } | Case::Load { .. } => false,
        }
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let started = Instant::now();
        let mut answer = None;
        for call in turn.start..turn.start + turn.calls {
            let score = match case {
                Case::Predict { model, rows } => {
                    let model =
                        self.models.iter().find(|loaded| loaded.name == *model).context("no such model")?;
                    self.predict(model, call, *rows)?
                }
                Case::Decide { contexts, .. } => self.decide(call, *contexts)?,
                Case::First { .. } | Case::Load { .. } => bail!("the runtime's instances live long"),
            };
            answer.get_or_insert(score);
        }
        Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer })
    }
}

impl Embedded {
    fn predict(&self, model: &Loaded, call: usize, rows: usize) -> Result<f64> {
        let row_len: usize = model.row_shape.iter().product();
        let start = first_row(call, rows, model.pool.len() / row_len) * row_len;
        let shape = [rows].iter().chain(&model.row_shape).map(|&length| length as i64).collect();
        let inputs = vec![Tensor::fp32("input", shape, &model.pool[start..start + rows * row_len])];
        let answer = self.predicts.predict(PredictRequest {
            contributions: Default::default(),
            package: model.package,
            inputs,
            deadline: None,
        })?;
        let scores = answer.outputs.last().and_then(Tensor::to_fp32).context("no scores")?;
        Ok(scores.into_iter().map(f64::from).enumerate().map(weigh).sum())
    }

    fn decide(&self, call: usize, contexts: usize) -> Result<f64> {
        let context = |caller: &Caller| Context {
            user: Some(caller.user.clone()),
            symbol: Some(caller.symbol.clone()),
            ..Context::default()
        };
        let callers = callers(&self.callers, call, contexts).map(context).collect();
        let request =
            DecideRequest { route: self.route.clone(), contexts: callers, now_ms: Some(0), deadline: None };
        let served = self.decides.decide(request)?.served;
        let index = |row: usize| {
            let (_, version) = served.row(row)?;
            self.variants.iter().position(|variant| version.variant.as_ref() == Some(variant))
        };
        let indices = (0..contexts.max(1)).map(|row| index(row).context("a context got no variant"));
        indices.map(|index| Ok(index? as f64 + 1.0)).sum()
    }
}
