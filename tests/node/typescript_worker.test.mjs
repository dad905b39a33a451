// The plain TypeScript Worker: its models are made as its README says, its types hold, and it answers in workerd.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { load } from "../../edge/js/src/node.js";
import { example, identity, installed, lockgate, packageDir, root, scratchDir } from "./support.mjs";
import { bundle, start } from "./workerd.mjs";

const source = join(root, "edge/cloudflare/examples/typescript");
let folder, worker, built;

before(async () => {
  folder = join(scratchDir(), "typescript");
  cpSync(source, folder, { recursive: true, filter: (path) => !path.includes("node_modules") });
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(installed().folder, join(folder, "node_modules/lockgate"));
  symlinkSync(fileURLToPath(new URL("node_modules/@cloudflare", import.meta.url)), join(folder, "node_modules/@cloudflare"));
  execFileSync("sh", ["models.sh"], { cwd: folder, env: { ...process.env, LOCKGATE: lockgate, PARTS: join(root, "examples/eurusd/models") }, stdio: "pipe" });
  built = await bundle(join(folder, "src/worker.ts"), "typescript-worker");
  worker = start(built);
});

after(() => worker?.dispose());

const ask = async (path, init) => {
  const response = await worker.dispatchFetch(`http://worker${path}`, init);
  return [response.status, await response.json()];
};
const predict = (body) => ask("/predict", { method: "POST", body: typeof body === "string" ? body : JSON.stringify(body) });
const row = Array.from({ length: 17 }, (_, k) => k + 1);

test("its types hold", () => {
  execFileSync(process.execPath, [join(packageDir, "node_modules/typescript/bin/tsc"), "--noEmit", "--project", folder], { stdio: "inherit" });
});

test("it decides and predicts as Node does", async () => {
  const policy = readFileSync(join(folder, "models/policy.lgb"));
  const gate = await load({ bundle: policy, packages: ["eurusd_lr", "eurusd_gb"].map((name) => example().objects.get(name)) });
  const variants = new Set();
  for (let k = 0; k < 60; k++) {
    const [status, body] = await predict({ user: `user-${k}`, rows: [row, row.map((value) => -value)] });
    assert.equal(status, 200, JSON.stringify(body));
    const decision = gate.decide({ route: "eurusd-direction", user: `user-${k}` });
    const { variant, model, version, reason, bucket } = decision;
    assert.deepEqual(body.served, { variant, model, version, reason, bucket });
    const input = Float32Array.from([...row, ...row.map((value) => -value)]);
    const { data } = gate.predict(decision, { input }).output("output_probability");
    assert.deepEqual(body.probabilities.flat(), [...data]);
    variants.add(variant);
  }
  assert.deepEqual([...variants].sort(), ["canary", "stable"]);
});

test("it says what it runs", async () => {
  const [status, body] = await ask("/health");
  assert.equal(status, 200);
  assert.deepEqual([body.policy, body.identities], ["1", { policy: identity("policy"), inference: identity("inference-tabular") }]);
  assert.equal(body.models.length, 2);
});

test("what it cannot answer is an error that says why", async () => {
  const wrong = ["", "[]", "null", { rows: [] }, { rows: [[1, 2]] }, { rows: [[...row.slice(1), "x"]] }, { rows: Array(1001).fill(row) }];
  for (const body of wrong) {
    const [status, { error }] = await predict(body);
    assert.deepEqual([status, typeof error], [400, "string"], JSON.stringify(body).slice(0, 40));
  }
  const [, infinite] = await predict(JSON.stringify({ user: "bob", rows: [row] }).replace("[1,", "[1e999,"));
  assert.equal(infinite.outOfRange, 1, "what no training row was near is counted");
  assert.equal((await ask("/"))[0], 404);
  assert.equal((await predict({ user: 5, rows: [row] }))[0], 200, "a user that is no text is none");
});

test("it is as small as its README says", () => {
  const size = readdirSync(built.folder).reduce((sum, file) => sum + gzipSync(readFileSync(join(built.folder, file)), { level: 9 }).length, 0);
  assert.ok(size < 190_000, `${size} bytes gzipped`);
  assert.ok(!built.inputs.some((path) => path.includes("inference-graph")), "the graph flavour is in it");
});
