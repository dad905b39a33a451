use super::{Form, Json, Key, Kind, Mapping, Presence, Shared};
use Presence::{Default, Optional, Required};

const fn key(name: &'static str, kind: Kind, presence: Presence, doc: &'static str) -> Key {
    Key { name, kind, presence, doc }
}

const fn list(of: &'static Kind) -> Kind {
    Kind::List { of, min: 0, max: None }
}

const fn filled_list(of: &'static Kind) -> Kind {
    Kind::List { of, min: 1, max: None }
}

/// A mapping without rules about which keys go together.
const PLAIN: Mapping =
    Mapping { name: "", title: "", doc: "", keys: &[], one_of: &[], some_of: &[], needs: &[] };

// How values are written.

pub(crate) static FORMS: &[&Form] = &[
    &TEXT,
    &FILLED,
    &NAME,
    &LABEL,
    &MODEL_VERSION,
    &DIGEST,
    &MOMENT,
    &TIME_OF_DAY,
    &OFFSET,
    &DURATION,
    &SIZE,
    &PERCENT,
    &WEIGHT,
    &NUMBER,
    &SCALAR,
    &PATTERN,
    &COMPARATORS,
    &ANY,
];

static TEXT: Form = Form {
    name: "text",
    title: "any text",
    doc: "Any text. Text that looks like a number or a boolean needs quotes.",
    json: Json::Text(""),
    example: "\"Where EUR/USD stands four bars from now\"",
};
static FILLED: Form = Form {
    name: "value",
    title: "text",
    doc: "Text of at least one character. Text that looks like a number or a boolean needs quotes: `\"1001\"`.",
    json: Json::Text(".|\\n"),
    example: "\"alice\"",
};
static NAME: Form = Form {
    name: "name",
    title: "a name",
    doc: "1 to 128 letters, digits, `.`, `_` and `-`, beginning with a letter or digit: such names appear in URLs, headers and metrics.",
    json: Json::Text("^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"),
    example: "\"eurusd-direction\"",
};
static LABEL: Form = Form {
    name: "label",
    title: "a name for people",
    doc: "1 to 128 bytes of printable text. Decisions carry it as what matched.",
    json: Json::Text("^[^\\u0000-\\u001f\\u007f-\\u009f]{1,128}$"),
    example: "\"insiders\"",
};
static MODEL_VERSION: Form = Form {
    name: "model-version",
    title: "a model version",
    doc: "`<model>@<semantic version>`.",
    json: Json::Text(
        "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}@(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\\+[0-9A-Za-z.-]+)?$",
    ),
    example: "\"eurusd_lr@1.0.0\"",
};
static DIGEST: Form = Form {
    name: "digest",
    title: "a digest",
    doc: "64 hexadecimal digits, optionally after `sha256:`.",
    json: Json::Text("^(sha256:)?[0-9a-fA-F]{64}$"),
    example: "\"sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef\"",
};
static MOMENT: Form = Form {
    name: "moment",
    title: "a moment",
    doc: "RFC 3339, always with an offset: `2026-12-24T09:00:00Z`, `2026-12-24T10:00:00+01:00`, to the millisecond; further digits are cut off.",
    json: Json::Text(
        "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$",
    ),
    example: "\"2026-12-24T09:00:00Z\"",
};
static TIME_OF_DAY: Form = Form {
    name: "time-of-day",
    title: "a time of day",
    doc: "`09:30`, `16:00:00` or `16:00:00.250`, in quotes. `24:00` is the end of the day.",
    json: Json::Text("^[0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,3})?)?$"),
    example: "\"09:30\"",
};
static OFFSET: Form = Form {
    name: "offset",
    title: "an offset from UTC",
    doc: "`+01:00`, `-05:00` or `Z`.",
    json: Json::Text("^([Zz]|[+-][0-9]{2}:[0-9]{2})$"),
    example: "\"-05:00\"",
};
static DURATION: Form = Form {
    name: "duration",
    title: "a duration",
    doc: "Whole numbers with a unit, `500ms`, `90s`, `15m`, `4h`, `7d`, `2w`, or several from the longest unit to the shortest: `1h30m`.",
    json: Json::Text("^(?=[0-9])([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$"),
    example: "\"1h30m\"",
};
static SIZE: Form = Form {
    name: "size",
    title: "a size",
    doc: "A number of bytes, or a whole number of `KiB` or `MiB`: `65536`, `64KiB`, `1MiB`.",
    json: Json::WholeOrText("^[0-9]+(B|KiB|MiB)$"),
    example: "\"64KiB\"",
};
static PERCENT: Form = Form {
    name: "percent",
    title: "a percentage",
    doc: "A plain decimal number from 0 to 100 with at most three decimals. It is read digit by digit; nothing is rounded.",
    json: Json::Number(Some((0, 100))),
    example: "12.5",
};
static WEIGHT: Form = Form {
    name: "weight",
    title: "a weight",
    doc: "A whole number from 0 to 2147483647.",
    json: Json::Whole(0),
    example: "25",
};
static NUMBER: Form = Form {
    name: "number",
    title: "a number",
    doc: "A finite number. It is read as a double.",
    json: Json::Number(None),
    example: "0.25",
};
static SCALAR: Form = Form {
    name: "scalar",
    title: "text, a number or a boolean",
    doc: "Text, a finite number, `true` or `false`. Types never mix: the text `\"5\"` is not the number 5.",
    json: Json::Scalar,
    example: "\"premium\"",
};
static PATTERN: Form = Form {
    name: "pattern",
    title: "a regular expression",
    doc: "Literals, `.`, classes, groups, `|`, `*`, `+`, `?`, `{m,n}`, `^` and `$`, as `docs/policy-semantics.md` has them. A match may lie anywhere in the text. An expression whose automaton would be larger than 64 KiB is refused.",
    json: Json::Text(".|\\n"),
    example: "\"^EUR[A-Z]{3}$\"",
};
static COMPARATORS: Form = Form {
    name: "comparators",
    title: "version comparators",
    doc: "`=`, `!=`, `<`, `<=`, `>`, `>=`, `^` or `~`, each directly before a complete semantic version; several, separated by blanks or commas, must all hold.",
    json: Json::Text("^[ ,]*([<>^~=]|[<>!]=)[^ ,]+([ ,]+([<>^~=]|[<>!]=)[^ ,]+)*[ ,]*$"),
    example: "\">=2.1.0 <3.0.0-0\"",
};
static ANY: Form = Form {
    name: "json",
    title: "any value",
    doc: "Any value that JSON can express.",
    json: Json::Any,
    example: "{ \"threshold\": 0.5 }",
};

// What refers to names.

static VARIANT_NAME: Kind = Kind::NameOf("variant");
static SEGMENT_NAME: Kind = Kind::NameOf("segment");
static ROUTE_NAME: Kind = Kind::NameOf("route");
static VALUE: Kind = Kind::Form(&FILLED);

// Units.

const FIELDS: &[(&str, &str)] = &[
    ("user", "who asks"),
    ("symbol", "what is asked about"),
    ("tenant", "on whose behalf"),
    ("session", "in which session"),
];
static UNIT_PART: Kind = Kind::Either(&[Kind::Words(FIELDS), Kind::Mapping(&UNIT_ATTRIBUTE)]);
const UNIT: Kind = Kind::Shared(&UNIT_SHARED);
static UNIT_SHARED: Shared = Shared {
    name: "unit",
    title: "a unit",
    section: "unit-attribute",
    kind: Kind::Either(&[
        Kind::Words(FIELDS),
        Kind::Mapping(&UNIT_ATTRIBUTE),
        Kind::List { of: &UNIT_PART, min: 1, max: Some(8) },
    ]),
};

pub(crate) static UNIT_ATTRIBUTE: Mapping = Mapping {
    name: "unit-attribute",
    title: "Units",
    doc: "What a split sticks to: `user`, `symbol`, `tenant`, `session`, an attribute, or a list of up to eight of these, each once. `[tenant, user]` keeps each user of each tenant where they are. When a part is missing from the context, the baseline serves. An attribute counts when it is a text.",
    keys: &[&[key("attribute", Kind::Form(&FILLED), Required, "The attribute's name.")]],
    ..PLAIN
};

// Who belongs to something.

const UNITS: Kind = Kind::Shared(&UNITS_SHARED);
static UNITS_SHARED: Shared = Shared {
    name: "units",
    title: "a list of text, or a file",
    section: "unit-file",
    kind: Kind::Either(&[list(&VALUE), Kind::Mapping(&UNIT_FILE)]),
};

pub(crate) static UNIT_FILE: Mapping = Mapping {
    name: "unit-file",
    title: "Lists from files",
    doc: "Up to millions of units from a file beside the policy, one a line. They become objects of their own beside the bundle, so that an edit of the policy does not move them.",
    keys: &[&[key("file", Kind::Form(&FILLED), Required, "The file, relative to the policy's.")]],
    ..PLAIN
};

const WHO: &[Key] = &[
    key("users", UNITS, Optional, "Whoever is one of these users; a list, or `{ file: … }`."),
    SYMBOLS,
    key("tenants", UNITS, Optional, "Whoever asks on behalf of one of these tenants."),
    key("sessions", UNITS, Optional, "Whoever asks in one of these sessions."),
    SEGMENTS,
];
const SYMBOLS: Key = key("symbols", UNITS, Optional, "Whatever is asked about one of these symbols.");
const SEGMENTS: Key =
    key("segments", list(&SEGMENT_NAME), Optional, "And whoever belongs to one of these segments.");
const WHO_KEYS: &[&str] = &["users", "symbols", "tenants", "sessions", "segments"];

// The document.

pub(crate) static DOCUMENT: Mapping = Mapping {
    name: "policy",
    title: "Top level",
    doc: "A policy.",
    keys: &[&[
        key("lockgate", Kind::Whole { min: 1, max: 1 }, Required, "The version of this language."),
        key(
            "version",
            Kind::Whole { min: 1, max: u64::MAX },
            Default("one more than the parent's, or 1"),
            "The version of the bundle. A later bundle needs a higher one.",
        ),
        key(
            "freezes",
            list(&Kind::Mapping(&FREEZE)),
            Optional,
            "Times in which every ramp's clock stands still.",
        ),
        key(
            "models",
            Kind::Named {
                what: "the model version",
                name: &MODEL_VERSION,
                value: &Kind::MappingOrNothing(&MODEL),
            },
            Optional,
            "What is known about model versions. Where this section exists, it lists every one that a route uses, so that a misspelt one is noticed without the packages.",
        ),
        key(
            "tiers",
            list(&Kind::Mapping(&TIER)),
            Optional,
            "Levels of service, lowest first; the first is everyone's.",
        ),
        key(
            "segments",
            Kind::Named { what: "the segment's name", name: &NAME, value: &Kind::Mapping(&SEGMENT) },
            Optional,
            "Named groups that several routes can use.",
        ),
        key(
            "layers",
            Kind::Named { what: "the layer's name", name: &NAME, value: &Kind::MappingOrNothing(&LAYER) },
            Optional,
            "Hash spaces that several splits share, and in which experiments never overlap.",
        ),
        key(
            "holdouts",
            Kind::Named { what: "the holdout's name", name: &NAME, value: &Kind::Mapping(&HOLDOUT) },
            Optional,
            "Slices of units that get the baseline of some routes.",
        ),
        key(
            "tenants",
            Kind::Named { what: "the tenant", name: &FILLED, value: &Kind::Mapping(&TENANT) },
            Optional,
            "Routes as tenants, and users of tenants, have them.",
        ),
        key(
            "users",
            Kind::Named { what: "the user", name: &FILLED, value: &Kind::Mapping(&USER) },
            Optional,
            "Routes as users have them, whatever their tenant.",
        ),
        key(
            "routes",
            Kind::Named { what: "the route's name", name: &NAME, value: &Kind::Mapping(&ROUTE) },
            Required,
            "The platform's routes.",
        ),
    ]],
    ..PLAIN
};

pub(crate) static FREEZE: Mapping = Mapping {
    name: "freeze",
    title: "Freezes",
    doc: "A time in which every ramp's clock stands still.",
    keys: &[&[
        key("from", Kind::Form(&MOMENT), Required, "When it begins."),
        key("until", Kind::Form(&MOMENT), Default("until a later policy ends it"), "When it is over."),
        key("reason", Kind::Form(&TEXT), Optional, "Why, for people."),
    ]],
    ..PLAIN
};

pub(crate) static MODEL: Mapping = Mapping {
    name: "model",
    title: "Models",
    doc: "What is known about a model version. An entry may be empty.",
    keys: &[&[
        key(
            "digest",
            Kind::Form(&DIGEST),
            Default("the package at hand is pinned when the policy is compiled"),
            "Pins the package.",
        ),
        key(
            "placement",
            Kind::Words(&[
                ("edge", "in the core"),
                ("host", "on a server node"),
                ("gpu", "on a remote node"),
            ]),
            Default("`edge`"),
            "Where the version runs.",
        ),
    ]],
    ..PLAIN
};

pub(crate) static TIER: Mapping = Mapping {
    name: "tier",
    title: "Tiers",
    doc: "A level of service, and who has it. Who has several has the highest; who has none has the first.",
    keys: &[&[key("name", Kind::Form(&NAME), Required, "The tier's name.")], WHO],
    ..PLAIN
};

pub(crate) static SEGMENT: Mapping = Mapping {
    name: "segment",
    title: "Segments",
    doc: "A named group. Whoever is in one of its lists or segments or fulfils its condition belongs to it, unless `exclude` contains them. Segments may be nested up to 32 levels; a cycle is an error.",
    keys: &[
        WHO,
        &[
            key(
                "if",
                Kind::Mapping(&CONDITION),
                Optional,
                "And whoever fulfils this condition, which may not use `route`.",
            ),
            key(
                "exclude",
                Kind::Mapping(&EXCLUDE),
                Optional,
                "Who does not belong to it, whatever else says so.",
            ),
        ],
    ],
    ..PLAIN
};

pub(crate) static EXCLUDE: Mapping = Mapping {
    name: "exclude",
    title: "Exclusions",
    doc: "Who does not belong to a segment.",
    keys: &[WHO],
    some_of: &[WHO_KEYS],
    ..PLAIN
};

pub(crate) static LAYER: Mapping = Mapping {
    name: "layer",
    title: "Layers",
    doc: "A hash space. Splits in one layer give a unit the same bucket; experiments in one layer own disjoint parts of it. An entry may be empty.",
    keys: &[&[
        key(
            "hash",
            Kind::Words(&[
                ("lockgate", "ours, 100 000 buckets"),
                ("flagd", "flagd's `fractional` in JavaScript; the scale is the sum of the weights"),
                ("flagd-legacy", "flagd's `fractional` as it was, in JavaScript; the same scale"),
                ("unleash", "Unleash's gradual rollout in JavaScript, 100 buckets"),
                ("unleash-variants", "Unleash's variants in JavaScript; the scale is the sum of the weights"),
                ("growthbook", "GrowthBook's hash version 2, 10 000 buckets"),
                ("growthbook-v1", "GrowthBook's hash version 1, 1 000 buckets"),
                ("launchdarkly", "LaunchDarkly's rollouts, 100 000 buckets"),
                ("statsig", "Statsig's gates, 10 000 buckets"),
                ("statsig-experiment", "Statsig's experiments, 1 000 buckets"),
                ("flagd-utf8", "flagd's `fractional` in all other languages"),
                ("flagd-legacy-utf8", "flagd's `fractional` as it was, in all other languages"),
                ("unleash-utf8", "Unleash's gradual rollout in all other languages"),
                ("unleash-variants-utf8", "Unleash's variants in all other languages"),
                ("flagd-cbor", "flagd's `fractional` that hashes CBOR"),
            ]),
            Default("`lockgate`"),
            "The hash. All but the first are other systems', so that a unit that comes from there keeps its variant ([profiles](profiles.md)); they allow no experiments and no holdout.",
        ),
        key(
            "salt",
            Kind::Form(&TEXT),
            Default("the layer's name"),
            "What goes into the hash. Empty only with the hash of another system.",
        ),
        key("unit", UNIT, Default("`user`"), "What the layer's experiments and its holdout stick to."),
        key(
            "holdout",
            Kind::Form(&PERCENT),
            Default("`0`"),
            "The share of the layer that belongs to no experiment and gets the baseline of every route with an experiment in this layer.",
        ),
    ]],
    ..PLAIN
};

pub(crate) static HOLDOUT: Mapping = Mapping {
    name: "holdout",
    title: "Holdouts",
    doc: "A slice of units that gets the baseline, whatever groups, rollouts, rules and defaults say.",
    keys: &[&[
        key("share", Kind::Form(&PERCENT), Required, "How much is held out."),
        key("unit", UNIT, Default("`user`"), "What it sticks to."),
        key("salt", Kind::Form(&FILLED), Default("the holdout's name"), "What goes into the hash."),
        key(
            "routes",
            filled_list(&ROUTE_NAME),
            Default("all routes"),
            "The names of the routes, in every scope.",
        ),
    ]],
    ..PLAIN
};

pub(crate) static TENANT: Mapping = Mapping {
    name: "tenant",
    title: "Tenants",
    doc: "Routes as one tenant has them. The most specific definition that the caller may see is the route.",
    keys: &[&[
        ROUTES,
        key(
            "users",
            Kind::Named { what: "the user", name: &FILLED, value: &Kind::Mapping(&USER) },
            Optional,
            "Routes as users of the tenant have them.",
        ),
    ]],
    some_of: &[&["routes", "users"]],
    ..PLAIN
};

pub(crate) static USER: Mapping = Mapping {
    name: "user",
    title: "Users",
    doc: "Routes as one user has them.",
    keys: &[&[ROUTES]],
    some_of: &[&["routes"]],
    ..PLAIN
};

const ROUTES: Key = key(
    "routes",
    Kind::Named { what: "the route's name", name: &NAME, value: &ROUTE_KIND },
    Optional,
    "The routes.",
);

// Routes.

static ROUTE_KIND: Kind = Kind::Mapping(&ROUTE);

pub(crate) static ROUTE: Mapping = Mapping {
    name: "route",
    title: "Routes",
    doc: "What a caller asks for by name.",
    keys: &[&[
        key("description", Kind::Form(&TEXT), Optional, "What it is for, for people."),
        key(
            "signature",
            Kind::Mapping(&SIGNATURE),
            Default("that of the packages, which must agree"),
            "What goes in and what comes out.",
        ),
        key(
            "enabled",
            Kind::Boolean,
            Default("`true`"),
            "The kill switch: a disabled route serves its baseline to everyone.",
        ),
        key(
            "access",
            Kind::Mapping(&CONDITION),
            Default("everyone"),
            "Who may see this definition. For everyone else it does not exist.",
        ),
        key("unit", UNIT, Default("`user`"), "What the route's splits stick to."),
        key("layer", Kind::NameOf("layer"), Default("the route's own"), "The layer of the route's splits."),
        key(
            "salt",
            Kind::Form(&FILLED),
            Default("the layer's name"),
            "The salt of the route's own layer. Not beside `layer`.",
        ),
        key(
            "variants",
            Kind::Named { what: "the variant's name", name: &NAME, value: &Kind::Mapping(&VARIANT) },
            Required,
            "The choices, 256 at most.",
        ),
        key(
            "baseline",
            VARIANT_NAME_KIND,
            Default("the default's variant; required when the default is a split or a ramp"),
            "The variant that serves when the route is disabled, when a unit is held out, and when a split's unit is missing.",
        ),
        key(
            "fallbacks",
            list(&VARIANT_NAME),
            Default("the baseline"),
            "What serves instead of an unavailable variant, in order.",
        ),
        key("overrides", list(&Kind::Mapping(&OVERRIDE)), Optional, "Units that get a variant by name."),
        key("requests", list(&Kind::Mapping(&REQUEST)), Optional, "Who may ask for which variant by name."),
        key("test_groups", list(&Kind::Mapping(&TEST_GROUP)), Optional, "Groups, in order."),
        key("symbol_rollouts", list(&Kind::Mapping(&SYMBOL_ROLLOUT)), Optional, "Symbols, in order."),
        key("rules", list(&Kind::Mapping(&RULE)), Optional, "Conditions, in order."),
        key("default", Kind::Mapping(&DEFAULT), Required, "What serves when nothing before matched."),
        key(
            "shadows",
            Kind::List { of: &Kind::Mapping(&SHADOW), min: 0, max: Some(32) },
            Optional,
            "What gets a copy of requests without serving, 32 at most.",
        ),
        key(
            "records",
            Kind::Form(&PERCENT),
            Default("the edge's setting `record_sample`"),
            "The share of requests that an edge records and reports. Chosen by the decision's id.",
        ),
    ]],
    ..PLAIN
};
const VARIANT_NAME_KIND: Kind = Kind::NameOf("variant");

pub(crate) static SIGNATURE: Mapping = Mapping {
    name: "signature",
    title: "Signatures",
    doc: "What goes into a route's models and what comes out. Every package at hand must fit: the same names and datatypes, inputs that admit every shape that the route admits, outputs whose every shape the route admits.",
    keys: &[&[
        key("inputs", list(&Kind::Mapping(&TENSOR)), Required, "The inputs; none for models that take none."),
        key("outputs", filled_list(&Kind::Mapping(&TENSOR)), Required, "The outputs."),
    ]],
    ..PLAIN
};

pub(crate) static TENSOR: Mapping = Mapping {
    name: "tensor",
    title: "Tensors",
    doc: "An input or output.",
    keys: &[&[
        key("name", Kind::Form(&FILLED), Required, "Its name, unique among the inputs or outputs."),
        key(
            "datatype",
            Kind::Words(&[
                ("BOOL", ""),
                ("UINT8", ""),
                ("UINT16", ""),
                ("UINT32", ""),
                ("UINT64", ""),
                ("INT8", ""),
                ("INT16", ""),
                ("INT32", ""),
                ("INT64", ""),
                ("FP16", ""),
                ("FP32", ""),
                ("FP64", ""),
                ("BYTES", ""),
            ]),
            Required,
            "A datatype of the Open Inference Protocol.",
        ),
        key("shape", list(&Kind::Form(&DIMENSION)), Required, "Its dimensions; -1 is a free one."),
    ]],
    ..PLAIN
};
static DIMENSION: Form = Form {
    name: "dimension",
    title: "a dimension",
    doc: "A whole number from 1 on, or -1 for a free dimension.",
    json: Json::Whole(-1),
    example: "-1",
};

pub(crate) static VARIANT: Mapping = Mapping {
    name: "variant",
    title: "Variants",
    doc: "A choice of a route.",
    keys: &[&[
        key("model", Kind::Form(&MODEL_VERSION), Required, "The model version that it runs."),
        key("payload", Kind::Form(&ANY), Optional, "What the caller receives with the decision, as JSON."),
        key(
            "enabled",
            Kind::Boolean,
            Default("`true`"),
            "A disabled variant is as good as unavailable: its fallbacks serve.",
        ),
        key(
            "fallbacks",
            list(&VARIANT_NAME),
            Default("the route's"),
            "What serves instead when it is unavailable, in order.",
        ),
    ]],
    ..PLAIN
};

pub(crate) static OVERRIDE: Mapping = Mapping {
    name: "override",
    title: "Overrides",
    doc: "Gives units a variant by name, before anything else is asked. When several name the context, the first wins. No value may occur twice.",
    keys: &[&[
        key("user", Kind::Form(&FILLED), Optional, "This user …"),
        key("symbol", Kind::Form(&FILLED), Optional, "… or this symbol …"),
        key("tenant", Kind::Form(&FILLED), Optional, "… or this tenant …"),
        key("session", Kind::Form(&FILLED), Optional, "… or this session …"),
        key("users", filled_list(&VALUE), Optional, "… or these users …"),
        key("symbols", filled_list(&VALUE), Optional, "… or these symbols …"),
        key("tenants", filled_list(&VALUE), Optional, "… or these tenants …"),
        key("sessions", filled_list(&VALUE), Optional, "… or these sessions"),
        key("serve", VARIANT_NAME_KIND, Required, "get this variant."),
    ]],
    one_of: &[&["user", "symbol", "tenant", "session", "users", "symbols", "tenants", "sessions"]],
    ..PLAIN
};

const STEP_NAME: Key = key(
    "name",
    Kind::Form(&LABEL),
    Required,
    "Its name, unique in the route among requests, groups, rollouts and rules; decisions carry it.",
);

pub(crate) static REQUEST: Mapping = Mapping {
    name: "request",
    title: "Permitted requests",
    doc: "Lets the members of a group have the variant that they ask for.",
    keys: &[
        &[STEP_NAME],
        WHO,
        &[key("variants", filled_list(&VARIANT_NAME), Required, "The variants that they may ask for.")],
    ],
    some_of: &[WHO_KEYS],
    ..PLAIN
};

const WINDOW: &[Key] = &[
    key("from", Kind::Form(&MOMENT), Default("always"), "It does not match before this moment."),
    key("until", Kind::Form(&MOMENT), Default("always"), "It does not match from this moment on."),
];
const SPLIT_OF: &[Key] = &[
    key(
        "unit",
        UNIT,
        Default("the route's; `symbol` for a switchback"),
        "What a split, ramp or switchback sticks to.",
    ),
    key("layer", Kind::NameOf("layer"), Default("the route's"), "The layer of a split or ramp."),
];
const SERVE: Key = key("serve", VARIANT_NAME_KIND, Optional, "One variant, by name.");
const SPLIT: Key = key("split", SHARES, Optional, "The share of each variant in percent, 100 together.");
const WEIGHTS: Key = key(
    "weights",
    Kind::Named { what: "the variant", name: &NAME, value: &WEIGHT_KIND },
    Optional,
    "The weight of each variant. Only in layers with the hash of another system.",
);
const RAMP_KEY: Key = key("ramp", Kind::Mapping(&RAMP), Optional, "A schedule of splits.");
const EXPERIMENT_KEY: Key =
    key("experiment", Kind::Mapping(&EXPERIMENT), Optional, "Variants in a slice of a layer.");
const SWITCHBACK_KEY: Key = key(
    "switchback",
    Kind::Mapping(&SWITCHBACK),
    Optional,
    "Whole windows of time for one variant after the other.",
);
const SHARES: Kind = Kind::Named { what: "the variant", name: &NAME, value: &PERCENT_KIND };
static PERCENT_KIND: Kind = Kind::Form(&PERCENT);
static WEIGHT_KIND: Kind = Kind::Form(&WEIGHT);

pub(crate) static TEST_GROUP: Mapping = Mapping {
    name: "test-group",
    title: "Test groups",
    doc: "Gives the members of a group a variant, or several by split, ramp or switchback.",
    keys: &[&[STEP_NAME], WINDOW, WHO, &[SERVE, SPLIT, WEIGHTS, RAMP_KEY, SWITCHBACK_KEY], SPLIT_OF],
    one_of: &[&["serve", "split", "weights", "ramp", "switchback"]],
    some_of: &[WHO_KEYS],
    ..PLAIN
};

pub(crate) static SYMBOL_ROLLOUT: Mapping = Mapping {
    name: "symbol-rollout",
    title: "Symbol rollouts",
    doc: "Gives symbols a variant, or several by split, ramp or switchback.",
    keys: &[
        &[STEP_NAME],
        WINDOW,
        &[SYMBOLS, SEGMENTS],
        &[SERVE, SPLIT, WEIGHTS, RAMP_KEY, SWITCHBACK_KEY],
        SPLIT_OF,
    ],
    one_of: &[&["serve", "split", "weights", "ramp", "switchback"]],
    some_of: &[&["symbols", "segments"]],
    ..PLAIN
};

pub(crate) static RULE: Mapping = Mapping {
    name: "rule",
    title: "Rules",
    doc: "Gives whoever fulfils a condition a variant, or several by split, ramp, experiment or switchback. An experiment and a switchback need no condition.",
    keys: &[
        &[STEP_NAME],
        WINDOW,
        &[key("if", Kind::Mapping(&CONDITION), Optional, "The condition.")],
        &[SERVE, SPLIT, WEIGHTS, RAMP_KEY, EXPERIMENT_KEY, SWITCHBACK_KEY],
        SPLIT_OF,
    ],
    one_of: &[&["serve", "split", "weights", "ramp", "experiment", "switchback"]],
    ..PLAIN
};

pub(crate) static DEFAULT: Mapping = Mapping {
    name: "default",
    title: "The default",
    doc: "What serves when nothing before matched.",
    keys: &[&[SERVE, SPLIT, WEIGHTS, RAMP_KEY], SPLIT_OF],
    one_of: &[&["serve", "split", "weights", "ramp"]],
    ..PLAIN
};

pub(crate) static RAMP: Mapping = Mapping {
    name: "ramp",
    title: "Ramps",
    doc: "A schedule of splits. A stage is entered when its time has come and `approved_stage` allows it; before the first, `from` serves everyone. Units stay where they are when `to` grows.",
    keys: &[&[
        key(
            "to",
            VARIANT_NAME_KIND,
            Default("none; required when a stage has a `share`"),
            "The variant whose share grows.",
        ),
        key("from", VARIANT_NAME_KIND, Default("the route's baseline"), "The variant that has the rest."),
        key("start", Kind::Form(&MOMENT), Required, "When the first stage may begin."),
        key(
            "approved_stage",
            Kind::Whole { min: 0, max: 1_000_000 },
            Default("`0`"),
            "The highest stage that may be entered, counted from 1.",
        ),
        key(
            "automatic",
            Kind::Boolean,
            Default("`false`"),
            "Whether the clock alone suffices. `lockgate policy check` warns about it.",
        ),
        key(
            "pauses",
            list(&Kind::Mapping(&PAUSE)),
            Optional,
            "Times in which this ramp's clock stands still.",
        ),
        key("stages", filled_list(&Kind::Mapping(&STAGE)), Required, "The stages, first one first."),
    ]],
    ..PLAIN
};

pub(crate) static PAUSE: Mapping = Mapping {
    name: "pause",
    title: "Pauses",
    doc: "A time in which a ramp's clock stands still.",
    keys: &[&[
        key("from", Kind::Form(&MOMENT), Required, "When it begins."),
        key("until", Kind::Form(&MOMENT), Default("until a later policy ends it"), "When it is over."),
        key("reason", Kind::Form(&TEXT), Optional, "Why, for people."),
    ]],
    ..PLAIN
};

pub(crate) static STAGE: Mapping = Mapping {
    name: "stage",
    title: "Stages",
    doc: "A stage of a ramp.",
    keys: &[&[
        key("share", Kind::Form(&PERCENT), Optional, "The share of `to`; `from` has the rest."),
        key("split", SHARES, Optional, "Or the share of every variant, 100 together."),
        key(
            "hold",
            Kind::Form(&DURATION),
            Default("none; required unless the stage is the last or the next has a `start`"),
            "How long the ramp's clock stays in this stage at least. Not on the last stage.",
        ),
        key(
            "start",
            Kind::Form(&MOMENT),
            Default("when the stage before has been held"),
            "When this stage may begin, on the ramp's clock: pauses and freezes put it off. Not on the first stage, and not before the stage before has been held.",
        ),
    ]],
    one_of: &[&["share", "split"]],
    ..PLAIN
};

pub(crate) static EXPERIMENT: Mapping = Mapping {
    name: "experiment",
    title: "Experiments",
    doc: "Variants in a slice of a layer that no other experiment of the layer touches. Units outside the slice go on to the next rule. The unit is the layer's.",
    keys: &[&[
        key("layer", Kind::NameOf("layer"), Required, "The layer."),
        key("share", Kind::Form(&PERCENT), Required, "How much of the layer is the experiment's, above 0."),
        key("split", SHARES, Required, "The share of each variant in the experiment, 100 together."),
    ]],
    ..PLAIN
};

pub(crate) static SWITCHBACK: Mapping = Mapping {
    name: "switchback",
    title: "Switchbacks",
    doc: "Gives all of a unit's requests of one window of time to one variant. In each block of as many windows as there are variants every variant serves one, in an order drawn per unit and block.",
    keys: &[&[
        key(
            "variants",
            Kind::List { of: &VARIANT_NAME, min: 2, max: Some(16) },
            Required,
            "The variants, 2 to 16.",
        ),
        key("start", Kind::Form(&MOMENT), Required, "When the first window begins."),
        key("end", Kind::Form(&MOMENT), Default("never"), "When it is over."),
        key("window", Kind::Form(&DURATION), Required, "The length of a window."),
        key(
            "washout",
            Kind::Form(&DURATION),
            Default("none"),
            "How much of the beginning of each window the baseline serves; less than the window.",
        ),
        key(
            "seed",
            Kind::Form(&FILLED),
            Default("the name of the route's own layer, a slash, and the name of the step"),
            "What the order is drawn with.",
        ),
    ]],
    ..PLAIN
};

pub(crate) static SHADOW: Mapping = Mapping {
    name: "shadow",
    title: "Shadows",
    doc: "Gives a copy of some requests to a variant that does not serve. Its answer is compared, never returned. It does not run when its variant, or one with the same package, serves.",
    keys: &[&[
        key("name", Kind::Form(&LABEL), Required, "Its name, unique among the route's shadows."),
        key("variant", VARIANT_NAME_KIND, Required, "The variant."),
        key("if", Kind::Mapping(&CONDITION), Default("all requests"), "Which requests."),
        key("from", Kind::Form(&MOMENT), Default("always"), "It does not run before this moment."),
        key("until", Kind::Form(&MOMENT), Default("always"), "It does not run from this moment on."),
        key("unit", UNIT, Default("the route's"), "What the sample sticks to."),
        key("sample", Kind::Form(&PERCENT), Default("`100`"), "How much of it."),
        key("limits", Kind::Mapping(&LIMITS), Optional, "How much may be spent on it."),
    ]],
    ..PLAIN
};

pub(crate) static LIMITS: Mapping = Mapping {
    name: "limits",
    title: "Limits of shadows",
    doc: "What may be spent on a shadow. A request beyond them is not copied.",
    keys: &[&[
        key("rate", Kind::Whole { min: 1, max: U32_MAX }, Default("`10`"), "Requests per second."),
        key("concurrency", Kind::Whole { min: 1, max: U32_MAX }, Default("`2`"), "Requests at once."),
        key("bytes", Kind::Form(&SIZE), Default("`1MiB`"), "Bytes of a request."),
        key("deadline", Kind::Form(&DURATION), Default("`1s`"), "How long its answer is waited for."),
    ]],
    ..PLAIN
};
const U32_MAX: u64 = 4_294_967_295;

// Conditions.

static CONDITION_KIND: Kind = Kind::Mapping(&CONDITION);
static SCALAR_KIND: Kind = Kind::Form(&SCALAR);
const TEXT_OR_TEXTS: Kind = Kind::Either(&[Kind::Form(&FILLED), filled_list(&VALUE)]);
const FIELD_TEST: Kind = Kind::Shared(&FIELD_TEST_SHARED);
static FIELD_TEST_SHARED: Shared = Shared {
    name: "field-test",
    title: "text, or tests",
    section: "field-tests",
    kind: Kind::Either(&[Kind::Form(&FILLED), Kind::Mapping(&FIELD_TESTS)]),
};

/// The tests that fields and attributes have in common, apart from those for which an attribute admits more values.
const TEXT_TESTS: &[Key] = &[
    key("present", Kind::Boolean, Optional, "It is there; with `false`, it is not."),
    key("prefix", TEXT_OR_TEXTS, Optional, "It begins with this text, or with one of these."),
    key("suffix", TEXT_OR_TEXTS, Optional, "It ends with this text, or with one of these."),
    key("contains", TEXT_OR_TEXTS, Optional, "It contains this text, or one of these."),
    key("matches", Kind::Form(&PATTERN), Optional, "The regular expression finds a match in it."),
    key("semver", Kind::Form(&COMPARATORS), Optional, "It is a semantic version that fulfils these."),
];

const ATTRIBUTE_TESTS: &[Key] = &[
    key("eq", Kind::Form(&SCALAR), Optional, "It is this, in type and content."),
    key("ne", Kind::Form(&SCALAR), Optional, "It is not this; also when it is absent."),
    key("in", filled_list(&SCALAR_KIND), Optional, "It is one of these."),
    key("not_in", filled_list(&SCALAR_KIND), Optional, "It is none of these; also when it is absent."),
    key("lt", Kind::Form(&NUMBER), Optional, "It is a number less than this."),
    key("lte", Kind::Form(&NUMBER), Optional, "It is a number, this at most."),
    key("gt", Kind::Form(&NUMBER), Optional, "It is a number more than this."),
    key("gte", Kind::Form(&NUMBER), Optional, "It is a number, this at least."),
    key("from", Kind::Form(&MOMENT), Optional, "It is a moment, this one or later."),
    key("until", Kind::Form(&MOMENT), Optional, "It is a moment before this one."),
];

pub(crate) static CONDITION: Mapping = Mapping {
    name: "condition",
    title: "Conditions",
    doc: "A condition. Several keys must all hold. The tests `eq` to `semver` stand beside `attribute`.",
    keys: &[
        &[
            key("all", filled_list(&CONDITION_KIND), Optional, "All of these hold."),
            key("any", filled_list(&CONDITION_KIND), Optional, "At least one of these holds."),
            key("not", Kind::Mapping(&CONDITION), Optional, "This does not hold."),
            key("segment", Kind::NameOf("segment"), Optional, "The context belongs to this segment."),
            key("tier", Kind::NameOf("tier"), Optional, "The context has this tier or a higher one."),
            key("user", FIELD_TEST, Optional, "The user is this one, or fulfils these tests."),
            key("symbol", FIELD_TEST, Optional, "The same for the symbol."),
            key("tenant", FIELD_TEST, Optional, "The same for the tenant."),
            key("session", FIELD_TEST, Optional, "The same for the session."),
            key("time", Kind::Mapping(&TIME), Optional, "The time fulfils these tests."),
            key("bucket", Kind::Mapping(&BUCKET), Optional, "The unit's bucket lies in a slice of a layer."),
            key(
                "route",
                Kind::NameOf("route"),
                Optional,
                "Another route serves what `serves` beside it says. Prerequisites may be nested up to 8 levels; a cycle is an error.",
            ),
            key(
                "serves",
                Kind::Either(&[VARIANT_NAME_KIND, filled_list(&VARIANT_NAME)]),
                Optional,
                "One of these variants of the other route, beside `route`.",
            ),
            key(
                "attribute",
                Kind::Form(&FILLED),
                Optional,
                "The attribute that the tests beside it are about.",
            ),
        ],
        ATTRIBUTE_TESTS,
        TEXT_TESTS,
    ],
    needs: &[
        ("route", "serves"),
        ("serves", "route"),
        ("eq", "attribute"),
        ("ne", "attribute"),
        ("in", "attribute"),
        ("not_in", "attribute"),
        ("lt", "attribute"),
        ("lte", "attribute"),
        ("gt", "attribute"),
        ("gte", "attribute"),
        ("from", "attribute"),
        ("until", "attribute"),
        ("present", "attribute"),
        ("prefix", "attribute"),
        ("suffix", "attribute"),
        ("contains", "attribute"),
        ("matches", "attribute"),
        ("semver", "attribute"),
    ],
    ..PLAIN
};

pub(crate) static FIELD_TESTS: Mapping = Mapping {
    name: "field-tests",
    title: "Tests of fields",
    doc: "Tests of the user, symbol, tenant or session; all must hold. A field that is empty is absent.",
    keys: &[
        &[
            key("eq", Kind::Form(&FILLED), Optional, "It is this text."),
            key("ne", Kind::Form(&FILLED), Optional, "It is not this text; also when it is absent."),
            key("in", filled_list(&VALUE), Optional, "It is one of these."),
            key("not_in", filled_list(&VALUE), Optional, "It is none of these; also when it is absent."),
        ],
        TEXT_TESTS,
    ],
    ..PLAIN
};

pub(crate) static TIME: Mapping = Mapping {
    name: "time",
    title: "Tests of the time",
    doc: "Tests of the time of the decision; all must hold.",
    keys: &[&[
        key("from", Kind::Form(&MOMENT), Optional, "It is this moment or later."),
        key("until", Kind::Form(&MOMENT), Optional, "It is before this moment."),
        key("daily", Kind::Mapping(&DAILY), Optional, "The time of day is within these."),
        key(
            "weekdays",
            filled_list(&Kind::Words(WEEKDAYS)),
            Optional,
            "It is one of these days of the week.",
        ),
        key(
            "offset",
            Kind::Form(&OFFSET),
            Default("`Z`"),
            "By how much the clock that `daily` and `weekdays` look at is ahead of UTC.",
        ),
    ]],
    some_of: &[&["from", "until", "daily", "weekdays"]],
    ..PLAIN
};
/// The days of the week, Monday first.
pub(crate) const WEEKDAYS: &[(&str, &str)] = &[
    ("mon", "Monday"),
    ("tue", "Tuesday"),
    ("wed", "Wednesday"),
    ("thu", "Thursday"),
    ("fri", "Friday"),
    ("sat", "Saturday"),
    ("sun", "Sunday"),
];

pub(crate) static DAILY: Mapping = Mapping {
    name: "daily",
    title: "Hours of the day",
    doc: "From a time of day up to, not including, another; over midnight when the first is the later one.",
    keys: &[&[
        key("from", Kind::Form(&TIME_OF_DAY), Required, "The first moment."),
        key("until", Kind::Form(&TIME_OF_DAY), Required, "The moment when it is over."),
    ]],
    ..PLAIN
};

pub(crate) static BUCKET: Mapping = Mapping {
    name: "bucket",
    title: "Slices of layers",
    doc: "A slice of a layer, in percent of it. A missing unit is in no slice.",
    keys: &[&[
        key("layer", Kind::NameOf("layer"), Required, "The layer."),
        key("unit", UNIT, Default("the layer's"), "What is hashed."),
        key("from", Kind::Form(&PERCENT), Default("`0`"), "Where the slice begins."),
        key("below", Kind::Form(&PERCENT), Required, "Where it is over; above `from`."),
    ]],
    ..PLAIN
};

/// Every mapping, in the order of the reference page.
pub(crate) static MAPPINGS: &[&Mapping] = &[
    &DOCUMENT,
    &ROUTE,
    &VARIANT,
    &OVERRIDE,
    &REQUEST,
    &TEST_GROUP,
    &SYMBOL_ROLLOUT,
    &RULE,
    &DEFAULT,
    &UNIT_ATTRIBUTE,
    &RAMP,
    &STAGE,
    &PAUSE,
    &EXPERIMENT,
    &SWITCHBACK,
    &SHADOW,
    &LIMITS,
    &CONDITION,
    &FIELD_TESTS,
    &TIME,
    &DAILY,
    &BUCKET,
    &SEGMENT,
    &EXCLUDE,
    &UNIT_FILE,
    &TIER,
    &LAYER,
    &HOLDOUT,
    &TENANT,
    &USER,
    &FREEZE,
    &MODEL,
    &SIGNATURE,
    &TENSOR,
];
