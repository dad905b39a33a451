// Contributions in V8: the option of a prediction, sums that are the raw score, and what a model says that has none.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Inference, LockgateError } from "../../edge/js/src/node.js";
import { compile, root, run, scratchDir } from "./support.mjs";

const module = compile("inference-tabular");
const contributions = "true";

/** A model of the repository's tests, packaged and loaded. */
function loaded(path) {
  const file = join(scratchDir(), `${path.replace("/", "-")}.lgp`);
  run("package", join(root, "tests", `${path}.onnx`), "--output", file);
  return new Inference(module, [readFileSync(file)]).models[0];
}

/** What the `shap` package says of a model of tests/contributions. */
const recorded = (name) => JSON.parse(readFileSync(join(root, "tests/contributions", `${name}.json`), "utf8"));

const isClose = (found, expected) => Math.abs(found - expected) <= 1e-5 * Math.max(1, Math.abs(expected));

test("contributions are those of shap, and add up to the raw score", () => {
  const model = loaded("contributions/forest_regressor");
  const { rows, path_dependent: shap } = recorded("forest_regressor");
  const [columns, X] = [rows[0].length, new Float32Array(rows.flat())];
  const plain = model.predict({ X });
  const answer = model.predict({ X }, { options: { contributions } });
  assert.deepEqual(answer.outputs.map(({ name }) => name), ["variable", "contributions", "contributions_base"]);
  assert.deepEqual(answer.output("variable"), plain.output("variable"), "the answer itself stays");
  const [found, base] = [answer.output("contributions"), answer.output("contributions_base")];
  assert.deepEqual([found.datatype, found.shape], ["FP64", [rows.length, columns]]);
  assert.deepEqual([base.datatype, base.shape], ["FP64", [rows.length]]);
  found.data.forEach((value, k) => assert.ok(isClose(value, shap.contributions[k]), `${k}: ${value}, expected ${shap.contributions[k]}`));
  answer.output("variable").data.forEach((score, row) => {
    const sum = base.data[row] + found.data.slice(row * columns, (row + 1) * columns).reduce((a, b) => a + b);
    assert.ok(isClose(sum, score), `row ${row}: ${sum}, expected ${score}`);
  });
  // By the method's name, and for each request of a batch.
  assert.deepEqual(model.predict({ X }, { options: { contributions: "path_dependent" } }).outputs, answer.outputs);
  assert.deepEqual(model.predict({ X }, { options: { contributions: "false" } }).outputs, plain.outputs);
  const batch = model.predictBatch(rows.map((row) => ({ X: new Float32Array(row) })), { options: { contributions } });
  batch.forEach((alone, row) => assert.deepEqual([...alone.output("contributions").data], [...found.data.slice(row * columns, (row + 1) * columns)]));
});

test("a model that has none says why, and predicts as ever", () => {
  const check = (model, inputs, value, message) => {
    const isExpected = (error) => error instanceof LockgateError && error.code === "invalid_input" && message.test(error.message);
    assert.throws(() => model.predict(inputs, { options: { contributions: value } }), isExpected);
    assert.equal(model.predict(inputs).outputs.length, 1);
  };
  const row = new Float32Array(5);
  check(loaded("models/forest_regressor"), { input: row }, contributions, /neither the covers of its trees nor a background/);
  check(loaded("contributions/forest_regressor"), { X: row }, "interventional", /it gives path_dependent/);
  check(loaded("models/mlp_regressor"), { input: row }, contributions, /a layer behind another one/);
});

test("a value that is no method is refused", () => {
  const model = loaded("contributions/linear_regression");
  assert.throws(() => model.predict({ X: new Float32Array(5) }, { options: { contributions: "shap" } }), { code: "malformed_request", message: /contributions/ });
});
