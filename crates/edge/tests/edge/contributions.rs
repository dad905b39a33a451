//! A request's `contributions` on the way to the core and to the origin, and what becomes of them in answers, records and shadows.

use lockgate_edge::{Fetch, Step};
use lockgate_oip::{InferRequest, decode_request};
use serde_json::{Value, json};

use super::{NOW, Serving, Shell, code, nowhere, origin};

fn output<'a>(answer: &'a Value, name: &str) -> Option<&'a Value> {
    answer["outputs"].as_array().unwrap().iter().find(|output| output["name"] == name)
}

/// What an origin was sent.
fn sent(fetch: &Fetch) -> InferRequest {
    let length = fetch.headers.iter().find(|(name, _)| name == "inference-header-content-length").unwrap();
    decode_request(&fetch.body, Some(length.1.parse().unwrap())).unwrap()
}

#[test]
fn who_asks_gets_them_from_here_and_from_the_origin() {
    let mut shell = Shell::new(&[]);
    let parameters = json!({ "size": ["large", "small", "large"], "contributions": "interventional" });
    let outcome = shell.infer(3, &parameters, &mut origin);
    let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
    assert_eq!(outcome.response.status, 200, "{answer}");
    let found = output(&answer, "contributions").unwrap();
    assert_eq!((&found["datatype"], &found["shape"]), (&json!("FP64"), &json!([3, 1])));
    assert_eq!(found["data"], json!([3.0, 4.0, 9.0]), "each row its version's, in its place");
    let base = output(&answer, "contributions_base").unwrap();
    assert_eq!((&base["shape"], &base["data"]), (&json!([3]), &json!([0.0, 0.0, 0.0])));
    // The core and the origin are asked for the method that the caller named.
    assert_eq!(shell.core.options, [("contributions".to_owned(), "interventional".to_owned())]);
    let [forwarded] = shell.asked.as_slice() else { panic!("{:?}", shell.asked) };
    let forwarded = serde_json::to_value(&sent(forwarded).parameters).unwrap();
    assert_eq!(forwarded["contributions"], "interventional");
    // Records hold what the models say, not why.
    let record = &shell.records()[0];
    assert_eq!(record["rows"][0]["outputs"], json!({ "y": [3.0] }), "{record}");
}

#[test]
fn who_does_not_ask_gets_none() {
    for parameters in
        [json!({ "size": ["large", "small"] }), json!({ "size": "large", "contributions": false })]
    {
        let mut shell = Shell::new(&[]);
        let outcome = shell.infer(2, &parameters, &mut origin);
        let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
        assert_eq!(answer["outputs"].as_array().unwrap().len(), 1, "{answer}");
        assert!(shell.core.options.is_empty());
        assert!(!sent(&shell.asked[0]).parameters.contains_key("contributions"));
    }
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    for (value, text) in [(json!("shap"), "shap"), (json!(1), "1"), (json!([true]), "array")] {
        let mut shell = Shell::new(&[]);
        let outcome = shell.infer(1, &json!({ "contributions": value }), &mut nowhere);
        assert_eq!(code(&outcome), (400, "invalid_parameter".to_owned()));
        let answer: Value = serde_json::from_slice(&outcome.response.body).unwrap();
        let error = answer["error"].as_str().unwrap();
        assert!(error.contains("parameter `contributions` is") && error.contains(text), "{error}");
        assert_eq!(shell.core.predictions, 0);
    }
}

#[test]
fn shadows_are_not_asked_for_them() {
    let mut shell = Shell::new(&[]);
    let outcome = shell.infer(2, &json!({ "user": "a", "contributions": true }), &mut nowhere);
    assert_eq!(shell.core.options, [("contributions".to_owned(), "true".to_owned())]);
    let serving = Serving { catalog: Some(&shell.catalog), freshness: &shell.freshness, image: None };
    let shadow = outcome.shadows.into_iter().next().unwrap();
    let step = shell.edge.run_shadow(&mut shell.core, serving, shadow, NOW);
    assert!(matches!(step, Step::Done(_)));
    assert_eq!((shell.core.predictions, shell.core.options.as_slice()), (2, &[][..]));
    let (_, health) = shell.get("/health", &[]);
    let shadow = &health["parts"]["shadows"]["r/beside trial@1.0.0"];
    assert_eq!((&shadow["runs"], &shadow["difference_sum"]), (&json!(1), &json!(15.0)), "{health}");
}
