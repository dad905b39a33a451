//! Whatever the source, an answer comes and no panic.

use proptest::prelude::*;

use crate::{checked, packages};

const POLICY: &str = include_str!("../../../../docs/policy.md");

/// Words that a policy is made of, so that random text gets past the first checks.
fn fragment() -> impl Strategy<Value = String> {
    let words = [
        "lockgate: 1",
        "routes:",
        "r:",
        "variants:",
        "baseline:",
        "default:",
        "split:",
        "serve:",
        "rules:",
        "- ",
        "if:",
        "all:",
        "any:",
        "not:",
        "attribute:",
        "in:",
        "eq:",
        "model: m@1.0.0",
        "{",
        "}",
        "[",
        "]",
        ",",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "&a",
        "*a",
        "100",
        "50.5",
        "-1",
        "1e400",
        ".inf",
        "~",
        "true",
        "\"x\"",
        "'",
        "!!str",
        "|",
        ">",
        "?",
        ":",
        "#",
        "segments:",
        "s",
        "a",
        "\u{feff}",
        "é",
        "\t",
        "\u{0}",
        "%YAML 1.2",
        "---",
        "...",
        "<<:",
    ];
    prop::sample::select(words.to_vec()).prop_map(str::to_owned)
}

fn survives(file: &str, text: &str) {
    match checked(file, text) {
        Err(problems) => {
            assert!(!problems.as_slice().is_empty());
            for problem in &problems {
                assert!(problem.line >= 1 && problem.column >= 1 && !problem.message.is_empty());
            }
            let _ = (problems.to_string(), serde_json::to_string(&problems).unwrap());
        }
        Ok(policy) => {
            let packages = packages(&policy);
            let options = lockgate_policy::CompileOptions { packages: &packages, ..Default::default() };
            if let Ok(bytes) = lockgate_policy::compile(&policy, &options) {
                crate::load(&bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text(text in any::<String>()) {
        survives("p.yaml", &text);
        survives("p.json", &text);
    }

    #[test]
    fn any_words(words in prop::collection::vec(fragment(), 0..60)) {
        let text = words.concat();
        survives("p.yaml", &text);
        survives("p.json", &text);
        survives("p.yaml", &words.join(" "));
    }

    #[test]
    fn the_example_with_a_piece_cut_out_or_put_elsewhere(from in any::<prop::sample::Index>(), len in 1_usize..80, to in any::<prop::sample::Index>(), word in fragment()) {
        let (_, rest) = POLICY.split_once("```yaml\n").unwrap();
        let yaml: Vec<char> = rest.split_once("```").unwrap().0.chars().collect();
        let start = from.index(yaml.len());
        let end = (start + len).min(yaml.len());
        let mut text: Vec<char> = yaml[..start].iter().chain(&yaml[end..]).copied().collect();
        survives("p.yaml", &text.iter().collect::<String>());
        let at = to.index(text.len());
        text.splice(at..at, yaml[start..end].iter().copied());
        survives("p.yaml", &text.iter().collect::<String>());
        text.splice(at..at, word.chars());
        survives("p.yaml", &text.iter().collect::<String>());
    }

    #[test]
    fn any_tree(tree in tree()) {
        survives("p.json", &tree.to_string());
        survives("p.yaml", &tree.to_string());
    }
}

/// JSON trees whose keys are those of policies.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let keys = [
        "lockgate",
        "version",
        "models",
        "segments",
        "layers",
        "routes",
        "variants",
        "default",
        "serve",
        "split",
        "rules",
        "if",
        "all",
        "not",
        "attribute",
        "eq",
        "in",
        "m@1.0.0",
        "name",
        "users",
        "unit",
        "signature",
        "inputs",
        "shape",
        "r",
        "v",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (0..101_u32).prop_map(Into::into),
        prop::sample::select(keys.to_vec()).prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let key = prop::sample::select(keys.to_vec()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}
