// A Worker in workerd alone, without miniflare, whose own Workers share the process: what is measured here is the Worker's. KV is a server of
// this program, so that each answer of KV can be chosen.

import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

import WebSocket from "ws";

export const COMPATIBILITY = "2026-04-01";

/** The program itself: what npm puts on the path starts it in a process of its own. */
export function workerdProgram() {
  const require = createRequire(import.meta.url);
  return createRequire(require.resolve("workerd")).resolve(`@cloudflare/workerd-${process.platform}-${process.arch === "x64" ? "64" : process.arch}/bin/workerd`);
}

/**
 * KV as workerd asks for it over HTTP: `values` by key. `asked` has the keys and how old, in seconds, a cached value may be; `before` may be set to
 * something to wait for before each answer.
 */
export async function keyValueStore(values = new Map()) {
  const store = { values, asked: [], before: undefined };
  const http = createServer(async (request, response) => {
    const url = new URL(request.url, "http://kv");
    const key = decodeURIComponent(url.pathname.slice(1));
    store.asked.push({ key, age: Number(url.searchParams.get("cache_ttl")) });
    if (store.asked.length > 1000) store.asked.splice(0, 500);
    await store.before?.(key);
    const value = values.get(key);
    if (value === undefined) response.writeHead(404).end();
    else response.writeHead(200).end(value);
  });
  await new Promise((resolve) => http.listen(0, "127.0.0.1", resolve));
  store.address = `127.0.0.1:${http.address().port}`;
  store.stop = () => new Promise((resolve) => {
    http.closeAllConnections();
    http.close(resolve);
  });
  return store;
}

// Collects the garbage when it is asked to, so that what is left is in use.
const COLLECTING = `import worker from "./worker.js";
export default {
  ...worker,
  async fetch(request, env, context) {
    if (!request.url.endsWith("/collect-garbage")) return worker.fetch(request, env, context);
    for (let k = 0; k < 3; k++) {
      gc();
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return new Response("done");
  },
};
`;

const KINDS = [[".js", "esModule"], [".wasm", "wasm"], [".json", "text"], [".onnx", "data"]];

/**
 * Serves a folder with a `worker.js` and the files that it imports.
 * @param {string} folder
 * @param {{ settings?: object, kv?: { address: string }, collecting?: boolean, inspected?: boolean, main?: string }} options
 *   `inspected`: the inspector is open; `collecting`: it is, and `GET /collect-garbage` collects the garbage
 */
export async function serve(folder, { settings = {}, kv, collecting = false, inspected = collecting, main: given = "worker.js" } = {}) {
  const files = readdirSync(folder).filter((name) => KINDS.some(([ending]) => name.endsWith(ending)) && name !== "collecting.js");
  if (collecting) writeFileSync(join(folder, "collecting.js"), COLLECTING);
  const main = collecting ? "collecting.js" : given;
  const modules = [main, ...files.filter((name) => name !== main)].map((name) => {
    const [, kind] = KINDS.find(([ending]) => name.endsWith(ending));
    return `(name = ${JSON.stringify(name)}, ${kind} = embed ${JSON.stringify(name)})`;
  });
  const bindings = Object.entries(settings).map(([name, value]) => `(name = ${JSON.stringify(name)}, text = ${JSON.stringify(value)})`);
  const services = ["(name = \"main\", worker = .main)"];
  if (kv !== undefined) {
    bindings.push("(name = \"POLICY\", kvNamespace = \"kv\")");
    services.push(`(name = "kv", external = (address = ${JSON.stringify(kv.address)}, http = ()))`);
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.capnp"), `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [${services.join(", ")}],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
  v8Flags = [${collecting ? "\"--expose-gc\"" : ""}],
);
const main :Workerd.Worker = (
  modules = [${modules.join(",\n    ")}],
  bindings = [${bindings.join(", ")}],
  compatibilityDate = "${COMPATIBILITY}",
);
`);
  const inspector = inspected ? ["--inspector-addr=127.0.0.1:0"] : [];
  const child = spawn(workerdProgram(), ["serve", "config.capnp", "--control-fd=3", ...inspector], { cwd: folder, stdio: ["ignore", "pipe", "pipe", "pipe"] });
  const log = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => log.push(String(data)));
  const ended = new Promise((resolve) => child.on("exit", resolve));
  const ports = {};
  let said = "";
  await new Promise((resolve, reject) => {
    ended.then(() => reject(new Error(`workerd ended: ${log.join("")}`)));
    child.stdio[3].on("data", (data) => {
      said += data;
      for (const line of said.split("\n").slice(0, -1)) {
        const { event, socket, port } = JSON.parse(line);
        ports[event === "listen" ? socket : event] = port;
      }
      said = said.slice(said.lastIndexOf("\n") + 1);
      if (ports.http !== undefined && (!inspected || ports["listen-inspector"] !== undefined)) resolve();
    });
  });
  const base = `http://127.0.0.1:${ports.http}`;
  const address = `ws://127.0.0.1:${ports["listen-inspector"]}/main`;
  return {
    base, log, pid: child.pid, inspector: address,
    stop: async () => {
      child.kill("SIGKILL");
      await ended;
    },
    /** What is in use once the garbage is collected: bytes of V8's heap with the buffers outside of it, and of the process. */
    inUse: async () => {
      await (await fetch(`${base}/collect-garbage`)).arrayBuffer();
      const inspector = await inspect(address);
      const { usedSize, embedderHeapUsedSize, backingStorageSize } = await inspector.send("Runtime.getHeapUsage");
      await inspector.close();
      return { heap: usedSize + embedderHeapUsedSize + backingStorageSize, process: memoryOf(child.pid) };
    },
  };
}

/** The inspector of a Worker. */
export async function inspect(address) {
  const socket = new WebSocket(address);
  const waiting = new Map();
  let last = 0;
  await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
  socket.on("message", (message) => {
    const { id, result, error } = JSON.parse(message);
    const asked = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) asked?.resolve(result);
    else asked?.reject(new Error(error.message));
  });
  return {
    send: (method, params = {}) => new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      socket.send(JSON.stringify({ id: last, method, params }));
    }),
    close: () => new Promise((resolve) => {
      socket.on("close", resolve);
      socket.close();
    }),
  };
}

/** Memory that a process holds, in bytes. */
export function memoryOf(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)[1]) * 1024;
}
