// The package without modules of its own: bring them. The other entry points add the modules in their platform's way.

import { LockgateError } from "./errors.js";
import { loadOn } from "./load.js";

export { ABI_MAJOR, identityOf } from "./core.js";
export { Decision, Policy } from "./decide.js";
export { LockgateError } from "./errors.js";
export { Lockgate } from "./load.js";
export { readManifest } from "./package.js";
export { Inference, Model, Prediction } from "./predict.js";
export { fromFloat16, toFloat16 } from "./tensors.js";

/**
 * @typedef {import("./core.js").Loaded} Loaded
 * @typedef {import("./decide.js").Context} Context
 * @typedef {import("./decide.js").Placement} Placement
 * @typedef {import("./decide.js").Reason} Reason
 * @typedef {import("./decide.js").Shadow} Shadow
 * @typedef {import("./decide.js").Step} Step
 * @typedef {import("./errors.js").ErrorCode} ErrorCode
 * @typedef {import("./load.js").BytesSource} BytesSource
 * @typedef {import("./load.js").Flavour} Flavour
 * @typedef {import("./load.js").LoadOptions} LoadOptions
 * @typedef {import("./load.js").ModuleSource} ModuleSource
 * @typedef {import("./package.js").Feature} Feature
 * @typedef {import("./package.js").Manifest} Manifest
 * @typedef {import("./package.js").TensorSpec} TensorSpec
 * @typedef {import("./predict.js").Catalog} Catalog
 * @typedef {import("./predict.js").Inputs} Inputs
 * @typedef {import("./predict.js").ModelTarget} ModelTarget
 * @typedef {import("./predict.js").OutOfRange} OutOfRange
 * @typedef {import("./predict.js").PredictOptions} PredictOptions
 * @typedef {import("./tensors.js").DatatypeName} DatatypeName
 * @typedef {import("./tensors.js").Elements} Elements
 * @typedef {import("./tensors.js").ElementsIn} ElementsIn
 * @typedef {import("./tensors.js").Tensor} Tensor
 * @typedef {import("./tensors.js").TensorIn} TensorIn
 */

/**
 * Loads policy and models into the modules of `options.core`.
 * @param {LoadOptions} options
 */
export function load(options) {
  return loadOn(options, {
    core(name) {
      const option = name === "policy" ? "policy" : "inference";
      throw new LockgateError("invalid_module", `no module \`${name}\` here`, `give load() the option \`core.${option}\`, or import lockgate/node, lockgate/browser or lockgate/workers`);
    },
  });
}
