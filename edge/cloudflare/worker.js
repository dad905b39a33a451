// What Cloudflare calls. It hands everything to the shell (Rust, `src/`), and makes the shell anew when it traps: what was under way in it
// is answered with an error then, and the instances of the core modules, which `glue.js` holds, go on.

import { bodyOf, headOf } from "./glue.js";
import * as shell from "./shell.js";

const initial = shell.__worker_init_state();
/** How many bytes of a body are read, once the first request has made the shell read its settings. */
let limit;
/** How to end what is under way in the shell. */
const underWay = new Set();

function fail(error) {
  console.error(`the shell failed and is made anew: ${error?.stack ?? error}`);
  initial.criticalError = true;
  for (const end of underWay) end(error);
  underWay.clear();
}

// The shell goes on with its futures in microtasks. What one of them throws is caught here, while the request that it belongs to can
// still be answered.
// A promise's reaction is a microtask as well, and V8 queues it without leaving JavaScript.
const settled = Promise.resolve();
globalThis.queueMicrotask = (callback) => {
  settled.then(() => {
    try {
      callback();
    } catch (error) {
      // Futures give their errors to whoever waits for them; what is thrown here is the end of the shell.
      fail(error);
    }
  });
};

/** Calls the shell, a new one when the old one has failed. */
function call(handler, ...rest) {
  if (initial.criticalError) {
    shell.__wbg_reset_state();
    initial.criticalError = false;
    initial.instanceId += 1;
  }
  try {
    return handler(...rest);
  } catch (error) {
    // What it cannot do, it answers; it throws when it can go on no more.
    fail(error);
    throw error;
  }
}

/** A promise of the shell, broken when the shell fails. */
function unlessItFails(promise) {
  return new Promise((resolve, reject) => {
    underWay.add(reject);
    promise
      .catch((error) => {
        if (error instanceof WebAssembly.RuntimeError || initial.criticalError) fail(error);
        throw error;
      })
      .finally(() => underWay.delete(reject))
      .then(resolve, reject);
  });
}

export default {
  async fetch(request, env, context) {
    try {
      limit ??= call(shell.body_limit, env);
      const { head, announced } = headOf(request);
      const body = new Uint8Array(await bodyOf(request, announced, limit));
      const answer = call(shell.answer, head, body, env, context);
      return answer instanceof Promise ? await unlessItFails(answer) : answer;
    } catch (error) {
      const message = { error: "the Worker failed on this request; the next one is not affected", code: "internal" };
      return Response.json(message, { status: 500 });
    }
  },
  async scheduled(event, env, context) {
    await unlessItFails(call(shell.scheduled, event, env, context));
  },
};
