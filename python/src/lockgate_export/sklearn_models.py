"""scikit-learn: skl2onnx converts; this module chooses the inputs, teaches it the boosted models, and puts into the other trees
what it leaves out: covers, exact thresholds, and where missing values go."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any, Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .errors import ExportError, ExportWarning, missing_package
from .graph import ML, ML_OPSET, OPSET, ContainerWriter
from .table import Table
from .trees import covers_add_up, single, write_classifier, write_regressor

TREE_OPERATORS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")


def convert(model: Any, table: Table | None, features: int | None, *, double: bool) -> onnx.ModelProto:
    """Converts a fitted estimator or pipeline."""
    try:
        import skl2onnx
    except ImportError:
        raise missing_package("skl2onnx", "sklearn") from None
    _register_boosted()
    options = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
    try:
        with _flat_votes(model):
            converted = skl2onnx.convert_sklearn(
                model,
                name="model",
                initial_types=_inputs(model, table, features, double),
                target_opset={"": OPSET, ML: ML_OPSET},
                options=options,
            )
    except ExportError:
        raise
    except Exception as error:
        raise _explained(model, error) from error
    _unique_opsets(converted)
    fill_trees(converted, model, double=double)
    return _typed(converted, model) if double else converted


def _unique_opsets(model: onnx.ModelProto) -> None:
    """skl2onnx sometimes names a set twice."""
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        versions[opset.domain] = max(opset.version, versions.get(opset.domain, 0))
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())


@contextlib.contextmanager
def _flat_votes(model: Any) -> Iterator[None]:
    """skl2onnx refuses votes that flatten what `transform` returns; predictions do not depend on it."""
    changed = [part for part in walk(model) if getattr(part, "flatten_transform", False) is True]
    try:
        for part in changed:
            part.flatten_transform = False
        yield
    finally:
        for part in changed:
            part.flatten_transform = True


def _typed(model: onnx.ModelProto, estimator: Any) -> onnx.ModelProto:
    """Trees answer in single precision; where what follows expects doubles, a cast stands between."""
    if _is_well_typed(model):
        return model
    cast = onnx.ModelProto()
    cast.CopyFrom(model)
    nodes = list(cast.graph.node)
    del cast.graph.node[:]
    for node in nodes:
        cast.graph.node.append(node)
        if node.op_type in TREE_OPERATORS and node.domain == ML:
            last, place = cast.graph.node[-1], len(node.output) - 1
            name = node.output[place]
            last.output[place] = f"{name}_single"
            cast.graph.node.append(helper.make_node("Cast", [f"{name}_single"], [name], to=onnx.TensorProto.DOUBLE))
    if _is_well_typed(cast):
        return cast
    raise ExportError(
        "skl2onnx cannot write the model in double precision",
        where=type(estimator).__name__,
        hint="export it in single precision (without double)",
    )


def _is_well_typed(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:
        return False
    return True


def _explained(model: Any, error: Exception) -> ExportError:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    kind = type(error).__name__
    where = type(model).__name__
    if kind == "MissingShapeCalculator":
        unknown = first.split("'")[1] if "'" in first else "an estimator"
        return ExportError(
            f"skl2onnx has no converter for {unknown}",
            where=where,
            hint="replace it, or apply it before the model and export the rest",
        )
    return ExportError(
        f"skl2onnx cannot convert the model: {kind}: {first}",
        where=where,
        hint="the message is skl2onnx's; a newer release may help, or an estimator that it supports",
    )


def _inputs(model: Any, table: Table | None, features: int | None, double: bool) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    number = DoubleTensorType if double else FloatTensorType
    if separate_columns(model, table):
        assert table is not None
        return [
            (table.name(index), (StringTensorType if column.dtype.kind == "O" else number)([None, 1]))
            for index, column in enumerate(table.columns)
        ]
    if table is not None and table.array is not None:
        raise ExportError("X has more than two dimensions", hint="estimators of scikit-learn take rows of columns")
    if features is None:
        raise ExportError("nobody knows how many columns the model takes", hint="give X, some rows of the training data")
    return [("X", number([None, features]))]


def separate_columns(model: Any, table: Table | None) -> bool:
    """Whether each column is an input of its own: when some are texts, or the model chooses columns by name."""
    if table is None:
        if any(_by_name(part) for part in walk(model)):
            raise ExportError(
                "the model chooses columns by name",
                where="ColumnTransformer",
                hint="give X as a data frame, or --data, so that the kind of each column is known",
            )
        return False
    if table.array is not None:
        return False
    return not table.is_numeric or any(_by_name(part) for part in walk(model))


def _by_name(part: Any) -> bool:
    transformers = getattr(part, "transformers_", None)
    if transformers is None or type(part).__name__ != "ColumnTransformer":
        return False
    return any(_names_columns(columns) for _, _, columns in transformers)


def _names_columns(columns: Any) -> bool:
    return isinstance(columns, str) or (
        not isinstance(columns, slice) and np.ndim(columns) == 1 and any(isinstance(column, str) for column in columns)
    )


def walk(model: Any) -> Iterator[Any]:
    """A model and every estimator fitted inside it, in a fixed order. Estimators that were only configured are left out."""
    seen: set[int] = set()
    stack = [model]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, (list, tuple)):
            stack.extend(reversed(part))
        elif isinstance(part, np.ndarray):
            if part.dtype == object:
                stack.extend(reversed(part.ravel().tolist()))
        elif isinstance(part, dict):
            stack.extend(reversed(list(part.values())))
        elif hasattr(part, "get_params") or type(part).__module__.startswith("sklearn.calibration"):
            yield part
            stack.extend(reversed([value for name, value in sorted(vars(part).items()) if _holds_estimators(name, value)]))


def _holds_estimators(name: str, value: Any) -> bool:
    if name.startswith("__"):
        return False
    return isinstance(value, (list, tuple, dict)) or hasattr(value, "get_params") or (
        isinstance(value, np.ndarray) and value.dtype == object
    )


# Boosted models, alone and inside pipelines, stacks and so on


def _register_boosted() -> None:
    """Tells skl2onnx how to write boosted models, for those of the libraries that are installed."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
    for classes, read in _boosted_classes():
        for kind in classes:
            classifies = kind.__name__.endswith("Classifier")
            update_registered_converter(
                kind,
                f"Lockgate{kind.__name__}",
                calculate_linear_classifier_output_shapes if classifies else calculate_linear_regressor_output_shapes,
                _converter(read, classifies),
                options=options if classifies else None,
                overwrite=True,
            )


def _boosted_classes() -> Iterator[tuple[list[type], Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    from .histogram_models import read as read_histogram

    yield [HistGradientBoostingClassifier, HistGradientBoostingRegressor], read_histogram
    try:
        import xgboost

        from .xgboost_models import read as read_xgboost

        names = ("XGBClassifier", "XGBRegressor", "XGBRFClassifier", "XGBRFRegressor", "XGBRanker")
        yield [getattr(xgboost, name) for name in names], read_xgboost
    except ImportError:
        pass
    try:
        import lightgbm

        from .lightgbm_models import read as read_lightgbm

        yield [lightgbm.LGBMClassifier, lightgbm.LGBMRegressor, lightgbm.LGBMRanker], read_lightgbm
    except ImportError:
        pass


def _converter(read: Any, classifies: bool) -> Any:
    def convert_boosted(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        boosted = read(operator.raw_operator)
        writer = ContainerWriter(scope, container)
        rows = operator.inputs[0].full_name
        # XGBoost computes in single precision, whatever it is given.
        double = isinstance(operator.inputs[0].type, DoubleTensorType) and boosted.ensemble.mode == "BRANCH_LEQ"
        if not double and not isinstance(operator.inputs[0].type, FloatTensorType):
            rows = writer.node("Cast", [rows], to=onnx.TensorProto.FLOAT)
        outputs = [output.full_name for output in operator.outputs]
        # The operators answer in single precision, whatever they compute with.
        wide = isinstance(operator.outputs[-1].type, DoubleTensorType)
        scores = scope.get_unique_variable_name("scores") if wide else outputs[-1]
        if classifies:
            labels = plain_labels(boosted.labels or [])
            write_classifier(writer, rows, boosted.ensemble, labels, boosted.link, [outputs[0], scores], double=double)
        else:
            write_regressor(writer, rows, boosted.ensemble, boosted.link, scores, double=double)
        if wide:
            writer.node("Cast", [scores], outputs=[outputs[-1]], to=onnx.TensorProto.DOUBLE)

    return convert_boosted


def plain_labels(classes: Any) -> list[int] | list[str]:
    """Classes as the operators can carry them: all texts, or all integers (truth values are 0 and 1)."""
    classes = list(classes)
    if all(isinstance(label, str) for label in classes):
        return [str(label) for label in classes]
    if all(isinstance(label, (int, np.integer, bool, np.bool_, float, np.floating)) and float(label).is_integer() for label in classes):
        return [int(label) for label in classes]
    raise ExportError(
        f"the classes {classes} are neither all texts nor all integers", hint="train with labels of one kind"
    )


# What skl2onnx leaves out of trees


def fill_trees(model: onnx.ModelProto, estimator: Any, *, double: bool = False) -> None:
    """Writes covers into the trees that skl2onnx wrote, exact thresholds, and where missing values go.

    Both trees are walked in parallel: features, children and thresholds must agree.
    """
    sources = [trees for part in walk(estimator) for trees in _source_trees(part)]
    written = False
    for node in model.graph.node:
        if node.op_type not in TREE_OPERATORS or node.domain != ML:
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        numbers = [name for name in attributes if name.startswith("nodes_") and name != "nodes_modes"]
        values = {name: _values(attributes[name]) for name in numbers}
        rates = values.get("nodes_hitrates", values.get("nodes_hitrates_as_tensor"))
        if rates is None or not np.all(rates == 1.0):
            continue
        place = next((place for place, trees in enumerate(sources) if _matches(values, trees)), None)
        if place is None:
            warnings.warn(
                f"the trees of node `{node.name}` do not match those of the model node for node, so their covers are left out; "
                "contributions need a background instead (`background=100`)",
                ExportWarning,
                stacklevel=2,
            )
            continue
        # Equal trees are written in the order in which they stand in the model; one may also be written twice.
        trees = sources.pop(place)
        sources.append(trees)
        _write(node, trees, double)
        written = True
    if written and double:
        # Attributes in double precision are there from this set on.
        for opset in model.opset_import:
            if opset.domain == ML:
                opset.version = max(opset.version, ML_OPSET)


class SourceTree:
    """A tree of scikit-learn, in the numbering that skl2onnx keeps."""

    def __init__(self, left: Any, right: Any, feature: Any, threshold: Any, cover: Any, missing_left: Any) -> None:
        self.left = np.asarray(left, dtype=np.int64)
        self.right = np.asarray(right, dtype=np.int64)
        self.feature = np.asarray(feature, dtype=np.int64)
        self.threshold = np.asarray(threshold, dtype=np.float64)
        self.cover = np.asarray(cover, dtype=np.float64)
        self.missing_left = np.asarray(missing_left, dtype=bool)


def _source_trees(part: Any) -> list[list[SourceTree]]:
    """The ensembles that an operator may hold: all trees of an estimator."""
    if hasattr(part, "tree_"):
        return [[_plain_tree(part.tree_)]]
    names = ("RandomForest", "ExtraTrees", "GradientBoosting")
    if not type(part).__name__.startswith(names) or not hasattr(part, "estimators_"):
        return []
    return [[_plain_tree(tree.tree_) for tree in np.asarray(part.estimators_, dtype=object).ravel()]]


def _plain_tree(tree: Any) -> SourceTree:
    leaf = tree.children_left == -1
    missing = getattr(tree, "missing_go_to_left", np.zeros(len(leaf), dtype=bool))
    return SourceTree(
        np.where(leaf, 0, tree.children_left),
        np.where(leaf, 0, tree.children_right),
        np.where(leaf, -1, tree.feature),
        tree.threshold,
        tree.weighted_n_node_samples,
        np.where(leaf, False, missing),
    )


def _matches(values: dict[str, np.ndarray], trees: list[SourceTree]) -> bool:
    """Whether the operator's trees are these, node for node."""
    ids = values["nodes_treeids"].astype(np.int64)
    if len(ids) != sum(len(tree.left) for tree in trees):
        return False
    sizes = np.array([len(tree.left) for tree in trees])
    expected_numbers = np.concatenate([np.arange(size) for size in sizes])
    changes = np.flatnonzero(np.diff(ids)) + 1
    starts = np.concatenate([[0], changes])
    if len(starts) != len(trees) or np.any(starts != np.concatenate([[0], np.cumsum(sizes)[:-1]])):
        return False
    if np.any(values["nodes_nodeids"] != expected_numbers):
        return False
    join = np.concatenate
    feature = join([tree.feature for tree in trees])
    inner = feature >= 0
    left, right = join([tree.left for tree in trees]), join([tree.right for tree in trees])
    if np.any(values["nodes_truenodeids"][inner] != left[inner]) or np.any(values["nodes_falsenodeids"][inner] != right[inner]):
        return False
    if np.any(values["nodes_featureids"][inner] != feature[inner]):
        return False
    written = values.get("nodes_values", values.get("nodes_values_as_tensor"))
    threshold = join([tree.threshold for tree in trees])
    scale = np.maximum(np.abs(threshold[inner]), 1e-6)
    with np.errstate(invalid="ignore"):
        return bool(np.all((np.abs(written[inner] - threshold[inner]) <= 1e-5 * scale) | (written[inner] == threshold[inner])))


def _write(node: onnx.NodeProto, trees: list[SourceTree], double: bool) -> None:
    feature = np.concatenate([tree.feature for tree in trees])
    inner = feature >= 0
    for tree in trees:
        if not covers_add_up(tree.left, tree.right, tree.cover, tree.feature >= 0):
            raise ExportError(
                "the counts of the training rows do not add up in a tree",
                where=node.name,
                hint="fit the model again; its trees seem to have been edited",
            )
    _replace(node, "nodes_hitrates", np.concatenate([tree.cover for tree in trees]), double)
    missing = np.where(inner, np.concatenate([tree.missing_left for tree in trees]), False).astype(np.int64)
    _replace_integers(node, "nodes_missing_value_tracks_true", missing)
    thresholds = single(np.where(inner, np.concatenate([tree.threshold for tree in trees]), 0.0), "BRANCH_LEQ")
    _replace(node, "nodes_values", _before_rounding(thresholds) if double else thresholds, double)
    if double:
        for attribute in list(node.attribute):
            if attribute.name in ("base_values", "class_weights", "target_weights"):
                _replace(node, attribute.name, _values(attribute), double)


def _before_rounding(thresholds: np.ndarray) -> np.ndarray:
    """scikit-learn's trees round rows to single precision. For a threshold of that precision: the greatest double that rounds to it
    or below, so that doubles go where their rounded values go."""
    wide = thresholds.astype(np.float64)
    middle = (wide + np.nextafter(thresholds, np.float32(np.inf)).astype(np.float64)) / 2.0
    # A value in the middle is rounded to the neighbour whose last bit is 0.
    even = thresholds.view(np.uint32) % 2 == 0
    return np.where(even, middle, np.nextafter(middle, -np.inf))


def _values(attribute: onnx.AttributeProto) -> np.ndarray:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value).astype(np.float64)
    return np.asarray(value, dtype=np.float64)


def _replace(node: onnx.NodeProto, name: str, values: np.ndarray, double: bool) -> None:
    _remove(node, name, f"{name}_as_tensor")
    if double:
        tensor = numpy_helper.from_array(np.asarray(values, dtype=np.float64), f"{name}_as_tensor")
        node.attribute.append(helper.make_attribute(f"{name}_as_tensor", tensor))
    else:
        node.attribute.append(helper.make_attribute(name, np.asarray(values, dtype=np.float32).astype(float).tolist()))


def _replace_integers(node: onnx.NodeProto, name: str, values: np.ndarray) -> None:
    _remove(node, name)
    node.attribute.append(helper.make_attribute(name, values.astype(int).tolist()))


def _remove(node: onnx.NodeProto, *names: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)
