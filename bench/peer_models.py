"""Writes the models that the peers run: those that are packaged, without ZipMap.

    python peer_models.py <folder of models> ... <output folder>

ZipMap turns scores into one dictionary per row. It costs onnxruntime more than many a model does, and onnxruntime-web
cannot return what it makes. Lockgate replaces it by a plain tensor of scores when it packages a model; here the peers
are given the same favour. Prints the path of onnxruntime's shared library.
"""

import sys
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto, helper


def main():
    *folders, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for folder in folders for path in folder.glob("*.onnx")):
        model = onnx.load(path)
        strip_zipmap(model.graph)
        onnx.save(model, out / path.name)
    print(next((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")))


def strip_zipmap(graph):
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        scores, mapped = node.input[0], node.output[0]
        graph.node.remove(node)
        output = next(output for output in graph.output if output.name == mapped)
        output.CopyFrom(helper.make_tensor_value_info(scores, TensorProto.FLOAT, None))


if __name__ == "__main__":
    main()
