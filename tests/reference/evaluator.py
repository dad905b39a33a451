"""A second evaluator of Lockgate policies, written from docs/policy-semantics.md, docs/hashing.md and docs/profiles.md alone.

It shares no code and no author with the Rust evaluator, so that where the two agree the documents can be trusted. It is meant to be
read beside them: every section below has the heading of the section that it follows, and speed does not matter.

It takes checked policies: `lockgate policy check` refuses what is wrong, this file may do anything with it. Policies are JSON, read
with `read_policy` so that shares stay exact decimals. Only the standard library is needed.

    policy = Policy(read_policy(text), base=None, lists={})
    policy.decide({"route": "r", "user": "alice", "attributes": {"age": 3.0}}, now=0, unavailable=set())
"""

import functools
import hashlib
import json
import re
import struct
from collections import Counter
from decimal import Decimal

MASK32 = 0xFFFF_FFFF
MASK64 = 0xFFFF_FFFF_FFFF_FFFF
BUCKETS = 100_000

DISABLED, SCOPE, OVERRIDE, HOLDOUT, TEST_GROUP, SYMBOL_ROLLOUT, RULE, DEFAULT, FALLBACK = range(1, 10)

FIELDS = ("user", "symbol", "tenant", "session")


def read_policy(text):
    """A policy's source. Decimal numbers stay decimal."""
    return json.loads(text, parse_float=Decimal)


# ---------------------------------------------------------------------------------------------------------------------------------
# hashing.md


def rotate_left(value, count, bits):
    mask = (1 << bits) - 1
    return ((value << count) | (value >> (bits - count))) & mask


def xxh64(data):
    """XXH64 with seed 0, as its specification describes it."""
    p1, p2, p3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
    p4, p5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5

    def round_(accumulator, lane):
        return rotate_left((accumulator + lane * p2) & MASK64, 31, 64) * p1 & MASK64

    at = 0
    if len(data) >= 32:
        lanes = [(p1 + p2) & MASK64, p2, 0, -p1 & MASK64]
        while at + 32 <= len(data):
            words = struct.unpack_from("<4Q", data, at)
            lanes = [round_(lane, word) for lane, word in zip(lanes, words)]
            at += 32
        hash_ = sum(rotate_left(lane, count, 64) for lane, count in zip(lanes, (1, 7, 12, 18))) & MASK64
        for lane in lanes:
            hash_ = ((hash_ ^ round_(0, lane)) * p1 + p4) & MASK64
    else:
        hash_ = p5
    hash_ = (hash_ + len(data)) & MASK64
    while at + 8 <= len(data):
        (word,) = struct.unpack_from("<Q", data, at)
        hash_ = (rotate_left(hash_ ^ round_(0, word), 27, 64) * p1 + p4) & MASK64
        at += 8
    if at + 4 <= len(data):
        (word,) = struct.unpack_from("<I", data, at)
        hash_ = (rotate_left(hash_ ^ (word * p1 & MASK64), 23, 64) * p2 + p3) & MASK64
        at += 4
    for byte in data[at:]:
        hash_ = rotate_left(hash_ ^ (byte * p5 & MASK64), 11, 64) * p1 & MASK64
    hash_ ^= hash_ >> 33
    hash_ = hash_ * p2 & MASK64
    hash_ ^= hash_ >> 29
    hash_ = hash_ * p3 & MASK64
    return hash_ ^ hash_ >> 32


def prefixed(*texts):
    """Each text in UTF-8 behind its length."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


@functools.cache
def lockgate_bucket(salt, parts):
    return ((xxh64(b"lockgate/bucket/1" + prefixed(salt, *parts)) >> 32) * BUCKETS) >> 32


# ---------------------------------------------------------------------------------------------------------------------------------
# policy-semantics.md: Bucket intervals
#
# Intervals are a list of (begin, end, owner), ascending, without gaps.


def buckets_of(percent, scale=BUCKETS):
    """A share in buckets: exact, or it is no valid policy."""
    exact = Decimal(percent) * scale / 100
    assert exact == int(exact), f"{percent} % of {scale} buckets"
    return int(exact)


def lay_out(owners, base=None):
    """The intervals of `owners`, which are (owner, width) in their order."""
    if base is None:
        result, at = [], 0
        for owner, width in owners:
            if width > 0:
                result.append((at, at + width, owner))
            at += width
        return result

    width = dict(owners)
    has = Counter()
    result, given_away = [], []
    for begin, end, owner in base:
        kept = min(end - begin, width.get(owner, 0) - has[owner])
        has[owner] += kept
        result.append((begin, begin + kept, owner))
        given_away.append((begin + kept, end))
    for owner, _ in owners:
        while has[owner] < width[owner]:
            begin, end = given_away.pop(0)
            taken = min(end - begin, width[owner] - has[owner])
            has[owner] += taken
            result.append((begin, begin + taken, owner))
            given_away.insert(0, (begin + taken, end))
            if begin + taken == end:
                given_away.pop(0)
    return sorted(piece for piece in result if piece[0] < piece[1])


def owner_at(intervals, bucket):
    return next(owner for begin, end, owner in intervals if begin <= bucket < end)


def widths(intervals):
    """What each owner has: equal for equal shares, however they lie."""
    result = Counter()
    for begin, end, owner in intervals:
        result[owner] += end - begin
    return result


# ---------------------------------------------------------------------------------------------------------------------------------
# The policy: a source, and the intervals of its bundle


class Route:
    """One definition of a route, and the places it has in the policy."""

    def __init__(self, source, name, tenant, user):
        self.source, self.name, self.tenant, self.user = source, name, tenant, user
        self.variants = source["variants"]
        self.baseline = source.get("baseline", source["default"].get("serve"))
        if self.baseline is None:
            raise ValueError(f"route {name} has no baseline")
        escaped = lambda text: text.replace("%", "%25").replace("/", "%2F")
        if tenant is None and user is None:
            self.own_layer = name
        elif user is None:
            self.own_layer = f"{escaped(tenant)}/{name}"
        else:
            self.own_layer = f"{escaped(tenant or '')}/{escaped(user)}/{name}"

    def steps(self):
        """(number, name, step) of all that can serve a split, in order."""
        for number, key in ((TEST_GROUP, "test_groups"), (SYMBOL_ROLLOUT, "symbol_rollouts"), (RULE, "rules")):
            for step in self.source.get(key, []):
                yield number, step["name"], step
        yield DEFAULT, None, self.source["default"]

    def experiments(self):
        return [(name, step["experiment"]) for number, name, step in self.steps() if "experiment" in step]

    def layer_of(self, step):
        return step.get("layer", self.source.get("layer", self.own_layer))

    def unit_of(self, step):
        return step.get("unit", self.source.get("unit", "user"))

    def in_order(self, shares):
        """Owners of a partition: by name, the baseline last. Python compares texts by code points, which is the order of UTF-8."""
        return sorted(shares.items(), key=lambda item: (item[0] == self.baseline, item[0]))


class Policy:
    """A policy with the intervals of its bundle. `base` is the Policy that `compile --base` would get, `lists` the units of list files."""

    def __init__(self, source, base=None, lists=None):
        self.source, self.lists = source, lists or {}
        self.routes = {}
        for name, route in source.get("routes", {}).items():
            self.routes[None, None, name] = Route(route, name, None, None)
        for tenant, scope in source.get("tenants", {}).items():
            for name, route in scope.get("routes", {}).items():
                self.routes[tenant, None, name] = Route(route, name, tenant, None)
            for user, inner in scope.get("users", {}).items():
                for name, route in inner.get("routes", {}).items():
                    self.routes[tenant, user, name] = Route(route, name, tenant, user)
        for user, scope in source.get("users", {}).items():
            for name, route in scope.get("routes", {}).items():
                self.routes[None, user, name] = Route(route, name, None, user)

        self.freezes = [moments(freeze) for freeze in source.get("freezes", [])]
        self.splits = {}  # (tenant, user, route, step) -> intervals of the stages; a split is one stage
        self.holdouts = {}  # name -> intervals, whose owners are True and None
        self.layers = {}  # name -> intervals, whose owners are True (held out), (own layer, rule, variant), None
        self.lay_out_splits(base)
        self.lay_out_holdouts(base)
        self.lay_out_layers(base)

    def lay_out_splits(self, base):
        for place, route in self.routes.items():
            for _, name, step in route.steps():
                key = (*place, name)
                if "ramp" in step:
                    self.splits[key] = self.ramp_intervals(route, step, base, key)
                elif "split" in step or "weights" in step:
                    if (profile := self.profile_of(route.layer_of(step))) is not None:
                        self.splits[key] = [profile_intervals(profile, step)]
                    else:
                        shares = {variant: buckets_of(share) for variant, share in step["split"].items()}
                        old = base and base.old_intervals(key, shares)
                        self.splits[key] = [lay_out(route.in_order(shares), old)]

    def ramp_intervals(self, route, step, base, key):
        ramp, origin = step["ramp"], step["ramp"].get("from", route.baseline)
        stages = [stage_split(ramp, origin, stage) for stage in ramp["stages"]]
        if (profile := self.profile_of(route.layer_of(step))) is not None:
            return [profile_intervals(profile, {"split": split}) for split in stages]
        occurring = {variant for split in stages for variant in split}
        old_stages = base.old_stages(key) if base else None
        result = []
        for split in stages:
            shares = {variant: buckets_of(split.get(variant, 0)) for variant in occurring}
            twin = same_widths(old_stages or [], shares)
            if twin is not None:
                result.append(twin)
            elif result:
                result.append(lay_out(route.in_order(shares), result[-1]))
            elif old_stages:
                result.append(lay_out(route.in_order(shares), old_stages[0]))
            else:
                result.append(lay_out(route.in_order(shares), base and base.old_intervals(key, shares)))
        return result

    def old_step(self, key):
        """The step of this place, unless it lies in a layer with a profile, whose buckets are others."""
        *place, name = key
        route = self.routes.get(tuple(place))
        for _, other, step in route.steps() if route else []:
            if other == name:
                divided = any(kind in step for kind in ("split", "weights", "ramp"))
                return (route, step) if not divided or self.profile_of(route.layer_of(step)) is None else (None, None)
        return None, None

    def old_stages(self, key):
        _, step = self.old_step(key)
        return self.splits[key] if step and "ramp" in step else None

    def old_intervals(self, key, shares):
        """What a new split of these shares is based on, when this policy is the base."""
        route, step = self.old_step(key)
        if not step:
            return None
        if "serve" in step:
            return [(0, BUCKETS, step["serve"])]
        if "ramp" in step:
            stages, ramp = self.splits[key], step["ramp"]
            if (twin := same_widths(stages, shares)) is not None:
                return twin
            last = len(stages) if ramp.get("automatic", False) else min(ramp.get("approved_stage", 0), len(stages))
            return stages[last - 1] if last > 0 else [(0, BUCKETS, ramp.get("from", route.baseline))]
        return self.splits[key][0] if key in self.splits else None

    def lay_out_holdouts(self, base):
        for name, holdout in self.source.get("holdouts", {}).items():
            width = buckets_of(holdout["share"])
            old = base.holdouts.get(name) if base else None
            self.holdouts[name] = lay_out([(True, width), (None, BUCKETS - width)], old)

    def lay_out_layers(self, base):
        experiments = {}
        for route in self.routes.values():
            for name, experiment in route.experiments():
                experiments.setdefault(experiment["layer"], []).append((route.own_layer, name, route, experiment))
        for layer, members in experiments.items():
            owners = [(True, buckets_of(self.source["layers"][layer].get("holdout", 0)))]
            for own_layer, name, route, experiment in sorted(members, key=lambda member: member[:2]):
                share = Decimal(experiment["share"])
                for variant, part in route.in_order(experiment["split"]):
                    owners.append(((own_layer, name, variant), buckets_of(share * Decimal(part) / 100)))
            owners.append((None, BUCKETS - sum(width for _, width in owners)))
            old = base.layers.get(layer) if base else None
            self.layers[layer] = lay_out(owners, old)

    def profile_of(self, layer):
        profile = self.source.get("layers", {}).get(layer, {}).get("hash", "lockgate")
        return None if profile == "lockgate" else profile

    def decide(self, context, now, unavailable):
        """The decision, or None for `unknown_route`."""
        route = Deciding(self, context, now, unavailable).route(context["route"])
        return route and Deciding(self, context, now, unavailable).decide(route)


def same_widths(stages, shares):
    wanted = Counter({variant: width for variant, width in shares.items() if width})
    return next((stage for stage in stages if widths(stage) == wanted), None)


def stage_split(ramp, origin, stage):
    if "split" in stage:
        return stage["split"]
    share = Decimal(stage["share"])
    return {origin: 100 - share, ramp["to"]: share}


# ---------------------------------------------------------------------------------------------------------------------------------
# Deciding: the five things, and what follows from them


class Deciding:
    def __init__(self, policy, context, now, unavailable):
        self.policy, self.context, self.now, self.unavailable = policy, context, now, unavailable

    def field(self, name):
        """A field of the context. An empty one counts as absent."""
        return self.context.get(name) or None

    # Which route

    def route(self, name):
        tenant, user = self.field("tenant"), self.field("user")
        places = [(tenant, user), (None, user), (tenant, None), (None, None)]
        if tenant is None:
            places = [(None, user), (None, None)]
        if user is None:
            places = [(tenant, None), (None, None)]
        for place in places:
            route = self.policy.routes.get((*place, name))
            if route and self.holds(route.source.get("access", {})):
                return route
        return None

    # Precedence

    def decide(self, route):
        decision = self.chosen(route)
        self.fall_back(route, decision)
        decision["shadows"] = [] if decision["reason"] == "DISABLED" else self.shadows(route, decision["variant"])
        return decision

    def chosen(self, route):
        if not route.source.get("enabled", True):
            return self.decision(route, route.baseline, "DISABLED", DISABLED)
        return (
            self.override(route)
            or self.request(route)
            or self.holdout(route)
            or next(filter(None, (self.step(route, *step) for step in route.steps())))
        )

    def decision(self, route, variant, reason, step, **more):
        known = {
            "tenant": route.tenant, "user": route.user, "route": route.name, "variant": variant, "reason": reason, "step": step,
            "rule": None, "layer": None, "bucket": None, "stage": None, "window": None, "unit_missing": False, "holdout": False,
            "washout": False, "unavailable": False, "intended": None,
        }
        return known | more

    def override(self, route):
        for override in route.source.get("overrides", []):
            if self.listed(override):
                return self.decision(route, override["serve"], "TARGETING_MATCH", OVERRIDE)
        return None

    def request(self, route):
        wanted = self.field("variant")
        for request in route.source.get("requests", []):
            if wanted in request["variants"] and self.member(request):
                return self.decision(route, wanted, "TARGETING_MATCH", OVERRIDE, rule=request["name"])
        return None

    def holdout(self, route):
        named = self.policy.source.get("holdouts", {})
        layers = self.policy.source.get("layers", {})
        candidates = [
            (name, named[name], self.policy.holdouts[name])
            for name in sorted(named)
            if route.name in named[name].get("routes", [route.name])
        ] + [
            (name, layers[name], self.policy.layers[name])
            for name in sorted({experiment["layer"] for _, experiment in route.experiments()})
        ]
        for name, source, intervals in candidates:
            parts = self.parts(source.get("unit", "user"))
            if parts is not None:
                bucket = lockgate_bucket(source.get("salt", name), parts)
                if owner_at(intervals, bucket) is True:
                    return self.decision(
                        route, route.baseline, "SPLIT", HOLDOUT, rule=name, layer=name, bucket=bucket, holdout=True
                    )
        return None

    def step(self, route, number, name, step):
        if not self.admitted(step):
            return None
        if number == TEST_GROUP and not self.member(step):
            return None
        if number == SYMBOL_ROLLOUT and not self.member(step):
            return None
        if number == RULE and not self.holds(step.get("if", {})):
            return None
        if "serve" in step:
            reason = "TARGETING_MATCH"
            if number == DEFAULT:
                reason = "DEFAULT" if self.has_more_than_default(route) else "STATIC"
            return self.decision(route, step["serve"], reason, number, rule=name)
        if "experiment" in step:
            return self.experiment(route, number, name, step["experiment"])
        if "switchback" in step:
            return self.switchback(route, number, name, step)
        return self.split(route, number, name, step)

    def has_more_than_default(self, route):
        keys = ("overrides", "requests", "test_groups", "symbol_rollouts", "rules")
        holdouts = self.policy.source.get("holdouts", {}).values()
        return any(route.source.get(key) for key in keys) or any(
            route.name in holdout.get("routes", [route.name]) for holdout in holdouts
        )

    # Serving

    def split(self, route, number, name, step):
        layer = route.layer_of(step)
        stages = self.policy.splits[route.tenant, route.user, route.name, name]
        known = {"rule": name, "layer": layer}
        intervals = stages[0]
        if "ramp" in step:
            stage = self.stage(step["ramp"])
            known["stage"] = stage
            scale = stages[0][-1][1]
            intervals = stages[stage - 1] if stage > 0 else [(0, scale, step["ramp"].get("from", route.baseline))]
        parts = self.parts(route.unit_of(step))
        if parts is None:
            return self.decision(route, route.baseline, "DEFAULT", number, **known, unit_missing=True)
        bucket = self.bucket(layer, self.salt(layer, route), parts, intervals[-1][1])
        return self.decision(route, owner_at(intervals, bucket), "SPLIT", number, **known, bucket=bucket)

    def experiment(self, route, number, name, experiment):
        layer = experiment["layer"]
        source = self.policy.source["layers"][layer]
        parts = self.parts(source.get("unit", "user"))
        if parts is None:
            return None
        bucket = self.bucket(layer, source.get("salt", layer), parts, BUCKETS)
        owner = owner_at(self.policy.layers[layer], bucket)
        if owner in (True, None) or owner[:2] != (route.own_layer, name):
            return None
        return self.decision(route, owner[2], "SPLIT", number, rule=name, layer=layer, bucket=bucket)

    def salt(self, layer, route):
        if layer == route.own_layer:
            return route.source.get("salt", layer)
        return self.policy.source.get("layers", {}).get(layer, {}).get("salt", layer)

    def bucket(self, layer, salt, parts, scale):
        profile = self.policy.profile_of(layer)
        return lockgate_bucket(salt, parts) if profile is None else profile_bucket(profile, scale, salt, parts)

    def parts(self, unit):
        """The values of the unit's parts, or None when one is missing."""
        result = []
        for part in unit if isinstance(unit, list) else [unit]:
            if isinstance(part, dict):
                value = self.context.get("attributes", {}).get(part["attribute"])
                value = value if isinstance(value, str) else None
            else:
                value = self.field(part)
            if value is None:
                return None
            result.append(value)
        return tuple(result)

    # The ramp's clock

    def stage(self, ramp):
        start = instant(ramp["start"])
        if self.now < start:
            return 0
        pauses = [moments(pause) for pause in ramp.get("pauses", [])] + self.policy.freezes
        elapsed = self.now - start - covered(start, self.now, pauses)
        offset, in_force = 0, 0
        for k, stage in enumerate(ramp["stages"], start=1):
            if k > 1:
                held = ramp["stages"][k - 2].get("hold")
                offset = instant(stage["start"]) - start if "start" in stage else offset + duration(held)
            if elapsed >= offset and (ramp.get("automatic", False) or k <= ramp.get("approved_stage", 0)):
                in_force = k
        return in_force

    # Switchbacks

    def switchback(self, route, number, name, step):
        switchback = step["switchback"]
        start, window = instant(switchback["start"]), duration(switchback["window"])
        parts = self.parts(step.get("unit", "symbol"))
        if parts is None or self.now < start or ("end" in switchback and self.now >= instant(switchback["end"])):
            return None
        variants = switchback["variants"]
        index, into = divmod(self.now - start, window)
        block, place = divmod(index, len(variants))
        seed = switchback.get("seed", f"{route.own_layer}/{name}")
        data = b"lockgate/switchback/1" + prefixed(seed, *parts) + struct.pack("<Q", block)
        order = sorted((xxh64(data + struct.pack("<I", v)), v) for v in range(len(variants)))
        washout = into < duration(switchback.get("washout", "0s"))
        variant = route.baseline if washout else variants[order[place][1]]
        return self.decision(route, variant, "SPLIT", number, rule=name, window=index, washout=washout)

    # Fallback

    def available(self, route, variant):
        source = route.variants[variant]
        return source.get("enabled", True) and self.policy.digest(source["model"]) not in self.unavailable

    def fall_back(self, route, decision):
        variant = decision["variant"]
        if self.available(route, variant):
            return
        fallbacks = route.variants[variant].get("fallbacks", route.source.get("fallbacks", [route.baseline]))
        for fallback in fallbacks:
            if self.available(route, fallback):
                decision.update(variant=fallback, step=FALLBACK, intended=variant)
                return
        decision["unavailable"] = True

    # Shadows

    def shadows(self, route, serving):
        result = []
        for shadow in route.source.get("shadows", []):
            variant, name = shadow["variant"], shadow["name"]
            same = self.policy.digest(route.variants[variant]["model"]) == self.policy.digest(route.variants[serving]["model"])
            if variant == serving or same or not self.available(route, variant):
                continue
            if not self.admitted(shadow) or not self.holds(shadow.get("if", {})):
                continue
            parts = self.parts(route.unit_of(shadow))
            salt = f"{route.own_layer}/shadow/{name}"
            if parts is not None and lockgate_bucket(salt, parts) < buckets_of(shadow.get("sample", 100)):
                result.append([name, variant, *bounds(shadow.get("limits", {}))])
        return result

    # Conditions

    def admitted(self, step):
        return ("from" not in step or instant(step["from"]) <= self.now) and (
            "until" not in step or self.now < instant(step["until"])
        )

    def holds(self, condition):
        return all(self.holds_key(condition, key) for key in condition)

    def holds_key(self, condition, key):
        value = condition[key]
        match key:
            case "all":
                return all(self.holds(part) for part in value)
            case "any":
                return any(self.holds(part) for part in value)
            case "not":
                return not self.holds(value)
            case "segment":
                return self.in_segment(value)
            case "tier":
                names = [tier["name"] for tier in self.policy.source["tiers"]]
                return self.tier() >= names.index(value)
            case "user" | "symbol" | "tenant" | "session":
                return passes({"eq": value} if isinstance(value, str) else value, self.field(key))
            case "attribute":
                tests = {test: argument for test, argument in condition.items() if test in TESTS}
                return passes(tests, self.context.get("attributes", {}).get(value))
            case "time":
                return in_time(value, self.now)
            case "bucket":
                return self.in_bucket(value)
            case "route":
                return self.serves(value, condition["serves"])
        return True  # the tests beside `attribute`, and `serves`

    def in_bucket(self, test):
        layer = test["layer"]
        source = self.policy.source["layers"][layer]
        parts = self.parts(test.get("unit", source.get("unit", "user")))
        if parts is None:
            return False
        profile = self.policy.profile_of(layer)
        scale = BUCKETS if profile is None else SCALES[profile]
        bucket = self.bucket(layer, source.get("salt", layer), parts, scale)
        return buckets_of(test.get("from", 0), scale) <= bucket < buckets_of(test.get("below", 100), scale)

    def serves(self, name, variants):
        route = self.route(name)
        if route is None:
            return False
        decision = self.chosen(route)
        self.fall_back(route, decision)
        return decision["variant"] in ([variants] if isinstance(variants, str) else variants)

    def listed(self, lists):
        """Whether a list of the field, `users: […]` or `user: …`, has the context's value."""
        for field in FIELDS:
            value = self.field(field)
            if value is not None and (value == lists.get(field) or value in self.policy.units(lists.get(f"{field}s", []))):
                return True
        return False

    def member(self, lists):
        return self.listed(lists) or any(self.in_segment(name) for name in lists.get("segments", []))

    def in_segment(self, name):
        segment = self.policy.source["segments"][name]
        if self.member(segment.get("exclude", {})):
            return False
        return self.member(segment) or ("if" in segment and self.holds(segment["if"]))

    def tier(self):
        tiers = self.policy.source["tiers"]
        return max((index for index, tier in enumerate(tiers) if self.member(tier)), default=0)


def units(self, source):
    return self.lists[source["file"]] if isinstance(source, dict) else source


def digest(self, model):
    return self.source["models"][model]["digest"]


Policy.units, Policy.digest = units, digest

# ---------------------------------------------------------------------------------------------------------------------------------
# Tests of values


def is_number(value):
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def equal(value, literal):
    """In type and content. A policy's number is the double nearest to what is written."""
    if is_number(value) and is_number(literal):
        return float(value) == float(literal)
    return type(value) is type(literal) and value == literal


def one_of(value, literals):
    return value is not None and any(equal(value, literal) for literal in literals)


def any_text(check):
    """The test of a text against one text or several."""
    return lambda value, texts: isinstance(value, str) and any(
        check(value.encode(), text.encode()) for text in ([texts] if isinstance(texts, str) else texts)
    )


def in_order(check):
    return lambda value, bound: is_number(value) and check(float(value), float(bound))


TESTS = {
    "eq": lambda value, literal: one_of(value, [literal]),
    "ne": lambda value, literal: not one_of(value, [literal]),
    "in": one_of,
    "not_in": lambda value, literals: not one_of(value, literals),
    "present": lambda value, wanted: (value is not None) == wanted,
    "prefix": any_text(bytes.startswith),
    "suffix": any_text(bytes.endswith),
    "contains": any_text(lambda value, text: text in value),
    "matches": lambda value, expression: isinstance(value, str) and translate(expression).search(value) is not None,
    "lt": in_order(lambda value, bound: value < bound),
    "lte": in_order(lambda value, bound: value <= bound),
    "gt": in_order(lambda value, bound: value > bound),
    "gte": in_order(lambda value, bound: value >= bound),
    "semver": lambda value, range_: isinstance(value, str) and fulfils(value, range_),
    "from": lambda value, bound: (moment := moment_of(value)) is not None and moment >= instant(bound),
    "until": lambda value, bound: (moment := moment_of(value)) is not None and moment < instant(bound),
}


def passes(tests, value):
    return all(TESTS[test](value, argument) for test, argument in tests.items())


# Time


DAY = 86_400_000
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY, "w": 7 * DAY}


def in_time(test, now):
    if "from" in test and now < instant(test["from"]):
        return False
    if "until" in test and now >= instant(test["until"]):
        return False
    day, time_of_day = divmod(now + zone(test.get("offset", "+00:00")), DAY)
    if "weekdays" in test and WEEKDAYS[(day + 3) % 7] not in test["weekdays"]:
        return False
    if "daily" in test:
        begin = clock(test["daily"].get("from", "00:00"))
        end = clock(test["daily"].get("until", "24:00"))
        if begin <= end:
            return begin <= time_of_day < end
        return time_of_day >= begin or time_of_day < end
    return True


def clock(text):
    hours, minutes, *seconds = text.split(":")
    return int(hours) * UNITS["h"] + int(minutes) * UNITS["m"] + int(seconds[0] if seconds else 0) * UNITS["s"]


def zone(text):
    sign = -1 if text[0] == "-" else 1
    return sign * clock(text[1:])


def bounds(limits):
    """A shadow's bounds: requests per second, at once, bytes, milliseconds."""
    size, factors = limits.get("bytes", 1_048_576), {"KiB": 1 << 10, "MiB": 1 << 20}
    if isinstance(size, str):
        size = int(size[:-3]) * factors[size[-3:]]
    return limits.get("rate", 10), limits.get("concurrency", 2), size, duration(limits.get("deadline", "1s"))


def duration(text):
    return sum(int(count) * UNITS[unit] for count, unit in re.findall(r"([0-9]+)(ms|[smhdw])", text))


def moments(interval):
    return instant(interval["from"]), instant(interval["until"]) if "until" in interval else None


def covered(begin, end, intervals):
    """The length of the part of [begin, end) that lies in the union of the intervals."""
    total, at = 0, begin
    for start, stop in sorted(intervals, key=lambda interval: interval[0]):
        start, stop = max(start, at), end if stop is None else min(stop, end)
        if stop > start:
            total, at = total + stop - start, stop
    return total


# RFC 3339


RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def parse_instant(text):
    """Milliseconds since 1970, or None."""
    match = RFC3339.fullmatch(text)
    if not match:
        return None
    year, month, day, hours, minutes, seconds = (int(match[k]) for k in range(1, 7))
    away_hours, away_minutes = int(match[9] or 0), int(match[10] or 0)
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    months = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    if not 1 <= month <= 12 or not 1 <= day <= months[month - 1]:
        return None
    if hours > 23 or minutes > 59 or seconds > 59 or away_hours > 23 or away_minutes > 59:
        return None
    days = days_before(year) - days_before(1970) + sum(months[: month - 1]) + day - 1
    millis = int(((match[7] or "") + "000")[:3])
    local = days * DAY + hours * UNITS["h"] + minutes * UNITS["m"] + seconds * UNITS["s"] + millis
    away = away_hours * UNITS["h"] + away_minutes * UNITS["m"]
    return local + away if match[8] == "-" else local - away


def days_before(year):
    """Days from the beginning of the year 0 to that of this one; the year 0 is a leap year."""
    return 365 * year + (year + 3) // 4 - (year + 99) // 100 + (year + 399) // 400


@functools.cache
def instant(text):
    """A time of the policy."""
    result = parse_instant(text)
    if result is None:
        raise ValueError(f"{text} is no time")
    return result


def moment_of(value):
    """What a value means as a time, or None. NaN is in no order with anything."""
    if is_number(value):
        return None if value != value else value
    return parse_instant(value) if isinstance(value, str) else None


# Regular expressions


@functools.cache
def translate(expression):
    """The dialect is a part of Python's, but for `$`, which here is the very end. What the dialect lacks, the checker refuses."""
    result, at, in_class = [], 0, False
    while at < len(expression):
        character = expression[at]
        if character == "\\":
            result.append(expression[at : at + 2])
            at += 2
            continue
        if character == "[" and not in_class:
            in_class = True
            # A bracket that comes first is a literal, for Python as well.
            begin = re.compile(r"\[\^?\]?").match(expression, at).group()
            result.append(begin)
            at += len(begin)
            continue
        if character == "[":
            character = "\\["
        elif character == "]":
            in_class = False
        elif character == "$" and not in_class:
            character = r"\Z"
        result.append(character)
        at += 1
    return re.compile("".join(result), re.ASCII)


# Semantic versions


NUMBER = r"(0|[1-9][0-9]*)"
IDENTIFIER = r"(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
VERSION = re.compile(
    rf"{NUMBER}\.{NUMBER}\.{NUMBER}(?:-({IDENTIFIER}(?:\.{IDENTIFIER})*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)


def version(text):
    """Something in the order of semver.org, or None."""
    match = VERSION.fullmatch(text)
    if not match:
        return None
    # A release is above its pre-releases; numbers are below texts; of two equal beginnings the longer is above.
    identifiers = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in (match[4] or "").split(".")]
    return int(match[1]), int(match[2]), int(match[3]), match[4] is None, identifiers if match[4] else []


def comparators(range_):
    for text in re.split(r"[ \t,]+", range_.strip(" \t,")):
        operator, rest = re.fullmatch(r"(\^|~|>=|<=|!=|=|>|<)(.*)", text).groups()
        low = version(rest)
        if operator == "^":
            major, minor, patch = low[:3]
            next_ = (major + 1, 0, 0) if major else (0, minor + 1, 0) if minor else (0, 0, patch + 1)
            yield from [(">=", low), ("<", version("{}.{}.{}-0".format(*next_)))]
        elif operator == "~":
            yield from [(">=", low), ("<", version(f"{low[0]}.{low[1] + 1}.0-0"))]
        else:
            yield operator, low


COMPARE = {
    "=": lambda a, b: a == b, "!=": lambda a, b: a != b, "<": lambda a, b: a < b, "<=": lambda a, b: a <= b, ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def fulfils(text, range_):
    found = version(text)
    return found is not None and all(COMPARE[operator](found, other) for operator, other in comparators(range_))

# ---------------------------------------------------------------------------------------------------------------------------------
# profiles.md


SCALES = {
    "flagd": 100_000, "flagd-utf8": 100_000, "flagd-cbor": 100_000, "flagd-legacy": 100_000, "flagd-legacy-utf8": 100_000, "unleash": 100,
    "unleash-utf8": 100, "unleash-variants": 1_000, "unleash-variants-utf8": 1_000, "growthbook": 10_000, "growthbook-v1": 1_000,
    "launchdarkly": 100_000, "statsig": 10_000, "statsig-experiment": 1_000,
}


def profile_intervals(profile, step):
    """One interval each, in the order of the source."""
    if "weights" in step:
        return lay_out(list(step["weights"].items()))
    return lay_out([(variant, buckets_of(share, SCALES[profile])) for variant, share in step["split"].items()])


def profile_bucket(profile, scale, salt, parts):
    unit = "".join(parts)
    match profile:
        case "flagd" | "flagd-utf8" | "flagd-cbor":
            return flagd_hash(profile, salt, unit) * scale >> 32
        case "flagd-legacy" | "flagd-legacy-utf8":
            hash_ = flagd_hash(profile, salt, unit)
            distance = (1 << 32) - hash_ if hash_ >> 31 else hash_
            return (distance * scale - 1) >> 31 if distance else 0
        case "unleash" | "unleash-variants":
            seed = 86028157 if "variants" in profile else 0
            return murmur3(seed, bytes(unit_ & 0xFF for unit_ in code_units(f"{salt}:{unit}"))) % scale
        case "unleash-utf8" | "unleash-variants-utf8":
            seed = 86028157 if "variants" in profile else 0
            return murmur3(seed, f"{salt}:{unit}".encode()) % scale
        case "growthbook":
            return fnv1a(code_units(str(fnv1a(code_units(salt + unit))))) % scale
        case "growthbook-v1":
            return fnv1a(code_units(unit + salt)) % scale
        case "launchdarkly":
            digits = hashlib.sha1(f"{salt}.{unit}".encode()).hexdigest()[:15]
            return int(digits, 16) * scale >> 60
        case "statsig" | "statsig-experiment":
            return int.from_bytes(hashlib.sha256(f"{salt}.{unit}".encode()).digest()[:8], "big") % scale
    raise ValueError(profile)


def flagd_hash(profile, salt, unit):
    if profile == "flagd-cbor":
        return murmur3(0, cbor_text(unit) if salt == "" else b"\x82" + cbor_text(salt) + cbor_text(unit))
    return murmur3(0, (salt + unit).encode() if profile.endswith("-utf8") else code_units(salt + unit))


def cbor_text(text):
    """A text string of RFC 8949, its length in the shortest form."""
    data = text.encode()
    if len(data) < 24:
        return bytes([0x60 + len(data)]) + data
    size, code = next((size, code) for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)) if len(data) < 1 << 8 * size)
    return bytes([0x60 + code]) + len(data).to_bytes(size, "big") + data


def code_units(text):
    data = text.encode("utf-16-le")
    return [low | high << 8 for low, high in zip(data[::2], data[1::2])]


def murmur3(seed, units):
    """MurmurHash3_x86_32. Of code units above 255, which spill over their neighbours, it makes what flagd's JavaScript does."""
    words = [0] * ((len(units) + 3) // 4)
    for n, unit in enumerate(units):
        words[n // 4] ^= rotate_left(unit, 8 * (n % 4), 32)

    def scrambled(word):
        return rotate_left(word * 0xCC9E2D51 & MASK32, 15, 32) * 0x1B873593 & MASK32

    hash_ = seed
    for word in words[: len(units) // 4]:
        hash_ = (rotate_left(hash_ ^ scrambled(word), 13, 32) * 5 + 0xE6546B64) & MASK32
    if len(units) % 4 and not words[-1] >> 31:
        hash_ ^= scrambled(words[-1])
    hash_ ^= len(units)
    hash_ = (hash_ ^ hash_ >> 16) * 0x85EBCA6B & MASK32
    hash_ = (hash_ ^ hash_ >> 13) * 0xC2B2AE35 & MASK32
    return hash_ ^ hash_ >> 16


def fnv1a(units):
    hash_ = 0x811C9DC5
    for unit in units:
        hash_ = (hash_ ^ unit) * 0x01000193 & MASK32
    return hash_
