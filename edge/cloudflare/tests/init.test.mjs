// `lockgate init cloudflare`: the project answers as it was written, in `wrangler dev`, and wrangler would upload it.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { test } from "node:test";

import { freePort, join, lockgate, readFileSync, root, scratch, target, until, wranglerEnvironment } from "./support.mjs";

const wrangler = join(root, "edge/cloudflare/node_modules/wrangler/bin/wrangler.js");

const home = scratch("init");
const project = join(home, "project");
// wrangler runs `build.sh`, which finds the program on the path.
const env = wranglerEnvironment(home);
/** How long wrangler may take to build and to start. */
const PATIENCE = 120_000;

function init() {
  const made = spawnSync(lockgate, ["init", "cloudflare", project, "--shells", join(target, "shells")], { env, encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
}

test("a new project answers, and follows its policy", async () => {
  init();
  const port = await freePort();
  let said = "";
  const dev = spawn(process.execPath, [wrangler, "dev", "--local", "--ip", "127.0.0.1", "--port", String(port), "--inspector-port", String(await freePort())], { cwd: project, env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  for (const stream of [dev.stdout, dev.stderr]) stream.on("data", (data) => (said += data));
  try {
    const ask = async () => {
      const response = await fetch(`http://127.0.0.1:${port}/v2/models/direction/infer`, { method: "POST", body: readFileSync(join(project, "request.json")) });
      const answer = await response.json();
      assert.equal(response.status, 200, JSON.stringify(answer));
      return answer;
    };
    const tried = () => ask().catch(() => undefined);
    const answer = await until(tried, "the Worker answered", PATIENCE).catch((error) => assert.fail(`${error}\n${said}`));
    assert.equal(answer.parameters.variant, "canary", "the request comes from alice");
    const { policy, inference } = JSON.parse(readFileSync(join(project, "worker/manifest.json"), "utf8"));
    assert.equal(answer.parameters.policy_core, policy.identity);
    assert.equal(answer.parameters.inference_core, inference.identity);

    // wrangler bakes again when the policy changes.
    const file = join(project, "policy.yaml");
    writeFileSync(file, readFileSync(file, "utf8").replace("version: 1\n", "version: 2\n").replace("user: alice, serve: canary", "user: alice, serve: stable"));
    const second = async () => {
      const answer = await tried();
      return answer?.parameters.bundle_version === 2 && answer;
    };
    const changed = await until(second, "the new policy served", PATIENCE).catch((error) => assert.fail(`${error}\n${said}`));
    assert.equal(changed.parameters.variant, "stable");
  } finally {
    process.kill(-dev.pid, "SIGKILL");
  }

  const dry = spawnSync(process.execPath, [wrangler, "deploy", "--dry-run", "--outdir", join(home, "upload")], { cwd: project, env, encoding: "utf8" });
  assert.equal(dry.status, 0, dry.stdout + dry.stderr);
  const modules = ["shell_bg.wasm", "policy.wasm", "inference.wasm"];
  for (const name of modules) assert.ok(dry.stdout.includes(name), `${name} is not uploaded:\n${dry.stdout}`);
  assert.ok(!dry.stdout.includes("component.wasm"), dry.stdout);
});
