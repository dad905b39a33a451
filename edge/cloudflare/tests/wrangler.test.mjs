// What docs/cloudflare.md tells a new user to type, typed: with wrangler's local KV and R2, without an account. And what wrangler would upload.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { test } from "node:test";

import { dist, freePort, join, readFileSync, root, scratch, until, wranglerEnvironment } from "./support.mjs";

const FILES = ["catalog.json", "inference.wasm", "manifest.json", "policy.wasm", "shell_bg.wasm", "worker.js"];
const here = join(root, "edge/cloudflare");

/** A clone in which all is built already. */
function clone() {
  const folder = scratch("clone");
  const worker = join(folder, "edge/cloudflare");
  mkdirSync(worker, { recursive: true });
  symlinkSync(join(root, "examples"), join(folder, "examples"));
  for (const name of ["examples", "node_modules"]) symlinkSync(join(here, name), join(worker, name));
  for (const name of ["package.json", "push.mjs", "wrangler.toml", "wrangler.baked.toml"]) cpSync(join(here, name), join(worker, name));
  cpSync(dist, join(worker, "dist"), { recursive: true });
  cpSync(`${dist}-baked`, join(worker, "dist-baked"), { recursive: true });
  return folder;
}

const env = wranglerEnvironment(scratch("home"));

/** Runs a line in a shell; what it printed. */
function type(line, cwd) {
  return new Promise((resolve, reject) => {
    execFile("bash", ["-euc", line], { cwd, env, encoding: "utf8", timeout: 120_000 }, (error, out, err) => {
      if (error) reject(new Error(`${line}: ${error.message}\n${out}${err}`));
      else resolve(out);
    });
  });
}

/** `wrangler dev`, until it is told to end. */
async function develop(line, cwd) {
  const port = await freePort();
  const said = [];
  const child = spawn("bash", ["-c", `exec ${line} --ip 127.0.0.1 --port ${port} --inspector-port ${await freePort()}`], { cwd, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => said.push(String(data)));
  const stop = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It has ended already.
    }
  };
  try {
    await until(() => fetch(`http://127.0.0.1:${port}/v2`).then(() => true, () => false), "wrangler dev answered", 120_000);
  } catch (error) {
    stop();
    throw new Error(`${error.message}: ${said.join("")}`);
  }
  return { port, stop };
}

/** The console lines of a section, without their comments. */
function lines(heading) {
  const page = readFileSync(join(root, "docs/cloudflare.md"), "utf8");
  const section = page.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  assert.ok(section, `the page has no section ${heading}`);
  const blocks = [...section.matchAll(/```console\n([\s\S]*?)```/g)].map(([, block]) => block);
  return blocks.flatMap((block) => block.split("\n").filter(Boolean).map((line) => {
    assert.ok(line.startsWith("$ "), `a line of a console block begins with a prompt: ${line}`);
    return line.slice(2).replace(/\s{2,}#.*$/, "");
  }));
}

/** Types a section. Lines that build, or that need an account, are left out; what would deploy is tried out. */
async function follow(heading, folder) {
  let cwd = folder;
  let dev;
  const printed = new Map();
  try {
    for (const line of lines(heading)) {
      if (/^(cargo |export PATH)/.test(line) || /^npx wrangler (login|kv namespace create|r2 bucket create)/.test(line)) continue;
      if (line.startsWith("cd ")) {
        cwd = join(cwd, line.slice(3));
      } else if (line.startsWith("npx wrangler dev")) {
        dev?.stop();
        dev = await develop(line, cwd);
      } else if (line.startsWith("npx wrangler deploy")) {
        printed.set(line, await type(`${line} --dry-run --outdir ${scratch(`upload-${printed.size}`)}`, cwd));
      } else {
        let real = line.replaceAll("localhost:8787", `127.0.0.1:${dev?.port}`);
        if (real.startsWith("node push.mjs ") && !real.includes("--local")) real = real.replace("push.mjs", "push.mjs --local");
        printed.set(line, await type(real.replace(/^curl /, "curl --fail-with-body "), cwd));
      }
    }
    return { printed, cwd, dev };
  } catch (error) {
    dev?.stop();
    throw error;
  }
}

const startsWith = ({ printed }, start) => [...printed].filter(([line]) => line.startsWith(start)).map(([, out]) => out);

test("the page can be followed: fetched, deployed, baked, with a secret", async (t) => {
  const folder = clone();
  const built = await follow("Build it and try it", folder);
  try {
    const [answer, health, scheduled] = startsWith(built, "curl");
    const { parameters, outputs } = JSON.parse(answer);
    assert.deepEqual([parameters.variant, parameters.bundle_version], ["canary", 1]);
    assert.equal(outputs[1].data.length, 2);
    assert.equal(JSON.parse(health).status, "healthy");
    assert.equal(scheduled, "ok");
    // A newer policy comes to the Worker that runs.
    const source = join(folder, "target/try/policy.yaml");
    await type(`sed -e 's/^version: 1$/version: 2/' -e 's/user: alice, serve: canary/user: alice, serve: forest/' examples/policy.yaml > ${source}
      lockgate policy compile ${source} --packages ../../target/try --output ../../target/try/policy-2.lgb
      node push.mjs --local ../../target/try/policy-2.lgb ../../target/try`, built.cwd);
    const body = JSON.stringify({ parameters: { user: "alice" }, inputs: [{ name: "input", datatype: "FP32", shape: [1, 17], data: Array(17).fill(0) }] });
    await until(async () => {
      const response = await fetch(`http://127.0.0.1:${built.dev.port}/v2/models/eurusd-direction/infer`, { method: "POST", body });
      return (await response.json()).parameters?.variant === "forest";
    }, "the new policy served", 90_000);
  } finally {
    built.dev.stop();
  }

  const deployed = await follow("Deploy", join(folder, "edge/cloudflare"));
  const [upload] = startsWith(deployed, "npx wrangler deploy");
  t.diagnostic(/Total Upload: .*/.exec(upload)?.[0] ?? upload);
  for (const name of FILES.filter((name) => name !== "worker.js")) assert.ok(upload.includes(name), `${name} is not uploaded:\n${upload}`);

  const baked = await follow("Everything baked", folder);
  try {
    const [upload] = startsWith(baked, "npx wrangler deploy");
    for (const name of FILES.filter((name) => name !== "worker.js")) assert.ok(upload.includes(name), `${name} is not uploaded:\n${upload}`);
    assert.ok(!/component|about/.test(upload), upload);
    const health = await (await fetch(`http://127.0.0.1:${baked.dev.port}/health`)).json();
    assert.deepEqual([health.status, health.parts.policy.source], ["healthy", "baked"]);
  } finally {
    baked.dev.stop();
  }

  const secret = await follow("Settings and secrets", join(folder, "edge/cloudflare"));
  try {
    assert.match(startsWith(secret, "curl")[0], /outputs/);
    const without = await fetch(`http://127.0.0.1:${secret.dev.port}/v2/models/eurusd-direction/infer`, { method: "POST", body: "{}" });
    assert.equal(without.status, 401);
  } finally {
    secret.dev.stop();
  }
});

test("nothing lies beside the Worker that does not belong to it", () => {
  assert.deepEqual(readdirSync(dist).sort(), FILES);
  assert.deepEqual(readdirSync(`${dist}-baked`).sort(), ["shell_bg.wasm", "worker.js"]);
});
