"""Tables with named columns of several types: an input for each column, as people export models that were trained on data frames."""

import functools

import numpy as np
import onnx
import pandas
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, OrdinalEncoder, StandardScaler

import data


def frame(rows=120):
    numbers = data.calm(rows=rows)
    words = data.categories(rows=rows)
    return pandas.DataFrame(
        {
            "price": numbers[:, 0],
            "volume": numbers[:, 1],
            "age": data.integers(rows=rows, columns=1)[:, 0],
            "colour": words[:, 0],
            "side": words[:, 1],
            "note": data.texts(rows=rows),
        }
    )


class Table:
    def __init__(self, name, estimator, columns, y, double=False, missing=(), tolerance=None):
        self.name, self.estimator, self.columns, self.y, self.double, self.missing, self.tolerance = name, estimator, columns, y, double, missing, tolerance
        self.of = "Pipeline"

    def __call__(self):
        table = frame()[self.columns]
        for column in self.missing:
            table.loc[::5, column] = np.nan
        self.estimator.fit(table, self.y)
        types, request = [], {}
        for column in self.columns:
            values = table[column].to_numpy()
            if values.dtype.kind in "OUT" or str(table[column].dtype).startswith("str"):
                types.append((column, StringTensorType([None, 1])))
                values = np.array([str(value) for value in values], object)
                values[5] = "never seen"
            elif values.dtype.kind == "i":
                types.append((column, Int64TensorType([None, 1])))
            else:
                types.append((column, (DoubleTensorType if self.double else FloatTensorType)([None, 1])))
                values = values.astype(np.float64 if self.double else np.float32)
            request[column] = values[:12].reshape(-1, 1)
        options = {id(self.estimator): {"zipmap": False}} if hasattr(self.estimator, "predict_proba") else None
        model = to_onnx(self.estimator, initial_types=types, options=options, target_opset=18)
        requests = [request, {key: value[:1] for key, value in request.items()}, {key: value[:0] for key, value in request.items()}]
        return {"model": model, "requests": requests, "of": self.of, "tolerance": self.tolerance}


class Batch:
    """A scikit-learn model whose batch is declared in another way."""

    of = "Pipeline"

    def __init__(self, estimator, batch):
        self.estimator, self.batch = estimator, batch

    def __call__(self):
        x = data.calm()
        self.estimator.fit(x, data.classes(x, 3))
        model = to_onnx(self.estimator, initial_types=[("input", FloatTensorType([None, data.COLUMNS]))], options={id(self.estimator): {"zipmap": False}}, target_opset=18)
        for info in [*model.graph.input, *model.graph.output]:
            dimension = info.type.tensor_type.shape.dim[0]
            if isinstance(self.batch, str):
                dimension.dim_param = self.batch
            else:
                dimension.dim_value = self.batch
        onnx.checker.check_model(model)
        many = data.calm(11, 1024)
        sizes = [self.batch] if isinstance(self.batch, int) else [9, 1, 0, 1024]
        return {"model": model, "requests": [{"input": many[:size]} for size in sizes], "of": self.of}


def jobs():
    rows = len(frame())
    two, three = data.classes(data.calm(rows=rows), 2), data.classes(data.calm(rows=rows), 3)
    y = data.target(data.calm(rows=rows))
    names = data.NAMES[three]
    numbers, words = ["price", "volume"], ["colour", "side"]
    one_hot = functools.partial(OneHotEncoder, handle_unknown="ignore", sparse_output=False)
    ordinal = functools.partial(OrdinalEncoder, handle_unknown="use_encoded_value", unknown_value=-1)
    found = []

    def add(name, estimator, columns, target, **options):
        found.append((f"table_{name}", Table(name, estimator, columns, target, **options)))

    for variant, double in (("", False), ("_f64", True)):
        mixed = lambda: ColumnTransformer([("numbers", StandardScaler(), numbers), ("words", one_hot(), words)])  # noqa: E731
        add(f"mixed_logistic{variant}", make_pipeline(mixed(), LogisticRegression()), [*numbers, *words], names, double=double)
        add(f"mixed_ridge{variant}", make_pipeline(mixed(), Ridge()), [*numbers, *words], y, double=double)
        if not double:
            add("mixed_forest", make_pipeline(mixed(), RandomForestClassifier(n_estimators=5, max_depth=4, random_state=0)), [*numbers, *words], three)
            add("mixed_boosting", make_pipeline(mixed(), GradientBoostingClassifier(n_estimators=5, random_state=0)), [*numbers, *words], two)
    filled = make_pipeline(SimpleImputer(strategy="median"), MinMaxScaler())
    imputed = ColumnTransformer([("numbers", filled, numbers), ("words", ordinal(), words)], remainder="drop")
    add("imputed_ordinal_forest", make_pipeline(imputed, RandomForestRegressor(n_estimators=5, max_depth=4, random_state=0)), [*numbers, *words], y, missing=["price"])
    whole = ColumnTransformer([("age", one_hot(), ["age"]), ("numbers", "passthrough", numbers)])
    add("integers_logistic", make_pipeline(whole, LogisticRegression()), ["age", *numbers], two)
    texts = ColumnTransformer([("note", TfidfVectorizer(), "note"), ("words", one_hot(), words), ("numbers", StandardScaler(), numbers)])
    add("texts_logistic", make_pipeline(texts, LogisticRegression()), ["note", *words, *numbers], two)
    scaled = ColumnTransformer([("a", StandardScaler(), ["price"]), ("b", MinMaxScaler(), ["volume"])])
    add("named_numbers", make_pipeline(scaled, LogisticRegression()), numbers, names)
    for variant, batch in (("named", "rows"), ("one", 1), ("four", 4)):
        found.append((f"batch_{variant}_logistic", Batch(make_pipeline(StandardScaler(), LogisticRegression()), batch)))
        found.append((f"batch_{variant}_forest", Batch(RandomForestClassifier(n_estimators=5, max_depth=4, random_state=0), batch)))
    return found
