// The glue of our own against what jco makes of the components: the same decisions and the same outputs, bit for bit.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

import { transpileBytes } from "@bytecodealliance/jco-transpile";

import { ROUTE, bundle, coreDir, join, packages, readFileSync, scratch, worker, writeFileSync } from "./support.mjs";

/** A component's exports, through jco. */
async function component(name) {
  const { files } = await transpileBytes(readFileSync(join(coreDir, `${name}.component.wasm`)), { name, instantiation: { tag: "sync" }, noTypescript: true });
  const folder = scratch(`jco-${name}`);
  for (const [file, bytes] of Object.entries(files)) writeFileSync(join(folder, file.split("/").at(-1)), bytes);
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  const { instantiate } = await import(pathToFileURL(join(folder, `${name}.js`)));
  return instantiate((file) => new WebAssembly.Module(readFileSync(join(folder, file.split("/").at(-1)))), {});
}

test("the Worker decides and predicts what jco's components do", async () => {
  const policy = bundle(1);
  const w = await worker({ bundle: policy });
  const jco = { policy: (await component("policy")).policy, inference: (await component("inference-tabular")).inference };
  const loaded = jco.policy.Bundle.load(policy.bytes);
  const models = new Map();
  for (const { digest, bytes } of Object.values(packages())) if (bytes !== undefined) models.set(digest, jco.inference.Model.load(bytes));
  for (let k = 0; k < 60; k++) {
    const user = `user-${k}`;
    const strategy = ["none", "forest", "forests"][k % 3];
    const values = Float32Array.from({ length: 17 }, (_, i) => Math.sin(k * 17 + i) / 500);
    const body = { parameters: { user, strategy }, inputs: [{ name: "input", datatype: "FP32", shape: [1, 17], data: [...values] }] };
    const { status, body: answer } = await w.ask(`/v2/models/${ROUTE}/infer`, { method: "POST", body: JSON.stringify(body) });
    assert.equal(status, 200, JSON.stringify(answer));
    const context = new jco.policy.Context(ROUTE);
    context.setUser(user);
    context.setAttribute("strategy", { tag: "text", val: strategy });
    const decision = loaded.decide(context, BigInt(Date.now()), []);
    assert.deepEqual(
      [answer.parameters.variant, answer.parameters.bucket, answer.parameters.rule],
      [decision.variant(), decision.bucket(), decision.rule()],
    );
    const model = models.get(answer.parameters.package_digest);
    const tensor = new jco.inference.Tensor("input", "fp32", new BigInt64Array([1n, 17n]), new Uint8Array(values.buffer));
    const output = model.predict([tensor], []).outputs().find((output) => output.name() === "output_probability");
    const floats = new Float32Array(Uint8Array.from(output.data()).buffer);
    assert.deepEqual(answer.outputs[1].data.map(Math.fround), [...floats]);
  }
});
