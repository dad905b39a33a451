// What every runtime of JavaScript is held to, in terms of the package alone, so that Node, Chromium and workerd run the same lines.
// A runner gives the package, compiled modules, and `read`, which answers an address of `data.mjs` with bytes. A suite says how much
// it compared and what differed.

const FIELDS = ["route", "user", "symbol", "tenant", "session", "variant"];
const STEPS = ["disabled", "scope", "override", "holdout", "test_group", "symbol_rollout", "rule", "default", "fallback"];
const SPECIAL = { nan: NaN, inf: Infinity, "-inf": -Infinity };
const MARKS = ["trap", "loop", "allocate", "malformed-pointer", "malformed-size", "malformed-offset", "malformed-header", "malformed-record"];

function contextOf(line, row) {
  const context = {};
  FIELDS.forEach((field, k) => {
    if (row[k] >= 0) context[field] = line.strings[row[k]];
  });
  if (row[6] >= 0) {
    const entries = Object.entries(line.attributes[row[6]]);
    context.attributes = Object.fromEntries(entries.map(([name, value]) => [name, value.number ? SPECIAL[value.number] : value]));
  }
  return context;
}

/** What the second evaluator decided; what follows from a variant's name comes out of the policy. */
function expectedOf(line, policy, row) {
  const outcome = line.outcomes[line.vectors.outcome[row]];
  if (outcome === null) return undefined;
  let scope = policy;
  if (outcome.tenant !== undefined) scope = scope.tenants[outcome.tenant];
  if (outcome.user !== undefined) scope = scope.users[outcome.user];
  const version = (name) => {
    const { model, payload } = scope.routes[outcome.route].variants[name];
    const { digest, placement = "edge" } = policy.models[model];
    const at = model.lastIndexOf("@");
    return { variant: name, model: model.slice(0, at), version: model.slice(at + 1), packageDigest: digest.replace("sha256:", ""), placement, payload };
  };
  const number = (column) => (line.vectors[column][row] < 0 ? undefined : line.vectors[column][row]);
  return {
    route: outcome.route,
    ...version(outcome.variant),
    tenant: outcome.tenant,
    user: outcome.user,
    reason: outcome.reason,
    step: STEPS[outcome.step - 1],
    rule: outcome.rule,
    layer: outcome.layer,
    bucket: number("bucket"),
    stage: outcome.stage,
    window: number("window"),
    unitMissing: outcome.unit_missing ?? false,
    holdout: outcome.holdout ?? false,
    washout: outcome.washout ?? false,
    unavailable: outcome.unavailable ?? false,
    intended: outcome.intended,
    shadows: (outcome.shadows ?? []).map(([name, variant, rate, concurrency, bytes, deadline]) => {
      const { payload, ...rest } = version(variant);
      return { name, ...rest, rate, concurrency, bytes, deadline };
    }),
  };
}

function foundOf(decision) {
  if (decision === undefined) return undefined;
  const { payload, ...rest } = decision.toJSON();
  return { ...rest, payload: payload === undefined ? undefined : JSON.parse(payload) };
}

function isEqual(a, b) {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null || Array.isArray(a) !== Array.isArray(b)) return false;
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => isEqual(a[name], b[name]));
}

function decideOne(policy, context, time, unavailable) {
  try {
    return policy.decide(context, time, unavailable);
  } catch (error) {
    if (error.code === "unknown_route") return undefined;
    throw error;
  }
}

/** The vectors of one line of `tests/reference/vectors`, in batches and one by one, every field of every decision. */
export function compareDecisions(policy, line) {
  const source = JSON.parse(line.policy);
  const contexts = line.contexts.map((row) => contextOf(line, row));
  const size = line.vectors.context.length / line.batches.time.length;
  const differences = [];
  let compared = 0;
  line.batches.time.forEach((written, batch) => {
    // Times beyond 2^53 are written as texts.
    const time = typeof written === "string" ? BigInt(written) : written;
    const rows = Array.from({ length: size }, (_, k) => batch * size + k);
    const unavailable = line.unavailable[line.batches.unavailable[batch]];
    const given = rows.map((row) => contexts[line.vectors.context[row]]);
    const decisions = policy.decideBatch(given, time, unavailable);
    rows.forEach((row, k) => {
      const expected = expectedOf(line, source, row);
      const single = decideOne(policy, given[k], time, unavailable.length === 0 ? undefined : unavailable);
      for (const [how, decision] of [["batch", decisions[k]], ["alone", single]]) {
        const found = foundOf(decision);
        if (!isEqual(found, expected)) differences.push({ row, how, context: given[k], time: String(time), found, expected });
      }
      compared += 1;
    });
  });
  return { compared, differences: differences.slice(0, 3) };
}

export const bytesOf = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));
export const hexOf = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

const TYPES = {
  BOOL: Uint8Array, UINT8: Uint8Array, UINT16: Uint16Array, UINT32: Uint32Array, UINT64: BigUint64Array, INT8: Int8Array, INT16: Int16Array,
  INT32: Int32Array, INT64: BigInt64Array, FP16: Uint16Array, FP32: Float32Array, FP64: Float64Array,
};

/** A tensor of `target/tmp/predictions` as the package takes it. */
function input({ name, datatype, shape, data }) {
  const bytes = bytesOf(data);
  if (datatype !== "BYTES") return { name, datatype, shape, data: new TYPES[datatype](bytes.buffer) };
  const elements = [];
  for (let at = 0; at < bytes.length; ) {
    const length = new DataView(bytes.buffer).getUint32(at, true);
    elements.push(bytes.slice(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return { name, datatype, shape, data: elements };
}

/** The bytes of a tensor's elements, in hexadecimal. */
export function bitsOf({ datatype, data }) {
  if (datatype !== "BYTES") return hexOf(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  const parts = data.map((element) => (typeof element === "string" ? new TextEncoder().encode(element) : element));
  return parts.map((part) => hexOf(new Uint8Array(Uint32Array.of(part.length).buffer)) + hexOf(part)).join("");
}

/** An output as it is written there. */
function output(tensor) {
  const { name, datatype, shape } = tensor;
  return { name, datatype, shape, data: bitsOf(tensor) };
}

/**
 * The outputs for the inputs of a vector. Asked again, as views, and in a batch, a model must say the same.
 */
export function predictions(model, vector) {
  const inputs = vector.inputs.map(input);
  const outputs = model.predict(inputs).outputs.map(output);
  const again = {
    again: model.predict(inputs).outputs.map(output),
    "by name": model.predict(Object.fromEntries(inputs.map((tensor) => [tensor.name, tensor]))).outputs.map(output),
    "as views": model.predict(inputs, { view: true }).outputs.map(output),
    "in a batch": model.predictBatch([inputs, inputs, inputs])[1].outputs.map(output),
  };
  for (const [how, other] of Object.entries(again)) {
    if (JSON.stringify(other) !== JSON.stringify(outputs)) throw new Error(`${model.name}: ${how}, the answer differs`);
  }
  return outputs;
}

const decoder = new TextDecoder();

/**
 * @param {(address: string) => Promise<Uint8Array>} read
 * @param {string} address
 */
async function readJson(read, address) {
  return JSON.parse(decoder.decode(await read(address)));
}

/** The golden vectors: what the second evaluator decided, field by field. */
export async function decisionSuite({ Policy }, module, read) {
  const mismatches = [];
  let compared = 0;
  for (const { place, lists } of await readJson(read, "/decisions")) {
    const line = await readJson(read, `/decisions/${place}.jsonl`);
    const bundle = await read(`/decisions/${place}.lgb`);
    const policy = new Policy(module, bundle, await Promise.all(lists.map((name) => read(`/decisions/${name}`))));
    const found = compareDecisions(policy, line);
    compared += found.compared;
    for (const difference of found.differences) mismatches.push(`${place}: ${text(difference)}`);
  }
  return { compared, mismatches };
}

function text(value) {
  return JSON.stringify(value, (_, item) => (typeof item === "bigint" ? String(item) : item));
}

const number = (value) => (typeof value === "string" ? Number(value) : value);

/** Whether onnxruntime's two best scores for a row are closer than the tolerance. */
function isTie({ expected, classes = [] }, row) {
  const width = classes.length;
  const scores = expected.find(({ datatype, shape }) => datatype === "FP32" && shape.at(-1) === width);
  if (scores === undefined) return false;
  const [first, second] = scores.data.slice(row * width, (row + 1) * width).map(number).sort((a, b) => b - a);
  return first - second <= TOLERANCE * Math.max(1, Math.abs(first));
}

const TOLERANCE = 1e-5;

/** How outputs differ from onnxruntime's, which stand in `vector.expected` in the same order. */
export function compareWithOnnxruntime(name, vector, outputs) {
  const mismatches = [];
  let largest = 0;
  vector.expected.forEach((expected, place) => {
    const { data, datatype, shape } = expected.name === undefined ? outputs[place] : (outputs.find((output) => output.name === expected.name) ?? {});
    if (datatype !== expected.datatype || data.length !== expected.data.length || (expected.shape !== undefined && shape.join() !== expected.shape.join())) {
      mismatches.push(`${name}: output ${place} is ${datatype} [${shape}], onnxruntime gives ${expected.datatype} [${expected.shape}]`);
      return;
    }
    expected.data.forEach((value, k) => {
      const [a, b] = [data[k], number(value)];
      if (datatype === "FP32" || datatype === "FP64") {
        const difference = Object.is(a, b) || a === b ? 0 : Math.abs(a - b) / Math.max(1, Math.abs(b));
        if (!(difference <= TOLERANCE)) mismatches.push(`${name}: output ${place}[${k}] is ${a}, onnxruntime gives ${value}`);
        else largest = Math.max(largest, difference);
      } else {
        const label = datatype === "BOOL" ? Boolean(a) : a;
        if (String(label) !== String(value) && !isTie(vector, k)) mismatches.push(`${name}: label ${k} is ${label}, onnxruntime gives ${value}`);
      }
    });
  });
  const rows = vector.expected[0]?.shape?.[0] ?? vector.expected[0]?.data.length ?? 0;
  return { rows, largest, mismatches };
}

const sha256 = async (text) => hexOf(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));

/** What a model answered to its vector as `tests/tests/conformance/answers.rs` writes it, digested. */
async function answerLine(name, outputs) {
  const lines = outputs.map(output).map(({ name, datatype, shape, data }) => `${name} ${datatype} ${shape.join(",")} ${data}\n`);
  return `${name} ${await sha256(lines.join(""))}`;
}

/**
 * What each case of `tests/tests/backend.rs` was answered, bit for bit; the cases' packages share instances.
 * @param {Iterable<{ name: string, package: Uint8Array, requests: { inputs: object[], answer: string }[] }[]>} chunks
 */
export async function operatorSuite({ Inference }, module, chunks) {
  const mismatches = [];
  let compared = 0;
  for (const cases of chunks) {
    // Some cases have equal models, which an instance takes once.
    const places = new Map();
    const packages = cases.map((one) => one.package).filter((bytes) => {
      const key = hexOf(bytes);
      return !places.has(key) && places.set(key, places.size);
    });
    const inference = new Inference(module, packages);
    for (const one of cases) {
      const model = inference.models[places.get(hexOf(one.package))];
      for (const { inputs, answer } of one.requests) {
        compared += 1;
        try {
          const lines = model.predict(inputs.map(input)).outputs.map(output).map(({ name, datatype, shape, data }) => `${name} ${datatype} ${shape.join(",")} ${data}\n`);
          if ((await sha256(lines.join(""))) !== answer) mismatches.push(`${one.name}: other bits than wasmtime's`);
        } catch (error) {
          mismatches.push(`${one.name}: ${error}`);
        }
      }
    }
  }
  return { compared, mismatches };
}

/** Every recorded prediction: wasmtime's answers bit for bit, onnxruntime's within the tolerance. */
export async function predictionSuite({ Inference, readManifest }, modules, read) {
  const mismatches = [];
  const answers = [];
  let [compared, largest] = [0, 0];
  const model = async (address) => {
    const bytes = await read(address);
    return new Inference(modules[readManifest(bytes).engine], [bytes]).models[0];
  };
  const compare = (name, vector, outputs) => {
    const found = compareWithOnnxruntime(name, vector, outputs);
    compared += found.rows;
    largest = Math.max(largest, found.largest);
    mismatches.push(...found.mismatches);
  };
  for (const name of await readJson(read, "/predictions")) {
    const vector = await readJson(read, `/predictions/${name}.json`);
    const loaded = await model(`/predictions/${name}.lgp`);
    const found = predictions(loaded, vector);
    if (text(found) !== text(vector.outputs)) mismatches.push(`${name}: other bits than wasmtime's`);
    const { outputs } = loaded.predict(vector.inputs.map(input));
    answers.push(await answerLine(name, outputs));
    compare(name, vector, outputs);
  }
  for (const name of await readJson(read, "/eurusd")) {
    const vector = await readJson(read, `/eurusd/${name}`);
    const { outputs } = (await model(`/eurusd/${name}.lgp`)).predict({ input: { shape: vector.shape, data: vector.data } });
    answers.push(await answerLine(name, outputs));
    compare(name, vector, outputs);
  }
  return { compared, mismatches, max_difference: largest, digest: await sha256(answers.sort().join("\n")) };
}

/** Everything of `tests/errors.json`. */
export async function errorSuite({ Inference, LockgateError, Policy }, modules, read) {
  const mismatches = [];
  let compared = 0;
  const check = (name, code, call) => {
    let found = "nothing";
    try {
      call();
    } catch (error) {
      found = error instanceof LockgateError && error.message !== "" ? error.code : String(error);
    }
    if (found !== code) mismatches.push(`${name}: ${found} instead of ${code}`);
    compared += 1;
  };
  const { load, predict, decide } = await readJson(read, "/errors");
  for (const { name, into, contents, code } of load) {
    const bytes = await Promise.all(contents.map((content) => read(`/errors/${encodeURIComponent(JSON.stringify(content))}`)));
    const module = modules[into.replace("inference-", "")];
    check(name, code, () => (into === "policy" ? new Policy(module, bytes.at(-1), bytes.slice(0, -1)) : new Inference(module, bytes)));
  }
  const inference = new Inference(modules.tabular, [await read("/object/eurusd_gb")]);
  for (const { name, model = inference.models[0], inputs, code } of predict) {
    const tensors = inputs.map(({ name, datatype, shape, fill }) => ({ name, datatype, shape, data: new Array(shape.reduce((a, b) => a * b, 1)).fill(Number(fill)) }));
    check(name, code, () => inference.predict(model, tensors));
  }
  const policy = new Policy(modules.policy, await read("/object/bundle"));
  for (const { name, context, code } of decide) check(name, code, () => policy.decide(context, 0));
  return { compared, mismatches };
}

/** The fault core but for its endless loops, of which a runner counts two of its own when it has seen them end. */
export async function faultSuite({ load }, core, read) {
  const lockgate = await load({ core, bundle: await read("/object/bundle"), packages: [await read("/object/eurusd_gb"), await read("/object/eurusd_rfr")] });
  survives(lockgate, FAULT_CONTEXT, FAULT_WIDTH);
  return { compared: 2 * (MARKS.length - 1), mismatches: [] };
}

export const FAULT_CONTEXT = { route: "eurusd-direction", user: "alice" };
export const FAULT_WIDTH = 17;

/** Calls the fault core so that it never returns. */
export async function loopForever({ load }, core, read, what) {
  const lockgate = await load({ core, bundle: await read("/object/bundle"), packages: [await read("/object/eurusd_gb")] });
  if (what === "decide") lockgate.decide({ ...FAULT_CONTEXT, user: "lockgate-fault:loop" }, 0);
  else lockgate.predict(lockgate.models[0], { input: marked(MARKS.indexOf("loop"), FAULT_WIDTH) });
}

/** As an application begins: `load`, one decision, and the prediction that it asks for. */
export async function walkThrough({ load }, read) {
  const objects = ["eurusd_gb", "eurusd_lr", "eurusd_rf_a", "eurusd_rf_b"];
  const lockgate = await load({ bundle: read("/object/bundle"), packages: objects.map((name) => read(`/object/${name}`)) });
  const decision = lockgate.decide({ route: "eurusd-direction", user: "alice" }, 0);
  const { outputs } = lockgate.predict(decision, { input: new Float32Array(17) });
  return JSON.parse(JSON.stringify({ decision, outputs: outputs.map(output), identities: lockgate.identities }));
}

/** The first value of a marked input. */
function marked(index, length) {
  const values = new Float32Array(length);
  new Uint32Array(values.buffer)[0] = 0x7f00fa01 + index;
  return values;
}

function expect(holds, what) {
  if (!holds) throw new Error(what);
}

function codeOf(call) {
  try {
    call();
  } catch (error) {
    return error.code ?? String(error);
  }
  return "nothing";
}

/**
 * Every fault of the fault core but the endless loop: the request gets an error of the right kind, the instance is replaced, and
 * the next request is answered as before by one that has everything loaded. Returns how many faults were seen.
 */
export function survives(lockgate, context, width) {
  const now = 1_700_000_000_000;
  const { policy, inference } = lockgate;
  const row = Float32Array.from({ length: width }, (_, k) => k / 10);
  const before = JSON.stringify(policy.decide(context, now));
  const models = inference.models.filter(({ engine }) => engine === "tabular");
  const answers = models.map((model) => model.predict({ input: row }).outputs.map(output));
  const expectSame = (what) => {
    expect(JSON.stringify(policy.decide(context, now)) === before, `${what}: the decision has changed`);
    models.forEach((model, k) => {
      const outputs = model.predict({ input: row }).outputs.map(output);
      expect(JSON.stringify(outputs) === JSON.stringify(answers[k]), `${what}: ${model.name} answers differently`);
    });
  };
  let seen = 0;
  MARKS.forEach((mark, index) => {
    if (mark === "loop") return;
    const code = mark.startsWith("malformed") ? "malformed_response" : "trapped";
    const user = `lockgate-fault:${mark}`;
    const calls = {
      decide: [policy, () => policy.decide({ ...context, user }, now)],
      "decide with attributes": [policy, () => policy.decide({ ...context, user, attributes: { strategy: "x" } }, now)],
      "decide a batch": [policy, () => policy.decideBatch([context, { ...context, user }], now)],
      predict: [inference, () => models[0].predict({ input: marked(index, width) })],
      "predict as a view": [inference, () => models[0].predict({ input: marked(index, width) }, { view: true })],
      "predict a batch": [inference, () => models[0].predictBatch([{ input: marked(index, width) }, { input: row }])],
    };
    for (const [name, [module, call]] of Object.entries(calls)) {
      const { instances } = module;
      const found = codeOf(call);
      expect(found === code, `${name}, ${mark}: ${found} instead of ${code}`);
      expectSame(`${name}, ${mark}`);
      expect(module.instances === instances + 1, `${name}, ${mark}: ${module.instances - instances} new instances`);
      seen += 1;
    }
  });
  return seen;
}
