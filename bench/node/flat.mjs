// The flat entry point of the core (docs/abi.md) for V8: one copy in, one call, one view out.

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** An instance of a core module. */
export class Core {
  /** @param {WebAssembly.Module} module */
  constructor(module, entry) {
    this.exports = new WebAssembly.Instance(module, {}).exports;
    this.entry = this.exports[entry];
    this.address = 0;
    this.capacity = 0;
    this.texts = new Map();
    this.refresh();
  }

  /** Takes new views: any call may have grown the memory, which detaches the old ones. */
  refresh() {
    const { buffer } = this.exports.memory;
    if (buffer !== this.buffer) {
      this.buffer = buffer;
      this.bytes = new Uint8Array(buffer);
      this.view = new DataView(buffer);
      this.floats = new Float32Array(buffer);
    }
  }

  /** Makes room for a request and returns its address. */
  reserve(length) {
    if (length > this.capacity) {
      this.address = this.exports.lockgate_reserve(length) >>> 0;
      if (this.address === 0) throw new Error(`the module has no room for ${length} bytes`);
      this.capacity = length;
      this.refresh();
    }
    return this.address;
  }

  /** Hands a bundle or package over; returns the handle. */
  load(bytes) {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
    const response = this.check(this.exports.lockgate_load(bytes.length));
    this.capacity = 0;
    return this.view.getUint32(response + 12, true);
  }

  /** Calls decide or predict with the request that lies in the input buffer. */
  call(length) {
    return this.check(this.entry(length));
  }

  /** The response's address once it is known to lie within the memory and to be no failure. */
  check(address) {
    address >>>= 0;
    this.refresh();
    const { view, bytes } = this;
    if (address + 64 > bytes.length) throw new Error("the response lies outside the memory");
    const header = view.getUint32(address, true);
    const total = view.getUint32(address + 4, true);
    if (header < 64 || total < header || address + total > bytes.length) throw new Error("the response's sizes make no sense");
    const status = view.getUint32(address + 8, true);
    if (status !== 0) {
      const length = view.getUint32(address + header, true);
      const start = address + header + 4;
      throw new Error(`error ${status}: ${decoder.decode(bytes.subarray(start, Math.min(start + length, address + total)))}`);
    }
    return address;
  }

  /**
   * A string of the response. They are names out of a bundle or package, which come again and again: a hash finds
   * the one that was decoded before, and a comparison makes sure.
   */
  text(at, length) {
    const { bytes } = this;
    let hash = length;
    for (let k = at; k < at + length; k++) hash = (Math.imul(hash, 31) + bytes[k]) | 0;
    const known = this.texts.get(hash);
    if (known !== undefined && this.holds(at, length, known)) return known;
    const text = decoder.decode(bytes.subarray(at, at + length));
    this.texts.set(hash, text);
    return text;
  }

  /** Whether `text` is what lies there; for ASCII only, where a byte is a UTF-16 unit. */
  holds(at, length, text) {
    const { bytes } = this;
    if (text.length !== length) return false;
    for (let k = 0; k < length; k++) if (text.charCodeAt(k) !== bytes[at + k]) return false;
    return true;
  }
}

/** Predicts with one model whose only input is FP32. */
export class Predictor {
  constructor(core, handle, input, rowShape) {
    this.core = core;
    this.handle = handle;
    this.input = encoder.encode(input);
    this.rowShape = rowShape;
    this.templates = new Map();
  }

  /** The request up to its data, the same for all calls with as many rows. */
  template(rows) {
    let template = this.templates.get(rows);
    if (template) return template;
    const shape = [rows, ...this.rowShape];
    const nameAt = 32 + 8 * shape.length;
    const size = align(nameAt + this.input.length, 8);
    const dataAt = align(64 + size, 16);
    const dataLength = shape.reduce((a, b) => a * b, 4);
    const bytes = new Uint8Array(dataAt);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 64, true);
    view.setUint32(4, dataAt + dataLength, true);
    view.setUint32(8, this.handle, true);
    view.setUint32(12, 1, true);
    view.setUint32(64, size, true);
    view.setUint32(68, 11, true); // FP32
    view.setUint32(72, nameAt, true);
    view.setUint32(76, this.input.length, true);
    view.setUint32(80, dataAt, true);
    view.setUint32(84, dataLength, true);
    view.setUint32(88, shape.length, true);
    shape.forEach((length, k) => view.setBigInt64(96 + 8 * k, BigInt(length), true));
    bytes.set(this.input, 64 + nameAt);
    template = { bytes, dataAt, total: dataAt + dataLength };
    this.templates.set(rows, template);
    return template;
  }

  /** The outputs, each as `{ name, datatype, shape, data }`; `data` is a typed array of its own. */
  predict(rows, values) {
    const { core } = this;
    const { bytes, dataAt, total } = this.template(rows);
    const at = core.reserve(total);
    core.bytes.set(bytes, at);
    core.floats.set(values, (at + dataAt) >> 2);
    return this.read(core.call(total));
  }

  read(response) {
    const { core } = this;
    const { view, buffer } = core;
    const outputs = new Array(view.getUint32(response + 12, true));
    let record = response + view.getUint32(response, true);
    for (let k = 0; k < outputs.length; k++) {
      const datatype = view.getUint32(record + 4, true);
      const name = core.text(record + view.getUint32(record + 8, true), view.getUint32(record + 12, true));
      const start = response + view.getUint32(record + 16, true);
      const length = view.getUint32(record + 20, true);
      const shape = new Array(view.getUint32(record + 24, true));
      for (let d = 0; d < shape.length; d++) shape[d] = view.getUint32(record + 32 + 8 * d, true);
      const data = datatype === 11 ? new Float32Array(buffer.slice(start, start + length))
        : datatype === 9 ? new BigInt64Array(buffer.slice(start, start + length))
        : new Uint8Array(buffer.slice(start, start + length));
      outputs[k] = { name, datatype, shape, data };
      record += view.getUint32(record, true);
    }
    return outputs;
  }
}

const FIELDS = ["route", "user", "symbol", "tenant", "session"];
const REASONS = ["", "STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED", "ERROR"];

/** Decides with the bundle that the instance holds. */
export class Decider {
  constructor(core) {
    this.core = core;
    this.variants = new Map();
  }

  /** One decision per context `{ route, user, symbol, tenant, session, attributes }`. */
  decide(contexts, now) {
    const { core } = this;
    let room = 32;
    for (const context of contexts) room += roomFor(context);
    const start = core.reserve(room);
    const { view, bytes } = core;
    bytes.fill(0, start, start + 32);
    view.setUint32(start, 32, true);
    view.setUint32(start + 8, contexts.length, true);
    // Two halves instead of a BigInt, which would be an allocation.
    view.setUint32(start + 16, now % 2 ** 32, true);
    view.setInt32(start + 20, Math.floor(now / 2 ** 32), true);
    let at = start + 32;
    for (const context of contexts) at = this.write(at, context);
    view.setUint32(start + 4, at - start, true);
    return this.read(core.call(at - start));
  }

  write(record, context) {
    const { view, bytes } = this.core;
    const { attributes } = context;
    const names = attributes ? Object.keys(attributes) : [];
    let end = record + 56 + 24 * names.length;
    bytes.fill(0, record, end);
    view.setUint32(record + 4, names.length, true);
    for (let k = 0; k < 5; k++) {
      const text = context[FIELDS[k]];
      if (text !== undefined) end = this.append(record, record + 8 + 8 * k, end, text);
    }
    for (let k = 0; k < names.length; k++) {
      const at = record + 56 + 24 * k;
      const value = attributes[names[k]];
      end = this.append(record, at, end, names[k]);
      if (typeof value === "string") {
        view.setUint32(at + 8, 1, true);
        const length = this.put(end, value);
        view.setUint32(at + 12, length, true);
        view.setUint32(at + 16, end - record, true);
        end += length;
      } else if (typeof value === "number") {
        view.setUint32(at + 8, 2, true);
        view.setFloat64(at + 16, value, true);
      } else {
        view.setUint32(at + 8, 3, true);
        view.setUint32(at + 16, value ? 1 : 0, true);
      }
    }
    const next = record + align(end - record, 8);
    bytes.fill(0, end, next);
    view.setUint32(record, next - record, true);
    return next;
  }

  append(record, at, end, text) {
    const length = this.put(end, text);
    this.core.view.setUint32(at, end - record, true);
    this.core.view.setUint32(at + 4, length, true);
    return end + length;
  }

  put(at, text) {
    const { bytes } = this.core;
    const { length } = text;
    for (let k = 0; k < length; k++) {
      const code = text.charCodeAt(k);
      if (code > 127) return encoder.encodeInto(text, bytes.subarray(at)).written;
      bytes[at + k] = code;
    }
    return length;
  }

  read(response) {
    const { core } = this;
    const { view, bytes } = core;
    const decisions = new Array(view.getUint32(response + 12, true));
    let record = response + view.getUint32(response, true);
    for (let k = 0; k < decisions.length; k++) {
      if (view.getUint32(record + 4, true) !== 0) {
        decisions[k] = undefined;
      } else {
        const flags = bytes[record + 11];
        // Written out, for a spread makes objects that V8 is slow with.
        const known = this.variant(record);
        decisions[k] = {
          variant: known.variant,
          variantIndex: known.variantIndex,
          model: known.model,
          version: known.version,
          payload: known.payload,
          packageDigest: known.packageDigest,
          placement: known.placement,
          reason: REASONS[bytes[record + 8]],
          step: bytes[record + 10],
          bucket: flags & 1 ? view.getUint32(record + 12, true) : undefined,
          unitMissing: (flags & 2) !== 0,
          rule: this.optional(record, 48),
          layer: this.optional(record, 56),
        };
      }
      record += view.getUint32(record, true);
    }
    return decisions;
  }

  optional(record, at) {
    const offset = this.core.view.getUint32(record + at, true);
    return offset === 0 ? undefined : this.core.text(record + offset, this.core.view.getUint32(record + at + 4, true));
  }

  /** What depends on route and variant alone is read once: the bundle of an instance never changes. */
  variant(record) {
    const { view, bytes } = this.core;
    const index = view.getUint32(record + 20, true);
    const key = view.getUint32(record + 16, true) * 65536 + index;
    let known = this.variants.get(key);
    if (known === undefined) {
      const digest = Array.from(bytes.subarray(record + 72, record + 104), (byte) => byte.toString(16).padStart(2, "0"));
      known = {
        variant: this.optional(record, 24),
        variantIndex: index,
        model: this.optional(record, 32),
        version: this.optional(record, 40),
        payload: this.optional(record, 64),
        packageDigest: digest.join(""),
        placement: bytes[record + 9],
      };
      this.variants.set(key, known);
    }
    return known;
  }
}

/** Bytes that a context needs at most: UTF-8 has at most three per UTF-16 unit. */
function roomFor(context) {
  let room = 64;
  for (const field of FIELDS) if (context[field] !== undefined) room += 3 * context[field].length;
  for (const name in context.attributes) {
    const value = context.attributes[name];
    room += 24 + 3 * name.length + (typeof value === "string" ? 3 * value.length : 0);
  }
  return room + 8;
}

function align(length, to) {
  return Math.ceil(length / to) * to;
}
