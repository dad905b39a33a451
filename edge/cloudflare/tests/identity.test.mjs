// Who asks: API keys and JWTs, whose signatures WebCrypto verifies.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";

import { bundle, worker } from "./support.mjs";

const text = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

function token(header, claims, signer) {
  const input = `${text(header)}.${text(claims)}`;
  return `${input}.${signer(Buffer.from(input)).toString("base64url")}`;
}

const bearer = (secret) => ({ headers: { authorization: `Bearer ${secret}` } });

test("an API key brings a verified user and tenant; a wrong one is refused", async () => {
  const key = { name: "a", sha256: createHash("sha256").update("secret-a").digest("hex"), user: "alice" };
  const w = await worker({ bundle: bundle(1), settings: { LOCKGATE_API_KEYS: JSON.stringify([key]) } });
  const good = await w.infer({ user: "mallory" }, bearer("secret-a"));
  assert.equal(good.status, 200, JSON.stringify(good.body));
  assert.equal(good.body.parameters.variant, "canary", "alice's override, whatever the body says");
  assert.match(good.body.parameters.verified, /user/);
  assert.deepEqual([(await w.infer({}, bearer("secret-b"))).status, (await w.infer({})).status], [401, 401]);
});

test("JWTs of all algorithms are verified, and what is forged is refused", async () => {
  const pairs = {
    EdDSA: generateKeyPairSync("ed25519"),
    RS256: generateKeyPairSync("rsa", { modulusLength: 2048 }),
    ES256: generateKeyPairSync("ec", { namedCurve: "P-256" }),
  };
  const keys = Object.entries(pairs).map(([alg, { publicKey }]) => ({ ...publicKey.export({ format: "jwk" }), kid: alg, alg }));
  const w = await worker({ bundle: bundle(1), settings: { LOCKGATE_JWT_KEYS: { keys }, LOCKGATE_JWT_ISSUER: "https://issuer.example" } });
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "https://issuer.example", sub: "alice", exp: now + 600 };
  const signer = {
    EdDSA: (input) => sign(null, input, pairs.EdDSA.privateKey),
    RS256: (input) => sign("sha256", input, pairs.RS256.privateKey),
    ES256: (input) => sign("sha256", input, { key: pairs.ES256.privateKey, dsaEncoding: "ieee-p1363" }),
  };
  for (const alg of Object.keys(pairs)) {
    const header = { alg, typ: "JWT", kid: alg };
    const good = await w.infer({}, bearer(token(header, claims, signer[alg])));
    assert.deepEqual([good.status, good.body.parameters?.variant], [200, "canary"], `${alg}: ${JSON.stringify(good.body)}`);
    const flipped = token(header, claims, (input) => {
      const mark = signer[alg](input);
      mark[5] ^= 1;
      return mark;
    });
    const other = `${token(header, claims, signer[alg]).split(".").toSpliced(1, 1, text({ ...claims, sub: "mallory" })).join(".")}`;
    const late = token(header, { ...claims, exp: now - 600 }, signer[alg]);
    for (const bad of [flipped, other, late]) {
      const answer = await w.infer({}, bearer(bad));
      assert.deepEqual([answer.status, answer.body.code], [401, "invalid_token"], `${alg}: ${JSON.stringify(answer.body)}`);
    }
  }
  const none = token({ alg: "none" }, claims, () => Buffer.alloc(0));
  assert.equal((await w.infer({}, bearer(none))).status, 401);
  assert.equal((await w.infer({})).status, 401);
});
