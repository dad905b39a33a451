//! onnxruntime's shared library through its C API, one thread.

use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::TensorRef;

use crate::case::{Case, Peer, Spent, Turn, first_row};
use crate::setup::{Model, Setup};
use crate::wasm::weigh;

pub(crate) struct Native {
    environment: Environment,
    models: Vec<Loaded>,
}

struct Loaded {
    model: Model,
    onnx: Vec<u8>,
    pool: Vec<f32>,
    session: Session,
}

impl Native {
    pub(crate) fn new(setup: &Setup) -> Result<Self> {
        let environment = ort::init_from(&setup.onnxruntime)
            .map_err(|error| anyhow!("cannot load {}: {error}", setup.onnxruntime.display()))?
            .with_telemetry(false)
            .build()
            .map_err(|error| anyhow!("onnxruntime does not start: {error}"))?;
        let mut models = Vec::new();
        for model in &setup.models {
            let onnx = std::fs::read(&model.onnx)?;
            let session = session(&environment, &onnx)?;
            models.push(Loaded { model: model.clone(), onnx, pool: model.pool()?, session });
        }
        Ok(Self { environment, models })
    }
}

fn session(environment: &Environment, onnx: &[u8]) -> Result<Session> {
    let failed = |error: String| anyhow!("onnxruntime refuses the model: {error}");
    Session::builder(environment)
        .map_err(|error| failed(error.to_string()))?
        .with_intra_threads(1)
        .map_err(|error| failed(error.to_string()))?
        .with_inter_threads(1)
        .map_err(|error| failed(error.to_string()))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|error| failed(error.to_string()))?
        .commit_from_memory(onnx)
        .map_err(|error| failed(error.to_string()))
}

impl Peer for Native {
    fn name(&self) -> &str {
        "onnxruntime, native"
    }

    fn can_run(&self, case: &Case) -> bool {
        !matches!(case, Case::Decide { .. } | Case::Load { .. })
    }

    fn run(&mut self, case: &Case, turn: Turn) -> Result<Spent> {
        let (name, rows, fresh) = match case {
            Case::Predict { model, rows } => (model, *rows, false),
            Case::First { model } => (model, 1, true),
            Case::Decide { .. } | Case::Load { .. } => bail!("onnxruntime decides nothing"),
        };
        let loaded =
            self.models.iter_mut().find(|loaded| loaded.model.name == *name).context("no such model")?;
        let row_len = loaded.model.row_len();
        let pool = loaded.pool.len() / row_len;
        let mut shape: Vec<i64> = vec![rows as i64];
        shape.extend(loaded.model.row_shape.iter().map(|&length| length as i64));

        let started = Instant::now();
        let mut answer = None;
        for call in turn.start..turn.start + turn.calls {
            let start = first_row(call, rows, pool) * row_len;
            let data = &loaded.pool[start..start + rows * row_len];
            let score = if fresh {
                run(&mut session(&self.environment, &loaded.onnx)?, &shape, data)?
            } else {
                run(&mut loaded.session, &shape, data)?
            };
            answer.get_or_insert(score);
        }
        Ok(Spent { nanoseconds: started.elapsed().as_nanos() as f64, answer })
    }
}

fn run(session: &mut Session, shape: &[i64], data: &[f32]) -> Result<f64> {
    let input = TensorRef::from_array_view((shape, data))?;
    let outputs = session.run(ort::inputs![input])?;
    let (_, values) = outputs[outputs.len() - 1].try_extract_tensor::<f32>()?;
    Ok(values.iter().map(|value| f64::from(*value)).enumerate().map(weigh).sum())
}
