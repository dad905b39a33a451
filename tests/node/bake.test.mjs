// Modules that `lockgate bake` made, in Node, Chromium and workerd: they answer as those that were loaded, and say that they are the same.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

import { Inference, Policy, load } from "../../edge/js/src/node.js";
import * as bare from "../../edge/js/src/index.js";
import { askBaked } from "./baked.mjs";
import { FAULT_CONTEXT, FAULT_WIDTH, survives } from "./conformance.mjs";
import { serve } from "./server.mjs";
import { coreDir, example, faultDir, identity, root, run, scratchDir } from "./support.mjs";
import { bundle, start } from "./workerd.mjs";

const NAMES = ["eurusd_gb", "eurusd_lr", "eurusd_rf_a", "eurusd_rf_b"];
let expected, folder, policyFile;

/** The example's policy without its sequences, whose model the tabular flavour does not run. */
function tabularPolicy() {
  const source = join(scratchDir(), "tabular.yaml");
  const policy = readFileSync(join(root, "examples/eurusd/policy.yaml"), "utf8").replace(/^  eurusd_lstm@.*\n/m, "");
  writeFileSync(source, policy.slice(0, policy.indexOf("  eurusd-sequence:")));
  const bundle = join(scratchDir(), "tabular.lgb");
  run("policy", "compile", source, "--packages", join(scratchDir(), "packages"), "--output", bundle);
  return bundle;
}

/** Bakes that policy with packages, into a folder of this name. */
function bake(name, models, core = coreDir) {
  const out = join(scratchDir(), name);
  const packages = example().files.filter((file) => models.some((model) => file.endsWith(`${model}.lgp`))).flatMap((file) => ["--package", file]);
  run("bake", "--core", core, "--bundle", policyFile, ...packages, "--flavour", "tabular", "--out", out);
  const module = (file) => new WebAssembly.Module(readFileSync(join(out, file)));
  return { out, policy: module("policy.wasm"), inference: module("inference.wasm"), catalog: JSON.parse(readFileSync(join(out, "catalog.json"), "utf8")) };
}

before(async () => {
  example();
  policyFile = tabularPolicy();
  expected = askBaked(await load({ bundle: readFileSync(policyFile), packages: NAMES.map((name) => example().objects.get(name)) }));
  assert.deepEqual(Object.keys(expected.predictions).sort(), [...NAMES]);
  folder = bake("baked", NAMES);
});

test("baked modules answer in Node as loaded ones", async () => {
  const { policy, inference, catalog } = folder;
  assert.deepEqual(askBaked(await bare.load({ core: { policy, inference }, catalog })), expected);
  const address = (file) => new URL(`file://${join(folder.out, file)}`);
  assert.deepEqual(askBaked(await load({ core: { policy: address("policy.wasm"), inference: address("inference.wasm") }, catalog })), expected);
  assert.deepEqual(expected.identities, { policy: identity("policy"), inference: identity("inference-tabular") });
});

test("without a catalogue a model is found by its digest, and its inputs are said in full", () => {
  const models = new Inference(folder.inference, []).models;
  assert.equal(models.length, NAMES.length);
  const digest = expected.models[0].digest;
  const [named] = new Inference(folder.inference, [], folder.catalog).models.filter((model) => model.digest === digest);
  const found = models.find((model) => model.digest === digest);
  assert.deepEqual([found.name, found.inputs], ["", []]);
  const data = new Float32Array(17);
  assert.throws(() => found.predict({ input: data }), { code: "invalid_input", hint: /shape and datatype/ });
  assert.deepEqual(found.predict({ input: { data, shape: [1, 17], datatype: "FP32" } }).outputs, named.predict({ input: data }).outputs);
});

test("what does not go with a baked module is refused", () => {
  const { policy, inference, catalog } = folder;
  assert.throws(() => new Policy(policy, readFileSync(policyFile)), { code: "already_loaded" });
  assert.throws(() => new Inference(inference, [], { ...catalog, packages: {} }), { code: "unknown_model", hint: /one `lockgate bake`/ });
});

test("more packages can be loaded beside those that are baked", () => {
  const extra = example().objects.get("eurusd_rfr");
  const { models } = new Inference(folder.inference, [extra], folder.catalog);
  assert.deepEqual(models.map(({ handle }) => handle), [0, 1, 2, 3, 4]);
  const alone = new Inference(new WebAssembly.Module(readFileSync(join(coreDir, "inference-tabular.wasm"))), [extra]).models[0];
  const input = new Float32Array(17).fill(2);
  assert.deepEqual(models[4].predict({ input }).outputs, alone.predict({ input }).outputs);
});

test("a fault costs its request alone there, too: the next instance wakes up with everything", async () => {
  const { policy, inference, catalog } = bake("baked-fault", NAMES, faultDir);
  const lockgate = await bare.load({ core: { policy, inference }, catalog });
  assert.deepEqual(lockgate.identities, { policy: identity("policy", faultDir), inference: identity("inference-tabular", faultDir) });
  assert.equal(survives(lockgate, FAULT_CONTEXT, FAULT_WIDTH), 7 * 6);
});

test("a baked Worker answers in workerd", async () => {
  const built = await bundle(fileURLToPath(new URL("baked_worker.mjs", import.meta.url)), "baked-worker", { baked: folder.out });
  const worker = start(built);
  after(() => worker.dispose());
  const response = await worker.dispatchFetch("http://worker/");
  assert.deepEqual(await response.json(), expected);
});

test("a page of baked modules answers in Chromium", async () => {
  const server = await serve({ folders: { "/baked/": folder.out } });
  const browser = await chromium.launch({ executablePath: process.env.LOCKGATE_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  try {
    const page = await browser.newPage();
    await page.goto(server.address);
    const found = await page.evaluate(async () => {
      const [{ load }, { askBaked }] = await Promise.all([import("/package/src/browser.js"), import("/tests/baked.mjs")]);
      const at = (file) => new URL(`/baked/${file}`, location.href);
      const catalog = await (await fetch(at("catalog.json"))).json();
      return askBaked(await load({ core: { policy: at("policy.wasm"), inference: at("inference.wasm") }, catalog }));
    });
    assert.deepEqual(found, expected);
  } finally {
    await browser.close();
    await server.close();
  }
});
