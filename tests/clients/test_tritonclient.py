"""NVIDIA's HTTP client with its defaults: binary tensors in, binary tensors out."""

import csv
import pathlib

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/eurusd"
DIRECTION = "eurusd-direction"


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(server) as client:
        yield client


@pytest.fixture(scope="module")
def rows():
    with open(EXAMPLE / "data/rows.csv", newline="") as file:
        held_out = [row for row in csv.DictReader(file) if row["part"] == "held_out"]
    return np.array([[row[f"return_lag_{lag:02}"] for lag in range(17)] for row in held_out], dtype=np.float32)


def recorded(model):
    with open(EXAMPLE / f"data/answers/{model}.csv", newline="") as file:
        answers = list(csv.DictReader(file))
    labels = np.array([int(answer["label"]) for answer in answers])
    columns = [name for name in answers[0] if name.startswith("probability_")]
    return labels, np.array([[float(answer[name]) for name in columns] for answer in answers])


def tensor(values):
    values = np.ascontiguousarray(values, dtype=np.float32)
    request = triton.InferInput("input", list(values.shape), "FP32")
    request.set_data_from_numpy(values)
    return request


def test_server_and_model_are_live_ready_and_described(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready(DIRECTION) and client.is_model_ready(DIRECTION, "1.1.0")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(DIRECTION)
    assert metadata["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 17]}]
    assert not client.is_model_ready("unknown")


def test_every_row_is_scored_as_onnxruntime_scored_it(client, rows):
    """One request for all rows, with a user for each: the answer says which version gave which row."""
    users = [f"user-{k}" for k in range(len(rows))]
    answer = client.infer(DIRECTION, [tensor(rows)], request_id="batch", parameters={"strategy": "none"})
    assert answer.get_response()["id"] == "batch"
    parameters = answer.get_response()["parameters"]
    assert parameters["variant"] == "stable" and parameters["reason"] == "DEFAULT", "no user: the baseline, and why"
    labels, scores = recorded("eurusd_lr")
    np.testing.assert_allclose(answer.as_numpy("output_probability"), scores, atol=1e-5)
    np.testing.assert_array_equal(answer.as_numpy("output_label"), labels)

    seen = set()
    for k in range(0, len(rows), 5):
        answer = client.infer(DIRECTION, [tensor(rows[k : k + 1])], parameters={"user": users[k]})
        parameters = answer.get_response()["parameters"]
        seen.add(parameters["variant"])
        labels, scores = recorded(parameters["model"])
        np.testing.assert_allclose(answer.as_numpy("output_probability"), scores[k : k + 1], atol=1e-5)
        assert answer.as_numpy("output_label")[0] == labels[k]
    assert seen == {"stable", "canary"}, "a hundred users see both variants"


def test_a_user_keeps_the_variant(client, rows):
    ask = lambda: client.infer(DIRECTION, [tensor(rows[:1])], parameters={"user": "alice"}).get_response()["parameters"]
    first = ask()
    assert (first["variant"], first["step"]) == ("canary", "override")
    assert ask()["variant"] == first["variant"]
    assert ask()["decision_id"] != first["decision_id"]


def test_the_sequence_model_runs_in_the_core(client, rows):
    sequences = np.stack([rows[k : k + 20] for k in range(8)])
    answer = client.infer("eurusd-sequence", [tensor(sequences)])
    labels, scores = recorded("eurusd_lstm")
    # Held-out row 19 ends the first sequence that held-out rows alone make up.
    np.testing.assert_allclose(answer.as_numpy("probabilities"), scores[19:27], atol=1e-5)
    np.testing.assert_array_equal(answer.as_numpy("label"), labels[19:27])


def test_json_tensors_and_requested_outputs(client, rows):
    request = triton.InferInput("input", [1, 17], "FP32")
    request.set_data_from_numpy(rows[:1], binary_data=False)
    outputs = [triton.InferRequestedOutput("output_probability", binary_data=False)]
    answer = client.infer(DIRECTION, [request], outputs=outputs)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["output_probability"]
    np.testing.assert_allclose(answer.as_numpy("output_probability"), recorded("eurusd_lr")[1][:1], atol=1e-5)


def test_a_pinned_version_is_not_routed(client, rows):
    parameters = client.infer(DIRECTION, [tensor(rows[:1])], model_version="1.1.0").get_response()["parameters"]
    assert parameters["pinned"] is True and parameters["model"] == "eurusd_gb"
    with pytest.raises(InferenceServerException, match="eurusd_rf_a@1.0.0"):
        client.infer(DIRECTION, [tensor(rows[:1])], model_version="1.0.0")  # three models have it


@pytest.mark.parametrize(
    ("model", "values", "words", "status"),
    [
        ("unknown", np.zeros((1, 17)), "unknown", "404"),
        (DIRECTION, np.zeros((1, 16)), "17", "400"),
        (DIRECTION, np.full((1, 17), np.nan), "NaN", "400"),
    ],
)
def test_bad_requests_say_what_is_wrong(client, model, values, words, status):
    with pytest.raises(InferenceServerException, match=words) as error:
        client.infer(model, [tensor(values)])
    assert error.value.status() == status
