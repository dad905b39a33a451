// One class for everything that can go wrong. A module's own refusals keep the code that docs/abi.md gives them; the few that
// only a JavaScript caller can meet have codes of their own, at the end.

/**
 * The ABI's codes; an index is the number of the code.
 * @type {readonly (ModuleErrorCode | undefined)[]}
 */
const CODES = [
  undefined,
  "malformed_request",
  "malformed_envelope",
  "digest_mismatch",
  "unsupported_version",
  "wrong_kind",
  "unsupported_plan",
  "not_loaded",
  "already_loaded",
  "unknown_route",
  "invalid_input",
  "limit_exceeded",
  "unknown_model",
  "missing_value",
  "malformed_content",
  "internal",
  "missing_object",
];

/**
 * What a module refuses, by the names of docs/abi.md.
 * @typedef {"malformed_request" | "malformed_envelope" | "digest_mismatch" | "unsupported_version" | "wrong_kind" |
 *   "unsupported_plan" | "not_loaded" | "already_loaded" | "unknown_route" | "invalid_input" | "limit_exceeded" |
 *   "unknown_model" | "missing_value" | "malformed_content" | "internal" | "missing_object"} ModuleErrorCode
 */

/**
 * - `trapped`: the module trapped. Its instance is gone; the next call gets a new one that has everything loaded again.
 * - `malformed_response`: the module answered nonsense. Its instance is gone likewise.
 * - `unsupported_abi`: the module speaks another major version of the flat entry point.
 * - `invalid_module`: the bytes are no WebAssembly, or no core module of Lockgate.
 * - `unreadable`: a file or an address could not be read.
 * @typedef {ModuleErrorCode | "trapped" | "malformed_response" | "unsupported_abi" | "invalid_module" | "unreadable"} ErrorCode
 */

/** What every function of this package throws. `message` and `hint` are for people; programs look at `code`. */
export class LockgateError extends Error {
  /**
   * @param {ErrorCode} code
   * @param {string} message What happened.
   * @param {string} [hint] What to do about it.
   * @param {unknown} [cause]
   */
  constructor(code, message, hint = "", cause = undefined) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "LockgateError";
    /** Stable name of what went wrong. */
    this.code = code;
    /** What to do about it; may be empty. */
    this.hint = hint;
  }

  /** The ABI's number of the code; 0 for those that no module gives. */
  get status() {
    return Math.max(0, CODES.indexOf(/** @type {ModuleErrorCode} */ (this.code)));
  }
}

/**
 * The name of a status; `undefined` for a number that is no code of this ABI.
 * @param {number} status
 */
export function codeOf(status) {
  return CODES[status];
}
