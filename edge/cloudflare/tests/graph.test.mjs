// The graph flavour of the inference module: an LSTM in the Worker gives bit for bit what it gives natively through wasmtime.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Miniflare } from "miniflare";

import { buffer, coreDir, digestOf, dist, join, readFileSync, root, run, scratch, until, worker, workerFolder, workerOptions, writeFileSync } from "./support.mjs";

const ROUTE = "eurusd-sequence";
const folder = scratch("lstm");
const file = join(folder, "eurusd_lstm.lgp");
const model = join(root, "examples/eurusd/models/eurusd_lstm");
run("package", `${model}.onnx`, "--manifest", `${model}.manifest.yaml`, "--output", file);
const source = join(folder, "policy.yaml");
writeFileSync(source, `
lockgate: 1
version: 1
models: { eurusd_lstm@2.1.0: {} }
routes:
  ${ROUTE}:
    variants: { lstm: { model: eurusd_lstm@2.1.0 } }
    default: { serve: lstm }
`);
const bundle = join(folder, "policy.lgb");
run("policy", "compile", source, "--packages", folder, "--output", bundle);

const ROWS = 3;
const data = Array.from({ length: ROWS * 20 * 17 }, (_, k) => Math.fround(Math.sin(k) * 20));
const input = { name: "input", datatype: "FP32", shape: [ROWS, 20, 17], data };
const body = JSON.stringify({ inputs: [input] });

/** What `lockgate predict` says, in the same core. */
function expected() {
  const rows = join(folder, "rows.json");
  writeFileSync(rows, body);
  return JSON.parse(run("predict", "--json", "--core", coreDir, "--input", rows, file)).outputs;
}

const bits = (outputs) => outputs.map(({ name, shape, data }) => [name, shape, data.map((value) => (typeof value === "number" ? Math.fround(value) : value))]);

test("an LSTM is fetched and runs", async () => {
  const w = await worker({ folder: workerFolder("graph", { "inference.wasm": join(coreDir, "inference-graph.wasm") }) });
  await w.r2.put(`packages/${digestOf(file)}.lgp`, buffer(readFileSync(file)));
  await w.kv.put("policy", buffer(readFileSync(bundle)));
  const answer = await until(async () => {
    const answer = await w.ask(`/v2/models/${ROUTE}/infer`, { method: "POST", body });
    return answer.status === 200 && answer.body;
  }, "it served");
  assert.equal(answer.parameters.engine, "graph");
  assert.deepEqual(bits(answer.outputs), bits(expected()));
});

test("an LSTM is baked and runs", async () => {
  const out = workerFolder("graph-baked", {}, `${dist}-baked`);
  run("bake", "--policy", bundle, "--package", file, "--core", coreDir, "--out", out);
  const mf = new Miniflare(workerOptions(out));
  try {
    const response = await mf.dispatchFetch(`http://worker/v2/models/${ROUTE}/infer`, { method: "POST", body });
    const answer = await response.json();
    assert.equal(response.status, 200, JSON.stringify(answer));
    assert.equal(answer.parameters.engine, "graph");
    assert.deepEqual(bits(answer.outputs), bits(expected()));
  } finally {
    await mf.dispose();
  }
});

test("without the graph flavour such a package is refused, and it is said why", async () => {
  const w = await worker({});
  await w.r2.put(`packages/${digestOf(file)}.lgp`, buffer(readFileSync(file)));
  await w.kv.put("policy", buffer(readFileSync(bundle)));
  const problem = await until(async () => {
    await w.ask(`/v2/models/${ROUTE}/infer`, { method: "POST", body });
    return (await w.health()).parts.policy.last_load?.error?.match(/graph.*/)?.[0];
  }, "it was refused");
  assert.match(problem, /graph/);
});
