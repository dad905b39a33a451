// The core in Node's V8.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Core, Decider, Predictor } from "./flat.mjs";
import { firstRow, readPool, serve, setup, slice, weigh } from "./peer.mjs";

const compile = (name) => new WebAssembly.Module(readFileSync(join(setup.core_folder, name)));
const modules = { tabular: compile("inference-tabular.wasm"), graph: compile("inference-graph.wasm") };

const policy = new Core(compile("policy.wasm"), "lockgate_decide");
policy.load(readFileSync(setup.bundle));
const decider = new Decider(policy);
const contexts = JSON.parse(readFileSync(setup.contexts, "utf8")).map(({ user, symbol, strategy }) => ({
  route: setup.route,
  user,
  symbol,
  attributes: strategy ? { strategy } : undefined,
}));

function predictor(model, packageBytes) {
  const core = new Core(modules[model.engine], "lockgate_predict");
  return new Predictor(core, core.load(packageBytes), "input", model.row_shape);
}

const models = new Map(
  setup.models.map((model) => {
    const packageBytes = readFileSync(model.package);
    return [model.name, { model, packageBytes, pool: readPool(model), predictor: predictor(model, packageBytes) }];
  }),
);

function prepare(request) {
  const { model: name, rows } = request;
  if (request.case === "decide") {
    return (call) => {
      const start = firstRow(call, request.contexts, contexts.length);
      const decisions = decider.decide(contexts.slice(start, start + request.contexts), 0);
      let sum = 0;
      for (const decision of decisions) sum += decision.variantIndex + 1;
      return sum;
    };
  }
  const { model, packageBytes, pool, predictor: ready } = models.get(name);
  const score = (outputs) => weigh(outputs[outputs.length - 1].data);
  if (request.case === "first") {
    return (call) => score(predictor(model, packageBytes).predict(1, slice(pool, call, 1)));
  }
  return (call) => score(ready.predict(rows, slice(pool, call, rows)));
}

serve({ "core in V8": { kinds: ["predict", "decide", "first"], prepare } }, { Node: process.version.slice(1), V8: process.versions.v8 });
