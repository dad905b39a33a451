"""Trees node by node: every test, thresholds that no number passes or every number does, missing values that are tracked and that are not."""

import numpy as np
from onnx import TensorProto, checker, helper

THRESHOLDS = {"number": 0.5, "nan": np.nan, "infinite": np.inf, "lowest": -np.inf, "zero": -0.0, "tiny": 1e-40, "largest": 3.4028235e38}


class Trees:
    of = "TreeEnsembleRegressor"

    def __init__(self, mode, threshold, tracked):
        self.mode, self.threshold, self.tracked = mode, threshold, tracked

    def __call__(self):
        node = helper.make_node(
            "TreeEnsembleRegressor",
            ["input"],
            ["output"],
            domain="ai.onnx.ml",
            nodes_treeids=[0, 0, 0, 1],
            nodes_nodeids=[0, 1, 2, 0],
            nodes_featureids=[1, 0, 0, 0],
            nodes_values=[self.threshold, 0.0, 0.0, 0.0],
            nodes_modes=[self.mode, "LEAF", "LEAF", "LEAF"],
            nodes_truenodeids=[1, 0, 0, 0],
            nodes_falsenodeids=[2, 0, 0, 0],
            nodes_missing_value_tracks_true=[self.tracked, 0, 0, 0],
            target_treeids=[0, 0, 1],
            target_nodeids=[1, 2, 0],
            target_ids=[0, 0, 0],
            target_weights=[1.0, 2.0, 10.0],
            n_targets=1,
        )
        graph = helper.make_graph(
            [node],
            "graph",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 2])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 1])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)
        checker.check_model(model)
        with np.errstate(all="ignore"):
            around = [np.nextafter(np.float32(t), np.float32(side)) for t in THRESHOLDS.values() for side in (np.inf, -np.inf)]
        asked = np.array([*THRESHOLDS.values(), *around, 0.0, 1.0, -1.0], np.float32)
        rows = np.stack([np.zeros_like(asked), asked], axis=1)
        return {"model": model, "requests": [{"input": rows}, {"input": rows[:1]}], "of": self.of}


def jobs():
    modes = ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ")
    return [
        (f"thresholds_{mode.lower()}_{name}_{tracked}", Trees(f"BRANCH_{mode}", value, tracked))
        for mode in modes
        for name, value in THRESHOLDS.items()
        for tracked in (0, 1)
    ]
