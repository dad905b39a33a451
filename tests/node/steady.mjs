// Started by steady.test.mjs with --expose-gc: many requests, new bundles and packages in between, and what is still alive afterwards.

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { load } from "../../edge/js/src/node.js";

const REQUESTS = 10_000;
const PER_BUNDLE = 100;
const [bundleFile, ...files] = process.argv.slice(2);
const packages = files.map((file) => readFileSync(file));

let made = 0;
let ended = 0;
const registry = new FinalizationRegistry(() => (ended += 1));

/** A new bundle means new instances; the old ones are for the garbage collector. */
async function refresh() {
  const lockgate = await load({ bundle: readFileSync(bundleFile), packages });
  for (const { core } of [lockgate.policy, lockgate.inference]) {
    registry.register(core.exports.memory, undefined);
    made += 1;
  }
  return lockgate;
}

async function collected() {
  for (let round = 0; round < 10; round++) {
    globalThis.gc();
    await sleep(10);
  }
}

async function measure(lockgate) {
  await collected();
  const memories = [lockgate.policy, lockgate.inference].map(({ core }) => core.exports.memory.buffer.byteLength);
  const { rss, heapUsed, external } = process.memoryUsage();
  return { memories, alive: made - ended, rss, heapUsed, external };
}

const input = new Float32Array(17);
let lockgate;
const points = [];
for (let k = 0; k < REQUESTS; k++) {
  if (k % PER_BUNDLE === 0) lockgate = await refresh();
  input[0] = (k % 41) - 20;
  const context = { route: "eurusd-direction", user: `user-${k}`, symbol: k % 3 === 0 ? "EURUSD" : "GBPJPY", attributes: k % 7 === 0 ? { strategy: "forest-comparison" } : undefined };
  lockgate.predict(lockgate.decide(context), { input });
  if (k % 50 === 0) lockgate.decideBatch(Array.from({ length: 64 }, (_, n) => ({ ...context, user: `u-${n}` })));
  if ((k + 1) % 2000 === 0) points.push(await measure(lockgate));
}
console.log(JSON.stringify({ made, points }));
