// The conformance suites in headless Chromium, on the package as npm installs it, without a bundler.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

import * as inNode from "../../edge/js/src/node.js";
import { walkThrough } from "./conformance.mjs";
import { dataAt } from "./data.mjs";
import { record } from "./record.mjs";
import { serve } from "./server.mjs";

// What a site has to allow: its own scripts, and WebAssembly.
const CSP = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'";
const suites = {};
let browser, page, server;

before(async () => {
  server = await serve({ headers: { "content-security-policy": CSP } });
  browser = await chromium.launch({ executablePath: process.env.LOCKGATE_CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-dev-shm-usage"] });
  page = await browser.newPage();
  page.on("pageerror", (error) => console.error("in the page:", error));
  await page.goto(server.address);
});

after(async () => {
  await browser?.close();
  await server?.close();
});

const run = (suite) => page.evaluate(async (name) => (await import("/tests/page.mjs")).run(name), suite);

for (const name of ["decisions", "predictions", "errors", "faults"]) {
  test(`Chromium passes the suite \`${name}\``, async () => {
    suites[name] = await run(name);
    const { compared, mismatches } = suites[name];
    assert.deepEqual(mismatches.slice(0, 5), [], `${mismatches.length} of ${compared}`);
  });
}

test("an endless loop ends with its worker", async () => {
  for (const what of ["decide", "predict"]) {
    assert.deepEqual(await page.evaluate(async (what) => (await import("/tests/page.mjs")).loop(what), what), ["calls", "silent"]);
    suites.faults.compared += 1;
  }
});

test("a page begins with load(), and gets what Node gets", async () => {
  const expected = await walkThrough(inNode, async (address) => dataAt(address));
  assert.deepEqual(await run("walk"), expected);
});

test("the run is recorded", async () => {
  record("chromium", { chromium: browser.version() }, await run("identities"), suites);
});
