// The vectors under addresses, so that a browser's page and a Worker read what Node reads. `dataAt` is the whole of it; the servers that
// the other runtimes ask are only doors to it.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { example, faultDir, goldenDir, goldenPlaces, goldenText, predictionNames, predictionsDir, recordedVector, root } from "./support.mjs";

const json = (value) => Buffer.from(JSON.stringify(value));
const eurusd = join(root, "examples/eurusd/data");

/** What lies at an address; `undefined` when nothing does. */
export function dataAt(address) {
  const [kind, name] = address.split("/").slice(1);
  const found = KINDS[kind];
  return found === undefined ? undefined : found(name);
}

const KINDS = {
  decisions: (name) => {
    if (name === undefined) return json(goldenPlaces());
    return name.endsWith(".jsonl") ? Buffer.from(goldenText(name.slice(0, -6))) : readFileSync(join(goldenDir, name));
  },
  predictions: (name) => {
    if (name === undefined) return json(predictionNames());
    if (name.endsWith(".lgp")) return readFileSync(join(predictionsDir, name));
    const ours = JSON.parse(readFileSync(join(predictionsDir, name), "utf8"));
    const { outputs: expected, classes } = recordedVector(name.slice(0, -".json".length));
    return json({ ...ours, expected, classes });
  },
  eurusd: (name) => {
    if (name === undefined) return json([...example().objects.keys()].filter((key) => key.startsWith("eurusd_")));
    return name.endsWith(".lgp") ? example().objects.get(name.slice(0, -4)) : json(realRows(name));
  },
  object: (name) => objects().get(name),
  errors: (name) => (name === undefined ? readFileSync(join(root, "tests/errors.json")) : changed(JSON.parse(decodeURIComponent(name)))),
  fault: (name) => readFileSync(join(faultDir, name)),
};

/** 500 rows of real prices as a model takes them, and what onnxruntime answered. */
function realRows(name) {
  const table = (file) => readFileSync(join(eurusd, file), "utf8").trimEnd().split("\n").map((line) => line.split(","));
  const [header, ...lines] = table("rows.csv");
  const columns = header.flatMap((title, k) => (title.startsWith("return_lag_") ? [k] : []));
  const features = lines.map((line) => columns.map((k) => Number(line[k])));
  const held = lines.findIndex((line) => line[1] === "held_out");
  const count = lines.length - held;
  const isSequence = name === "eurusd_lstm";
  // Sequence i ends with held-out row i.
  const rows = Array.from({ length: count }, (_, k) => (isSequence ? features.slice(held + k - 19, held + k + 1).flat() : features[held + k]));
  const [titles, ...answers] = table(`answers/${name}.csv`);
  const column = (title) => titles.flatMap((text, k) => (text.startsWith(title) ? [k] : []));
  const values = (ks) => answers.flatMap((line) => ks.map((k) => Number(line[k])));
  const scores = column("probability_");
  const expected = [];
  if (scores.length > 0) {
    expected.push({ datatype: "INT64", shape: [count], data: values(column("label")) });
    expected.push({ datatype: "FP32", shape: [count, scores.length], data: values(scores) });
  } else {
    expected.push({ datatype: "FP32", data: values(column("value")) });
  }
  return { shape: isSequence ? [count, 20, 17] : [count, 17], data: rows.flat(), expected, classes: scores };
}

let all;

/** What `tests/errors.json` calls objects. */
function objects() {
  if (all !== undefined) return all;
  const { place, lists } = goldenPlaces().find((line) => line.lists.length > 0);
  all = new Map([
    ...example().objects,
    ["bundle", example().bundle],
    ["listed", readFileSync(join(goldenDir, `${place}.lgb`))],
    ["list", readFileSync(join(goldenDir, lists[0]))],
  ]);
  return all;
}

/** An object of `tests/errors.json` with its changes. */
function changed({ object, xor, set, cut, keep, rehash }) {
  const bytes = Buffer.from(objects().get(object));
  const end = Number(bytes.readBigUInt64LE(24));
  const digest = (content) => createHash("sha256").update(content).digest();
  const before = digest(bytes.subarray(0, end));
  const place = (at) => (at < 0 ? end + at : at);
  if (xor !== undefined) bytes[place(xor[0])] ^= xor[1];
  if (set !== undefined) bytes[place(set[0])] = set[1];
  if (rehash) digest(bytes.subarray(0, end)).copy(bytes, bytes.indexOf(before, end));
  return bytes.subarray(0, keep ?? bytes.length - (cut ?? 0));
}

