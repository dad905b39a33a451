use lockgate_package::plan::explain::Contributions;
#[cfg(feature = "graph")]
use lockgate_package::plan::explain::Unexplained;
use lockgate_package::{AlignedBytes, Digest, Engine, Manifest, Package, Tensor, TensorView};

use crate::check::Checker;
#[cfg(feature = "graph")]
use crate::graph::{GraphModel, RequestLimits};
use crate::tabular::TabularModel;
use crate::{LoadError, PredictError};

/// The most rows in one request.
pub const MOST_ROWS: usize = 1 << 20;

/// The most features out of their range that a prediction lists.
pub const WARNING_LIMIT: usize = 1024;

/// A loaded package, ready to predict. It keeps working memory between calls, so that a warm one allocates little.
#[derive(Debug)]
pub struct Model {
    package: Package,
    checker: Checker,
    engine: Loaded,
}

#[derive(Debug)]
enum Loaded {
    Tabular(Box<TabularModel>),
    #[cfg(feature = "graph")]
    Graph(Box<GraphModel>),
}

/// What a model says about a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The outputs, in the order of the signature; behind them the contributions, where they were asked for.
    pub outputs: Vec<Tensor>,
    /// Features outside of the range seen in training, in the order of rows and features, at most [`WARNING_LIMIT`].
    pub out_of_range: Vec<OutOfRange>,
}

/// One feature of one row that lies outside of the range seen in training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutOfRange {
    /// The row in the request.
    pub row: u32,
    /// The index into the manifest's features.
    pub feature: u32,
    /// The value.
    pub value: f64,
}

impl Model {
    /// Opens a package and checks everything that running its plan relies on.
    ///
    /// # Errors
    /// Bytes that are no readable package, a plan that does not check, or one whose engine this build lacks.
    pub fn load(bytes: AlignedBytes) -> Result<Self, LoadError> {
        let package = Package::open(bytes)?;
        let manifest = package.manifest();
        let called = || format!("{}@{}", manifest.model, manifest.version);
        let engine = match manifest.engine {
            Engine::Tabular => {
                let plan = package.tabular_plan()?;
                let model = TabularModel::load(plan, package.envelope())
                    .map_err(|problem| LoadError::MalformedPlan { model: called(), problem })?;
                Loaded::Tabular(Box::new(model))
            }
            #[cfg(feature = "graph")]
            Engine::Graph => {
                let plan = package.graph_plan()?;
                let model =
                    GraphModel::load(&plan, package.envelope(), package.manifest().operations_per_row)
                        .map_err(|error| LoadError::MalformedPlan {
                            model: called(),
                            problem: error.to_string(),
                        })?;
                Loaded::Graph(Box::new(model))
            }
            #[cfg(not(feature = "graph"))]
            Engine::Graph => return Err(LoadError::UnsupportedPlan { model: called(), engine: "graph" }),
        };
        let checker = Checker::new(manifest);
        Ok(Self { package, checker, engine })
    }

    /// Changes what a request may take; the tabular engine needs no limit, because its work follows from the rows.
    #[cfg(feature = "graph")]
    pub fn limit_requests(&mut self, limits: RequestLimits) {
        if let Loaded::Graph(model) = &mut self.engine {
            model.limits = limits;
        }
    }

    /// What the package says about its model.
    pub fn manifest(&self) -> &Manifest {
        self.package.manifest()
    }

    /// What the package is called by: SHA-256 of its content.
    pub fn digest(&self) -> Digest {
        self.package.digest()
    }

    /// Predicts for every row of a request. The tensors may come in any order.
    ///
    /// # Errors
    /// Tensors that do not fit the signature, missing values that the model does not accept, too many rows.
    pub fn predict(&mut self, inputs: &[TensorView<'_>]) -> Result<Prediction, PredictError> {
        self.explain(inputs, Contributions::None)
    }

    /// Predicts, and says what each feature contributes to the raw scores: two outputs more, [`CONTRIBUTIONS`](crate::CONTRIBUTIONS)
    /// and [`BASE`](crate::BASE). `docs/contributions.md` says what they mean.
    ///
    /// # Errors
    /// Those of [`Model::predict`]; a model that has no contributions to give.
    pub fn explain(
        &mut self,
        inputs: &[TensorView<'_>],
        contributions: Contributions,
    ) -> Result<Prediction, PredictError> {
        let request = self.checker.check(self.package.manifest(), inputs)?;
        let outputs = match &mut self.engine {
            Loaded::Tabular(model) => model.run(
                self.package.envelope(),
                &self.package.manifest().signature,
                &request.inputs,
                request.rows,
                contributions,
            )?,
            #[cfg(feature = "graph")]
            Loaded::Graph(_) if contributions != Contributions::None => {
                let Unexplained { message, hint } = Unexplained::graph();
                return Err(PredictError::NoContributions { message, hint: hint.to_owned() });
            }
            #[cfg(feature = "graph")]
            Loaded::Graph(model) => model.run(&self.package.manifest().signature, &request.inputs)?,
        };
        Ok(Prediction { outputs, out_of_range: request.out_of_range })
    }

    /// Takes an answer back that has been read, so that the next one needs no memory of its own.
    pub fn recycle(&mut self, answer: Prediction) {
        match &mut self.engine {
            Loaded::Tabular(model) => model.recycle(answer.outputs),
            #[cfg(feature = "graph")]
            Loaded::Graph(_) => drop(answer),
        }
    }
}
