// Versions that run elsewhere: a real `lockgate serve` as origin, and what is done when it is down, slow or wrong; shadows; records.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { ROUTE, bundle, origin, packages, server, until, worker } from "./support.mjs";

/** The canary runs at the origin; the forest at the edge takes its place. */
const forwarding = (version, change = () => {}) => bundle(version, (policy) => {
  policy.models["eurusd_gb@1.1.0"] = { placement: "host" };
  policy.routes[ROUTE].variants.canary.fallbacks = ["forest-b"];
  change(policy);
});

test("a version with the placement host is served by the origin, as the edge decided", async () => {
  const policy = forwarding(4);
  const host = await origin({ bundle: policy });
  for (const through of [{ settings: { LOCKGATE_ORIGIN: host.address } }, {
    options: { serviceBindings: { ORIGIN: { external: { address: new URL(host.address).host, http: {} } } } },
  }]) {
    const w = await worker({ bundle: policy, without: ["gb"], ...through });
    const { status, body } = await w.infer({ user: "alice" });
    assert.equal(status, 200, JSON.stringify(body));
    assert.deepEqual([body.parameters.variant, body.parameters.placement], ["canary", "host"]);
    assert.equal(body.parameters.package_digest, packages().gb.digest);
    const direct = await (await fetch(`${host.address}/v2/models/${ROUTE}/versions/1.1.0/infer`, { method: "POST", body: (await import("./support.mjs")).request() })).json();
    assert.deepEqual(body.outputs, direct.outputs);
    // Rows of both places in one answer.
    const both = await w.ask(`/v2/models/${ROUTE}/infer`, { method: "POST", body: (await import("./support.mjs")).request({ user: ["alice", "bob"], strategy: "forest" }, 2) });
    assert.deepEqual(both.body.parameters.placement, ["host", "edge"], JSON.stringify(both.body));
  }
  await host.stop();
});

test("an origin that is down, slow or wrong: one retry, then the fallback at the edge", async () => {
  const policy = forwarding(1);
  const cases = {
    down: () => undefined,
    slow: () => () => {},
    failing: () => (request, body, response) => response.writeHead(500).end("{}"),
    wrong: () => (request, body, response) => response.writeHead(200, { "content-type": "application/json" }).end('{"model_name":"x","outputs":[]}'),
    garbage: () => (request, body, response) => response.writeHead(200).end("<html>"),
  };
  for (const [what, make] of Object.entries(cases)) {
    const answer = make();
    const broken = await server(answer ?? (() => {}));
    if (answer === undefined) await broken.stop();
    const settings = { LOCKGATE_ORIGIN: broken.address, LOCKGATE_ORIGIN_TIMEOUT: "300ms", LOCKGATE_RECORDS: "false" };
    const w = await worker({ bundle: policy, settings });
    const began = Date.now();
    const { status, body } = await w.infer({ user: "alice" });
    assert.deepEqual([status, body.parameters?.variant, body.parameters?.fallback], [200, "forest-b", true], `${what}: ${JSON.stringify(body)}`);
    assert.ok(Date.now() - began < 4000, `${what} took its deadline`);
    if (what === "slow" || what === "failing") assert.equal(broken.seen.length, 2, `${what}: one retry`);
    await broken.stop();
  }
  // Where nothing can take its place, the caller learns of it.
  const bare = bundle(1, (document) => {
    document.models["eurusd_gb@1.1.0"] = { placement: "host" };
    document.routes[ROUTE].baseline = "canary";
  });
  const gone = await server(() => {});
  await gone.stop();
  const w = await worker({ bundle: bare, settings: { LOCKGATE_ORIGIN: gone.address, LOCKGATE_RECORDS: "false" } });
  const { status, body } = await w.infer({ user: "alice" });
  assert.ok(status >= 500, JSON.stringify(body));
});

test("a shadow runs after the answer, here and at the origin, and is compared", async () => {
  const policy = bundle(1, (document) => {
    document.models["eurusd_gb@1.1.0"] = { placement: "host" };
    document.routes[ROUTE].default = { serve: "stable" };
    document.routes[ROUTE].shadows = [
      { name: "here", variant: "forest-a" },
      { name: "there", variant: "canary" },
    ];
  });
  const host = await origin({ bundle: policy });
  const w = await worker({ bundle: policy, settings: { LOCKGATE_ORIGIN: host.address } });
  const { status, body } = await w.infer({ user: "bob" });
  assert.deepEqual([status, body.parameters.variant], [200, "stable"]);
  await until(async () => {
    const shadows = Object.values((await w.health()).parts.shadows);
    return shadows.length === 2 && shadows.every((shadow) => shadow.runs === 1);
  }, "both shadows ran");
  await host.stop();
});

test("records go to the origin in batches, hashed and off the request's path", async () => {
  const key = "0123456789abcdef-secret";
  let status = 503;
  const sink = await server((request, body, response) => {
    const lines = body.toString().trim().split("\n").length;
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify({ received: lines, duplicates: 0, refused: [] }));
  });
  const settings = { LOCKGATE_ORIGIN: sink.address, LOCKGATE_ORIGIN_KEY: "the-key", LOCKGATE_RECORD_UNITS_KEY: `k1:${key}` };
  const w = await worker({ bundle: bundle(1), settings });
  const ids = [];
  for (let k = 0; k < 5; k++) ids.push((await w.infer({ user: "alice" })).body.parameters.decision_id);
  await until(() => sink.seen.length > 0, "a batch was tried");
  status = 200;
  const lines = await until(async () => {
    await w.cron();
    const last = sink.seen.at(-1);
    const lines = last.body.toString().trim().split("\n").map((line) => JSON.parse(line));
    return sink.seen.length > 1 && lines;
  }, "the batch came again");
  assert.deepEqual(lines.filter(({ kind }) => kind === "decision").map(({ id }) => id), ids);
  const [record] = lines;
  assert.equal(sink.seen.at(-1).url, "/v1/records");
  assert.equal(sink.seen.at(-1).headers.authorization, "Bearer the-key");
  assert.equal(record.shell, "cloudflare");
  assert.deepEqual(Object.keys(record.latency_us), ["total"], "what the clock of a Worker cannot measure is left out");
  const { createHmac } = await import("node:crypto");
  assert.equal(record.units.user, createHmac("sha256", key).update("user:alice").digest("hex").slice(0, 32));
  assert.doesNotMatch(JSON.stringify(lines), /alice/);
  assert.equal(createHash("sha256").update("").digest("hex").length, 64);
});
