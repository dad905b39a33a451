"""Writes small models that fuzzing begins with: control flow, texts, numbers of few bits, constants that are computed ahead.

    python generate.py      # in an environment with tests/onnx/requirements.txt
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

F, D, I64, BOOL, TEXT, U8, F16 = (
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING, TensorProto.UINT8, TensorProto.FLOAT16,
)
FOLDER = Path(__file__).parent


def value(name, kind, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def array(name, numbers, dtype=np.float32):
    return numpy_helper.from_array(np.array(numbers, dtype), name)


def node(operator, inputs, outputs, domain="", **attributes):
    return helper.make_node(operator, inputs.split(), outputs.split(), name=operator, domain=domain, **attributes)


def save(name, nodes, inputs, outputs, constants=(), opset=21):
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 5), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString())


def main():
    x, y = value("x", F, [None, 3]), value("y", F, [None, 3])
    doubled = helper.make_graph([node("Add", "c w", "d")], "body", [], [value("d", F, None)])
    same = helper.make_graph([node("Identity", "c", "e")], "body", [], [value("e", F, None)])
    body = helper.make_graph(
        [
            node("Mod", "i two", "parity"), node("Equal", "parity zero", "even"),
            node("If", "even", "next", then_branch=doubled, else_branch=same), node("Identity", "go", "goes"), node("ReduceSum", "next", "sum", keepdims=0),
        ],
        "loop", [value("i", I64, []), value("go", BOOL, []), value("c", F, None)],
        [value("goes", BOOL, []), value("next", F, None), value("sum", F, None)],
    )
    constants = [array("w", [[1, 2, 3]]), array("two", 2, np.int64), array("zero", 0, np.int64), array("trips", 3, np.int64), array("yes", True, np.bool_)]
    save("loop_if", [node("Loop", "trips yes x", "y sums", body=body)], [x], [y, value("sums", F, None)], constants)

    while_body = helper.make_graph(
        [node("Mul", "c half", "next"), node("ReduceMax", "next", "most", keepdims=0), node("Greater", "most one", "goes")],
        "while", [value("i", I64, []), value("go", BOOL, []), value("c", F, None)], [value("goes", BOOL, []), value("next", F, None)],
    )
    constants = [array("half", 0.5), array("one", 1.0), array("yes", True, np.bool_), array("most_trips", 100, np.int64)]
    save("loop_while", [node("Loop", "most_trips yes x", "y", body=while_body)], [x], [y], constants)

    scan_body = helper.make_graph(
        [node("Add", "state element", "sum"), node("Identity", "sum", "row")], "scan",
        [value("state", F, None), value("element", F, None)], [value("sum", F, None), value("row", F, None)],
    )
    save("scan", [node("Scan", "first x", "last rows", body=scan_body, num_scan_inputs=1)], [x], [value("last", F, None), value("rows", F, None)], [array("first", [0, 0, 0])])

    texts = value("t", TEXT, [None])
    tokens = [
        node("Tokenizer", "t", "words", domain="com.microsoft", mark=0, pad_value="#", mincharnum=1, separators=["\\s+", ","]),
        node("TfIdfVectorizer", "words", "y", mode="TFIDF", min_gram_length=1, max_gram_length=2, max_skip_count=1, ngram_counts=[0, 2],
             ngram_indexes=[0, 1, 2], pool_strings=["a", "b", "a", "b"], weights=[1.0, 2.0, 0.5]),
    ]
    save("tokens", tokens, [texts], [value("y", F, None)])
    save("regex", [node("RegexFullMatch", "t", "y", pattern="(a|b)*c{2,4}[^d]?")], [texts], [value("y", BOOL, [None])])
    save("split", [node("StringSplit", "t", "parts counts", delimiter=",", maxsplit=3)], [texts], [value("parts", TEXT, None), value("counts", I64, None)])
    save("normalize", [node("StringNormalizer", "t", "y", case_change_action="UPPER", is_case_sensitive=0, stopwords=["the"])], [texts], [value("y", TEXT, None)])
    save("parse", [node("Cast", "t", "y", to=F)], [texts], [value("y", F, [None])])

    constants = [array("s", 0.1), array("z", 3, np.uint8), array("q", [[1, 2], [3, 4], [5, 6]], np.uint8), array("s2", [0.1, 0.2]), array("z2", [1, 2], np.uint8)]
    quantised = [
        node("QuantizeLinear", "x s z", "a"), node("DequantizeLinear", "q s2 z2", "w", axis=1), node("QLinearMatMul", "a s z q s z s z", "b"),
        node("DequantizeLinear", "b s z", "c"), node("MatMul", "x w", "d"), node("Add", "c d", "y"),
    ]
    save("quantised", quantised, [x], [value("y", F, [None, 2])], constants)
    integers = [node("DynamicQuantizeLinear", "x", "a s z"), node("MatMulInteger", "a q z", "y")]
    save("dynamic", integers, [x], [value("y", TensorProto.INT32, [None, 2])], [array("q", [[1, 2], [3, 4], [5, 6]], np.int8)])
    halves = [node("Cast", "x", "h", to=F16), node("Exp", "h", "e"), node("Softmax", "e", "y", axis=-1)]
    save("halves", halves, [x], [value("y", F16, [None, 3])])

    folded = [
        node("ConstantOfShape", "shape", "a", value=array("v", [2])), node("Expand", "a wide", "b"), node("Tile", "b times", "c"),
        node("Range", "start end step", "r"), node("ReduceSum", "r", "total", keepdims=0), node("ReduceSum", "c", "sum", keepdims=0),
        node("Add", "x sum", "d"), node("Add", "d total", "y"),
    ]
    constants = [
        array("shape", [2, 1], np.int64), array("wide", [2, 4], np.int64), array("times", [3, 2], np.int64), array("start", 0.0), array("end", 9.0), array("step", 2.0),
    ]
    save("folded", folded, [x], [y], constants)
    moved = [
        node("Shape", "x", "shape"), node("Gather", "shape zero", "rows"), node("Unsqueeze", "rows axis", "rows1"), node("Concat", "rows1 minus", "wanted", axis=0),
        node("Reshape", "x wanted", "a"), node("Pad", "a pads", "b"), node("Slice", "b starts ends axes steps", "c"), node("TopK", "c k", "y places"),
    ]
    constants = [
        array("zero", 0, np.int64), array("axis", [0], np.int64), array("minus", [-1], np.int64), array("pads", [0, 1, 0, 2], np.int64),
        array("starts", [-1], np.int64), array("ends", [-100], np.int64), array("axes", [1], np.int64), array("steps", [-1], np.int64), array("k", [2], np.int64),
    ]
    save("moved", moved, [x], [value("y", F, None), value("places", I64, None)], constants)

    ensemble = node(
        "TreeEnsemble", "x", "y", domain="ai.onnx.ml", tree_roots=[0], nodes_featureids=[0, 1], nodes_modes=array("", [0, 6], np.uint8), nodes_splits=array("", [0.5, 0.0]),
        nodes_truenodeids=[1, 1], nodes_trueleafs=[0, 1], nodes_falsenodeids=[0, 2], nodes_falseleafs=[1, 1], leaf_targetids=[0, 1, 0], leaf_weights=array("", [1, 2, 3]),
        n_targets=2, membership_values=array("", [1, 2, np.nan]), aggregate_function=1, post_transform=0,
    )
    save("ensemble", [ensemble], [x], [value("y", F, None)])
    machine = node(
        "SVMClassifier", "x", "label scores", domain="ai.onnx.ml", kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0], classlabels_ints=[0, 1, 2], vectors_per_class=[1, 1, 1],
        support_vectors=[0.0, 1, 2, 3, 4, 5, 6, 7, 8], coefficients=[1.0, -1, 0.5, 1, -1, 0.5], rho=[0.1, 0.2, 0.3],
    )
    save("machine", [machine], [x], [value("label", I64, None), value("scores", F, None)])
    encoder = [node("LabelEncoder", "t", "n", domain="ai.onnx.ml", keys_strings=["a", "b"], values_int64s=[1, 2]), node("OneHotEncoder", "n", "y", domain="ai.onnx.ml", cats_int64s=[1, 2], zeros=1)]
    save("encoder", encoder, [texts], [value("y", F, None)])
    sequence = value("x", F, [None, 4, 2])
    constants = [array("w", np.ones((1, 8, 2)) / 3), array("r", np.ones((1, 8, 2)) / 5)]
    save("recurrent", [node("Transpose", "x", "a", perm=[1, 0, 2]), node("LSTM", "a w r", "h last", hidden_size=2)], [sequence], [value("h", F, None), value("last", F, None)], constants)
    save("convolution", [node("Conv", "x k", "a", pads=[1, 1]), node("MaxPool", "a", "y", kernel_shape=[2])], [value("x", F, [None, 2, 5])], [value("y", F, None)], [array("k", np.ones((3, 2, 3)))])
    save("product", [node("Einsum", "x w", "y", equation="bi,ij->bj")], [x], [value("y", F, None)], [array("w", np.ones((3, 2)))])


if __name__ == "__main__":
    main()
