"""Turns a fitted scikit-learn, XGBoost, LightGBM or Keras model into an ONNX file and a manifest for Lockgate.

    from lockgate_export import export

    export(model, X=X_train, name="eurusd_forest", version="1.0.0").save("out")

`exporting` holds the steps. Which library a model is of, `families` decides; `sklearn_models`, `xgboost_models`,
`lightgbm_models` and `keras_models` convert, `trees` and `graph` write what they found. `repairs` and `tree_details` mend what
skl2onnx writes. `answers` is what stands beside a model (scaler, calibration, thresholds), `labels` checks the names of its classes,
`manifest` is the file that all of it goes into. `table` and `kinds` read rows; `checking` compares the result with the model, `running`
and `metrics` measure it.
"""

from .errors import ExportError, ExportWarning
from .exporting import Exported, export
from .manifest import Manifest

__all__ = ["ExportError", "ExportWarning", "Exported", "Manifest", "export"]
__version__ = "0.1.0"
