//! What the cases of ONNX leave out; answers are those of onnxruntime 1.31 where nothing else is said.

use std::collections::BTreeMap;

use crate::{Attribute, Meter, Node, Tensor};

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|&text| text.to_owned()).collect()
}

fn node(operator: &str, opset: i64, attributes: Vec<(&str, Attribute)>) -> Node {
    let attributes: BTreeMap<String, Attribute> =
        attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let (domain, operator) = ("ai.onnx.ml".to_owned(), operator.to_owned());
    Node { domain, operator, opset, attributes, inputs: vec![None], ..Node::default() }
}

fn run(node: &Node, input: &Tensor) -> Result<Vec<Tensor>, String> {
    let kernel = node.kernel(&[None], &[]).map_err(|problem| problem.to_string())?;
    kernel(&[Some(input)], &mut Meter::new(1 << 20, 1 << 24)).map_err(|problem| problem.to_string())
}

#[track_caller]
fn refused(node: &Node, input: &Tensor, want: &str) {
    let problem = run(node, input).unwrap_err();
    assert!(problem.contains(want), "{problem}");
}

fn matrix(rows: usize, all: &[f32]) -> Tensor {
    Tensor::of([rows, all.len() / rows], all.to_vec()).unwrap()
}

#[track_caller]
fn close(found: &Tensor, want: &[f64]) {
    let found = found.doubles().unwrap();
    let near = |(x, y): (&f64, &f64)| (x - y).abs() < 1e-6 || x == y || (x.is_nan() && y.is_nan());
    assert!(found.len() == want.len() && found.iter().zip(want).all(near), "{found:?}");
}

/// One test at the root of a tree of opset 3, whose leaves vote −1 and 1.
fn stump(operator: &str, mode: &str, threshold: f32, more: Vec<(&str, Attribute)>) -> Node {
    let votes = if operator == "TreeEnsembleClassifier" { "class" } else { "target" };
    let mut node = node(operator, 3, more);
    let mut set = |name: &str, value| node.attributes.insert(name.to_owned(), value);
    set("nodes_treeids", Attribute::Ints(vec![0; 3]));
    set("nodes_nodeids", Attribute::Ints(vec![0, 1, 2]));
    set("nodes_featureids", Attribute::Ints(vec![0; 3]));
    set("nodes_modes", Attribute::Texts(texts(&[mode, "LEAF", "LEAF"])));
    set("nodes_values", Attribute::Floats(vec![threshold, 0.0, 0.0]));
    set("nodes_truenodeids", Attribute::Ints(vec![1, 0, 0]));
    set("nodes_falsenodeids", Attribute::Ints(vec![2, 0, 0]));
    set(&format!("{votes}_treeids"), Attribute::Ints(vec![0, 0]));
    set(&format!("{votes}_nodeids"), Attribute::Ints(vec![1, 2]));
    set(&format!("{votes}_ids"), Attribute::Ints(vec![0, 0]));
    set(&format!("{votes}_weights"), Attribute::Floats(vec![-1.0, 1.0]));
    node
}

#[test]
fn every_test_of_a_tree_treats_the_numbers_beside_its_threshold_and_nan() {
    let x =
        matrix(6, &[0.5_f32.next_down(), 0.5, 0.5_f32.next_up(), f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
    for (mode, threshold, want) in [
        ("BRANCH_LEQ", 0.5, [-1.0, -1.0, 1.0, 1.0, 1.0, -1.0]),
        ("BRANCH_LT", 0.5, [-1.0, 1.0, 1.0, 1.0, 1.0, -1.0]),
        ("BRANCH_GTE", 0.5, [1.0, -1.0, -1.0, 1.0, -1.0, 1.0]),
        ("BRANCH_GT", 0.5, [1.0, 1.0, -1.0, 1.0, -1.0, 1.0]),
        ("BRANCH_EQ", 0.5, [1.0, -1.0, 1.0, 1.0, 1.0, 1.0]),
        ("BRANCH_NEQ", 0.5, [-1.0, 1.0, -1.0, -1.0, -1.0, -1.0]),
        ("BRANCH_GT", f32::NAN, [1.0; 6]),
        ("BRANCH_GTE", f32::NAN, [1.0; 6]),
        ("BRANCH_LEQ", f32::NAN, [1.0; 6]),
        ("BRANCH_GTE", f32::NEG_INFINITY, [-1.0, -1.0, -1.0, 1.0, -1.0, -1.0]),
        ("BRANCH_LT", f32::NEG_INFINITY, [1.0; 6]),
    ] {
        let plain = stump("TreeEnsembleRegressor", mode, threshold, vec![("n_targets", Attribute::Int(1))]);
        let found = run(&plain, &x).unwrap();
        assert_eq!(found[0].doubles().unwrap(), want, "{mode} {threshold}");
        // In double precision the other walk answers.
        let wide = Tensor::of([6, 1], x.doubles().unwrap()).unwrap();
        assert_eq!(run(&plain, &wide).unwrap()[0].doubles().unwrap(), want, "{mode} {threshold}");
        let mut tracked = plain.clone();
        let tracks = Attribute::Ints(vec![1, 0, 0]);
        tracked.attributes.insert("nodes_missing_value_tracks_true".to_owned(), tracks);
        assert_eq!(run(&tracked, &x).unwrap()[0].doubles().unwrap()[3], -1.0, "{mode} {threshold}");
    }
}

#[test]
fn thresholds_in_double_precision_are_exact() {
    let mut tree = stump("TreeEnsembleRegressor", "BRANCH_LT", 0.0, vec![("n_targets", Attribute::Int(1))]);
    tree.attributes.remove("nodes_values");
    let values = Attribute::Tensor(Tensor::vector(vec![0.1_f64, 0.0, 0.0]));
    tree.attributes.insert("nodes_values_as_tensor".to_owned(), values);
    let x = Tensor::of([3, 1], vec![0.1_f64.next_down(), 0.1, f64::from(0.1_f32)]).unwrap();
    close(&run(&tree, &x).unwrap()[0], &[-1.0, 1.0, 1.0]);
    let single = matrix(2, &[0.1, 0.1_f32.next_down()]);
    close(&run(&tree, &single).unwrap()[0], &[1.0, -1.0]);
}

#[test]
fn two_classes_with_votes_for_the_first_one() {
    let labels = || ("classlabels_int64s", Attribute::Ints(vec![3, 8]));
    let x = matrix(2, &[0.0, 1.0]);
    let check = |more: Vec<(&str, Attribute)>, classes: &[i64], scores: &[f64]| {
        let mut all = vec![labels()];
        all.extend(more);
        let found = run(&stump("TreeEnsembleClassifier", "BRANCH_LEQ", 0.5, all), &x).unwrap();
        assert_eq!(found[0].integers().unwrap(), classes);
        close(&found[1], scores);
    };
    check(vec![], &[3, 8], &[1.0, -1.0, -1.0, 1.0]);
    let logistic = || ("post_transform", Attribute::Text("LOGISTIC".to_owned()));
    check(vec![logistic()], &[3, 8], &[0.731_058_6, 0.268_941_4, 0.268_941_4, 0.731_058_6]);
    check(vec![("base_values", Attribute::Floats(vec![2.5]))], &[8, 8], &[-1.5, 1.5, -3.5, 3.5]);
    // The second score is what nobody voted for, so its base value does not count.
    check(vec![("base_values", Attribute::Floats(vec![2.5, 7.0]))], &[8, 8], &[1.5, 0.0, 3.5, 0.0]);
    let probit = ("post_transform", Attribute::Text("PROBIT".to_owned()));
    let tree = stump("TreeEnsembleClassifier", "BRANCH_LEQ", 0.5, vec![labels(), probit]);
    refused(&tree, &x, "single score");
}

#[test]
fn trees_that_are_none_are_refused() {
    let tree = stump("TreeEnsembleRegressor", "BRANCH_LEQ", 0.5, vec![("n_targets", Attribute::Int(1))]);
    let x = matrix(1, &[0.0]);
    let check = |name: &str, value: Attribute, want: &str| {
        let mut damaged = tree.clone();
        damaged.attributes.insert(name.to_owned(), value);
        refused(&damaged, &x, want);
    };
    check("nodes_truenodeids", Attribute::Ints(vec![0, 0, 0]), "reached from below itself");
    check("nodes_truenodeids", Attribute::Ints(vec![7, 0, 0]), "does not exist");
    check(
        "nodes_modes",
        Attribute::Texts(texts(&["BRANCH_LEQ", "LEAF", "LEAVES"])),
        "`LEAVES` is not supported",
    );
    check("target_ids", Attribute::Ints(vec![0, 1]), "target 1 of 1");
    check("nodes_featureids", Attribute::Ints(vec![4, 0, 0]), "column 4 of 1");
    check("n_targets", Attribute::Int(1 << 50), "at most");
    check("post_transform", Attribute::Text("SIGMOID".to_owned()), "found `SIGMOID`");
}

#[test]
fn a_single_score_of_a_regressor_is_transformed_by_probit_only() {
    let x = matrix(2, &[0.25, 0.75]);
    let check = |node: &Node, want: &[f64]| close(&run(node, &x).unwrap()[0], want);
    for transform in ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"] {
        let post = || ("post_transform", Attribute::Text(transform.to_owned()));
        let is_probit = transform == "PROBIT";
        let probits: &[f64] = &[-0.674_574_2, 0.674_574_2];
        let linear = vec![("coefficients", Attribute::Floats(vec![1.0])), post()];
        check(&node("LinearRegressor", 1, linear), if is_probit { probits } else { &[0.25, 0.75] });
        let mut tree = stump("TreeEnsembleRegressor", "BRANCH_LEQ", 0.5, vec![post()]);
        tree.attributes.insert("n_targets".to_owned(), Attribute::Int(1));
        tree.attributes.insert("target_weights".to_owned(), Attribute::Floats(vec![0.25, 0.75]));
        check(&tree, if is_probit { probits } else { &[0.25, 0.75] });
        // A machine's score is never transformed.
        let machine = vec![
            ("coefficients", Attribute::Floats(vec![1.0])),
            ("rho", Attribute::Floats(vec![0.0])),
            post(),
        ];
        check(&node("SVMRegressor", 1, machine), &[0.25, 0.75]);
    }
}

/// Against the specification, which exchanges 1 and 2.
#[test]
fn post_transforms_have_the_numbers_that_onnxruntime_gives_them() {
    let votes = |targets: i64, transform: i64| {
        node(
            "TreeEnsemble",
            5,
            vec![
                ("tree_roots", Attribute::Ints(vec![0])),
                ("n_targets", Attribute::Int(targets)),
                ("nodes_featureids", Attribute::Ints(vec![0])),
                ("nodes_modes", Attribute::Tensor(Tensor::vector(vec![0_u8]))),
                ("nodes_splits", Attribute::Tensor(Tensor::vector(vec![0.5_f32]))),
                ("nodes_truenodeids", Attribute::Ints(vec![0])),
                ("nodes_trueleafs", Attribute::Ints(vec![1])),
                ("nodes_falsenodeids", Attribute::Ints(vec![1])),
                ("nodes_falseleafs", Attribute::Ints(vec![1])),
                ("leaf_targetids", Attribute::Ints(vec![0, targets - 1])),
                ("leaf_weights", Attribute::Tensor(Tensor::vector(vec![0.7_f32, 0.3]))),
                ("post_transform", Attribute::Int(transform)),
            ],
        )
    };
    let x = matrix(2, &[0.0, 1.0]);
    for (transform, two) in [
        (0, [0.7, 0.0, 0.0, 0.3]),
        (1, [0.668_187_7, 0.5, 0.5, 0.574_442_5]),
        (2, [0.668_187_7, 0.331_812_2, 0.425_557_4, 0.574_442_5]),
        (3, [1.0, 0.0, 0.0, 1.0]),
        (4, [0.524_445_9, f64::NEG_INFINITY, f64::NEG_INFINITY, -0.524_445_9]),
    ] {
        close(&run(&votes(2, transform), &x).unwrap()[0], &two);
        let one = if transform == 4 { [0.524_445_9, -0.524_445_9] } else { [0.7, 0.3] };
        close(&run(&votes(1, transform), &x).unwrap()[0], &one);
    }
}

/// Against the specification: onnxruntime cuts fractions off before it looks for a member of a large set.
#[test]
fn members_of_sets_are_compared_exactly() {
    let leaf = || Attribute::Ints(vec![1]);
    let ensemble = node(
        "TreeEnsemble",
        5,
        vec![
            ("tree_roots", Attribute::Ints(vec![0])),
            ("n_targets", Attribute::Int(1)),
            ("nodes_featureids", Attribute::Ints(vec![0])),
            ("nodes_modes", Attribute::Tensor(Tensor::vector(vec![6_u8]))),
            ("nodes_splits", Attribute::Tensor(Tensor::vector(vec![0.0_f64]))),
            ("membership_values", Attribute::Tensor(Tensor::vector(vec![2.0, 70.5, -0.0, f64::NAN]))),
            ("nodes_truenodeids", Attribute::Ints(vec![0])),
            ("nodes_trueleafs", leaf()),
            ("nodes_falsenodeids", Attribute::Ints(vec![1])),
            ("nodes_falseleafs", leaf()),
            ("leaf_targetids", Attribute::Ints(vec![0, 0])),
            ("leaf_weights", Attribute::Tensor(Tensor::vector(vec![0.1_f64, 0.2]))),
        ],
    );
    let x = Tensor::of([6, 1], vec![2.0, 2.000_000_000_1, 70.5, 0.0, f64::NAN, -2.0]).unwrap();
    let found = run(&ensemble, &x).unwrap();
    assert_eq!(found[0].elements::<f64>().unwrap(), [0.1, 0.2, 0.1, 0.1, 0.2, 0.2]);
    let empty = Tensor::of([0, 1], Vec::<f64>::new()).unwrap();
    assert_eq!(run(&ensemble, &empty).unwrap()[0].shape(), [0, 1]);
}

#[test]
fn linear_classifiers_take_the_first_of_equal_scores() {
    let classifier = |classes: &[&str], coefficients: &[f32], intercepts: &[f32], transform: &str| {
        node(
            "LinearClassifier",
            1,
            vec![
                ("classlabels_strings", Attribute::Texts(texts(classes))),
                ("coefficients", Attribute::Floats(coefficients.to_vec())),
                ("intercepts", Attribute::Floats(intercepts.to_vec())),
                ("post_transform", Attribute::Text(transform.to_owned())),
            ],
        )
    };
    let x = matrix(2, &[1.0, 0.0, -1.0, 0.0]);
    let three = classifier(&["a", "b", "c"], &[0.0, 0.0, 1.0, 0.0, 1.0, 0.0], &[0.0; 3], "SOFTMAX_ZERO");
    let found = run(&three, &x).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["b", "a"]);
    close(&found[1], &[0.0, 0.5, 0.5, 0.0, 0.5, 0.5]);
    let single = classifier(&["no", "yes"], &[1.0, 0.0], &[0.0], "NONE");
    let found = run(&single, &matrix(1, &[0.0, 9.0])).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["no"]);
    close(&found[1], &[1.0, 0.0]);
    refused(&three, &matrix(1, &[1.0, 2.0, 3.0]), "expected 2 columns, found 3");
}

#[test]
fn keys_are_found_by_value() {
    let encoder = |opset| {
        node(
            "LabelEncoder",
            opset,
            vec![
                ("keys_floats", Attribute::Floats(vec![0.0, f32::NAN, 1.5, 1.5])),
                ("values_strings", Attribute::Texts(texts(&["zero", "nan", "first", "second"]))),
            ],
        )
    };
    let x = Tensor::vector(vec![-0.0_f32, f32::NAN, 1.5, 1.5_f32.next_up()]);
    let found = run(&encoder(4), &x).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["zero", "nan", "first", "_Unused"]);
    let found = run(&encoder(2), &x).unwrap();
    assert_eq!(found[0].elements::<String>().unwrap(), ["zero", "_Unused", "first", "_Unused"]);
    refused(&encoder(4), &Tensor::vector(vec![1.5_f64]), "expected keys of the kind float, found double");
}

#[test]
fn a_long_label_takes_its_room_in_every_row() {
    let encoder = node(
        "LabelEncoder",
        4,
        vec![
            ("keys_int64s", Attribute::Ints(vec![])),
            ("values_strings", Attribute::Texts(Vec::new())),
            ("default_string", Attribute::Text("x".repeat(10_000))),
        ],
    );
    refused(&encoder, &Tensor::vector(vec![0_i64; 1_000]), "bytes of memory");
}

#[test]
fn norms_of_rows_that_overflow() {
    let normalizer = node("Normalizer", 1, vec![("norm", Attribute::Text("L2".to_owned()))]);
    let found = run(&normalizer, &matrix(3, &[1e20, 1.0, 1e-30, 0.0, -3.0, 4.0])).unwrap();
    close(&found[0], &[f64::NAN, 0.0, 1e-30, 0.0, -0.6, 0.8]);
}
