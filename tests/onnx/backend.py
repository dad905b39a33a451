"""Writes the node tests of the `onnx` package, which every backend of ONNX is measured by, as files that the Rust runner reads.

    python backend.py FOLDER

The package makes the cases when it is asked, so they are not committed. For each case there is `NAME.onnx`, and `NAME.json` with the
tolerances and the tensors that go in and come out: `kind` is the format's number of the element type, `data` the elements in hexadecimal,
little-endian; of kinds with fewer than 8 bits each element has a byte, and a text follows its length of 4 bytes.
"""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

NIBBLES = {TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1}
PAIRS = {TensorProto.INT2, TensorProto.UINT2}


def main(folder):
    warnings.filterwarnings("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.iterdir():
        stale.unlink()
    cases = collect_testcases(None)
    for case in cases:
        graph = case.model.graph
        sets = [
            {
                "inputs": [tensor(info, value) for info, value in zip(graph.input, inputs)],
                "outputs": [tensor(info, value) for info, value in zip(graph.output, outputs)],
            }
            for inputs, outputs in case.data_sets
        ]
        (folder / f"{case.name}.onnx").write_bytes(case.model.SerializeToString())
        (folder / f"{case.name}.json").write_text(json.dumps({"rtol": case.rtol, "atol": case.atol, "sets": sets}))
    print(f"{len(cases)} cases")


def tensor(info, value):
    """A tensor, or its name alone where the value is a sequence or optional."""
    if not info.type.HasField("tensor_type"):
        return {"name": info.name}
    kind = info.type.tensor_type.elem_type
    if isinstance(value, TensorProto):
        kind, value = value.data_type, numpy_helper.to_array(value)
    value = np.asarray(value)
    return {"name": info.name, "kind": int(kind), "shape": list(value.shape), "data": elements(kind, value).hex()}


def elements(kind, value):
    if kind == TensorProto.STRING:
        texts = [text if isinstance(text, bytes) else str(text).encode() for text in value.reshape(-1)]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    if kind in NIBBLES | PAIRS:
        mask = 15 if kind in NIBBLES else 3
        return bytes(int(bits) & mask for bits in value.reshape(-1).view(np.uint8))
    return np.ascontiguousarray(value.astype(helper.tensor_dtype_to_np_dtype(kind), copy=False)).tobytes()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
