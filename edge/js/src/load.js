// Brings modules, bundle and packages together. What a platform does in its own way (finding the modules, reading an address) comes
// in through `Platform`, from the entry points.

import { Policy } from "./decide.js";
import { LockgateError } from "./errors.js";
import { readManifest } from "./package.js";
import { Inference } from "./predict.js";

/**
 * @typedef {import("./decide.js").Context} Context
 * @typedef {import("./predict.js").Inputs} Inputs
 * @typedef {import("./predict.js").PredictOptions} PredictOptions
 * @typedef {import("./predict.js").ModelTarget} ModelTarget
 * @typedef {import("./predict.js").Catalog} Catalog
 */

/**
 * Bytes, or where they come from. Bytes are not copied.
 * @typedef {Uint8Array | ArrayBuffer | URL | Response | Promise<Uint8Array | ArrayBuffer | URL | Response>} BytesSource
 * @typedef {WebAssembly.Module | Promise<WebAssembly.Module> | BytesSource} ModuleSource
 * @typedef {"tabular" | "graph"} Flavour
 */

/**
 * @typedef {object} LoadOptions
 * @property {BytesSource} [bundle] The policy bundle (`lockgate policy compile`).
 * @property {readonly BytesSource[]} [lists] The unit lists that the bundle names, in any order.
 * @property {readonly BytesSource[]} [packages] Model packages (`lockgate package`).
 * @property {Flavour} [flavour] Of the inference module; by default `graph` when a package needs it, else `tabular`.
 * @property {{ policy?: ModuleSource, inference?: ModuleSource }} [core] Modules of your own in place of this package's: those of
 *   `lockgate bake`, which hold their bundle and packages already.
 * @property {Catalog | null} [catalog] The content of `catalog.json`, which `lockgate bake` writes beside its modules.
 */

/**
 * What an entry point knows about its platform.
 * @typedef {object} Platform
 * @property {(name: "policy" | "inference-tabular" | "inference-graph") => ModuleSource} core Where a module of this package is.
 * @property {(address: URL) => Promise<Uint8Array | Response>} [read] Reads an address; `fetch` by default.
 */

/** The policy and the models, ready to be asked. Nothing of it ever changes: for a new bundle `load` again and swap. */
export class Lockgate {
  /**
   * @param {Policy | undefined} policy
   * @param {Inference | undefined} inference
   */
  constructor(policy, inference) {
    /** The module `policy` with the bundle; `undefined` without one. */
    this.policy = policy;
    /** The module `inference` with the packages; `undefined` without any. */
    this.inference = inference;
  }

  /** Identities of the modules that run: SHA-256 of the released modules, in hexadecimal. */
  get identities() {
    return { policy: this.policy?.identity, inference: this.inference?.identity };
  }

  /** The models that are loaded. */
  get models() {
    return this.inference?.models ?? [];
  }

  /**
   * Which version serves this request, and why.
   * @param {Context} context
   * @param {number | bigint} [now] Milliseconds since 1970-01-01T00:00Z; the clock's by default.
   * @param {readonly (string | Uint8Array)[]} [unavailable] Digests of packages that cannot serve.
   */
  decide(context, now, unavailable) {
    return need(this.policy, "bundle").decide(context, now, unavailable);
  }

  /**
   * The same for many requests; `undefined` for an unknown route.
   * @param {readonly Context[]} contexts
   * @param {number | bigint} [now]
   * @param {readonly (string | Uint8Array)[]} [unavailable]
   */
  decideBatch(contexts, now, unavailable) {
    return need(this.policy, "bundle").decideBatch(contexts, now, unavailable);
  }

  /**
   * What a model says; `target` may be the decision itself.
   * @param {ModelTarget} target
   * @param {Inputs} inputs
   * @param {PredictOptions} [options]
   */
  predict(target, inputs, options) {
    return need(this.inference, "packages").predict(target, inputs, options);
  }

  /**
   * The same for many requests, in one call of the module where they can be joined.
   * @param {ModelTarget} target
   * @param {readonly Inputs[]} requests
   * @param {Pick<PredictOptions, "options">} [options]
   */
  predictBatch(target, requests, options) {
    return need(this.inference, "packages").predictBatch(target, requests, options);
  }
}

/**
 * @template T
 * @param {T | undefined} part
 * @param {string} option
 */
function need(part, option) {
  if (part === undefined) throw new LockgateError("not_loaded", `nothing was loaded as \`${option}\``, `give load() the option \`${option}\``);
  return part;
}

/**
 * @param {LoadOptions} options
 * @param {Platform} platform
 */
export async function loadOn(options, platform) {
  const { core = {}, catalog = null } = options;
  /** @param {readonly BytesSource[] | undefined} sources */
  const readAll = (sources = []) => Promise.all(sources.map((source) => readBytes(source, platform)));
  const [bundle, lists, packages] = await Promise.all([
    options.bundle === undefined ? undefined : readBytes(options.bundle, platform),
    readAll(options.lists),
    readAll(options.packages),
  ]);
  if (bundle === undefined && lists.length > 0) {
    throw new LockgateError("not_loaded", "unit lists without a bundle that names them", "give load() the option `bundle`");
  }
  const wantsPolicy = bundle !== undefined || core.policy !== undefined;
  const wantsInference = packages.length > 0 || core.inference !== undefined;
  const [policy, inference] = await Promise.all([
    wantsPolicy ? compile(core.policy ?? platform.core("policy"), platform) : undefined,
    wantsInference ? compile(core.inference ?? platform.core(`inference-${options.flavour ?? flavourFor(packages)}`), platform) : undefined,
  ]);
  return new Lockgate(
    policy === undefined ? undefined : policyOf(policy, bundle, lists),
    inference === undefined ? undefined : new Inference(inference, packages, catalog),
  );
}

/**
 * A module of the caller's may be baked, or be there for later: without a bundle either way, it is asked.
 * @param {WebAssembly.Module} module
 * @param {Uint8Array | undefined} bundle
 * @param {readonly Uint8Array[]} lists
 */
function policyOf(module, bundle, lists) {
  try {
    return new Policy(module, bundle, lists);
  } catch (error) {
    if (bundle === undefined && error instanceof LockgateError && error.code === "not_loaded") return undefined;
    throw error;
  }
}

/**
 * @param {readonly Uint8Array[]} packages
 * @returns {Flavour}
 */
function flavourFor(packages) {
  return packages.some((bytes) => readManifest(bytes).engine === "graph") ? "graph" : "tabular";
}

/**
 * @param {BytesSource} source
 * @param {Platform} platform
 * @returns {Promise<Uint8Array>}
 */
async function readBytes(source, platform) {
  const found = await open(source, platform);
  if (found instanceof Uint8Array) return found;
  if (found instanceof ArrayBuffer) return new Uint8Array(found);
  if (isResponse(found)) return new Uint8Array(await found.arrayBuffer());
  throw new LockgateError("unreadable", `${typeof found === "object" ? Object.prototype.toString.call(found) : typeof found} is no source of bytes`, "give a Uint8Array, an ArrayBuffer, a URL object or a Response");
}

/**
 * @param {ModuleSource} source
 * @param {Platform} platform
 * @returns {Promise<WebAssembly.Module>}
 */
async function compile(source, platform) {
  const found = await open(source, platform);
  if (found instanceof WebAssembly.Module) return found;
  try {
    if (isResponse(found) && found.headers.get("content-type") === "application/wasm") return await WebAssembly.compileStreaming(found);
    return await WebAssembly.compile(/** @type {BufferSource} */ (await readBytes(found, platform)));
  } catch (error) {
    if (error instanceof LockgateError) throw error;
    throw new LockgateError("invalid_module", `the module cannot be compiled: ${error}`, "a Worker cannot compile: import the .wasm file there", error);
  }
}

/**
 * Follows promises and addresses.
 * @template T
 * @param {T | Promise<T> | URL} source
 * @param {Platform} platform
 */
async function open(source, platform) {
  const address = await source;
  if (!(address instanceof URL)) {
    if (isResponse(address)) checkStatus(address, address.url);
    return address;
  }
  let found;
  try {
    found = await (platform.read ?? fetch)(address);
  } catch (error) {
    throw new LockgateError("unreadable", `cannot read ${address}: ${error instanceof Error ? error.message : error}`, "is the address right?", error);
  }
  if (isResponse(found)) checkStatus(found, String(address));
  return found;
}

/**
 * @param {Response} response
 * @param {string} address
 */
function checkStatus(response, address) {
  if (!response.ok) throw new LockgateError("unreadable", `cannot read ${address}: HTTP ${response.status}`, "is the address right?");
}

/**
 * @param {unknown} value
 * @returns {value is Response}
 */
function isResponse(value) {
  return typeof Response === "function" && value instanceof Response;
}
