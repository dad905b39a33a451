// onnxruntime-web on its WebAssembly backend, one thread.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { readPool, serve, setup, slice, weigh } from "./peer.mjs";

const require = createRequire(import.meta.url);
const ort = require("onnxruntime-web/wasm");
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";
const options = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };

const models = new Map();
for (const model of setup.models) {
  const onnx = readFileSync(model.onnx);
  const session = await ort.InferenceSession.create(onnx, options);
  models.set(model.name, { model, onnx, session, pool: readPool(model) });
}

async function run(session, model, values, rows) {
  const outputs = await session.run({ input: new ort.Tensor("float32", values, [rows, ...model.row_shape]) });
  const names = session.outputNames;
  return weigh(outputs[names[names.length - 1]].data);
}

function prepare(request) {
  const { model, onnx, session, pool } = models.get(request.model);
  if (request.case === "first") {
    return async (call) => {
      const fresh = await ort.InferenceSession.create(onnx, options);
      const score = await run(fresh, model, slice(pool, call, 1), 1);
      await fresh.release();
      return score;
    };
  }
  return (call) => run(session, model, slice(pool, call, request.rows), request.rows);
}

serve(
  { "onnxruntime-web": { kinds: ["predict", "first"], asynchronous: true, prepare } },
  { "onnxruntime-web": ort.env.versions.web },
);
