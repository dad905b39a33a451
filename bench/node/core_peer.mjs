// The core in Node's V8.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Core, Decider, Predictor } from "./flat.mjs";
import { firstRow, readPool, serve, setup, slice, weigh } from "./peer.mjs";

const compile = (name) => new WebAssembly.Module(readFileSync(join(setup.core_folder, name)));
const modules = { tabular: compile("inference-tabular.wasm"), graph: compile("inference-graph.wasm") };

const policyModule = compile("policy.wasm");
const policies = new Map(
  setup.policies.map(({ name, bundle, lists }) => {
    const files = [...lists, bundle].map((file) => readFileSync(file));
    return [name, { files, decider: new Decider(policyCore(files)) }];
  }),
);
const callers = JSON.parse(readFileSync(setup.contexts, "utf8"));
const { route } = setup;

/** An instance with its unit lists and its bundle. */
function policyCore(files) {
  const core = new Core(policyModule, "lockgate_decide");
  for (const file of files) core.load(file);
  return core;
}

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

function decide(decider, request) {
  if (request.contexts === 1) {
    return (call) => {
      const { user, symbol } = callers[firstRow(call, 1, callers.length)];
      const decision = decider.decideOne({ route, user, symbol }, 0);
      if (decision.variant === undefined) throw new Error("no variant");
      return decision.variantIndex + 1;
    };
  }
  return (call) => {
    const start = firstRow(call, request.contexts, callers.length);
    const contexts = new Array(request.contexts);
    for (let k = 0; k < contexts.length; k++) {
      const { user, symbol } = callers[start + k];
      contexts[k] = { route, user, symbol };
    }
    const decisions = decider.decide(contexts, 0);
    let sum = 0;
    for (const decision of decisions) {
      if (decision.variant === undefined) throw new Error("no variant");
      sum += decision.variantIndex + 1;
    }
    return sum;
  };
}

/**
 * What the glue spends around the module: the request is written, a function that does nothing is called, and the response to
 * an earlier request is read. No evaluator can make a decision in V8 cheaper than this.
 */
function glueAlone() {
  const core = policyCore(policies.get(setup.policies[0].name).files);
  const decider = new Decider(core);
  const { entry } = core;
  const nothing = core.exports.lockgate_abi;
  let response = 0;
  const real = (length) => (response = entry(length));
  const stub = () => (nothing(), response);
  const prepare = (request) => {
    const run = decide(decider, request);
    // A real response is what the calls that count will read.
    core.entry = real;
    run(0);
    core.entry = stub;
    return (call) => (run(call), null);
  };
  return { kinds: ["decide"], prepare };
}

function prepare(request) {
  const { model: name, rows } = request;
  if (request.case === "decide") return decide(policies.get(request.policy).decider, request);
  if (request.case === "load") {
    const { files } = policies.get(request.policy);
    return () => {
      policyCore(files);
      return null;
    };
  }
  const { model, packageBytes, pool, predictor: ready } = models.get(name);
  const score = (outputs) => weigh(outputs[outputs.length - 1].data);
  if (request.case === "first") {
    return (call) => score(predictor(model, packageBytes).predict(1, slice(pool, call, 1)));
  }
  return (call) => score(ready.predict(rows, slice(pool, call, rows)));
}

const kinds = ["predict", "decide", "decide_any", "load", "first"];
serve({ "core in V8": { kinds, prepare }, "glue alone, V8": glueAlone() }, { Node: process.version.slice(1), V8: process.versions.v8 });
