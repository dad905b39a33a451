//! Verified identities from keys and trusted headers.

use serde_json::json;

use crate::harness::{Answer, POLICY, Server, request};

/// SHA-256 of `secret` and of `other`.
const CONFIG: &str = r#"
trusted_proxies = ["10.0.0.0/8"]
trusted_user_header = "x-forwarded-user"

[[api_keys]]
name = "acme"
sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
tenant = "acme"

[[api_keys]]
name = "alice"
sha256 = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa"
user = "alice"
routes = ["direction"]
"#;

#[test]
fn verified_values_are_never_overridden() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lockgate.toml");
    std::fs::write(&file, CONFIG).unwrap();
    let server = Server::start(&["--config", file.to_str().unwrap()]);
    let ask = |route: &str, key: &str, parameters: serde_json::Value| -> Answer {
        let mut headers = vec![("x-lockgate-tenant", "nobody")];
        if !key.is_empty() {
            headers.push(("x-api-key", key));
        }
        server.post(
            &format!("/v2/models/{route}/infer"),
            &headers,
            request(1, &parameters).to_string().as_bytes(),
        )
    };
    // The key's tenant is in the test group, whatever the request says.
    let answer = ask("direction", "secret", json!({ "tenant": "other", "user": "bob" }));
    assert_eq!(answer.parameter("variant"), "forest");
    assert_eq!(answer.parameter("verified"), "tenant");
    // A key without a tenant does not get one by claiming it.
    let answer = ask("direction", "other", json!({ "tenant": "acme", "user": "bob" }));
    assert_eq!(answer.parameter("step"), "override", "the key's user is alice");
    assert_eq!(answer.parameter("verified"), "user");

    let unauthenticated = ask("direction", "", json!({}));
    assert_eq!(unauthenticated.error(), (401, "unauthenticated".to_owned()));
    assert_eq!(unauthenticated.header("www-authenticate"), Some("Bearer"));
    assert_eq!(ask("direction", "wrong", json!({})).error(), (401, "unknown_key".to_owned()));
    assert_eq!(server.get("/v2/models/direction").error().0, 401);
    // Probes and metrics need no key.
    for path in ["/v2", "/v2/health/ready", "/health", "/metrics"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    // This test does not come from the proxy's network.
    let body = request(1, &json!({})).to_string();
    let forged = server.post("/v2/models/direction/infer", &[("x-forwarded-user", "alice")], body.as_bytes());
    assert_eq!(forged.error(), (401, "untrusted_header".to_owned()));

    // A forbidden route and an unknown one are told in the same words.
    let (forbidden, unknown) = (ask("missing", "other", json!({})), ask("nothing", "other", json!({})));
    assert_eq!(forbidden.error(), (404, "unknown_route".to_owned()));
    assert_eq!(forbidden.text().replace("missing", "nothing"), unknown.text());
    assert_eq!(ask("missing", "secret", json!({})).error().0, 400, "this key may ask it");
    // Nor does a request without rows, each of which would have its own user, tell the two apart.
    let mut without_rows = request(1, &json!({ "user": [] }));
    without_rows["inputs"][0]["shape"][0] = json!(0);
    without_rows["inputs"][0]["data"] = json!([]);
    let ask =
        |path: &str, key: &str| server.post(path, &[("x-api-key", key)], without_rows.to_string().as_bytes());
    for path in ["/v2/models/missing/infer", "/v2/models/missing/versions/1.0.0/infer"] {
        assert_eq!(ask(path, "other").error(), (404, "unknown_route".to_owned()), "{path}");
        assert_ne!(ask(path, "secret").error().1, "unknown_route", "{path}");
    }
}

/// A route of one tenant, and callers who speak for others or do not.
#[test]
fn only_a_trusted_key_speaks_for_others() {
    let policy = format!(
        "{POLICY}tenants:\n  acme:\n    routes:\n      own:\n        variants: {{ only: {{ model: eurusd_lr@1.0.0 }} }}\n        default: {{ serve: only }}\n"
    );
    let keys: String =
        [("edge", "forwards = true"), ("plain", ""), ("bound", "forwards = true\ntenant = \"other\"")]
            .into_iter()
            .map(|(name, more)| {
                let sha256 = lockgate_package::Digest::of(name.as_bytes());
                format!("[[api_keys]]\nname = \"{name}\"\nsha256 = \"{sha256}\"\n{more}\n")
            })
            .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lockgate.toml");
    std::fs::write(&file, keys).unwrap();
    let server =
        Server::start_on(false, &policy, &["--config", file.to_str().unwrap(), "--allow-anonymous", "true"]);
    let id = "01a1fcd1-2eb5-741a-8bee-c5b5f9ea1c6c";
    let decision = format!("{{\"id\":\"{id}\"}}");
    let ask = |path: &str, key: &str, more: &[(&str, &str)], parameters: serde_json::Value| -> Answer {
        let mut headers = [&[("x-lockgate-decision", decision.as_str())], more].concat();
        if !key.is_empty() {
            headers.push(("x-api-key", key));
        }
        let body = request(1, &parameters).to_string();
        server.post(&format!("/v2/models/{path}/infer"), &headers, body.as_bytes())
    };
    let forwarded =
        ask("own/versions/eurusd_lr@1.0.0", "edge", &[], json!({ "tenant": "acme", "user": "bob" }));
    assert_eq!(forwarded.status, 200, "{}", forwarded.text());
    assert_eq!((forwarded.parameter("decision_id"), forwarded.parameter("verified")), (json!(id), json!("")));
    let by_header = ask("direction", "edge", &[("x-lockgate-tenant", "acme")], json!({ "user": "bob" }));
    assert_eq!(by_header.parameter("variant"), "forest", "the tenant is in the test group");
    assert_eq!(ask("own", "edge", &[], json!({ "tenant": "other" })).error().0, 404, "it is acme's route");
    assert_eq!(ask("own", "edge", &[], json!({})).error().0, 404);
    assert!(!server.log().contains("no key with `forwards = true`"));
    // A key's own tenant holds for all that it speaks for, and any other key speaks for nobody else.
    for key in ["bound", "plain"] {
        let refused = ask("own/versions/eurusd_lr@1.0.0", key, &[], json!({ "tenant": "acme" }));
        assert_eq!(refused.error(), (404, "unknown_route".to_owned()), "{key}");
        let general = ask("direction", key, &[], json!({ "tenant": "acme", "user": "bob" }));
        assert_ne!(general.parameter("variant"), "forest", "{key}: it is not acme");
    }
    for key in ["plain", ""] {
        assert_ne!(ask("direction", key, &[], json!({})).parameter("decision_id"), id, "{key}");
    }
    assert!(server.log().contains("no key with `forwards = true`"));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let flags = [
        "--trusted-proxies",
        "127.0.0.0/8",
        "--trusted-user-header",
        "x-forwarded-user",
        "--allow-anonymous",
        "true",
    ];
    let server = Server::start(&flags);
    let body = request(1, &json!({ "user": "bob" })).to_string();
    let ask = |headers: &[(&str, &str)]| server.post("/v2/models/direction/infer", headers, body.as_bytes());
    let answer = ask(&[("x-forwarded-user", "alice")]);
    assert_eq!((answer.parameter("step"), answer.parameter("verified")), (json!("override"), json!("user")));
    let answer = ask(&[]);
    assert_eq!((answer.parameter("step"), answer.parameter("verified")), (json!("default"), json!(null)));
}
