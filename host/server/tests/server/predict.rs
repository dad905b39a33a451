//! `lockgate predict`: a package on rows from a file, in the core.

use serde_json::Value;

use crate::harness::{core, lockgate, output, packages, root, rows};

/// Exit code, standard output, standard error.
pub(crate) fn predict(arguments: &[&str]) -> (i32, String, String) {
    let core = core(false);
    let output = lockgate(&[&["predict", "--core", core.to_str().unwrap()], arguments].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn rows_from_a_file_are_predicted() {
    let package = format!("{}/eurusd_lr-1.0.0.lgp", packages());
    let csv = root().join("examples/eurusd/data/rows.csv");
    let (code, table, notes) = predict(&[&package, "--input", csv.to_str().unwrap()]);
    assert_eq!(code, 0, "{notes}");
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some("output_label,output_probability.down,output_probability.up"));
    let recorded =
        std::fs::read_to_string(root().join("examples/eurusd/data/answers/eurusd_lr.csv")).unwrap();
    // The first 19 rows are history, which has no recorded answers.
    for (line, expected) in lines.skip(19).zip(recorded.lines().skip(1)) {
        let cells = |line: &str| -> Vec<f64> { line.split(',').map(|cell| cell.parse().unwrap()).collect() };
        for (have, want) in cells(line).iter().zip(cells(expected)) {
            assert!((have - want).abs() <= 1e-5, "{line} against {expected}");
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.json");
    std::fs::write(&file, serde_json::to_vec(&rows(2)).unwrap()).unwrap();
    let (code, answer, notes) = predict(&[&package, "--json", "--input", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{notes}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["model_name"], "eurusd_lr");
    assert_eq!(output(&answer, "output_probability")["shape"], serde_json::json!([2, 2]));
    assert_eq!(answer["parameters"]["inference_core"].as_str().unwrap().len(), 64);
}

#[test]
fn wrong_rows_and_packages_are_refused() {
    let package = format!("{}/eurusd_lr-1.0.0.lgp", packages());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let check = |package: &str, input: &str, text: &str| {
        let (code, answer, error) = predict(&[package, "--input", input]);
        assert_eq!((code, answer.as_str()), (1, ""));
        assert!(error.starts_with("error: ") && error.contains(text), "{error}");
    };
    check(&package, &file("short.json", "[[1, 2]]"), "17");
    check(&package, &file("nan.csv", &format!("{}nan\n", "1,".repeat(16))), "hint: ");
    check(&package, &file("none.json", "nothing"), "the body is not JSON");
    check(&package, "/nowhere.csv", "cannot read /nowhere.csv");
    check(&file("no.lgp", "no package"), &file("rows.csv", "1\n"), "the first bytes are not `LOCKGATE`");
}
