// Makes the vectors of `policy import`: flags in each system's format, and what the system's own package gives to the same
// contexts. Run it as generate.mjs is run. A flag's answers are one text, whose nth character says which of
// `answers` the nth context gets, in the order of 0 to 9, A to Z, a to z; `?` is a context for which the package draws at random.

import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';

const require = createRequire(import.meta.url);
const NOW = Date.UTC(2026, 4, 1);
Date.now = () => NOW;

// Contexts as Lockgate has them.
const pick = (name, list) => list[createHash('sha256').update(name).digest().readUInt32BE(0) % list.length];
const contexts = [];
for (let i = 0; i < 1200; i++) {
  const context = { user: i % 11 === 0 ? `Zoë-${i}` : `user-${i}` };
  if (i % 4 === 0) context.session = `session-${i}`;
  if (i % 25 === 7) delete context.user;
  if (i % 25 === 7) context.session = `session-${i}`;
  const attributes = {};
  const add = (name, values) => {
    const value = pick(`${name}/${i}`, values);
    if (value !== undefined) attributes[name] = value;
  };
  add('country', ['DE', 'FR', 'US', 'AT', undefined]);
  add('plan', ['free', 'pro', 'enterprise', undefined]);
  add('age', [17, 18, 30, 65.5, -1, 0, undefined]);
  add('version', ['1.2.0', '1.2.3', '2.0.0-rc.1', '2.0.0', '2.10.1', undefined]);
  add('beta', [true, false, undefined]);
  add('company', ['acme', 'initech', 'umbrella', `company-${i % 40}`, undefined]);
  add('email', [`u${i}@ingen.com`, `u${i}@example.com`, `u${i}@EXAMPLE.org`, undefined]);
  add('remoteAddress', ['10.0.0.1', '10.1.2.3', '192.168.1.77', '192.168.1.200', undefined]);
  contexts.push({ ...context, attributes });
}

const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

function version(name) {
  const { name: real, version } = JSON.parse(readFileSync(new URL(`node_modules/${name}/package.json`, import.meta.url)));
  return `${real} ${version}`;
}

function write(file, packages, flags, ask) {
  const answers = [];
  const given = {};
  for (const flag of flags) {
    given[flag] = contexts.map((context) => {
      const answer = ask(flag, context);
      if (answer === undefined) return '?';
      const text = JSON.stringify(answer);
      if (!answers.includes(text)) answers.push(text);
      return LETTERS[answers.indexOf(text)];
    }).join('');
  }
  if (answers.length > LETTERS.length) throw new Error('too many answers for one character each');
  const text = { packages, now: NOW, answers: answers.map((text) => JSON.parse(text)), given };
  writeFileSync(new URL(`import/${file}.json`, import.meta.url), JSON.stringify(text, null, 1) + '\n');
  console.log(`${file}: ${flags.length} flags, ${flags.length * contexts.length} answers`);
}

function flagd(file, packageName, document) {
  const { FlagdCore } = require(packageName);
  const silent = { error() {}, warn() {}, info() {}, debug() {} };
  const core = new FlagdCore(undefined, silent);
  core.setConfigurations(JSON.stringify(document));
  write(file, [version(packageName)], Object.keys(document.flags), (flag, { user, session, attributes }) => {
    const context = { ...attributes };
    if (user) context.targetingKey = user;
    if (session) context.sessionId = session;
    const value = Object.values(document.flags[flag].variants)[0];
    const type = typeof value;
    const resolve = { boolean: 'resolveBooleanEvaluation', string: 'resolveStringEvaluation', number: 'resolveNumberEvaluation', object: 'resolveObjectEvaluation' }[type];
    const answer = core[resolve](flag, 'given by the caller', context);
    return answer.variant === undefined ? 'code-default' : answer.value;
  });
}

async function unleash(document) {
  const { InMemStorageProvider, Unleash } = require('unleash-client');
  const bootstrap = { data: document.features, segments: document.segments };
  const client = new Unleash({ appName: 'vectors', environment: 'production', url: 'http://127.0.0.1:9/api/', refreshInterval: 0, disableMetrics: true, skipInstanceCountWarning: true, storageProvider: new InMemStorageProvider(), bootstrap });
  client.on('error', () => {});
  await once(client, 'ready');
  const random = Math.random;
  write('unleash', [version('unleash-client')], document.features.map(({ name }) => name), (flag, { user, session, attributes }) => {
    const { remoteAddress, ...properties } = attributes;
    const context = { userId: user, sessionId: session, remoteAddress, properties, currentTime: new Date(NOW) };
    const ask = () => {
      const { name, enabled, feature_enabled: on } = client.getVariant(flag, context);
      return on ? (enabled ? name : 'enabled') : 'disabled';
    };
    const first = ask();
    let stable = true;
    for (let i = 0; i < 200 && stable; i++) {
      // Drawn numbers that cover everything: what depends on one of them is random.
      Math.random = () => i / 200;
      stable = ask() === first;
    }
    Math.random = random;
    return stable ? first : undefined;
  });
  client.destroy();
}

function growthbook(document) {
  const { GrowthBookClient } = require('@growthbook/growthbook');
  const client = new GrowthBookClient().initSync({ payload: document });
  write('growthbook', [version('@growthbook/growthbook')], Object.keys(document.features), (flag, { user, session, attributes }) => {
    const all = { ...attributes };
    if (user) all.id = user;
    if (session) all.sessionId = session;
    return client.evalFeature(flag, { attributes: all }).value;
  });
}

const document = (name) => JSON.parse(readFileSync(new URL(`import/${name}.source.json`, import.meta.url)));
writeFileSync(new URL('import/contexts.json', import.meta.url), '[\n' + contexts.map((context) => JSON.stringify(context)).join(',\n') + '\n]\n');
flagd('flagd', '@openfeature/flagd-core', document('flagd'));
flagd('flagd-legacy', 'flagd-core-legacy', document('flagd-legacy'));
growthbook(document('growthbook'));
await unleash(document('unleash'));
process.exit(0);
