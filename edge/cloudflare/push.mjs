// Puts a policy with its packages and unit lists where the Worker looks for them, through wrangler.
//
//   node push.mjs [--local] [--kv] [--bucket NAME] [--key KEY] POLICY.lgb PACKAGES
//
// PACKAGES is a folder of packages. With --local they go to where `wrangler dev` keeps its data; with --kv, packages go to KV instead of R2.
// The policy goes last: a Worker never sees one whose packages are missing.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    local: { type: "boolean" },
    kv: { type: "boolean" },
    bucket: { type: "string", default: "lockgate-packages" },
    key: { type: "string", default: "policy" },
  },
});
const [policy, folder] = positionals;
if (folder === undefined) {
  console.error("usage: node push.mjs [--local] [--kv] [--bucket NAME] [--key KEY] POLICY.lgb PACKAGES");
  process.exit(2);
}

const here = fileURLToPath(new URL(".", import.meta.url));
const place = values.local ? "--local" : "--remote";
const lockgate = process.env.LOCKGATE ?? "lockgate";
const inspect = (file) => JSON.parse(execFileSync(lockgate, ["inspect", "--json", file], { encoding: "utf8" }));

function wrangler(...words) {
  execFileSync("npx", ["wrangler", ...words, place], { cwd: here, stdio: ["ignore", "ignore", "inherit"] });
}

function put(key, file) {
  const path = resolve(file);
  if (values.kv) wrangler("kv", "key", "put", key, "--binding", "POLICY", "--path", path);
  else wrangler("r2", "object", "put", `${values.bucket}/${key}`, "--file", path);
  console.log(`${key}  ${file}`);
}

const pinned = new Set(JSON.stringify(inspect(policy)).match(/[0-9a-f]{64}/g));
for (const name of readdirSync(folder).filter((name) => name.endsWith(".lgp")).sort()) {
  const file = join(folder, name);
  const digest = inspect(file).digest.replace("sha256:", "");
  if (pinned.has(digest)) put(`packages/${digest}.lgp`, file);
}
const objects = join(dirname(policy), "objects");
if (existsSync(objects)) {
  for (const name of readdirSync(objects).filter((name) => name.endsWith(".lgl")).sort()) put(`objects/${name}`, join(objects, name));
}
wrangler("kv", "key", "put", values.key, "--binding", "POLICY", "--path", resolve(policy));
console.log(`${values.key}  ${policy}`);
