"""Makes the vectors of the profiles whose rule only packages for Python have, and compares the others with them.

Each package evaluates a flag of its own format for every unit, through its public interface. Two releases of one package
cannot live together, so there are three environments:

    pip install -r requirements.txt && python generate.py flagd-utf8 unleash-utf8 compare
    pip install -r requirements-flagd-cbor.txt && python generate.py flagd-cbor
    pip install -r requirements-flagd-legacy.txt && python generate.py flagd-legacy-utf8

Run generate.mjs first; units and cases are taken from its files.
"""

import json
import logging
import sys
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
UNITS = json.loads((HERE / "units.json").read_text("utf-8"))
logging.disable(logging.CRITICAL)


def cases_of(profile):
    return json.loads((HERE / f"{profile}.json").read_text("utf-8"))["cases"]


def write(profile, packages, cases):
    packages = [f"{name} {version(name)}" for name in packages]
    text = json.dumps({"profile": profile, "packages": packages, "cases": cases}, indent=1, ensure_ascii=False)
    (HERE / f"{profile}.json").write_text(text + "\n", "utf-8")
    print(f"{profile}: {len(cases)} cases, {len(cases) * len(UNITS)} assignments")


def flagd_flag(salt, weights):
    fractional = weights if salt else [{"var": "targetingKey"}, *weights]
    return {
        "state": "ENABLED",
        "variants": {name: name for name, _ in weights},
        "defaultVariant": weights[0][0],
        "targeting": {"fractional": fractional},
    }


def flagd(profile):
    from openfeature.contrib.tools.flagd.core import FlagdCore
    from openfeature.evaluation_context import EvaluationContext

    cases = []
    for case in cases_of("flagd"):
        salt, weights = case["salt"], case["weights"]
        name = salt or "by-unit-alone"
        core = FlagdCore()
        core.set_flags({"flags": {name: flagd_flag(salt, weights)}})
        assigned = ""
        for unit in UNITS:
            details = core.resolve_string_value(name, "?", EvaluationContext(targeting_key=unit))
            assert details.reason == "TARGETING_MATCH", details
            assigned += details.value
        cases.append({"salt": salt, "weights": weights, "assigned": assigned})
    write(profile, ["openfeature-flagd-core"], cases)


def flagd_legacy(profile):
    # This release has no evaluator apart from the provider, which reads files.
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    cases = []
    for case in cases_of("flagd-legacy"):
        name = case["salt"] or "by-unit-alone"
        with file_of({"flags": {name: flagd_flag(case["salt"], case["weights"])}}) as path:
            provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=path)
            provider.initialize(EvaluationContext())
            assigned = ""
            for unit in UNITS:
                details = provider.resolve_string_details(name, "?", EvaluationContext(targeting_key=unit))
                assert details.reason == "TARGETING_MATCH", details
                assigned += details.value
            provider.shutdown()
        cases.append({"salt": case["salt"], "weights": case["weights"], "assigned": assigned})
    write(profile, ["openfeature-provider-flagd"], cases)


def unleash():
    from UnleashClient import UnleashClient
    from UnleashClient.cache import FileCache

    def feature(name, strategy, variants=()):
        return {"name": name, "type": "release", "enabled": True, "strategies": [strategy], "variants": list(variants)}

    def rollout(group, percent):
        return {
            "name": "flexibleRollout",
            "constraints": [],
            "parameters": {"groupId": group, "rollout": str(percent), "stickiness": "userId"},
        }

    def variant(pair):
        name, weight = pair
        return {"name": name, "weight": weight, "stickiness": "userId", "payload": {"type": "string", "value": name}}

    rollouts, variants = cases_of("unleash"), cases_of("unleash-variants")
    features = [feature(f"rollout-{i}", rollout(case["salt"], case["weights"][0][1])) for i, case in enumerate(rollouts)]
    for i, case in enumerate(variants):
        strategy = rollout(case["salt"], 100) | {"variants": [variant(pair) for pair in case["weights"]]}
        features.append(feature(f"variants-{i}", strategy))
    with tempfile.TemporaryDirectory() as folder:
        cache = FileCache("vectors", directory=folder)
        cache.bootstrap_from_dict({"version": 2, "features": features})
        client = UnleashClient(
            url="http://127.0.0.1:9/api/",
            app_name="vectors",
            cache=cache,
            disable_metrics=True,
            disable_registration=True,
        )
        client.initialize_client(fetch_toggles=False)
        for i, case in enumerate(rollouts):
            enabled = (client.is_enabled(f"rollout-{i}", {"userId": unit}) for unit in UNITS)
            case["assigned"] = "".join("a" if yes else "b" for yes in enabled)
        for i, case in enumerate(variants):
            names = (client.get_variant(f"variants-{i}", {"userId": unit})["name"] for unit in UNITS)
            case["assigned"] = "".join(names)
        client.destroy()
    packages = ["UnleashClient", "yggdrasil-engine"]
    write("unleash-utf8", packages, rollouts)
    write("unleash-variants-utf8", packages, variants)


def compare():
    """GrowthBook, LaunchDarkly and Statsig have one rule in all languages: Python's answers are JavaScript's."""
    for profile, hash_version in [("growthbook", 2), ("growthbook-v1", 1)]:
        from growthbook import GrowthBook

        for case in cases_of(profile):
            rule = {
                "variations": [name for name, _ in case["weights"]],
                "weights": case["fractions"],
                "seed": case["salt"],
                "hashVersion": hash_version,
                "hashAttribute": "id",
                "key": "experiment",
            }
            features = {"f": {"defaultValue": "?", "rules": [rule]}}
            ask = lambda unit: GrowthBook(attributes={"id": unit}, features=features).get_feature_value("f", "?")
            expect(profile, case, ask)

    import ldclient
    from ldclient.integrations import Files

    cases = cases_of("launchdarkly")
    flags = {}
    for i, case in enumerate(cases):
        key, dot, salt = case["salt"].partition(".")
        variations = [{"variation": n, "weight": weight} for n, (_, weight) in enumerate(case["weights"])]
        rollout = {"variations": variations} if dot else {"kind": "experiment", "seed": int(key), "variations": variations}
        case["flag"] = key if dot else f"flag-{i}"
        flags[case["flag"]] = {
            "key": case["flag"],
            "salt": salt,
            "version": 1,
            "on": True,
            "variations": [name for name, _ in case["weights"]],
            "fallthrough": {"rollout": rollout},
            "targets": [],
            "rules": [],
            "prerequisites": [],
        }
    with file_of({"flags": flags}) as path:
        config = ldclient.Config("sdk-key", update_processor_class=Files.new_data_source(paths=[path]), send_events=False)
        client = ldclient.LDClient(config, 10)
        for case in cases:
            expect("launchdarkly", case, lambda unit: client.variation(case["flag"], ldclient.Context.create(unit), "?"))
        client.close()

    from statsig import StatsigOptions, StatsigUser, statsig

    def condition(kind, **rest):
        return {"type": kind, "targetValue": None, "operator": None, "field": None, "additionalValues": {}, "idType": "userID"} | rest

    def rule(name, **rest):
        return {"name": name, "id": name, "salt": name, "passPercentage": 100, "returnValue": True, "idType": "userID", "conditions": [condition("public")]} | rest

    def spec(name, kind, salt, rules):
        return {"name": name, "type": kind, "salt": salt, "rules": rules, "enabled": True, "defaultValue": False if kind == "feature_gate" else {}, "idType": "userID", "entity": kind}

    gates, experiments = cases_of("statsig"), cases_of("statsig-experiment")
    specs = {"has_updates": True, "time": 1, "feature_gates": [], "dynamic_configs": [], "layer_configs": [], "id_lists": {}, "layers": {}}
    for i, case in enumerate(gates):
        salt, _, name = case["salt"].rpartition(".")
        specs["feature_gates"].append(spec(f"gate-{i}", "feature_gate", salt, [rule(name, passPercentage=case["percent"])]))
    for i, case in enumerate(experiments):
        rules, end = [], 0
        for name, count in case["weights"]:
            end += count
            bucket = condition("user_bucket", operator="lt", targetValue=end, additionalValues={"salt": case["salt"]})
            rules.append(rule(name, returnValue={"variant": name}, conditions=[bucket]))
        specs["dynamic_configs"].append(spec(f"experiment-{i}", "dynamic_config", "unused", rules))
    options = StatsigOptions(bootstrap_values=json.dumps(specs), local_mode=True, disable_diagnostics=True)
    statsig.initialize("secret-key", options)
    for i, case in enumerate(gates):
        expect("statsig", case, lambda unit: "a" if statsig.check_gate(StatsigUser(unit), f"gate-{i}") else "b")
    for i, case in enumerate(experiments):
        expect("statsig-experiment", case, lambda unit: statsig.get_config(StatsigUser(unit), f"experiment-{i}").get("variant", "?"))
    statsig.shutdown()


@contextmanager
def file_of(document):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(document, file)
        file.flush()
        yield file.name


def expect(profile, case, ask):
    differing = [unit for unit, name in zip(UNITS, case["assigned"]) if ask(unit) != name]
    print(f"{profile} {case['salt'][:20]!r}: {len(differing)} of {len(UNITS)} differ")
    if differing:
        sys.exit(f"{profile}: {differing[:3]}")


RUNS = {
    "flagd-utf8": lambda: flagd("flagd-utf8"),
    "flagd-cbor": lambda: flagd("flagd-cbor"),
    "flagd-legacy-utf8": lambda: flagd_legacy("flagd-legacy-utf8"),
    "unleash-utf8": unleash,
    "compare": compare,
}

for name in sys.argv[1:]:
    RUNS[name]()
