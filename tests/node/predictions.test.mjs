// Predictions in Node: many packages in one instance, and what the package makes of plain arrays.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Inference, readManifest } from "../../edge/js/src/node.js";
import { bitsOf, predictions } from "./conformance.mjs";
import { compile, predictionVectors, recordedVector } from "./support.mjs";

const modules = { tabular: compile("inference-tabular"), graph: compile("inference-graph") };
test("the graph flavour runs every package, many in one instance", () => {
  const vectors = predictionVectors();
  const inference = new Inference(modules.graph, vectors.map((vector) => vector.package));
  vectors.forEach((vector, k) => {
    assert.deepEqual(predictions(inference.models[k], vector), vector.outputs, vector.name);
    assert.equal(inference.model(`${vector.name}@1.0.0`), inference.models[k]);
    assert.equal(inference.model(vector.name), inference.models[k]);
    assert.equal(inference.model({ packageDigest: inference.models[k].digest }), inference.models[k]);
  });
  assert.equal(inference.instances, 1);
});

test("signatures are read back, and plain arrays are converted to their datatypes", () => {
  for (const { name, package: bytes, inputs, outputs } of predictionVectors()) {
    const vector = recordedVector(name);
    const { models: [model] } = new Inference(modules[readManifest(bytes).engine], [bytes]);
    const specs = new Map(model.inputs.map((spec) => [spec.name, spec]));
    const isFitting = (spec, { datatype, shape }) => spec.datatype === datatype && spec.shape.every((d, k) => d === -1 || d === shape[k]) && spec.shape.length === shape.length;
    for (const tensor of vector.inputs) assert.ok(isFitting(specs.get(tensor.name), tensor), `${name}: ${tensor.name}`);
    assert.deepEqual([...specs.keys()].sort(), inputs.map((tensor) => tensor.name).sort());
    const number = (value) => (typeof value === "string" ? Number(value) : value);
    const given = Object.fromEntries(vector.inputs.map((tensor) => [tensor.name, { shape: tensor.shape, data: tensor.datatype === "BYTES" ? tensor.data : tensor.data.map(number) }]));
    const answer = model.predict(given);
    assert.ok(model.outputs.every((spec, k) => isFitting(spec, answer.outputs[k]) && spec.name === answer.outputs[k].name), `${name}: outputs`);
    for (const { name: output, data } of outputs) assert.equal(bitsOf(answer.output(output)), data, `${name}: ${output}`);
  }
});
