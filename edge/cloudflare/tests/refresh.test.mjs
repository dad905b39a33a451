// Where the policy comes from, and what breaks there: what was good goes on serving, an older one never comes back.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ROUTE, buffer, bundle, join, packages, readFileSync, request, run, scratch, until, worker, workerFolder, writeFileSync } from "./support.mjs";
import { keyValueStore, serve } from "./workerd.mjs";

const QUICK = { LOCKGATE_REFRESH: "100ms" };
const served = async (w) => (await w.infer({ user: "alice" })).body.parameters?.bundle_version;
const swapped = (policy) => {
  policy.routes["eurusd-direction"].overrides = [{ user: "alice", serve: "forest-b" }];
};

/** The code of the latest refresh that failed, once there is one. */
const failure = (w) => until(async () => {
  await w.infer({});
  return (await w.health()).parts?.policy?.last_load?.code ?? undefined;
}, "a refresh failed");

test("a newer policy comes in the background, and an older one does not come back", async () => {
  const w = await worker({ bundle: bundle(5), settings: QUICK });
  assert.equal(await served(w), 5);
  const newer = bundle(6, swapped);
  await w.kv.put("policy", buffer(newer.bytes));
  await until(async () => (await served(w)) === 6, "version 6 served");
  assert.equal((await w.infer({ user: "alice" })).body.parameters.variant, "forest-b");

  await w.kv.put("policy", buffer(bundle(4).bytes));
  assert.equal(await failure(w), "older_version");
  assert.equal(await served(w), 6);
  // The same version with other content.
  await w.kv.put("policy", buffer(bundle(6).bytes));
  await until(async () => (await failure(w)) === "version_conflict", "the conflict was seen");
  assert.equal(await served(w), 6);
  assert.equal((await w.health()).status, "degraded");
  await w.kv.put("policy", buffer(bundle(7).bytes));
  await until(async () => (await served(w)) === 7, "version 7 served");
  await until(async () => (await w.health()).status === "healthy", "all was well again");
});

test("a cron trigger refreshes an isolate", async () => {
  const w = await worker({ bundle: bundle(1), settings: QUICK });
  assert.equal((await w.cron()).outcome, "ok");
  assert.equal((await w.health()).parts.policy.version, 1);
});

for (const [what, spoil, code] of [
  ["is missing", async (w, { digest }) => w.r2.delete(`packages/${digest}.lgp`), "missing_object"],
  ["has a flipped byte", async (w, { digest, bytes }) => {
    const spoilt = new Uint8Array(bytes);
    spoilt[Math.floor(spoilt.length / 2)] ^= 1;
    await w.r2.put(`packages/${digest}.lgp`, buffer(spoilt));
  }, "digest_mismatch"],
  ["is another one", async (w, { digest }) => w.r2.put(`packages/${digest}.lgp`, buffer(packages().lr.bytes)), "wrong_pin"],
  ["is cut off", async (w, { digest, bytes }) => w.r2.put(`packages/${digest}.lgp`, buffer(bytes.subarray(0, 1000))), "malformed_envelope"],
]) {
  test(`a package that ${what} changes nothing that serves, and is named`, async () => {
    const first = bundle(1, (policy) => {
      delete policy.models["eurusd_rf_b@1.0.0"];
      delete policy.routes["eurusd-direction"].variants["forest-b"];
      policy.routes["eurusd-direction"].rules.pop();
    });
    const w = await worker({ bundle: first, settings: QUICK });
    assert.equal(await served(w), 1);
    await spoil(w, packages().rf_b);
    await w.kv.put("policy", buffer(bundle(2, swapped).bytes));
    assert.equal(await failure(w), code);
    assert.equal(await served(w), 1);
    assert.match(w.log.join(""), new RegExp(code));
    await w.r2.put(`packages/${packages().rf_b.digest}.lgp`, buffer(packages().rf_b.bytes));
    await until(async () => (await served(w)) === 2, "version 2 served once the package was whole");
  });
}

test("without a policy there is a clear answer, and service begins once there is one", async () => {
  const w = await worker({ settings: QUICK });
  const { status, body } = await w.infer({});
  assert.deepEqual([status, body.code], [503, "no_bundle"]);
  assert.equal((await w.ask("/v2/health/ready")).status, 503);
  assert.equal((await w.ask("/v2/health/live")).status, 200);
  assert.equal(await failure(w), "missing_policy");
  await w.kv.put("policy", buffer(bundle(1).bytes));
  await until(async () => (await w.infer({})).status === 200, "it served");
});

test("a policy with a flipped byte is refused", async () => {
  const w = await worker({ bundle: bundle(1), settings: QUICK });
  assert.equal(await served(w), 1);
  const spoilt = new Uint8Array(bundle(2).bytes);
  spoilt[200] ^= 1;
  await w.kv.put("policy", buffer(spoilt));
  assert.ok(["malformed", "digest_mismatch"].includes(await failure(w)));
  assert.equal(await served(w), 1);
});

test("signatures are demanded where keys are trusted", async () => {
  const keys = scratch("keys");
  run("keys", "new", "--output", join(keys, "release.pem"));
  run("keys", "new", "--output", join(keys, "other.pem"));
  const signed = (version, key) => {
    const policy = bundle(version);
    run("keys", "sign", "--key", join(keys, `${key}.pem`), policy.file);
    return { ...policy, bytes: readFileSync(policy.file) };
  };
  const trust = readFileSync(join(keys, "release.pub.pem"), "utf8");
  const w = await worker({ bundle: signed(1, "release"), settings: { ...QUICK, LOCKGATE_TRUST: trust } });
  assert.equal(await served(w), 1);
  for (const [version, make, code] of [
    [2, () => bundle(2).bytes, "unsigned"],
    [3, () => signed(3, "other").bytes, "unknown_key"],
    [4, () => {
      const bytes = new Uint8Array(signed(4, "release").bytes);
      bytes[bytes.length - 1] ^= 1;
      return bytes;
    }, "bad_signature"],
  ]) {
    await w.kv.put("policy", buffer(make()));
    await until(async () => (await failure(w)) === code, `version ${version} was refused with ${code}`);
    assert.equal(await served(w), 1);
  }
  await w.kv.put("policy", buffer(signed(5, "release").bytes));
  await until(async () => (await served(w)) === 5, "a signed one served");
});

test("what is older than it may be goes on, or falls back to the baselines", async () => {
  for (const [when, variant] of [["fail_static", "canary"], ["fail_default", "stable"]]) {
    const settings = { ...QUICK, LOCKGATE_MAX_STALE: "300ms", LOCKGATE_WHEN_STALE: when };
    const w = await worker({ bundle: bundle(1), settings });
    assert.equal((await w.infer({ user: "alice" })).body.parameters.variant, "canary");
    await w.kv.delete("policy");
    await until(async () => {
      await w.infer({});
      return (await w.health()).parts.policy.mode === when;
    }, `the policy was too old (${when})`);
    const { status, body } = await w.infer({ user: "alice" });
    assert.deepEqual([status, body.parameters.variant], [200, variant]);
    assert.ok((await w.health()).parts.policy.age_seconds >= 0);
  }
});

test("unit lists come with the policy", async () => {
  const listed = bundle(1, (policy) => {
    policy.segments = { many: { users: Array.from({ length: 5000 }, (_, k) => `unit-${k}`) } };
    policy.routes["eurusd-direction"].test_groups = [{ name: "many", segments: ["many"], serve: "forest-b" }];
  });
  const w = await worker({ bundle: listed, settings: QUICK });
  const { readdirSync, existsSync } = await import("node:fs");
  const objects = join(listed.folder, "objects");
  if (existsSync(objects)) {
    for (const name of readdirSync(objects)) await w.r2.put(`objects/${name}`, buffer(readFileSync(join(objects, name))));
  }
  await until(async () => (await w.infer({ user: "unit-77" })).status === 200, "it served");
  assert.equal((await w.infer({ user: "unit-77" })).body.parameters.variant, "forest-b");
});

/** A Worker whose KV says what this test wants, and whose clock goes on when it is told to. */
async function withStore(settings, test) {
  const objects = Object.values(packages()).filter(({ digest }) => digest).map(({ digest, bytes }) => [`packages/${digest}.lgp`, bytes]);
  const kv = await keyValueStore(new Map(objects));
  const folder = workerFolder(`clock-${clocks++}`);
  writeFileSync(join(folder, "clock.js"), `
    import worker from "./worker.js";
    const now = Date.now.bind(Date);
    let shift = 0;
    Date.now = () => now() + shift;
    export default {
      fetch(request, env, context) {
        shift += Number(request.headers.get("x-later") ?? 0);
        return worker.fetch(request, env, context);
      },
    };
  `);
  const w = await serve(folder, { kv, settings, main: "clock.js" });
  /** Asks, `later` seconds after the request before. */
  const ask = async (path, later = 0, body = undefined) => {
    const init = { method: body === undefined ? "GET" : "POST", body, headers: { "x-later": String(later * 1000) } };
    const response = await fetch(`${w.base}${path}`, init);
    return { status: response.status, body: await response.json() };
  };
  const infer = (later) => ask(`/v2/models/${ROUTE}/infer`, later, request({ user: "alice" }));
  try {
    await test({
      kv, infer,
      put: (policy) => kv.values.set("policy", policy.bytes),
      version: async (later) => (await infer(later)).body.parameters?.bundle_version,
      policy: async () => (await ask("/health")).body.parts.policy,
      reads: () => kv.asked.filter(({ key }) => key === "policy").length,
    });
  } finally {
    await w.stop();
    await kv.stop();
  }
}

let clocks = 0;

test("KV is asked every 30 s for what is 30 s old at most: a new policy serves within 60 s", async () => {
  await withStore({}, async ({ kv, put, version, reads }) => {
    put(bundle(1));
    assert.equal(await version(), 1);
    const read = reads();
    assert.equal(await version(29), 1);
    assert.equal(reads(), read, "nothing is due yet");
    put(bundle(2, swapped));
    assert.equal(await version(2), 1, "the answer does not wait for the refresh");
    await until(() => reads() > read, "KV was asked");
    await until(async () => (await version()) === 2, "version 2 served");
    assert.deepEqual(new Set(kv.asked.map(({ age }) => age)), new Set([30]));
  });
});

test("an isolate that nobody asked for long looks before it answers", async () => {
  await withStore({}, async ({ kv, put, version }) => {
    put(bundle(1));
    assert.equal(await version(), 1);
    put(bundle(2, swapped));
    assert.equal(await version(3600), 2);
    // A KV that does not answer holds nobody up for long.
    kv.before = () => new Promise(() => {});
    assert.equal(await version(3600), 2);
  });
});

test("an older value of KV is refused, confirms nothing, and is forgotten once KV has caught up", async () => {
  await withStore({}, async ({ put, version, policy }) => {
    put(bundle(5));
    assert.equal(await version(), 5);
    const older = bundle(4, swapped);
    put(older);
    await version(31);
    await until(async () => (await policy()).last_load?.code === "older_version", "the older one was refused");
    assert.equal(await version(), 5);
    assert.equal((await policy()).status, "degraded");
    assert.ok((await policy()).age_seconds >= 31, "nothing was confirmed");
    put(bundle(5));
    await version(31);
    await until(async () => (await policy()).status === "healthy", "it was confirmed again");
    assert.equal(await version(), 5);
  });
});

test("an isolate that begins with an older value of KV serves nothing below its floor", async () => {
  await withStore({ LOCKGATE_MIN_VERSION: "5" }, async ({ put, infer, version, policy }) => {
    put(bundle(4));
    const { status, body } = await infer();
    assert.deepEqual([status, body.code], [503, "no_bundle"]);
    assert.match((await policy()).last_load.error, /5/);
    put(bundle(5));
    await until(async () => (await version(31)) === 5, "version 5 served");
  });
});
