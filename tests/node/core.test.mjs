// The core in V8: the same modules, the same vectors, the same answers.
//
// `cargo xtask test` builds the core and the program first; LOCKGATE names the program and LOCKGATE_CORE_DIR the core.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { Core, Decider, Predictor } from "../../bench/node/flat.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const lockgate = process.env.LOCKGATE ?? join(root, "target/debug/lockgate");
const coreDir = process.env.LOCKGATE_CORE_DIR ?? join(root, "target/core");
const models = join(root, "tests/models");
const manifest = JSON.parse(readFileSync(join(coreDir, "manifest.json"), "utf8"));
const modules = new Map(
  manifest.modules.map(({ name, file }) => [name, new WebAssembly.Module(readFileSync(join(coreDir, file)))]),
);
let folder;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "lockgate-node-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const run = (...args) => execFileSync(lockgate, args, { encoding: "utf8" });

test("no module imports anything", () => {
  assert.deepEqual([...modules.keys()].sort(), ["inference-graph", "inference-tabular", "policy"]);
  for (const [name, module] of modules) assert.deepEqual(WebAssembly.Module.imports(module), [], name);
});

test("every module is the one that the manifest names", () => {
  for (const { name, identity } of manifest.modules) {
    const [section] = WebAssembly.Module.customSections(modules.get(name), "lockgate-identity");
    assert.equal(Buffer.from(section).toString("hex"), identity, name);
  }
});

const number = (value) => (typeof value === "string" ? Number(value) : value);

function label(output, row) {
  if (output.datatype === 9) return String(output.data[row]);
  let at = 0;
  const view = new DataView(output.data.buffer);
  for (let k = 0; k < row; k++) at += 4 + view.getUint32(at, true);
  return new TextDecoder().decode(output.data.subarray(at + 4, at + 4 + view.getUint32(at, true)));
}

test("predictions agree with onnxruntime", () => {
  let compared = 0;
  for (const file of readdirSync(models).filter((name) => name.endsWith(".json"))) {
    const vector = JSON.parse(readFileSync(join(models, file), "utf8"));
    const [input] = vector.inputs;
    if (vector.inputs.length !== 1 || input.datatype !== "FP32") continue;
    const packageFile = join(folder, file.replace(".json", ".lgp"));
    run("package", join(models, vector.model), "--output", packageFile);
    const core = new Core(modules.get("inference-graph"), "lockgate_predict");
    const bytes = readFileSync(packageFile);
    const predictor = new Predictor(core, core.load(bytes), input.name, input.shape.slice(1));
    const outputs = predictor.predict(input.shape[0], Float32Array.from(input.data, number));
    const scores = vector.outputs.find(({ datatype, shape }) => datatype === "FP32" && shape[1] === vector.classes?.length);
    for (const expected of vector.outputs) {
      const output = outputs.find(({ name }) => name === expected.name);
      assert.deepEqual(output.shape, expected.shape, `${file} ${expected.name}`);
      expected.data.forEach((value, k) => {
        if (expected.datatype === "FP32") {
          const [a, b] = [output.data[k], number(value)];
          const close = Object.is(a, b) || a === b || Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(b));
          assert.ok(close, `${file}: ${expected.name}[${k}] is ${a}, onnxruntime gives ${b}`);
        } else if (label(output, k) !== String(value)) {
          const width = vector.classes.length;
          const [first, second] = scores.data.slice(k * width, (k + 1) * width).map(number).sort((a, b) => b - a);
          assert.ok(first - second <= 1e-5, `${file}: label ${k} is ${label(output, k)}, onnxruntime gives ${value}`);
        }
      });
    }
    compared += 1;
  }
  assert.ok(compared >= 50, `only ${compared} vectors were compared`);
});

test("decisions are those of the native evaluator, and of the documented hash", () => {
  const example = join(root, "examples/eurusd");
  const packages = join(folder, "packages");
  mkdirSync(packages);
  for (const name of ["lr", "gb", "rf_a", "rf_b", "lstm"]) {
    const model = join(example, `models/eurusd_${name}`);
    run("package", `${model}.onnx`, "--manifest", `${model}.manifest.yaml`, "--output", packages);
  }
  const file = join(folder, "policy.lgb");
  run("policy", "compile", join(example, "policy.yaml"), "--packages", packages, "--output", file);
  const core = new Core(modules.get("policy"), "lockgate_decide");
  core.load(readFileSync(file));
  const decider = new Decider(core);
  const contexts = [
    { route: "eurusd-direction" },
    { route: "eurusd-direction", user: "alice" },
    { route: "eurusd-direction", user: "desk-1" },
    { route: "eurusd-direction", user: "ユーザー👩‍💻" },
    { route: "eurusd-direction", user: "bob", symbol: "EURUSD" },
    { route: "eurusd-direction", user: "bob", symbol: "GBPJPY", attributes: { strategy: "forest-comparison" } },
    { route: "eurusd-sequence", user: "bob" },
    ...Array.from({ length: 20 }, (_, k) => ({ route: "eurusd-direction", user: `user-${k}` })),
  ];
  const now = 1_700_000_000_000;
  decider.decide(contexts, now).forEach((decision, k) => {
    const { route, user, symbol, attributes = {} } = contexts[k];
    const args = ["--json", "decide", file, "--route", route, "--now", String(now)];
    if (user) args.push("--user", user);
    if (symbol) args.push("--symbol", symbol);
    for (const [name, value] of Object.entries(attributes)) args.push("--attribute", `${name}=${value}`);
    const expected = JSON.parse(run(...args));
    for (const field of ["variant", "model", "version", "reason", "rule", "layer", "bucket"]) {
      assert.equal(decision[field] ?? null, expected[field] ?? null, `${JSON.stringify(contexts[k])}: ${field}`);
    }
  });
  assert.equal(decider.decide([{ route: "unknown" }], now)[0], undefined);
});

test("a warm decision makes no ArrayBuffer, and asks the module for no memory", () => {
  const core = new Core(modules.get("policy"), "lockgate_decide");
  core.load(readFileSync(join(folder, "policy.lgb")));
  const decider = new Decider(core);
  const ask = (k) => {
    const context = { route: "eurusd-direction", user: `user-${k}`, symbol: k % 3 ? "EURUSD" : "GBPJPY" };
    return k % 2 ? decider.decideOne(context, 0) : decider.decide([context, { ...context, attributes: { strategy: "none" } }], 0)[1];
  };
  for (let k = 0; k < 200; k++) assert.equal(typeof ask(k).variant, "string");
  const { buffer } = core.exports.memory;
  const before = [process.memoryUsage().arrayBuffers, core.exports.lockgate_allocations()];
  let made = 0;
  const { ArrayBuffer: real } = globalThis;
  globalThis.ArrayBuffer = new Proxy(real, { construct: (...args) => ((made += 1), Reflect.construct(...args)) });
  for (let k = 0; k < 2000; k++) ask(k);
  globalThis.ArrayBuffer = real;
  assert.deepEqual([process.memoryUsage().arrayBuffers, core.exports.lockgate_allocations()], before);
  assert.equal(made, 0);
  assert.equal(core.exports.memory.buffer, buffer);
});

test("a damaged package is refused, and the instance goes on", () => {
  const file = join(folder, "damaged.lgp");
  run("package", join(models, "lr_binary.onnx"), "--output", file);
  const bytes = readFileSync(file);
  const core = new Core(modules.get("inference-tabular"), "lockgate_predict");
  const damaged = Uint8Array.from(bytes);
  damaged[200] ^= 1;
  assert.throws(() => core.load(damaged), /error 3: .*SHA-256/);
  core.capacity = 0;
  assert.equal(core.load(bytes), 0);
});
