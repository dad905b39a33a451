// The conformance suites in Node.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Worker } from "node:worker_threads";

import * as lockgate from "../../edge/js/src/node.js";
import { decisionSuite, errorSuite, faultSuite, predictionSuite, walkThrough } from "./conformance.mjs";
import { dataAt } from "./data.mjs";
import { record } from "./record.mjs";
import { compile, faultDir, identity } from "./support.mjs";

const { identityOf } = lockgate;
const modules = { policy: compile("policy"), tabular: compile("inference-tabular"), graph: compile("inference-graph") };
const fault = { policy: compile("policy", faultDir), inference: compile("inference-tabular", faultDir) };
const suites = {};

async function read(address) {
  const bytes = dataAt(address);
  if (bytes === undefined) throw new Error(`nothing at ${address}`);
  return bytes;
}

function isClean({ compared, mismatches }) {
  assert.deepEqual(mismatches.slice(0, 5), [], `${mismatches.length} of ${compared}`);
}

test("V8 decides as the second evaluator", async () => {
  suites.decisions = await decisionSuite(lockgate, modules.policy, read);
  isClean(suites.decisions);
});

test("V8 predicts as wasmtime, bit for bit, and as onnxruntime", async () => {
  suites.predictions = await predictionSuite(lockgate, modules, read);
  isClean(suites.predictions);
});

test("what must be refused is, by its code", async () => {
  suites.errors = await errorSuite(lockgate, modules, read);
  isClean(suites.errors);
});

test("every fault costs its request alone", async () => {
  suites.faults = await faultSuite(lockgate, fault, read);
  isClean(suites.faults);
});

test("an endless loop ends with its thread", async () => {
  for (const what of ["decide", "predict"]) {
    const worker = new Worker(new URL("looping.mjs", import.meta.url), { workerData: { what, fault, bundle: dataAt("/object/bundle"), gb: dataAt("/object/eurusd_gb") } });
    const [first] = await once(worker, "message");
    assert.equal(first, "calls");
    // Long enough for a call that returns to have returned.
    const returned = await Promise.race([once(worker, "message"), new Promise((resolve) => setTimeout(resolve, 500, undefined))]);
    assert.equal(returned, undefined, `${what} returned`);
    await worker.terminate();
    suites.faults.compared += 1;
  }
});

test("an application begins with load()", async () => {
  const { decision, outputs, identities } = await walkThrough(lockgate, read);
  assert.deepEqual(identities, { policy: identity("policy"), inference: identity("inference-tabular") });
  assert.equal(decision.reason, "TARGETING_MATCH");
  assert.equal(outputs.length, 2);
});

test("the run is recorded", () => {
  const identities = { policy: identityOf(modules.policy), "inference-tabular": identityOf(modules.tabular), "inference-graph": identityOf(modules.graph) };
  record("node", { node: process.version.slice(1), v8: process.versions.v8 }, identities, suites);
});
