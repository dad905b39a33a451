"""What the scripts that make models mend in skl2onnx."""

import skl2onnx.common._container as container


def accept_numpy_bools():
    """skl2onnx hands numpy booleans of histogram boosting to onnx, which wants integers."""
    original = container.make_node

    def make_node(*arguments, **attributes):
        key = "nodes_missing_value_tracks_true"
        if key in attributes:
            attributes[key] = [int(flag) for flag in attributes[key]]
        return original(*arguments, **attributes)

    container.make_node = make_node
