// The cases of `tests/onnx` in V8: the node tests of the `onnx` package and our own. `tests/tests/backend.rs` compares their answers with what ONNX
// and onnxruntime say, natively and in wasmtime, and leaves packages, requests and digests; V8 gives the same bits.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Inference } from "../../edge/js/src/node.js";
import { operatorSuite } from "./conformance.mjs";
import { compile, target } from "./support.mjs";

const CASES_OF_AN_INSTANCE = 64;

/** The cases of a set, as many at a time as share an instance. */
function* chunks(set) {
  const file = (ending) => readFileSync(join(target, `tmp/onnx/${set}.${ending}`));
  const packages = file("packages");
  let [at, cases] = [0, []];
  for (const line of file("jsonl").toString("utf8").trimEnd().split("\n")) {
    const { name, bytes, requests } = JSON.parse(line);
    cases.push({ name, requests, package: packages.subarray(at, at + bytes) });
    at += bytes;
    if (cases.length === CASES_OF_AN_INSTANCE) {
      yield cases;
      cases = [];
    }
  }
  assert.equal(at, packages.length);
  if (cases.length > 0) yield cases;
}

for (const [set, least] of [["backend", 1800], ["generated", 8000]]) {
  test(`V8 answers the cases of ${set} as wasmtime does, bit for bit`, async () => {
    const { compared, mismatches } = await operatorSuite({ Inference }, compile("inference-graph"), chunks(set));
    assert.deepEqual(mismatches.slice(0, 10), [], `${mismatches.length} of ${compared}`);
    assert.ok(compared >= least, `${compared} comparisons only`);
  });
}
