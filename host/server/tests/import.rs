//! `lockgate policy import`, as its users see it. The inputs are written in the shapes that the systems document: flagd's flag
//! definition, what Unleash answers to `/api/client/features` and to an administrator's `/api/admin/features-batch/export`, and what
//! GrowthBook answers to SDKs. That assignments are kept is tested in `crates/policy/tests/profiles`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use serde_json::Value;

const FLAGD: &str = r##"{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "flags": {
    "new-welcome-banner": {
      "state": "ENABLED",
      "variants": { "on": true, "off": false },
      "defaultVariant": "off",
      "targeting": { "if": [{ "$ref": "emailWithShop" }, "on", null] }
    },
    "header-colour": {
      "state": "ENABLED",
      "variants": { "red": "#FF0000", "blue": "#0000FF", "green": "#00FF00" },
      "defaultVariant": "red",
      "targeting": { "fractional": [["red", 50], ["blue", 20], ["green", 30]] }
    },
    "grown-up": {
      "state": "ENABLED",
      "variants": { "on": true, "off": false },
      "defaultVariant": "off",
      "targeting": { "if": [{ ">": [{ "+": [{ "var": "age" }, 1] }, 18] }, "on", "off"] }
    },
    "retired": { "state": "DISABLED", "variants": { "on": true, "off": false }, "defaultVariant": "on" }
  },
  "$evaluators": { "emailWithShop": { "in": ["@shop.example", { "var": ["email"] }] } },
  "metadata": { "version": "v2" }
}"##;

const UNLEASH_CLIENT: &str = r##"{
  "version": 2,
  "features": [
    {
      "name": "checkout", "type": "release", "enabled": true, "project": "default", "stale": false,
      "description": "The new checkout",
      "strategies": [
        {
          "name": "flexibleRollout",
          "constraints": [
            { "contextName": "country", "operator": "IN", "values": ["DE", "AT"], "inverted": false, "caseInsensitive": false }
          ],
          "parameters": { "groupId": "checkout", "rollout": "25", "stickiness": "userId" },
          "segments": [1],
          "variants": [
            { "name": "blue", "weight": 600, "weightType": "variable", "stickiness": "userId", "payload": { "type": "string", "value": "#00f" } },
            { "name": "red", "weight": 400, "weightType": "variable", "stickiness": "userId" }
          ]
        },
        { "name": "userWithId", "constraints": [], "parameters": { "userIds": "alice, bob" } }
      ],
      "variants": [], "impressionData": false, "dependencies": []
    },
    {
      "name": "geo", "type": "release", "enabled": true, "project": "default", "stale": false,
      "strategies": [{ "name": "remoteAddress", "constraints": [], "parameters": { "IPs": "2001:db8::/32" } }],
      "variants": [], "impressionData": false
    },
    {
      "name": "office-hours", "type": "kill-switch", "enabled": true, "project": "default", "stale": true,
      "strategies": [{ "name": "TimeOfDay", "parameters": { "hour": "9" } }], "variants": [], "impressionData": false
    }
  ],
  "segments": [
    {
      "id": 1, "name": "adults",
      "constraints": [{ "contextName": "age", "operator": "NUM_GTE", "value": "18", "values": [], "inverted": false, "caseInsensitive": false }]
    }
  ],
  "query": { "environment": "production", "inlineSegmentConstraints": false },
  "meta": { "revisionId": 7, "etag": "\"76d8bb0e:7\"", "queryHash": "76d8bb0e" }
}"##;

const UNLEASH_EXPORT: &str = r##"{
  "features": [
    { "name": "checkout", "description": "The new checkout", "type": "release", "project": "default", "stale": false, "impressionData": false, "archived": false },
    { "name": "search", "description": null, "type": "experiment", "project": "default", "stale": false, "impressionData": false, "archived": false },
    { "name": "members", "description": "", "type": "permission", "project": "default", "stale": false, "impressionData": true, "archived": false }
  ],
  "featureStrategies": [
    {
      "name": "flexibleRollout", "id": "5a3d6d8e-7f0b-4f6a-9a52-7b2f1f0a0001", "featureName": "checkout", "title": "a quarter",
      "parameters": { "groupId": "checkout", "rollout": "25", "stickiness": "userId" },
      "constraints": [{ "values": ["DE"], "inverted": false, "operator": "IN", "contextName": "country", "caseInsensitive": false }],
      "variants": [], "disabled": false, "segments": [], "sortOrder": 1, "milestoneId": null
    },
    {
      "name": "default", "id": "5a3d6d8e-7f0b-4f6a-9a52-7b2f1f0a0002", "featureName": "search", "title": null,
      "parameters": {}, "constraints": [], "variants": [], "disabled": false, "segments": []
    },
    {
      "name": "flexibleRollout", "id": "5a3d6d8e-7f0b-4f6a-9a52-7b2f1f0a0003", "featureName": "members", "title": null,
      "parameters": { "groupId": "members", "rollout": "100", "stickiness": "default" },
      "constraints": [], "variants": [], "disabled": false, "segments": [1]
    }
  ],
  "featureEnvironments": [
    { "enabled": true, "featureName": "checkout", "environment": "production", "variants": [], "name": "checkout" },
    {
      "enabled": true, "featureName": "search", "environment": "production", "name": "search",
      "variants": [
        { "name": "blue", "weight": 500, "overrides": [{ "values": ["best"], "contextName": "appName" }], "stickiness": "userId", "weightType": "variable" },
        { "name": "red", "weight": 500, "payload": { "type": "string", "value": "#f00" }, "overrides": [], "stickiness": "userId", "weightType": "variable" }
      ]
    },
    { "enabled": true, "featureName": "members", "environment": "production", "variants": [], "name": "members" }
  ],
  "contextFields": [
    { "name": "country", "description": "", "stickiness": false, "sortOrder": 10, "legalValues": [{ "value": "DE", "description": "" }] }
  ],
  "featureTags": [{ "featureName": "checkout", "tagType": "simple", "tagValue": "shop" }],
  "segments": [{ "id": 1, "name": "members-only" }],
  "tagTypes": [{ "name": "simple", "description": "Used to simplify filtering of features", "icon": "#", "color": null }],
  "dependencies": []
}"##;

const GROWTHBOOK: &str = r##"{
  "status": 200,
  "features": {
    "dark-mode": {
      "defaultValue": false,
      "rules": [
        { "id": "fr_1", "condition": { "beta": true }, "force": true },
        { "id": "fr_2", "force": true, "coverage": 0.3, "hashAttribute": "id", "seed": "dark-mode", "hashVersion": 2 }
      ]
    },
    "button-colour": {
      "defaultValue": "blue",
      "rules": [
        {
          "id": "fr_3", "coverage": 1, "hashAttribute": "id", "seed": "b0", "hashVersion": 2,
          "variations": ["blue", "green", "red"], "weights": [0.5, 0.25, 0.25],
          "key": "button-colour", "phase": "0", "name": "Button colour",
          "meta": [{ "key": "0", "name": "Control" }, { "key": "1", "name": "Green" }, { "key": "2", "name": "Red" }]
        }
      ]
    },
    "tagged": {
      "defaultValue": false,
      "rules": [{ "id": "fr_4", "condition": { "tags": { "$elemMatch": { "$eq": "vip" } } }, "force": true }]
    }
  },
  "experiments": [],
  "dateUpdated": "2026-05-01T10:00:00.000Z"
}"##;

/// What GrowthBook's REST API lists: rules for people, with values as texts, which no SDK reads.
const GROWTHBOOK_REST: &str = r##"{
  "features": [
    {
      "id": "dark-mode", "archived": false, "description": "", "owner": "ann", "project": "", "valueType": "boolean", "defaultValue": "false", "tags": [],
      "environments": {
        "production": {
          "enabled": true, "defaultValue": "false",
          "rules": [{ "type": "force", "id": "fr_1", "description": "", "enabled": true, "condition": "{\"beta\":true}", "value": "true" }],
          "definition": "{\"defaultValue\":false,\"rules\":[{\"condition\":{\"beta\":true},\"force\":true}]}"
        }
      }
    }
  ],
  "limit": 10, "offset": 0, "count": 1, "total": 1, "hasMore": false, "nextOffset": null
}"##;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.path().join(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.0.path().join(name)).ok()
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let program = env!("CARGO_BIN_EXE_lockgate");
        let output = Command::new(program).args(arguments).current_dir(self.0.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// Which variant a context gets under the imported policy.
    #[track_caller]
    fn variant(&self, route: &str, context: &[&str]) -> String {
        let arguments = ["--json", "policy", "explain", "policy.yaml", "--now", "0", "--route", route];
        let (code, out, error) = self.run(&[&arguments, context].concat());
        assert_eq!(code, 0, "{error}");
        let trace: Value = serde_json::from_str(&out).unwrap();
        trace["decision"]["variant"].as_str().unwrap().to_owned()
    }
}

/// Imports, and sees which routes there are, what is not kept (extent, flag, place), and that the policy passes its check.
#[track_caller]
fn check(system: &str, input: &str, routes: &[&str], losses: &[[&str; 3]]) -> Folder {
    let folder = Folder::new();
    folder.write("flags.json", input);
    let import =
        ["policy", "import", "--from", system, "flags.json", "--model", "m@1.0.0", "-o", "policy.yaml"];
    let (code, out, error) = folder.run(&[&["--json"], &import[..]].concat());
    assert_eq!((code, error.as_str()), (0, ""));
    let answer: Value = serde_json::from_str(&out).unwrap();
    let made: Vec<&str> = answer["routes"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(made, routes);
    let text = |loss: &Value, key: &str| loss[key].as_str().unwrap().to_owned();
    let lost: Vec<[String; 3]> = answer["losses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loss| ["extent", "flag", "path"].map(|key| text(loss, key)))
        .collect();
    assert_eq!(lost, losses, "{out}");
    let (code, _, error) = folder.run(&["policy", "check", "policy.yaml"]);
    assert_eq!(code, 0, "{error}");

    // People read the same on the standard error and at the head of the source.
    let source = folder.read("policy.yaml").unwrap();
    let (code, out, error) = folder.run(&import);
    assert_eq!(
        (code, folder.read("policy.yaml").unwrap()),
        (0, source.clone()),
        "the same again changes nothing"
    );
    assert!(out.starts_with(&format!("policy.yaml: {} route", routes.len())), "{out}");
    for [extent, flag, path] in losses {
        let what = if *extent == "flag" { "left out" } else { "not wholly kept" };
        assert!(error.contains(&format!("{what}: {flag} at {path}\n  ")), "{error}");
        assert!(source.contains(&format!("# - {flag} at {path}: ")), "{source}");
    }

    // `--strict` tells the same, and writes nothing.
    let (code, _, error) = folder.run(&[
        "policy",
        "import",
        "--from",
        system,
        "flags.json",
        "--model",
        "m@1.0.0",
        "--strict",
        "-o",
        "strict.yaml",
    ]);
    assert_eq!(
        (code, folder.read("strict.yaml")),
        (i32::from(!losses.is_empty()), losses.is_empty().then_some(source)),
        "{error}"
    );
    folder
}

#[test]
fn flagd() {
    let folder = check(
        "flagd",
        FLAGD,
        &["header-colour", "new-welcome-banner", "retired"],
        &[
            ["flag", "grown-up", "flags.grown-up.targeting.if[0].>"],
            ["part", "retired", "flags.retired.state"],
        ],
    );
    assert_eq!(folder.variant("new-welcome-banner", &["--attribute", "email=ann@shop.example"]), "on");
    assert_eq!(folder.variant("new-welcome-banner", &["--attribute", "email=ann@elsewhere.example"]), "off");
    assert_eq!(folder.variant("retired", &["--user", "ann"]), "on");
    let colours = ["red", "blue", "green"];
    let given: Vec<String> =
        (0..12).map(|n| folder.variant("header-colour", &["--user", &format!("user-{n}")])).collect();
    assert!(colours.iter().all(|colour| given.iter().any(|given| given == colour)), "{given:?}");
}

#[test]
fn unleash_as_clients_see_it() {
    let folder = check(
        "unleash",
        UNLEASH_CLIENT,
        &["checkout", "office-hours"],
        &[
            ["flag", "geo", "features[1].strategies[0].parameters.IPs"],
            ["part", "office-hours", "features[2].strategies[0]"],
        ],
    );
    assert_eq!(folder.variant("checkout", &["--user", "alice"]), "enabled");
    assert_eq!(folder.variant("checkout", &["--user", "carol"]), "disabled");
    assert_eq!(folder.variant("office-hours", &["--user", "alice"]), "disabled");
    let adult = ["--attribute", "country=DE", "--attribute", "age=30", "--user"];
    let child = ["--attribute", "country=DE", "--attribute", "age=9", "--user"];
    let given = |context: &[&str; 5]| -> Vec<String> {
        (0..24)
            .map(|n| folder.variant("checkout", &[&context[..], &[&format!("user-{n}")]].concat()))
            .collect()
    };
    assert!(["blue", "red", "disabled"].iter().all(|name| given(&adult).iter().any(|given| given == name)));
    assert!(given(&child).iter().all(|given| given == "disabled"));
}

#[test]
fn unleash_as_administrators_export_it() {
    let folder = check(
        "unleash",
        UNLEASH_EXPORT,
        &["checkout", "search"],
        &[
            ["part", "search", "features[1].variants"],
            ["flag", "members", "featureStrategies[2].segments[0]"],
        ],
    );
    assert_eq!(folder.variant("search", &["--attribute", "appName=best", "--user", "ann"]), "blue");
    assert_eq!(folder.variant("checkout", &["--attribute", "country=FR", "--user", "ann"]), "disabled");
    // One environment at a time.
    let two = UNLEASH_EXPORT.replacen("\"environment\": \"production\"", "\"environment\": \"staging\"", 1);
    refuse(
        "unleash",
        &two,
        "flags.json:1:1: this export has several environments (production, staging); export one at a time",
    );
}

#[test]
fn growthbook() {
    let folder = check(
        "growthbook",
        GROWTHBOOK,
        &["button-colour", "dark-mode"],
        &[["flag", "tagged", "features.tagged.rules[0].condition.tags.$elemMatch"]],
    );
    assert_eq!(folder.variant("dark-mode", &["--attribute", "beta=true", "--user", "ann"]), "true");
    let given: Vec<String> =
        (0..24).map(|n| folder.variant("button-colour", &["--user", &format!("user-{n}")])).collect();
    assert!(
        ["blue", "green", "red"].iter().all(|colour| given.iter().any(|given| given == colour)),
        "{given:?}"
    );
    // What the REST API lists is not what SDKs get.
    refuse(
        "growthbook",
        GROWTHBOOK_REST,
        "flags.json:1:1: this is no payload of GrowthBook: it has no mapping `features`",
    );
    let encrypted = r#"{"status": 200, "features": {}, "encryptedFeatures": "AxuXbGAH.wqGLGvJKqZ"}"#;
    refuse("growthbook", encrypted, "flags.json:1:1: the features are encrypted; decrypt them");
}

/// Input that no import is made of: nothing is written, and the error begins so.
#[track_caller]
fn refuse(system: &str, input: impl AsRef<[u8]>, expected: &str) {
    let folder = Folder::new();
    folder.write("flags.json", input);
    let (code, out, error) =
        folder.run(&["policy", "import", "--from", system, "flags.json", "-o", "policy.yaml"]);
    assert_eq!((code, out.as_str(), folder.read("policy.yaml")), (1, "", None), "{error}");
    assert!(error.starts_with(&format!("error: {expected}")), "{system}: {error}");
}

#[test]
fn broken_input_is_refused_by_place() {
    for system in ["flagd", "unleash", "growthbook"] {
        refuse(system, "", "flags.json:1:1: the document is empty");
        refuse(system, b"\xff\xfe{", "flags.json is not UTF-8 text");
        refuse(system, "{\"a\": 1,\n  \"b\" 2}", "flags.json:2:7: this is not JSON: ");
        refuse(system, "[".repeat(100_000), "flags.json:1:");
        refuse(system, "[]", "flags.json:1:1: this is no ");
    }
    for (system, input) in [
        ("flagd", FLAGD),
        ("unleash", UNLEASH_CLIENT),
        ("unleash", UNLEASH_EXPORT),
        ("growthbook", GROWTHBOOK),
    ] {
        for cut in (1..input.len()).step_by(61) {
            refuse(system, &input[..cut], "flags.json:");
        }
        for other in ["flagd", "unleash", "growthbook"].into_iter().filter(|other| *other != system) {
            refuse(other, input, "flags.json:1:1: this is no ");
        }
    }
}

#[test]
fn wrong_usage_and_files_that_exist_stop_an_import() {
    let folder = Folder::new();
    folder.write("flags.json", FLAGD);
    let import = |more: &[&str]| {
        let (code, out, error) = folder.run(&[&["policy", "import", "flags.json"], more].concat());
        assert_eq!(out, "");
        (code, error)
    };
    for (arguments, expected) in [
        (&["--from", "launchdarkly"][..], "possible values: flagd, unleash, growthbook"),
        (&["--from", "flagd", "--model", "m"], "--model: `m` names no version"),
        (
            &["--from", "flagd", "--hash", "md5"],
            "--hash: flagd never had the hash `md5`; expected one of flagd, ",
        ),
        (
            &["--from", "flagd", "--field", "a=b"],
            "`b` is no field; expected one of user, symbol, tenant, session",
        ),
    ] {
        let (code, error) = import(arguments);
        assert!(code == 2 && error.contains(expected), "{arguments:?}: {error}");
    }
    folder.write("map.yaml", "new-welcome-banner: m\n");
    let (code, error) = import(&["--from", "flagd", "--map", "map.yaml"]);
    assert!(code == 1 && error.starts_with("error: map.yaml:1:"), "{error}");
    folder.write("policy.yaml", "mine");
    let (code, error) = import(&["--from", "flagd", "--model", "m@1.0.0", "-o", "policy.yaml"]);
    assert!(code == 1 && error.contains("policy.yaml exists with other content"), "{error}");
    assert_eq!(folder.read("policy.yaml").unwrap(), "mine");

    // Without `-o` the source alone is on the standard output.
    let (code, out, _) =
        folder.run(&["policy", "import", "--from", "flagd", "flags.json", "--model", "m@1.0.0"]);
    assert_eq!(code, 0);
    folder.write("printed.yaml", &out);
    assert_eq!(folder.run(&["policy", "check", "printed.yaml"]).0, 0, "{out}");
    // What no model is named for is to do, and then `policy check` is the only thing that passes.
    let (code, out, error) = folder.run(&["policy", "import", "--from", "flagd", "flags.json"]);
    assert!(
        code == 0
            && out.contains("replace-me@0.0.0")
            && error.contains("to do: header-colour at flags.header-colour"),
        "{error}"
    );
    folder.write("unmapped.yaml", out);
    assert_eq!(folder.run(&["policy", "check", "unmapped.yaml"]).0, 0);
    assert_eq!(folder.run(&["policy", "compile", "unmapped.yaml"]).0, 1);
}
