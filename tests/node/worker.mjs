// The conformance suites inside a Worker, on the package as npm installs it. A path names a suite; its answer is the suite's.

import tabular from "lockgate/core/inference-tabular.wasm";
import graph from "lockgate/core/inference-graph.wasm";
import policy from "lockgate/core/policy.wasm";
import faultInference from "fault/inference-tabular.wasm";
import faultPolicy from "fault/policy.wasm";
import * as lockgate from "lockgate";
import * as withGraph from "lockgate/workers-graph";
import { decisionSuite, errorSuite, faultSuite, loopForever, predictionSuite, walkThrough } from "./conformance.mjs";

const modules = { policy, tabular, graph };
const fault = { policy: faultPolicy, inference: faultInference };
const { identityOf } = lockgate;

const SUITES = {
  identities: () => ({ policy: identityOf(policy), "inference-tabular": identityOf(tabular), "inference-graph": identityOf(graph) }),
  decisions: (read) => decisionSuite(lockgate, policy, read),
  predictions: (read) => predictionSuite(lockgate, modules, read),
  errors: (read) => errorSuite(lockgate, modules, read),
  faults: (read) => faultSuite(lockgate, fault, read),
  walk: (read) => walkThrough(lockgate, read),
  "walk-graph": (read) => walkThrough(withGraph, read),
  // A tabular Worker cannot run every package, and says what to import.
  sequence: async (read) => {
    const packages = [await read("/object/eurusd_lstm")];
    const refused = await lockgate.load({ packages }).catch(({ code, hint }) => ({ code, hint }));
    const { models } = await withGraph.load({ packages });
    return { refused, model: models[0].name };
  },
  "loop-decide": (read) => loopForever(lockgate, fault, read, "decide"),
  "loop-predict": (read) => loopForever(lockgate, fault, read, "predict"),
};

export default {
  async fetch(request, env) {
    const read = async (address) => {
      const response = await env.DATA.fetch(`http://data${address}`);
      if (!response.ok) throw new Error(`${address}: HTTP ${response.status}`);
      return new Uint8Array(await response.arrayBuffer());
    };
    try {
      return Response.json(await SUITES[new URL(request.url).pathname.slice(1)](read));
    } catch (error) {
      return new Response(String(error?.stack ?? error), { status: 500 });
    }
  },
};
