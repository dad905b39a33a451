// What the shell, in Rust, cannot do itself: hold instances of the core modules and call their flat entry point (docs/abi.md), and cross
// into the runtime's API with few calls.
//
// All of this is JavaScript's state. It outlives a shell that trapped and was made anew, so a core is named by a number here, and the new
// shell finds the cores that the old one had loaded.

import policyModule from "./policy.wasm";
import inferenceModule from "./inference.wasm";
import catalogText from "./catalog.json";
import manifestText from "./manifest.json";

const MODULES = [policyModule, inferenceModule];
const ENTRIES = ["lockgate_decide", "lockgate_predict"];
const IDENTITY = "lockgate-identity";

/** The size of a response's header, and where its size and status stand. */
const HEADER = 64;
const TOTAL_AT = 4;
const STATUS_AT = 8;

/** Bytes to read of a body that is too long, so that the connection can be used again. */
const IGNORED_BODY = 1 << 16;

/** Pages that a module with room left can still have: 4 MiB. */
const ROOM = 64;

// What a call returns instead of a response's length.
const TRAPPED = -1;
const NO_ROOM = -2;
const OUT_OF_MEMORY = -3;
const MALFORMED = -4;
const UNKNOWN = -5;

const cores = new Map();
let nextCore = 1;
let made = 0;
let lost = 0;
let lastFault = "";

/** A module at work. Its instance is made by the first call; after a trap, the next call makes another and loads it as the first was. */
class Core {
  constructor(which) {
    this.which = which;
    /** What was loaded, in order; copies, because the shell's memory moves. */
    this.contents = [];
    this.drop();
  }

  drop() {
    this.exports = undefined;
    this.entry = undefined;
    this.bytes = undefined;
    this.address = 0;
    this.capacity = 0;
    this.response = 0;
    this.length = 0;
  }

  start() {
    const { exports } = new WebAssembly.Instance(MODULES[this.which], {});
    this.exports = exports;
    this.entry = exports[ENTRIES[this.which]];
    made += 1;
    for (const content of this.contents) {
      const length = this.answer(this.write(content) ?? exports.lockgate_load(content.length));
      this.capacity = 0;
      if (this.status() !== 0) throw new Error(`the module refused what it had accepted before (${length} bytes)`);
    }
  }

  /** The memory as it is now: growing it detaches what was taken before. */
  memory() {
    if (this.bytes === undefined || this.bytes.length === 0) this.bytes = new Uint8Array(this.exports.memory.buffer);
    return this.bytes;
  }

  /** Copies a request into the input buffer. Returns 0, the address of no response, when there is no room. */
  write(request) {
    if (request.length > this.capacity) {
      this.capacity = 0;
      this.address = this.exports.lockgate_reserve(request.length) >>> 0;
      if (this.address === 0) return 0;
      this.capacity = request.length;
    }
    this.memory().set(request, this.address);
    return undefined;
  }

  /** Where a response lies and how long it is, once it is known to lie within the memory. */
  answer(address) {
    const at = address >>> 0;
    if (at === 0) return NO_ROOM;
    const memory = this.memory();
    const length = at + HEADER <= memory.length ? word(memory, at + TOTAL_AT) : 0;
    if (length < HEADER || at + length > memory.length) return MALFORMED;
    this.response = at;
    this.length = length;
    return length;
  }

  status() {
    return word(this.memory(), this.response + STATUS_AT);
  }

  /** Whether the memory is at its limit, which is linked into the module, or too near to it for what was asked. */
  isFull() {
    try {
      this.exports.memory.grow(ROOM);
      return false;
    } catch {
      return true;
    }
  }

  guarded(call) {
    lastFault = "";
    try {
      if (this.exports === undefined) this.start();
      return call(this.exports);
    } catch (error) {
      lastFault = String(error);
      const full = this.exports === undefined || this.isFull();
      this.lose();
      return full ? OUT_OF_MEMORY : TRAPPED;
    }
  }

  lose() {
    if (this.exports !== undefined) lost += 1;
    this.drop();
  }
}

function word(bytes, at) {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}

/** A new core of the policy (0) or the inference module (1), which holds what its module was baked with. */
export function openCore(which) {
  const id = nextCore++;
  cores.set(id, new Core(which));
  return id;
}

/** Forgets all cores but these two. */
export function keepCores(policy, inference) {
  for (const id of cores.keys()) if (id !== policy && id !== inference) cores.delete(id);
}

/** Forgets one core. */
export function closeCore(id) {
  cores.delete(id);
}

/** Loads a bundle, a unit list or a package; the length of the response, which `takeResponse` copies. */
export function loadCore(id, content) {
  const core = cores.get(id);
  if (core === undefined) return UNKNOWN;
  const copy = content.slice();
  const length = core.guarded((exports) => {
    const refused = core.write(copy);
    if (refused !== undefined) return NO_ROOM;
    const length = core.answer(exports.lockgate_load(copy.length));
    // The module takes the buffer with what lies in it.
    core.capacity = 0;
    return length;
  });
  if (length === MALFORMED) core.lose();
  if (length > 0 && core.status() === 0) core.contents.push(copy);
  return length;
}

/** Decides or predicts; the length of the response, which is copied at once where it fits. */
export function callCore(id, request, into) {
  const core = cores.get(id);
  if (core === undefined) return UNKNOWN;
  const length = core.guarded(() => {
    const refused = core.write(request);
    if (refused !== undefined) return NO_ROOM;
    return core.answer(core.entry(request.length));
  });
  if (length === MALFORMED) core.lose();
  if (length > 0 && length <= into.length) into.set(core.memory().subarray(core.response, core.response + length));
  return length;
}

/** What a core holds as its content number `index`; the length of the response. */
export function coreLoaded(id, index) {
  const core = cores.get(id);
  if (core === undefined) return UNKNOWN;
  return core.guarded((exports) => core.answer(exports.lockgate_loaded(index)));
}

/** Copies the last response, which did not fit before. */
export function takeResponse(id, into) {
  const core = cores.get(id);
  into.set(core.memory().subarray(core.response, core.response + core.length));
}

/** Drops the instance: what it answered made no sense. */
export function dropCore(id) {
  cores.get(id)?.lose();
}

/** What the last call threw. */
export function coreFault() {
  return lastFault;
}

/** One of the contents of a core, or nothing. */
export function coreContent(id, index) {
  return cores.get(id)?.contents[index];
}

/** The identity that the build recorded in a module, and that baking keeps. */
export function coreIdentity(which) {
  const [section] = WebAssembly.Module.customSections(MODULES[which], IDENTITY);
  return new Uint8Array(section ?? 0);
}

/** How many instances were made and lost, how many cores there are, and the bytes of their memories. */
export function coreFigures() {
  let memory = 0;
  let live = 0;
  for (const core of cores.values()) {
    if (core.exports === undefined) continue;
    live += 1;
    memory += core.exports.memory.buffer.byteLength;
  }
  return new Float64Array([made, lost, live, memory]);
}

/** The names of a baked bundle, or `null`. */
export function bakedCatalog() {
  return catalogText;
}

/** What the modules are. */
export function moduleManifest() {
  return manifestText;
}

/** A variable or secret as text; what `wrangler.toml` has as a number, a table or a list arrives as JSON. */
export function setting(env, name) {
  const value = env[name];
  if (value === undefined || value === null || typeof value === "string") return value ?? undefined;
  return JSON.stringify(value);
}

/** Whether there is a binding of this name. */
export function hasBinding(env, name) {
  return env[name] !== undefined;
}

/** A value of KV: its bytes, nothing when there is none, or why it cannot be read. `age` bounds how old a cached one may be, in seconds. */
export async function readKv(env, key, age) {
  return read(async () => await env.POLICY.get(key, { type: "arrayBuffer", cacheTtl: age }));
}

/** An object of R2, likewise. */
export async function readBucket(env, key) {
  return read(async () => await (await env.PACKAGES.get(key))?.arrayBuffer());
}

async function read(get) {
  try {
    const buffer = await get();
    return buffer ? new Uint8Array(buffer) : undefined;
  } catch (error) {
    return String(error);
  }
}

/** Whether a path can be put behind this address. */
export function isAddress(text) {
  const url = URL.parse(text);
  return url !== null && /^https?:$/.test(url.protocol) && url.search === "" && url.hash === "";
}

/** The names of the variables and secrets that are meant for Lockgate, a line each. */
export function settingNames(env) {
  return Object.keys(env).filter((name) => name.startsWith("LOCKGATE_")).join("\n");
}

const kept = new Map();

/** Keeps bytes for the next shell. */
export function keep(name, bytes) {
  kept.set(name, bytes.slice());
}

/** What was kept under a name. */
export function recall(name) {
  return kept.get(name);
}

/**
 * The head of a request in one string, method, path, then names and values of headers in turn, a line each; and how long it says that its
 * body is.
 */
export function headOf(request) {
  const { url } = request;
  const start = url.indexOf("/", url.indexOf("//") + 2);
  const query = url.indexOf("?", start);
  let head = `${request.method}\n${start < 0 ? "/" : query < 0 ? url.slice(start) : url.slice(start, query)}`;
  let announced;
  for (const [name, value] of request.headers) {
    head += `\n${name}\n${value}`;
    if (name === "content-length") announced = Number(value);
  }
  return { head, announced };
}

/** A promise of a body, all of it if it has at most `limit` bytes. */
export function bodyOf(request, announced, limit) {
  // Without asking for the stream, which would have to be made; neither does a request without a body have one.
  if (announced <= limit || request.body === null) return request.arrayBuffer();
  return some(request.body, announced === undefined ? limit : IGNORED_BODY).then((bytes) => bytes.buffer);
}

/** What a stream gives, at most `limit` bytes, and some more when there is more. */
async function some(stream, limit) {
  const parts = [];
  let length = 0;
  const reader = stream.getReader();
  while (length <= limit) {
    const { done, value } = await reader.read();
    if (done) return joined(parts, length);
    parts.push(value);
    length += value.length;
  }
  await reader.cancel().catch(() => {});
  return joined(parts, length);
}

function joined(parts, length) {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A response of bytes; `headers` are names and values in turn, a line each. */
export function respond(status, headers, body) {
  return responseOf(status, headers, body.slice());
}

/** A response of text. */
export function respondText(status, headers, body) {
  return responseOf(status, headers, body);
}

function responseOf(status, headers, body) {
  // An object, not pairs: the runtime reads those through iterators.
  const fields = {};
  const lines = headers.split("\n");
  for (let at = 0; at + 1 < lines.length; at += 2) {
    const name = lines[at];
    fields[name] = name in fields ? `${fields[name]}, ${lines[at + 1]}` : lines[at + 1];
  }
  return new Response(status === 204 || status === 304 ? null : body, { status, headers: fields });
}

/**
 * Sends a request to the origin: through a service binding where there is one, else to the URL. `[status, length of the JSON, body]`; the
 * status is 0 when there was no answer, and -1 when there was none in time, with the reason beside it.
 */
export async function fetchOrigin(service, url, headers, body, timeout, limit) {
  const lines = headers.split("\n");
  const pairs = [];
  for (let at = 0; at + 1 < lines.length; at += 2) pairs.push([lines[at], lines[at + 1]]);
  const signal = AbortSignal.timeout(timeout);
  const init = { method: "POST", headers: pairs, body: body.slice(), redirect: "manual", signal };
  try {
    const response = await (service ?? globalThis).fetch(url, init);
    const bytes = await bounded(response, limit);
    return [response.status, response.headers.get("inference-header-content-length") ?? "", bytes];
  } catch (error) {
    return [signal.aborted ? -1 : 0, String(error), new Uint8Array(0)];
  }
}

async function bounded(response, limit) {
  const bytes = response.body === null ? new Uint8Array(0) : await some(response.body, limit);
  if (bytes.length > limit) throw new Error(`the origin's answer is larger than ${limit} bytes`);
  return bytes;
}

const ALGORITHMS = {
  HS256: { name: "HMAC", hash: "SHA-256" },
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  ES256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  EdDSA: { name: "Ed25519" },
};

const keys = new Map();

async function imported(format, key, algorithm, id) {
  let found = keys.get(id);
  if (found === undefined) {
    found = await crypto.subtle.importKey(format, key, algorithm, false, ["verify"]);
    if (keys.size > 64) keys.clear();
    keys.set(id, found);
  }
  return found;
}

/** Whether a signature by a JSON Web Key holds. A key that cannot be used holds nothing. */
export async function verifyJwk(name, jwk, input, signature) {
  const algorithm = ALGORITHMS[name];
  if (algorithm === undefined) return false;
  const [signed, mark] = [input.slice(), signature.slice()];
  try {
    return await crypto.subtle.verify(algorithm, await imported("jwk", JSON.parse(jwk), algorithm, `${name} ${jwk}`), mark, signed);
  } catch (error) {
    console.error(`a ${name} signature could not be checked: ${error}`);
    return false;
  }
}

/** Whether an Ed25519 signature holds. */
export async function verifyEd25519(key, statement, signature) {
  const [raw, signed, mark] = [key.slice(), statement.slice(), signature.slice()];
  try {
    return await crypto.subtle.verify("Ed25519", await imported("raw", raw, "Ed25519", raw.join()), mark, signed);
  } catch (error) {
    console.error(`a signature could not be checked: ${error}`);
    return false;
  }
}

/** Random bytes that wait to be used: asking for many takes as long as asking for few. */
const randomness = new Uint8Array(4096);
let used = randomness.length;

/** Sixteen random bytes. */
export function random(into) {
  if (used + into.length > randomness.length) {
    crypto.getRandomValues(randomness);
    used = 0;
  }
  into.set(randomness.subarray(used, used + into.length));
  used += into.length;
}
