// Makes the example's bundle and packages, and serves the page: `node example/serve.mjs`. LOCKGATE names the program.

import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join, normalize, sep } from "node:path";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL("..", import.meta.url));
const eurusd = join(folder, "../../examples/eurusd");
const lockgate = process.env.LOCKGATE ?? "lockgate";
const TYPES = { html: "text/html", css: "text/css", js: "text/javascript", wasm: "application/wasm" };

/** Writes the files that the page loads. */
export function makeData(data) {
  mkdirSync(data, { recursive: true });
  for (const name of ["eurusd_lr", "eurusd_gb", "eurusd_rf_a", "eurusd_rf_b", "eurusd_lstm"]) {
    const model = join(eurusd, "models", name);
    execFileSync(lockgate, ["package", `${model}.onnx`, "--manifest", `${model}.manifest.yaml`, "--output", join(data, `${name}.lgp`)]);
  }
  execFileSync(lockgate, ["policy", "compile", join(eurusd, "policy.yaml"), "--packages", data, "--output", join(data, "policy.lgb")]);
}

function answer(request, response) {
  const path = normalize(new URL(request.url, "http://localhost").pathname);
  if (path === "/") return response.writeHead(302, { location: "/example/index.html" }).end();
  try {
    const body = readFileSync(join(folder, path.split(sep).join("/")));
    response.writeHead(200, { "content-type": TYPES[path.split(".").at(-1)] ?? "application/octet-stream" }).end(body);
  } catch {
    response.writeHead(404).end("not found");
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  makeData(join(folder, "example/data"));
  const port = Number(process.env.PORT ?? 8000);
  createServer(answer).listen(port, "127.0.0.1", () => console.log(`http://127.0.0.1:${port}/`));
}
