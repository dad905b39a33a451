// A browser's worker that calls the fault core so that it never returns.

import { looping } from "./page.mjs";

const { lockgate, fault, loopForever, read } = looping;

onmessage = async ({ data }) => {
  const core = await fault();
  postMessage("calls");
  await loopForever(lockgate, core, read, data);
  postMessage("returned");
};
