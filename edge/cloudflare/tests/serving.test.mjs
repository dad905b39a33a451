// The Worker as its callers see it: policy from KV, packages from R2, all endpoints.

import assert from "node:assert/strict";
import { test } from "node:test";

import { ROUTE, bundle, coreDir, join, readFileSync, request, worker } from "./support.mjs";

const manifest = JSON.parse(readFileSync(join(coreDir, "manifest.json"), "utf8"));
const identity = (name) => manifest.modules.find((module) => module.name === name).identity;

test("a request is routed and predicted, and the answer names what served", async () => {
  const policy = bundle(7);
  const w = await worker({ bundle: policy });
  const { status, body, headers } = await w.infer({ user: "alice" });
  assert.equal(status, 200, JSON.stringify(body));
  assert.equal(headers.get("content-type"), "application/json");
  assert.equal(headers.get("server-timing"), null, "the clock stands still while a Worker computes, so there is nothing to say");
  const { parameters } = body;
  assert.equal(parameters.variant, "canary");
  assert.equal(parameters.model, "eurusd_gb");
  assert.equal(parameters.bundle_version, 7);
  assert.equal(parameters.bundle_digest, policy.digest);
  assert.equal(parameters.policy_core, identity("policy"));
  assert.equal(parameters.inference_core, identity("inference-tabular"));
  assert.equal(parameters.placement, "edge");
  assert.match(parameters.decision_id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.deepEqual(body.outputs.map(({ name }) => name), ["output_label", "output_probability"]);

  const forest = await w.infer({ user: "bob", strategy: "forest" });
  assert.equal(forest.body.parameters.variant, "forest-a");
  const [down, up] = forest.body.outputs[1].data;
  assert.ok(Math.abs(down + up - 1) < 1e-5, `${down} ${up}`);

  // Rows of several versions, put together again.
  const both = await w.ask(`/v2/models/${ROUTE}/infer`, { method: "POST", body: request({ user: ["alice", "bob"], strategy: "forest" }, 2) });
  assert.deepEqual(both.body.parameters.variant, ["canary", "forest-a"]);
  assert.deepEqual(both.body.outputs[1].shape, [2, 2]);
});

test("the other endpoints answer as the host's do", async () => {
  const w = await worker({ bundle: bundle(1) });
  assert.deepEqual((await w.ask("/v2/health/live")).body, { live: true });
  assert.equal((await w.ask("/v2/health/ready")).status, 200);
  assert.equal((await w.ask("/v2")).body.name, "lockgate");
  const metadata = (await w.ask(`/v2/models/${ROUTE}`)).body;
  assert.equal(metadata.inputs[0].name, "input");
  assert.equal(metadata.versions.length, 4);
  assert.equal((await w.ask(`/v2/models/${ROUTE}/ready`)).status, 200);
  assert.equal((await w.health()).status, "healthy");
  const pinned = await w.ask(`/v2/models/${ROUTE}/versions/1.1.0/infer`, { method: "POST", body: request() });
  assert.equal(pinned.body.parameters.pinned, true);
  for (const [path, init, status, code] of [
    ["/v2/models/nothing/infer", { method: "POST", body: request() }, 404, "unknown_route"],
    [`/v2/models/${ROUTE}/infer`, {}, 405, "method_not_allowed"],
    ["/elsewhere", {}, 404, "not_found"],
    [`/v2/models/${ROUTE}/infer`, { method: "POST", body: "{" }, 400, "not_json"],
    [`/v2/models/${ROUTE}/infer`, { method: "POST", body: request(), headers: { "content-encoding": "br" } }, 415, "unsupported_encoding"],
  ]) {
    const answer = await w.ask(path, init);
    assert.deepEqual([answer.status, answer.body.code], [status, code], `${path}: ${JSON.stringify(answer.body)}`);
  }
});

test("binary tensors go both ways", async () => {
  const w = await worker({ bundle: bundle(1) });
  const values = new Float32Array(17).map((_, k) => Math.sin(k) / 1000);
  const head = Buffer.from(JSON.stringify({
    parameters: { user: "alice", binary_data_output: true },
    inputs: [{ name: "input", datatype: "FP32", shape: [1, 17], parameters: { binary_data_size: 68 } }],
  }));
  const response = await fetch(new URL(`/v2/models/${ROUTE}/infer`, w.base), {
    method: "POST",
    body: Buffer.concat([head, Buffer.from(values.buffer)]),
    headers: { "inference-header-content-length": String(head.length) },
  });
  assert.equal(response.status, 200);
  const bytes = Buffer.from(await response.arrayBuffer());
  const length = Number(response.headers.get("inference-header-content-length"));
  const answer = JSON.parse(bytes.subarray(0, length));
  const json = (await w.infer({ user: "alice" })).body;
  const at = length + answer.outputs[0].parameters.binary_data_size;
  assert.deepEqual([bytes.readFloatLE(at), bytes.readFloatLE(at + 4)], json.outputs[1].data.map(Math.fround));
});

test("packages may lie in KV alone", async () => {
  const w = await worker({ bundle: bundle(1), inKv: true });
  assert.equal((await w.infer({ user: "alice" })).status, 200);
});

test("a body may be so long and no longer", async () => {
  const w = await worker({ bundle: bundle(1), settings: { LOCKGATE_MAX_BODY: "4KiB" } });
  const large = request({}, 100);
  const announced = await w.infer({}, { body: large });
  assert.deepEqual([announced.status, announced.body.code], [413, "body_too_large"]);
  // One that does not say how long it is.
  const parts = async function* () {
    for (let at = 0; at < large.length; at += 1000) yield new TextEncoder().encode(large.slice(at, at + 1000));
  };
  const streamed = await w.infer({}, { body: ReadableStream.from(parts()), duplex: "half" });
  assert.deepEqual([streamed.status, streamed.body.code], [413, "body_too_large"]);
  assert.equal((await w.infer({})).status, 200);
});

test("a browser may ask from the origins that are named", async () => {
  const w = await worker({ bundle: bundle(1), settings: { LOCKGATE_CORS_ORIGINS: "https://a.example" } });
  const from = (origin) => ({ origin, "access-control-request-method": "POST", "access-control-request-headers": "content-type" });
  const preflight = await w.ask(`/v2/models/${ROUTE}/infer`, { method: "OPTIONS", headers: from("https://a.example") });
  assert.equal(preflight.status, 204);
  assert.equal(preflight.headers.get("access-control-allow-origin"), "https://a.example");
  const other = await w.infer({}, { headers: { origin: "https://b.example" } });
  assert.equal(other.headers.get("access-control-allow-origin"), null);
});

test("settings that cannot be used are named, and nothing is served by guessing", async () => {
  const w = await worker({ bundle: bundle(1), settings: { LOCKGATE_TIMEOUT: "5", LOCKGATE_REFERSH: "30s", LOCKGATE_ORIGIN_KEY: "hush-hush" } });
  const { status, body } = await w.infer({});
  assert.deepEqual([status, body.code], [500, "invalid_settings"]);
  assert.match(body.error, /LOCKGATE_REFERSH: there is no such setting/);
  assert.match(body.error, /LOCKGATE_TIMEOUT: expected a duration .* found `5`/);
  assert.doesNotMatch(body.error, /hush/);
});
