// After 10 000 requests and 100 bundles nothing has grown: not the modules' memories, not the number of instances, not the process.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { example } from "./support.mjs";

test("memory does not grow", () => {
  const { bundleFile, files } = example();
  const tabular = files.filter((file) => !file.includes("lstm"));
  const script = fileURLToPath(new URL("steady.mjs", import.meta.url));
  const { made, points } = JSON.parse(execFileSync(process.execPath, ["--expose-gc", script, bundleFile, ...tabular], { encoding: "utf8" }));
  assert.equal(made, 200);
  const [first] = points;
  const last = points.at(-1);
  assert.equal(points.length, 5);
  for (const { memories, alive } of points) {
    assert.deepEqual(memories, first.memories, "a module's memory has grown");
    assert.ok(alive <= 4, `${alive} instances are alive`);
  }
  // Five times the requests; what the process may differ by is its own heap's noise.
  assert.ok(last.rss - first.rss < 32e6, `the process has grown by ${last.rss - first.rss} bytes`);
  assert.ok(last.heapUsed - first.heapUsed < 4e6, `the heap has grown by ${last.heapUsed - first.heapUsed} bytes`);
  assert.ok(last.external - first.external < 4e6, `${last.external - first.external} bytes more outside the heap`);
});
