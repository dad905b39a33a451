// Tensors: the ABI's datatypes, what JavaScript holds them in, and their bytes.

import { LockgateError } from "./errors.js";

/**
 * @typedef {"BOOL" | "UINT8" | "UINT16" | "UINT32" | "UINT64" | "INT8" | "INT16" | "INT32" | "INT64" | "FP16" | "FP32" | "FP64" |
 *   "BYTES"} DatatypeName As the Open Inference Protocol calls them.
 * @typedef {Uint8Array | Uint16Array | Uint32Array | BigUint64Array | Int8Array | Int16Array | Int32Array | BigInt64Array |
 *   Float32Array | Float64Array} Elements The elements of a tensor that is not BYTES.
 */

/**
 * Elements as a caller may give them. A typed array must be the datatype's own: BOOL `Uint8Array` of 0 and 1, UINT8 … INT64 the array
 * of that name (64 bits: `BigUint64Array`, `BigInt64Array`), FP16 `Uint16Array` of bit patterns, FP32 `Float32Array`, FP64
 * `Float64Array`. It is written as it is. A plain array is converted, and refused where a value does not fit; BYTES takes strings, which
 * become UTF-8, and `Uint8Array`s.
 * @typedef {Elements | readonly (number | bigint | boolean | string | Uint8Array)[]} ElementsIn
 */

/**
 * @typedef {object} TensorIn An input.
 * @property {ElementsIn} data Row-major.
 * @property {readonly number[]} [shape] May be left out where the model's signature has at most one free dimension.
 * @property {DatatypeName} [datatype] The signature's by default.
 */

/**
 * @typedef {object} Tensor An output.
 * @property {string} name
 * @property {DatatypeName} datatype
 * @property {number[]} shape
 * @property {Elements | (string | Uint8Array)[]} data As for inputs; an element of BYTES is a string when it is UTF-8.
 */

/**
 * A row of the table of datatypes.
 * @typedef {object} Datatype
 * @property {DatatypeName} name
 * @property {number} number The ABI's.
 * @property {number} size Bytes of an element; 1 for BYTES, whose elements have none of their own.
 * @property {{ new (length: number): Elements; new (buffer: ArrayBuffer, offset?: number, length?: number): Elements }} type
 */

/** @type {readonly [DatatypeName, number, unknown][]} */
const ROWS = [
  ["BOOL", 1, Uint8Array],
  ["UINT8", 1, Uint8Array],
  ["UINT16", 2, Uint16Array],
  ["UINT32", 4, Uint32Array],
  ["UINT64", 8, BigUint64Array],
  ["INT8", 1, Int8Array],
  ["INT16", 2, Int16Array],
  ["INT32", 4, Int32Array],
  ["INT64", 8, BigInt64Array],
  ["FP16", 2, Uint16Array],
  ["FP32", 4, Float32Array],
  ["FP64", 8, Float64Array],
  ["BYTES", 1, Uint8Array],
];

/**
 * By the ABI's numbers, which begin at 1.
 * @type {readonly (Datatype | undefined)[]}
 */
export const DATATYPES = [
  undefined,
  ...ROWS.map(([name, size, type], index) => ({ name, number: index + 1, size, type: /** @type {Datatype["type"]} */ (type) })),
];

/** @type {ReadonlyMap<string, Datatype>} */
const BY_NAME = new Map(DATATYPES.flatMap((datatype) => (datatype === undefined ? [] : [[datatype.name, datatype]])));

export const BYTES = /** @type {Datatype} */ (BY_NAME.get("BYTES"));
export const FP32 = /** @type {Datatype} */ (BY_NAME.get("FP32"));
export const INT64 = /** @type {Datatype} */ (BY_NAME.get("INT64"));

/**
 * @param {string} name
 * @param {string} tensor
 */
export function datatypeOf(name, tensor) {
  const datatype = BY_NAME.get(name);
  if (datatype === undefined) throw invalid(tensor, `has the datatype \`${name}\``, `use one of ${[...BY_NAME.keys()].join(", ")}`);
  return datatype;
}

/**
 * An error about an input.
 * @param {string} tensor
 * @param {string} problem
 * @param {string} hint
 */
export function invalid(tensor, problem, hint) {
  return new LockgateError("invalid_input", `input \`${tensor}\` ${problem}`, hint);
}

const encoder = new TextEncoder();
const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Smallest and largest value of the whole numbers that a plain array may hold. */
const RANGES = new Map(
  [8, 16, 32].flatMap((bits) => [
    [`UINT${bits}`, [0, 2 ** bits - 1]],
    [`INT${bits}`, [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]],
  ]),
);

/**
 * The elements as the module takes them.
 * @param {string} tensor Its name, for errors.
 * @param {Datatype} datatype
 * @param {ElementsIn} data
 * @returns {{ elements: Elements, count: number }} `count` elements; those of BYTES each after its length.
 */
export function encode(tensor, datatype, data) {
  if (datatype === BYTES) {
    if (!Array.isArray(data)) throw invalid(tensor, `is BYTES and was given ${kindOf(data)}`, "give an array of strings or Uint8Arrays");
    return { elements: encodeByteStrings(tensor, data), count: data.length };
  }
  if (data instanceof datatype.type) return { elements: data, count: data.length };
  if (!Array.isArray(data)) {
    throw invalid(tensor, `is ${datatype.name} and was given ${kindOf(data)}`, `give ${datatype.type.name}, or a plain array to have it converted`);
  }
  const elements = new datatype.type(data.length);
  for (let k = 0; k < data.length; k++) {
    const value = convert(datatype, data[k]);
    if (value === undefined) {
      throw invalid(tensor, `is ${datatype.name} and element ${k} is ${typeof data[k]} ${String(data[k]).slice(0, 40)}`, "give values that the datatype can hold");
    }
    elements[k] = value;
  }
  return { elements, count: data.length };
}

/**
 * @param {Datatype} datatype
 * @param {unknown} value
 * @returns {any} `undefined` when the datatype cannot hold it.
 */
function convert({ name }, value) {
  switch (name) {
    case "BOOL":
      return typeof value === "boolean" ? Number(value) : value === 0 || value === 1 ? value : undefined;
    case "UINT64":
    case "INT64": {
      const whole = typeof value === "bigint" ? value : Number.isSafeInteger(value) ? BigInt(/** @type {number} */ (value)) : undefined;
      const cut = whole === undefined ? undefined : name === "INT64" ? BigInt.asIntN(64, whole) : BigInt.asUintN(64, whole);
      return cut === whole ? whole : undefined;
    }
    case "FP16":
      return typeof value === "number" ? toFloat16(value) : undefined;
    case "FP32":
    case "FP64":
      return typeof value === "number" ? value : undefined;
    default: {
      const [least, most] = RANGES.get(name) ?? [0, -1];
      return typeof value === "number" && Number.isInteger(value) && value >= least && value <= most ? value : undefined;
    }
  }
}

/**
 * @param {string} tensor
 * @param {readonly unknown[]} values
 */
function encodeByteStrings(tensor, values) {
  const parts = values.map((value, k) => {
    if (typeof value === "string") return encoder.encode(value);
    if (value instanceof Uint8Array) return value;
    throw invalid(tensor, `is BYTES and element ${k} is ${typeof value}`, "give strings or Uint8Arrays");
  });
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    bytes.set(part, at + 4);
    at += 4 + part.length;
  }
  return bytes;
}

/**
 * The elements of a BYTES tensor: strings where they are UTF-8, copies of the bytes elsewhere. `undefined` when they do not fill
 * the bytes or are not `count`.
 * @param {Uint8Array} bytes
 * @param {number} count
 * @returns {(string | Uint8Array)[] | undefined}
 */
export function decodeByteStrings(bytes, count) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  /** @type {(string | Uint8Array)[]} */
  const elements = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 4 > bytes.length) return undefined;
    const end = at + 4 + view.getUint32(at, true);
    if (end > bytes.length) return undefined;
    const element = bytes.subarray(at + 4, end);
    try {
      elements.push(strict.decode(element));
    } catch {
      elements.push(element.slice());
    }
    at = end;
  }
  return elements.length === count ? elements : undefined;
}

/** @param {unknown} data */
function kindOf(data) {
  return data === null || typeof data !== "object" ? String(typeof data) : (data.constructor?.name ?? "an object");
}

/**
 * The bits of the half-precision number that is nearest; of two equally near, the even one.
 * @param {number} value
 */
export function toFloat16(value) {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  // Half of the last place above the largest number.
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundToEven(magnitude * 2 ** 24);
  let exponent = Math.floor(Math.log2(magnitude));
  if (2 ** exponent > magnitude) exponent -= 1;
  // A significand that is rounded up to 2 carries into the exponent as it should.
  return sign | (((exponent + 15) << 10) + roundToEven(magnitude * 2 ** (10 - exponent)) - 1024);
}

/** @param {number} value */
function roundToEven(value) {
  const below = Math.floor(value);
  const above = value - below > 0.5 || (value - below === 0.5 && below % 2 === 1);
  return above ? below + 1 : below;
}

/**
 * The number that half-precision bits mean.
 * @param {number} bits
 */
export function fromFloat16(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const significand = bits & 1023;
  if (exponent === 31) return significand === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * significand * 2 ** -24 : sign * (1024 + significand) * 2 ** (exponent - 25);
}
