// Tensors of every datatype there and back, and what the calls make of their inputs.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Inference, fromFloat16, load, toFloat16 } from "../../edge/js/src/node.js";
import { echoModule, packageOf } from "./echo.mjs";
import { tabular } from "./support.mjs";

const model = (inputs) => new Inference(echoModule(), [packageOf(inputs)]).models[0];

const ALL = [
  ["BOOL", Uint8Array.of(0, 1, 1), [false, true, 1]],
  ["UINT8", Uint8Array.of(0, 7, 255), [0, 7, 255]],
  ["UINT16", Uint16Array.of(0, 7, 65535), [0, 7, 65535]],
  ["UINT32", Uint32Array.of(0, 7, 2 ** 32 - 1), [0, 7, 2 ** 32 - 1]],
  ["UINT64", BigUint64Array.of(0n, 7n, 2n ** 64n - 1n), [0, 7n, 2n ** 64n - 1n]],
  ["INT8", Int8Array.of(-128, 0, 127), [-128, 0, 127]],
  ["INT16", Int16Array.of(-32768, 0, 32767), [-32768, 0, 32767]],
  ["INT32", Int32Array.of(-(2 ** 31), 0, 2 ** 31 - 1), [-(2 ** 31), 0, 2 ** 31 - 1]],
  ["INT64", BigInt64Array.of(-(2n ** 63n), 0n, 2n ** 63n - 1n), [-(2n ** 63n), 0, 2n ** 63n - 1n]],
  ["FP16", Uint16Array.of(0x3c00, 0xfbff, 0x7c00), [1, -65504, Infinity]],
  ["FP32", Float32Array.of(0.1, -0, NaN), [0.1, -0, NaN]],
  ["FP64", Float64Array.of(0.1, -0, Infinity), [0.1, -0, Infinity]],
  ["BYTES", ["", "naïve 👩‍💻", Uint8Array.of(0xff, 0xfe)], ["", "naïve 👩‍💻", Uint8Array.of(0xff, 0xfe)]],
];

test("every datatype travels both ways, typed or converted, copied or as a view", () => {
  for (const [datatype, typed, plain] of ALL) {
    const echo = model([["x", datatype, [-1]]]);
    for (const given of [typed, plain]) {
      for (const options of [undefined, { view: true }]) {
        const [{ name, shape, data, ...rest }] = echo.predict({ x: given }, options).outputs;
        assert.deepEqual([name, rest.datatype, shape], ["x", datatype, [3]]);
        assert.equal(data.constructor, typed.constructor, datatype);
        assert.deepEqual(data, typed, datatype);
      }
    }
  }
});

test("many inputs and outputs at once, of any shape", () => {
  const echo = model(ALL.map(([datatype]) => [`in ${datatype} ä`, datatype, [3, -1]]));
  const inputs = Object.fromEntries(ALL.map(([datatype, typed]) => [`in ${datatype} ä`, typed]));
  for (let round = 0; round < 3; round++) {
    const { outputs } = echo.predict(inputs);
    assert.deepEqual(outputs.map(({ name }) => name), Object.keys(inputs));
    outputs.forEach(({ datatype, shape, data }, k) => assert.deepEqual([datatype, shape, data], [ALL[k][0], [3, 1], ALL[k][1]]));
    assert.equal(echo.predict(inputs).output("in FP64 ä").data[0], 0.1);
  }
  const list = ALL.map(([datatype, data]) => ({ name: datatype, datatype, shape: [1, 3, 1], data }));
  assert.deepEqual(echo.predict(list).outputs, list.map(({ name, datatype, shape, data }) => ({ name, datatype, shape, data })));
  const empty = model([["x", "FP32", [-1, 4]]]).predict({ x: new Float32Array(0) }).outputs[0];
  assert.deepEqual([empty.shape, empty.data], [[0, 4], new Float32Array(0)]);
  assert.deepEqual(model([["x", "FP32", []]]).predict({ x: [5] }).outputs[0], { name: "x", datatype: "FP32", shape: [], data: Float32Array.of(5) });
});

test("a request's form may change from call to call, and models share an instance", () => {
  const inference = new Inference(echoModule(), [packageOf([["x", "FP32", [-1, 2]]]), packageOf([["y", "INT64", [-1]]])]);
  const [first, second] = inference.models;
  for (let round = 1; round < 6; round++) {
    const x = Float32Array.from({ length: 2 * round }, (_, k) => round + k);
    assert.deepEqual(first.predict({ x }).outputs[0], { name: "x", datatype: "FP32", shape: [round, 2], data: x });
    assert.deepEqual(first.predict({ x: { data: x, shape: [2, round] } }).outputs[0].shape, [2, round]);
    assert.deepEqual(first.predict({ x }).outputs[0].shape, [round, 2]);
    assert.deepEqual(first.predict({ x: { data: x, datatype: "FP32", shape: [2 * round] } }).outputs[0].shape, [2 * round]);
    assert.deepEqual(first.predict({ x: { data: new Int32Array(2 * round), datatype: "INT32" } }).outputs[0].datatype, "INT32");
    assert.deepEqual(first.predict({ x }).outputs[0].data, x);
    assert.deepEqual(second.predict({ y: BigInt64Array.of(5n) }).outputs[0].data, BigInt64Array.of(5n));
    const y = BigInt64Array.of(BigInt(round));
    assert.deepEqual(second.predict({ y }).outputs[0].data, y);
    assert.deepEqual(first.predict({ x, z: { data: y, shape: [1], datatype: "INT64" } }).outputs.length, 2);
  }
});

test("outputs are copies unless views are asked for, and a view lives until the next call", () => {
  const echo = model([["x", "FP32", [-1]]]);
  for (const length of [4, 400]) {
    const x = new Float32Array(length).fill(1);
    const copy = echo.predict({ x }).outputs[0].data;
    const view = echo.predict({ x }, { view: true }).outputs[0].data;
    assert.equal(view.buffer, echo.core.exports.memory.buffer);
    assert.notEqual(copy.buffer, view.buffer);
    const fed = echo.predict({ x: view }).outputs[0].data;
    assert.deepEqual([copy, fed], [x, x]);
    // The module grew, so that the view is empty, and the copy is not.
    assert.deepEqual([view.length, copy.length], [0, length]);
  }
});

test("data are copied once into the module, and once out of it or not at all", async () => {
  const { inference } = await load({ packages: tabular() });
  const [loaded] = inference.models;
  const input = new Float32Array(17 * 1000);
  const wide = new Float32Array(17 * 1000 + 4).subarray(2, 17 * 1000 + 2);
  const typed = Object.getPrototypeOf(Uint8Array.prototype);
  const [{ set }, { slice }] = [typed, ArrayBuffer.prototype];
  let [written, copied] = [0, 0];
  typed.set = function (source, at) {
    written += source.byteLength;
    return set.call(this, source, at);
  };
  ArrayBuffer.prototype.slice = function (from, to) {
    copied += to - from;
    return slice.call(this, from, to);
  };
  try {
    // What does not fit the call before it is laid out anew, which is a few bytes more.
    const call = (...args) => {
      loaded.predict(...args);
      [written, copied] = [0, 0];
      const { outputs } = loaded.predict(...args);
      return outputs.reduce((sum, { data }) => sum + data.byteLength, 0);
    };
    for (const data of [input, wide]) {
      const bytes = call({ input: data });
      assert.deepEqual([written, copied], [data.byteLength, bytes]);
      call({ input: data }, { view: true });
      assert.deepEqual([written, copied], [data.byteLength, 0]);
      call({ input: { data, shape: [1000, 17] } }, { view: true });
      assert.deepEqual([written, copied], [data.byteLength, 0]);
    }
  } finally {
    typed.set = set;
    ArrayBuffer.prototype.slice = slice;
  }
});

test("large requests grow the memory and come back whole", () => {
  const echo = model([["x", "FP64", [-1, 4]]]);
  for (const rows of [1, 50_000, 10, 200_000]) {
    const x = Float64Array.from({ length: 4 * rows }, (_, k) => k);
    assert.deepEqual(echo.predict({ x }).outputs[0].data, x);
  }
});

test("a batch is one call where the leading dimension is free, and many where it is not", () => {
  const joined = model([["x", "FP32", [-1, 2]], ["s", "BYTES", [-1]]]);
  const requests = [1, 3, 0, 2].map((rows) => ({
    x: Float32Array.from({ length: 2 * rows }, (_, k) => 10 * rows + k),
    s: Array.from({ length: rows }, (_, k) => `${rows}/${k}`),
  }));
  const calls = count(joined, () => {
    joined.predictBatch(requests).forEach(({ outputs }, k) => {
      const { x, s } = requests[k];
      assert.deepEqual(outputs, [{ name: "x", datatype: "FP32", shape: [s.length, 2], data: x }, { name: "s", datatype: "BYTES", shape: [s.length], data: s }]);
    });
  });
  assert.equal(calls, 1);
  const fixed = model([["x", "FP32", [2]]]);
  assert.equal(count(fixed, () => assert.deepEqual(fixed.predictBatch([{ x: [1, 2] }, { x: [3, 4] }]).map(({ outputs }) => [...outputs[0].data]), [[1, 2], [3, 4]])), 2);
  assert.deepEqual(joined.predictBatch([]), []);
  const uneven = [{ x: { shape: [1, 2], data: [1, 2] }, s: ["a"] }, { x: { shape: [1, 1, 2], data: [3, 4] }, s: ["b"] }];
  assert.deepEqual(joined.predictBatch(uneven).map(({ outputs }) => outputs[0].shape), [[1, 2], [1, 1, 2]]);
});

function count({ core }, run) {
  const { entry } = core;
  let calls = 0;
  core.entry = (length) => ((calls += 1), entry(length));
  run();
  core.entry = entry;
  return calls;
}

test("inputs that the signature does not settle are refused before they are sent, with a hint", () => {
  const echo = model([["x", "FP32", [-1, 4]], ["free", "FP32", [-1, -1]], ["n", "INT8", [-1]], ["u", "UINT64", [-1]], ["s", "BYTES", [-1]], ["b", "BOOL", [-1]]]);
  const refused = [
    [{ x: new Float64Array(4) }, /`x` is FP32 and was given Float64Array/],
    [{ x: new Float32Array(5) }, /declared as \[-1,4\], which 5 elements do not fill/],
    [{ x: [1, 2, 3, "4"] }, /element 3 is string 4/],
    [{ x: [1, 2, 3, null] }, /element 3 is object null/],
    [{ x: "abcd" }, /has no data|was given/],
    [{ x: null }, /`x` is null/],
    [{ x: undefined }, /`x` is undefined/],
    [{ x: { data: [1, 2, 3, 4], shape: [-1, 4] } }, /has the shape \[-1,4\]/],
    [{ x: { data: [1], shape: [1], datatype: "FLOAT" } }, /has the datatype `FLOAT`/],
    [{ free: [1, 2] }, /do not settle/],
    [{ y: [1, 2] }, /`y` is none of the model's/],
    [{ n: [128] }, /element 0 is number 128/],
    [{ n: [0.5] }, /element 0 is number 0.5/],
    [{ u: [-1] }, /element 0 is number -1/],
    [{ u: [2n ** 64n] }, /element 0 is bigint/],
    [{ u: [2 ** 53] }, /element 0 is number/],
    [{ s: Uint8Array.of(1) }, /is BYTES and was given Uint8Array/],
    [{ s: [1] }, /element 0 is number/],
    [{ b: [2] }, /element 0 is number 2/],
    [new Float32Array(4), /inputs are/],
    [null, /inputs are null/],
    [[{ data: [1, 2, 3, 4] }], /none of the model's/],
  ];
  for (const [inputs, message] of refused) {
    const matches = (error) => error.name === "LockgateError" && error.code === "invalid_input" && message.test(error.message) && error.hint !== "";
    assert.throws(() => echo.predict(inputs), matches, String(message));
    assert.throws(() => echo.predictBatch([inputs]), matches, String(message));
  }
  assert.equal(echo.core.instances, 1);
});

test("a real model says which features are outside their training range", async () => {
  const { models } = await load({ packages: tabular() });
  const ranged = models.find(({ features }) => features.some(({ max }) => max !== undefined));
  assert.ok(ranged !== undefined, "no package of the example has training ranges");
  const row = Float32Array.from(ranged.features, ({ min = 0, max = 0 }) => (min + max) / 2);
  assert.deepEqual(ranged.predict({ input: row }).outOfRange, []);
  const feature = ranged.features.findIndex(({ max }) => max !== undefined);
  const far = Float32Array.from(row);
  far[feature] = 1e9;
  const expected = [{ row: 1, feature, value: 1e9 }];
  const two = Float32Array.of(...row, ...far);
  assert.deepEqual(ranged.predict({ input: two }).outOfRange, expected);
  assert.deepEqual(ranged.predictBatch([{ input: row }, { input: far }]).map(({ outOfRange }) => outOfRange), [[], [{ ...expected[0], row: 0 }]]);
});

test("half-precision numbers are the nearest ones, and go both ways", () => {
  for (let bits = 0; bits < 65536; bits++) {
    const value = fromFloat16(bits);
    if (Number.isNaN(value)) assert.equal(toFloat16(value), 0x7e00);
    else assert.equal(toFloat16(value), bits, String(value));
  }
  for (let bits = 0; bits < 0x7bff; bits++) {
    const [low, high] = [fromFloat16(bits), fromFloat16(bits + 1)];
    const middle = (low + high) / 2;
    assert.equal(toFloat16(middle), bits % 2 === 0 ? bits : bits + 1, String(middle));
    assert.equal(toFloat16(middle - middle * 2 ** -40), bits);
    assert.equal(toFloat16(middle + middle * 2 ** -40), bits + 1);
  }
  assert.deepEqual([65519, 65520, -1e9, 1e-9].map(toFloat16), [0x7bff, 0x7c00, 0xfc00, 0]);
});
