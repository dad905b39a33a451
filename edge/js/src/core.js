// An instance of a core module behind the flat entry point (docs/abi.md): one copy in, one call, and what it answered.
//
// An instance that trapped, or answered nonsense, is never called again. Its loss costs one request: the next one makes a new
// instance and loads into it what the old one had.

import { LockgateError, codeOf } from "./errors.js";

const decoder = new TextDecoder();

/** The major version of the flat entry point that this package speaks. */
export const ABI_MAJOR = 1;

/** More packages than any module has room for. */
const MOST_BAKED = 65536;

/** What `lockgate_reserve` gives at least. */
const LEAST = 65536;
const HEADER = 64;

// What an instance that is lost leaves behind: reading it finds nothing, and every write begins with `reserve`.
const NO_BUFFER = new ArrayBuffer(0);
const NO_BYTES = new Uint8Array(NO_BUFFER);
const NO_VIEW = new DataView(NO_BUFFER);
const NO_WORDS = new Int32Array(NO_BUFFER);
const NO_FLOATS = new Float32Array(NO_BUFFER);
const NO_LONGS = new BigInt64Array(NO_BUFFER);

/**
 * @typedef {object} Exports What this package calls of a core module.
 * @property {WebAssembly.Memory} memory
 * @property {() => number} lockgate_abi
 * @property {(length: number) => number} lockgate_reserve
 * @property {(length: number) => number} lockgate_load
 * @property {(index: number) => number} [lockgate_loaded] Since 1.2.
 */

/**
 * @typedef {object} Loaded What a module answered to a bundle, a unit list or a package.
 * @property {number} count The handle of a package; of a unit list, how many wait.
 * @property {bigint} version The bundle's version; 0 from an inference module.
 * @property {string} digest Of the bundle or package, in hexadecimal.
 */

/**
 * The identity of a module, as its build recorded it, in hexadecimal; `undefined` when it records none. Baking keeps it.
 * @param {WebAssembly.Module} module
 */
export function identityOf(module) {
  const [section] = WebAssembly.Module.customSections(module, "lockgate-identity");
  return section === undefined ? undefined : hex(new Uint8Array(section));
}

/** @param {Uint8Array} bytes */
export function hex(bytes) {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/**
 * A core module at work.
 * @internal
 */
export class Core {
  /**
   * @param {WebAssembly.Module} module
   * @param {"lockgate_decide" | "lockgate_predict"} entryName
   * @param {readonly Uint8Array[]} contents What to load, in this order. They are kept for the next instance.
   */
  constructor(module, entryName, contents) {
    this.module = module;
    this.entryName = entryName;
    this.contents = contents;
    this.identity = identityOf(module);
    /** How many instances were made. */
    this.instances = 0;
    /**
     * What the module held when it woke up, because it was baked.
     * @type {Loaded[]}
     */
    this.baked = [];
    /**
     * What became of `contents`.
     * @type {Loaded[]}
     */
    this.loaded = [];
    /** @type {Exports | undefined} */
    this.exports = undefined;
    /** @type {(length: number) => number} */
    this.entry = () => 0;
    /** @type {ArrayBuffer} */
    this.buffer = NO_BUFFER;
    this.bytes = NO_BYTES;
    this.view = NO_VIEW;
    this.words = NO_WORDS;
    this.floats = NO_FLOATS;
    this.longs = NO_LONGS;
    this.address = 0;
    this.capacity = 0;
    /**
     * Whose constant parts lie in the input buffer, so that they need not be written again.
     * @type {unknown}
     */
    this.holds = undefined;
    this.start();
  }

  /** Makes an instance and loads everything into it. */
  start() {
    const { module, entryName } = this;
    let exports;
    try {
      exports = new WebAssembly.Instance(module, {}).exports;
    } catch (error) {
      if (error instanceof WebAssembly.LinkError || error instanceof TypeError) throw notCore(String(error), error);
      throw new LockgateError("limit_exceeded", `no instance of the module could be made: ${error}`, "free memory", error);
    }
    const { memory, lockgate_abi, lockgate_reserve, lockgate_load, [entryName]: entry } = exports;
    if (!(memory instanceof WebAssembly.Memory)) throw notCore("it exports no memory");
    for (const [name, value] of Object.entries({ lockgate_abi, lockgate_reserve, lockgate_load, [entryName]: entry })) {
      if (typeof value !== "function") throw notCore(`it does not export ${name}`);
    }
    this.exports = /** @type {Exports} */ (/** @type {unknown} */ (exports));
    this.entry = /** @type {(length: number) => number} */ (entry);
    this.instances += 1;
    const abi = this.guard(() => /** @type {Exports} */ (this.exports).lockgate_abi());
    if (abi >>> 16 !== ABI_MAJOR) {
      this.drop();
      throw new LockgateError(
        "unsupported_abi",
        `the module speaks version ${abi >>> 16}.${abi & 0xffff} of the flat entry point, this package speaks ${ABI_MAJOR}.x`,
        "use modules and package of one release",
      );
    }
    this.refresh();
    try {
      this.baked = this.held();
      this.loaded = this.contents.map((bytes) => this.load(bytes));
    } catch (error) {
      this.drop();
      throw error;
    }
  }

  /** Takes new views: any call may have grown the memory, which detaches the old ones and leaves them empty. */
  refresh() {
    if (this.exports === undefined || this.bytes.length !== 0) return;
    const { buffer } = this.exports.memory;
    this.buffer = buffer;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.words = new Int32Array(buffer);
    this.floats = new Float32Array(buffer);
    this.longs = new BigInt64Array(buffer);
  }

  /** Forgets the instance. */
  drop() {
    this.exports = undefined;
    this.buffer = NO_BUFFER;
    this.bytes = NO_BYTES;
    this.view = NO_VIEW;
    this.words = NO_WORDS;
    this.floats = NO_FLOATS;
    this.longs = NO_LONGS;
    this.capacity = 0;
    this.holds = undefined;
  }

  /**
   * Makes room for a request and returns its address.
   * @param {number} length
   */
  reserve(length) {
    if (length > this.capacity) this.grow(length);
    return this.address;
  }

  /** @param {number} length */
  grow(length) {
    if (length > 0x7fffffff) throw tooLarge(length);
    if (this.exports === undefined) this.start();
    this.holds = undefined;
    this.capacity = 0;
    const address = this.guard(() => /** @type {Exports} */ (this.exports).lockgate_reserve(length)) >>> 0;
    if (address === 0) throw tooLarge(length);
    this.refresh();
    const capacity = Math.max(length, LEAST);
    if ((address & 63) !== 0 || address + capacity > this.bytes.length) {
      throw this.malformed("the input buffer lies outside the memory or is not aligned");
    }
    this.address = address;
    this.capacity = capacity;
  }

  /**
   * Hands a bundle, a unit list or a package over.
   * @param {Uint8Array} bytes
   * @returns {Loaded}
   */
  load(bytes) {
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
    this.holds = undefined;
    // The module takes the buffer, and with it the room.
    this.capacity = 0;
    const address = this.guard(() => /** @type {Exports} */ (this.exports).lockgate_load(bytes.length));
    return this.summary(this.check(address));
  }

  /** What the instance holds without having been given anything. */
  held() {
    /** @type {Loaded[]} */
    const found = [];
    const loaded = this.exports?.lockgate_loaded;
    // Before 1.2 nothing could be baked.
    if (typeof loaded !== "function") return found;
    const most = this.entryName === "lockgate_decide" ? 1 : MOST_BAKED;
    while (found.length < most) {
      const address = this.guard(() => loaded(found.length));
      try {
        found.push(this.summary(this.check(address)));
      } catch (error) {
        if (error instanceof LockgateError && error.code === "not_loaded") break;
        throw error;
      }
    }
    return found;
  }

  /**
   * What a response's header says of the content that answered.
   * @param {number} response
   * @returns {Loaded}
   */
  summary(response) {
    const { view, bytes } = this;
    return {
      count: view.getUint32(response + 12, true),
      version: view.getBigUint64(response + 16, true),
      digest: hex(bytes.subarray(response + 24, response + 56)),
    };
  }

  /**
   * Calls decide or predict with the request that lies in the input buffer; returns the response's address.
   * @param {number} length
   */
  call(length) {
    let address = 0;
    try {
      address = this.entry(length);
    } catch (error) {
      throw this.trapped(error);
    }
    return this.check(address);
  }

  /**
   * The response's address once it is known to lie within the memory and to be no failure.
   * @param {number} address
   */
  check(address) {
    address >>>= 0;
    if (this.bytes.length === 0) this.refresh();
    const { words, bytes } = this;
    const { length } = bytes;
    if (address + HEADER > length || (address & 3) !== 0) throw this.malformed("the response lies outside the memory");
    const at = address >> 2;
    const header = words[at] >>> 0;
    const total = words[at + 1] >>> 0;
    if (header < HEADER || (header & 7) !== 0 || total < header || address + total > length) {
      throw this.malformed("the response's sizes make no sense");
    }
    if (words[at + 2] !== 0) throw this.failure(address, header, total);
    return address;
  }

  /**
   * @param {number} address
   * @param {number} header
   * @param {number} total
   */
  failure(address, header, total) {
    const { view, bytes } = this;
    const code = codeOf(view.getUint32(address + 8, true));
    if (code === undefined) return this.malformed("the status is no error code of this ABI");
    const end = address + total;
    let at = address + header;
    const texts = ["", ""];
    for (let k = 0; k < 2; k++) {
      const length = at + 4 <= end ? view.getUint32(at, true) : Infinity;
      if (at + 4 + length > end) return this.malformed("the texts of an error lie outside the response");
      texts[k] = decoder.decode(bytes.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    // A module with a defect may be in any state.
    if (code === "internal") this.drop();
    return new LockgateError(code, texts[0], texts[1]);
  }

  /**
   * @template T
   * @param {() => T} call
   */
  guard(call) {
    try {
      return call();
    } catch (error) {
      throw this.trapped(error);
    }
  }

  /** @param {unknown} error */
  trapped(error) {
    this.drop();
    const message = `the module trapped: ${error instanceof Error ? error.message : error}`;
    return new LockgateError("trapped", message, "its next call runs in a new instance", error);
  }

  /** @param {string} problem */
  malformed(problem) {
    this.drop();
    return new LockgateError("malformed_response", problem, "the module's next call runs in a new instance");
  }

  /**
   * Whether `text` is what lies there; for ASCII only, where a byte is a UTF-16 unit.
   * @param {number} at
   * @param {number} length
   * @param {string} text
   */
  isText(at, length, text) {
    const { bytes } = this;
    if (text.length !== length) return false;
    for (let k = 0; k < length; k++) if (text.charCodeAt(k) !== bytes[at + k]) return false;
    return true;
  }

  /**
   * @param {number} at
   * @param {number} length
   */
  text(at, length) {
    return decoder.decode(this.bytes.subarray(at, at + length));
  }
}

/**
 * @param {string} problem
 * @param {unknown} [cause]
 */
function notCore(problem, cause) {
  return new LockgateError("invalid_module", `not a core module of Lockgate: ${problem}`, "take the modules of a release", cause);
}

/** @param {number} length */
function tooLarge(length) {
  return new LockgateError("limit_exceeded", `the module has no room for ${length} bytes`, "send fewer rows or contexts at once");
}
