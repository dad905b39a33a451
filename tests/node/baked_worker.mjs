// A Worker of baked modules: it has nothing to fetch and nothing to parse.

import { load } from "lockgate/bare";
import catalog from "baked/catalog.json";
import inference from "baked/inference.wasm";
import policy from "baked/policy.wasm";
import { askBaked } from "./baked.mjs";

const lockgate = await load({ core: { policy, inference }, catalog });

export default {
  fetch: () => Response.json(askBaked(lockgate)),
};
