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

  /** Takes new views: any call may have grown the memory, which detaches the old ones and leaves them empty. */
  refresh() {
    if (this.bytes === undefined || this.bytes.length === 0) {
      const { buffer } = this.exports.memory;
      this.buffer = buffer;
      this.bytes = new Uint8Array(buffer);
      this.view = new DataView(buffer);
      this.words = new Int32Array(buffer);
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
    if (this.bytes.length === 0) this.refresh();
    const { words, bytes } = this;
    const { length } = bytes;
    if (address + 64 > length || (address & 3) !== 0) throw new Error("the response lies outside the memory");
    const at = address >> 2;
    const header = words[at] >>> 0;
    const total = words[at + 1] >>> 0;
    if (header < 64 || total < header || address + total > length) throw new Error("the response's sizes make no sense");
    if (words[at + 2] !== 0) this.fail(address, header, total);
    return address;
  }

  fail(address, header, total) {
    const { view, bytes } = this;
    const length = view.getUint32(address + header, true);
    const start = address + header + 4;
    const message = decoder.decode(bytes.subarray(start, Math.min(start + length, address + total)));
    throw new Error(`error ${view.getUint32(address + 8, true)}: ${message}`);
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

const REASONS = ["", "STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED", "ERROR"];
const COMPACT = 1;
const KNOWN = 1024;

/**
 * A decision. What it shares with others of the same variant (`served`) or of the same rule (`matched`) is one object for all
 * of them; a number that is absent is -1 inside and `undefined` outside.
 */
class Decision {
  constructor(served, matched, bits, bucket, stage, window, intendedIndex, shadowMask) {
    this.served = served;
    this.matched = matched;
    this.bits = bits;
    this.bucketOrNone = bucket;
    this.stageOrNone = stage;
    this.windowOrNone = window;
    this.intendedIndex = intendedIndex;
    this.shadowMask = shadowMask;
  }

  get routeIndex() { return this.served.routeIndex; }
  get variantIndex() { return this.served.variantIndex; }
  get variant() { return this.served.variant; }
  get model() { return this.served.model; }
  get version() { return this.served.version; }
  get payload() { return this.served.payload; }
  get packageDigest() { return this.served.packageDigest; }
  get placement() { return this.served.placement; }
  /** Whose definition of the route it is. */
  get tenant() { return this.served.tenant; }
  get user() { return this.served.user; }
  get rule() { return this.matched.rule; }
  get layer() { return this.matched.layer; }
  get reason() { return REASONS[(this.bits >> 8) & 255]; }
  get step() { return (this.bits >> 16) & 255; }
  get bucket() { return this.bits & (1 << 24) ? this.bucketOrNone >>> 0 : undefined; }
  get unitMissing() { return (this.bits & (1 << 25)) !== 0; }
  get holdout() { return (this.bits & (1 << 26)) !== 0; }
  get washout() { return (this.bits & (1 << 27)) !== 0; }
  get unavailable() { return (this.bits & (1 << 28)) !== 0; }
  get fallback() { return (this.bits & (1 << 29)) !== 0; }
  get stage() { return this.stageOrNone < 0 ? undefined : this.stageOrNone; }
  get window() { return this.windowOrNone < 0 ? undefined : this.windowOrNone; }
  /** The variant that was chosen, when a fallback serves in its place. */
  get intended() { return this.fallback ? this.served.intended.get(this.intendedIndex) : undefined; }
  /** `{ name, variant, model, version, packageDigest, placement, rate, concurrency, bytes, deadline }` of each shadow. */
  get shadows() {
    const shadows = [];
    for (let n = 0; n < 32; n++) if ((this.shadowMask >>> n) & 1) shadows.push(this.served.shadows.get(n));
    return shadows;
  }
}

const NOTHING = { index: 0, rule: undefined, layer: undefined };

/**
 * Decides with the bundle that the instance holds. It asks for compact decisions, which are indices alone. An index that is met for
 * the first time makes it ask the same again in full, for the names; the bundle of an instance never changes.
 */
export class Decider {
  constructor(core) {
    this.core = core;
    this.served = new Map();
    this.matched = new Map();
    // The same by a few bits of the index, without the Map's detour.
    this.servedSlots = new Array(KNOWN).fill(undefined);
    this.matchedSlots = new Array(KNOWN).fill(NOTHING);
    this.template = { address: 0, bytes: undefined, route: undefined, length: 0, isFull: false };
  }

  /** One decision for `{ route, user, symbol, tenant, session, variant, attributes }`; `undefined` for an unknown route. */
  decideOne(context, now) {
    const { core, template } = this;
    const { route, attributes } = context;
    if (attributes !== undefined) return this.decide([context], now)[0];
    if (template.bytes !== core.bytes || template.address !== core.address || template.route !== route || core.bytes.length === 0) {
      if (!this.keep(route)) return this.decide([context], now)[0];
    }
    const { bytes, words, address, capacity } = core;
    const record = address + 32;
    const at = record >> 2;
    // The request's header and the route lie there from the call before.
    words[at - 4] = now;
    words[at - 3] = Math.floor(now / 4294967296);
    let end = record + 56 + template.length;
    const limit = address + capacity - 8;
    const { user, symbol } = context;
    if (user === undefined) words[at + 4] = 0;
    else end = put(words, bytes, user, at + 4, record, end, limit);
    if (symbol === undefined) words[at + 6] = 0;
    else end = put(words, bytes, symbol, at + 6, record, end, limit);
    const { tenant, session, variant } = context;
    if (tenant !== undefined || session !== undefined || variant !== undefined || template.isFull) {
      template.isFull = true;
      end = this.put(tenant, at + 8, record, end, limit);
      end = this.put(session, at + 10, record, end, limit);
      end = this.put(variant, at + 12, record, end, limit);
    }
    if (end < 0) return this.decide([context], now)[0];
    while ((end & 7) !== 0) bytes[end++] = 0;
    words[at - 7] = end - address;
    words[at] = end - record;
    const length = end - address;
    const response = core.check(core.entry(length));
    const read = core.words;
    const decision = this.readOne(read, (response + (read[response >> 2] >>> 0)) >> 2);
    if (decision !== null) return decision;
    this.learn(length);
    const again = core.check(core.entry(length));
    return this.readOne(core.words, (again + (core.words[again >> 2] >>> 0)) >> 2);
  }

  /** Writes the parts of a request of one context that stay: its header and the route. */
  keep(route) {
    const { core, template } = this;
    if (3 * route.length > 16384) return false;
    core.reserve(65536);
    const { bytes, words, address } = core;
    words.fill(0, address >> 2, (address + 88) >> 2);
    words[address >> 2] = 32;
    words[(address >> 2) + 2] = 1;
    words[(address >> 2) + 3] = COMPACT;
    const length = this.encode(address + 88, route);
    words[(address >> 2) + 10] = 56;
    words[(address >> 2) + 11] = length;
    template.bytes = bytes;
    template.address = address;
    template.route = route;
    template.length = length;
    template.isFull = false;
    return true;
  }

  /** Writes a text at `end` and its place at the word `at`; returns where the next goes, negative when there is no room. */
  put(text, at, record, end, limit) {
    const { words, bytes } = this.core;
    if (text !== undefined) return put(words, bytes, text, at, record, end, limit);
    words[at] = 0;
    return end;
  }

  /** One decision per context, in one call. `unavailable` lists digests of packages, 32 bytes each. */
  decide(contexts, now, unavailable) {
    const { core } = this;
    let room = 32 + 8 + (unavailable === undefined ? 0 : 32 * unavailable.length);
    for (let k = 0; k < contexts.length; k++) room += roomFor(contexts[k]);
    const start = core.reserve(room);
    this.template.route = undefined;
    const { words, bytes } = core;
    const header = start >> 2;
    words[header] = 32;
    words[header + 2] = contexts.length;
    words[header + 3] = COMPACT;
    // Two halves instead of a BigInt, which would be an allocation.
    words[header + 4] = now;
    words[header + 5] = Math.floor(now / 4294967296);
    words[header + 6] = 0;
    words[header + 7] = 0;
    let at = start + 32;
    for (let k = 0; k < contexts.length; k++) at = this.write(at, contexts[k]);
    if (unavailable !== undefined && unavailable.length > 0) {
      words[header + 6] = at - start;
      words[header + 7] = unavailable.length;
      for (const digest of unavailable) {
        bytes.set(digest, at);
        at += 32;
      }
    }
    const length = at - start;
    words[header + 1] = length;
    const decisions = new Array(contexts.length);
    if (!this.read(core.check(core.entry(length)), decisions)) {
      this.learn(length);
      this.read(core.check(core.entry(length)), decisions);
    }
    return decisions;
  }

  write(record, context) {
    const { words, view } = this.core;
    const { attributes } = context;
    const at = record >> 2;
    const names = attributes === undefined ? NONE : Object.keys(attributes);
    const count = names.length;
    let end = record + 56 + 24 * count;
    words[at + 1] = count;
    end = this.put(context.route, at + 2, record, end, Infinity);
    end = this.put(context.user, at + 4, record, end, Infinity);
    end = this.put(context.symbol, at + 6, record, end, Infinity);
    end = this.put(context.tenant, at + 8, record, end, Infinity);
    end = this.put(context.session, at + 10, record, end, Infinity);
    end = this.put(context.variant, at + 12, record, end, Infinity);
    for (let k = 0; k < count; k++) {
      const field = at + 14 + 6 * k;
      const value = attributes[names[k]];
      end = this.put(names[k], field, record, end, Infinity);
      words[field + 5] = 0;
      if (typeof value === "string") {
        words[field + 2] = 1;
        const from = end;
        end = this.encode(end, value) + end;
        words[field + 3] = end - from;
        words[field + 4] = from - record;
      } else if (typeof value === "number") {
        words[field + 2] = 2;
        view.setFloat64((field + 4) << 2, value, true);
      } else {
        words[field + 2] = 3;
        words[field + 4] = value ? 1 : 0;
      }
    }
    const { bytes } = this.core;
    while ((end & 7) !== 0) bytes[end++] = 0;
    words[at] = end - record;
    return end;
  }

  /** Writes a text and returns its length. */
  encode(at, text) {
    const { bytes } = this.core;
    const { length } = text;
    for (let k = 0; k < length; k++) {
      const code = text.charCodeAt(k);
      if (code > 127) return encoder.encodeInto(text, bytes.subarray(at)).written;
      bytes[at + k] = code;
    }
    return length;
  }

  /** Reads compact decisions; returns whether every index was known. */
  read(response, decisions) {
    const { words } = this.core;
    const at = response >> 2;
    if (words[at + 14] !== 1 || words[at + 3] !== decisions.length) throw new Error("the response is not what was asked for");
    const size = words[at + 15] >> 2;
    let record = (response + (words[at] >>> 0)) >> 2;
    for (let k = 0; k < decisions.length; k++) {
      const decision = this.readOne(words, record);
      if (decision === null) return false;
      decisions[k] = decision;
      record += size;
    }
    return true;
  }

  /** One compact decision; `undefined` for an unknown route, `null` when an index is met for the first time. */
  readOne(words, at) {
    const bits = words[at];
    if ((bits & 255) !== 0) return undefined;
    const route = words[at + 1];
    const indices = words[at + 2];
    const target = words[at + 3];
    const variant = indices & 0xffff;
    let served = this.servedSlots[(route * 5 + variant) & (KNOWN - 1)];
    if (served === undefined || served.routeIndex !== route || served.variantIndex !== variant) {
      served = this.served.get(route * 65536 + variant);
      if (served === undefined) return null;
      this.servedSlots[(route * 5 + variant) & (KNOWN - 1)] = served;
    }
    let matched = NOTHING;
    if (target !== 0) {
      matched = this.matchedSlots[target & (KNOWN - 1)];
      if (matched.index !== target) {
        matched = this.matched.get(target);
        if (matched === undefined) return null;
        this.matchedSlots[target & (KNOWN - 1)] = matched;
      }
    }
    const intended = (indices >>> 16) - 1;
    const mask = words[at + 7];
    if ((intended >= 0 && !served.intended.has(intended)) || (mask !== 0 && (mask & ~served.shadowsKnown) !== 0)) return null;
    return new Decision(served, matched, bits, words[at + 4], words[at + 5] - 1, words[at + 6] - 1, intended, mask);
  }

  /** Asks the request that lies in the input buffer again in full, and keeps every name. */
  learn(length) {
    const { core } = this;
    const flags = (core.address >> 2) + 3;
    core.words[flags] = 0;
    const response = core.check(core.entry(length));
    core.words[flags] = COMPACT;
    const { view, bytes } = core;
    const count = view.getUint32(response + 12, true);
    const digest = (at) => Array.from(bytes.subarray(at, at + 32), (byte) => byte.toString(16).padStart(2, "0")).join("");
    let record = response + view.getUint32(response, true);
    for (let k = 0; k < count; k++) {
      const number = (at) => view.getUint32(record + at, true);
      const text = (at) => (number(at) === 0 ? undefined : core.text(record + number(at), number(at + 4)));
      if (number(4) === 0) {
        const routeIndex = number(16);
        const variantIndex = number(20);
        const key = routeIndex * 65536 + variantIndex;
        let served = this.served.get(key);
        if (served === undefined) {
          served = {
            routeIndex,
            variantIndex,
            variant: text(24),
            model: text(32),
            version: text(40),
            payload: text(64),
            packageDigest: digest(record + 72),
            placement: bytes[record + 9],
            tenant: text(128),
            user: text(136),
            intended: new Map(),
            shadows: new Map(),
            shadowsKnown: 0,
          };
          this.served.set(key, served);
        }
        if (number(120) !== 0) served.intended.set(number(120) - 1, text(152));
        const target = number(124);
        if (target !== 0) this.matched.set(target, { index: target, rule: text(48), layer: text(56) });
        for (let n = 0, at = number(108); n < number(104); n++, at += 88) {
          const shadow = bytes[record + at + 5];
          served.shadows.set(shadow, {
            name: text(at + 8),
            variant: text(at + 16),
            model: text(at + 24),
            version: text(at + 32),
            packageDigest: digest(record + at + 40),
            placement: bytes[record + at + 4],
            rate: number(at + 72),
            concurrency: number(at + 76),
            bytes: number(at + 80),
            deadline: number(at + 84),
          });
          served.shadowsKnown |= 1 << shadow;
        }
      }
      record += number(0);
    }
  }
}

const NONE = [];

/** Bytes that a context needs at most: UTF-8 has at most three per UTF-16 unit. */
function roomFor(context) {
  const { route, user, symbol, tenant, session, variant, attributes } = context;
  let units = route.length;
  if (user !== undefined) units += user.length;
  if (symbol !== undefined) units += symbol.length;
  if (tenant !== undefined) units += tenant.length;
  if (session !== undefined) units += session.length;
  if (variant !== undefined) units += variant.length;
  let room = 64 + 3 * units;
  if (attributes !== undefined) {
    for (const name in attributes) {
      const value = attributes[name];
      room += 24 + 3 * name.length + (typeof value === "string" ? 3 * value.length : 0);
    }
  }
  return room;
}

function align(length, to) {
  return Math.ceil(length / to) * to;
}

/** `Decider.put` for a text that is there. */
function put(words, bytes, text, at, record, end, limit) {
  const { length } = text;
  if (end < 0 || end + 3 * length > limit) return -1;
  words[at] = end - record;
  // Most texts are ASCII: written as if they were, and again when they were not.
  let units = 0;
  for (let k = 0; k < length; k++) {
    const unit = text.charCodeAt(k);
    units |= unit;
    bytes[end + k] = unit;
  }
  const written = units < 128 ? length : encoder.encodeInto(text, bytes.subarray(end)).written;
  words[at + 1] = written;
  return end + written;
}
