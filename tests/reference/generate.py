"""Makes the golden vectors: random policies that use all of the language, contexts, and what tests/reference/evaluator.py decides.

    python3 tests/reference/generate.py             writes tests/reference/vectors/
    python3 tests/reference/generate.py --check     makes them again and compares

The same seed gives the same bytes under every version of Python: the generator has a random source of its own. tests/reference/README.md
describes the files.
"""

import argparse
import copy
import gzip
import hashlib
import io
import json
import pathlib
import sys
from collections import Counter
from decimal import Decimal

import evaluator
from evaluator import BUCKETS, DAY, Deciding, Policy, duration, instant, read_policy

SEED = 3
FILES = 16
POLICIES_PER_FILE = 44
BATCHES_PER_POLICY = 22
BATCH = 8
FOLDER = pathlib.Path(__file__).parent / "vectors"

T0 = instant("2026-03-01T00:00:00Z")
HOUR = 3_600_000


class Random:
    """SplitMix64."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & evaluator.MASK64
        z = self.state
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & evaluator.MASK64
        z = (z ^ z >> 27) * 0x94D049BB133111EB & evaluator.MASK64
        return z ^ z >> 31

    def below(self, n):
        return self.next() % n

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def chance(self, percent):
        return self.below(100) < percent

    def choice(self, items):
        return items[self.below(len(items))]

    def sample(self, items, count):
        rest, result = list(items), []
        for _ in range(min(count, len(rest))):
            result.append(rest.pop(self.below(len(rest))))
        return result

    def shuffled(self, items):
        return self.sample(items, len(items))


USERS = [
    "alice", "bob", "carol", "Zoë", "Zoe\u0308", "日本", "🦊", "Ünal", "İpek", "ﬁ", "a/b", "100%", "%2F", "O'Brien", "x" * 100, "Ω≈ç√",
    "нина", "ALICE", " alice", "0", "true", "u\u0000v", "👩‍👩‍👧", "é" * 31, "q" * 32, "\u200bhidden",
]
SYMBOLS = ["EURUSD", "GBPUSD", "EURGBP", "BTC-USD", "BTC/€", "eurusd", "日経225", "ŁÓDŹ", "^GSPC", "A"]
TENANTS = ["acme", "globex", "Größe GmbH", "a/b", "50%", "東京"]
SESSIONS = ["s-1", "s-2", "σ-3", "4"]
COUNTRIES = ["DE", "US", "Ελλάδα", "FR"]
VERSIONS = [
    "0.0.3", "0.0.4", "0.0.4-0", "0.2.3", "0.3.0-0", "0.3.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11",
    "1.0.0-rc.1", "1.0.0", "1.0.0+build.5", "1.2.3", "1.2.4-rc.1", "1.2.10", "1.3.0-0", "1.3.0", "2.0.0-0", "2.0.0-rc.1+b", "2.0.0", "2.1.0",
    "10.0.0", "18446744073709551615.0.0", "1.0.0-18446744073709551615",
]
NO_VERSIONS = ["1.0", "1", "v1.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0+", "1.0.0 ", "", "1.0.0-a..b", "1.0.0-ä", "1.0.0.0", "٣.0.0", "-1.0.0"]
NO_MOMENTS = [
    "2026-03-01", "2026-03-01 00:00:00Z", "2026-03-01T00:00:00", "2026-02-29T00:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T00:00:60Z",
    "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-03-00T00:00:00Z", "2026-03-01T00:00:00.Z", "2026-03-01T00:00:00+2:00",
    "2026-03-01T00:00:00+24:00", "2026-03-01T00:00:00+02:60", "2026-03-01T00:00:00+0200", "20260301T000000Z", "1900-02-29T00:00:00Z", " 2026-03-01T00:00:00Z",
    "٢026-03-01T00:00:00Z", "2026-03-01T00:00:00ZZ", "",
]
FAR_MOMENTS = ["0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999-23:59", "0000-02-29T00:00:00Z", "1582-10-10T00:00:00Z", "2000-02-29t23:59:59z"]
ATTRIBUTES = ["country", "age", "beta", "app", "seen", "note", "länd"]
NOTES = ["", "ab", "aab", "abc", "ba", "b1_", "a\nb", "é日", "aé", "日本語", "_1", " a\t", "A-1", "a.b", "xaybz", "\n", "ab\n", "a$b", "^", "1.5"]

SIGNATURE = {
    "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}], "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}],
}
MODELS = [
    ("eurusd", "1.0.0"), ("eurusd", "1.1.0"), ("eurusd", "2.0.0-rc.1"), ("forest", "1.0.0"), ("lstm", "0.3.1"), ("mlp", "4.0.0"),
]
PROFILES = list(evaluator.SCALES)
UNITS = ["user", "user", "user", "symbol", "tenant", "session", {"attribute": "country"}, ["tenant", "user"], ["user", "symbol"], ["symbol", {"attribute": "note"}],
    ["user", "symbol", "tenant", "session", {"attribute": "note"}, {"attribute": "country"}, {"attribute": "länd"}, {"attribute": "app"}],
]


def when(millis):
    """A time as the policy writes it, in one of the ways that RFC 3339 has."""
    days, rest = divmod(millis, DAY)
    # From days to a date: the year by search, for clarity.
    year = 1970 + days // 366
    while evaluator.days_before(year + 1) - evaluator.days_before(1970) <= days:
        year += 1
    day = days - (evaluator.days_before(year) - evaluator.days_before(1970))
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    month = 1
    for length in (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31):
        if day < length:
            break
        day, month = day - length, month + 1
    hours, rest = divmod(rest, HOUR)
    minutes, rest = divmod(rest, 60_000)
    seconds, rest = divmod(rest, 1_000)
    fraction = f".{rest:03}" if rest else ""
    return f"{year:04}-{month:02}-{day + 1:02}T{hours:02}:{minutes:02}:{seconds:02}{fraction}Z"


def when_elsewhere(random, millis):
    """The same moment, written with an offset, more digits, small letters."""
    away = random.choice([-720, -300, -1, 0, 1, 330, 765, 1439])
    text = when(millis + away * 60_000)[:-1]
    if random.chance(30):
        text += ("" if "." in text else ".000") + random.choice(["9", "0001", "99999999999999999999"])
    text += f"{'-' if away < 0 else '+'}{abs(away) // 60:02}:{abs(away) % 60:02}" if away or random.chance(50) else random.choice("Zz")
    return text.replace("T", "t") if random.chance(20) else text


def number(value):
    """A share: a Decimal as the number that JSON writes the same way."""
    return int(value) if value == int(value) else float(value)


class Maker:
    """Makes one policy, and remembers what contexts should have to meet its borders."""

    def __init__(self, random):
        self.random = random
        self.users = random.sample(USERS, 8) + [f"u{random.below(10_000)}" for _ in range(4)]
        self.symbols = random.sample(SYMBOLS, 6)
        self.tenants = random.sample(TENANTS, 3)
        self.sessions = SESSIONS
        self.borders = []
        self.lists = {}
        self.route_names = ["direction", "pricing", "risk-2", "z.route"][: random.between(1, 4)]
        # Every definition of a route has the same variants, so that prerequisites can name them.
        self.variants_of = {name: random.sample(["stable", "canary", "b", "A", "x.1"], random.between(2, 5)) for name in self.route_names}

    def moment(self, low=-10 * DAY, high=40 * DAY):
        random = self.random
        step = random.choice([DAY, HOUR, 60_000, 1_000, 1])
        at = T0 + low + random.below((high - low) // step) * step
        self.borders.append(at)
        return at

    def period(self, both=False, begins=False):
        random = self.random
        begin = self.moment()
        write = lambda at: when_elsewhere(random, at) if random.chance(20) else when(at)
        result = {"from": write(begin)}
        if not begins and random.chance(3):
            result["from"] = random.choice(["0000-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z"])
        if both or random.chance(70):
            end = begin + random.choice([1, 1_000, HOUR, DAY, 5 * DAY, 20 * DAY])
            self.borders.append(end)
            result["until"] = write(end) if random.chance(97) else random.choice(["9999-12-31T23:59:59.999Z"])
        if not both and not begins and random.chance(20) and "until" in result:
            del result["from"]
        return result

    # Names

    def policy(self):
        random = self.random
        self.has_tiers = random.chance(40)
        self.segment_names = ["staff", "big", "inner", "odd"][: random.below(5)]
        self.layer_names = ["alpha", "beta"][: random.choice([0, 1, 1, 2])]
        self.profiles = {f"old-{profile}": profile for profile in random.sample(PROFILES, random.choice([0, 0, 1, 2]))}
        self.free = {layer: Decimal(100) for layer in self.layer_names}

        source = {"lockgate": 1, "version": 1}
        if random.chance(30):
            source["freezes"] = [self.period(both=random.chance(70), begins=True) for _ in range(random.between(1, 2))]
        source["models"] = {}
        for at, (model, version) in enumerate(MODELS):
            # The last two versions are one package, so that "the same package" differs from "the same variant".
            digest = hashlib.sha256(f"package {min(at, len(MODELS) - 2)}".encode()).hexdigest()
            entry = {"digest": f"sha256:{digest}"}
            if random.chance(40):
                entry["placement"] = random.choice(["edge", "host", "gpu"])
            source["models"][f"{model}@{version}"] = entry
        if self.has_tiers:
            source["tiers"] = [{"name": "free"}] + [
                {"name": name, **self.members()} for name in ["plus", "premium"][: random.between(1, 2)]
            ]
        if self.segment_names:
            source["segments"] = {name: self.segment(at) for at, name in enumerate(self.segment_names)}
        layers = {}
        for name in self.layer_names:
            layers[name] = {}
            if random.chance(50):
                layers[name]["salt"] = random.choice(["alpha-2026", "σαλτ", "s"])
            if random.chance(50):
                layers[name]["unit"] = random.choice(UNITS)
            if random.chance(50):
                share = Decimal(random.choice(["0", "5", "12.5", "0.001", "30"]))
                layers[name]["holdout"] = number(share)
                self.free[name] -= share
        for name, profile in self.profiles.items():
            layers[name] = {"hash": profile}
            if random.chance(60):
                layers[name]["salt"] = random.choice(["my-flag", "exp.2", "naïve", "", "日"])
        if layers:
            source["layers"] = layers
        if random.chance(30):
            source["holdouts"] = {}
            for name in random.sample(["h1", "h2", "H0"], random.between(1, 2)):
                holdout = {"share": random.choice([5, 20, 50, 0.5, 0])}
                if random.chance(50):
                    holdout["unit"] = random.choice(UNITS)
                if random.chance(30):
                    holdout["salt"] = "held øut"
                if random.chance(50):
                    holdout["routes"] = random.sample(self.route_names, random.between(1, len(self.route_names)))
                source["holdouts"][name] = holdout
        source["routes"] = {name: self.route(at) for at, name in enumerate(self.route_names)}
        if random.chance(35):
            source["tenants"] = {}
            for tenant in random.sample(self.tenants, random.between(1, 2)):
                scope = source["tenants"][tenant] = {}
                if random.chance(80):
                    scope["routes"] = {name: self.route(at) for at, name in self.some_routes()}
                if random.chance(50) or not scope:
                    scope["users"] = {self.users[0]: {"routes": {name: self.route(at) for at, name in self.some_routes()}}}
        if random.chance(30):
            source["users"] = {
                user: {"routes": {name: self.route(at) for at, name in self.some_routes()}} for user in self.random.sample(self.users[:3], 1)
            }
        return source

    def some_routes(self):
        return self.random.sample(list(enumerate(self.route_names)), self.random.between(1, 2))

    # Membership

    def members(self, fields=("users", "symbols", "tenants", "sessions"), segments=None):
        random = self.random
        segments = self.segment_names if segments is None else segments
        result = {}
        for field in random.sample(fields, random.between(1, 2)):
            values = random.sample(getattr(self, field), random.between(1, 3))
            result[field] = values
        if segments and random.chance(40):
            result["segments"] = random.sample(segments, random.between(1, 2))
        return result

    def segment(self, at):
        random = self.random
        others = self.segment_names[at + 1 :]
        result = self.members(segments=others) if random.chance(80) else {}
        if "users" in result and random.chance(25):
            name = f"units-{at}.txt"
            self.lists[name] = result["users"] + [f"u{k}" for k in range(random.below(60))]
            self.lists[name] = list(dict.fromkeys(self.lists[name]))
            result["users"] = {"file": name}
        if not result or random.chance(30):
            result["if"] = self.condition(2, segments=others)
        if random.chance(40):
            result["exclude"] = self.members(segments=others)
        return result

    # Routes

    def route(self, at):
        random = self.random
        self.later_routes = self.route_names[at + 1 :]
        self.used = {field: set() for field in ("users", "symbols", "tenants", "sessions")}
        self.variant_names = self.variants_of[self.route_names[at]]
        route = {"signature": SIGNATURE}
        if random.chance(6):
            route["enabled"] = False
        if random.chance(40):
            route["unit"] = random.choice(UNITS)
        self.route_layer = None
        if random.chance(15) and (self.layer_names or self.profiles):
            self.route_layer = route["layer"] = random.choice(self.layer_names + list(self.profiles))
        elif random.chance(25):
            route["salt"] = random.choice(["direction-2026", "ß", "🧂"])
        if random.chance(15):
            route["access"] = {"any": [{"not": self.condition(2)}, self.condition(1)]}
        route["variants"] = {name: self.variant() for name in self.variant_names}
        if random.chance(45):
            route["fallbacks"] = random.sample(self.variant_names, random.between(1, 4))
        self.baseline = random.choice(self.variant_names)
        if random.chance(35):
            route["overrides"] = self.overrides()
        if random.chance(30):
            route["requests"] = [
                {"name": f"request-{k}", **self.members(), "variants": random.sample(self.variant_names, random.between(1, 2))}
                for k in range(random.between(1, 2))
            ]
        if random.chance(40):
            route["test_groups"] = [
                {"name": f"group-{k}", **self.maybe_period(), **self.members(), **self.serving()} for k in range(random.between(1, 2))
            ]
        if random.chance(40):
            route["symbol_rollouts"] = [
                {"name": f"rollout-{k}", **self.maybe_period(), **self.members(fields=("symbols",)), **self.serving()}
                for k in range(random.between(1, 2))
            ]
        if random.chance(70):
            route["rules"] = [self.rule(k) for k in range(random.between(1, 3))]
        default = self.serving(switchbacks=False)
        route["default"] = default
        if "serve" not in default or random.chance(50):
            route["baseline"] = self.baseline
        else:
            # A ramp without `from` begins at the baseline, which is now the default's variant; keep every ramp's two variants apart.
            route["baseline"] = self.baseline if "ramp" in json.dumps(route) else default["serve"]
            if route["baseline"] == default["serve"]:
                del route["baseline"]
        if random.chance(50):
            route["shadows"] = [self.shadow(k) for k in range(random.choice([1, 1, 2, 3, 9]))]
        return route

    def variant(self):
        random = self.random
        model, version = random.choice(MODELS)
        variant = {"model": f"{model}@{version}"}
        if random.chance(30):
            variant["payload"] = random.choice([{"threshold": 0.5}, {"näme": ["é", None, True]}, 7, "text", {"b": 1, "a": {"c": []}}])
        if random.chance(4):
            variant["enabled"] = False
        if random.chance(20):
            variant["fallbacks"] = random.sample(self.variant_names, random.below(3))
        return variant

    def overrides(self):
        random, result = self.random, []
        for _ in range(random.between(1, 3)):
            override = {}
            for field in random.sample(["users", "symbols", "tenants", "sessions"], 1):
                free = [value for value in getattr(self, field) if value not in self.used[field]]
                values = random.sample(free, random.between(1, 2))
                self.used[field].update(values)
                if len(values) == 1 and random.chance(60):
                    override[field[:-1]] = values[0]
                elif values:
                    override[field] = values
            if override:
                result.append({**override, "serve": random.choice(self.variant_names)})
        return result

    def maybe_period(self):
        return self.period() if self.random.chance(30) else {}

    def rule(self, k):
        random = self.random
        rule = {"name": random.choice([f"rule-{k}", f"R{k}", f"default-{k}"]), **self.maybe_period()}
        layers = [layer for layer in self.layer_names if self.free[layer] >= 1]
        if layers and random.chance(45):
            layer = random.choice(layers)
            share = min(self.free[layer], Decimal(random.choice(["10", "20", "33.5", "50", "1", "100"])))
            share = share.quantize(Decimal("0.1"), rounding="ROUND_DOWN")
            self.free[layer] -= share
            if random.chance(50):
                rule["if"] = self.condition(2)
            rule["experiment"] = {"layer": layer, "share": number(share), "split": self.split(1)}
            return rule
        serving = self.serving()
        if "switchback" not in serving or random.chance(50):
            rule["if"] = self.condition(3)
        return {**rule, **serving}

    def serving(self, switchbacks=True):
        random = self.random
        kind = random.below(100)
        if kind < 30:
            return {"serve": random.choice(self.variant_names)}
        result = {}
        if kind < 48 and switchbacks:
            result["switchback"] = self.switchback()
            if random.chance(50):
                result["unit"] = random.choice(UNITS)
            return result
        if random.chance(35):
            result["unit"] = random.choice(UNITS)
        layers = self.layer_names + list(self.profiles) * 2
        layer = self.route_layer
        if layers and random.chance(60):
            layer = result["layer"] = random.choice(layers)
        profile = self.profiles.get(layer)
        if kind < 70:
            result["ramp"] = self.ramp(profile)
        elif profile:
            result.update(self.profile_split(profile))
        else:
            result["split"] = self.split(random.choice([1, 10, 100, 1000]))
        return result

    def split(self, per_percent):
        """Shares of some variants, in whole parts of a percent."""
        random = self.random
        names = random.sample(self.variant_names, random.between(1, len(self.variant_names)) if random.chance(10) else random.between(2, 3))
        rest, result = 100 * per_percent, {}
        for name in names[:-1]:
            part = random.choice([0, rest, rest // 2, rest // 10, random.below(rest + 1), random.below(rest + 1), min(rest, 1)])
            result[name] = number(Decimal(part) / per_percent)
            rest -= part
        result[names[-1]] = number(Decimal(rest) / per_percent)
        return result

    def profile_split(self, profile):
        random = self.random
        any_scale = "flagd" in profile or "variants" in profile
        per_percent = evaluator.SCALES[profile] // 100
        if any_scale and random.chance(50):
            weights = {name: random.choice([0, 1, 2, 7, 50, 1000]) for name in random.sample(self.variant_names, random.between(2, 3))}
            if sum(weights.values()) > 0:
                return {"weights": weights}
        split = self.split(per_percent)
        if not any_scale and random.chance(30):
            return {"weights": {name: int(Decimal(str(share)) * per_percent) for name, share in split.items()}}
        return {"split": split}

    def ramp(self, profile=None):
        random = self.random
        start = self.moment(0, 10 * DAY)
        ramp = {"to": random.choice([name for name in self.variant_names if name != self.baseline])}
        origin = self.baseline
        if random.chance(30):
            origin = ramp["from"] = random.choice([name for name in self.variant_names if name != ramp["to"]])
        ramp["start"] = when(start)
        count = random.between(1, 4)
        ramp["approved_stage"] = random.between(0, count)
        if ramp["approved_stage"] == 0 and random.chance(50):
            del ramp["approved_stage"]
        if random.chance(40):
            ramp["automatic"] = random.chance(80)
        stages, at = [], start
        grain = ["1", "5", "10", "25", "50", "75"] if profile else ["0.001", "1", "5", "10", "12.345", "25", "50", "75", "99.5"]
        shares = sorted(Decimal(share) for share in random.sample(grain, count - 1)) + [Decimal(random.choice([100, 100, 90]))]
        if random.chance(15):
            shares = random.shuffled(shares)
        for k, share in enumerate(shares):
            stage = {"share": number(share)}
            if random.chance(15) and not profile:
                stage = {"split": {origin: number(100 - share), ramp["to"]: number(share)}}
                third = [name for name in self.variant_names if name not in stage["split"]]
                if third and 100 - share >= 2:
                    stage["split"][origin] = number(100 - share - 1)
                    stage["split"][third[0]] = 1
            if k + 1 < count:
                text = random.choice(["24h", "2d", "90m", "1h30m", "1w", "36h15s", "500ms"])
                hold = duration(text)
                if random.chance(75):
                    stage["hold"] = text
                    at += hold
                else:
                    at = max(at + hold, self.moment(10 * DAY, 20 * DAY))
                    stage_start = at
            if k > 0 and "hold" not in stages[-1]:
                stage["start"] = when(previous)
                self.borders.append(previous)
            previous = at
            self.borders.append(at)
            stages.append(stage)
        if random.chance(40):
            ramp["pauses"] = []
            for _ in range(random.between(1, 2)):
                begin = start + random.between(-2, 5) * DAY + random.choice([0, 0, 1, HOUR])
                pause = {"from": when(begin)}
                self.borders.append(begin)
                if random.chance(85):
                    length = random.choice([1, HOUR, DAY, 3 * DAY])
                    pause["until"] = when(begin + length)
                    self.borders += [begin + length] + [border + length for border in self.borders[-3:]]
                ramp["pauses"].append(pause)
        ramp["stages"] = stages
        if all("split" in stage for stage in stages):
            del ramp["to"]
        return ramp

    def switchback(self):
        random = self.random
        start = self.moment(-5 * DAY, 10 * DAY)
        window = random.choice(["4h", "15m", "1d", "1h30m", "1w", "1s"])
        length = duration(window)
        result = {"variants": random.sample(self.variant_names, random.between(2, len(self.variant_names))), "start": when(start)}
        if random.chance(50):
            end = start + random.choice([length, 7 * length, 100 * length, 20 * DAY])
            result["end"] = when(end)
            self.borders.append(end)
        result["window"] = window
        washout = 0
        if random.chance(75):
            text = random.choice(["500ms", "15m", "1h", "999ms"])
            if duration(text) < length:
                result["washout"], washout = text, duration(text)
        if random.chance(40):
            result["seed"] = random.choice(["seed", "सीड", "2026"])
        for _ in range(6):
            at = start + random.below(30) * length
            self.borders += [at, at + washout]
        return result

    def shadow(self, k):
        random = self.random
        shadow = {"name": f"shadow-{k}", "variant": random.choice(self.variant_names)}
        if random.chance(25):
            shadow["if"] = self.condition(2)
        shadow |= self.maybe_period()
        if random.chance(40):
            shadow["unit"] = random.choice(UNITS)
        if random.chance(75):
            shadow["sample"] = random.choice([0.001, 10, 50, 33.333, 99.999, 100])
        if random.chance(50):
            shadow["limits"] = dict(
                random.sample(
                    [
                        ("rate", random.between(1, 500)), ("concurrency", random.between(1, 8)),
                        ("bytes", random.choice([65536, "64KiB", "1MiB", 100])), ("deadline", random.choice(["200ms", "1s", "1m"])),
                    ],
                    random.between(1, 4),
                )
            )
        return shadow

    # Conditions

    def condition(self, depth, segments=None):
        random = self.random
        in_segment = segments is not None
        segments = self.segment_names if segments is None else segments
        later = [] if in_segment else getattr(self, "later_routes", [])
        kinds = ["field"] * 4 + ["attribute"] * 8 + ["time"] * 2
        if depth > 0:
            kinds += ["all", "any", "not"] * 2
        if segments:
            kinds += ["segment"] * 2
        if self.has_tiers and not in_segment:
            kinds += ["tier"] * 2
        layers = self.layer_names + list(self.profiles)
        if layers:
            kinds += ["bucket"] * 2
        if later:
            kinds += ["route"] * 2
        result = {}
        for kind in random.sample(kinds, random.choice([1, 1, 1, 2])):
            if kind == "field":
                result |= self.field_condition()
            elif kind == "attribute":
                result = {key: value for key, value in result.items() if key not in evaluator.TESTS and key != "attribute"}
                result |= self.attribute_condition()
            elif kind in ("all", "any"):
                result[kind] = [self.condition(depth - 1, segments if in_segment else None) for _ in range(random.between(1, 3))]
            elif kind == "not":
                result["not"] = self.condition(depth - 1, segments if in_segment else None)
            elif kind == "segment":
                result["segment"] = random.choice(segments)
            elif kind == "tier":
                result["tier"] = random.choice(["free", "plus"])
            elif kind == "time":
                result["time"] = self.time()
            elif kind == "bucket":
                layer = random.choice(layers)
                borders = ["0", "10", "50", "75", "100"] + ([] if layer in self.profiles else ["25.5", "33.333", "99.999"])
                low, high = sorted(random.sample(borders, 2), key=Decimal)
                result["bucket"] = {"layer": layer}
                if random.chance(60):
                    result["bucket"]["unit"] = random.choice(UNITS)
                if low != "0" or random.chance(50):
                    result["bucket"]["from"] = number(Decimal(low))
                result["bucket"]["below"] = number(Decimal(high))
            else:
                result["route"] = random.choice(later)
                serves = self.variants_of[result["route"]]
                result["serves"] = random.choice(serves) if random.chance(50) else random.sample(serves, 2)
        return result

    def field_condition(self):
        random = self.random
        field = random.choice(["user", "symbol", "tenant", "session"])
        pool = getattr(self, f"{field}s")
        value = random.choice(pool)
        if random.chance(25):
            return {field: value}
        return {field: self.text_tests(pool)}

    def text_tests(self, pool):
        random = self.random
        value = random.choice(pool)
        piece = value[: random.between(1, 3)] or "a"
        one_or_two = lambda one, other: one if random.chance(50) or one == other else [one, other]
        tests = {
            "eq": value, "ne": value, "in": random.sample(pool, 3), "not_in": random.sample(pool, 3), "present": random.chance(60),
            "prefix": one_or_two(piece, "zz"), "suffix": one_or_two(value[-2:] or "a", "é"), "contains": one_or_two(value[1:3] or "a", "日"),
            "matches": self.expression(), "semver": self.version_range(),
        }
        return dict(random.sample(list(tests.items()), random.choice([1, 1, 1, 2])))

    def attribute_condition(self):
        random = self.random
        name = random.choice(ATTRIBUTES)
        if random.chance(10):
            tests = self.text_tests(NOTES) | {"lt": random.choice([3, 1e10])} | self.period()
            return {"attribute": name, **dict(random.sample(list(tests.items()), 2))}
        if name in ("country", "länd"):
            return {"attribute": name, **self.text_tests(COUNTRIES)}
        if name == "note":
            return {"attribute": name, **self.text_tests(NOTES)}
        if name == "beta":
            value = random.chance(50)
            tests = [("eq", value), ("ne", value), ("in", [value, "x", 1]), ("not_in", [value, "true"]), ("present", value)]
            return {"attribute": name, **dict([random.choice(tests)])}
        if name == "age":
            value = random.choice([0, 5, -3, 2.5, 1e9, 0.1, -0.0, 9007199254740992, 1e-300])
            tests = [
                ("eq", value), ("ne", value), ("in", [value, "5", True, 18]), ("not_in", [value, 18]), ("lt", value), ("lte", value), ("gt", value),
                ("gte", value), ("present", True),
            ]
            return {"attribute": name, **dict(random.sample(tests, random.between(1, 2)))}
        if name == "seen":
            return {"attribute": name, **self.period()}
        return {"attribute": name, "semver": self.version_range()}

    def version_range(self):
        random = self.random
        parts = [random.choice(["=", "!=", "<", "<=", ">", ">=", ">=", "<", "^", "~"]) + random.choice(VERSIONS[:24]) for _ in range(random.choice([1, 1, 2]))]
        return random.choice([" ", ",", ", "]).join(parts)

    def time(self):
        random = self.random
        result = {}
        if random.chance(40):
            result |= self.period()
        if random.chance(50):
            begin, end = random.sample(["00:00", "09:30", "16:00:00", "23:59:59", "12:00"], 2)
            result["daily"] = {"from": begin, "until": end}
            for text in (begin, end):
                self.borders.append(T0 + random.below(20) * DAY + evaluator.clock(text))
        if random.chance(40) or not result:
            result["weekdays"] = random.sample(evaluator.WEEKDAYS, random.between(1, 5))
            self.borders.append(T0 + random.below(14) * DAY)
        if ("daily" in result or "weekdays" in result) and random.chance(50):
            result["offset"] = random.choice(["+01:00", "-05:00", "+05:30", "+00:00", "-11:45"])
            self.borders = [*self.borders, self.borders[-1] - evaluator.zone(result["offset"])]
        return result

    def expression(self, depth=2):
        random = self.random
        kind = random.below(10)
        if depth == 0 or kind < 4:
            atom = random.choice(
                ["a", "b", "ab", "1", "é", "日", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", ".", "[a-c]", "[^a]", r"[^\d_]", r"[é日-]", r"\.", r"\$", r"\^", r"[\]\w]",
                 "[0-9A-F]", "-", "_", "[а-я]", "u", "[a^]", "[$.]", "[*+?()]", r"[\-\]]", r"\t", r"\n", r"\-", r"[\d\s]", "(?:)", "[^\\n]"]
            )
            return atom + (random.choice(["*", "+", "?", "{2}", "{1,}", "{0,2}", "*?", "+?", "??"]) if random.chance(35) else "")
        if kind < 6:
            return self.expression(depth - 1) + self.expression(depth - 1)
        if kind < 7:
            return f"({random.choice(['', '?:'])}{self.expression(depth - 1)}|{self.expression(depth - 1)})" + random.choice(["", "", "*", "+", "{2}", "?"])
        if random.chance(12):
            return random.choice(["(^{}|{}$)", "(^|{}){}", "{}({}|$)", "({}|)({}|b)", "^({}|{})+$", "({}$|^{})a?"]).format(
                self.expression(depth - 1), self.expression(depth - 1)
            )
        if kind < 8:
            return f"^{self.expression(depth - 1)}"
        if kind < 9:
            return f"{self.expression(depth - 1)}$"
        return f"^{self.expression(depth - 1)}$"

    # Another policy, to be compiled on the base of this one

    def mutated(self, source):
        random = self.random
        source = copy.deepcopy(source)
        source["version"] += 1
        for layer in self.layer_names:
            used = sum(Decimal(str(rule["experiment"]["share"])) for route in definitions(source) for rule in route.get("rules", []) if rule.get("experiment", {}).get("layer") == layer)
            if random.chance(40):
                share = min(100 - used, Decimal(random.choice(["0", "2", "7.5", "40"])))
                source["layers"][layer]["holdout"] = number(share)
            self.free[layer] = 100 - used - Decimal(str(source["layers"][layer].get("holdout", 0)))
        for holdout in source.get("holdouts", {}).values():
            if random.chance(50):
                holdout["share"] = random.choice([1, 10, 25, 99.999])
        if source.get("users") and random.chance(15):
            del source["users"]
        for route in definitions(source):
            route.setdefault("baseline", route["default"].get("serve"))
            self.baseline, self.route_layer = route["baseline"], route.get("layer")
            if random.chance(20) and "n.1" not in route["variants"]:
                route["variants"]["n.1"] = {"model": "mlp@4.0.0"}
            self.variant_names = list(route["variants"])
            if random.chance(15) and '"ramp"' not in json.dumps(route):
                self.baseline = route["baseline"] = random.choice(self.variant_names)
            if route.get("rules") and "experiment" not in route["rules"][0] and random.chance(20):
                # A step that becomes one of another kind keeps its name, and with it its intervals.
                step = route["rules"].pop(0)
                step.pop("if", None)
                route.setdefault("test_groups", []).append({**step, "users": self.users[:6]})
            if route.get("rules") and random.chance(15):
                route["rules"].pop(random.below(len(route["rules"])))
                route["rules"] = route["rules"] or [{"name": "rule-9", "if": {"user": "alice"}, "serve": self.baseline}]
            for key in ("test_groups", "symbol_rollouts", "rules"):
                for step in route.get(key, []):
                    self.mutate_step(step)
            self.mutate_step(route["default"])
        return source

    def mutate_step(self, step):
        random = self.random
        if "experiment" in step and random.chance(15):
            experiment = step.pop("experiment")
            self.free[experiment["layer"]] += Decimal(str(experiment["share"]))
            step.setdefault("if", {"attribute": "age", "gte": 0})
            step["split"] = self.split(1)
            return
        if "experiment" in step:
            self.mutate_experiment(step["experiment"])
            return
        if random.chance(8) and "serve" not in step and "switchback" not in step and "ramp" not in step:
            # Another layer, perhaps one with another hash.
            for key in ("split", "weights"):
                step.pop(key, None)
            layer = random.choice([None, *self.layer_names, *self.profiles])
            step.pop("layer", None)
            if layer:
                step["layer"] = layer
            profile = self.profiles.get(layer or self.route_layer)
            step.update(self.profile_split(profile) if profile else {"split": self.split(10)})
            return
        if "switchback" in step or random.chance(40):
            return
        profile = self.profiles.get(step.get("layer", self.route_layer))
        if "ramp" in step and random.chance(55):
            self.mutate_ramp(step["ramp"])
            return
        for kind in ("serve", "split", "weights", "ramp"):
            step.pop(kind, None)
        kind = random.below(10)
        if kind < 2 and "unit" not in step and "layer" not in step:
            step["serve"] = random.choice(self.variant_names)
        elif kind < 5:
            step["ramp"] = self.ramp(profile)
        elif profile:
            step.update(self.profile_split(profile))
        else:
            step["split"] = self.split(random.choice([1, 10, 1000]))

    def mutate_experiment(self, experiment):
        random, layer = self.random, experiment["layer"]
        old = Decimal(str(experiment["share"]))
        new = min(old + self.free[layer], random.choice([old, old * 2, Decimal("5"), Decimal("25.5")])).quantize(Decimal("0.1"), rounding="ROUND_DOWN")
        if new > 0:
            experiment["share"] = number(new)
            self.free[layer] += old - new
        elif old != old.quantize(Decimal("0.1")):
            return
        if random.chance(50):
            experiment["split"] = self.split(1)

    def mutate_ramp(self, ramp):
        random = self.random
        stages = ramp["stages"]
        if random.chance(60):
            ramp["approved_stage"] = random.between(0, len(stages))
        if random.chance(30) and len(stages) > 1 and all("start" not in stage for stage in stages):
            # A stage between the first and the second: the others keep their widths.
            ramp.setdefault("to", next(name for name in self.variant_names if name != ramp.get("from", self.baseline)))
            stages.insert(1, {"share": 30, "hold": "12h"})
        elif random.chance(40):
            at = random.below(len(stages))
            if "share" in stages[at]:
                stages[at]["share"] = random.choice([2, 15, 60])


def definitions(source):
    """All definitions of routes."""
    yield from source["routes"].values()
    for tenant in source.get("tenants", {}).values():
        yield from tenant.get("routes", {}).values()
        for user in tenant.get("users", {}).values():
            yield from user["routes"].values()
    for user in source.get("users", {}).values():
        yield from user["routes"].values()


# ---------------------------------------------------------------------------------------------------------------------------------
# Contexts


def context(random, maker):
    result = {"route": random.choice(maker.route_names) if random.chance(98) else "nowhere"}

    def field(name, known, other, absent, empty=2):
        kind = random.below(100)
        if kind < absent:
            return
        result[name] = "" if kind < absent + empty else random.choice(known) if kind < absent + 50 else other()

    field("user", maker.users[:3] + maker.users, lambda: f"u{random.below(100_000)}", 8)
    field("symbol", maker.symbols, lambda: f"S{random.below(1_000)}", 12)
    field("tenant", maker.tenants, lambda: random.choice(TENANTS), 35)
    field("session", maker.sessions, lambda: f"s{random.below(1_000)}", 45)
    field("variant", ["stable", "canary", "b"], lambda: random.choice(["A", "x.1", "none"]), 55)
    attributes = {name: attribute(random, maker, name) for name in ATTRIBUTES if random.chance(45)}
    if attributes:
        result["attributes"] = attributes
    return result


def attribute(random, maker, name):
    if random.chance(8):
        return random.choice(["", "x", 5.0, 0.0, True, False, "true", "5"])
    if name in ("country", "länd"):
        return random.choice([*COUNTRIES, "D", "de", ""])
    if name == "note":
        return random.choice(NOTES) if random.chance(60) else "".join(random.choice(list("ab1é日_. \n-u")) for _ in range(random.below(7)))
    if name == "beta":
        return random.chance(50)
    if name == "age":
        return random.choice([0.0, -0.0, 5.0, 4.999, 2.5, -3.0, 18.0, 1e9, 0.1, 1e-300, 9007199254740992.0, 5e-324, float("nan"), float("inf"), float("-inf")])
    if name == "seen":
        near = random.choice(maker.borders or [T0]) + random.choice([-1, 0, 0, 1])
        kind = random.below(10)
        if kind < 3:
            return float(near) + random.choice([0, 0, 0.5, -0.5])
        return when_elsewhere(random, near) if kind < 7 else random.choice(FAR_MOMENTS) if kind < 8 else random.choice(NO_MOMENTS) if kind < 9 else random.choice([float("nan"), float("inf"), -1.0])
    return random.choice(VERSIONS) if random.chance(80) else random.choice(NO_VERSIONS)


EXTREME_TIMES = [-(2**63), 2**63 - 1, 0, -1, -62_135_596_800_000, 253_402_300_799_999]


def moment(random, maker):
    kind = random.below(100)
    if kind < 65 and maker.borders:
        return random.choice(maker.borders) + random.choice([-1, 0, 0, 1])
    return T0 - 12 * DAY + random.below(55 * DAY) if kind < 99 else random.choice(EXTREME_TIMES)


def unavailability(random, source):
    digests = sorted({model["digest"].removeprefix("sha256:") for model in source["models"].values()})
    return random.sample(digests, random.choice([1, 1, 1, 2, 2, 3, len(digests)]))


# ---------------------------------------------------------------------------------------------------------------------------------
# Coverage: what happened, counted where it happens


class Counting(Deciding):
    """Counts which conditions held, and which did not."""

    counts = Counter()

    def holds_key(self, condition, key):
        result = super().holds_key(condition, key)
        if key not in evaluator.TESTS and key != "serves":
            self.counts[f"condition {key}: {'holds' if result else 'does not hold'}"] += 1
        return result

    def in_segment(self, name):
        result = super().in_segment(name)
        self.counts[f"segment: {'inside' if result else 'outside'}"] += 1
        return result


def counted(name, test):
    def count(value, argument):
        result = test(value, argument)
        Counting.counts[f"test {name}: {'holds' if result else 'does not hold'}"] += 1
        return result

    return count


def count_decision(counts, policy, decision):
    if decision is None:
        counts["unknown_route"] += 1
        return
    counts[f"reason {decision['reason']}"] += 1
    counts[f"step {decision['step']}"] += 1
    for flag in ("unit_missing", "holdout", "washout", "unavailable"):
        counts[f"flag {flag}"] += decision[flag]
    counts["fallback serves"] += decision["intended"] is not None
    counts["permitted request"] += decision["step"] == evaluator.OVERRIDE and decision["rule"] is not None
    counts[f"shadows: {min(len(decision['shadows']), 2)}{' or more' if len(decision['shadows']) > 1 else ''}"] += 1
    counts[f"scope: {'tenant' if decision['tenant'] is not None else ''}{' user' if decision['user'] is not None else ''}".rstrip()] += 1
    if decision["stage"] is not None:
        counts[f"ramp stage {decision['stage'] if decision['stage'] < 4 else '4 or later'}"] += 1
    if decision["window"] is not None:
        counts["switchback window"] += 1
    if decision["bucket"] is not None:
        counts[f"bucket by {policy.profile_of(decision['layer']) or 'lockgate'}"] += 1
        if policy.based:
            counts["bucket in intervals with a base"] += 1
        if decision["layer"] in policy.layers and decision["step"] == evaluator.RULE:
            counts["bucket in a named layer, by a rule"] += 1


# ---------------------------------------------------------------------------------------------------------------------------------
# Files


class Interned:
    """A list of values without repetition."""

    def __init__(self):
        self.values, self.places = [], {}

    def add(self, value):
        key = json.dumps(value, ensure_ascii=False)
        if key not in self.places:
            self.places[key] = len(self.values)
            self.values.append(value)
        return self.places[key]


FIELDS = ("route", "user", "symbol", "tenant", "session", "variant")


def group(random, maker, text, base, lists):
    """One policy and its vectors, as they are written, and the policy."""
    source = read_policy(text)
    policy = Policy(source, base, lists)
    policy.based = base is not None
    strings, attributes, unavailable, outcomes = (Interned() for _ in range(4))
    unavailable.add([])
    contexts = [context(random, maker) for _ in range(50)]
    rows = []
    for one in contexts:
        row = [strings.add(one[field]) if field in one else -1 for field in FIELDS]
        rows.append([*row, attributes.add(encode(one["attributes"])) if "attributes" in one else -1])
    batches = {"time": [], "unavailable": []}
    vectors = {name: [] for name in ("context", "outcome", "bucket", "window")}
    while len(batches["time"]) < BATCHES_PER_POLICY:
        now = moment(random, maker)
        missing = unavailability(random, source) if random.chance(25) else []
        chosen = [random.below(len(contexts)) for _ in range(BATCH)]
        digests = {f"sha256:{digest}" for digest in missing}
        decisions = [policy.decide(contexts[at], now, digests) for at in chosen]
        if any(decision and (decision["window"] or 0) >= 2**31 for decision in decisions):
            continue  # windows beyond what the wire format can carry
        batches["time"].append(now if abs(now) < 2**53 else str(now))
        batches["unavailable"].append(unavailable.add(missing))
        for at, decision in zip(chosen, decisions):
            count_decision(Counting.counts, policy, decision)
            Counting.counts["vectors"] += 1
            row = [at, outcomes.add(None), -1, -1]
            if decision is not None:
                outcome = {key: value for key, value in decision.items() if value is not None and value is not False and value != []}
                numbers = [outcome.pop(name, -1) for name in ("bucket", "window")]
                row = [at, outcomes.add(outcome), *numbers]
            for name, value in zip(vectors, row):
                vectors[name].append(value)
    written = {
        "based": base is not None, "policy": text, "lists": lists, "strings": strings.values, "attributes": attributes.values, "contexts": rows,
        "unavailable": unavailable.values, "outcomes": outcomes.values, "batches": batches, "vectors": vectors,
    }
    return written, policy


def encode(attributes):
    """JSON has no NaN and no infinities."""
    special = lambda value: isinstance(value, float) and (value != value or value in (float("inf"), float("-inf")))
    return {name: {"number": str(value)} if special(value) else value for name, value in attributes.items()}


def make_file(number_):
    """The content of one file."""
    random = Random(SEED << 32 | number_)
    lines, policies, base = [], 0, None
    while policies < POLICIES_PER_FILE:
        maker = Maker(random)
        source, base = maker.policy(), None
        for _ in range(random.choice([1, 1, 2, 3])):
            text = json.dumps(source, ensure_ascii=False, separators=(",", ":"))
            written, base = group(random, maker, text, base, maker.lists)
            lines.append(json.dumps(written, ensure_ascii=False, separators=(",", ":")))
            source, policies = maker.mutated(source), policies + 1
    return "".join(line + "\n" for line in lines).encode()


def path(number_):
    return FOLDER / f"{number_:02}.jsonl.gz"


def compressed(data):
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0, filename="") as file:
        file.write(data)
    return buffer.getvalue()


def coverage():
    return "".join(f"{count:8}  {name}\n" for name, count in sorted(Counting.counts.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    evaluator.Deciding = Counting
    evaluator.TESTS.update({name: counted(name, test) for name, test in evaluator.TESTS.items()})
    FOLDER.mkdir(exist_ok=True)
    stale = []
    for number_ in range(FILES):
        made = make_file(number_)
        # What matters is the content: other versions of zlib compress it to other bytes.
        if arguments.check and (not path(number_).exists() or gzip.decompress(path(number_).read_bytes()) != made):
            stale.append(path(number_).name)
        if not arguments.check:
            path(number_).write_bytes(compressed(made))
    if arguments.check and (FOLDER / "coverage.txt").read_text() != coverage():
        stale.append("coverage.txt")
    if not arguments.check:
        (FOLDER / "coverage.txt").write_text(coverage())
        print(coverage(), end="")
    if rare := [name for name, count in Counting.counts.items() if count < 20]:
        print(f"hardly covered: {', '.join(sorted(rare))}")
    if stale:
        print(f"not what generate.py makes: {', '.join(stale)}. Run it and commit the result.")
    return 1 if stale or rare else 0


if __name__ == "__main__":
    sys.exit(main())
