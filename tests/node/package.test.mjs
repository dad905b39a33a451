// The npm package: what is in it, that each of its entry points works from an installed copy, and that its types are those that it says.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { compile, coreDir, example, identity, installed, manifest, packageDir, root } from "./support.mjs";

const read = (path) => readFileSync(join(packageDir, path), "utf8");
const { exports } = JSON.parse(read("package.json"));

test("the package holds its sources, their types, the modules, and nothing else", () => {
  const sources = ["browser", "core", "decide", "errors", "index", "load", "messagepack", "node", "package", "predict", "tensors", "workers", "workers-graph"];
  const expected = [
    "LICENSE", "README.md", "package.json", "core/manifest.json",
    ...manifest.modules.map(({ file }) => `core/${file}`),
    ...sources.flatMap((name) => [`src/${name}.js`, `types/${name}.d.ts`]),
  ];
  assert.deepEqual(installed().files, expected.sort());
});

test("its modules are those that the build recorded", () => {
  const { folder } = installed();
  assert.deepEqual(readFileSync(join(folder, "core/manifest.json")), readFileSync(join(coreDir, "manifest.json")));
  for (const { name, file } of manifest.modules) {
    assert.deepEqual(readFileSync(join(folder, "core", file)), readFileSync(join(coreDir, file)), file);
    const [section] = WebAssembly.Module.customSections(compile(name, join(folder, "core")), "lockgate-identity");
    assert.equal(Buffer.from(section).toString("hex"), identity(name));
  }
});

test("every file that the package names is there", () => {
  const { files } = installed();
  const named = JSON.stringify(exports).match(/"\.\/[^"*]+\.[a-z.]+"/g).map((path) => path.slice(3, -1));
  assert.ok(named.length >= 10);
  for (const path of named) assert.ok(files.includes(path), path);
  for (const path of files.filter((name) => name.endsWith(".js") || name.endsWith(".d.ts"))) {
    for (const [, wanted] of read(path).matchAll(/(?:from |import\()"(\.[^"]+)"/g)) {
      const resolved = new URL(wanted, `file:///${path}`).pathname.slice(1);
      // A type's import of `./x.js` is answered by `./x.d.ts`.
      const found = path.endsWith(".d.ts") ? resolved.replace(/\.js$/, ".d.ts") : resolved;
      assert.ok(files.includes(found), `${path}: ${wanted}`);
    }
  }
  assert.deepEqual(readFileSync(join(packageDir, "LICENSE")), readFileSync(join(root, "LICENSE")));
});

test("Node finds the entry points and their modules by name", () => {
  const { home } = installed();
  const script = `
    import { readFileSync } from "node:fs";
    import { load } from "lockgate";
    import * as byName from "lockgate/node";
    import * as bare from "lockgate/bare";
    import manifest from "lockgate/core/manifest.json" with { type: "json" };
    if (load !== byName.load) throw new Error("lockgate is not lockgate/node");
    const { policy, identities } = await load({ bundle: readFileSync(process.argv[1]), packages: [readFileSync(process.argv[2])] });
    console.log(JSON.stringify([identities, policy.decide({ route: "eurusd-direction", user: "bob" }, 0).variant, manifest.modules.length, typeof bare.Policy]));
  `;
  const args = ["--no-warnings", "--input-type=module", "--eval", script, example().bundleFile, example().files[0]];
  const [identities, variant, modules, kind] = JSON.parse(execFileSync(process.execPath, args, { cwd: home, encoding: "utf8" }));
  assert.deepEqual(identities, { policy: identity("policy"), inference: identity("inference-tabular") });
  assert.deepEqual([typeof variant, modules, kind], ["string", 3, "function"]);
});

test("TypeScript sees the types, and refuses what is wrong", () => {
  const { home } = installed();
  const source = `
    import { load, LockgateError, type Context, type Decision, type Tensor, type ErrorCode } from "lockgate";
    const lockgate = await load({ bundle: new Uint8Array(1), packages: [new URL("file:///x")], flavour: "tabular" });
    const context: Context = { route: "r", user: "u", attributes: { a: 1, b: "x", c: true } };
    const decision: Decision = lockgate.decide(context, 0n, ["00"]);
    const [maybe]: (Decision | undefined)[] = lockgate.decideBatch([context]);
    const outputs: Tensor[] = lockgate.predict(decision, { input: new Float32Array(17), ids: { data: [1n], shape: [1] } }, { view: true }).outputs;
    const digest: string = decision.packageDigest;
    const bucket: number | undefined = maybe?.bucket;
    const code: ErrorCode = new LockgateError("trapped", "x").code;
    const baked = { packages: { ab: { model: "m", version: "1.0.0", signature: { inputs: [{ name: "x", datatype: "FP32" as string, shape: [-1, 2] }], outputs: [] }, engine: "tabular" } } };
    const [model] = (await load({ core: { inference: new Uint8Array(1) }, catalog: baked })).models;
    const datatype: "FP32" | undefined = model.inputs[0].datatype === "FP32" ? model.inputs[0].datatype : undefined;
    void [datatype, load({ catalog: null })];
    // @ts-expect-error a route is needed
    lockgate.decide({ user: "u" });
    // @ts-expect-error there is no such flavour
    load({ flavour: "none" });
    // @ts-expect-error an attribute is a text, a number or a boolean
    lockgate.decide({ route: "r", attributes: { a: null } });
    // @ts-expect-error what is inside stays inside
    lockgate.policy?.core;
    // @ts-expect-error a path is no source
    load({ bundle: "policy.lgb" });
    void [outputs, digest, bucket, code];
  `;
  writeFileSync(join(home, "use.mts"), source);
  const options = { strict: true, noEmit: true, target: "ES2022", lib: ["ES2022", "DOM"], types: [] };
  const bundler = { module: "ESNext", moduleResolution: "Bundler" };
  const kinds = [
    { module: "NodeNext", moduleResolution: "NodeNext" },
    { module: "Node16", moduleResolution: "Node16" },
    bundler,
    { ...bundler, customConditions: ["browser"] },
    { ...bundler, customConditions: ["workerd"] },
  ];
  for (const kind of kinds) {
    writeFileSync(join(home, "tsconfig.json"), JSON.stringify({ compilerOptions: { ...options, ...kind }, files: ["use.mts"] }));
    execFileSync(process.execPath, [join(packageDir, "node_modules/typescript/bin/tsc"), "--project", home], { stdio: "inherit" });
  }
});

test("what it exports is what its types export", () => {
  const names = (text) => [...text.matchAll(/^export (?:declare )?(?:class|const|function) (\w+)|^export \{ ([^}]+) \}/gm)].flatMap(([, name, list]) => (name === undefined ? list.split(", ") : [name])).sort();
  for (const entry of ["index", "node", "browser"]) {
    const types = names(read(`types/${entry}.d.ts`));
    assert.deepEqual(types, names(read(`src/${entry}.js`)), entry);
    assert.ok(types.includes("load"), entry);
  }
});
