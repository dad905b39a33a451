// Where the tests find things. `cargo xtask test` builds the core and the program, assembles the package (edge/js), and lets the Rust
// tests leave bundles and predictions behind; the variables point elsewhere.

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

export const root = fileURLToPath(new URL("../..", import.meta.url));
export const target = process.env.LOCKGATE_TARGET ?? join(root, "target");
export const lockgate = process.env.LOCKGATE ?? join(target, "debug/lockgate");
export const coreDir = process.env.LOCKGATE_CORE_DIR ?? join(target, "core");
export const faultDir = join(coreDir, "fault");
export const packageDir = join(root, "edge/js");
export const manifest = JSON.parse(readFileSync(join(coreDir, "manifest.json"), "utf8"));
export const vectorsDir = join(root, "tests/reference/vectors");
export const goldenDir = join(target, "tmp/golden");
export const predictionsDir = join(target, "tmp/predictions");

/** The identity that the build recorded for a module, in the fault core's folder or the real one's. */
export function identity(name, folder = coreDir) {
  const { modules } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  return modules.find((module) => module.name === name).identity;
}

export function compile(name, folder = coreDir) {
  return new WebAssembly.Module(readFileSync(join(folder, `${name}.wasm`)));
}

export const run = (...args) => execFileSync(lockgate, args, { encoding: "utf8" });

let scratch;

// Here, and not where the folder is made: inside a test this would be a hook of that test alone.
after(() => {
  if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
});

/** A folder that goes when the tests of this file have run. */
export function scratchDir() {
  scratch ??= mkdtempSync(join(tmpdir(), "lockgate-js-"));
  return scratch;
}

let eurusd;

/** The example's policy and models: `objects` has every package by its model's name. */
export function example() {
  if (eurusd !== undefined) return eurusd;
  const folder = join(root, "examples/eurusd");
  const packages = join(scratchDir(), "packages");
  mkdirSync(packages);
  const objects = new Map();
  const files = [];
  for (const name of ["gb", "lr", "lstm", "mlp", "rf_a", "rf_b", "rfr"].map((name) => `eurusd_${name}`)) {
    const model = join(folder, "models", name);
    const file = join(packages, `${name}.lgp`);
    run("package", `${model}.onnx`, "--manifest", `${model}.manifest.yaml`, "--output", file);
    files.push(file);
    objects.set(name, readFileSync(file));
  }
  const bundle = join(scratchDir(), "policy.lgb");
  const compiled = run("policy", "compile", join(folder, "policy.yaml"), "--packages", packages, "--output", bundle);
  eurusd = { compiled, bundleFile: bundle, bundle: readFileSync(bundle), files, objects, packages: [...objects.values()] };
  return eurusd;
}

/** The packages of the example that every flavour runs. */
export function tabular() {
  return example().packages.filter((_, k) => !example().files[k].includes("lstm"));
}

let lines;

/** The places of the golden vectors' lines, each with the names of its unit lists. */
export function goldenPlaces() {
  if (lines !== undefined) return [...lines.values()].map(({ place, lists }) => ({ place, lists }));
  const files = readdirSync(goldenDir);
  lines = new Map();
  for (const file of readdirSync(vectorsDir).filter((name) => name.endsWith(".jsonl.gz")).sort()) {
    const texts = gunzipSync(readFileSync(join(vectorsDir, file))).toString("utf8").trimEnd().split("\n");
    texts.forEach((text, number) => {
      const place = `${file.split(".")[0]}-${String(number).padStart(3, "0")}`;
      const lists = files.filter((name) => name.startsWith(`${place}.`) && name.endsWith(".lgl")).sort();
      lines.set(place, { place, lists, text });
    });
  }
  return goldenPlaces();
}

export function goldenText(place) {
  goldenPlaces();
  return lines.get(place).text;
}

/** A vector as it was recorded, with the reference's answers. */
export function recordedVector(name) {
  const file = ["models", "answers"].map((folder) => join(root, "tests", folder, `${name}.json`)).find((path) => existsSync(path));
  if (file === undefined) throw new Error(`no folder of tests has ${name}.json`);
  return JSON.parse(readFileSync(file, "utf8"));
}

/** The names of the vectors of predictions: package, inputs, and wasmtime's outputs with every bit. */
export function predictionNames() {
  if (!existsSync(predictionsDir)) throw new Error(`${predictionsDir} is missing: \`cargo xtask test\` writes it`);
  return readdirSync(predictionsDir).filter((name) => name.endsWith(".json")).map((name) => name.replace(/\.json$/, "")).sort();
}

export function predictionVectors() {
  return predictionNames().map((name) => {
    const vector = JSON.parse(readFileSync(join(predictionsDir, `${name}.json`), "utf8"));
    return { name, package: readFileSync(join(predictionsDir, `${name}.lgp`)), ...vector };
  });
}

let packed;

/** The package as npm would publish it, installed in a folder of its own: `{ folder, files }`. */
export function installed() {
  if (packed !== undefined) return packed;
  const out = execFileSync("npm", ["pack", "--json", "--pack-destination", scratchDir()], { cwd: packageDir, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  const [{ filename, files }] = Object.values(JSON.parse(out));
  const home = join(scratchDir(), "installed");
  const folder = join(home, "node_modules/lockgate");
  mkdirSync(folder, { recursive: true });
  execFileSync("tar", ["-xzf", join(scratchDir(), filename), "-C", folder, "--strip-components", "1"]);
  packed = { home, folder, files: files.map(({ path }) => path).sort() };
  return packed;
}

/** The version of an npm package that the tests run with. */
export function packageVersion(name) {
  return JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url), "utf8")).version;
}
