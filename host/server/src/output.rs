//! The standard output and error of commands.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lockgate_policy::printable;
use serde::Serialize;

use crate::failure::Failure;

/// Prints `text`, which is for people, and a line break.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_exactly(&printable(text))
}

/// Prints a document to its last byte: only a terminal gets escapes for what would steer it.
pub(crate) fn print_document(text: &str) -> Result<(), Failure> {
    if std::io::stdout().is_terminal() { print(text) } else { print_exactly(text) }
}

fn print_exactly(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    written(out.write_all(text.as_bytes()).and_then(|()| {
        if !text.ends_with('\n') {
            out.write_all(b"\n")?;
        }
        out.flush()
    }))
}

/// Prints lines of JSON as they come, which may be millions.
pub(crate) fn print_lines(lines: impl Iterator<Item = Result<String, Failure>>) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in lines {
        written(writeln!(out, "{}", plain_json(&line?)))?;
    }
    written(out.flush())
}

/// A reader that has seen enough (`| head`) ends the program quietly.
fn written(result: std::io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new(format!("cannot write to the standard output: {error}"))),
    }
}

/// Prints a value as JSON for people and programs.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(format!("cannot write the answer as JSON: {error}")))?;
    print_json_text(&text)
}

/// Prints what is JSON already.
pub(crate) fn print_json_text(text: &str) -> Result<(), Failure> {
    print_exactly(&plain_json(text))
}

/// JSON without the characters that a terminal obeys and JSON leaves as they are: within texts they may be escapes as well.
fn plain_json(text: &str) -> String {
    let hidden =
        |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

/// Prints a failure to the standard error and gives the exit code.
pub(crate) fn fail(failure: &Failure, json: bool) -> ExitCode {
    if failure.message().is_empty() {
        return ExitCode::from(failure.exit_code());
    }
    let text = if json {
        let mut value = serde_json::json!({ "error": failure.message(), "hint": failure.hint_text() });
        if let Some(code) = failure.code_text() {
            value["code"] = code.into();
        }
        plain_json(&value.to_string())
    } else {
        let code = failure.code_text().map(|code| format!("[{code}]")).unwrap_or_default();
        let mut text = format!("error{code}: {}", failure.message());
        if let Some(hint) = failure.hint_text() {
            text.push_str("\nhint: ");
            text.push_str(hint);
        }
        printable(&text).into_owned()
    };
    // Nobody is left to tell when this fails.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
    ExitCode::from(failure.exit_code())
}

/// A note on the standard error, for people.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

/// A progress bar on the standard error; hidden unless that is a terminal and there is more than one step.
pub(crate) fn progress(steps: usize, what: &'static str) -> ProgressBar {
    if steps < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
        bar.set_style(style);
    }
    bar.with_message(what)
}

/// A spinner on the standard error while one long step runs; hidden unless that is a terminal.
pub(crate) fn spinner(what: String) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}
