"""A recipe for every class that skl2onnx has a converter for: how to fit a small one, and on what."""

import numpy as np
from sklearn import (
    calibration,
    cluster,
    compose,
    cross_decomposition,
    decomposition,
    discriminant_analysis,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    random_projection,
    svm,
    tree,
)
from sklearn.feature_extraction import text
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from skl2onnx import sklapi

import data
from data import NAMES

# Converters that belong to no class: parts that other converters are made of.
PARTS = {
    "ArrayFeatureExtractor", "Cast", "ClassLabels", "Concat", "Flatten", "Identity", "Imputer", "Multiply", "OVRDecisionFunction",
    "SequenceAt", "SequenceConstruct", "ZipMap", "ZipMapColumns",
}  # fmt: skip


class Recipe:
    """How to make one model: an estimator that is not fitted, what to fit it on, how to export it and what to ask it."""

    def __init__(self, estimator, x, y=None, variant="", double=False, trees=False, missing=False, wild=True, options=None, of=None,
                 inputs=None, ask=None, tolerance=None, opset=None, fit=None):  # fmt: skip
        self.estimator, self.x, self.y, self.variant, self.double = estimator, x, y, variant, double
        self.trees, self.missing, self.wild, self.options = trees, missing, wild, options
        self.of = of or type(estimator)
        self.inputs, self.ask, self.tolerance, self.opset, self.fit = inputs, ask, tolerance, opset, fit

    @property
    def name(self):
        variant = f"_{self.variant}" if self.variant else ""
        return f"{self.of.__name__.strip('_').lower()}{variant}" + ("_f64" if self.double else "")


def both(make, *arguments, **options):
    """The same in single and in double precision."""
    for double in (False, True):
        yield Recipe(make(), *arguments, double=double, **options)


KINDS = [("binary", 2, None), ("three", 3, None), ("five_strings", 5, NAMES), ("binary_strings", 2, NAMES)]


def classifier(make, x=None, many=True, **options):
    x = data.features() if x is None else x
    for variant, count, names in KINDS if many else [KINDS[0], KINDS[3]]:
        y = data.classes(x, count)
        yield from both(make, x, y if names is None else names[y], variant=variant, **options)


def regressor(make, x=None, several=True, positive=False, **options):
    x = data.features() if x is None else x
    y = data.target(x)
    yield from both(make, x, np.exp(y / 4) if positive else y, **options)
    if several:
        yield from both(make, x, data.target(x, 3), variant="three_outputs", **options)


def transformer(make, x=None, y=None, **options):
    yield from both(make, data.features() if x is None else x, y, **options)


def all_recipes():
    yield from linear()
    yield from trees()
    yield from neighbours_and_kernels()
    yield from bayes_and_mixtures()
    yield from preprocessors()
    yield from words()
    yield from decompositions()
    yield from meta()


def linear():
    x = data.features()
    for kind in (linear_model.LogisticRegression, linear_model.RidgeClassifier, linear_model.RidgeClassifierCV, linear_model.Perceptron,
                 linear_model.PassiveAggressiveClassifier, svm.LinearSVC, discriminant_analysis.LinearDiscriminantAnalysis):  # fmt: skip
        yield from classifier(lambda kind=kind: kind(), wild=kind is not LogisticRegression)
    yield from classifier(lambda: linear_model.LogisticRegressionCV(cv=2, use_legacy_attributes=False), x=data.calm())
    for loss in ("hinge", "log_loss", "modified_huber"):
        yield from classifier(lambda: linear_model.SGDClassifier(loss=loss, random_state=0), x=data.calm()) if loss == "log_loss" else [
            Recipe(linear_model.SGDClassifier(loss=loss, random_state=0), data.calm(), data.classes(data.calm(), n), variant=f"{loss}_{n}") for n in (2, 3)
        ]
    single = (
        linear_model.ARDRegression, linear_model.HuberRegressor, linear_model.LarsCV, linear_model.LassoLarsCV, linear_model.LassoLarsIC,
        linear_model.OrthogonalMatchingPursuitCV, linear_model.PassiveAggressiveRegressor, linear_model.QuantileRegressor, linear_model.SGDRegressor,
        linear_model.TheilSenRegressor, linear_model.ElasticNetCV, linear_model.LassoCV, linear_model.BayesianRidge,
    )  # fmt: skip
    for kind in single:
        yield from regressor(lambda kind=kind: kind(), x=data.calm(), several=False)
    for kind in (linear_model.LinearRegression, linear_model.Ridge, linear_model.RidgeCV, linear_model.ElasticNet, linear_model.Lasso, linear_model.Lars,
                 linear_model.LassoLars, linear_model.OrthogonalMatchingPursuit):  # fmt: skip
        yield from regressor(lambda kind=kind: kind())
    for kind in (linear_model.LinearRegression, linear_model.Ridge):
        yield from both(lambda kind=kind: kind(fit_intercept=False), x, data.target(x), variant="no_intercept")
        yield from both(lambda kind=kind: kind(fit_intercept=False), x, data.target(x, 3), variant="no_intercepts")
    for count in (2, 3):
        yield from both(lambda: linear_model.LogisticRegression(fit_intercept=False), x, data.classes(x, count), wild=False, variant=f"no_intercept_{count}")
    for kind in (linear_model.MultiTaskElasticNet, linear_model.MultiTaskElasticNetCV, linear_model.MultiTaskLasso, linear_model.MultiTaskLassoCV):
        yield from both(lambda kind=kind: kind(), data.calm(), data.target(data.calm(), 3))
    for kind in (linear_model.PoissonRegressor, linear_model.GammaRegressor, linear_model.TweedieRegressor):
        yield from regressor(lambda kind=kind: kind(), x=data.calm(), several=False, positive=True, wild=False)
    yield from regressor(lambda: linear_model.TweedieRegressor(power=1.5), x=data.calm(), several=False, positive=True, wild=False, variant="power")
    yield from regressor(lambda: linear_model.RANSACRegressor(random_state=0), several=False)
    yield from regressor(lambda: svm.LinearSVR(), x=data.calm(), several=False)
    yield from transformer(lambda: linear_model.SGDOneClassSVM(random_state=0), x=data.calm())


def trees():
    small = {"random_state": 7, "max_depth": 5}
    for kind in (tree.DecisionTreeClassifier, tree.ExtraTreeClassifier):
        yield from classifier(lambda kind=kind: kind(**small), trees=True)
    for kind in (ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier):
        yield from classifier(lambda kind=kind: kind(n_estimators=9, **small), trees=True)
    for kind in (tree.DecisionTreeRegressor, tree.ExtraTreeRegressor):
        yield from regressor(lambda kind=kind: kind(**small), trees=True)
    for kind in (ensemble.RandomForestRegressor, ensemble.ExtraTreesRegressor):
        yield from regressor(lambda kind=kind: kind(n_estimators=9, **small), trees=True)
    x = data.features()
    # Four trees of pure leaves: every probability is a multiple of a quarter, so ties are everywhere.
    for count in (2, 3):
        ties = lambda: ensemble.RandomForestClassifier(n_estimators=4, random_state=7)  # noqa: E731
        yield from both(ties, x, data.classes(x, count), variant=f"ties_{count}", trees=True)
    for size in (1, 40):
        yield from both(lambda: ensemble.RandomForestRegressor(n_estimators=size, random_state=7), x, data.target(x), variant=f"{size}_trees", trees=True)
    several = np.stack([data.classes(x, 2), data.classes(x[:, ::-1], 3)], axis=1)
    for kind in (tree.DecisionTreeClassifier, ensemble.RandomForestClassifier, ensemble.ExtraTreesClassifier, tree.ExtraTreeClassifier):
        options = small if "Tree" in kind.__name__ and "Trees" not in kind.__name__ else {"n_estimators": 5, **small}
        yield from both(lambda: kind(**options), x, several, variant="two_outputs", trees=True)
    yield Recipe(tree.DecisionTreeClassifier(**small), x, data.classes(x, 3), variant="path_leaf", trees=True, options={"decision_path": True, "decision_leaf": True})
    yield Recipe(ensemble.RandomForestClassifier(n_estimators=3, **small), x, data.classes(x, 3), variant="path_leaf", trees=True, options={"decision_path": True, "decision_leaf": True})
    yield Recipe(tree.DecisionTreeRegressor(**small), x, data.target(x), variant="path_leaf", trees=True, options={"decision_path": True, "decision_leaf": True})
    boosted = {"n_estimators": 12, "max_depth": 3, "random_state": 7}
    yield from classifier(lambda: ensemble.GradientBoostingClassifier(**boosted), trees=True)
    for init in ("zero", LogisticRegression()):
        yield Recipe(ensemble.GradientBoostingClassifier(init=init, **boosted), data.calm(), data.classes(data.calm(), 2), variant="init_zero" if init == "zero" else "init_logistic", trees=True)
    for loss in ("squared_error", "absolute_error", "huber", "quantile"):
        yield from both(lambda: ensemble.GradientBoostingRegressor(loss=loss, **boosted), x, data.target(x), variant=loss, trees=True)
    missing = data.with_missing(x)
    for variant, rows in (("", x), ("missing", missing)):
        flags = {"trees": True, "missing": variant == "missing"}
        yield from both(lambda: ensemble.HistGradientBoostingRegressor(max_iter=8, random_state=7), rows, data.target(rows), variant=variant, **flags)
        for kind, count, names in KINDS:
            y = data.classes(x, count)
            y = y if names is None else names[y]
            yield from both(lambda: ensemble.HistGradientBoostingClassifier(max_iter=6, random_state=7), rows, y, variant="_".join(filter(None, [kind, variant])), **flags)
    for loss in ("poisson", "gamma", "absolute_error", "quantile"):
        options = {"quantile": 0.7} if loss == "quantile" else {}
        yield Recipe(ensemble.HistGradientBoostingRegressor(loss=loss, max_iter=8, **options), x, np.exp(data.target(x) / 4), variant=loss, trees=True)
    yield from classifier(lambda: ensemble.AdaBoostClassifier(n_estimators=5, random_state=7), trees=True)
    for loss in ("linear", "square"):
        yield from both(lambda: ensemble.AdaBoostRegressor(n_estimators=5, loss=loss, random_state=7), x, data.target(x), variant=loss, trees=True)
    yield from transformer(lambda: ensemble.IsolationForest(n_estimators=7, random_state=7), trees=True)
    yield Recipe(ensemble.IsolationForest(n_estimators=7, random_state=7), x, variant="score_samples", trees=True, options={"score_samples": True})
    yield from transformer(lambda: ensemble.RandomTreesEmbedding(n_estimators=4, max_depth=3, random_state=7, sparse_output=False), trees=True)


def neighbours_and_kernels():
    x = data.calm(rows=60)
    for metric, weights in (("euclidean", "uniform"), ("manhattan", "distance"), ("minkowski", "distance")):
        options = {"n_neighbors": 4, "metric": metric, "weights": weights, "algorithm": "brute"}
        if metric == "minkowski":
            options["p"] = 3
        for variant, count, names in KINDS[1:3]:
            y = data.classes(x, count)
            yield from both(lambda: neighbors.KNeighborsClassifier(**options), x, y if names is None else names[y], variant=f"{metric}_{variant}")
        yield from both(lambda: neighbors.KNeighborsRegressor(**options), x, data.target(x), variant=metric)
    yield from both(lambda: neighbors.KNeighborsRegressor(3), x, data.target(x, 3), variant="three_outputs")
    yield Recipe(neighbors.KNeighborsClassifier(3), x, data.classes(x, 3), variant="cdist", options={"optim": "cdist"})
    yield from both(lambda: neighbors.RadiusNeighborsClassifier(50.0), x, data.classes(x, 3), ask=x[:12])
    yield from both(lambda: neighbors.RadiusNeighborsRegressor(50.0), x, data.target(x), ask=x[:12])
    yield from both(lambda: neighbors.NearestNeighbors(n_neighbors=3, radius=None), x)
    yield from both(lambda: neighbors.KNeighborsTransformer(n_neighbors=3), x)
    yield from both(lambda: neighbors.LocalOutlierFactor(n_neighbors=5, novelty=True), x)
    yield Recipe(neighbors.LocalOutlierFactor(n_neighbors=5, novelty=True), x, variant="score_samples", options={"score_samples": True})
    yield from both(lambda: neighbors.NeighborhoodComponentsAnalysis(2, max_iter=5, random_state=0), x, data.classes(x, 3))
    missing = data.with_missing(x)
    yield from both(lambda: impute.KNNImputer(n_neighbors=3), missing, ask=missing[:12])
    for kernel in ("rbf", "linear", "poly", "sigmoid"):
        for probability in (False, True):
            variant = kernel + ("_probability" if probability else "")
            for kind, count, names in (KINDS[0], KINDS[1], KINDS[2]) if kernel == "rbf" else KINDS[1:2]:
                y = data.classes(x, count)
                make = lambda: svm.SVC(kernel=kernel, probability=probability, random_state=0)  # noqa: E731
                yield from both(make, x, y if names is None else names[y], variant=f"{variant}_{kind}", wild=False)
        yield from both(lambda: svm.SVR(kernel=kernel), x, data.target(x), variant=kernel, wild=False)
    yield from both(lambda: svm.SVC(decision_function_shape="ovo"), x, data.classes(x, 3), variant="ovo", wild=False)
    yield Recipe(svm.SVC(), x, data.classes(x, 4), variant="raw_scores", wild=False, options={"raw_scores": True})
    yield from classifier(lambda: svm.NuSVC(nu=0.2), x=x, wild=False)
    yield from both(lambda: svm.NuSVR(), x, data.target(x), wild=False)
    yield from both(lambda: svm.OneClassSVM(), x, wild=False)
    kernels = gaussian_process.kernels
    choices = {
        "rbf": kernels.RBF(2.0),
        "sum": kernels.ConstantKernel(2.0) * kernels.RBF([1.0, 2.0, 1.5, 1.0, 3.0]) + kernels.WhiteKernel(0.1),
        "quadratic": kernels.RationalQuadratic(2.0, 1.5),
        "dot": kernels.DotProduct(1.0),
        "sine": kernels.ExpSineSquared(1.0, 4.0),
        "matern": kernels.Matern(1.5),
    }
    for variant, kernel in choices.items():
        make = lambda: gaussian_process.GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None)  # noqa: E731
        yield Recipe(make(), x, data.target(x), variant=variant, double=True, wild=False)
    make = lambda: gaussian_process.GaussianProcessRegressor(choices["rbf"], alpha=0.5, optimizer=None)  # noqa: E731
    yield Recipe(make(), x, data.target(x), wild=False)
    yield Recipe(make(), x, data.target(x), variant="deviation", double=True, wild=False, options={"return_std": True})
    for count in (2, 3):
        make = lambda: gaussian_process.GaussianProcessClassifier(choices["rbf"], optimizer=None)  # noqa: E731
        yield from both(make, x, data.classes(x, count), variant=str(count), wild=False)


def bayes_and_mixtures():
    x = data.calm()
    positive = np.abs(x)
    counts = data.integers(columns=5, rows=160, most=4)
    yield from classifier(lambda: naive_bayes.GaussianNB(), x=x, wild=False)
    for kind in (naive_bayes.MultinomialNB, naive_bayes.ComplementNB, naive_bayes.BernoulliNB):
        yield from classifier(lambda kind=kind: kind(), x=positive, ask=positive[:12])
    y = data.classes(x, 3)
    yield Recipe(naive_bayes.CategoricalNB(), counts, y, ask=counts[:20])
    yield Recipe(naive_bayes.CategoricalNB(), counts.astype(np.float32), NAMES[y], variant="float_strings", ask=counts[:20].astype(np.float32))
    yield from classifier(lambda: discriminant_analysis.QuadraticDiscriminantAnalysis(), x=x, wild=False)
    for covariance in ("full", "tied", "diag", "spherical"):
        for kind in (mixture.GaussianMixture, mixture.BayesianGaussianMixture):
            yield from both(lambda: kind(n_components=3, covariance_type=covariance, random_state=0, max_iter=20), x, variant=covariance, wild=False)
    yield Recipe(mixture.GaussianMixture(n_components=3, random_state=0), x, variant="score_samples", wild=False, options={"score_samples": True})
    yield from transformer(lambda: cluster.KMeans(4, n_init=1, random_state=0), x=x)
    yield from transformer(lambda: cluster.MiniBatchKMeans(4, n_init=1, random_state=0), x=x)
    for activation in ("relu", "tanh", "logistic", "identity"):
        options = {"hidden_layer_sizes": (8, 4), "max_iter": 20, "random_state": 7, "activation": activation}
        for variant, count, names in KINDS if activation == "relu" else KINDS[1:2]:
            y = data.classes(x, count)
            yield from both(lambda: neural_network.MLPClassifier(**options), x, y if names is None else names[y], variant=f"{activation}_{variant}", wild=False)
        yield from both(lambda: neural_network.MLPRegressor(**options), x, data.target(x), variant=activation, wild=False)
    yield from both(lambda: neural_network.MLPRegressor(hidden_layer_sizes=(6,), max_iter=20, random_state=7), x, data.target(x, 3), variant="three_outputs", wild=False)
    labels = np.stack([data.classes(x, 2), data.classes(x[:, ::-1], 2)], axis=1)
    yield from both(lambda: neural_network.MLPClassifier((6,), max_iter=20, random_state=7), x, labels, variant="two_labels", wild=False)


def preprocessors():
    x, missing = data.features(), data.with_missing(data.features())
    for kind in (StandardScaler, preprocessing.RobustScaler, preprocessing.MinMaxScaler, preprocessing.MaxAbsScaler):
        yield from transformer(lambda kind=kind: kind())
    yield from transformer(lambda: preprocessing.MinMaxScaler((-1, 1), clip=True), variant="clip")
    yield from transformer(lambda: StandardScaler(with_mean=False), variant="no_mean")
    yield from transformer(lambda: StandardScaler(with_std=False), variant="no_scale")
    yield from both(lambda: StandardScaler(), x, missing=True, variant="missing")
    for norm in ("l1", "l2", "max"):
        yield from transformer(lambda: preprocessing.Normalizer(norm), variant=norm)
    yield from transformer(lambda: preprocessing.Binarizer(threshold=0.3))
    for encode in ("ordinal", "onehot-dense", "onehot"):
        yield from transformer(lambda: preprocessing.KBinsDiscretizer(4, encode=encode), variant=encode.replace("-", "_"))
    for method in ("yeo-johnson", "box-cox"):
        rows = data.calm() if method == "yeo-johnson" else np.abs(data.calm()) + 0.1
        yield from both(lambda: preprocessing.PowerTransformer(method), rows, variant=method.replace("-", "_"), ask=rows[:10])
    for method in ("uniform", "normal"):
        yield from transformer(lambda: preprocessing.QuantileTransformer(n_quantiles=20, output_distribution=method), variant=method, wild=False)
    for degree, only in ((2, False), (3, True)):
        yield from transformer(lambda: preprocessing.PolynomialFeatures(degree, interaction_only=only), x=data.calm(), variant=str(degree))
    square = data.calm(rows=5)
    yield from both(lambda: preprocessing.KernelCenterer(), square @ square.T, ask=(data.calm(2, 6) @ square.T))
    yield from both(lambda: preprocessing.FunctionTransformer(), x)
    yield Recipe(preprocessing.FunctionTransformer(np.log1p), np.abs(x), variant="log1p")
    for strategy in ("mean", "median", "most_frequent", "constant"):
        yield from both(lambda: impute.SimpleImputer(strategy=strategy, fill_value=-1.5), missing, missing=True, variant=strategy)
    yield from both(lambda: impute.SimpleImputer(add_indicator=True), missing, missing=True, variant="indicator")
    whole = data.integers()
    yield Recipe(impute.SimpleImputer(missing_values=-1, strategy="most_frequent"), whole - 1, variant="integers", ask=whole[:10] - 1)
    words = data.categories()
    gaps = words.astype(object)
    gaps[::7, 0] = ""
    yield Recipe(impute.SimpleImputer(missing_values="", strategy="most_frequent"), gaps, variant="strings", ask=gaps[:10])
    unknown = np.array([["violet", "x"], ["red", ""], ["", "z"]])
    for handle in ("ignore", "infrequent_if_exist"):
        make = preprocessing.OneHotEncoder(handle_unknown=handle, sparse_output=False, min_frequency=25 if handle != "ignore" else None)
        yield Recipe(make, words, variant=f"strings_{handle}", ask=np.concatenate([words[:6], unknown]))
    for drop in ("first", "if_binary"):
        yield Recipe(preprocessing.OneHotEncoder(drop=drop, sparse_output=False), words, variant=f"drop_{drop}", ask=words[:8])
    yield Recipe(preprocessing.OneHotEncoder(handle_unknown="ignore"), whole, variant="integers", ask=np.concatenate([whole[:6], [[9, 9, 9]]]))
    yield from both(lambda: preprocessing.OneHotEncoder(handle_unknown="ignore"), whole.astype(np.float32), variant="floats", ask=whole[:6].astype(np.float32))
    yield Recipe(preprocessing.OrdinalEncoder(), words, variant="strings", ask=words[:8])
    yield Recipe(preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), words, variant="unknown", ask=np.concatenate([words[:6], unknown]))
    yield Recipe(preprocessing.OrdinalEncoder(), whole, variant="integers", ask=whole[:8])
    yield from both(lambda: preprocessing.OrdinalEncoder(), whole.astype(np.float32), variant="floats", ask=whole[:8].astype(np.float32))
    y = data.classes(data.calm(rows=120), 3)
    yield Recipe(preprocessing.TargetEncoder(random_state=0), words, data.target(data.calm(rows=120)), variant="strings", ask=np.concatenate([words[:6], unknown]))
    yield Recipe(preprocessing.TargetEncoder(random_state=0), words, y, variant="strings_three", ask=words[:6])
    yield Recipe(preprocessing.TargetEncoder(random_state=0), whole, data.target(data.calm(rows=120)), variant="integers", ask=whole[:6])
    yield Recipe(preprocessing.LabelEncoder(), words[:, 0], variant="strings", ask=words[:6, :1])
    yield Recipe(preprocessing.LabelEncoder(), whole[:, 0], variant="integers", ask=whole[:6, :1])
    yield Recipe(preprocessing.LabelBinarizer(), whole[:, 0], variant="integers", ask=whole[:6, :1])
    yield Recipe(preprocessing.LabelBinarizer(neg_label=-1), words[:, 0], variant="strings", ask=words[:6, :1])
    yield Recipe(sklapi.CastTransformer(dtype=np.float64), x)
    yield Recipe(sklapi.CastTransformer(dtype=np.float32), x, double=True)
    yield Recipe(sklapi.CastRegressor(tree.DecisionTreeRegressor(max_depth=3)), x, data.target(x), trees=True)
    yield from both(lambda: sklapi.ReplaceTransformer(from_value=0, to_value=np.nan), data.integers(columns=5).astype(np.float32))
    fx, fy = data.calm(), data.classes(data.calm(), 3)
    for kind in (feature_selection.SelectKBest, feature_selection.SelectFpr, feature_selection.SelectFdr, feature_selection.SelectFwe,
                 feature_selection.SelectPercentile, feature_selection.GenericUnivariateSelect):  # fmt: skip
        options = {"k": 2} if kind is feature_selection.SelectKBest else {"percentile": 60} if kind is feature_selection.SelectPercentile else {}
        if kind is feature_selection.GenericUnivariateSelect:
            options = {"mode": "k_best", "param": 2}
        yield from both(lambda: kind(**options), fx, fy)
    yield from both(lambda: feature_selection.RFE(LogisticRegression(), n_features_to_select=2), fx, fy)
    yield from both(lambda: feature_selection.RFECV(LogisticRegression(), cv=2), fx, fy)
    yield from both(lambda: feature_selection.SelectFromModel(LogisticRegression()), fx, fy)
    yield from both(lambda: feature_selection.VarianceThreshold(0.5), x)


def words():
    lines = data.texts()
    unknown = np.array(["", "nothing known", "BUY the Größe!", "buy buy buy sell"])
    ask = np.concatenate([lines[:6], unknown]).reshape(-1, 1)
    for kind in (text.CountVectorizer, text.TfidfVectorizer):
        for variant, options in {
            "plain": {},
            "bigrams": {"ngram_range": (1, 2)},
            "characters": {"analyzer": "char", "ngram_range": (1, 3)},
            "words_kept": {"lowercase": False},
            "stop_words": {"stop_words": ["the", "hold"]},
            "pattern": {"token_pattern": r"[a-zA-Z]+"},
            "one_letter": {"token_pattern": r"\b\w+\b"},
        }.items():
            if kind is text.CountVectorizer and variant == "plain":
                options = {"binary": True}
            yield Recipe(kind(**options), lines, variant=variant, ask=ask)
    yield Recipe(text.TfidfVectorizer(sublinear_tf=True, norm="l1"), lines, variant="sublinear", ask=ask)
    counts = text.CountVectorizer().fit_transform(lines).toarray().astype(np.float32)
    for norm in ("l1", "l2", None):
        yield from both(lambda: text.TfidfTransformer(norm=norm), counts, variant=f"norm_{norm}".lower(), ask=counts[:9])
    dictionaries = [{"price": 1.5, "volume": 3.0}, {"price": 2.0}, {"depth": -1.0, "volume": 0.0}]
    yield Recipe(feature_extraction.DictVectorizer(sparse=False), dictionaries, variant="numbers", ask=dictionaries)
    mixed = [{"city": "Paris", "month": "May"}, {"city": "Rome"}, {"month": "June", "city": "Paris"}]
    yield Recipe(feature_extraction.DictVectorizer(sparse=False), mixed, variant="strings", ask=mixed)
    choices = data.categories()
    yield Recipe(feature_extraction.FeatureHasher(n_features=8, input_type="string"), choices, variant="strings", ask=choices[:8])
    spam = data.classes(data.calm(rows=60), 2)
    for variant, last in {
        "multinomial": naive_bayes.MultinomialNB(),
        "complement": naive_bayes.ComplementNB(),
        "bernoulli": naive_bayes.BernoulliNB(),
        "logistic": LogisticRegression(),
        "sgd": linear_model.SGDClassifier(loss="log_loss", random_state=0),
        "forest": ensemble.RandomForestClassifier(n_estimators=4, random_state=0),
        "svc": svm.LinearSVC(),
    }.items():
        make = pipeline.make_pipeline(text.TfidfVectorizer(), last)
        yield Recipe(make, lines, NAMES[spam], variant=f"tfidf_{variant}", ask=ask)
    union = pipeline.make_union(text.TfidfVectorizer(), text.CountVectorizer(analyzer="char"))
    yield Recipe(pipeline.make_pipeline(union, LogisticRegression()), lines, spam, variant="text_union", ask=ask)
    yield Recipe(pipeline.make_pipeline(text.CountVectorizer(), text.TfidfTransformer(), decomposition.TruncatedSVD(3), LogisticRegression()), lines, spam, variant="count_tfidf_svd", ask=ask)


def decompositions():
    x = data.calm()
    yield from both(lambda: decomposition.PCA(3), x)
    yield from both(lambda: decomposition.PCA(3, whiten=True), x, variant="whiten")
    yield from both(lambda: decomposition.IncrementalPCA(3), x)
    yield from both(lambda: decomposition.TruncatedSVD(3, random_state=0), x)
    for kernel in ("linear", "rbf", "poly", "cosine", "sigmoid"):
        yield from both(lambda: decomposition.KernelPCA(3, kernel=kernel), x[:60], variant=kernel, wild=False)
    yield from both(lambda: random_projection.GaussianRandomProjection(3, random_state=0), x)
    for outputs in (1, 3):
        yield from both(lambda: cross_decomposition.PLSRegression(2), x, data.target(x, outputs), variant=str(outputs))


def meta():
    x = data.calm()
    two, three = data.classes(x, 2), data.classes(x, 3)
    strings = NAMES[data.classes(x, 5)]
    forest = lambda: ensemble.RandomForestClassifier(n_estimators=4, max_depth=4, random_state=0)  # noqa: E731
    stump = lambda: tree.DecisionTreeClassifier(max_depth=4, random_state=0)  # noqa: E731
    y, several = data.target(x), data.target(x, 3)
    for variant, labels in (("binary", two), ("three", three), ("five_strings", strings)):
        for base, estimator in (("logistic", LogisticRegression()), ("tree", stump())):
            name = f"{base}_{variant}"
            flags = {"variant": name, "trees": base == "tree", "wild": False}
            yield from both(lambda: ensemble.BaggingClassifier(estimator, n_estimators=3, random_state=0), x, labels, **flags)
            yield from both(lambda: multiclass.OneVsRestClassifier(estimator), x, labels, **flags)
            yield from both(lambda: multiclass.OneVsOneClassifier(estimator), x, labels, **flags)
            for method in ("sigmoid", "isotonic"):
                yield from both(lambda: calibration.CalibratedClassifierCV(estimator, method=method, cv=2), x, labels, **{**flags, "variant": f"{method}_{name}"})
        for voting in ("soft", "hard"):
            parts = [("a", LogisticRegression()), ("b", stump()), ("c", naive_bayes.GaussianNB())]
            yield from both(lambda: ensemble.VotingClassifier(parts, voting=voting, flatten_transform=False, weights=np.array([1, 2, 1.5])), x, labels, variant=f"{voting}_{variant}", wild=False)
        parts = [("a", LogisticRegression()), ("b", stump())]
        yield from both(lambda: ensemble.StackingClassifier(parts, cv=2), x, labels, variant=variant, wild=False)
        yield from both(lambda: ensemble.StackingClassifier(parts, cv=2, passthrough=True), x, labels, variant=f"{variant}_through", wild=False)
        yield from both(lambda: model_selection.GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2), x, labels, variant=variant, wild=False)
    yield from both(lambda: model_selection.GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=2), x, y, variant="regressor")
    yield from both(lambda: model_selection.TunedThresholdClassifierCV(LogisticRegression(), cv=2), x, two, wild=False)
    yield Recipe(model_selection.TunedThresholdClassifierCV(LogisticRegression(), cv=2), x, NAMES[two], variant="strings", wild=False)
    yield from both(lambda: ensemble.BaggingRegressor(Ridge(), n_estimators=3, random_state=0), x, y, variant="ridge")
    yield from both(lambda: ensemble.BaggingRegressor(n_estimators=3, random_state=0), x, y, variant="tree", trees=True)
    yield from both(lambda: ensemble.VotingRegressor([("a", Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=4))], weights=np.array([1, 3])), x, y, wild=False)
    yield from both(lambda: ensemble.StackingRegressor([("a", Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=4))], cv=2), x, y, wild=False)
    yield from both(lambda: multioutput.MultiOutputRegressor(Ridge()), x, several)
    yield from both(lambda: multioutput.MultiOutputRegressor(ensemble.GradientBoostingRegressor(n_estimators=4)), x, several, variant="boosted", trees=True)
    both_labels = np.stack([two, three], axis=1)
    yield from both(lambda: multioutput.MultiOutputClassifier(LogisticRegression()), x, both_labels, wild=False)
    yield from both(lambda: multioutput.MultiOutputClassifier(forest()), x, both_labels, variant="forest", trees=True)
    yield Recipe(multioutput.MultiOutputClassifier(LogisticRegression()), x, both_labels, variant="zipmap", wild=False, options={"zipmap": True})
    indicators = np.stack([two, data.classes(x[:, ::-1], 2), np.zeros(len(x), np.int64)], axis=1)
    yield from both(lambda: multiclass.OneVsRestClassifier(LogisticRegression()), x, indicators[:, :2], variant="indicators", wild=False)
    # A label that every row or no row has is answered by a constant.
    yield Recipe(multiclass.OneVsRestClassifier(LogisticRegression()), x, indicators, variant="constant", wild=False, of=multiclass._ConstantPredictor)
    # Pipelines.
    scaled = lambda *steps: pipeline.make_pipeline(StandardScaler(), *steps)  # noqa: E731
    for variant, labels in (("binary", two), ("three", three), ("five_strings", strings)):
        yield from both(lambda: scaled(LogisticRegression()), x, labels, variant=f"logistic_{variant}", wild=False)
        yield from both(lambda: scaled(forest()), x, labels, variant=f"forest_{variant}", trees=True)
        yield from both(lambda: scaled(decomposition.PCA(3), svm.SVC(probability=True, random_state=0)), x, labels, variant=f"pca_svc_{variant}", wild=False)
        yield from both(lambda: scaled(feature_selection.SelectKBest(k=3), neighbors.KNeighborsClassifier(5)), x, labels, variant=f"best_knn_{variant}", wild=False)
        yield from both(lambda: scaled(neural_network.MLPClassifier((6,), max_iter=20, random_state=0)), x, labels, variant=f"mlp_{variant}", wild=False)
        yield Recipe(scaled(LogisticRegression()), x, labels, variant=f"zipmap_{variant}", wild=False, options={"zipmap": True})
        yield Recipe(scaled(forest()), x, labels, variant=f"columns_{variant}", trees=True, options={"zipmap": "columns"})
        yield Recipe(scaled(LogisticRegression()), x, labels, variant=f"raw_scores_{variant}", wild=False, options={"raw_scores": True})
        yield Recipe(scaled(LogisticRegression()), x, labels, variant=f"output_class_labels_{variant}", wild=False, options={"output_class_labels": True})
    missing = data.with_missing(x)
    for variant, last in (("logistic", LogisticRegression()), ("forest", forest())):
        make = lambda: pipeline.make_pipeline(impute.SimpleImputer(strategy="median"), StandardScaler(), last)  # noqa: E731
        yield from both(make, missing, three, variant=f"imputed_{variant}", missing=True, wild=False)
    union = lambda: pipeline.make_union(decomposition.PCA(2), StandardScaler(), preprocessing.PolynomialFeatures(2))  # noqa: E731
    yield from both(union, x)
    yield from both(lambda: pipeline.make_pipeline(union(), Ridge()), x, y, variant="union_ridge")
    yield from both(lambda: compose.ColumnTransformer([("a", StandardScaler(), [0, 3]), ("b", preprocessing.MinMaxScaler(), [1])], remainder="passthrough"), x, variant="passthrough")
    yield from both(lambda: compose.ColumnTransformer([("a", StandardScaler(), [0, 3]), ("b", "drop", [1])]), x, variant="dropped")
    for opset in (9, 11, 13, 15, 17, 19, 21):
        yield Recipe(scaled(LogisticRegression()), x, three, variant=f"opset_{opset}", wild=False, opset=opset)
        yield Recipe(scaled(forest()), x, three, variant=f"forest_opset_{opset}", trees=True, opset=opset)
