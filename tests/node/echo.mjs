// A core module made by hand whose predictions are their inputs, so that every datatype can travel both ways, which no model takes.
// The response of the flat entry point to a request has the request's own form. It grows its memory at every call.

const encoder = new TextEncoder();
const leb = (value) => {
  const bytes = [];
  do {
    bytes.push((value & 127) | (value > 127 ? 128 : 0));
    value >>>= 7;
  } while (value > 0);
  return bytes;
};
const signed = (value) => {
  const bytes = [];
  for (;;) {
    const byte = value & 127;
    value >>= 7;
    if ((value === 0 && (byte & 64) === 0) || (value === -1 && (byte & 64) !== 0)) return [...bytes, byte];
    bytes.push(byte | 128);
  }
};
const vector = (items) => [...leb(items.length), ...items.flat()];
const section = (id, bytes) => [id, ...leb(bytes.length), ...bytes];
const text = (name) => vector([...encoder.encode(name)]);
const body = (code) => {
  const bytes = [0, ...code, 0x0b];
  return [...leb(bytes.length), ...bytes];
};
const constant = (value) => [0x41, ...signed(value)];

/** Where the input buffer lies, which is where the response lies. */
const BUFFER = 65536;

/** @param {{ abi?: number, predict?: number[], exports?: string[] }} options `predict`: the code in place of the echo. */
export function echoModule({ abi = 0x00010001, predict, exports = undefined } = {}) {
  const grow = [...constant(1), 0x40, 0, 0x1a];
  const functions = [
    ["lockgate_abi", 0, constant(abi)],
    // As many pages more as the request has, and one.
    ["lockgate_reserve", 1, [0x20, 0, ...constant(16), 0x76, ...constant(1), 0x6a, 0x40, 0, 0x1a, ...constant(BUFFER)]],
    ["lockgate_load", 1, [...grow, ...constant(0)]],
    ["lockgate_predict", 1, predict ?? [...grow, ...constant(BUFFER)]],
    ["lockgate_decide", 1, [...grow, ...constant(BUFFER)]],
  ];
  const wanted = functions.filter(([name]) => exports === undefined || exports.includes(name));
  const loaded = new Uint8Array(64);
  new Uint32Array(loaded.buffer).set([64, 64]);
  return new WebAssembly.Module(
    Uint8Array.from([
      0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
      ...section(1, vector([[0x60, 0, 1, 0x7f], [0x60, 1, 0x7f, 1, 0x7f]])),
      ...section(3, vector(functions.map(([, type]) => [type]))),
      ...section(5, vector([[0, 2]])),
      ...section(7, vector([[...text("memory"), 2, 0], ...wanted.map(([name]) => [...text(name), 0, functions.findIndex(([other]) => other === name)])])),
      ...section(10, vector(functions.map(([, , code]) => body(code)))),
      ...section(11, vector([[0, ...constant(0), 0x0b, ...vector([...loaded])]])),
    ]),
  );
}

/** MessagePack, of objects, arrays, texts, whole numbers, truth values and bytes. */
function pack(value) {
  const sized = (length, markers) => {
    if (length < 256 && markers[0] !== undefined) return [markers[0], length];
    return [markers[1], length >> 8, length & 255];
  };
  if (typeof value === "boolean") return [value ? 0xc3 : 0xc2];
  if (typeof value === "number") {
    const view = new DataView(new ArrayBuffer(8));
    view.setBigInt64(0, BigInt(value));
    return [0xd3, ...new Uint8Array(view.buffer)];
  }
  if (typeof value === "string") {
    const bytes = encoder.encode(value);
    return [...sized(bytes.length, [0xd9, 0xda]), ...bytes];
  }
  if (value instanceof Uint8Array) return [...sized(value.length, [0xc4, 0xc5]), ...value];
  if (Array.isArray(value)) return [...sized(value.length, [undefined, 0xdc]), ...value.flatMap(pack)];
  return [...sized(Object.keys(value).length, [undefined, 0xde]), ...Object.entries(value).flatMap(([name, item]) => [...pack(name), ...pack(item)])];
}

/** As much of a package as the JavaScript side reads; `inputs` are `[name, datatype, shape]`. */
export function packageOf(inputs, extra = {}) {
  const specs = inputs.map(([name, datatype, shape]) => ({ name, datatype, shape }));
  const manifest = { model: "echo", version: "1.0.0", signature: { inputs: specs, outputs: specs }, engine: "tabular", ...extra };
  const header = pack({ format: [1, 0], sections: [], meta: Uint8Array.from(pack(manifest)) });
  const bytes = new Uint8Array(64 + header.length);
  bytes.set(encoder.encode("LOCKGATE"));
  const view = new DataView(bytes.buffer);
  view.setUint16(8, 1, true);
  view.setUint32(12, 2, true);
  view.setUint32(16, header.length, true);
  view.setBigUint64(24, BigInt(bytes.length), true);
  bytes.set(header, 64);
  return bytes;
}
