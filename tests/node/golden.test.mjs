// The golden vectors of the second evaluator (tests/reference) in V8, every field of every decision.
//
// `cargo xtask test` runs tests/tests/conformance/golden.rs first, which compiles the policies and leaves the bundles in
// LOCKGATE_GOLDEN_DIR.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

import { Core, Decider } from "../../bench/node/flat.mjs";

const root = fileURLToPath(new URL("../..", import.meta.url));
const bundles = process.env.LOCKGATE_GOLDEN_DIR ?? join(root, "target/tmp/golden");
const coreDir = process.env.LOCKGATE_CORE_DIR ?? join(root, "target/core");
const vectors = join(root, "tests/reference/vectors");
const { modules } = JSON.parse(readFileSync(join(coreDir, "manifest.json"), "utf8"));
const policyModule = new WebAssembly.Module(readFileSync(join(coreDir, modules.find(({ name }) => name === "policy").file)));
const compiled = readdirSync(bundles);

const FIELDS = ["route", "user", "symbol", "tenant", "session", "variant"];
const PLACEMENTS = [undefined, "edge", "host", "gpu"];

/** The module with the bundle of a line, its unit lists first. */
function load(place) {
  const core = new Core(policyModule, "lockgate_decide");
  const lists = compiled.filter((file) => file.startsWith(`${place}.`) && file.endsWith(".lgl")).sort();
  for (const file of [...lists, `${place}.lgb`]) core.load(readFileSync(join(bundles, file)));
  return new Decider(core);
}

function contextOf(line, row) {
  const context = {};
  FIELDS.forEach((field, k) => {
    if (row[k] >= 0) context[field] = line.strings[row[k]];
  });
  if (row[6] >= 0) {
    const numbers = { nan: NaN, inf: Infinity, "-inf": -Infinity };
    context.attributes = Object.fromEntries(
      Object.entries(line.attributes[row[6]]).map(([name, value]) => [name, value.number ? numbers[value.number] : value]),
    );
  }
  return context;
}

/** What the second evaluator decided; what follows from a variant's name comes out of the policy. */
function expectedOf(line, policy, row) {
  const outcome = line.outcomes[line.vectors.outcome[row]];
  if (outcome === null) return undefined;
  let scope = policy;
  if (outcome.tenant !== undefined) scope = scope.tenants[outcome.tenant];
  if (outcome.user !== undefined) scope = scope.users[outcome.user];
  const version = (name) => {
    const { model, payload } = scope.routes[outcome.route].variants[name];
    const { digest, placement = "edge" } = policy.models[model];
    return { variant: name, model, digest: digest.replace("sha256:", ""), placement, payload };
  };
  const number = (column) => (line.vectors[column][row] < 0 ? undefined : line.vectors[column][row]);
  return {
    ...version(outcome.variant),
    tenant: outcome.tenant,
    user: outcome.user,
    reason: outcome.reason,
    step: outcome.step,
    rule: outcome.rule,
    layer: outcome.layer,
    bucket: number("bucket"),
    stage: outcome.stage,
    window: number("window"),
    unitMissing: outcome.unit_missing ?? false,
    holdout: outcome.holdout ?? false,
    washout: outcome.washout ?? false,
    unavailable: outcome.unavailable ?? false,
    intended: outcome.intended,
    shadows: (outcome.shadows ?? []).map(([name, variant, rate, concurrency, bytes, deadline]) => {
      const { model, digest, placement } = version(variant);
      return { name, variant, model, digest, placement, rate, concurrency, bytes, deadline };
    }),
  };
}

function foundOf(decision) {
  if (decision === undefined) return undefined;
  const { variant, model, version, payload, packageDigest, placement, tenant, user, reason, step, rule, layer, bucket, stage, window } = decision;
  const { unitMissing, holdout, washout, unavailable, intended, shadows = [] } = decision;
  return {
    variant,
    model: `${model}@${version}`,
    digest: packageDigest,
    placement: PLACEMENTS[placement],
    payload: payload === undefined ? undefined : JSON.parse(payload),
    tenant, user, reason, step, rule, layer, bucket, stage, window, unitMissing, holdout, washout, unavailable, intended,
    shadows: shadows.map(({ name, variant, model, version, packageDigest, placement, rate, concurrency, bytes, deadline }) => ({
      name, variant, model: `${model}@${version}`, digest: packageDigest, placement: PLACEMENTS[placement], rate, concurrency, bytes, deadline,
    })),
  };
}

test("V8 decides as the second evaluator", () => {
  let compared = 0;
  for (const file of readdirSync(vectors).filter((name) => name.endsWith(".jsonl.gz")).sort()) {
    const lines = gunzipSync(readFileSync(join(vectors, file))).toString("utf8").trimEnd().split("\n");
    lines.forEach((text, number) => {
      const line = JSON.parse(text);
      const policy = JSON.parse(line.policy);
      const place = `${file.split(".")[0]}-${String(number).padStart(3, "0")}`;
      const decider = load(place);
      const contexts = line.contexts.map((row) => contextOf(line, row));
      const size = line.vectors.context.length / line.batches.time.length;
      line.batches.time.forEach((time, batch) => {
        // Times beyond 2⁵³ are no numbers of JavaScript.
        if (typeof time === "string") return;
        const rows = Array.from({ length: size }, (_, k) => batch * size + k);
        const unavailable = line.unavailable[line.batches.unavailable[batch]].map((digest) => Buffer.from(digest, "hex"));
        const given = rows.map((row) => contexts[line.vectors.context[row]]);
        const decisions = decider.decide(given, time, unavailable);
        rows.forEach((row, k) => {
          const where = `${place} vector ${row}: ${JSON.stringify(given[k])} at ${time}`;
          assert.deepEqual(foundOf(decisions[k]), expectedOf(line, policy, row), where);
          compared += 1;
        });
      });
    });
  }
  assert.ok(compared >= 100_000, `${compared} vectors only`);
});
