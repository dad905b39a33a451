// What the tests stand on: the built Worker (`edge/cloudflare/dist`), real packages and bundles, workerd through miniflare, and a real
// `lockgate serve` as origin. `cargo xtask test` builds all of it first.

import { execFileSync, spawn } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { Miniflare } from "miniflare";

import { COMPATIBILITY } from "./workerd.mjs";

export const root = fileURLToPath(new URL("../../..", import.meta.url));
export const target = process.env.LOCKGATE_TARGET ?? join(root, "target");
export const lockgate = process.env.LOCKGATE ?? join(target, "debug/lockgate");
export const coreDir = process.env.LOCKGATE_CORE_DIR ?? join(target, "core");
export const dist = process.env.LOCKGATE_WORKER_DIR ?? fileURLToPath(new URL("../dist", import.meta.url));
export const ROUTE = "eurusd-direction";

/** Runs the program and returns what it printed. */
export const run = (...args) => execFileSync(lockgate, args, { encoding: "utf8" });

let scratchFolder;
const endings = [];

// Here, and not where things begin: inside a test it would be a hook of that test alone.
after(async () => {
  for (const end of endings.reverse()) await end();
  if (scratchFolder !== undefined) rmSync(scratchFolder, { recursive: true, force: true });
});

/** A folder that goes when the tests of this file have run. */
export function scratch(name) {
  scratchFolder ??= mkdtempSync(join(tmpdir(), "lockgate-worker-"));
  const folder = join(scratchFolder, name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

let packed;

/** The example's packages: by model, the file, its digest and its bytes. */
export function packages() {
  if (packed !== undefined) return packed;
  const folder = scratch("packages");
  const models = join(root, "examples/eurusd/models");
  packed = { folder };
  for (const short of ["lr", "gb", "rf_a", "rf_b"]) {
    const model = join(models, `eurusd_${short}`);
    const file = join(folder, `eurusd_${short}.lgp`);
    run("package", `${model}.onnx`, "--manifest", `${model}.manifest.yaml`, "--output", file);
    packed[short] = { file, digest: digestOf(file), bytes: readFileSync(file) };
  }
  return packed;
}

export function digestOf(file) {
  return JSON.parse(run("inspect", file, "--json")).digest.replace("sha256:", "");
}

/** The lines of a policy over the example's models; `change` may edit the document before it is written. */
export function document(version, change = () => {}) {
  const policy = {
    lockgate: 1,
    version,
    models: { "eurusd_lr@1.0.0": {}, "eurusd_gb@1.1.0": {}, "eurusd_rf_a@1.0.0": {}, "eurusd_rf_b@1.0.0": {} },
    routes: {
      [ROUTE]: {
        unit: "user",
        variants: {
          stable: { model: "eurusd_lr@1.0.0", payload: { threshold: 0.5 } },
          canary: { model: "eurusd_gb@1.1.0" },
          "forest-a": { model: "eurusd_rf_a@1.0.0" },
          "forest-b": { model: "eurusd_rf_b@1.0.0" },
        },
        baseline: "stable",
        overrides: [{ user: "alice", serve: "canary" }],
        rules: [
          { name: "forest", if: { attribute: "strategy", eq: "forest" }, serve: "forest-a" },
          { name: "forests", if: { attribute: "strategy", eq: "forests" }, split: { "forest-a": 50, "forest-b": 50 } },
        ],
        default: { split: { stable: 90, canary: 10 } },
      },
    },
  };
  change(policy);
  return policy;
}

let compiled = 0;

/** Compiles a policy; the file and its bytes. */
export function bundle(version, change, ...flags) {
  const folder = scratch(`bundle-${compiled++}`);
  const source = join(folder, "policy.json");
  const file = join(folder, "policy.lgb");
  writeFileSync(source, JSON.stringify(document(version, change)));
  run("policy", "compile", source, "--packages", packages().folder, "--output", file, ...flags);
  return { file, folder, bytes: readFileSync(file), digest: digestOf(file) };
}

/** Bytes as miniflare takes them. */
export const buffer = (bytes) => new Uint8Array(bytes).buffer;

/** A Worker's folder: a built one, with files of `replace` in place of its own. */
export function workerFolder(name, replace = {}, from = dist) {
  const folder = scratch(`worker-${name}`);
  cpSync(from, folder, { recursive: true });
  for (const [file, from] of Object.entries(replace)) cpSync(from, join(folder, file));
  return folder;
}

/** The options of miniflare for a folder of a Worker; the log of the Worker goes to `log`. */
export function workerOptions(folder, log = []) {
  return {
    name: "lockgate",
    modules: true,
    modulesRoot: folder,
    scriptPath: join(folder, "worker.js"),
    modulesRules: [
      { type: "ESModule", include: ["**/*.js"] },
      { type: "CompiledWasm", include: ["**/*.wasm"] },
      { type: "Text", include: ["**/*.json"] },
    ],
    compatibilityDate: COMPATIBILITY,
    handleRuntimeStdio: (out, error) => {
      for (const stream of [out, error]) stream.on("data", (data) => log.push(String(data)));
    },
  };
}

/**
 * A Worker with a policy in KV and packages in R2. `put` and `remove` change what it is given.
 * @param {{ folder?: string, bundle?: { bytes: Uint8Array }, settings?: object, options?: object, without?: string[], inKv?: boolean }} given
 */
export async function worker({ folder = dist, bundle: given, settings = {}, options = {}, without = [], inKv = false } = {}) {
  const log = [];
  const mf = new Miniflare({
    ...workerOptions(folder, log),
    kvNamespaces: ["POLICY"],
    ...(inKv ? {} : { r2Buckets: ["PACKAGES"] }),
    bindings: settings,
    ...options,
  });
  let disposed = false;
  const dispose = async () => {
    if (disposed) return;
    disposed = true;
    // One that never began has nothing to end.
    await mf.dispose().catch(() => {});
  };
  endings.push(dispose);
  const base = await mf.ready;
  const kv = await mf.getKVNamespace("POLICY");
  const r2 = inKv ? undefined : await mf.getR2Bucket("PACKAGES");
  const putPackage = async (key, bytes) => (inKv ? kv.put(key, buffer(bytes)) : r2.put(key, buffer(bytes)));
  for (const [name, { digest, bytes }] of Object.entries(packages())) {
    if (digest !== undefined && !without.includes(name)) await putPackage(`packages/${digest}.lgp`, bytes);
  }
  if (given !== undefined) await kv.put("policy", buffer(given.bytes));
  const url = (path) => new URL(path, base);
  const ask = async (path, init) => {
    const response = await fetch(url(path), init);
    const text = await response.text();
    let body;
    try {
      body = JSON.parse(text);
    } catch {
      body = text;
    }
    return { status: response.status, body, headers: response.headers };
  };
  return {
    mf, base, kv, r2, log, ask, dispose, putPackage,
    infer: (parameters, init) => ask(`/v2/models/${ROUTE}/infer`, { method: "POST", body: request(parameters), ...init }),
    health: async () => (await ask("/health")).body,
    /** A refresh, as the cron trigger makes one. */
    cron: async () => (await mf.getWorker()).scheduled({ cron: "* * * * *", scheduledTime: new Date() }),
  };
}

/** A request for `rows` rows of features that differ. */
export function request(parameters = {}, rows = 1, extra = {}) {
  const data = Array.from({ length: rows * 17 }, (_, k) => Math.fround(Math.sin(k) / 1000));
  return JSON.stringify({ parameters, inputs: [{ name: "input", datatype: "FP32", shape: [rows, 17], data }], ...extra });
}

/** Tries until `check` gives something, which is returned. */
export async function until(check, what, patience = 10_000) {
  const end = Date.now() + patience;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`it never came about that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A port that nothing listens on. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Where wrangler finds the program on the path, and asks the network for nothing. */
export function wranglerEnvironment(home) {
  const env = {
    ...process.env,
    PATH: `${dirname(lockgate)}${delimiter}${process.env.PATH}`,
    LOCKGATE_CORE: coreDir,
    CI: "1",
    WRANGLER_SEND_METRICS: "false",
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    HOME: home,
  };
  delete env.LOCKGATE;
  return env;
}

/** A running `lockgate serve`. */
export async function origin({ bundle: given, args = [], env = {} }) {
  const process_ = spawn(lockgate, ["serve", "--policy", given.file, "--packages", packages().folder, "--listen", "127.0.0.1:0", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, LOCKGATE_CORE: coreDir, ...env },
  });
  const lines = [];
  for (const stream of [process_.stdout, process_.stderr]) stream.on("data", (data) => lines.push(String(data)));
  const ended = new Promise((resolve) => process_.on("exit", resolve));
  const stop = async () => {
    process_.kill("SIGKILL");
    await ended;
  };
  endings.push(stop);
  const address = await until(() => /http:\/\/127\.0\.0\.1:\d+/.exec(lines.join(""))?.[0], "lockgate serve listened", 120_000).catch((error) => {
    throw new Error(`${error.message}: ${lines.join("")}`);
  });
  return { address, lines, stop };
}

/** A server that answers as `answer` does: `(request, body, response) => void`. */
export async function server(answer) {
  const seen = [];
  const http = createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const body = Buffer.concat(parts);
      seen.push({ method: request.method, url: request.url, headers: request.headers, body });
      answer(request, body, response);
    });
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  const stop = () => new Promise((resolve) => {
    http.closeAllConnections();
    http.close(resolve);
  });
  endings.push(stop);
  return { address: `http://127.0.0.1:${http.address().port}`, seen, stop };
}

/** Bakes a bundle and packages into a Worker's folder. */
export function baked(name, { bundle: given, core = coreDir, models = ["lr", "gb", "rf_a", "rf_b"] }) {
  const folder = workerFolder(name, {}, `${dist}-baked`);
  const files = models.flatMap((model) => ["--package", packages()[model].file]);
  run("bake", "--policy", given.file, ...files, "--core", core, "--out", folder);
  return folder;
}

/** The process of the workerd that this process started last. */
export function workerdPid() {
  const children = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      return parent === process.pid && stat.includes("(workerd)");
    } catch {
      return false;
    }
  });
  return Math.max(...children.map(Number));
}

export { existsSync, join, readFileSync, writeFileSync };
