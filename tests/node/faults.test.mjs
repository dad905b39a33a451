// Modules that fail, lie or are others than they should be. The fault core itself goes through every runtime (conformance.mjs).

import assert from "node:assert/strict";
import { test } from "node:test";

import { Inference, Policy, load } from "../../edge/js/src/node.js";
import { echoModule, packageOf } from "./echo.mjs";
import { compile, example, faultDir, tabular } from "./support.mjs";

const core = { policy: compile("policy", faultDir), inference: compile("inference-tabular", faultDir) };
test("a view of a lost instance does not reach the next one", async () => {
  const { inference } = await load({ core, packages: tabular() });
  const [model] = inference.models;
  const row = new Float32Array(17);
  const view = model.predict({ input: row }, { view: true }).outputs[1].data;
  const { buffer } = view;
  const marked = new Float32Array(17);
  new Uint32Array(marked.buffer)[0] = 0x7f00fa01;
  assert.throws(() => model.predict({ input: marked }), { code: "trapped" });
  assert.notEqual(model.predict({ input: row }, { view: true }).outputs[1].data.buffer, buffer);
});

test("what cannot be loaded again is an error, and the next call tries again", () => {
  const packages = [Uint8Array.from(tabular()[0])];
  const inference = new Inference(core.inference, packages);
  const marked = new Float32Array(17);
  new Uint32Array(marked.buffer)[0] = 0x7f00fa01;
  const row = new Float32Array(17);
  const [model] = inference.models;
  const before = model.predict({ input: row }).outputs;
  assert.throws(() => model.predict({ input: marked }), { code: "trapped" });
  const last = packages[0].length - 300;
  packages[0][last] ^= 1;
  assert.throws(() => model.predict({ input: row }), { code: "digest_mismatch" });
  assert.throws(() => model.predict({ input: row }), { code: "digest_mismatch" });
  packages[0][last] ^= 1;
  assert.deepEqual(model.predict({ input: row }).outputs, before);
});

/** A module that answers with these 32-bit words, at an address, whatever it is asked. */
function answering(words, address = 65536) {
  const store = words.flatMap((word, k) => [0x41, ...leb(address + 4 * k), 0x41, ...leb(word), 0x36, 2, 0]);
  return echoModule({ predict: [...store, 0x41, ...leb(address)] });
}

/** Signed LEB128 of 32 bits. */
function leb(value) {
  const bytes = [];
  value |= 0;
  for (;;) {
    const byte = value & 127;
    value >>= 7;
    if ((value === 0 && (byte & 64) === 0) || (value === -1 && (byte & 64) !== 0)) return [...bytes, byte];
    bytes.push(byte | 128);
  }
}

test("whatever a module answers, nothing outside the response is read", () => {
  const output = (fields) => {
    const record = { size: 40, datatype: 11, nameAt: 32, nameLength: 1, dataAt: 112, length: 4, rank: 0, ...fields };
    return [64, 116, 0, 1, ...new Array(12).fill(0), record.size, record.datatype, record.nameAt, record.nameLength, record.dataAt, record.length, record.rank, 0, 0x78, 0, 0, 0];
  };
  const ask = (words, address) => new Inference(answering(words, address), [packageOf([["x", "FP32", [-1]]])]).models[0].predict({ x: [1] });
  assert.deepEqual(ask(output({})).outputs.map(({ name, shape }) => [name, shape]), [["x", []]]);
  const nonsense = {
    "no header": [0, 0],
    "a header beyond the whole": [72, 64],
    "a header that is no multiple of 8": [68, 200],
    "a whole beyond the memory": [64, 0x7fffffff],
    "an unknown status": [64, 64, 99],
    "an error without its texts": [64, 64, 10],
    "an error whose text is too long": [64, 72, 10, ...new Array(13).fill(0), 100, 0],
    "more outputs than room": [64, 116, 0, 0x0fffffff],
    "a record too small": output({ size: 24 }),
    "a record too large": output({ size: 64 }),
    "a record of odd size": output({ size: 41 }),
    "a datatype that is none": output({ datatype: 14 }),
    "no datatype": output({ datatype: 0 }),
    "a name outside": output({ nameAt: 39, nameLength: 2 }),
    "data outside": output({ dataAt: 112, length: 8 }),
    "data unaligned": output({ dataAt: 104 }),
    "a rank beyond the record": output({ rank: 2 }),
    "data that do not fit the shape": output({ length: 0 }),
    "warnings without room": [...output({}).slice(0, 14), 5, ...output({}).slice(15)],
    "strings that do not fit": output({ datatype: 13 }),
  };
  for (const [what, words] of Object.entries(nonsense)) assert.throws(() => ask(words), { code: "malformed_response" }, what);
  assert.throws(() => ask(output({}), 65537), { code: "malformed_response" }, "an address that is no multiple of 4");
  assert.throws(() => ask([64, 64], -64), { code: /trapped|malformed_response/ }, "an address outside");
  assert.throws(() => ask([64, 92, 10, 0, ...new Array(12).fill(0), 3, 0x636261, 4, 0x67666564]), { code: "malformed_response" });
});

test("an error of the module keeps the instance, a defect of the module does not", () => {
  const failing = (status) => {
    const words = [64, 76, status, 0, ...new Array(12).fill(0), 2, 0x00026968, 0x6f680000];
    return new Inference(answering(words), [packageOf([["x", "FP32", [-1]]])]);
  };
  for (const [status, code, instances] of [[10, "invalid_input", 1], [15, "internal", 2]]) {
    const inference = failing(status);
    for (let round = 0; round < 2; round++) assert.throws(() => inference.models[0].predict({ x: [1] }), { code, message: "hi", hint: "ho", status });
    assert.equal(inference.instances, instances);
  }
});

test("other modules are refused by name", async () => {
  const make = (options) => new Inference(echoModule(options), [packageOf([["x", "FP32", [-1]]])]);
  assert.throws(() => make({ abi: 0x00020000 }), { code: "unsupported_abi", message: /version 2\.0 .* speaks 1\.x/ });
  assert.throws(() => make({ abi: 0 }), { code: "unsupported_abi" });
  assert.equal(make({ abi: 0x00010063 }).models[0].predict({ x: [1] }).outputs[0].data[0], 1, "a later minor version is taken");
  assert.throws(() => make({ exports: ["lockgate_abi"] }), { code: "invalid_module", message: /does not export lockgate_reserve/ });
  assert.throws(() => new Policy(compile("inference-tabular"), example().bundle), { code: "invalid_module", message: /does not export lockgate_decide/ });
  const importing = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 2, 7, 1, 1, 0x61, 1, 0x62, 0, 0);
  assert.throws(() => new Inference(new WebAssembly.Module(importing), []), { code: "invalid_module" });
  assert.throws(() => new Inference(new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0)), []), { code: "invalid_module", message: /exports no memory/ });
});
