//! Who asks: API keys and tokens from variables, and what browsers may read.

use lockgate_package::Digest;
use serde_json::json;

use crate::endpoints::infer;
use crate::fixtures::{baked, root};
use crate::host::{Ask, World};

#[tokio::test]
async fn api_keys_say_who_asks() {
    let world = World::new();
    let sha256 = Digest::of(b"secret").to_string();
    world.set("api_keys", &json!([{ "name": "desk", "sha256": sha256, "tenant": "acme" }]).to_string());
    let send = async |ask: Ask| baked().send(&world, ask).await.unwrap();
    let ask = || infer(&json!({ "tenant": "other", "user": "u" }));
    assert_eq!(send(ask()).await.problem(), (401, "unauthenticated".to_owned()));
    assert_eq!(send(ask().header("x-api-key", "wrong")).await.problem(), (401, "unknown_key".to_owned()));
    let answer = send(ask().header("authorization", "Bearer secret")).await.json();
    assert_eq!(answer["parameters"]["variant"], "forest", "the verified tenant's test group: {answer}");
    assert_eq!(answer["parameters"]["verified"], "tenant");
    assert_eq!(send(Ask::get("/v2/health/live")).await.status, 200, "health needs no key");
}

/// The vectors of RFC 7515 (appendices A.2, A.3) and RFC 8037 (A.4): their payloads expire long ago or have no `exp`, so what is looked at
/// is whether the signature is what is refused.
#[tokio::test]
async fn tokens_are_verified_with_every_algorithm() {
    let cases: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root().join("tests/spin/tokens.json")).unwrap()).unwrap();
    let cases = cases.as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        let name = case["alg"].as_str().unwrap();
        let world = World::new();
        world.set("jwt_keys", &json!({ "keys": [case["key"]] }).to_string());
        let send = async |token: &str| {
            let ask =
                infer(&json!({ "tenant": "other" })).header("authorization", &format!("Bearer {token}"));
            baked().send(&world, ask).await.unwrap()
        };
        let token = case["token"].as_str().unwrap();
        let answer = send(token).await;
        assert_eq!(answer.status, 200, "{name}: {answer:?}");
        assert_eq!(answer.json()["parameters"]["variant"], "forest", "{name}");
        assert_eq!(answer.json()["parameters"]["verified"], "user,tenant", "{name}");
        // One bit of the signature, and one of what it signs.
        let flip = |at: usize| {
            let mut bytes = token.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(
            send(&flip(token.len() - 40)).await.problem(),
            (401, "invalid_token".to_owned()),
            "{name}"
        );
        let payload = token.find('.').unwrap() + 12;
        assert_eq!(send(&flip(payload)).await.status, 401, "{name}");
        let other = cases.iter().find(|other| other["alg"] != case["alg"]).unwrap();
        assert_eq!(send(other["token"].as_str().unwrap()).await.status, 401, "{name}");
    }
}

#[tokio::test]
async fn browsers_are_told_what_they_may_read() {
    let world = World::new();
    world.set("cors_origins", "https://a.example");
    let mut ask = Ask::get("/v2/models/direction/infer").header("origin", "https://a.example");
    ask.method = "OPTIONS";
    let ask = ask.header("access-control-request-method", "POST");
    let answer = baked().send(&world, ask).await.unwrap();
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"), "{answer:?}");
    let from = |origin: &str| infer(&json!({})).header("origin", origin);
    let answer = baked().send(&world, from("https://a.example")).await.unwrap();
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"));
    let answer = baked().send(&world, from("https://b.example")).await.unwrap();
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}
