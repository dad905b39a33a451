// What a whole conformance run leaves behind for docs/conformance.md.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { identity, target } from "./support.mjs";

/** The suites that every runtime of JavaScript runs, and the fewest comparisons that make a whole run. */
const LEAST = { decisions: 100_000, predictions: 3_500, errors: 30, faults: 16 };

/** Writes a runner's file; a suite that differs anywhere, or a module that is another than the build's, fails instead. */
export function record(runner, versions, modules, suites) {
  assert.deepEqual(modules, Object.fromEntries(Object.keys(modules).map((name) => [name, identity(name)])), "other modules than those of the build");
  assert.equal(Object.keys(modules).length, 3);
  const written = {};
  for (const [name, least] of Object.entries(LEAST)) {
    const { compared, mismatches, ...rest } = suites[name];
    assert.deepEqual(mismatches.slice(0, 5), [], `${runner}, ${name}: ${mismatches.length} of ${compared} differ`);
    assert.ok(compared >= least, `${runner}, ${name}: ${compared} comparisons only`);
    written[name] = { compared, mismatches: mismatches.length, ...rest };
  }
  const folder = process.env.LOCKGATE_CONFORMANCE_DIR ?? join(target, "conformance");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, `${runner}.json`), `${JSON.stringify({ runner, versions, modules, suites: written }, null, 2)}\n`);
}
