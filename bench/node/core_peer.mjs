// The core in Node's V8, through the npm package (edge/js).

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Inference, Policy } from "../../edge/js/src/index.js";
import { firstRow, readPool, serve, setup, slice, weigh } from "./peer.mjs";

const compile = (name) => new WebAssembly.Module(readFileSync(join(setup.core_folder, name)));
const modules = { tabular: compile("inference-tabular.wasm"), graph: compile("inference-graph.wasm") };

const policyModule = compile("policy.wasm");
const policies = new Map(
  setup.policies.map(({ name, bundle, lists }) => {
    const files = { bundle: readFileSync(bundle), lists: lists.map((file) => readFileSync(file)) };
    return [name, { files, policy: load(files) }];
  }),
);
const callers = JSON.parse(readFileSync(setup.contexts, "utf8"));
const { route } = setup;

function load({ bundle, lists }) {
  return new Policy(policyModule, bundle, lists);
}

function loadModel(model, packageBytes) {
  return new Inference(modules[model.engine], [packageBytes]).models[0];
}

/**
 * What the glue spends around the module: the request is written, a function that does nothing is called, and the response to
 * an earlier request is read. No evaluator can make a decision in V8 cheaper than this.
 */
function glueAlone() {
  const glue = load(policies.get(setup.policies[0].name).files);
  const { core } = glue;
  const { entry } = core;
  const nothing = core.exports.lockgate_abi;
  let response = 0;
  const real = (length) => (response = entry(length));
  const stub = () => (nothing(), response);
  const prepare = (request) => {
    const run = decide(glue, request);
    // A real response is what the calls that count will read.
    core.entry = real;
    run(0);
    core.entry = stub;
    return (call) => (run(call), null);
  };
  return { kinds: ["decide"], prepare };
}

const models = new Map(
  setup.models.map((model) => {
    const packageBytes = readFileSync(model.package);
    return [model.name, { model, packageBytes, pool: readPool(model), loaded: loadModel(model, packageBytes) }];
  }),
);

function decide(policy, request) {
  if (request.contexts === 1) {
    return (call) => {
      const { user, symbol } = callers[firstRow(call, 1, callers.length)];
      const decision = policy.decide({ route, user, symbol }, 0);
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
    const decisions = policy.decideBatch(contexts, 0);
    let sum = 0;
    for (const decision of decisions) {
      if (decision.variant === undefined) throw new Error("no variant");
      sum += decision.variantIndex + 1;
    }
    return sum;
  };
}

function prepare(request) {
  const { model: name, rows } = request;
  if (request.case === "decide") return decide(policies.get(request.policy).policy, request);
  if (request.case === "load") {
    const { files } = policies.get(request.policy);
    return () => {
      load(files);
      return null;
    };
  }
  const { model, packageBytes, pool, loaded } = models.get(name);
  const score = ({ outputs }) => weigh(outputs[outputs.length - 1].data);
  if (request.case === "first") {
    return (call) => score(loadModel(model, packageBytes).predict({ input: slice(pool, call, 1) }));
  }
  return (call) => score(loaded.predict({ input: slice(pool, call, rows) }));
}

const kinds = ["predict", "decide", "decide_any", "load", "first"];
serve({ "core in V8": { kinds, prepare }, "glue alone, V8": glueAlone() }, { Node: process.version.slice(1), V8: process.versions.v8 });
