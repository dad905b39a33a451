// Makes the vectors of the profiles whose rule is that of a JavaScript package: each package evaluates a flag of its own
// format for every unit, through its public interface.
//
//   npm install --ignore-scripts && node generate.mjs
//
// generate.py makes the others. A file has one text per case, in which the nth character is the variant of the nth unit.

import { createRequire } from 'node:module';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { units } from './units.mjs';

const require = createRequire(import.meta.url);
const UNITS = units();
const LONG = 'a-salt-that-is-longer-than-one-block-of-every-hash-in-use-here, which are 64 bytes at most';

function write(profile, packages, cases) {
  const text = { profile, packages, cases };
  writeFileSync(new URL(`${profile}.json`, import.meta.url), JSON.stringify(text, null, 1) + '\n');
  console.log(`${profile}: ${cases.length} cases, ${cases.length * UNITS.length} assignments`);
}

function version(name) {
  // Some packages do not export their package.json.
  const path = new URL(`node_modules/${name}/package.json`, import.meta.url);
  const { name: real, version } = JSON.parse(require('node:fs').readFileSync(path));
  return `${real} ${version}`;
}

const letters = (weights) => weights.map((weight, i) => [String.fromCharCode(97 + i), weight]);

// flagd: a flag whose targeting is one `fractional`, by flag key and targeting key, or by the targeting key alone.
const FLAGD_CASES = [
  ['checkout', [90, 10]],
  ['checkout', [1, 1]],
  ['headerColor', [25, 25, 25, 25]],
  ['Zoë-日本-🧪', [1, 2, 4, 93]],
  [LONG, [333, 333, 334]],
  ['zero', [0, 70, 0, 30, 0]],
  ['fine', [99999, 1, 100000]],
  ['huge', [2147483646, 1]],
  ['', [1, 1, 1]],
];

function flagd(profile, packageName, { FlagdCore }) {
  const cases = FLAGD_CASES.map(([salt, counts]) => {
    const weights = letters(counts);
    const flag = salt === '' ? 'by-unit-alone' : salt;
    const fractional = salt === '' ? [{ var: 'targetingKey' }, ...weights] : weights;
    const variants = Object.fromEntries(weights.map(([name]) => [name, name]));
    const core = new FlagdCore(undefined, { error() {}, warn() {}, info() {}, debug() {} });
    core.setConfigurations(JSON.stringify({ flags: { [flag]: { state: 'ENABLED', variants, defaultVariant: 'a', targeting: { fractional } } } }));
    const assigned = UNITS.map((targetingKey) => {
      const { value, reason } = core.resolveStringEvaluation(flag, '?', { targetingKey });
      if (reason !== 'TARGETING_MATCH') throw new Error(`${profile} ${salt} ${targetingKey}: ${reason}`);
      return value;
    });
    return { salt, weights, assigned: assigned.join('') };
  });
  write(profile, [version(packageName)], cases);
}

// Unleash: features with a gradual rollout, with variants of the feature, and with variants of a strategy.
async function unleash() {
  const { InMemStorageProvider, Unleash } = require('unleash-client');
  const rollouts = [['checkout', 10], ['checkout', 1], ['Zoë-日本-🧪', 50], [LONG, 99], ['g', 37], ['none', 0], ['all', 100]];
  const feature = (name, strategies, variants) => ({ name, type: 'release', enabled: true, stale: false, impressionData: false, strategies, variants });
  const rollout = (groupId, percent) => ({ name: 'flexibleRollout', constraints: [], parameters: { groupId, rollout: String(percent), stickiness: 'userId' } });
  const variant = ([name, weight], stickiness) => ({ name, weight, weightType: 'variable', stickiness, payload: { type: 'string', value: name } });
  const ofFeature = [['checkout', [500, 500]], ['Zoë-日本-🧪', [334, 333, 333]], [LONG, [1, 1, 1]], ['fine', [0, 100, 899, 0, 1]]];
  const ofStrategy = [['group', [700, 300]], ['gruppe-ä', [3, 2, 2]]];
  const features = [
    ...rollouts.map(([groupId, percent], i) => feature(`rollout-${i}`, [rollout(groupId, percent)], [])),
    ...ofFeature.map(([name, weights]) => feature(name, [rollout('any', 100)], letters(weights).map((pair) => variant(pair, 'userId')))),
    ...ofStrategy.map(([groupId, weights], i) => feature(`strategy-${i}`, [{ ...rollout(groupId, 100), variants: letters(weights).map((pair) => variant(pair, 'userId')) }], [])),
  ];
  // Nothing listens at the address: the features come with the settings.
  const client = new Unleash({ appName: 'vectors', url: 'http://127.0.0.1:9/api/', refreshInterval: 0, disableMetrics: true, skipInstanceCountWarning: true, storageProvider: new InMemStorageProvider(), bootstrap: { data: features } });
  client.on('error', () => {});
  await once(client, 'ready');
  const packages = [version('unleash-client')];
  write('unleash', packages, rollouts.map(([salt, percent], i) => {
    const assigned = UNITS.map((userId) => (client.isEnabled(`rollout-${i}`, { userId }) ? 'a' : 'b'));
    return { salt, weights: letters([percent, 100 - percent]), assigned: assigned.join('') };
  }));
  const assign = (name) => UNITS.map((userId) => client.getVariant(name, { userId }).name).join('');
  write('unleash-variants', packages, [
    ...ofFeature.map(([salt, weights]) => ({ salt, weights: letters(weights), assigned: assign(salt) })),
    ...ofStrategy.map(([salt, weights], i) => ({ salt, weights: letters(weights), assigned: assign(`strategy-${i}`) })),
  ]);
  client.destroy();
}

// GrowthBook: an experiment rule of a feature; the intervals in buckets are counted from its rule, start <= n < end.
function growthbook(profile, hashVersion, scale) {
  const { GrowthBookClient } = require('@growthbook/growthbook');
  const experiments = [['checkout', [0.5, 0.5]], ['Zoë-日本-🧪', [0.1, 0.2, 0.7]], [LONG, [0.334, 0.333, 0.333]], ['float', [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4]], ['fine', [0.001, 0.998, 0.001]], ['thirds', [1 / 3, 1 / 3, 1 / 3]], ['zero', [0, 1]]];
  const cases = experiments.map(([salt, fractions]) => {
    const variations = letters(fractions).map(([name]) => name);
    const client = new GrowthBookClient().initSync({ payload: { features: { f: { defaultValue: '?', rules: [{ variations, weights: fractions, seed: salt, hashVersion, hashAttribute: 'id', key: 'experiment' }] } } } });
    const ask = (id) => client.getFeatureValue('f', '?', { attributes: { id } });
    let start = 0;
    const counts = fractions.map((fraction) => {
      const end = start + fraction;
      let count = 0;
      for (let k = 0; k < scale; k++) if (k / scale >= start && k / scale < end) count++;
      start = end;
      return count;
    });
    return { salt, fractions, weights: letters(counts), assigned: UNITS.map(ask).join('') };
  });
  write(profile, [version('@growthbook/growthbook')], cases);
}

// LaunchDarkly: a flag whose fallthrough is a rollout, by `key.salt`, or an experiment with a seed.
async function launchdarkly() {
  const { init } = require('@launchdarkly/node-server-sdk');
  const { TestData } = require('@launchdarkly/node-server-sdk/integrations');
  const data = new TestData();
  const flags = [
    { key: 'checkout', salt: '0123456789abcdef0123456789abcdef', counts: [50000, 50000] },
    { key: 'fine', salt: 's', counts: [1, 99998, 1] },
    { key: 'thirds', salt: 'ä', counts: [33333, 33333, 33334] },
    { key: 'long', salt: LONG, counts: [10000, 20000, 30000, 40000, 0] },
    { key: 'experiment', salt: 'unused', seed: 61, counts: [25000, 75000] },
  ];
  for (const { key, salt, seed, counts } of flags) {
    const variations = counts.map((weight, variation) => ({ variation, weight }));
    const rollout = seed === undefined ? { variations } : { kind: 'experiment', seed, variations };
    data.usePreconfiguredFlag({ key, salt, version: 1, on: true, variations: letters(counts).map(([name]) => name), offVariation: 0, fallthrough: { rollout }, targets: [], rules: [], prerequisites: [] });
  }
  const client = init('sdk-key', { updateProcessor: data.getFactory(), sendEvents: false, diagnosticOptOut: true, logger: { debug() {}, info() {}, warn() {}, error: console.error } });
  await client.waitForInitialization({ timeout: 10 });
  const cases = [];
  for (const { key, salt, seed, counts } of flags) {
    let assigned = '';
    for (const unit of UNITS) assigned += await client.variation(key, { kind: 'user', key: unit }, '?');
    cases.push({ salt: seed === undefined ? `${key}.${salt}` : String(seed), weights: letters(counts), assigned });
  }
  client.close();
  write('launchdarkly', [version('@launchdarkly/node-server-sdk')], cases);
}

// Statsig: gates with a pass percentage, and experiments whose groups are slices of user buckets.
async function statsig() {
  const Statsig = require('statsig-node');
  const condition = (type, rest) => ({ type, targetValue: null, operator: null, field: null, additionalValues: {}, idType: 'userID', ...rest });
  const spec = (name, type, salt, rules) => ({ name, type, salt, rules, enabled: true, defaultValue: type === 'feature_gate' ? false : {}, idType: 'userID', entity: type });
  const rule = (id, rest) => ({ name: id, id, salt: id, passPercentage: 100, returnValue: true, idType: 'userID', conditions: [condition('public')], ...rest });
  const gates = [['gate', 'rule', 10], ['gate', 'fine', 0.07], ['gate', 'odd', 57], ['gate-ä', 'regel-🧪', 33.33], [LONG, 'r', 99.99]];
  const experiments = [['exp', [500, 500]], ['exp-ä-🧪', [100, 200, 300, 400]], [LONG, [1, 999]]];
  const feature_gates = gates.map(([salt, id, passPercentage], i) => spec(`gate-${i}`, 'feature_gate', salt, [rule(id, { passPercentage })]));
  const dynamic_configs = experiments.map(([salt, counts], i) => {
    let end = 0;
    const rules = letters(counts).map(([name, count]) => rule(name, {
      returnValue: { variant: name },
      conditions: [condition('user_bucket', { operator: 'lt', targetValue: (end += count), additionalValues: { salt } })],
    }));
    return spec(`experiment-${i}`, 'dynamic_config', 'unused', rules);
  });
  const bootstrapValues = JSON.stringify({ has_updates: true, time: 1, feature_gates, dynamic_configs, layer_configs: [], id_lists: {}, layers: {} });
  await Statsig.initialize('secret-key', { bootstrapValues, localMode: true, disableDiagnostics: true, logger: { debug() {}, info() {}, warn() {}, error() {} } });
  const packages = [version('statsig-node')];
  write('statsig', packages, gates.map(([salt, id, percent], i) => {
    const assigned = UNITS.map((userID) => (Statsig.checkGateSync({ userID }, `gate-${i}`) ? 'a' : 'b'));
    // The SDK's comparison, hash % 10000 < percent * 100, in doubles: 0.07 * 100 is a little more than 7.
    const passing = Math.ceil(percent * 100);
    return { salt: `${salt}.${id}`, percent, weights: letters([passing, 10000 - passing]), assigned: assigned.join('') };
  }));
  write('statsig-experiment', packages, experiments.map(([salt, counts], i) => {
    const assigned = UNITS.map((userID) => Statsig.getConfigSync({ userID }, `experiment-${i}`).get('variant', '?'));
    return { salt, weights: letters(counts), assigned: assigned.join('') };
  }));
  await Statsig.shutdownAsync();
}

writeFileSync(new URL('units.json', import.meta.url), JSON.stringify(UNITS, null, 0).replaceAll('","', '",\n"') + '\n');
console.log(`${UNITS.length} units`);
flagd('flagd', '@openfeature/flagd-core', require('@openfeature/flagd-core'));
flagd('flagd-legacy', 'flagd-core-legacy', require('flagd-core-legacy'));
growthbook('growthbook', 2, 10000);
growthbook('growthbook-v1', 1, 1000);
await unleash();
await launchdarkly();
await statsig();
process.exit(0);
