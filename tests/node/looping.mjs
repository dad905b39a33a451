// A thread of `node.test.mjs` that calls the fault core so that it never returns.

import { parentPort, workerData } from "node:worker_threads";

import * as lockgate from "../../edge/js/src/node.js";
import { loopForever } from "./conformance.mjs";

const { what, fault, bundle, gb } = workerData;
parentPort.postMessage("calls");
await loopForever(lockgate, fault, async (address) => (address.endsWith("bundle") ? bundle : gb), what);
parentPort.postMessage("returned");
