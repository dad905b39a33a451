// A Worker that decides which version of a model serves a request, and runs it.

import { load, LockgateError, type Context, type Decision, type Prediction } from "lockgate";

import boosting from "../models/eurusd_gb.lgp";
import regression from "../models/eurusd_lr.lgp";
import bundle from "../models/policy.lgb";

// Once per isolate, before its first request. wrangler tries this when it deploys, so that a bad bundle or package never gets out.
const lockgate = await load({ bundle, packages: [regression, boosting] });

const ROUTE = "eurusd-direction";
const COLUMNS = 17;
const MOST_ROWS = 1000;

export default {
  async fetch(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    try {
      if (pathname === "/predict" && request.method === "POST") return await predict(request);
      if (pathname === "/health" && request.method === "GET") return health();
      return Response.json({ error: "POST /predict or GET /health" }, { status: 404 });
    } catch (error) {
      if (!(error instanceof LockgateError)) throw error;
      const { code, message, hint } = error;
      return Response.json({ error: message, code, hint }, { status: STATUS[code] ?? 500 });
    }
  },
} satisfies ExportedHandler;

/** What the caller can do something about. Everything else is a 500; a module that trapped has a new instance by then. */
const STATUS: Partial<Record<LockgateError["code"], number>> = {
  unknown_route: 404,
  invalid_input: 400,
  missing_value: 400,
  malformed_request: 400,
  limit_exceeded: 413,
};

/** `{ "user": "alice", "symbol": "EURUSD", "rows": [[17 numbers], …] }` */
async function predict(request: Request): Promise<Response> {
  const asked = await parse(request);
  if (typeof asked === "string") return Response.json({ error: asked }, { status: 400 });
  const decision = lockgate.decide(asked.context);
  const prediction = lockgate.predict(decision, { input: asked.input });
  return Response.json(answer(decision, prediction));
}

/** The context and the input of a request, or what is wrong with it. */
async function parse(request: Request): Promise<{ context: Context; input: Float32Array } | string> {
  let body: unknown;
  try {
    body = await request.json();
  } catch {
    return "the body is no JSON";
  }
  const { user, symbol, rows } = (body ?? {}) as { user?: unknown; symbol?: unknown; rows?: unknown };
  const isRow = (row: unknown) => Array.isArray(row) && row.length === COLUMNS && row.every((value) => typeof value === "number");
  if (!Array.isArray(rows) || rows.length === 0 || rows.length > MOST_ROWS || !rows.every(isRow)) {
    return `\`rows\` is a list of 1 to ${MOST_ROWS} rows of ${COLUMNS} numbers`;
  }
  // Whoever may choose a user chooses a version. Take it from what you have verified, such as a session or a token.
  const context = { route: ROUTE, user: textOf(user), symbol: textOf(symbol) };
  return { context, input: Float32Array.from(rows.flat() as number[]) };
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function answer(decision: Decision, prediction: Prediction) {
  const { variant, model, version, reason, rule, bucket } = decision;
  const { labels } = prediction.model;
  const scores = prediction.output("output_probability");
  const [rows, width] = scores.shape;
  const data = scores.data as Float32Array;
  return {
    served: { variant, model, version, reason, rule, bucket },
    labels,
    probabilities: Array.from({ length: rows }, (_, row) => Array.from(data.subarray(row * width, (row + 1) * width))),
    outOfRange: prediction.outOfRange.length,
  };
}

function health(): Response {
  const { policy, models, identities } = lockgate;
  return Response.json({
    policy: String(policy?.version),
    models: models.map(({ name, version, digest }) => `${name}@${version} sha256:${digest}`),
    identities,
  });
}
