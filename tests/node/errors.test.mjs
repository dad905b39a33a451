// Every refusal: the ABI's code, what happened, and what to do about it.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import * as bare from "../../edge/js/src/index.js";
import { Inference, LockgateError, Policy, load, readManifest } from "../../edge/js/src/node.js";
import { compile, example, goldenDir, goldenPlaces, predictionVectors, root, tabular } from "./support.mjs";

const policyModule = compile("policy");
const tabularModule = compile("inference-tabular");
const row = new Float32Array(17);
const [first] = tabular();

function changed(bytes, change) {
  const copy = Uint8Array.from(bytes);
  change(copy);
  return copy;
}

const CODES = readFileSync(join(root, "docs/abi.md"), "utf8").matchAll(/^\| (\d+) \| `([a-z_]+)` \|/gm);

test("the codes are those of docs/abi.md", () => {
  const documented = [...CODES].map(([, number, name]) => [Number(number), name]);
  assert.equal(documented.length, 16);
  for (const [number, name] of documented) assert.equal(new LockgateError(name, "").status, number, name);
  assert.equal(new LockgateError("trapped", "").status, 0);
});

test("a package that is damaged, foreign, cut or newer is refused by name", () => {
  const make = (bytes) => new Inference(tabularModule, [bytes]);
  const refused = [
    ["digest_mismatch", changed(first, (bytes) => { bytes[bytes.length - 300] ^= 1; }), /SHA-256/],
    ["malformed_envelope", new Uint8Array(0), /LOCKGATE/],
    ["malformed_envelope", new TextEncoder().encode("PK".repeat(100)), /LOCKGATE/],
    ["malformed_envelope", first.subarray(0, first.length - 100), /truncated/],
    ["wrong_kind", example().bundle, /kind 1/],
    ["unsupported_version", changed(first, (bytes) => { bytes[8] = 2; }), /format 2\.0/],
    ["malformed_content", changed(first, (bytes) => { bytes[64] = 0xc1; }), /manifest/],
  ];
  for (const [code, bytes, message] of refused) {
    assert.throws(() => make(bytes), (error) => error instanceof LockgateError && error.code === code && message.test(error.message), `${code} ${message}`);
  }
  assert.throws(() => make(example().packages[example().files.findIndex((file) => file.includes("lstm"))]), { code: "unsupported_plan" });
  assert.equal(make(first).models.length, 1);
});

test("a bundle likewise", () => {
  const make = (bundle, lists) => new Policy(policyModule, bundle, lists);
  assert.throws(() => make(first), { code: "wrong_kind" });
  assert.throws(() => make(new Uint8Array(0)), { code: "malformed_envelope" });
  assert.throws(() => make(changed(example().bundle, (bytes) => { bytes[100] ^= 1; })), { code: "digest_mismatch" });
  assert.throws(() => make(undefined), { code: "not_loaded" });
  assert.throws(() => make(example().bundle, [example().bundle]), { code: "already_loaded" });
  const { place, lists: names } = goldenPlaces().find((line) => line.lists.length > 0);
  const bundle = readFileSync(join(goldenDir, `${place}.lgb`));
  const lists = names.map((name) => readFileSync(join(goldenDir, name)));
  assert.throws(() => make(bundle), { code: "missing_object" });
  assert.equal(typeof make(bundle, lists).version, "bigint");
  assert.equal(make(bundle, [...lists].reverse()).digest, make(bundle, lists).digest, "lists come in any order");
});

test("a request that does not fit the model is refused by the model", () => {
  const { models } = new Inference(tabularModule, [first]);
  const [model] = models;
  assert.throws(() => model.predict({}), { code: "invalid_input" });
  assert.throws(() => model.predict({ input: { data: row, shape: [17] } }), { code: "invalid_input" });
  assert.throws(() => model.predict({ input: { data: row, shape: [2, 17] } }), { code: "invalid_input" });
  assert.throws(() => model.predict({ input: { data: new Float64Array(17), datatype: "FP64" } }), { code: "invalid_input" });
  assert.throws(() => model.predict({ input: row, other: { data: row, shape: [1, 17], datatype: "FP32" } }), { code: "invalid_input" });
  assert.throws(() => model.predict([{ name: "input", data: row }, { name: "input", data: row }]), { code: "invalid_input" });
  assert.throws(() => model.predict({ input: row }, { options: { none: "1" } }), { code: "malformed_request", message: /none/ });
  assert.throws(() => model.predictBatch([{ input: row }, { input: row }], { options: { none: "1" } }), { code: "malformed_request" });
  assert.equal(model.predict({ input: row }, { options: {} }).outputs.length, 2);
  assert.throws(() => model.predict({ input: row }).output("none"), { code: "invalid_input", hint: /output_label/ });
  const strict = predictionVectors().find((vector) => !readManifest(vector.package).acceptsMissing && vector.inputs.length === 1 && vector.inputs[0].datatype === "FP32" && readManifest(vector.package).engine === "tabular");
  const missing = new Inference(tabularModule, [strict.package]).models[0];
  const width = missing.inputs[0].shape.at(-1);
  assert.throws(() => missing.predict({ [missing.inputs[0].name]: new Float32Array(width).fill(NaN) }), { code: "missing_value" });
  assert.equal(model.core.instances, 1);
});

test("more than the module can hold is refused, and the instance goes on", () => {
  const { models } = new Inference(tabularModule, [first]);
  const [model] = models;
  const before = model.predict({ input: row }).outputs;
  assert.throws(() => model.predict({ input: new Float32Array(17 * 4_000_000) }), { code: "limit_exceeded", hint: /fewer rows/ });
  assert.deepEqual(model.predict({ input: row }).outputs, before);
  const policy = new Policy(policyModule, example().bundle);
  assert.throws(() => policy.decideBatch([{ route: "eurusd-direction", user: "x".repeat(100_000_000) }], 0), { code: "limit_exceeded" });
  assert.equal(policy.decide({ route: "eurusd-direction", user: "x" }, 0).route, "eurusd-direction");
});

test("models are found by what names them, and else said to be missing", async () => {
  const { inference, policy, models } = await load({ bundle: example().bundle, packages: tabular() });
  const decision = policy.decide({ route: "eurusd-direction", user: "alice" }, 0);
  const model = inference.model(decision);
  assert.deepEqual([model.digest, model.name, model.version], [decision.packageDigest, decision.model, decision.version]);
  for (const target of [model, model.digest, model.name, `${model.name}@${model.version}`, { packageDigest: model.digest }]) {
    assert.deepEqual(inference.predict(target, { input: row }).outputs, model.predict({ input: row }).outputs);
    assert.equal(inference.predictBatch(target, [{ input: row }]).length, 1);
  }
  const sequence = policy.decide({ route: "eurusd-sequence", user: "alice" }, 0);
  assert.throws(() => inference.predict(sequence, { input: row }), { code: "unknown_model", hint: new RegExp(models[0].name) });
  assert.equal(inference.find(sequence), undefined);
});

test("what was not loaded is not asked", async () => {
  const empty = await load({});
  assert.throws(() => empty.decide({ route: "x" }), { code: "not_loaded", hint: /bundle/ });
  assert.throws(() => empty.decideBatch([]), { code: "not_loaded" });
  assert.throws(() => empty.predict("x", {}), { code: "not_loaded", hint: /packages/ });
  assert.throws(() => empty.predictBatch("x", []), { code: "not_loaded" });
  assert.deepEqual(empty.identities, { policy: undefined, inference: undefined });
  await assert.rejects(load({ lists: [new Uint8Array(1)] }), { code: "not_loaded" });
  const unused = await load({ core: { policy: policyModule, inference: tabularModule } });
  assert.throws(() => unused.decide({ route: "x" }), { code: "not_loaded" });
  assert.throws(() => unused.predict("x", {}), { code: "unknown_model", hint: /load its package/ });
  await assert.rejects(bare.load({ bundle: example().bundle }), { code: "invalid_module", hint: /core\.policy/ });
  assert.equal((await bare.load({ bundle: example().bundle, core: { policy: policyModule } })).policy.version, 1n);
});

test("sources may be bytes, buffers, addresses, responses, or promises of them", async () => {
  const { bundle, bundleFile, files } = example();
  const server = createServer((request, response) => {
    const wasm = request.url.endsWith(".wasm");
    if (request.url === "/none") return response.writeHead(404).end();
    response.writeHead(200, wasm ? { "content-type": "application/wasm" } : {});
    response.end(wasm ? readFileSync(join(root, "edge/js/core", request.url)) : bundle);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  const address = (path) => new URL(path, `http://127.0.0.1:${port}`);
  try {
    const buffer = bundle.buffer.slice(bundle.byteOffset, bundle.byteOffset + bundle.length);
    for (const source of [bundle, buffer, pathToFileURL(bundleFile), address("/bundle"), fetch(address("/bundle")), Promise.resolve(bundle), new Response(buffer)]) {
      assert.equal((await load({ bundle: source })).policy.version, 1n);
    }
    const wasm = [readFileSync(join(root, "edge/js/core/policy.wasm")), policyModule, address("/policy.wasm"), fetch(address("/policy.wasm")), Promise.resolve(policyModule)];
    for (const policy of wasm) assert.equal((await load({ bundle, core: { policy } })).policy.version, 1n);
    assert.equal((await load({ packages: files.map((file) => pathToFileURL(file)) })).models.length, files.length, "the graph flavour is found to be needed");
    await assert.rejects(load({ bundle: address("/none") }), { code: "unreadable", message: /404/ });
    await assert.rejects(load({ bundle: fetch(address("/none")) }), { code: "unreadable", message: /404/ });
    await assert.rejects(load({ bundle: pathToFileURL("/none/such") }), { code: "unreadable" });
    await assert.rejects(load({ bundle: "policy.lgb" }), { code: "unreadable", hint: /URL object/ });
    await assert.rejects(load({ bundle, core: { policy: bundle } }), { code: "invalid_module" });
  } finally {
    server.close();
    server.closeAllConnections();
  }
  await assert.rejects(load({ bundle: address("/bundle") }), { code: "unreadable" });
});
