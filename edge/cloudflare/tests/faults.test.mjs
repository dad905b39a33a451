// The fault core in the Worker: each misbehaviour of a module costs the request that brought it, and nothing else.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { test } from "node:test";

import { ROUTE, baked, buffer, bundle, coreDir, join, request, until, worker, workerFolder, workerdPid } from "./support.mjs";

const MARKS = ["trap", "allocate", "malformed-pointer", "malformed-size", "malformed-offset", "malformed-header", "malformed-record"];
const ELEMENT = { trap: 1, loop: 2, allocate: 3, "malformed-pointer": 4, "malformed-size": 5, "malformed-offset": 6, "malformed-header": 7, "malformed-record": 8 };
const fault = join(coreDir, "fault");
const faulty = () => workerFolder("fault", {
  "policy.wasm": join(fault, "policy.wasm"),
  "inference.wasm": join(fault, "inference-tabular.wasm"),
  "manifest.json": join(fault, "manifest.json"),
});

/** A request whose first element has these bits, as a binary tensor: JSON would round them. */
function marked(mark) {
  const data = Buffer.alloc(68);
  data.writeUInt32LE(0x7f00fa00 | ELEMENT[mark]);
  const head = Buffer.from(JSON.stringify({ inputs: [{ name: "input", datatype: "FP32", shape: [1, 17], parameters: { binary_data_size: 68 } }] }));
  return { method: "POST", body: Buffer.concat([head, data]), headers: { "inference-header-content-length": String(head.length) } };
}

const EXPECTED = { trap: "trap", allocate: "memory_limit" };

async function checkAll(w) {
  for (const mark of MARKS) {
    const code = EXPECTED[mark] ?? "malformed_response";
    const decided = await w.infer({ user: `lockgate-fault:${mark}` });
    assert.deepEqual([decided.status, decided.body.code], [500, code], `decide, ${mark}: ${JSON.stringify(decided.body)}`);
    assert.equal((await w.infer({ user: "alice" })).status, 200, `after ${mark} in a decision`);
    const predicted = await w.ask(`/v2/models/${ROUTE}/infer`, marked(mark));
    assert.deepEqual([predicted.status, predicted.body.code], [500, code], `predict, ${mark}: ${JSON.stringify(predicted.body)}`);
    assert.equal((await w.infer({ user: "alice" })).status, 200, `after ${mark} in a prediction`);
  }
}

// So many faults would quarantine the package otherwise; that has a test of its own.
const PATIENT = { LOCKGATE_FAULT_LIMIT: "1000" };

test("a fault costs its request; the next one has a new instance", async () => {
  const w = await worker({ bundle: bundle(1), folder: faulty(), settings: PATIENT });
  await checkAll(w);
});

test("the same with baked modules", async () => {
  const w = await worker({ folder: baked("fault-baked", { bundle: bundle(1), core: fault }), settings: PATIENT });
  await checkAll(w);
});

test("a package that fails again and again is quarantined, and its fallback serves", async () => {
  const policy = bundle(1, (document) => {
    document.routes[ROUTE].variants.canary.fallbacks = ["forest-b"];
    document.routes[ROUTE].default = { serve: "canary" };
  });
  const w = await worker({ bundle: policy, folder: faulty(), settings: { LOCKGATE_FAULT_LIMIT: "3", LOCKGATE_QUARANTINE: "1m" } });
  for (let k = 0; k < 3; k++) assert.equal((await w.ask(`/v2/models/${ROUTE}/infer`, marked("trap"))).status, 500);
  const { status, body } = await w.infer({});
  assert.deepEqual([status, body.parameters.variant, body.parameters.fallback], [200, "forest-b", true], JSON.stringify(body));
  assert.equal((await w.health()).status, "degraded");
});

test("a loop holds the isolate: nothing ends it here, so the process is killed and a new one serves", async () => {
  // Cloudflare ends a request that has used up its CPU time; workerd alone enforces no such limit.
  const policy = bundle(1);
  const w = await worker({ bundle: policy, folder: faulty() });
  assert.equal((await w.infer({ user: "alice" })).status, 200);
  const pid = workerdPid();
  const looping = w.infer({ user: "lockgate-fault:loop" }, { signal: AbortSignal.timeout(2000) });
  await assert.rejects(looping);
  process.kill(pid, "SIGKILL");
  const next = await worker({ bundle: policy });
  assert.equal((await next.infer({ user: "alice" })).status, 200);
});

test("a shell that fails is made anew, with the cores that were loaded and the version that was accepted", async () => {
  const folder = workerFolder("crash");
  writeFileSync(join(folder, "crash.js"), `
    import worker from "./worker.js";
    let crash = false;
    const now = Date.now;
    Date.now = () => {
      if (!crash) return now();
      crash = false;
      throw new WebAssembly.RuntimeError("unreachable");
    };
    export default {
      fetch(request, env, context) {
        crash = request.headers.has("x-crash");
        return worker.fetch(request, env, context);
      },
    };
  `);
  const w = await worker({ bundle: bundle(3), folder, settings: { LOCKGATE_REFRESH: "100ms" }, options: { scriptPath: join(folder, "crash.js") } });
  const first = await w.infer({ user: "alice" });
  assert.equal(first.status, 200);
  // Neither the policy nor a package can be fetched again.
  await w.kv.delete("policy");
  for (const { key } of (await w.r2.list()).objects) await w.r2.delete(key);
  const crashed = await w.infer({ user: "alice" }, { headers: { "x-crash": "1" } });
  assert.deepEqual([crashed.status, crashed.body.code], [500, "internal"], `${JSON.stringify(crashed.body)} ${w.log.join("")}`);
  await until(() => /made anew/.test(w.log.join("")), "the log says that the shell is made anew");
  const after = await w.infer({ user: "alice" });
  assert.equal(after.status, 200, JSON.stringify(after.body));
  assert.deepEqual(after.body.outputs, first.body.outputs);
  await w.kv.put("policy", buffer(bundle(2).bytes));
  await until(async () => {
    await w.infer({});
    return (await w.health()).parts.policy.last_load?.code === "older_version";
  }, "the older version was refused by the new shell");
  assert.equal((await w.infer({ user: "alice" })).body.parameters.bundle_version, 3);
});
