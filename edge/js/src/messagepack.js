// Reads MessagePack, as much of it as Lockgate's envelopes use: no extension types.

const decoder = new TextDecoder();
/** Nested deeper than this, nothing is read. */
const MAX_DEPTH = 16;

/**
 * The one value that fills `bytes`: maps become objects without a prototype, integers beyond 2^53 BigInts, binary data views.
 * @param {Uint8Array} bytes
 * @returns {unknown}
 * @throws {RangeError} Bytes that end early, go on behind the value or are nested too deep.
 */
export function readMessagePack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;

  /** @param {number} length */
  const take = (length) => {
    if (at + length > bytes.length) throw new RangeError("MessagePack ends early");
    at += length;
    return at - length;
  };
  /** @param {number} size */
  const unsigned = (size) => {
    const from = take(size);
    if (size === 8) return whole(view.getBigUint64(from));
    return size === 1 ? view.getUint8(from) : size === 2 ? view.getUint16(from) : view.getUint32(from);
  };
  /** @param {number} size */
  const signed = (size) => {
    const from = take(size);
    if (size === 8) return whole(view.getBigInt64(from));
    return size === 1 ? view.getInt8(from) : size === 2 ? view.getInt16(from) : view.getInt32(from);
  };
  /** @param {number} length */
  const binary = (length) => {
    const from = take(length);
    return bytes.subarray(from, from + length);
  };
  /** @param {number} length */
  const text = (length) => decoder.decode(binary(length));
  /**
   * @param {number} length
   * @param {number} depth
   */
  const array = (length, depth) => {
    const items = [];
    for (let k = 0; k < length; k++) items.push(value(depth));
    return items;
  };
  /**
   * @param {number} length
   * @param {number} depth
   */
  const map = (length, depth) => {
    const object = Object.create(null);
    for (let k = 0; k < length; k++) {
      const key = value(depth);
      object[String(key)] = value(depth);
    }
    return object;
  };
  /**
   * @param {number} depth
   * @returns {unknown}
   */
  const value = (depth) => {
    if (depth === 0) throw new RangeError("MessagePack is nested too deep");
    const marker = bytes[take(1)];
    if (marker < 0x80) return marker;
    if (marker < 0x90) return map(marker & 15, depth - 1);
    if (marker < 0xa0) return array(marker & 15, depth - 1);
    if (marker < 0xc0) return text(marker & 31);
    if (marker >= 0xe0) return marker - 256;
    switch (marker) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: case 0xc5: case 0xc6: return binary(Number(unsigned(1 << (marker - 0xc4))));
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: case 0xcd: case 0xce: case 0xcf: return unsigned(1 << (marker - 0xcc));
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: return signed(1 << (marker - 0xd0));
      case 0xd9: case 0xda: case 0xdb: return text(Number(unsigned(1 << (marker - 0xd9))));
      case 0xdc: case 0xdd: return array(Number(unsigned(2 << (marker - 0xdc))), depth - 1);
      case 0xde: case 0xdf: return map(Number(unsigned(2 << (marker - 0xde))), depth - 1);
      default: throw new RangeError(`MessagePack has no type ${marker}`);
    }
  };

  const result = value(MAX_DEPTH);
  if (at !== bytes.length) throw new RangeError("MessagePack goes on behind its value");
  return result;
}

/** @param {bigint} value */
function whole(value) {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
