// Workers in real workerd, through miniflare: bundled as wrangler does it, with each `.wasm` beside the script.

import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { join } from "node:path";

import { faultDir, installed, scratchDir } from "./support.mjs";

export const COMPATIBILITY = "2026-04-01";

/** Bundles a Worker that imports the installed package by its name, and folders by the names of `alias`. */
export async function bundle(entry, name, alias = {}) {
  const out = join(scratchDir(), name);
  const result = await build({
    entryPoints: [entry],
    outfile: join(out, "worker.js"),
    bundle: true,
    format: "esm",
    target: "es2022",
    conditions: ["workerd", "worker", "browser"],
    loader: { ".wasm": "copy", ".lgb": "copy", ".lgp": "copy" },
    nodePaths: [join(installed().home, "node_modules")],
    alias: { fault: faultDir, ...alias },
    logLevel: "silent",
    metafile: true,
  });
  return { script: join(out, "worker.js"), folder: out, inputs: Object.keys(result.metafile.inputs) };
}

/** A Worker that runs. */
export function start({ script, folder }, options = {}) {
  return new Miniflare({
    modules: true,
    modulesRoot: folder,
    scriptPath: script,
    modulesRules: [
      { type: "CompiledWasm", include: ["**/*.wasm"] },
      { type: "Data", include: ["**/*.lgb", "**/*.lgp"] },
    ],
    compatibilityDate: COMPATIBILITY,
    ...options,
  });
}
