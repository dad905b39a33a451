"""Every library, with classifiers and regressors: onnxruntime and Lockgate answer as the library does, and covers add up."""

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb
from conftest import check_covers, close, run_onnx
from sklearn import calibration, ensemble, linear_model, multiclass, naive_bayes, neural_network, pipeline, preprocessing, svm, tree
from sklearn.model_selection import GridSearchCV

from lockgate_export import ExportError, ExportWarning, export

quiet = {"n_estimators": 12, "verbose": -1}


def scaled(model):
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


CLASSIFIERS = {
    "tree": lambda: tree.DecisionTreeClassifier(max_depth=5, random_state=0),
    "forest": lambda: ensemble.RandomForestClassifier(12, max_depth=6, random_state=0),
    "extra_trees": lambda: ensemble.ExtraTreesClassifier(8, max_depth=6, random_state=0),
    "gradient_boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=10, subsample=0.8, random_state=0),
    "histogram": lambda: ensemble.HistGradientBoostingClassifier(max_iter=10),
    "xgboost": lambda: xgb.XGBClassifier(n_estimators=12, max_depth=4),
    "xgboost_dart": lambda: xgb.XGBClassifier(n_estimators=12, booster="dart", rate_drop=0.4, max_depth=3),
    "xgboost_forest": lambda: xgb.XGBRFClassifier(n_estimators=8),
    "xgboost_in_a_pipeline": lambda: pipeline.make_pipeline(preprocessing.FunctionTransformer(), xgb.XGBClassifier(n_estimators=8)),
    "lightgbm": lambda: lgb.LGBMClassifier(**quiet),
    "lightgbm_forest": lambda: lgb.LGBMClassifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.6, **quiet),
    "lightgbm_dart": lambda: lgb.LGBMClassifier(boosting_type="dart", **quiet),
    "lightgbm_ova": lambda: lgb.LGBMClassifier(objective="multiclassova", num_class=3, sigmoid=1.7, **quiet),
    "adaboost": lambda: ensemble.AdaBoostClassifier(n_estimators=6, random_state=0),
    "bagging": lambda: ensemble.BaggingClassifier(n_estimators=4, random_state=0),
    "voting": lambda: ensemble.VotingClassifier(
        [("forest", ensemble.RandomForestClassifier(4, random_state=0)), ("line", linear_model.LogisticRegression())], voting="soft"
    ),
    "stacking": lambda: ensemble.StackingClassifier(
        [("boosted", lgb.LGBMClassifier(**quiet)), ("forest", ensemble.RandomForestClassifier(4, random_state=0))]
    ),
    "calibrated": lambda: calibration.CalibratedClassifierCV(ensemble.RandomForestClassifier(4, random_state=0), cv=2),
    "searched": lambda: GridSearchCV(ensemble.RandomForestClassifier(4, random_state=0), {"max_depth": [2, 4]}, cv=2),
    "scaled_lightgbm": lambda: scaled(lgb.LGBMClassifier(**quiet)),
}
WITHOUT_TREES = {
    "logistic": lambda: scaled(linear_model.LogisticRegression()),
    "mlp": lambda: scaled(neural_network.MLPClassifier((8,), max_iter=60, random_state=0)),
    "svm": lambda: svm.SVC(probability=True, random_state=0),
    "bayes": lambda: naive_bayes.GaussianNB(),
}
REGRESSORS = {
    "tree": (lambda: tree.DecisionTreeRegressor(max_depth=5), "real"),
    "forest": (lambda: ensemble.RandomForestRegressor(8, max_depth=6, random_state=0), "real"),
    "gradient_boosting": (lambda: ensemble.GradientBoostingRegressor(n_estimators=10), "real"),
    "histogram": (lambda: ensemble.HistGradientBoostingRegressor(max_iter=10), "real"),
    "histogram_poisson": (lambda: ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson"), "counts"),
    "histogram_quantile": (lambda: ensemble.HistGradientBoostingRegressor(max_iter=10, loss="quantile", quantile=0.7), "real"),
    "xgboost": (lambda: xgb.XGBRegressor(n_estimators=12), "real"),
    "xgboost_poisson": (lambda: xgb.XGBRegressor(n_estimators=12, objective="count:poisson"), "counts"),
    "xgboost_gamma": (lambda: xgb.XGBRegressor(n_estimators=12, objective="reg:gamma"), "positive"),
    "xgboost_tweedie": (lambda: xgb.XGBRegressor(n_estimators=12, objective="reg:tweedie"), "counts"),
    "xgboost_logistic": (lambda: xgb.XGBRegressor(n_estimators=12, objective="reg:logistic"), "binary"),
    "xgboost_absolute": (lambda: xgb.XGBRegressor(n_estimators=12, objective="reg:absoluteerror"), "real"),
    "xgboost_base": (lambda: xgb.XGBRegressor(n_estimators=12, base_score=3.5), "real"),
    "lightgbm": (lambda: lgb.LGBMRegressor(**quiet), "real"),
    "lightgbm_l1": (lambda: lgb.LGBMRegressor(objective="l1", **quiet), "real"),
    "lightgbm_poisson": (lambda: lgb.LGBMRegressor(objective="poisson", **quiet), "counts"),
    "lightgbm_gamma": (lambda: lgb.LGBMRegressor(objective="gamma", **quiet), "positive"),
    "lightgbm_quantile": (lambda: lgb.LGBMRegressor(objective="quantile", alpha=0.8, **quiet), "real"),
    "lightgbm_root": (lambda: lgb.LGBMRegressor(reg_sqrt=True, **quiet), "real"),
    "lightgbm_entropy": (lambda: lgb.LGBMRegressor(objective="cross_entropy", **quiet), "binary"),
    "lightgbm_lambda": (lambda: lgb.LGBMRegressor(objective="cross_entropy_lambda", **quiet), "binary"),
    "scaled_xgboost": (lambda: pipeline.make_pipeline(preprocessing.FunctionTransformer(), xgb.XGBRegressor(n_estimators=8)), "real"),
}


def kinds(name):
    if name == "lightgbm_ova":
        return ["three", "three_texts"]
    if name.startswith("xgboost"):
        return ["binary", "three"]
    return ["binary", "three", "binary_texts", "three_texts"]


def check_classifier(model, data, kind, lockgate=None, double=False):
    target = data.target(kind)
    model.fit(data.X, target)
    exported = export(model, data.X, name="classifier", double=double)
    labels, scores = run_onnx(exported.onnx, data.X)
    close(scores, model.predict_proba(data.X))
    wanted = model.predict(data.X)
    sure = np.diff(np.sort(model.predict_proba(data.X), axis=1)[:, -2:])[:, 0] > 1e-5
    assert (labels.astype(str)[sure] == wanted.astype(str)[sure]).all()
    assert exported.manifest.labels == [str(label) for label in model.classes_]
    if lockgate is not None:
        answers = lockgate(exported, data.X[:40])
        close(answers["probabilities"], scores[:40])
        assert (answers["label"].astype(str) == labels[:40].astype(str)).all()
    return exported


@pytest.mark.parametrize("name, kind", [(name, kind) for name in CLASSIFIERS for kind in kinds(name)])
def test_classifiers_of_trees(name, kind, data):
    exported = check_classifier(CLASSIFIERS[name](), data, kind)
    check_covers(exported.onnx)


@pytest.mark.parametrize("name", WITHOUT_TREES)
@pytest.mark.parametrize("kind", ["binary", "three_texts"])
def test_other_classifiers(name, kind, data):
    check_classifier(WITHOUT_TREES[name](), data, kind)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name, data):
    build, kind = REGRESSORS[name]
    model = build().fit(data.X, data.target(kind))
    exported = export(model, data.X, name="regressor")
    (values,) = run_onnx(exported.onnx, data.X)
    close(values[:, 0], model.predict(data.X))
    check_covers(exported.onnx)
    assert exported.manifest.labels == []


@pytest.mark.parametrize("name", ["forest", "gradient_boosting", "histogram", "xgboost", "lightgbm", "scaled_lightgbm"])
def test_double_inputs_keep_what_single_precision_loses(name, data):
    # Columns that differ only beyond single precision.
    rng = np.random.default_rng(1)
    X = 1000.0 + rng.normal(scale=1e-3, size=(300, 3))
    target = (X[:, 0] > 1000.0).astype(int)
    if name in ("forest", "gradient_boosting", "xgboost"):
        # These libraries round to single precision themselves.
        X = X * np.array([1.0, 1e-3, 1e3])
    model = CLASSIFIERS[name]().fit(X, target)
    exported = export(model, X, double=True)
    assert exported.onnx.graph.input[0].type.tensor_type.elem_type == 11
    close(run_onnx(exported.onnx, X)[1], model.predict_proba(X))
    check_covers(exported.onnx)


@pytest.mark.parametrize("name", ["forest", "histogram", "xgboost", "lightgbm", "logistic"])
@pytest.mark.parametrize("kind", ["binary", "three"])
def test_lockgate_predicts_as_the_library(name, kind, data, lockgate):
    check_classifier((CLASSIFIERS | WITHOUT_TREES)[name](), data, kind, lockgate)


@pytest.mark.parametrize("name", ["forest", "histogram_poisson", "xgboost_gamma", "lightgbm"])
def test_lockgate_predicts_numbers_as_the_library(name, data, lockgate):
    build, kind = REGRESSORS[name]
    model = build().fit(data.X, data.target(kind))
    answers = lockgate(export(model, data.X, name="regressor"), data.X[:40])
    close(answers["variable"][:, 0], model.predict(data.X[:40]))


@pytest.mark.parametrize("name", ["tree", "forest", "extra_trees", "histogram", "xgboost", "lightgbm"])
def test_missing_values_go_where_the_library_sends_them(name, data):
    rng = np.random.default_rng(3)
    X = np.where(rng.random(data.X.shape) < 0.2, np.nan, data.X).astype(np.float32)
    model = CLASSIFIERS[name]().fit(X, data.binary)
    exported = export(model, X)
    close(run_onnx(exported.onnx, X)[1], model.predict_proba(X))
    assert exported.manifest.accepts_missing is True


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_missing_values_that_training_never_saw(name, data):
    model = CLASSIFIERS[name]().fit(data.X, data.binary)
    rows = data.X.copy()
    rows[::3, 0] = np.nan
    close(run_onnx(export(model, data.X).onnx, rows)[1], model.predict_proba(rows))


def test_scores_that_are_all_positive_keep_their_labels(data):
    # Nearly every row is of the second class, so every leaf is positive.
    target = np.ones(300, dtype=int)
    target[:20] = 0
    for model in (xgb.XGBClassifier(n_estimators=2, max_depth=1, base_score=0.5, learning_rate=0.05), lgb.LGBMClassifier(n_estimators=1, verbose=-1)):
        model.fit(data.X, target)
        labels, scores = run_onnx(export(model, data.X).onnx, data.X)
        close(scores, model.predict_proba(data.X))
        assert (labels == model.predict(data.X)).all()


def test_early_stopping_uses_the_best_iterations(data):
    fit, held = slice(0, 200), slice(200, 300)
    noise = np.random.default_rng(0).integers(0, 2, 300)
    boosted = xgb.XGBClassifier(n_estimators=60, early_stopping_rounds=5, learning_rate=0.5)
    boosted.fit(data.X[fit], noise[fit], eval_set=[(data.X[held], noise[held])], verbose=False)
    light = lgb.LGBMClassifier(n_estimators=60, learning_rate=0.5, verbose=-1)
    light.fit(data.X[fit], noise[fit], eval_set=[(data.X[held], noise[held])], callbacks=[lgb.early_stopping(5, verbose=False)])
    assert boosted.best_iteration < 59 and light.best_iteration_ < 59
    for model in (boosted, light):
        close(run_onnx(export(model, data.X).onnx, data.X)[1], model.predict_proba(data.X))


def test_files_of_models_that_stopped_early_answer_as_xgboost_loads_them(data, tmp_path):
    noise = np.random.default_rng(0).integers(0, 2, 300)
    fit, held = slice(0, 200), slice(200, 300)
    boosted = xgb.XGBClassifier(n_estimators=60, early_stopping_rounds=5, learning_rate=0.5)
    boosted.fit(data.X[fit], noise[fit], eval_set=[(data.X[held], noise[held])], verbose=False)
    assert boosted.best_iteration + 1 < boosted.get_booster().num_boosted_rounds()
    for ending in ("json", "ubj"):
        boosted.save_model(tmp_path / f"model.{ending}")
        close(run_onnx(export(tmp_path / f"model.{ending}", data.X).onnx, data.X)[1], boosted.predict_proba(data.X))
    # A booster is no estimator, and neither is its file: all iterations predict.
    booster = boosted.get_booster()
    booster.save_model(tmp_path / "booster.json")
    for model in (booster, tmp_path / "booster.json"):
        with pytest.warns(ExportWarning, match=r"all \d+ iterations of the booster are exported"):
            scores = run_onnx(export(model, data.X).onnx, data.X)[1]
        close(scores[:, 1], booster.predict(xgb.DMatrix(data.X)))


@pytest.mark.parametrize("labels", [2, 3])
def test_labels_that_do_not_exclude_each_other_are_a_probability_each(labels, data, lockgate):
    targets = np.column_stack([data.binary, data.X[:, 1] > 0, data.X[:, 2] > 0.5][:labels]).astype(int)
    boosted = xgb.XGBClassifier(n_estimators=6).fit(data.X, targets)
    exported = export(boosted, data.X, name="boosted")
    close(run_onnx(exported.onnx, data.X)[0], boosted.predict_proba(data.X))
    assert exported.manifest.labels == []
    close(lockgate(exported, data.X[:40])["variable"], boosted.predict_proba(data.X[:40]))
    with pytest.raises(ExportError, match="do not exclude each other, so they are no classes"):
        export(boosted, data.X, labels=["a", "b", "c"][:labels])
    with pytest.raises(ExportError, match="is exported alone only"):
        export(scaled(xgb.XGBClassifier(n_estimators=6)).fit(data.X, targets), data.X)
    lines = multiclass.OneVsRestClassifier(linear_model.LogisticRegression()).fit(data.X, targets)
    exported = export(lines, data.X, name="lines")
    close(run_onnx(exported.onnx, data.X)[1], lines.predict_proba(data.X))
    assert exported.manifest.labels == []


def test_boosters_and_their_files(data, tmp_path):
    names = data.names
    matrix = xgb.DMatrix(data.X, label=data.three, feature_names=names)
    booster = xgb.train({"objective": "multi:softprob", "num_class": 3}, matrix, 8)
    for ending in ("json", "ubj"):
        booster.save_model(tmp_path / f"model.{ending}")
        exported = export(tmp_path / f"model.{ending}")
        close(run_onnx(exported.onnx, data.X)[1], booster.predict(matrix))
        assert [feature["name"] for feature in exported.manifest.features] == names
        assert exported.manifest.labels == ["0", "1", "2"]
    light = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(data.X, data.binary, feature_name=names), 8)
    light.save_model(tmp_path / "model.txt")
    exported = export(tmp_path / "model.txt")
    close(run_onnx(exported.onnx, data.X)[1][:, 1], light.predict(data.X))
    first = exported.manifest.features[0]
    assert first["name"] == names[0]
    close([first["min"], first["max"]], [data.X[:, 0].min(), data.X[:, 0].max()])


@pytest.mark.parametrize("base", [None, 0.2, 0.9])
def test_boosters_that_answer_with_log_odds(base, data, lockgate):
    matrix = xgb.DMatrix(data.X, label=data.binary)
    booster = xgb.train({"objective": "binary:logitraw"} | ({} if base is None else {"base_score": base}), matrix, 6)
    close(run_onnx(export(booster, data.X).onnx, data.X)[0][:, 0], booster.predict(matrix))
    model = xgb.XGBClassifier(objective="binary:logitraw", n_estimators=6, base_score=base).fit(data.X, data.binary)
    for classifier in (model, pipeline.make_pipeline(preprocessing.FunctionTransformer(), model).fit(data.X, data.binary)):
        exported = export(classifier, data.X, name="odds")
        labels, scores = run_onnx(exported.onnx, data.X)
        wanted = classifier.predict_proba(data.X)
        close(scores, wanted)
        sure = np.abs(wanted[:, 1] - 0.5) > 1e-4
        assert (labels == classifier.predict(data.X))[sure].all()
        # XGBoost compares log-odds with one half, not with zero.
        assert ((wanted[:, 1] > 0) & (labels == 0)).any()
        answers = lockgate(exported, data.X[:40])
        close(answers["probabilities"], scores[:40])
        assert (answers["label"] == labels[:40]).all()


def test_rankers(data):
    groups = np.repeat(np.arange(30), 10)
    ranker = xgb.XGBRanker(n_estimators=6).fit(data.X, data.three, qid=groups)
    light = lgb.LGBMRanker(**quiet).fit(data.X, data.three, group=[10] * 30)
    for model in (ranker, light):
        close(run_onnx(export(model, data.X).onnx, data.X)[0][:, 0], model.predict(data.X))


def test_several_targets(data):
    targets = np.column_stack([data.real, data.positive])
    for model in (xgb.XGBRegressor(n_estimators=6), ensemble.RandomForestRegressor(4, random_state=0), linear_model.Ridge()):
        model.fit(data.X, targets)
        close(run_onnx(export(model, data.X).onnx, data.X)[0], model.predict(data.X))


def test_covers_are_those_that_shap_uses(data):
    """shap takes weighted_n_node_samples, count, sum_hessian and the counts of LightGBM: the roots tell which it is."""
    weights = np.linspace(0.5, 2.0, 300)
    forest = tree.DecisionTreeClassifier(max_depth=4).fit(data.X, data.binary, sample_weight=weights)
    close(check_covers(export(forest, data.X).onnx), [weights.sum()])
    histogram = ensemble.HistGradientBoostingRegressor(max_iter=2).fit(data.X, data.real)
    close(check_covers(export(histogram, data.X).onnx), [300, 300])
    boosted = xgb.XGBRegressor(n_estimators=2).fit(data.X, data.real, sample_weight=weights)
    close(check_covers(export(boosted, data.X).onnx), [weights.sum()] * 2, 1e-4)
    light = lgb.LGBMClassifier(n_estimators=2, verbose=-1).fit(data.X, data.binary, sample_weight=weights)
    close(check_covers(export(light, data.X).onnx), [300, 300])


def test_covers_stand_at_their_nodes(data):
    """The cover of every leaf is the weight of the training rows that reach it."""
    forest = ensemble.RandomForestRegressor(3, bootstrap=False, max_features=2, random_state=0, max_depth=4).fit(data.X, data.real)
    from conftest import attributes

    (node,) = [node for node in export(forest, data.X).onnx.graph.node if node.op_type == "TreeEnsembleRegressor"]
    values = attributes(node)
    for index, estimator in enumerate(forest.estimators_):
        reached = np.bincount(estimator.apply(data.X))
        covers = {
            number: cover
            for tree_id, number, cover, mode in zip(
                values["nodes_treeids"], values["nodes_nodeids"], values["nodes_hitrates"], values["nodes_modes"]
            )
            if tree_id == index and mode == b"LEAF"
        }
        assert covers == {number: count for number, count in enumerate(reached) if count}
