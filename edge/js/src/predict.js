// Predictions. What a request says before its data is laid out once per form of the inputs and stays in the module's input buffer
// from call to call; the data are copied once into the module, and the outputs once out of it.

import { Core } from "./core.js";
import { LockgateError } from "./errors.js";
import { readManifest } from "./package.js";
import { BYTES, DATATYPES, FP32, INT64, datatypeOf, decodeByteStrings, encode, invalid } from "./tensors.js";

/**
 * @typedef {import("./tensors.js").Tensor} Tensor
 * @typedef {import("./tensors.js").TensorIn} TensorIn
 * @typedef {import("./tensors.js").Elements} Elements
 * @typedef {import("./tensors.js").ElementsIn} ElementsIn
 * @typedef {import("./tensors.js").Datatype} Datatype
 * @typedef {import("./package.js").TensorSpec} TensorSpec
 * @typedef {import("./package.js").Manifest} Manifest
 * @typedef {import("./core.js").Loaded} Loaded
 */

/**
 * Inputs by their names, or as a list of tensors that each have a name. Elements alone stand for a tensor whose shape follows from the
 * signature and their number.
 * @typedef {Readonly<Record<string, ElementsIn | TensorIn>> | readonly (TensorIn & { name: string })[]} Inputs
 */

/**
 * @typedef {object} PredictOptions
 * @property {boolean} [view] The outputs' typed arrays are views of the module's memory: nothing is copied, and they are void as soon as
 *   the module that made them is called again (by any of its models). Without it they are copies that stay. Strings are always copies.
 * @property {Readonly<Record<string, string>>} [options] Options of the ABI; the module refuses unknown ones.
 *   `contributions: "true"` (or `linear`, `path_dependent`, `interventional`) asks for the outputs `contributions` and `contributions_base`.
 */

/**
 * @typedef {object} OutOfRange A feature outside the range seen in training.
 * @property {number} row
 * @property {number} feature Its place among the model's features.
 * @property {number} value
 */

/**
 * What `lockgate bake` writes to `catalog.json`, as far as it is needed here: a baked module tells the digests of its packages, and this
 * what they are. Without it a model has no name, and its inputs need their shapes and datatypes.
 * @typedef {object} Catalog
 * @property {Readonly<Record<string, CatalogPackage>>} packages By their digests.
 */

/**
 * @typedef {object} CatalogPackage
 * @property {string} model
 * @property {string} version
 * @property {{ inputs: readonly CatalogTensor[], outputs: readonly CatalogTensor[] }} signature
 * @property {string} engine
 * @property {readonly string[]} [labels]
 * @property {readonly string[]} [features]
 */

/**
 * @typedef {object} CatalogTensor
 * @property {string} name
 * @property {string} datatype
 * @property {readonly number[]} shape
 */

/**
 * Names a model: itself, a decision or a shadow (by the package that the bundle pins), the package's digest, `model@version`, or the
 * model's name alone when only one version of it is loaded.
 * @typedef {Model | { readonly packageDigest: string } | string} ModelTarget
 */

const encoder = new TextEncoder();
const HEADER = 64;
const TENSOR = 32;
const OPTION = 16;
const WARNING = 16;
const WARNING_LIMIT = 1024;
const DATA_ALIGNMENT = 16;
/** Elements up to which a loop copies faster than an `ArrayBuffer` is made. */
const FEW = 16;

/** What a model answered. */
export class Prediction {
  /**
   * @internal
   * @param {Model} model
   * @param {Tensor[]} outputs
   * @param {readonly OutOfRange[]} outOfRange
   */
  constructor(model, outputs, outOfRange) {
    /** Which model ran. */
    this.model = model;
    /** In the signature's order. */
    this.outputs = outputs;
    /** Features outside the range seen in training, at most 1 024. */
    this.outOfRange = outOfRange;
  }

  /**
   * The output with this name.
   * @param {string} name
   * @returns {Tensor}
   */
  output(name) {
    const found = this.outputs.find((output) => output.name === name);
    if (found !== undefined) return found;
    throw new LockgateError("invalid_input", `the model has no output \`${name}\``, `its outputs are ${this.outputs.map((output) => output.name).join(", ")}`);
  }
}

/**
 * An input that is ready to be written.
 * @typedef {object} Ready
 * @property {string} name
 * @property {Datatype} datatype
 * @property {readonly number[]} shape
 * @property {readonly Elements[]} parts One behind the other.
 * @property {number} count Elements.
 * @property {number} length Bytes.
 * @property {boolean} isDeclared Whether the datatype is the signature's.
 * @property {boolean} isDeduced Whether the shape followed from the number of elements.
 */

/**
 * A request up to its data.
 * @typedef {object} Layout
 * @property {readonly (Ready & { at: number })[]} fields `at`: where the data lie in the request.
 * @property {Uint8Array} prefix
 * @property {number} total
 */

/** @type {readonly OutOfRange[]} */
const NONE = Object.freeze([]);

/** A model package in the module `inference`. */
export class Model {
  /**
   * @internal
   * @param {Core} core
   * @param {number} handle
   * @param {string} digest
   * @param {Partial<Manifest>} manifest
   */
  constructor(core, handle, digest, manifest) {
    /** @internal */
    this.core = core;
    /** @internal */
    this.handle = handle;
    /** SHA-256 of the package, in hexadecimal. */
    this.digest = digest;
    this.name = manifest.model ?? "";
    this.version = manifest.version ?? "";
    this.description = manifest.description ?? "";
    /** The declared inputs and outputs; empty when a baked module was described without them. */
    this.inputs = manifest.inputs ?? [];
    this.outputs = manifest.outputs ?? [];
    this.features = manifest.features ?? [];
    /** Names of the classes, in the order of the scores. */
    this.labels = manifest.labels ?? [];
    /** Whether NaN means "missing" to this model. */
    this.acceptsMissing = manifest.acceptsMissing ?? false;
    this.engine = manifest.engine;
    /** @internal */
    this.specs = new Map(this.inputs.map((spec) => [spec.name, spec]));
    /**
     * The form of the inputs of the last call.
     * @internal
     * @type {Layout | undefined}
     */
    this.last = undefined;
  }

  /**
   * Predicts for the rows of one request.
   * @param {Inputs} inputs
   * @param {PredictOptions} [options]
   * @returns {Prediction}
   */
  predict(inputs, options = undefined) {
    const { core, last } = this;
    if (last !== undefined && options?.options === undefined && fits(last, inputs)) {
      const address = core.reserve(last.total);
      if (core.holds !== last) {
        core.bytes.set(last.prefix, address);
        core.holds = last;
      }
      for (const { name, at } of last.fields) {
        const value = /** @type {Record<string, any>} */ (inputs)[name];
        writeElements(core, address + at, ArrayBuffer.isView(value) ? value : value.data);
      }
      return this.read(core.call(last.total), options?.view === true);
    }
    return this.send(this.ready(inputs), options);
  }

  /**
   * Predicts for many requests, in one call of the module where the model's leading dimension is free and the requests differ in
   * nothing else. Where one is refused, all are. The arrays of one call's answers may be views of one copy.
   * @param {readonly Inputs[]} requests
   * @param {Pick<PredictOptions, "options">} [options]
   * @returns {Prediction[]} In the requests' order.
   */
  predictBatch(requests, options = undefined) {
    const all = requests.map((inputs) => this.ready(inputs));
    const rows = all.map((tensors) => tensors[0]?.shape[0] ?? 0);
    const joined = this.join(all, rows);
    if (joined === undefined) return all.map((tensors) => this.send(tensors, { options: options?.options }));
    const whole = this.send(joined, { options: options?.options });
    const total = rows.reduce((sum, count) => sum + count, 0);
    let first = 0;
    return rows.map((count) => {
      const [from, to] = [first, first + count];
      first = to;
      const outputs = whole.outputs.map(({ name, datatype, shape, data }) => {
        const width = total === 0 ? 0 : data.length / total;
        const part = Array.isArray(data) ? data.slice(from * width, to * width) : data.subarray(from * width, to * width);
        // A row may become several, as where `[rows, columns]` is laid out as `[rows * columns, 1]`.
        const each = total === 0 ? 1 : shape[0] / total;
        return { name, datatype, shape: [count * each, ...shape.slice(1)], data: part };
      });
      const warnings = whole.outOfRange.filter(({ row }) => row >= from && row < to);
      return new Prediction(this, outputs, warnings.map((warning) => ({ ...warning, row: warning.row - from })));
    });
  }

  /**
   * The tensors of many requests as those of one; `undefined` when they cannot be joined.
   * @param {readonly (readonly Ready[])[]} all
   * @param {readonly number[]} rows
   * @returns {Ready[] | undefined}
   */
  join(all, rows) {
    const [first] = all;
    const isFree = [...this.inputs, ...this.outputs].every(({ shape }) => shape[0] === -1);
    if (all.length < 2 || !isFree || this.inputs.length === 0 || first.length === 0) return undefined;
    const alike = all.every((tensors, request) => {
      const isLike = tensors.length === first.length && tensors.every(({ name, datatype, shape }, k) => {
        const { name: otherName, datatype: otherDatatype, shape: otherShape } = first[k];
        return name === otherName && datatype === otherDatatype && shape[0] === rows[request] && isSame(shape.slice(1), otherShape.slice(1));
      });
      // Data that do not fit their shape would push those of the next request out of place.
      return isLike && tensors.every(({ shape, count }) => shape.reduce((a, b) => a * b, 1) === count);
    });
    if (!alike) return undefined;
    const total = rows.reduce((sum, count) => sum + count, 0);
    return first.map(({ name, datatype, shape }, k) => ({
      name,
      datatype,
      shape: [total, ...shape.slice(1)],
      parts: all.flatMap((tensors) => tensors[k].parts),
      count: all.reduce((sum, tensors) => sum + tensors[k].count, 0),
      length: all.reduce((sum, tensors) => sum + tensors[k].length, 0),
      isDeclared: false,
      isDeduced: false,
    }));
  }

  /**
   * @param {readonly Ready[]} tensors
   * @param {PredictOptions | undefined} options
   */
  send(tensors, options) {
    const { core } = this;
    const layout = layOut(this.handle, tensors, Object.entries(options?.options ?? {}));
    // A view of this module's memory would not survive its growth.
    const parts = layout.fields.map((field) => field.parts.map((part) => (part.buffer === core.buffer ? part.slice() : part)));
    const address = core.reserve(layout.total);
    core.bytes.set(layout.prefix, address);
    layout.fields.forEach(({ at }, k) => {
      let end = address + at;
      for (const part of parts[k]) {
        writeElements(core, end, part);
        end += part.byteLength;
      }
    });
    core.holds = layout;
    const isPlain = options?.options === undefined && tensors.every(({ datatype, parts }) => datatype !== BYTES && parts.length === 1);
    const response = core.call(layout.total);
    if (isPlain) {
      // The parts themselves are the caller's, and are not kept.
      this.last = { ...layout, fields: layout.fields.map((field) => ({ ...field, parts: [] })) };
      core.holds = this.last;
    }
    return this.read(response, options?.view === true);
  }

  /**
   * @param {Inputs} inputs
   * @returns {Ready[]}
   */
  ready(inputs) {
    if (inputs === null || typeof inputs !== "object" || ArrayBuffer.isView(inputs)) {
      throw new LockgateError("invalid_input", `inputs are ${inputs === null ? "null" : typeof inputs}`, `name them: { ${this.inputNames()[0] ?? "input"}: … }`);
    }
    if (!Array.isArray(inputs)) return Object.entries(inputs).map(([name, value]) => this.readyOne(name, value));
    return inputs.map((tensor) => this.readyOne(tensor?.name, tensor));
  }

  /**
   * @param {string} name
   * @param {ElementsIn | TensorIn | undefined} value
   * @returns {Ready}
   */
  readyOne(name, value) {
    const spec = this.specs.get(name);
    if (value === undefined || value === null) throw invalid(name, `is ${value}`, "give its elements, or leave the name out");
    const isBare = ArrayBuffer.isView(value) || Array.isArray(value);
    const { data, shape, datatype } = /** @type {TensorIn} */ (isBare ? { data: value } : value);
    const type = datatype ?? spec?.datatype;
    if (type === undefined || (spec === undefined && shape === undefined)) {
      const names = this.inputNames().join(", ");
      throw invalid(name, "is none of the model's", names === "" ? "the signature is not known here: give shape and datatype" : `its inputs are ${names}`);
    }
    const known = datatypeOf(type, name);
    const { elements, count } = encode(name, known, data);
    if (shape !== undefined && !shape.every((length) => Number.isSafeInteger(length) && length >= 0)) {
      throw invalid(name, `has the shape [${shape}]`, "every dimension is a whole number, 0 or more");
    }
    const dimensions = shape === undefined ? deduce(name, /** @type {TensorSpec} */ (spec), count) : [...shape];
    const isDeclared = spec?.datatype === known.name;
    return { name, datatype: known, shape: dimensions, parts: [elements], count, length: elements.byteLength, isDeclared, isDeduced: shape === undefined };
  }

  inputNames() {
    return this.inputs.map((spec) => `\`${spec.name}\``);
  }

  /**
   * @param {number} response
   * @param {boolean} asView
   */
  read(response, asView) {
    const { core } = this;
    const { words } = core;
    const head = response >> 2;
    const total = words[head + 1] >>> 0;
    const count = words[head + 3] >>> 0;
    let record = words[head] >>> 0;
    if (count > total / TENSOR) throw core.malformed("the response has more outputs than room");
    /** @type {Tensor[]} */
    const outputs = new Array(count);
    for (let k = 0; k < count; k++) {
      if (record + TENSOR > total) throw core.malformed("an output lies outside the response");
      const at = (response + record) >> 2;
      const size = words[at] >>> 0;
      const datatype = DATATYPES[words[at + 1]];
      const nameAt = words[at + 2] >>> 0;
      const nameLength = words[at + 3] >>> 0;
      const dataAt = words[at + 4] >>> 0;
      const length = words[at + 5] >>> 0;
      const rank = words[at + 6] >>> 0;
      const isInside = record + size <= total && TENSOR + 8 * rank <= size && nameAt + nameLength <= size && dataAt + length <= total;
      if (datatype === undefined || !isInside || (size & 7) !== 0 || (dataAt & (DATA_ALIGNMENT - 1)) !== 0) {
        throw core.malformed("an output lies outside the response or makes no sense");
      }
      const shape = new Array(rank);
      let elements = 1;
      for (let d = 0; d < rank; d++) {
        shape[d] = (words[at + 8 + 2 * d] >>> 0) + 4294967296 * words[at + 9 + 2 * d];
        elements *= shape[d];
      }
      if (!(elements >= 0) || (datatype !== BYTES && elements * datatype.size !== length)) {
        throw core.malformed("an output's data do not fit its shape");
      }
      const nameStart = response + record + nameAt;
      const spec = k < this.outputs.length ? this.outputs[k].name : "";
      const name = core.isText(nameStart, nameLength, spec) ? spec : core.text(nameStart, nameLength);
      const start = response + dataAt;
      let data;
      if (datatype === BYTES) {
        data = decodeByteStrings(core.bytes.subarray(start, start + length), elements);
        if (data === undefined) throw core.malformed("an output's strings do not fit its shape");
      } else {
        data = elementsAt(core, datatype, start, elements, asView);
      }
      outputs[k] = { name, datatype: datatype.name, shape, data };
      record += size;
    }
    const warnings = words[head + 14] >>> 0;
    return new Prediction(this, outputs, warnings === 0 ? NONE : this.readWarnings(response, record, warnings));
  }

  /**
   * @param {number} response
   * @param {number} record
   * @param {number} count
   */
  readWarnings(response, record, count) {
    const { core } = this;
    const { view } = core;
    if (count > WARNING_LIMIT || record + WARNING * count > view.getUint32(response + 4, true)) {
      throw core.malformed("the warnings lie outside the response");
    }
    return Array.from({ length: count }, (_, k) => {
      const at = response + record + WARNING * k;
      return { row: view.getUint32(at, true), feature: view.getUint32(at + 4, true), value: view.getFloat64(at + 8, true) };
    });
  }
}

/** The module `inference` with model packages. They never change: for others make a new `Inference`. */
export class Inference {
  /**
   * @param {WebAssembly.Module} module
   * @param {readonly Uint8Array[]} packages Kept, not copied, for the instance that follows a trap: leave them unchanged.
   * @param {Catalog | null} [catalog] Says what the packages are that the module was baked with.
   */
  constructor(module, packages, catalog = null) {
    const manifests = packages.map(readManifest);
    /** @internal */
    this.core = new Core(module, "lockgate_predict", packages);
    /** The module's identity, in hexadecimal. */
    this.identity = this.core.identity;
    const { core } = this;
    /**
     * Every model, in the order of the packages; those that the module was baked with come first.
     * @type {readonly Model[]}
     */
    this.models = [
      ...core.baked.map(({ count, digest }) => new Model(core, count, digest, manifestOf(catalog, digest))),
      ...manifests.map((manifest, k) => new Model(core, core.loaded[k].count, core.loaded[k].digest, manifest)),
    ];
    /**
     * @internal
     * @type {Map<string, Model | undefined>}
     */
    this.named = new Map();
    for (const model of this.models) {
      this.named.set(model.digest, model);
      if (model.name === "") continue;
      this.named.set(`${model.name}@${model.version}`, model);
      // Two versions of one name leave it ambiguous.
      this.named.set(model.name, this.named.has(model.name) ? undefined : model);
    }
  }

  /** How many instances of the module were made: 1, and one more for each that was lost. */
  get instances() {
    return this.core.instances;
  }

  /**
   * The model that a target names; `undefined` when it is not loaded.
   * @param {ModelTarget} target
   * @returns {Model | undefined}
   */
  find(target) {
    if (target instanceof Model) return target;
    return this.named.get(typeof target === "string" ? target : target.packageDigest);
  }

  /**
   * The same, for those who need it.
   * @param {ModelTarget} target
   * @returns {Model}
   */
  model(target) {
    const found = this.find(target);
    if (found !== undefined) return found;
    const name = typeof target === "string" ? target : target instanceof Model ? target.name : target.packageDigest;
    const have = this.models.map((model) => (model.name === "" ? `sha256:${model.digest}` : `${model.name}@${model.version}`)).join(", ");
    throw new LockgateError("unknown_model", `no package \`${name}\` is loaded, or several have this name`, have === "" ? "load its package" : `loaded are ${have}`);
  }

  /**
   * `Model.predict` of the model that `target` names.
   * @param {ModelTarget} target
   * @param {Inputs} inputs
   * @param {PredictOptions} [options]
   */
  predict(target, inputs, options) {
    return this.model(target).predict(inputs, options);
  }

  /**
   * `Model.predictBatch` of the model that `target` names.
   * @param {ModelTarget} target
   * @param {readonly Inputs[]} requests
   * @param {Pick<PredictOptions, "options">} [options]
   */
  predictBatch(target, requests, options) {
    return this.model(target).predictBatch(requests, options);
  }
}

/**
 * A baked package's manifest as far as the catalogue has it.
 * @param {Catalog | null} catalog
 * @param {string} digest
 * @returns {Partial<Manifest>}
 */
function manifestOf(catalog, digest) {
  const found = catalog?.packages[digest];
  if (found === undefined) {
    if (catalog === null) return {};
    throw new LockgateError("unknown_model", `the module was baked with a package that the catalogue does not have, sha256:${digest}`, "take catalog.json and the modules from one `lockgate bake`");
  }
  const { model, version, signature, engine, labels, features = [] } = found;
  const specs = (/** @type {readonly CatalogTensor[]} */ tensors) => tensors.map(({ name, datatype, shape }) => ({ name, datatype: datatypeOf(datatype, name).name, shape }));
  return {
    model,
    version,
    inputs: specs(signature.inputs),
    outputs: specs(signature.outputs),
    engine: engine === "graph" ? "graph" : "tabular",
    labels,
    features: features.map((name) => ({ name })),
  };
}

/**
 * Whether the request of the last call fits these inputs but for its data.
 * @param {Layout} layout
 * @param {Inputs} inputs
 */
function fits(layout, inputs) {
  const { fields } = layout;
  let count = 0;
  for (const _ in inputs) count += 1;
  if (count !== fields.length) return false;
  for (let k = 0; k < count; k++) {
    const { name, datatype, shape, isDeclared, isDeduced, count: length } = fields[k];
    const value = /** @type {Record<string, any>} */ (inputs)[name];
    if (value instanceof datatype.type) {
      if (!isDeclared || !isDeduced || value.length !== length) return false;
    } else {
      if (!(value?.data instanceof datatype.type) || value.data.length !== length) return false;
      if (value.datatype === undefined ? !isDeclared : value.datatype !== datatype.name) return false;
      if (value.shape === undefined ? !isDeduced : !isSame(value.shape, shape)) return false;
    }
  }
  return true;
}

/**
 * @param {readonly number[]} a
 * @param {readonly number[]} b
 */
function isSame(a, b) {
  if (a.length !== b.length) return false;
  for (let k = 0; k < a.length; k++) if (a[k] !== b[k]) return false;
  return true;
}

/**
 * The shape that so many elements have by the signature.
 * @param {string} name
 * @param {TensorSpec} spec
 * @param {number} count
 */
function deduce(name, spec, count) {
  const free = spec.shape.filter((length) => length === -1).length;
  const product = spec.shape.reduce((a, b) => (b === -1 ? a : a * b), 1);
  const rest = count / product;
  if (free > 1 || product === 0) throw invalid(name, `is declared as [${spec.shape}], which its ${count} elements do not settle`, "give { shape, data }");
  if (free === 0 ? rest !== 1 : !Number.isInteger(rest)) {
    throw invalid(name, `is declared as [${spec.shape}], which ${count} elements do not fill`, `give a multiple of ${product} elements`);
  }
  return spec.shape.map((length) => (length === -1 ? rest : length));
}

/**
 * Lays a request out.
 * @param {number} handle
 * @param {readonly Ready[]} tensors
 * @param {readonly [string, string][]} options
 * @returns {Layout}
 */
function layOut(handle, tensors, options) {
  const names = tensors.map(({ name }) => encoder.encode(name));
  const texts = options.flat().map((text) => encoder.encode(text));
  const sizes = tensors.map(({ shape }, k) => align(TENSOR + 8 * shape.length + names[k].length, 8));
  const optionsAt = sizes.reduce((sum, size) => sum + size, HEADER);
  let end = texts.reduce((sum, text) => sum + text.length, optionsAt + OPTION * options.length);
  const prefix = new Uint8Array(align(end, DATA_ALIGNMENT));
  const view = new DataView(prefix.buffer);
  view.setUint32(0, HEADER, true);
  view.setUint32(8, handle, true);
  view.setUint32(12, tensors.length, true);
  view.setUint32(16, options.length, true);
  view.setUint32(20, options.length === 0 ? 0 : optionsAt, true);
  let textAt = optionsAt + OPTION * options.length;
  texts.forEach((text, k) => {
    view.setUint32(optionsAt + 8 * k, textAt, true);
    view.setUint32(optionsAt + 8 * k + 4, text.length, true);
    prefix.set(text, textAt);
    textAt += text.length;
  });
  let record = HEADER;
  const fields = tensors.map((tensor, k) => {
    const { datatype, shape, length } = tensor;
    const at = align(end, DATA_ALIGNMENT);
    end = at + length;
    view.setUint32(record, sizes[k], true);
    view.setUint32(record + 4, datatype.number, true);
    view.setUint32(record + 8, TENSOR + 8 * shape.length, true);
    view.setUint32(record + 12, names[k].length, true);
    view.setUint32(record + 16, at, true);
    view.setUint32(record + 20, length, true);
    view.setUint32(record + 24, shape.length, true);
    shape.forEach((dimension, d) => view.setBigInt64(record + TENSOR + 8 * d, BigInt(dimension), true));
    prefix.set(names[k], record + TENSOR + 8 * shape.length);
    record += sizes[k];
    return { ...tensor, at };
  });
  // Beyond what a u32 measures, `Core.reserve` refuses.
  view.setUint32(4, end, true);
  return { fields, prefix, total: Math.max(end, prefix.length) };
}

/**
 * @param {Core} core
 * @param {number} at
 * @param {Elements} elements
 */
function writeElements(core, at, elements) {
  if (elements instanceof Float32Array) core.floats.set(elements, at >> 2);
  else core.bytes.set(new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength), at);
}

/**
 * @param {Core} core
 * @param {Datatype} datatype
 * @param {number} start
 * @param {number} count
 * @param {boolean} asView
 * @returns {Elements}
 */
function elementsAt(core, datatype, start, count, asView) {
  const { type, size } = datatype;
  const isAligned = (start & (size - 1)) === 0;
  if (asView && isAligned) return new type(core.buffer, start, count);
  if (count <= FEW && isAligned) {
    // Scores and labels.
    if (datatype === FP32) return few(new Float32Array(count), core.floats, start >> 2);
    if (datatype === INT64) return few(new BigInt64Array(count), core.longs, start >> 3);
  }
  return new type(core.buffer.slice(start, start + size * count));
}

/**
 * @template {Float32Array | BigInt64Array} T
 * @param {T} copy
 * @param {T} memory
 * @param {number} at
 */
function few(copy, memory, at) {
  for (let k = 0; k < copy.length; k++) copy[k] = memory[at + k];
  return copy;
}

/**
 * @param {number} length
 * @param {number} to
 */
function align(length, to) {
  return Math.ceil(length / to) * to;
}
