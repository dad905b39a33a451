// The conformance suites inside a browser's page or its worker, on the package as it is installed.

import * as lockgate from "/package/src/browser.js";
import { decisionSuite, errorSuite, faultSuite, loopForever, predictionSuite, walkThrough } from "./conformance.mjs";

async function read(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address}: HTTP ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

const compile = (address) => WebAssembly.compileStreaming(fetch(address));

async function modules() {
  const [policy, tabular, graph] = await Promise.all(["policy", "inference-tabular", "inference-graph"].map((name) => compile(`/package/core/${name}.wasm`)));
  return { policy, tabular, graph };
}

async function fault() {
  const [policy, inference] = await Promise.all(["policy", "inference-tabular"].map((name) => compile(`/fault/${name}.wasm`)));
  return { policy, inference };
}

const SUITES = {
  identities: async () => {
    const { policy, tabular, graph } = await modules();
    const { identityOf } = lockgate;
    return { policy: identityOf(policy), "inference-tabular": identityOf(tabular), "inference-graph": identityOf(graph) };
  },
  decisions: async () => decisionSuite(lockgate, (await modules()).policy, read),
  predictions: async () => predictionSuite(lockgate, await modules(), read),
  errors: async () => errorSuite(lockgate, await modules(), read),
  faults: async () => faultSuite(lockgate, await fault(), read),
  walk: () => walkThrough(lockgate, read),
};

export const run = (suite) => SUITES[suite]();

/** Whether a worker that makes an endless call says anything for half a second, and whether it can be ended. */
export async function loop(what) {
  const worker = new Worker(new URL("./page_loop.mjs", import.meta.url), { type: "module" });
  const message = () => new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = (event) => reject(new Error(event.message));
  });
  const first = message();
  worker.postMessage(what);
  const before = await first;
  const after = await Promise.race([message(), new Promise((resolve) => setTimeout(resolve, 500, "silent"))]);
  worker.terminate();
  return [before, after];
}

export const looping = { lockgate, fault, loopForever, read };
