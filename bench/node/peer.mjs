// What the Node peers share: they read the setup, say what they offer, and then answer one JSON line per turn.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

export const setup = JSON.parse(readFileSync(process.argv[2], "utf8"));

/** A model's pool of rows. */
export function readPool(model) {
  const bytes = readFileSync(model.inputs);
  const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const rowLength = model.row_shape.reduce((a, b) => a * b, 1);
  return { values, rowLength, rows: values.length / rowLength };
}

/** The rows that a call takes; as in `case.rs`. */
export function firstRow(call, rows, pool) {
  return rows === 1 ? call % pool : (call * 37) % (pool - rows + 1);
}

export function slice(pool, call, rows) {
  const start = firstRow(call, rows, pool.rows) * pool.rowLength;
  return pool.values.subarray(start, start + rows * pool.rowLength);
}

/** Scores of a row add up to one; weights make their sum tell the answers apart. As in `wasm.rs`. */
export function weigh(values) {
  let sum = 0;
  for (let k = 0; k < values.length; k++) sum += values[k] * (1 + (k % 7));
  return sum;
}

/** `peers` maps a name to `{ kinds, prepare(request) }`; `prepare` returns a function of the call's number. */
export function serve(peers, versions) {
  const kinds = Object.fromEntries(Object.entries(peers).map(([name, peer]) => [name, peer.kinds]));
  const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  say({ peers: kinds, versions });
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const request = JSON.parse(line);
    const run = peers[request.peer].prepare(request);
    let answer;
    const started = process.hrtime.bigint();
    if (peers[request.peer].asynchronous) {
      for (let call = request.start; call < request.start + request.calls; call++) {
        const got = await run(call);
        answer ??= got;
      }
    } else {
      for (let call = request.start; call < request.start + request.calls; call++) {
        const got = run(call);
        answer ??= got;
      }
    }
    const nanoseconds = Number(process.hrtime.bigint() - started);
    say({ nanoseconds, answer: answer ?? null });
  });
}
