// Everything baked: nothing is bound, nothing is fetched.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Miniflare } from "miniflare";

import { ROUTE, baked, bundle, request, worker, workerOptions } from "./support.mjs";

test("a baked Worker answers without any binding, as a loaded one does", async () => {
  const policy = bundle(9);
  const folder = baked("baked", { bundle: policy });
  const mf = new Miniflare(workerOptions(folder));
  try {
    const ask = async (parameters) => {
      const init = { method: "POST", body: request(parameters, 3) };
      return (await mf.dispatchFetch(`http://worker/v2/models/${ROUTE}/infer`, init)).json();
    };
    const loaded = await worker({ bundle: policy });
    for (const parameters of [{ user: "alice" }, { user: "bob", strategy: "forest" }, { user: ["a", "b", "c"], strategy: "forests" }]) {
      const body = await ask(parameters);
      assert.equal(body.parameters?.bundle_version, 9, JSON.stringify(body));
      const same = await loaded.ask(`/v2/models/${ROUTE}/infer`, { method: "POST", body: request(parameters, 3) });
      delete body.parameters.decision_id;
      delete same.body.parameters.decision_id;
      assert.deepEqual(body, same.body);
    }
    const health = await (await mf.dispatchFetch("http://worker/health")).json();
    assert.equal(health.status, "healthy");
    assert.equal(health.parts.policy.source, "baked");
    assert.match(health.core.image, /^[0-9a-f]{64}$/);
    const metadata = await (await mf.dispatchFetch(`http://worker/v2/models/${ROUTE}`)).json();
    assert.equal(metadata.versions.length, 4);
  } finally {
    await mf.dispose();
  }
});

test("files of two bakes do not go together", async () => {
  const folder = baked("mixed", { bundle: bundle(1) });
  const other = baked("other", { bundle: bundle(2) });
  const { cpSync } = await import("node:fs");
  cpSync(`${other}/policy.wasm`, `${folder}/policy.wasm`);
  const mf = new Miniflare(workerOptions(folder));
  try {
    const response = await mf.dispatchFetch("http://worker/v2/health/live");
    assert.equal(response.status, 500);
    assert.match((await response.json()).error, /does not hold the bundle/);
  } finally {
    await mf.dispose();
  }
});

test("a plain Worker without a store says what it lacks", async () => {
  const { dist } = await import("./support.mjs");
  const mf = new Miniflare(workerOptions(dist));
  try {
    const response = await mf.dispatchFetch("http://worker/v2/health/live");
    assert.equal(response.status, 500);
    assert.match((await response.json()).error, /POLICY/);
  } finally {
    await mf.dispose();
  }
});
