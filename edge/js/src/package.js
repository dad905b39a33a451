// What a model package says about itself. The module checks a package when it takes it; here its manifest is read, so that a caller
// learns the signature. The container is that of crates/package/src/envelope.rs.

import { LockgateError } from "./errors.js";
import { readMessagePack } from "./messagepack.js";

/**
 * @typedef {import("./tensors.js").DatatypeName} DatatypeName
 * @typedef {object} TensorSpec The declared form of an input or output.
 * @property {string} name
 * @property {DatatypeName} datatype
 * @property {readonly number[]} shape A dimension of -1 is free.
 */

/**
 * @typedef {object} Feature One column of the input.
 * @property {string} name
 * @property {number} [min] The smallest value seen in training.
 * @property {number} [max] The largest value seen in training.
 */

/**
 * @typedef {object} Manifest
 * @property {string} model
 * @property {string} version
 * @property {string} description
 * @property {readonly TensorSpec[]} inputs
 * @property {readonly TensorSpec[]} outputs
 * @property {readonly Feature[]} features
 * @property {readonly string[]} labels Names of the classes, in the order of the scores.
 * @property {boolean} acceptsMissing Whether NaN means "missing" to this model.
 * @property {"tabular" | "graph"} engine The flavour of the inference module that it needs: `graph` has both engines.
 */

const PREAMBLE = 64;
const MAGIC = "LOCKGATE";

/**
 * Reads the manifest of a package. Nothing else of it is checked: the module does that.
 * @param {Uint8Array} bytes
 * @returns {Manifest}
 */
export function readManifest(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < PREAMBLE || !Array.from(MAGIC).every((letter, k) => bytes[k] === letter.charCodeAt(0))) {
    throw new LockgateError("malformed_envelope", "not a Lockgate model package: the first bytes are not `LOCKGATE`", "make one with `lockgate package`");
  }
  const kind = view.getUint32(12, true);
  if (kind !== 2) throw new LockgateError("wrong_kind", `expected a model package, found an envelope of kind ${kind}`, "packages end in .lgp");
  const end = PREAMBLE + view.getUint32(16, true);
  try {
    const header = /** @type {any} */ (readMessagePack(bytes.subarray(PREAMBLE, end)));
    const manifest = /** @type {any} */ (readMessagePack(header.meta));
    const { model, version, description = "", features = [], labels = [], accepts_missing: acceptsMissing = false, engine } = manifest;
    const { inputs, outputs } = manifest.signature;
    /** @param {TensorSpec} spec */
    const spec = ({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(Number) });
    return { model, version, description, inputs: inputs.map(spec), outputs: outputs.map(spec), features, labels, acceptsMissing, engine };
  } catch (error) {
    throw new LockgateError("malformed_content", "the model package is malformed: its manifest cannot be read", "make it anew with `lockgate package`", error);
  }
}
