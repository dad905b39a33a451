// The example page in Chromium: what it shows is what Node decides and predicts.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

import { load } from "../../edge/js/src/node.js";
import { serve } from "./server.mjs";
import { example, identity, lockgate, packageDir, scratchDir } from "./support.mjs";

let browser, page, server, gate;

before(async () => {
  process.env.LOCKGATE = lockgate;
  const { makeData } = await import("../../edge/js/example/serve.mjs");
  const data = join(scratchDir(), "data");
  makeData(data);
  server = await serve({ folders: { "/example/data/": data, "/example/": join(packageDir, "example"), "/src/": join(packageDir, "src"), "/core/": join(packageDir, "core") } });
  browser = await chromium.launch({ executablePath: process.env.LOCKGATE_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  page = await browser.newPage();
  gate = await load({ bundle: example().bundle, packages: ["lr", "gb", "rf_a", "rf_b"].map((name) => example().objects.get(`eurusd_${name}`)) });
  await page.goto(`${server.address}/example/index.html`);
  await page.waitForFunction(() => document.querySelector("#shares tr, #problem:not(:empty)") !== null);
});

after(async () => {
  await browser?.close();
  await server?.close();
});

const rows = async (id) => Object.fromEntries(await page.$$eval(`#${id} tr`, (trs) => trs.map((tr) => [...tr.cells].map((cell) => cell.textContent))));

async function check(user, symbol, newest) {
  await page.fill("[name=user]", user);
  await page.fill("[name=symbol]", symbol);
  await page.fill("[name=newest]", String(newest));
  assert.equal(await page.textContent("#problem"), "");
  const context = { route: "eurusd-direction", user: user || undefined, symbol: symbol || undefined };
  const decision = gate.decide(context);
  const { variant, model, version, reason, rule, bucket } = decision;
  const text = (value) => String(value ?? "–");
  assert.deepEqual(await rows("decision"), { variant, model: `${model}@${version}`, reason, rule: text(rule), bucket: text(bucket) });
  const input = new Float32Array(17);
  input[0] = newest;
  const { data } = gate.predict(decision, { input }).output("output_probability");
  const percent = (share) => `${(100 * share).toFixed(2)} %`;
  assert.deepEqual(await rows("prediction"), { down: percent(data[0]), up: percent(data[1]) });
  const found = gate.decideBatch(Array.from({ length: 10_000 }, (_, k) => ({ ...context, user: `user-${k}` })));
  const expected = {};
  for (const { variant } of found) expected[variant] = (expected[variant] ?? 0) + 1;
  assert.deepEqual(await rows("shares"), Object.fromEntries(Object.entries(expected).map(([name, count]) => [name, percent(count / 10_000)])));
}

test("the page decides and predicts as Node does", async () => {
  await check("bob", "GBPJPY", 0);
  await check("alice", "GBPJPY", 12.5);
  await check("", "EURUSD", -30);
  await check("ユーザー", "", 3);
  assert.equal(await page.textContent("#identities"), `policy ${identity("policy")}, inference ${identity("inference-tabular")}`);
});

test("a page that cannot load says why", async () => {
  const broken = await browser.newPage();
  await broken.route("**/policy.lgb", (route) => route.fulfill({ status: 404 }));
  await broken.goto(`${server.address}/example/index.html`);
  await broken.waitForSelector("#problem:not(:empty)");
  assert.match(await broken.textContent("#problem"), /policy\.lgb: HTTP 404/);
  await broken.close();
});

test("a server that does not know .wasm does", async () => {
  const plain = await serve({ types: { html: "text/html", js: "text/javascript", mjs: "text/javascript" } });
  try {
    const other = await browser.newPage();
    await other.goto(plain.address);
    const { identities } = await other.evaluate(async () => {
      const { load } = await import("/package/src/browser.js");
      const at = (path) => new URL(path, location.href);
      const { identities } = await load({ bundle: at("/object/bundle"), packages: [at("/object/eurusd_gb")] });
      return { identities };
    });
    assert.equal(identities.inference, identity("inference-tabular"));
  } finally {
    await plain.close();
  }
});
