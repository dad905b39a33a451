// Cloudflare Workers, with the graph flavour, which runs every package.

import inference from "../core/inference-graph.wasm";
import policy from "../core/policy.wasm";

import { loadOn } from "./load.js";

export * from "./index.js";

/**
 * Loads policy and models.
 * @param {import("./load.js").LoadOptions} options
 */
export function load(options) {
  return loadOn(options, { core: (name) => (name === "policy" ? policy : inference) });
}
