// Every estimator in V8: the answers that the Rust tests left behind, which are wasmtime's and, within the tolerance, onnxruntime's.

import assert from "node:assert/strict";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Inference, readManifest } from "../../edge/js/src/node.js";
import { predictions } from "./conformance.mjs";
import { compile, target } from "./support.mjs";

const folder = join(target, "tmp/estimators");
const modules = { tabular: compile("inference-tabular"), graph: compile("inference-graph") };

test("every estimator answers in V8 as in wasmtime, bit for bit", () => {
  if (!existsSync(folder)) throw new Error(`${folder} is missing: \`cargo xtask test\` writes it`);
  const names = readdirSync(folder).filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -5)).sort();
  assert.ok(names.length > 700, `only ${names.length} models`);
  for (const name of names) {
    const bytes = readFileSync(join(folder, `${name}.lgp`));
    const { models: [model] } = new Inference(modules[readManifest(bytes).engine], [bytes]);
    for (const vector of JSON.parse(readFileSync(join(folder, `${name}.json`), "utf8"))) {
      assert.deepEqual(predictions(model, vector), vector.outputs, name);
    }
  }
});
