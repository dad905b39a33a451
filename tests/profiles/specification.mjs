// Brings the cases of Unleash's client specification (@unleash/client-specification, Apache-2.0) into the form of the other
// vectors: contexts as Lockgate has them, and the variant that is expected. `disabled` and `enabled` are the two answers of a
// feature without variants.

import { readFileSync, writeFileSync } from 'node:fs';

const folder = new URL('node_modules/@unleash/client-specification/', import.meta.url);
const read = (name) => JSON.parse(readFileSync(new URL(name, folder)));

// Unleash's contexts are texts; a policy compares numbers with numbers.
const numeric = (state) => new Set([...JSON.stringify(state).matchAll(/"contextName":"([^"]+)","operator":"NUM_/g)].map(([, name]) => name));

function converted({ userId, sessionId, currentTime, properties, ...others }, numbers) {
  const attributes = {};
  for (const [name, value] of Object.entries({ ...others, ...properties })) {
    if (value === null || value === undefined) continue;
    attributes[name] = numbers.has(name) && value !== '' && Number.isFinite(Number(value)) ? Number(value) : String(value);
  }
  const context = { attributes };
  if (userId) context.user = userId;
  if (sessionId) context.session = sessionId;
  return { context, now: currentTime ? Date.parse(currentTime) : Date.UTC(2026, 4, 1) };
}

const suites = read('specifications/index.json').map((file) => {
  const { name, state, tests = [], variantTests = [] } = read(`specifications/${file}`);
  const numbers = numeric(state);
  const cases = [...tests, ...variantTests].map(({ description, context, toggleName, expectedResult: expected }) => {
    let variant = expected;
    if (typeof expected === 'boolean') variant = expected ? true : 'disabled';
    else if (!expected.feature_enabled && !expected.featureEnabled) variant = 'disabled';
    else variant = expected.enabled ? expected.name : 'enabled';
    return { description, feature: toggleName, ...converted(context, numbers), variant };
  });
  return { name, state, cases };
});
const { name, version } = read('package.json');
const text = { packages: [`${name} ${version}`], suites };
writeFileSync(new URL('import/unleash-specification.json', import.meta.url), JSON.stringify(text, null, 1) + '\n');
console.log(`${suites.length} suites, ${suites.reduce((sum, { cases }) => sum + cases.length, 0)} cases`);

// GrowthBook's cases (tests/cases.json of its SDKs' repositories, MIT), whose path is the first argument: features, conditions, and
// experiments written as features. A context has texts, numbers and booleans; cases with lists or objects in it cannot be asked.
const flat = (value) => ['string', 'number', 'boolean'].includes(typeof value);

function growthbookContext(given = {}) {
  const { id, ...attributes } = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  if (!Object.values(attributes).every(flat) || (id !== undefined && typeof id !== 'string')) return undefined;
  return id === undefined || id === '' ? { attributes } : { user: id, attributes };
}

if (process.argv[2]) {
  const all = JSON.parse(readFileSync(process.argv[2]));
  const groups = { features: [], conditions: [], experiments: [] };
  for (const [description, { attributes, features, savedGroups, ...rest }, feature, { value }] of all.feature) {
    const context = growthbookContext(attributes);
    // What a developer forces on a page is no flag.
    if (context && Object.keys(rest).length === 0) groups.features.push({ description, state: { features: features ?? {}, savedGroups }, feature, context, value });
  }
  for (const [description, condition, attributes, value, savedGroups] of all.evalCondition) {
    const context = growthbookContext(attributes);
    const features = { f: { defaultValue: false, rules: [{ condition, force: true }] } };
    if (context) groups.conditions.push({ description, state: { features, savedGroups }, feature: 'f', context, value });
  }
  for (const [description, { attributes, savedGroups, ...rest }, experiment, value, inExperiment] of all.run) {
    const context = growthbookContext(attributes);
    const features = { f: { defaultValue: 'not in the experiment', rules: [experiment] } };
    const known = ['key', 'variations', 'weights', 'coverage', 'hashAttribute', 'hashVersion', 'seed', 'namespace', 'filters', 'condition', 'ranges', 'meta', 'name', 'phase'];
    const plain = Object.keys(experiment).every((key) => known.includes(key)) && Object.keys(rest).length === 0;
    if (context && plain) groups.experiments.push({ description, state: { features, savedGroups }, feature: 'f', context, value: inExperiment ? value : 'not in the experiment' });
  }
  const text = { packages: [`cases.json, specification ${all.specVersion}`], groups };
  writeFileSync(new URL('import/growthbook-cases.json', import.meta.url), JSON.stringify(text, null, 1) + '\n');
  for (const [name, cases] of Object.entries(groups)) console.log(`${name}: ${cases.length} of ${{ features: all.feature, conditions: all.evalCondition, experiments: all.run }[name].length}`);
}
