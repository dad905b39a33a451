// Measures the Worker in workerd alone, beside one that answers a constant: requests in a second, start-up, memory. Prints JSON.
//
//   node run.mjs --lockgate PROGRAM --core FOLDER --fetched FOLDER --baked FOLDER --models FOLDER [--quick]
//
// The models are those that onnxruntime-web can run: peer_models.py writes them.

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { inspect, keyValueStore, serve } from "../../edge/cloudflare/tests/workerd.mjs";
import { load } from "./load.mjs";

const { values: given } = parseArgs({
  options: { lockgate: { type: "string" }, core: { type: "string" }, fetched: { type: "string" }, baked: { type: "string" }, models: { type: "string" }, quick: { type: "boolean", default: false } },
});
const ROUNDS = given.quick ? 2 : 15;
const TURN = given.quick ? 300 : 2000;
const STARTS = given.quick ? 1 : 5;
const REQUESTS = given.quick ? 1000 : 10_000;
const CONNECTIONS = 4;
const ROUTE = "eurusd-direction";
const PATH = `/v2/models/${ROUTE}/infer`;

const root = fileURLToPath(new URL("../..", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "lockgate-bench-edge-"));
const folder = (name) => {
  const path = join(scratch, name);
  mkdirSync(path, { recursive: true });
  return path;
};
const lockgate = (...args) => execFileSync(given.lockgate, args, { encoding: "utf8" });
const say = (text) => process.stderr.write(`${text}\n`);

/** A package of a model of the example, and a policy of one route that it serves. */
function parts(model, version) {
  const out = folder(model);
  const file = join(out, `${model}.lgp`);
  const source = join(root, "examples/eurusd/models", model);
  lockgate("package", `${source}.onnx`, "--manifest", `${source}.manifest.yaml`, "--output", file);
  const policy = join(out, "policy.yaml");
  writeFileSync(policy, `lockgate: 1
version: 1
models: { ${model}@${version}: {} }
routes:
  ${ROUTE}:
    unit: user
    baseline: one
    variants: { one: { model: ${model}@${version} }, two: { model: ${model}@${version} } }
    default: { split: { one: 90, two: 10 } }
`);
  const bundle = join(out, "policy.lgb");
  lockgate("policy", "compile", policy, "--packages", out, "--output", bundle);
  return { file, bundle, digest: JSON.parse(lockgate("inspect", file, "--json")).digest.replace("sha256:", "") };
}

function baked(name, { file, bundle }) {
  const out = folder(name);
  cpSync(given.baked, out, { recursive: true });
  lockgate("bake", "--policy", bundle, "--package", file, "--core", given.core, "--out", out);
  // Components are for other platforms.
  for (const part of ["policy", "inference", "about"]) rmSync(join(out, `${part}.component.wasm`), { force: true });
  return out;
}

/** 4 096 rows of the example's held-out features with a little noise, so that no branch predictor learns them; a user for each. */
function requests() {
  const rows = readFileSync(join(root, "examples/eurusd/data/rows.csv"), "utf8").trim().split("\n");
  const columns = rows[0].split(",");
  const lags = columns.map((name, place) => [name, place]).filter(([name]) => name.startsWith("return_lag_"));
  let seed = 1;
  const noise = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32 - 0.5;
  };
  return Array.from({ length: 4096 }, (_, k) => {
    const row = rows[1 + (k % (rows.length - 1))].split(",");
    const data = lags.map(([, place]) => Math.fround(Number(row[place]) * (1 + noise() / 10)));
    return JSON.stringify({ parameters: { user: `user-${k}` }, inputs: [{ name: "input", datatype: "FP32", shape: [1, 17], data }] });
  });
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};
const percentile = (values, share) => values.toSorted()[Math.min(values.length - 1, Math.floor(values.length * share))];
const port = ({ base }) => Number(new URL(base).port);

/** CPU time of a process, in seconds. */
function cpu(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const forest = parts("eurusd_rf_a", "1.0.0");
const lstm = parts("eurusd_lstm", "2.1.0");
const bodies = requests();
const values = new Map([[`packages/${forest.digest}.lgp`, readFileSync(forest.file)], ["policy", readFileSync(forest.bundle)]]);
const kv = await keyValueStore(values);

const bakedForest = baked("baked-forest", forest);
const fetched = folder("fetched");
cpSync(given.fetched, fetched, { recursive: true });
const constant = folder("constant");
const peer = folder("onnxruntime-web");
const web = join(root, "bench/node/node_modules/onnxruntime-web");
cpSync(join(root, "bench/edge/onnxruntime_web.mjs"), join(peer, "worker.js"));
cpSync(join(web, "dist/ort.wasm.bundle.min.mjs"), join(peer, "ort.js"));
cpSync(join(web, "dist/ort-wasm-simd-threaded.wasm"), join(peer, "ort.wasm"));
cpSync(join(given.models, "eurusd_rf_a.onnx"), join(peer, "model.onnx"));

async function throughput() {
  const one = await serve(bakedForest);
  const answer = await (await fetch(`${one.base}${PATH}`, { method: "POST", body: bodies[0] })).text();
  await one.stop();
  writeFileSync(join(constant, "worker.js"), `const answer = ${JSON.stringify(answer)};
export default {
  async fetch(request) {
    await request.arrayBuffer();
    return new Response(answer, { headers: { "content-type": "application/json" } });
  },
};
`);
  const workers = {
    constant: await serve(constant),
    fetched: await serve(fetched, { kv }),
    baked: await serve(bakedForest),
    onnxruntime_web: await serve(peer),
  };
  // Those that predict must agree before anything is measured.
  const scores = async (name) => {
    const response = await fetch(`${workers[name].base}${PATH}`, { method: "POST", body: bodies[1] });
    const text = await response.text();
    if (response.status !== 200) throw new Error(`${name}: ${text}`);
    return JSON.parse(text).outputs.at(-1).data;
  };
  const wanted = await scores("onnxruntime_web");
  for (const name of ["fetched", "baked"]) {
    const got = await scores(name);
    if (!got.every((score, at) => Math.abs(score - wanted[at]) <= 1e-5)) throw new Error(`${name} says ${got}, onnxruntime-web ${wanted}`);
  }
  const seen = Object.fromEntries(Object.keys(workers).map((name) => [name, { rates: [], micros: [], cpu: [] }]));
  for (let round = -1; round < ROUNDS; round++) {
    for (const [name, worker] of Object.entries(workers)) {
      const before = cpu(worker.pid);
      const { seconds, micros } = await load({ port: port(worker), path: PATH, bodies, connections: CONNECTIONS, milliseconds: TURN });
      // The first turn warms up.
      if (round < 0) continue;
      seen[name].rates.push(micros.length / seconds);
      seen[name].micros.push(micros);
      seen[name].cpu.push(((cpu(worker.pid) - before) / micros.length) * 1e6);
    }
  }
  for (const worker of Object.values(workers)) await worker.stop();
  return Object.fromEntries(Object.entries(seen).map(([name, { rates, micros, cpu }]) => {
    const all = Float64Array.from(micros.flatMap((turn) => [...turn]));
    return [name, {
      requests_per_second: median(rates),
      p50_us: percentile(all, 0.5),
      p99_us: percentile(all, 0.99),
      cpu_us_per_request: median(cpu),
      // Turn by turn, so that what slows the machine down slows both.
      slower_than_constant: median(rates.map((rate, round) => seen.constant.rates[round] / rate)),
    }];
  }));
}

/** CPU of evaluating the Worker's modules, milliseconds: the samples of a profile, 50 µs apart, in which something ran. */
async function startUp(folder) {
  const all = [];
  for (let k = 0; k < STARTS; k++) {
    writeFileSync(join(folder, "startup.js"), `export default { async fetch() { await import("./worker.js"); return new Response("loaded"); } };`);
    const w = await serve(folder, { main: "startup.js", inspected: true });
    const inspector = await inspect(w.inspector);
    await inspector.send("Profiler.enable");
    await inspector.send("Profiler.setSamplingInterval", { interval: 50 });
    await inspector.send("Profiler.start");
    await (await fetch(w.base)).text();
    const { profile } = await inspector.send("Profiler.stop");
    await inspector.close();
    await w.stop();
    rmSync(join(folder, "startup.js"));
    const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame.functionName]));
    let busy = 0;
    profile.samples.forEach((node, at) => {
      if (names.get(node) !== "(idle)") busy += profile.timeDeltas[at];
    });
    all.push({ busy_ms: busy / 1e3, samples: profile.samples.length });
  }
  return { busy_ms: median(all.map(({ busy_ms }) => busy_ms)), samples: median(all.map(({ samples }) => samples)) };
}

/** Start-up is often too short for any sample, so the profiler is shown something that is not. */
async function profilerSees() {
  const busy = folder("busy");
  writeFileSync(join(busy, "worker.js"), "let sum = 0;\nfor (let k = 0; k < 2e7; k++) sum += Math.sqrt(k);\nexport default { sum };\n");
  const { busy_ms: seen } = await startUp(busy);
  if (seen < 5) throw new Error(`the profiler saw ${seen} ms of a start-up that computes for longer`);
  return seen;
}

/** From nothing to the first answer, milliseconds: workerd's own start is in it. */
async function first(folder, body) {
  const all = [];
  for (let k = 0; k < STARTS; k++) {
    const w = await serve(folder);
    const began = performance.now();
    const before = cpu(w.pid);
    const response = await fetch(`${w.base}${PATH}`, { method: "POST", body });
    const text = await response.text();
    if (response.status !== 200) throw new Error(text);
    all.push({ wall: performance.now() - began, cpu: (cpu(w.pid) - before) * 1e3 });
    await w.stop();
  }
  return { wall_ms: median(all.map(({ wall }) => wall)), cpu_ms: median(all.map(({ cpu }) => cpu)) };
}

async function memory(folder, options) {
  const w = await serve(folder, { ...options, collecting: true });
  const ask = (requests) => load({ port: port(w), path: PATH, bodies, connections: CONNECTIONS, requests });
  await ask(100);
  const before = await w.inUse();
  await ask(REQUESTS);
  const after = await w.inUse();
  const health = await fetch(`${w.base}/health`).then((response) => response.json()).catch(() => ({}));
  await w.stop();
  return { requests: REQUESTS, heap_before: before.heap, heap_after: after.heap, process_before: before.process, process_after: after.process, modules: health.memory };
}

try {
  say("requests");
  const routed = await throughput();
  say("start-up");
  const bakedLstm = baked("baked-lstm", lstm);
  const sequence = JSON.stringify({ inputs: [{ name: "input", datatype: "FP32", shape: [1, 20, 17], data: Array.from({ length: 340 }, (_, k) => Math.fround(Math.sin(k))) }] });
  say(`the profiler sees ${(await profilerSees()).toFixed(1)} ms of a start-up that computes`);
  const startup = {
    tabular: { ...(await startUp(bakedForest)), first: await first(bakedForest, bodies[0]) },
    graph: { ...(await startUp(bakedLstm)), first: await first(bakedLstm, sequence) },
  };
  say("memory");
  const memories = {
    constant: await memory(constant),
    fetched: await memory(fetched, { kv }),
    baked: await memory(bakedForest),
  };
  const { version } = JSON.parse(readFileSync(join(web, "package.json"), "utf8"));
  const result = { rounds: ROUNDS, turn_ms: TURN, connections: CONNECTIONS, starts: STARTS, node: process.version, onnxruntime_web: version, routed, startup, memory: memories };
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
} finally {
  await kv.stop();
  rmSync(scratch, { recursive: true, force: true });
}
