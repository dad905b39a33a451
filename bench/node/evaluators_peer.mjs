// Evaluators of feature flags with the rules of `eurusd-direction` in examples/eurusd/policy.yaml, in their own languages.
// Their hashes differ from ours and from each other's, so their answers are not compared.

import { readFileSync } from "node:fs";
import { FlagdCore } from "@openfeature/flagd-core";
import { GrowthBookClient } from "@growthbook/growthbook";
import { firstRow, serve, setup } from "./peer.mjs";

const research = ["desk-1", "desk-2"];
const moved = ["EURUSD", "USDCHF"];
const contexts = JSON.parse(readFileSync(setup.contexts, "utf8")).map(({ user, symbol, strategy }) =>
  strategy ? { user, symbol, strategy } : { user, symbol },
);

const quiet = { error() {}, warn() {}, info() {}, debug() {} };
const flagd = new FlagdCore(undefined, quiet);
flagd.setConfigurations(
  JSON.stringify({
    flags: {
      [setup.route]: {
        state: "ENABLED",
        variants: { stable: "stable", canary: "canary", "forest-a": "forest-a", "forest-b": "forest-b" },
        defaultVariant: "stable",
        targeting: {
          if: [
            { "==": [{ var: "user" }, "alice"] },
            "canary",
            { in: [{ var: "user" }, research] },
            "canary",
            { in: [{ var: "symbol" }, moved] },
            "canary",
            { "==": [{ var: "strategy" }, "forest-comparison"] },
            { fractional: [{ cat: ["forests", { var: "symbol" }] }, ["forest-a", 50], ["forest-b", 50]] },
            { fractional: [{ cat: [setup.route, { var: "user" }] }, ["stable", 90], ["canary", 10]] },
          ],
        },
      },
    },
  }),
);

const growthbook = new GrowthBookClient();
growthbook.initSync({
  payload: {
    features: {
      [setup.route]: {
        defaultValue: "stable",
        rules: [
          { condition: { user: "alice" }, force: "canary" },
          { condition: { user: { $in: research } }, force: "canary" },
          { condition: { symbol: { $in: moved } }, force: "canary" },
          {
            condition: { strategy: "forest-comparison" },
            key: "forests",
            hashAttribute: "symbol",
            variations: ["forest-a", "forest-b"],
            weights: [0.5, 0.5],
          },
          { key: setup.route, hashAttribute: "user", variations: ["stable", "canary"], weights: [0.9, 0.1] },
        ],
      },
    },
  },
});

/** One evaluation per context; an answer that is no variant would mean that the rules were not understood. */
function peer(evaluate) {
  const prepare = (request) => (call) => {
    const start = firstRow(call, request.contexts, contexts.length);
    for (let k = start; k < start + request.contexts; k++) {
      const variant = evaluate(contexts[k]);
      if (typeof variant !== "string") throw new Error(`no variant for ${JSON.stringify(contexts[k])}`);
    }
    return null;
  };
  return { kinds: ["decide"], prepare };
}

// Seen once from outside: every variant occurs, and those who are named get what they are named for.
const evaluators = {
  "flagd-core": (context) => flagd.resolveStringEvaluation(setup.route, "none", context).value,
  GrowthBook: (context) => growthbook.getFeatureValue(setup.route, "none", { attributes: context }),
};
for (const [name, evaluate] of Object.entries(evaluators)) {
  const counts = {};
  for (const context of contexts) {
    const variant = evaluate(context);
    counts[variant] = (counts[variant] ?? 0) + 1;
  }
  const named = [{ user: "alice", symbol: "GBPUSD" }, { user: "desk-1", symbol: "GBPUSD" }, { user: "bob", symbol: "EURUSD" }];
  if (Object.keys(counts).length !== 4 || named.some((context) => evaluate(context) !== "canary")) {
    throw new Error(`${name} does not follow the policy: ${JSON.stringify(counts)}`);
  }
}

const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
serve(Object.fromEntries(Object.entries(evaluators).map(([name, evaluate]) => [name, peer(evaluate)])), {
  "flagd-core": version("@openfeature/flagd-core"),
  GrowthBook: version("@growthbook/growthbook"),
});
