// The conformance suites in workerd, on the package as npm installs it, bundled as wrangler does.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Response } from "miniflare";

import * as inNode from "../../edge/js/src/node.js";
import { walkThrough } from "./conformance.mjs";
import { dataAt } from "./data.mjs";
import { record } from "./record.mjs";
import { identity, packageVersion } from "./support.mjs";
import { bundle, start } from "./workerd.mjs";

const suites = {};
const read = async (address) => dataAt(address);
let built, worker;

const options = {
  serviceBindings: {
    DATA: async (request) => {
      const bytes = dataAt(new URL(request.url).pathname);
      return bytes === undefined ? new Response(null, { status: 404 }) : new Response(bytes);
    },
  },
};

before(async () => {
  built = await bundle(fileURLToPath(new URL("worker.mjs", import.meta.url)), "worker");
  worker = start(built, options);
});

after(() => worker?.dispose());

async function run(suite, from = worker) {
  const response = await from.dispatchFetch(`http://worker/${suite}`);
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return JSON.parse(text);
}

for (const name of ["decisions", "predictions", "errors", "faults"]) {
  test(`workerd passes the suite \`${name}\``, async () => {
    suites[name] = await run(name);
    const { compared, mismatches } = suites[name];
    assert.deepEqual(mismatches.slice(0, 5), [], `${mismatches.length} of ${compared}`);
  });
}

test("an endless loop blocks its isolate alone, and ends with the process", async () => {
  for (const what of ["decide", "predict"]) {
    const looping = start(built, options);
    let answer;
    try {
      await run("identities", looping);
      answer = looping.dispatchFetch(`http://worker/loop-${what}`).then(() => "answered", () => "ended");
      const silence = new Promise((resolve) => setTimeout(resolve, 500, "silent"));
      assert.equal(await Promise.race([answer, silence]), "silent", what);
      assert.equal((await run("identities")).policy, identity("policy"));
    } finally {
      await looping.dispose();
    }
    assert.equal(await answer, "ended");
    suites.faults.compared += 1;
  }
});

test("a Worker begins with load(), and gets what Node gets", async () => {
  const expected = await walkThrough(inNode, read);
  assert.deepEqual(await run("walk"), expected);
  const graph = { ...expected, identities: { ...expected.identities, inference: identity("inference-graph") } };
  assert.deepEqual(await run("walk-graph"), graph);
});

test("a package that needs the graph flavour says which entry point has it", async () => {
  const { refused, model } = await run("sequence");
  assert.equal(refused.code, "unsupported_plan");
  assert.match(refused.hint, /lockgate\/workers-graph/);
  assert.equal(model, "eurusd_lstm");
});

test("the run is recorded", async () => {
  record("workerd", { workerd: packageVersion("workerd"), miniflare: packageVersion("miniflare") }, await run("identities"), suites);
});
