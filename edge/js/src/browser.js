// Browsers: the modules are fetched from beside this file. Bundlers see each address and take the file along.

import { loadOn } from "./load.js";

export * from "./index.js";

const ADDRESSES = {
  policy: () => new URL("../core/policy.wasm", import.meta.url),
  "inference-tabular": () => new URL("../core/inference-tabular.wasm", import.meta.url),
  "inference-graph": () => new URL("../core/inference-graph.wasm", import.meta.url),
};

/** @type {Map<string, Promise<WebAssembly.Module>>} */
const compiled = new Map();

/** @param {keyof typeof ADDRESSES} name */
function core(name) {
  let module = compiled.get(name);
  if (module === undefined) {
    module = compile(ADDRESSES[name]());
    // One failure is not everyone's.
    module.catch(() => compiled.delete(name));
    compiled.set(name, module);
  }
  return module;
}

/** @param {URL} address */
async function compile(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`cannot read ${address}: HTTP ${response.status}`);
  // Servers that do not know the type of .wasm are common.
  if (response.headers.get("content-type") === "application/wasm") return WebAssembly.compileStreaming(response);
  return WebAssembly.compile(await response.arrayBuffer());
}

/**
 * Loads policy and models.
 * @param {import("./load.js").LoadOptions} options
 */
export function load(options) {
  return loadOn(options, { core });
}
