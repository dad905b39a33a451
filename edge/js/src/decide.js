// Decisions. The request is written where the module reads it, and what stays from call to call is written once; the answers
// come as indices, whose names are learnt when they first occur.

import { Core, hex } from "./core.js";
import { LockgateError } from "./errors.js";

const encoder = new TextEncoder();

/**
 * @typedef {"STATIC" | "DEFAULT" | "TARGETING_MATCH" | "SPLIT" | "DISABLED" | "ERROR"} Reason Why, in OpenFeature's words.
 * @typedef {"edge" | "host" | "gpu"} Placement Where a version runs.
 * @typedef {"disabled" | "scope" | "override" | "holdout" | "test_group" | "symbol_rollout" | "rule" | "default" | "fallback"} Step
 *   The step of the precedence that decided.
 */

/** @type {readonly Reason[]} */
const REASONS = ["ERROR", "STATIC", "DEFAULT", "TARGETING_MATCH", "SPLIT", "DISABLED", "ERROR"];
/** @type {readonly Placement[]} */
const PLACEMENTS = ["edge", "edge", "host", "gpu"];
/** @type {readonly Step[]} */
const STEPS = ["default", "disabled", "scope", "override", "holdout", "test_group", "symbol_rollout", "rule", "default", "fallback"];

/**
 * @typedef {object} Context What is known about one request.
 * @property {string} route The logical model that the caller asks for.
 * @property {string} [user]
 * @property {string} [symbol]
 * @property {string} [tenant]
 * @property {string} [session]
 * @property {string} [variant] The variant that the caller asks for; the policy says whether that counts.
 * @property {Readonly<Record<string, string | number | boolean>>} [attributes]
 */

/**
 * @typedef {object} Shadow A version that gets a copy of the request within bounds; its answer is compared, never returned.
 * @property {string} name
 * @property {string} variant
 * @property {string} model
 * @property {string} version
 * @property {string} packageDigest
 * @property {Placement} placement
 * @property {number} rate Requests per second.
 * @property {number} concurrency Requests at once.
 * @property {number} bytes Bytes of a request; a larger one is not copied.
 * @property {number} deadline Milliseconds until its answer is no longer waited for.
 */

/**
 * @typedef {object} Served What decisions for one variant share.
 * @property {string} route
 * @property {number} routeIndex
 * @property {number} variantIndex
 * @property {string} variant
 * @property {string} model
 * @property {string} version
 * @property {string | undefined} payload
 * @property {string} packageDigest
 * @property {Placement} placement
 * @property {string | undefined} tenant
 * @property {string | undefined} user
 * @property {Map<number, string>} intended
 * @property {Map<number, Shadow>} shadows
 * @property {number} shadowsKnown
 */

/**
 * @typedef {object} Matched What decisions by one rule share.
 * @property {number} index
 * @property {string | undefined} rule
 * @property {string | undefined} layer
 */

/**
 * Which version serves one request, and why. It stays valid for ever: nothing of it lies in the module's memory. What it shares
 * with others of the same variant or of the same rule is one object for all of them; a number that is absent is -1 inside and
 * `undefined` outside. `JSON.stringify` writes every field that is there.
 */
export class Decision {
  /**
   * @internal
   * @param {Served} served
   * @param {Matched} matched
   * @param {number} bits
   * @param {number} bucket
   * @param {number} stage
   * @param {number} window
   * @param {number} intendedIndex
   * @param {number} shadowMask
   */
  constructor(served, matched, bits, bucket, stage, window, intendedIndex, shadowMask) {
    /** @internal */
    this.served = served;
    /** @internal */
    this.matched = matched;
    /** @internal */
    this.bits = bits;
    /** @internal */
    this.bucketOrNone = bucket;
    /** @internal */
    this.stageOrNone = stage;
    /** @internal */
    this.windowOrNone = window;
    /** @internal */
    this.intendedIndex = intendedIndex;
    /** @internal */
    this.shadowMask = shadowMask;
  }

  get route() { return this.served.route; }
  /** The place of the route's definition in the bundle. */
  get routeIndex() { return this.served.routeIndex; }
  /** The place of the variant in the route. */
  get variantIndex() { return this.served.variantIndex; }
  get variant() { return this.served.variant; }
  get model() { return this.served.model; }
  get version() { return this.served.version; }
  /** The variant's payload, JSON text. */
  get payload() { return this.served.payload; }
  /** SHA-256 of the package that the bundle pins, in hexadecimal. */
  get packageDigest() { return this.served.packageDigest; }
  get placement() { return this.served.placement; }
  /** The tenant whose definition of the route it is; `undefined`: nobody's in particular. */
  get tenant() { return this.served.tenant; }
  /** The user whose definition of the route it is; `undefined`: nobody's in particular. */
  get user() { return this.served.user; }
  get rule() { return this.matched.rule; }
  get layer() { return this.matched.layer; }
  get reason() { return REASONS[(this.bits >> 8) & 255]; }
  get step() { return STEPS[(this.bits >> 16) & 255]; }
  /** The unit's place in the hash space of the layer. */
  get bucket() { return this.bits & (1 << 24) ? this.bucketOrNone >>> 0 : undefined; }
  /** The unit that the split sticks to was missing from the context. */
  get unitMissing() { return (this.bits & (1 << 25)) !== 0; }
  /** The unit is held out, so that the baseline serves. */
  get holdout() { return (this.bits & (1 << 26)) !== 0; }
  /** A switchback's window has only begun, so that the baseline serves. */
  get washout() { return (this.bits & (1 << 27)) !== 0; }
  /** The package is unavailable, and so are those of all fallbacks. */
  get unavailable() { return (this.bits & (1 << 28)) !== 0; }
  /** A fallback serves in the place of `intended`. */
  get fallback() { return (this.bits & (1 << 29)) !== 0; }
  /** The stage of a ramp; 0 before the first. */
  get stage() { return this.stageOrNone < 0 ? undefined : this.stageOrNone; }
  /** The number of a switchback's window. */
  get window() { return this.windowOrNone < 0 ? undefined : this.windowOrNone; }
  /** The variant that was chosen, when a fallback serves in its place. */
  get intended() { return this.fallback ? this.served.intended.get(this.intendedIndex) : undefined; }
  /** The versions that get a copy of the request. */
  get shadows() {
    /** @type {Shadow[]} */
    const shadows = [];
    for (let n = 0; n < 32; n++) {
      const shadow = (this.shadowMask >>> n) & 1 ? this.served.shadows.get(n) : undefined;
      if (shadow !== undefined) shadows.push(shadow);
    }
    return shadows;
  }

  /** Everything that is there, as a plain object. */
  toJSON() {
    const { route, variant, model, version, payload, packageDigest, placement, tenant, user, reason, step, rule, layer, bucket } = this;
    const { stage, window, unitMissing, holdout, washout, unavailable, intended, shadows } = this;
    return {
      route, variant, model, version, payload, packageDigest, placement, tenant, user, reason, step, rule, layer, bucket, stage, window,
      unitMissing, holdout, washout, unavailable, intended, shadows,
    };
  }
}

/** @type {Matched} */
const NOTHING = { index: 0, rule: undefined, layer: undefined };
/** @type {string[]} */
const NO_NAMES = [];
const COMPACT = 1;
const COMPACT_SIZE = 32;
/** The size of a decision's fixed part in 1.0, which did not write it down. */
const FIRST_FIXED = 112;
const SHADOW_SIZE = 88;
const RECORD = 56;
const ATTRIBUTE = 24;
/** A power of two. */
const KNOWN = 1024;
const MOST_NOW = 8.64e15;

/**
 * The module `policy` with a bundle. A bundle never changes: for a new one make a new `Policy`.
 */
export class Policy {
  /**
   * @param {WebAssembly.Module} module
   * @param {Uint8Array | undefined} bundle `undefined` when the module was baked with one.
   * @param {readonly Uint8Array[]} [lists] The unit lists that the bundle names. Like the bundle they are kept, not copied, for the
   *   instance that follows a trap: leave them unchanged.
   */
  constructor(module, bundle, lists = []) {
    /** @internal */
    this.core = new Core(module, "lockgate_decide", bundle === undefined ? [] : [...lists, bundle]);
    const held = this.core.loaded.at(-1) ?? this.core.baked.at(0);
    if (held === undefined) {
      throw new LockgateError("not_loaded", "there is no bundle, and the module was not baked with one", "give load() the option `bundle`");
    }
    const { version, digest } = held;
    /** The bundle's version. */
    this.version = version;
    /** The bundle's digest, in hexadecimal. */
    this.digest = digest;
    /** The module's identity, in hexadecimal. */
    this.identity = this.core.identity;
    /**
     * @internal
     * @type {Map<number, Served>}
     */
    this.served = new Map();
    /**
     * @internal
     * @type {Map<number, Matched>}
     */
    this.matched = new Map();
    // The same by a few bits of the index, without the Map's detour.
    /**
     * @internal
     * @type {(Served | undefined)[]}
     */
    this.servedSlots = new Array(KNOWN).fill(undefined);
    /**
     * @internal
     * @type {Matched[]}
     */
    this.matchedSlots = new Array(KNOWN).fill(NOTHING);
    /** @internal */
    this.template = { route: "", length: 0, isFull: false };
  }

  /** How many instances of the module were made: 1, and one more for each that was lost. */
  get instances() {
    return this.core.instances;
  }

  /**
   * Decides for one request.
   * @param {Context} context
   * @param {number | bigint} [now] Milliseconds since 1970-01-01T00:00Z; the clock's by default.
   * @param {readonly (string | Uint8Array)[]} [unavailable] Digests of packages that cannot serve.
   * @returns {Decision}
   * @throws {LockgateError} `unknown_route`, and what the module refuses.
   */
  decide(context, now = Date.now(), unavailable = undefined) {
    const { core, template } = this;
    const { route, attributes } = context;
    if (attributes !== undefined || unavailable !== undefined || typeof now !== "number" || !(now >= -MOST_NOW && now <= MOST_NOW)) {
      return known(this.decideBatch([context], now, unavailable)[0], route);
    }
    if (core.holds !== template || template.route !== route) {
      if (!this.keep(route)) return known(this.decideBatch([context], now)[0], route);
    }
    const { bytes, words, address, capacity } = core;
    const record = address + 32;
    const at = record >> 2;
    // The request's header and the route lie there from the call before. Two halves instead of a BigInt, which would be an allocation.
    words[at - 4] = now;
    words[at - 3] = Math.floor(now / 4294967296);
    let end = record + RECORD + template.length;
    const limit = address + capacity - 8;
    const { user, symbol } = context;
    if (user === undefined) words[at + 4] = 0;
    else end = put(words, bytes, user, at + 4, record, end, limit);
    if (symbol === undefined) words[at + 6] = 0;
    else end = put(words, bytes, symbol, at + 6, record, end, limit);
    const { tenant, session, variant } = context;
    if (tenant !== undefined || session !== undefined || variant !== undefined || template.isFull) {
      template.isFull = true;
      end = putOptional(words, bytes, tenant, at + 8, record, end, limit);
      end = putOptional(words, bytes, session, at + 10, record, end, limit);
      end = putOptional(words, bytes, variant, at + 12, record, end, limit);
    }
    if (end < 0) return known(this.decideBatch([context], now)[0], route);
    while ((end & 7) !== 0) bytes[end++] = 0;
    words[at - 7] = end - address;
    words[at] = end - record;
    const length = end - address;
    const response = core.call(length);
    const read = core.words;
    const head = response >> 2;
    if (read[head + 14] === 1 && read[head + 3] === 1 && read[head + 1] >= read[head] + COMPACT_SIZE) {
      const decision = this.readOne(read, (response + read[head]) >> 2);
      if (decision !== null) return known(decision, route);
    }
    return known(this.answer(length, [context], response)[0], route);
  }

  /**
   * Decides for many requests in one call of the module.
   * @param {readonly Context[]} contexts
   * @param {number | bigint} [now] Milliseconds since 1970-01-01T00:00Z; the clock's by default.
   * @param {readonly (string | Uint8Array)[]} [unavailable] Digests of packages that cannot serve.
   * @returns {(Decision | undefined)[]} In the contexts' order; `undefined` for an unknown route.
   */
  decideBatch(contexts, now = Date.now(), unavailable = undefined) {
    const { core } = this;
    const digests = unavailable === undefined || unavailable.length === 0 ? undefined : unavailable.map(digestBytes);
    let room = 32 + 8 + (digests === undefined ? 0 : 32 * digests.length);
    for (let k = 0; k < contexts.length; k++) room += roomFor(contexts[k]);
    const start = core.reserve(room);
    core.holds = undefined;
    const { words, bytes } = core;
    const header = start >> 2;
    words[header] = 32;
    words[header + 2] = contexts.length;
    words[header + 3] = COMPACT;
    if (typeof now === "number") {
      if (!(now >= -MOST_NOW && now <= MOST_NOW)) throw badTime(now);
      words[header + 4] = now;
      words[header + 5] = Math.floor(now / 4294967296);
    } else {
      if (BigInt.asIntN(64, now) !== now) throw badTime(now);
      words[header + 4] = Number(BigInt.asIntN(32, now));
      words[header + 5] = Number(now >> 32n);
    }
    words[header + 6] = 0;
    words[header + 7] = 0;
    let at = start + 32;
    for (let k = 0; k < contexts.length; k++) at = this.write(at, contexts[k]);
    if (digests !== undefined) {
      words[header + 6] = at - start;
      words[header + 7] = digests.length;
      for (const digest of digests) {
        bytes.set(digest, at);
        at += 32;
      }
    }
    const length = at - start;
    words[header + 1] = length;
    return this.answer(length, contexts, core.call(length));
  }

  /**
   * Writes the parts of a request of one context that stay: its header and the route.
   * @internal
   * @param {string} route
   */
  keep(route) {
    const { core, template } = this;
    if (typeof route !== "string" || 3 * route.length > 16384) return false;
    const address = core.reserve(65536);
    const { bytes, words } = core;
    const at = address >> 2;
    words.fill(0, at, at + 22);
    words[at] = 32;
    words[at + 2] = 1;
    words[at + 3] = COMPACT;
    const end = put(words, bytes, route, at + 10, address + 32, address + 32 + RECORD, Infinity);
    template.route = route;
    template.length = end - address - 32 - RECORD;
    template.isFull = false;
    core.holds = template;
    return true;
  }

  /**
   * Writes a context's record.
   * @internal
   * @param {number} record
   * @param {Context} context
   */
  write(record, context) {
    const { words, view, bytes } = this.core;
    const { attributes } = context;
    const at = record >> 2;
    const names = attributes === undefined ? NO_NAMES : Object.keys(attributes);
    const count = names.length;
    let end = record + RECORD + ATTRIBUTE * count;
    words[at + 1] = count;
    end = put(words, bytes, context.route, at + 2, record, end, Infinity);
    end = putOptional(words, bytes, context.user, at + 4, record, end, Infinity);
    end = putOptional(words, bytes, context.symbol, at + 6, record, end, Infinity);
    end = putOptional(words, bytes, context.tenant, at + 8, record, end, Infinity);
    end = putOptional(words, bytes, context.session, at + 10, record, end, Infinity);
    end = putOptional(words, bytes, context.variant, at + 12, record, end, Infinity);
    for (let k = 0; k < count; k++) {
      const field = at + 14 + 6 * k;
      // `names` are the keys of `attributes`.
      const value = /** @type {Record<string, unknown>} */ (attributes)[names[k]];
      end = put(words, bytes, names[k], field, record, end, Infinity);
      words[field + 5] = 0;
      if (typeof value === "string") {
        words[field + 2] = 1;
        // The text's length stands before its offset here.
        const from = end;
        end = put(words, bytes, value, field + 4, record, end, Infinity);
        words[field + 3] = end - from;
        words[field + 5] = 0;
      } else if (typeof value === "number") {
        words[field + 2] = 2;
        words[field + 3] = 0;
        view.setFloat64((field + 4) << 2, value, true);
      } else if (typeof value === "boolean") {
        words[field + 2] = 3;
        words[field + 3] = 0;
        words[field + 4] = value ? 1 : 0;
      } else {
        throw new LockgateError("malformed_request", `attribute \`${names[k]}\` is neither a string, a number nor a boolean`, "leave it out when it is unknown");
      }
    }
    while ((end & 7) !== 0) bytes[end++] = 0;
    words[at] = end - record;
    return end;
  }

  /**
   * The decisions of a response. An index without a name makes it ask the same again in full, for the names.
   * @internal
   * @param {number} length
   * @param {readonly Context[]} contexts
   * @param {number} response
   */
  answer(length, contexts, response) {
    const { core } = this;
    /** @type {(Decision | undefined)[]} */
    const decisions = new Array(contexts.length);
    // A module of 1.0 does not know compact decisions and answers in full.
    if (core.words[(response >> 2) + 14] !== 1) {
      this.readFull(response, contexts, decisions);
      return decisions;
    }
    if (this.read(response, decisions)) return decisions;
    const flags = (core.address >> 2) + 3;
    core.holds = undefined;
    core.words[flags] = 0;
    this.readFull(core.call(length), contexts, decisions);
    core.words[flags] = COMPACT;
    if (!this.read(core.call(length), decisions)) throw core.malformed("a decision has an index without a name");
    return decisions;
  }

  /**
   * Reads compact decisions; returns whether every index was known.
   * @internal
   * @param {number} response
   * @param {(Decision | undefined)[]} decisions
   */
  read(response, decisions) {
    const { core } = this;
    const { words } = core;
    const at = response >> 2;
    const size = words[at + 15];
    const end = words[at] + size * decisions.length;
    if (words[at + 14] !== 1 || words[at + 3] !== decisions.length || size < COMPACT_SIZE || (size & 7) !== 0 || end > words[at + 1] >>> 0) {
      throw core.malformed("the decisions are not what was asked for");
    }
    let record = (response + words[at]) >> 2;
    for (let k = 0; k < decisions.length; k++) {
      const decision = this.readOne(words, record);
      if (decision === null) return false;
      decisions[k] = decision;
      record += size >> 2;
    }
    return true;
  }

  /**
   * One compact decision; `undefined` for an unknown route, `null` when an index is met for the first time.
   * @internal
   * @param {Int32Array} words
   * @param {number} at
   */
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
        const found = this.matched.get(target);
        if (found === undefined) return null;
        matched = found;
        this.matchedSlots[target & (KNOWN - 1)] = matched;
      }
    }
    const intended = (indices >>> 16) - 1;
    const mask = words[at + 7];
    if ((intended >= 0 && !served.intended.has(intended)) || (mask !== 0 && (mask & ~served.shadowsKnown) !== 0)) return null;
    return new Decision(served, matched, bits, words[at + 4], words[at + 5] - 1, words[at + 6] - 1, intended, mask);
  }

  /**
   * Reads decisions with their names and keeps the names.
   * @internal
   * @param {number} response
   * @param {readonly Context[]} contexts
   * @param {(Decision | undefined)[]} decisions
   */
  readFull(response, contexts, decisions) {
    const { core } = this;
    const { view } = core;
    const end = response + view.getUint32(response + 4, true);
    const fixed = view.getUint32(response + 60, true) || FIRST_FIXED;
    let record = response + view.getUint32(response, true);
    if (view.getUint32(response + 56, true) !== 0 || view.getUint32(response + 12, true) !== decisions.length) {
      throw core.malformed("the decisions are not what was asked for");
    }
    for (let k = 0; k < decisions.length; k++) {
      const size = record + 8 <= end ? view.getUint32(record, true) : 0;
      if (size < fixed || (size & 7) !== 0 || record + size > end) throw core.malformed("a decision lies outside the response");
      decisions[k] = view.getUint32(record + 4, true) === 0 ? this.readNamed(record, size, fixed, contexts[k].route) : undefined;
      record += size;
    }
  }

  /**
   * @internal
   * @param {number} record
   * @param {number} size
   * @param {number} fixed
   * @param {string} route
   */
  readNamed(record, size, fixed, route) {
    const { core } = this;
    const { view, bytes } = core;
    /** @param {number} at */
    const number = (at) => (at < fixed ? view.getUint32(record + at, true) : 0);
    /**
     * @param {number} offset
     * @param {number} length
     */
    const textAt = (offset, length) => {
      if (offset + length > size) throw core.malformed("a name lies outside its decision");
      return core.text(record + offset, length);
    };
    /** @param {number} at */
    const text = (at) => (number(at) === 0 ? undefined : textAt(number(at), number(at + 4)));
    /** @param {number} at */
    const name = (at) => textAt(number(at), number(at + 4));
    /** @param {number} at */
    const digest = (at) => hex(bytes.subarray(record + at, record + at + 32));

    const routeIndex = view.getInt32(record + 16, true);
    const variantIndex = number(20);
    const key = routeIndex * 65536 + variantIndex;
    let served = this.served.get(key);
    if (served === undefined) {
      served = {
        route,
        routeIndex,
        variantIndex,
        variant: name(24),
        model: name(32),
        version: name(40),
        payload: text(64),
        packageDigest: digest(72),
        placement: PLACEMENTS[bytes[record + 9]],
        tenant: text(128),
        user: text(136),
        intended: new Map(),
        shadows: new Map(),
        shadowsKnown: 0,
      };
      this.served.set(key, served);
    }
    const intended = number(120) - 1;
    if (intended >= 0) served.intended.set(intended, name(152));
    const target = fixed > 124 ? view.getInt32(record + 124, true) : 0;
    const matched = target === 0 && text(48) === undefined && text(56) === undefined ? NOTHING : { index: target, rule: text(48), layer: text(56) };
    if (target !== 0) this.matched.set(target, matched);
    const [shadowCount, shadowsAt] = [number(104), number(108)];
    if (shadowCount > 0 && shadowsAt + SHADOW_SIZE * shadowCount > size) throw core.malformed("a shadow lies outside its decision");
    let mask = 0;
    for (let n = 0; n < shadowCount; n++) {
      const at = shadowsAt + SHADOW_SIZE * n;
      /** @param {number} field */
      const field = (field) => view.getUint32(record + at + field, true);
      const place = bytes[record + at + 5] & 31;
      served.shadows.set(place, {
        name: textAt(field(8), field(12)),
        variant: textAt(field(16), field(20)),
        model: textAt(field(24), field(28)),
        version: textAt(field(32), field(36)),
        packageDigest: digest(at + 40),
        placement: PLACEMENTS[bytes[record + at + 4]],
        rate: field(72),
        concurrency: field(76),
        bytes: field(80),
        deadline: field(84),
      });
      mask |= 1 << place;
    }
    served.shadowsKnown |= mask;
    const bits = (bytes[record + 8] << 8) | (bytes[record + 10] << 16) | (bytes[record + 11] << 24);
    return new Decision(served, matched, bits, view.getInt32(record + 12, true), number(112) - 1, number(116) - 1, intended, mask);
  }
}

/**
 * @param {Decision | undefined} decision
 * @param {string} route
 */
function known(decision, route) {
  if (decision === undefined) throw new LockgateError("unknown_route", `the bundle has no route \`${route}\` for this caller`);
  return decision;
}

/** @param {number | bigint} now */
function badTime(now) {
  return new LockgateError("malformed_request", `${now} is no time`, "give milliseconds since 1970-01-01T00:00Z");
}

/** @param {string | Uint8Array} digest */
function digestBytes(digest) {
  if (typeof digest !== "string") {
    if (digest.length === 32) return digest;
  } else if (/^(?:[0-9a-f]{2}){32}$/i.test(digest)) {
    return Uint8Array.from({ length: 32 }, (_, k) => Number.parseInt(digest.slice(2 * k, 2 * k + 2), 16));
  }
  throw new LockgateError("malformed_request", `an unavailable package has no digest of 32 bytes: ${digest}`, "give 64 hexadecimal digits or 32 bytes");
}

/**
 * Bytes that a context needs at most: UTF-8 has at most three per UTF-16 unit.
 * @param {Context} context
 */
function roomFor(context) {
  const { route, user, symbol, tenant, session, variant, attributes } = context;
  if (typeof route !== "string") throw notText(route);
  let units = route.length;
  if (typeof user === "string") units += user.length;
  if (typeof symbol === "string") units += symbol.length;
  if (typeof tenant === "string") units += tenant.length;
  if (typeof session === "string") units += session.length;
  if (typeof variant === "string") units += variant.length;
  let room = 64 + 3 * units;
  if (attributes !== undefined) {
    for (const name in attributes) {
      const value = attributes[name];
      room += ATTRIBUTE + 3 * name.length + (typeof value === "string" ? 3 * value.length : 0);
    }
  }
  return room;
}

/** @param {unknown} value */
function notText(value) {
  return new LockgateError("malformed_request", `a field of the context is ${value === null ? "null" : typeof value}, not a string`, "leave a field out when it is unknown");
}

/**
 * Writes a text at `end`, and its place and length at the word `at`; returns where the next goes, negative when there is no room.
 * @param {Int32Array} words
 * @param {Uint8Array} bytes
 * @param {string} text
 * @param {number} at
 * @param {number} record
 * @param {number} end
 * @param {number} limit
 */
function put(words, bytes, text, at, record, end, limit) {
  if (typeof text !== "string") throw notText(text);
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

/**
 * `put` for a text that may be absent.
 * @param {Int32Array} words
 * @param {Uint8Array} bytes
 * @param {string | undefined} text
 * @param {number} at
 * @param {number} record
 * @param {number} end
 * @param {number} limit
 */
function putOptional(words, bytes, text, at, record, end, limit) {
  if (text !== undefined) return put(words, bytes, text, at, record, end, limit);
  words[at] = 0;
  return end;
}
