// Evaluators of feature flags, and one of Rego in WebAssembly, with the three rules of the benchmark in their own languages.
// Their hashes differ from ours and from each other's, so their answers are not compared.

import { readFileSync } from "node:fs";
import { FlagdCore } from "@openfeature/flagd-core";
import { GrowthBookClient } from "@growthbook/growthbook";
import { firstRow, serve, setup } from "./peer.mjs";

const desk = ["desk-1", "desk-2", "desk-3"];
const moved = ["EURUSD", "USDCHF", "GBPJPY"];
const callers = JSON.parse(readFileSync(setup.contexts, "utf8"));

const quiet = { error() {}, warn() {}, info() {}, debug() {} };
const flagd = new FlagdCore(undefined, quiet);
flagd.setConfigurations(
  JSON.stringify({
    flags: {
      [setup.route]: {
        state: "ENABLED",
        variants: { stable: "stable", canary: "canary" },
        defaultVariant: "stable",
        targeting: {
          if: [
            { in: [{ var: "user" }, desk] },
            "canary",
            { in: [{ var: "symbol" }, moved] },
            "canary",
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
          { condition: { user: { $in: desk } }, force: "canary" },
          { condition: { symbol: { $in: moved } }, force: "canary" },
          { key: setup.route, hashAttribute: "user", variations: ["stable", "canary"], weights: [0.9, 0.1] },
        ],
      },
    },
  },
});

// Rego has no hash that yields a share, so the tenth that gets the canary is that of the user's number.
const rego = new WebAssembly.Instance(new WebAssembly.Module(readFileSync(setup.rego)), {}).exports;
const encoder = new TextEncoder();
const decoder = new TextDecoder();
let regoAddress = rego.reserve(4096);
const regoPolicy = `package route
import rego.v1
default variant := "stable"
variant := "canary" if input.user in {"desk-1", "desk-2", "desk-3"}
else := "canary" if input.symbol in {"EURUSD", "USDCHF", "GBPJPY"}
else := "canary" if endswith(input.user, "0")
`;
rego.load(encoder.encodeInto(regoPolicy, new Uint8Array(rego.memory.buffer, regoAddress)).written);
regoAddress = rego.reserve(4096);
let regoBytes = new Uint8Array(rego.memory.buffer);
function regoVariant(context) {
  if (regoBytes.length === 0) regoBytes = new Uint8Array(rego.memory.buffer);
  const { written } = encoder.encodeInto(JSON.stringify(context), regoBytes.subarray(regoAddress));
  const answer = rego.decide(written);
  if (regoBytes.length === 0) regoBytes = new Uint8Array(rego.memory.buffer);
  const [address, length] = [Number(answer >> 32n), Number(answer & 0xffffffffn)];
  return decoder.decode(regoBytes.subarray(address, address + length));
}

/** One evaluation per context; an answer that is no variant would mean that the rules were not understood. */
function peer(evaluate) {
  const prepare = (request) => (call) => {
    const start = firstRow(call, request.contexts, callers.length);
    for (let k = start; k < start + request.contexts; k++) {
      const { user, symbol } = callers[k];
      const variant = evaluate({ user, symbol });
      if (typeof variant !== "string") throw new Error(`no variant for ${JSON.stringify(callers[k])}`);
    }
    return null;
  };
  return { kinds: ["decide"], prepare };
}

// Seen once from outside: every variant occurs, and those who are named get what they are named for.
const evaluators = {
  "flagd-core": (context) => flagd.resolveStringEvaluation(setup.route, "none", context).value,
  GrowthBook: (context) => growthbook.getFeatureValue(setup.route, "none", { attributes: context }),
  "regorus in V8": regoVariant,
};
for (const [name, evaluate] of Object.entries(evaluators)) {
  const counts = {};
  for (const { user, symbol } of callers) {
    const context = { user, symbol };
    const variant = evaluate(context);
    counts[variant] = (counts[variant] ?? 0) + 1;
  }
  const named = [{ user: "desk-3", symbol: "GBPUSD" }, { user: "desk-1", symbol: "GBPUSD" }, { user: "user-00001", symbol: "EURUSD" }];
  if (Object.keys(counts).length !== 2 || named.some((context) => evaluate(context) !== "canary")) {
    throw new Error(`${name} does not follow the policy: ${JSON.stringify(counts)}`);
  }
}

const version = (name) => JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url))).version;
serve(Object.fromEntries(Object.entries(evaluators).map(([name, evaluate]) => [name, peer(evaluate)])), {
  "flagd-core": version("@openfeature/flagd-core"),
  GrowthBook: version("@growthbook/growthbook"),
});
