// Many requests at once, and many in a row: the policy changes under load, and nothing grows.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ROUTE, buffer, bundle, packages, request, until, worker, workerFolder } from "./support.mjs";
import { keyValueStore, serve } from "./workerd.mjs";

const post = (body) => ({ method: "POST", body });

test("1 000 requests at once, in an isolate that has nothing loaded yet", async () => {
  const w = await worker({ bundle: bundle(1), settings: { LOCKGATE_TIMEOUT: "30s" } });
  const body = request({ user: "alice" });
  const answers = await Promise.all(Array.from({ length: 1000 }, () => w.ask(`/v2/models/${ROUTE}/infer`, post(body))));
  assert.deepEqual(new Set(answers.map(({ status }) => status)), new Set([200]));
  assert.equal(new Set(answers.map(({ body }) => body.parameters.decision_id)).size, 1000);
});

test("a policy that changes under load: every answer is whole, of one version or the other", async () => {
  const swapped = (version) => bundle(version, (policy) => {
    policy.routes[ROUTE].overrides = [{ user: "alice", serve: version % 2 === 0 ? "forest-a" : "canary" }];
  });
  const w = await worker({ bundle: swapped(1), settings: { LOCKGATE_REFRESH: "50ms" } });
  let going = true;
  const seen = new Set();
  const asking = Array.from({ length: 8 }, async () => {
    let newest = 0;
    while (going) {
      const { status, body } = await w.infer({ user: "alice" });
      assert.equal(status, 200, JSON.stringify(body));
      const { bundle_version: version, variant } = body.parameters;
      assert.equal(variant, version % 2 === 0 ? "forest-a" : "canary");
      assert.ok(version >= newest, "a version came back");
      newest = version;
      seen.add(version);
    }
  });
  for (let version = 2; version <= 6; version++) {
    await w.kv.put("policy", buffer(swapped(version).bytes));
    await until(() => seen.has(version), `version ${version} served`, 20_000);
  }
  going = false;
  await Promise.all(asking);
  assert.ok(seen.has(6));
});

test("after 10 000 requests with refreshes nothing has grown", async () => {
  // In workerd alone: miniflare's own Workers grow in the same process. The packages lie in KV, which is a server of this test.
  const values = new Map(Object.values(packages()).filter(({ digest }) => digest).map(({ digest, bytes }) => [`packages/${digest}.lgp`, bytes]));
  const kv = await keyValueStore(values);
  values.set("policy", bundle(1).bytes);
  const w = await serve(workerFolder("memory"), { kv, settings: { LOCKGATE_REFRESH: "50ms" }, collecting: true });
  try {
    const url = `${w.base}/v2/models/${ROUTE}/infer`;
    const body = request({ user: "bob", strategy: "forests" });
    const ask = async () => {
      const response = await fetch(url, post(body));
      assert.equal(response.status, 200);
      return (await response.json()).parameters.bundle_version;
    };
    let version = 1;
    /** So many thousand requests, and a new policy after each; what is in use then. */
    const thousands = async (count) => {
      let used;
      for (let k = 0; k < count; k++) {
        await Promise.all(Array.from({ length: 10 }, async () => {
          for (let k = 0; k < 100; k++) await ask();
        }));
        version += 1;
        values.set("policy", bundle(version).bytes);
        await until(async () => (await ask()) === version, `version ${version} served`);
        used = await w.inUse();
      }
      return { ...(await (await fetch(`${w.base}/health`)).json()).memory, ...used };
    };
    // V8 takes more room for what is young in steps, during the first thousands of requests.
    const before = await thousands(10);
    const after = await thousands(10);
    assert.deepEqual([after.instances, after.instances_lost], [2, 0]);
    assert.ok(after.instances_made >= before.instances_made + 10, "there were refreshes");
    assert.equal(after.instance_bytes, before.instance_bytes);
    assert.equal(after.shell_bytes, before.shell_bytes);
    const grown = `${JSON.stringify(before)} became ${JSON.stringify(after)}`;
    // 30 bytes a request would be more.
    assert.ok(after.heap < before.heap + 300_000, grown);
    // The young generation may take one more step, of 8 MiB, at any time; it has taken all of them after 30 000 requests.
    assert.ok(after.process < before.process + 12_000_000, grown);
  } finally {
    await w.stop();
    await kv.stop();
  }
});
