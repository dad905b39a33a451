// Decides and predicts in the page. `serve.mjs` makes the bundle and the packages in `data/`.

import { LockgateError, load } from "lockgate";

const element = (id) => document.getElementById(id);
const at = (path) => new URL(path, import.meta.url);
const ROUTE = "eurusd-direction";
const USERS = 10_000;

const models = ["eurusd_lr", "eurusd_gb", "eurusd_rf_a", "eurusd_rf_b"];
const loading = load({ bundle: at("data/policy.lgb"), packages: models.map((name) => at(`data/${name}.lgp`)) });

/** Fills a table with rows of a heading and texts. */
function fill(table, rows) {
  table.replaceChildren(
    ...rows.map(([heading, ...cells]) => {
      const row = document.createElement("tr");
      row.append(Object.assign(document.createElement("th"), { textContent: heading }));
      row.append(...cells.map((cell) => Object.assign(document.createElement("td"), { textContent: cell })));
      return row;
    }),
  );
}

const percent = (share) => `${(100 * share).toFixed(2)} %`;

function show(lockgate) {
  const { user, symbol, newest } = element("form").elements;
  const context = { route: ROUTE, user: user.value || undefined, symbol: symbol.value || undefined };
  element("shown").textContent = newest.value;

  const decision = lockgate.decide(context);
  const { variant, model, version, reason, rule, bucket } = decision;
  fill(element("decision"), Object.entries({ variant, model: `${model}@${version}`, reason, rule, bucket }).map(([name, value]) => [name, value ?? "–"]));

  // One row of 17 returns, the newest first.
  const input = new Float32Array(17);
  input[0] = newest.valueAsNumber;
  const { data } = lockgate.predict(decision, { input }).output("output_probability");
  const { labels } = lockgate.inference.model(decision);
  fill(element("prediction"), labels.map((label, k) => [label, percent(data[k])]));

  const counts = new Map();
  const contexts = Array.from({ length: USERS }, (_, k) => ({ ...context, user: `user-${k}` }));
  for (const { variant } of lockgate.decideBatch(contexts)) counts.set(variant, (counts.get(variant) ?? 0) + 1);
  fill(element("shares"), [...counts].sort().map(([variant, count]) => [variant, percent(count / USERS)]));
}

function report(error) {
  const hint = error instanceof LockgateError && error.hint !== "" ? ` (${error.hint})` : "";
  element("problem").textContent = `${error.message}${hint}`;
}

try {
  const lockgate = await loading;
  element("identities").textContent = `policy ${lockgate.identities.policy}, inference ${lockgate.identities.inference}`;
  element("form").addEventListener("submit", (event) => event.preventDefault());
  element("form").addEventListener("input", () => {
    try {
      element("problem").textContent = "";
      show(lockgate);
    } catch (error) {
      report(error);
    }
  });
  show(lockgate);
} catch (error) {
  report(error);
}
