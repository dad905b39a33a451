// Asks a Worker over a few connections, each with its next request as soon as the last is answered, and says how long each took. It writes
// and reads sockets itself: a client that does more takes as long as the Worker.

import { connect } from "node:net";

/**
 * @param {{ port: number, path: string, bodies: string[], connections: number, milliseconds?: number, requests?: number }} asked
 * @returns {Promise<{ seconds: number, micros: Float64Array }>} how long it went on, and how long each request took
 */
export async function load({ port, path, bodies, connections, milliseconds = Infinity, requests = Infinity }) {
  const rendered = bodies.map((body) => Buffer.from(`POST ${path} HTTP/1.1\r\nhost: worker\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`));
  const micros = [];
  let next = 0;
  const began = process.hrtime.bigint();
  const end = milliseconds === Infinity ? undefined : began + BigInt(Math.round(milliseconds * 1e6));
  const one = () => new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", noDelay: true });
    let sent;
    let waiting = Buffer.alloc(0);
    const ask = () => {
      const now = process.hrtime.bigint();
      if (next >= requests || (end !== undefined && now >= end)) {
        socket.destroy();
        resolve();
        return;
      }
      sent = now;
      socket.write(rendered[next++ % rendered.length]);
    };
    socket.on("connect", ask);
    socket.on("error", reject);
    socket.on("close", () => resolve());
    socket.on("data", (data) => {
      waiting = waiting.length === 0 ? data : Buffer.concat([waiting, data]);
      const head = waiting.indexOf("\r\n\r\n");
      if (head < 0) return;
      const text = waiting.toString("latin1", 0, head);
      const length = /\r\ncontent-length: (\d+)/i.exec(text);
      if (!text.startsWith("HTTP/1.1 200") || length === null) {
        reject(new Error(`an answer that was not expected: ${waiting.toString("utf8", 0, 500)}`));
        socket.destroy();
        return;
      }
      if (waiting.length < head + 4 + Number(length[1])) return;
      micros.push(Number(process.hrtime.bigint() - sent) / 1e3);
      waiting = waiting.subarray(head + 4 + Number(length[1]));
      ask();
    });
  });
  await Promise.all(Array.from({ length: connections }, one));
  return { seconds: Number(process.hrtime.bigint() - began) / 1e9, micros: Float64Array.from(micros) };
}
