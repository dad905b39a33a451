// A web server over the installed package, the tests' own modules and the vectors, for runtimes that have no files.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { dataAt } from "./data.mjs";
import { installed } from "./support.mjs";

const here = fileURLToPath(new URL(".", import.meta.url));
const TYPES = { html: "text/html", js: "text/javascript", mjs: "text/javascript", css: "text/css", json: "application/json", wasm: "application/wasm" };

function fileAt(path, folders) {
  for (const [prefix, folder] of Object.entries(folders)) {
    if (path.startsWith(prefix)) return readFileSync(join(folder, normalize(path.slice(prefix.length))));
  }
  return dataAt(path);
}

/**
 * Starts it. `/package/` is the package as npm would install it, `/tests/` this folder, everything else a vector.
 * @param {{ headers?: Record<string, string>, types?: Record<string, string>, folders?: Record<string, string> }} [options]
 */
export async function serve({ headers = {}, types = TYPES, folders = {} } = {}) {
  const roots = { "/package/": installed().folder, "/tests/": here, ...folders };
  const server = createServer((request, response) => {
    const path = request.url.split("?")[0];
    if (path === "/") return response.writeHead(200, { "content-type": "text/html", ...headers }).end("<!doctype html><title>tests</title>");
    let body;
    try {
      body = fileAt(path, roots);
    } catch (error) {
      if (error.code !== "ENOENT" && error.code !== "EISDIR") return response.writeHead(500).end(String(error.stack));
    }
    if (body === undefined) return response.writeHead(404).end();
    const type = types[path.split(".").at(-1)] ?? "application/octet-stream";
    response.writeHead(200, { "content-type": type, ...headers }).end(body);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    address: `http://127.0.0.1:${server.address().port}`,
    close: () => new Promise((resolve) => (server.close(resolve), server.closeAllConnections())),
  };
}
