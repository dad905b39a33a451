//! Pages that show what the program really prints: their files are written, their commands run, and their outputs compared.
//!
//! With `UPDATE_DOCS=1` the outputs are written into the pages instead.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a command prints, both streams together, and its exit code where that is not 0.
fn run(folder: &Path, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_lockgate")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {command}; }} 2>&1")])
        .current_dir(folder)
        .env("PATH", path)
        .env_remove("LOCKGATE_CORE")
        .output()
        .unwrap();
    let mut text = without_digests(&String::from_utf8(output.stdout).unwrap());
    if let Some(code) = output.status.code().filter(|code| *code != 0) {
        text.push_str(&format!("[exit code {code}]\n"));
    }
    text
}

/// Digests, and the sizes that go with them, change with every detail of a format.
fn without_digests(text: &str) -> String {
    let is_digest = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let (before, word) = rest.split_at(start);
        let (word, behind) =
            word.split_at(word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len()));
        let size = word.bytes().all(|byte| byte.is_ascii_digit()) && behind.starts_with(" bytes");
        out.push_str(before);
        out.push_str(if is_digest(word) || size { "…" } else { word });
        rest = behind;
    }
    out + rest
}

#[test]
fn the_tools_for_policies_print_what_their_page_shows() {
    check("docs/policy-tools.md", tempfile::tempdir().unwrap().path());
}

#[test]
fn packaging_prints_what_its_page_shows() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("examples/eurusd/models/eurusd_lr.onnx");
    std::fs::copy(model, folder.path().join("eurusd_lr.onnx")).unwrap();
    check("docs/packaging.md", folder.path());
}

/// Runs the commands of a page in a folder.
fn check(page: &str, folder: &Path) {
    let path = root().join(page);
    let before = std::fs::read_to_string(&path).unwrap();
    let mut after = String::new();
    let mut lines = before.lines().peekable();
    let mut file: Option<&str> = None;
    while let Some(line) = lines.next() {
        after.push_str(line);
        after.push('\n');
        if let Some(name) = line.strip_prefix("<!-- file: ").and_then(|rest| rest.strip_suffix(" -->")) {
            file = Some(name);
        }
        let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if language == "console" {
            for command in block.iter().filter_map(|line| line.strip_prefix("$ ")) {
                after.push_str(&format!("$ {command}\n{}", run(folder, command)));
            }
        } else {
            if let Some(name) = file.take() {
                std::fs::write(folder.join(name), block.join("\n") + "\n").unwrap();
            }
            block.iter().for_each(|line| after.push_str(&format!("{line}\n")));
        }
        after.push_str("```\n");
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &after).unwrap();
        return;
    }
    for (number, (shown, real)) in before.lines().zip(after.lines()).enumerate() {
        assert_eq!(shown, real, "{page}:{}; UPDATE_DOCS=1 writes what is printed now", number + 1);
    }
    assert_eq!(before, after);
}
