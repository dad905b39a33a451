// A signature as docs/trust.md describes it, checked by WebCrypto: what a browser or a Worker needs to verify an envelope itself.
import assert from "node:assert/strict";
import { test } from "node:test";

const hex = (text) => Uint8Array.from(text.match(/../g), (digits) => Number.parseInt(digits, 16));

// The private key is 32 bytes of 01; crates/package/tests/signing.rs makes the same signature, and openssl did.
const PUBLIC_KEY = hex("8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
const KEY_ID = "34750f98bd59fcfc";
const DIGEST = hex("c8756a2d32cdc4e0740576da168a9286aa1a12a1ee3745960aa069230ca3f7f5");
const SIGNATURE = hex(
  "0d29b6539597c25c550902d6b90c35adabdc7811a9c427fef6e6ec8bdd2f031e" +
    "7ad1f7baffea87472b810dbe4ee13607ca516a43d2cf4fb230d610cdc2ac7304",
);

function statement(kind, digest) {
  const bytes = new Uint8Array(57);
  bytes.set(new TextEncoder().encode("lockgate/signature/1\0"));
  new DataView(bytes.buffer).setUint32(21, kind, true);
  bytes.set(digest, 25);
  return bytes;
}

test("WebCrypto verifies a signature over the documented statement", async () => {
  const key = await crypto.subtle.importKey("raw", PUBLIC_KEY, "Ed25519", true, ["verify"]);
  const verify = (kind, digest) => crypto.subtle.verify("Ed25519", key, SIGNATURE, statement(kind, digest));
  assert.equal(await verify(1, DIGEST), true);
  assert.equal(await verify(2, DIGEST), false, "a bundle's signature is none of a package");
  assert.equal(await verify(1, DIGEST.map((byte) => byte ^ 1)), false);

  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", PUBLIC_KEY));
  assert.equal(Buffer.from(hash.subarray(0, 8)).toString("hex"), KEY_ID);
});
