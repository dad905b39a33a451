// Node: the modules and `file:` addresses are read from disk.

import { readFile } from "node:fs/promises";

import { loadOn } from "./load.js";

export * from "./index.js";

/** @type {Map<string, Promise<WebAssembly.Module>>} */
const compiled = new Map();

/** @param {string} name */
function core(name) {
  let module = compiled.get(name);
  if (module === undefined) {
    module = readFile(new URL(`../core/${name}.wasm`, import.meta.url)).then((bytes) => WebAssembly.compile(bytes));
    // One failure is not everyone's.
    module.catch(() => compiled.delete(name));
    compiled.set(name, module);
  }
  return module;
}

/** @param {URL} address */
function read(address) {
  return address.protocol === "file:" ? readFile(address) : fetch(address);
}

/**
 * Loads policy and models.
 * @param {import("./load.js").LoadOptions} options
 */
export function load(options) {
  return loadOn(options, { core, read });
}
