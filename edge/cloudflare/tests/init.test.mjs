// `lockgate init cloudflare`: the project answers as it was written, in `wrangler dev`, and wrangler would upload it.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const target = process.env.LOCKGATE_TARGET ?? join(root, "target");
const lockgate = process.env.LOCKGATE ?? join(target, "debug/lockgate");
const wrangler = join(root, "edge/cloudflare/node_modules/wrangler/bin/wrangler.js");

const home = mkdtempSync(join(tmpdir(), "lockgate-init-"));
after(() => rmSync(home, { recursive: true, force: true }));
const project = join(home, "project");
// wrangler runs `build.sh`, which finds the program on the path; neither asks the network for anything.
const env = {
  ...process.env,
  PATH: `${dirname(lockgate)}${delimiter}${process.env.PATH}`,
  LOCKGATE_CORE: process.env.LOCKGATE_CORE_DIR ?? join(target, "core"),
  CI: "1",
  WRANGLER_SEND_METRICS: "false",
  CLOUDFLARE_CF_FETCH_ENABLED: "false",
  HOME: home,
};

function init() {
  const made = spawnSync(lockgate, ["init", "cloudflare", project, "--shells", join(target, "shells")], { env, encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function until(what, condition) {
  const end = Date.now() + 120_000;
  for (;;) {
    const found = await condition().catch(() => undefined);
    if (found) return found;
    assert.ok(Date.now() < end, `waiting for ${what} took too long`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
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
    const answer = await until("the Worker", ask).catch((error) => assert.fail(`${error}\n${said}`));
    assert.equal(answer.parameters.variant, "canary", "the request comes from alice");
    const { policy, inference } = JSON.parse(readFileSync(join(project, "worker/manifest.json"), "utf8"));
    assert.equal(answer.parameters.policy_core, policy.identity);
    assert.equal(answer.parameters.inference_core, inference.identity);

    // wrangler bakes again when the policy changes.
    const file = join(project, "policy.yaml");
    writeFileSync(file, readFileSync(file, "utf8").replace("version: 1\n", "version: 2\n").replace("user: alice, serve: canary", "user: alice, serve: stable"));
    const changed = await until("the new policy", async () => {
      const answer = await ask();
      return answer.parameters.bundle_version === 2 && answer;
    }).catch((error) => assert.fail(`${error}\n${said}`));
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
