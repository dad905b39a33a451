// Cloudflare Workers: a Worker cannot compile WebAssembly, so the modules are imported. The graph flavour, several times larger, is
// imported by workers-graph.js alone.

import inference from "../core/inference-tabular.wasm";
import policy from "../core/policy.wasm";

import { LockgateError } from "./errors.js";
import { loadOn } from "./load.js";

export * from "./index.js";

/**
 * Loads policy and models.
 * @param {import("./load.js").LoadOptions} options
 */
export function load(options) {
  return loadOn(options, {
    core(name) {
      if (name === "inference-graph") {
        throw new LockgateError("unsupported_plan", "a package needs the graph flavour of the inference module", "import lockgate/workers-graph");
      }
      return name === "policy" ? policy : inference;
    },
  });
}
