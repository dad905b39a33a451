"""Keras, layer by layer: the exported file answers as Keras' own `predict` does."""

import json
import warnings
import zipfile

import keras
import numpy as np
import pytest
from conftest import close, run_onnx
from keras import layers as L

from lockgate_export import ExportError, ExportWarning, checking, export


def sequential(*layers, shape=(12, 3)):
    return keras.Sequential([keras.Input(shape), *layers])


def random_weights(model, seed=0):
    """Weights that no layer leaves without effect."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.dtype != "float32" or "seed" in weight.path:
            continue
        values = rng.normal(0, 0.5, weight.shape).astype(np.float32)
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)
    return model


def rows_for(model, rows=4):
    rng = np.random.default_rng(1)
    shapes = [[9 if size is None else size for size in value.shape[1:]] for value in model.inputs]
    return [
        rng.integers(0, 10, (rows, *shape)) if "embedded" in value.name else rng.normal(size=(rows, *shape)).astype(np.float32)
        for value, shape in zip(model.inputs, shapes)
    ]


def check(model):
    random_weights(model)
    rows = rows_for(model)
    wanted = model.predict(rows if len(rows) > 1 else rows[0], verbose=0)
    for got, want in zip(run_onnx(export(model).onnx, *rows), wanted if isinstance(wanted, list) else [wanted]):
        close(got, want)


def recurrent():
    cases = {}
    for gates in ("sigmoid", "hard_sigmoid"):
        for steps in (False, True):
            for backwards in (False, True):
                for bias in (False, True):
                    options = dict(recurrent_activation=gates, return_sequences=steps, go_backwards=backwards, use_bias=bias)
                    key = f"{gates}-{'steps' if steps else 'last'}-{'backwards' if backwards else 'forwards'}-{'bias' if bias else 'plain'}"
                    cases[f"lstm-{key}"] = lambda o=options: L.LSTM(4, **o)
                    for after in (False, True):
                        cases[f"gru-{key}-{'after' if after else 'before'}"] = lambda o=options, a=after: L.GRU(4, reset_after=a, **o)
    for activation in ("relu", "elu", "leaky_relu", "softsign", "softplus", "sigmoid", "linear", "hard_sigmoid"):
        cases[f"lstm-{activation}"] = lambda a=activation: L.LSTM(4, activation=a)
    for activation in ("relu", "elu", "softsign", "tanh"):
        cases[f"rnn-{activation}"] = lambda a=activation: L.SimpleRNN(4, activation=a, return_sequences=a == "tanh")
    for mode in ("concat", "sum", "ave", "mul"):
        for steps in (False, True):
            for kind in (L.LSTM, L.GRU, L.SimpleRNN):
                key = f"bidirectional-{kind.__name__}-{mode}-{'steps' if steps else 'last'}"
                cases[key] = lambda k=kind, s=steps, m=mode: L.Bidirectional(k(4, return_sequences=s), merge_mode=m)
    return cases


def convolutions():
    cases = {}
    for padding in ("valid", "same", "causal"):
        for stride, dilation in ((1, 1), (2, 1), (1, 2), (3, 1)):
            options = dict(padding=padding, strides=stride, dilation_rate=dilation)
            key = f"{padding}-stride{stride}-dilation{dilation}"
            for groups in (1, 3):
                cases[f"conv-{key}-{groups}"] = lambda o=options, g=groups: L.Conv1D(6, 4, groups=g, activation="relu", **o)
            if padding != "causal":
                cases[f"depthwise-{key}"] = lambda o=options: L.DepthwiseConv1D(4, depth_multiplier=2, **o)
                cases[f"separable-{key}"] = lambda o=options: L.SeparableConv1D(6, 4, depth_multiplier=2, **o)
        if padding == "causal":
            continue
        for kind in (L.MaxPooling1D, L.AveragePooling1D):
            for size, stride in ((2, None), (3, 1), (3, 2), (5, 5)):
                key = f"{kind.__name__}-{padding}-{size}-{stride}"
                cases[key] = lambda k=kind, p=padding, n=size, s=stride: k(n, strides=s, padding=p)
    for kind in (L.GlobalAveragePooling1D, L.GlobalMaxPooling1D):
        for kept in (False, True):
            cases[f"{kind.__name__}-{kept}"] = lambda k=kind, d=kept: k(keepdims=d)
    return cases


ACTIVATIONS = (
    "relu sigmoid tanh softmax elu selu gelu softplus softsign silu exponential hard_sigmoid leaky_relu relu6 mish log_softmax "
    "hard_silu hard_tanh log_sigmoid tanh_shrink linear"
).split()
SINGLE = recurrent() | convolutions() | {f"activation-{name}": (lambda n=name: L.Dense(4, activation=n)) for name in ACTIVATIONS}


@pytest.mark.parametrize("name", SINGLE)
def test_layers(name):
    check(sequential(SINGLE[name]()))


def adapted():
    layer = L.Normalization()
    layer.adapt(np.random.default_rng(2).normal(3.0, 2.0, (50, 5)))
    return sequential(layer, L.Dense(4, use_bias=False), L.Softmax(), shape=(5,))


def shared():
    first, second = keras.Input((12, 3)), keras.Input((4,))
    dense, recurrent_layer = L.Dense(4, activation="tanh"), L.LSTM(4)
    z = recurrent_layer(first)
    u = dense(second)
    w = dense(z)
    parts = [L.Add()([z, u, w]), L.Subtract()([z, u]), L.Multiply()([z, u]), L.Average()([z, u, w]), L.Maximum()([z, u]), L.Minimum()([z, w])]
    return keras.Model([first, second], L.Dense(3, activation="softmax")(L.Concatenate()(parts)))


def nested():
    inner = sequential(L.Conv1D(3, 3), L.GlobalMaxPooling1D())
    rows = keras.Input((12, 3))
    return keras.Model(rows, [L.Dense(2)(inner(rows)), L.Dense(1)(L.Flatten()(rows))])


def of_ranks(layer, *shapes):
    inputs = [keras.Input(shape) for shape in shapes]
    return keras.Model(inputs, layer(inputs))


MODELS = {
    "normalization": adapted,
    "fixed normalization": lambda: sequential(L.Normalization(mean=[1.0, 2.0], variance=[4.0, 0.25]), L.Dense(2), shape=(2,)),
    "element-wise": lambda: sequential(
        L.Dense(4), L.BatchNormalization(), L.LeakyReLU(0.1), L.LayerNormalization(), L.PReLU(), L.ELU(0.5),
        L.ReLU(max_value=2.0, negative_slope=0.1), L.Rescaling(0.5, 1.0), L.Softmax(), shape=(5,),
    ),
    "parts of normalizations": lambda: sequential(
        L.BatchNormalization(scale=False), L.BatchNormalization(center=False), L.LayerNormalization(center=False),
        L.LayerNormalization(scale=False), L.PReLU(shared_axes=[1]),
    ),
    "without effect": lambda: sequential(L.SpatialDropout1D(0.1), L.GaussianNoise(0.1), L.Dropout(0.5), L.Activation("linear"), L.Dense(2)),
    "shapes": lambda: sequential(
        L.Dense(4), L.Flatten(), L.Reshape((6, -1)), L.Permute((2, 1)), L.ZeroPadding1D(2), L.Cropping1D((1, 0)), L.Flatten(),
        L.Dense(2), L.RepeatVector(3), L.TimeDistributed(L.Dense(2, activation="relu")), L.TimeDistributed(L.BatchNormalization()),
    ),
    "any number of steps": lambda: sequential(
        L.Conv1D(4, 3, padding="same"), L.Bidirectional(L.LSTM(3, return_sequences=True)), L.LSTM(3), L.Dense(1, activation="sigmoid"),
        shape=(None, 3),
    ),
    "embedding of integers": lambda: keras.Sequential([keras.Input((7,), dtype="int32", name="embedded"), L.Embedding(10, 4), L.GRU(3)]),
    "embedding of floats": lambda: keras.Sequential([keras.Input((7,), name="embedded"), L.Embedding(10, 4), L.Flatten(), L.Dense(3)]),
    "merging (1, 3) and (3)": lambda: of_ranks(L.Add(), (1, 3), (3,)),
    "merging (3) and (4, 3)": lambda: of_ranks(L.Subtract(), (3,), (4, 3)),
    "merging (4, 3), (3) and (2, 4, 3)": lambda: of_ranks(L.Multiply(), (4, 3), (3,), (2, 4, 3)),
    "merging (None, 3) and (3)": lambda: of_ranks(L.Average(), (None, 3), (3,)),
    "merging (3) and (1, 3)": lambda: of_ranks(L.Maximum(), (3,), (1, 3)),
    "shared layers": shared,
    "nested": nested,
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    model = MODELS[name]()
    if name == "normalization":
        rows = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
        close(run_onnx(export(model).onnx, rows)[0], model.predict(rows, verbose=0))
    else:
        check(model)


def lstm():
    return random_weights(sequential(L.LSTM(8, return_sequences=True), L.GRU(5), L.Dense(3, activation="softmax"), shape=(20, 3)))


def test_a_file_is_read_without_keras(tmp_path):
    model = lstm()
    model.save(tmp_path / "direction.keras")
    rows = np.random.default_rng(0).normal(size=(30, 20, 3)).astype(np.float32)
    exported = export(tmp_path / "direction.keras", rows, labels=["down", "flat", "up"], feature_names=["open", "high", "low"])
    close(run_onnx(exported.onnx, rows)[0], model.predict(rows, verbose=0))
    assert exported.manifest.model == "direction"
    assert exported.manifest.labels == ["down", "flat", "up"]
    assert [feature["name"] for feature in exported.manifest.features] == ["open", "high", "low"]
    close(exported.manifest.features[1]["max"], rows[..., 1].max())


def test_files_of_early_keras_3_name_weights_by_class(tmp_path):
    """Without the layers' names in the file, groups are counted by class."""
    import h5py

    model = random_weights(sequential(L.Dense(4), L.Dense(3), L.BatchNormalization(), L.Dense(2), shape=(5,)))
    model.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as archive:
        archive.extractall(tmp_path)
    with h5py.File(tmp_path / "model.weights.h5", "r+") as weights:
        weights["layers"].visititems(lambda name, item: item.attrs.pop("name", None) and None)
    with zipfile.ZipFile(tmp_path / "old.keras", "w") as archive:
        for name in ("config.json", "metadata.json", "model.weights.h5"):
            archive.write(tmp_path / name, name)
    rows = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    close(run_onnx(export(tmp_path / "old.keras").onnx, rows)[0], model.predict(rows, verbose=0))


def test_one_probability_becomes_two_columns(data):
    model = random_weights(sequential(L.Dense(1, activation="sigmoid"), shape=(6,)))
    plain = export(model, data.X)
    assert plain.manifest.labels == [] and plain.onnx.graph.output[0].name == "output"
    for exported in (export(model, data.X, data.binary), export(model, data.X, labels=["down", "up"])):
        (scores,) = run_onnx(exported.onnx, data.X)
        wanted = model.predict(data.X, verbose=0)
        close(scores, np.column_stack([1 - wanted, wanted]))
    assert exported.manifest.labels == ["down", "up"]


def test_lockgate_runs_them(lockgate):
    model = lstm()
    rows = np.random.default_rng(0).normal(size=(5, 20, 3)).astype(np.float32)
    answers = lockgate(export(model, rows, name="lstm", labels=["down", "flat", "up"]), rows)
    close(answers["probabilities"], model.predict(rows, verbose=0))
    network = random_weights(sequential(L.Conv1D(8, 3, padding="causal", activation="relu"), L.BatchNormalization(), L.MaxPooling1D(), L.Bidirectional(L.LSTM(4)), L.Dense(1)))
    rows = np.random.default_rng(0).normal(size=(5, 12, 3)).astype(np.float32)
    close(lockgate(export(network, rows, name="cnn"), rows)["output"], network.predict(rows, verbose=0))
    perceptron = random_weights(sequential(L.Dense(16, activation="relu"), L.Dropout(0.2), L.Dense(1, activation="sigmoid"), shape=(6,)))
    rows = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    close(lockgate(export(perceptron, rows, name="mlp"), rows)["output"], perceptron.predict(rows, verbose=0))


REFUSED = {
    "masking": (lambda: sequential(L.Masking(), L.LSTM(2)), "Masking: this kind of layer is not exported (layer `masking", "masks are not exported"),
    "mask of an embedding": (
        lambda: keras.Sequential([keras.Input((7,)), L.Embedding(10, 4, mask_zero=True), L.LSTM(2)]), "Embedding: mask_zero=True makes a mask", "masks",
    ),
    "images": (lambda: sequential(L.Conv2D(2, 3), shape=(8, 8, 1)), "Conv2D: this kind of layer is not exported", "Conv1D is exported"),
    "state": (lambda: keras.Sequential([keras.Input(batch_shape=(1, 12, 3)), L.LSTM(2, stateful=True)]), "LSTM: stateful=True is not exported", "stateful=False"),
    "attention": (
        lambda: (lambda x: keras.Model(x, L.MultiHeadAttention(2, 3)(x, x)))(keras.Input((12, 3))), "MultiHeadAttention", "PyTorch",
    ),
    "axis": (lambda: sequential(L.BatchNormalization(axis=1), L.Flatten()), "BatchNormalization: it works along axis 1", "last axis"),
    "padding": (lambda: sequential(L.Conv1D(2, 3, strides=2, padding="same"), shape=(None, 3)), "same padding with strides", "keras.Input"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_exported_is_refused_by_name(name):
    build, what, hint = REFUSED[name]
    with pytest.raises(ExportError) as refused:
        export(build())
    assert what in str(refused.value) and hint in refused.value.hint


def test_no_keras_file(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"no archive")
    with pytest.raises(ExportError, match="no .keras file of Keras 3"):
        export(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({}))
    with pytest.raises(ExportError, match="no .keras file of Keras 3"):
        export(tmp_path / "other.keras")


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("first, second", [(2, 2), (1, 1), (2, 3)])
def test_several_outputs_are_compared(first, second, named, data, monkeypatch):
    rows = keras.Input((6,))
    hidden = L.Dense(4, activation="relu")(rows)
    heads = [L.Dense(first, name="spread")(hidden), L.Dense(second, activation="sigmoid", name="direction")(hidden)]
    model = random_weights(keras.Model(rows, dict(zip(["spread", "direction"], heads)) if named else heads))
    predict = model.predict
    if named:
        # As some backends of Keras do.
        monkeypatch.setattr(model, "predict", lambda *arguments, **options: dict(sorted(predict(*arguments, **options).items())))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExportWarning)
        got = run_onnx(export(model, data.X).onnx, data.X)
    wanted = predict(data.X, verbose=0)
    for values, want in zip(got, [wanted["spread"], wanted["direction"]] if named else wanted):
        close(values, want)
    run = checking.running.run
    monkeypatch.setattr(checking.running, "run", lambda *arguments: [output + place for place, output in enumerate(run(*arguments))])
    with pytest.raises(ExportError, match="200 of 200 rows get another answer"):
        export(model, data.X)


def test_texts_for_a_target_need_the_order_of_the_outputs():
    rows = np.zeros((4, 20, 3), dtype=np.float32)
    with pytest.raises(ExportError) as refused:
        export(lstm(), rows, np.array(["up", "down", "flat", "up"]))
    assert refused.value.where == "labels" and "order of the model's outputs" in refused.value.hint
