// What every runtime asks baked modules, and modules that were loaded in the ordinary way: the answers must be the same.

import { bitsOf } from "./conformance.mjs";

const NOW = 1_700_000_000_000;

export function askBaked(lockgate) {
  const decisions = [];
  const predictions = {};
  for (let k = 0; k < 300; k++) {
    const attributes = k % 5 === 0 ? { strategy: "forest-comparison" } : undefined;
    const context = { route: "eurusd-direction", user: `user-${k}`, symbol: k % 7 === 0 ? "EURUSD" : `S${k}`, attributes };
    const decision = lockgate.decide(context, NOW);
    const input = Float32Array.from({ length: 17 }, (_, n) => Math.fround(((k * 31 + n * 7) % 41) - 20));
    const { outputs } = lockgate.predict(decision, { input });
    decisions.push([decision.variant, decision.bucket, decision.rule, outputs.map(bitsOf)]);
    predictions[decision.model] = (predictions[decision.model] ?? 0) + 1;
  }
  const { policy, identities, models } = lockgate;
  const described = models.map(({ name, version, digest, inputs, outputs, labels, engine }) => ({ name, version, digest, inputs, outputs, labels, engine }));
  described.sort((a, b) => (a.digest < b.digest ? -1 : 1));
  return JSON.parse(JSON.stringify({ decisions, predictions, identities, version: String(policy.version), digest: policy.digest, models: described }));
}
