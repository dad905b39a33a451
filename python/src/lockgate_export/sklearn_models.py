"""scikit-learn: skl2onnx converts; this module chooses the inputs and teaches it the boosted models. `tree_details` puts into the
other trees what it leaves out."""

from __future__ import annotations

import re
from typing import Any, Iterator

import numpy as np
import onnx
from onnx import helper

from .errors import ExportError, missing_package
from .graph import ML, ML_OPSET, OPSET, ContainerWriter, rename_inputs
from .parts import walk
from .repairs import repaired
from .table import Table
from .tree_details import TREE_OPERATORS, fill_trees
from .trees import write_classifier, write_regressor
from .xgboost_models import Boosted


def convert(model: Any, table: Table | None, features: int | None, *, double: bool) -> onnx.ModelProto:
    """Converts a fitted estimator or pipeline."""
    try:
        import skl2onnx
    except ImportError:
        raise missing_package("skl2onnx", "sklearn") from None
    _register_boosted()
    try:
        with repaired(model) as plain:
            converted = skl2onnx.convert_sklearn(
                plain,
                name="model",
                initial_types=_inputs(plain, table, features, double),
                target_opset={"": OPSET, ML: ML_OPSET},
                options=_options(plain),
            )
    except ExportError:
        raise
    except Exception as error:
        raise _explained(model, error) from error
    _unique_opsets(converted)
    if separate_columns(model, table):
        assert table is not None
        rename_inputs(converted, [table.name(index) for index in range(table.width)])
    fill_trees(converted, model, double=double)
    return _typed(converted, model) if double else converted


def _options(model: Any) -> dict[int, dict[str, bool]] | None:
    options: dict[int, dict[str, bool]] = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else {}
    for part in walk(model):
        for calibrated in getattr(part, "calibrated_classifiers_", []):
            steps = getattr(calibrated.estimator, "steps", None)
            # What is calibrated is the decision function where there is one; of pipelines, skl2onnx does not tell the last step.
            if steps is not None and hasattr(calibrated.estimator, "decision_function"):
                options[id(steps[-1][1])] = {"raw_scores": True}
    return options or None


def _unique_opsets(model: onnx.ModelProto) -> None:
    """skl2onnx sometimes names a set twice."""
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        versions[opset.domain] = max(opset.version, versions.get(opset.domain, 0))
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())


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
        found = re.search(r"<class '(?:[^']*\.)?([^'.]+)'>", first)
        unknown = found.group(1) if found else first
        return ExportError(
            f"skl2onnx has no converter for {unknown}",
            where=where,
            hint="replace it, or apply it before the model and export the rest",
        )
    if kind == "InvalidInputLengthException":
        return ExportError(
            f"{where} takes columns of several kinds, which skl2onnx writes for pipelines alone",
            where=where,
            hint=f"put what chooses and encodes columns before it: make_pipeline(columns, {where}(…))",
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


# Boosted models, alone and inside pipelines, stacks and so on


def _register_boosted() -> None:
    """Tells skl2onnx how to write boosted models, for those of the libraries that are installed."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import (
        calculate_linear_classifier_output_shapes,
        calculate_linear_regressor_output_shapes,
    )

    for classes, read in _boosted_classes():
        for kind in classes:
            classifies = kind.__name__.endswith("Classifier")
            options = {"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [False, True]}
            if hasattr(kind, "decision_function"):
                options["raw_scores"] = [True, False]
            update_registered_converter(
                kind,
                f"Lockgate{kind.__name__}",
                _shapes(calculate_linear_classifier_output_shapes if classifies else calculate_linear_regressor_output_shapes),
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


def _shapes(calculate: Any) -> Any:
    """The shapes of the outputs. skl2onnx's own functions refuse inputs of a column each."""

    def calculate_shapes(operator: Any) -> None:
        from skl2onnx.common.data_types import Int64TensorType, StringTensorType

        if len(operator.inputs) == 1 and not isinstance(operator.inputs[0].type, StringTensorType):
            calculate(operator)
            return
        rows = operator.inputs[0].get_first_dimension()
        classes = getattr(operator.raw_operator, "classes_", None)
        if classes is None:
            operator.outputs[0].type.shape = [rows, 1]
            return
        texts = isinstance(plain_labels(classes)[0], str)
        operator.outputs[0].set_type((StringTensorType if texts else Int64TensorType)([rows]))
        operator.outputs[1].type.shape = [rows, len(classes)]

    return calculate_shapes


def _converter(read: Any, classifies: bool) -> Any:
    def convert_boosted(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

        boosted = read(operator.raw_operator)
        if classifies and boosted.multilabel:
            raise ExportError(
                "a classifier of several labels that do not exclude each other is exported alone only",
                where=type(operator.raw_operator).__name__,
                hint="export it without the pipeline, and apply what stands before it beforehand; or train one classifier per label",
            )
        writer = ContainerWriter(scope, container)
        rows, inputs = _joined(writer, operator, boosted)
        # XGBoost computes in single precision, whatever it is given.
        double = isinstance(inputs[0].type, DoubleTensorType) and boosted.ensemble.mode == "BRANCH_LEQ"
        if not double and not isinstance(inputs[0].type, FloatTensorType):
            rows = writer.node("Cast", [rows], to=onnx.TensorProto.FLOAT)
        outputs = [output.full_name for output in operator.outputs]
        # The operators answer in single precision, whatever they compute with.
        wide = isinstance(operator.outputs[-1].type, DoubleTensorType)
        scores = scope.get_unique_variable_name("scores") if wide else outputs[-1]
        if classifies:
            labels = plain_labels(boosted.labels or [])
            raw = container.has_options(operator.raw_operator, "raw_scores") and container.get_options(operator.raw_operator).get("raw_scores")
            link = "identity" if raw else boosted.link
            for tree in boosted.ensemble.trees if raw else []:
                tree.value = tree.value / boosted.factor
            write_classifier(writer, rows, boosted.ensemble, labels, link, [outputs[0], scores], double=double)
        else:
            write_regressor(writer, rows, boosted.ensemble, boosted.link, scores, double=double)
        if wide:
            writer.node("Cast", [scores], outputs=[outputs[-1]], to=onnx.TensorProto.DOUBLE)

    return convert_boosted


def _joined(writer: ContainerWriter, operator: Any, boosted: Boosted) -> tuple[str, list[Any]]:
    """The columns that trees split on as one matrix. Of inputs of a column each, those of texts are left out: they are categories
    that no tree splits on, and the trees' columns are counted without them."""
    from skl2onnx.common.data_types import StringTensorType

    inputs = list(operator.inputs)
    if len(inputs) == 1 and not isinstance(inputs[0].type, StringTensorType):
        return inputs[0].full_name, inputs
    numeric = [value for value in inputs if not isinstance(value.type, StringTensorType)]
    if not numeric or len(inputs) != boosted.features:
        raise ExportError(
            "the model takes columns of texts alone, or several matrices",
            where=type(operator.raw_operator).__name__,
            hint="encode the texts as numbers before training, with OneHotEncoder or OrdinalEncoder",
        )
    place = np.cumsum([value in numeric for value in inputs]) - 1
    for tree in boosted.ensemble.trees:
        tree.feature = np.where(tree.is_leaf, -1, place[tree.feature])
    return writer.node("Concat", [value.full_name for value in numeric], axis=1), numeric


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
