// Decisions in Node: what the program says, what a caller may leave out, and what it costs to decide.

import assert from "node:assert/strict";
import { test } from "node:test";

import { load } from "../../edge/js/src/node.js";
import { compile, coreDir, example, identity, run } from "./support.mjs";

test("decisions are those of the program, and of the documented hash", async () => {
  const { bundle, bundleFile, compiled } = example();
  const { policy } = await load({ bundle });
  assert.match(compiled, new RegExp(`version ${policy.version},.*sha256:${policy.digest}`));
  const contexts = [
    { route: "eurusd-direction" },
    { route: "eurusd-direction", user: "alice" },
    { route: "eurusd-direction", user: "desk-1" },
    { route: "eurusd-direction", user: "ユーザー👩‍💻" },
    { route: "eurusd-direction", user: "" },
    { route: "eurusd-direction", user: "x".repeat(40_000) },
    { route: "eurusd-direction", user: "bob", symbol: "EURUSD" },
    { route: "eurusd-direction", user: "bob", symbol: "GBPJPY", attributes: { strategy: "forest-comparison" } },
    { route: "eurusd-sequence", user: "bob" },
    ...Array.from({ length: 20 }, (_, k) => ({ route: "eurusd-direction", user: `user-${k}` })),
  ];
  const now = 1_700_000_000_000;
  const batch = policy.decideBatch(contexts, now);
  contexts.forEach((context, k) => {
    const { route, user, symbol, attributes = {} } = context;
    const args = ["--json", "decide", bundleFile, "--route", route, "--now", String(now)];
    if (user !== undefined) args.push("--user", user);
    if (symbol !== undefined) args.push("--symbol", symbol);
    for (const [name, value] of Object.entries(attributes)) args.push("--attribute", `${name}=${value}`);
    const expected = JSON.parse(run(...args));
    for (const decision of [batch[k], policy.decide(context, now)]) {
      for (const field of ["variant", "model", "version", "reason", "rule", "layer", "bucket"]) {
        assert.equal(decision[field] ?? null, expected[field] ?? null, `${JSON.stringify(context).slice(0, 100)}: ${field}`);
      }
      assert.equal(decision.route, route);
    }
  });
});

test("what the caller leaves out is the clock, and what it may not know is an error", async () => {
  const { policy } = await load({ bundle: example().bundle });
  const context = { route: "eurusd-direction", user: "alice" };
  assert.deepEqual(policy.decide(context).toJSON(), policy.decide(context, Date.now()).toJSON());
  assert.deepEqual(policy.decide(context, 5n).toJSON(), policy.decide(context, 5).toJSON());
  assert.throws(() => policy.decide({ route: "none" }, 0), { name: "LockgateError", code: "unknown_route", status: 9 });
  assert.deepEqual(policy.decideBatch([{ route: "none" }, context], 0).map((decision) => decision?.variant), [undefined, policy.decide(context, 0).variant]);
  assert.deepEqual(policy.decideBatch([], 0), []);
  for (const now of [NaN, Infinity, "0", 2n ** 63n]) assert.throws(() => policy.decide(context, now), { code: "malformed_request" }, String(now));
  for (const wrong of [{ route: 5 }, { route: "eurusd-direction", user: null }, { ...context, attributes: { a: null } }, { ...context, attributes: { a: {} } }]) {
    assert.throws(() => policy.decide(wrong, 0), { code: "malformed_request" }, JSON.stringify(wrong));
    assert.throws(() => policy.decideBatch([wrong], 0), { code: "malformed_request" }, JSON.stringify(wrong));
  }
  for (const digest of ["abc", new Uint8Array(31)]) assert.throws(() => policy.decide(context, 0, [digest]), { code: "malformed_request" });
  assert.equal(policy.instances, 1);
});

test("an unavailable package is named by text or bytes, and another version serves", async () => {
  const { policy } = await load({ bundle: example().bundle });
  const context = { route: "eurusd-direction", user: "alice" };
  const { packageDigest } = policy.decide(context, 0);
  const bytes = Buffer.from(packageDigest, "hex");
  const [text, binary] = [policy.decide(context, 0, [packageDigest]), policy.decide(context, 0, [bytes])];
  assert.deepEqual(text.toJSON(), binary.toJSON());
  assert.ok(text.fallback ? text.packageDigest !== packageDigest && text.intended !== undefined : text.unavailable, JSON.stringify(text));
});

test("a warm decision makes no ArrayBuffer, and asks the module for no memory", async () => {
  const { policy } = await load({ bundle: example().bundle });
  const { exports } = policy.core;
  const ask = (k) => {
    const context = { route: "eurusd-direction", user: `user-${k}`, symbol: k % 3 ? "EURUSD" : "GBPJPY" };
    return k % 2 ? policy.decide(context, 0) : policy.decideBatch([context, { ...context, attributes: { strategy: "none" } }], 0)[1];
  };
  for (let k = 0; k < 200; k++) assert.equal(typeof ask(k).variant, "string");
  const { buffer } = exports.memory;
  const before = [process.memoryUsage().arrayBuffers, exports.lockgate_allocations()];
  let made = 0;
  const { ArrayBuffer: real } = globalThis;
  globalThis.ArrayBuffer = new Proxy(real, { construct: (...args) => ((made += 1), Reflect.construct(...args)) });
  for (let k = 0; k < 2000; k++) ask(k);
  globalThis.ArrayBuffer = real;
  // Those of before may have gone.
  assert.ok(process.memoryUsage().arrayBuffers <= before[0]);
  assert.equal(exports.lockgate_allocations(), before[1]);
  assert.equal(made, 0);
  assert.equal(exports.memory.buffer, buffer);
});

test("no module imports anything, and each is the one that the manifest names", () => {
  for (const name of ["policy", "inference-tabular", "inference-graph"]) {
    const module = compile(name);
    assert.deepEqual(WebAssembly.Module.imports(module), [], name);
    const [section] = WebAssembly.Module.customSections(module, "lockgate-identity");
    assert.equal(Buffer.from(section).toString("hex"), identity(name, coreDir), name);
  }
});
