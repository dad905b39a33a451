//! The lines of one request, checked.

use lockgate_shell::record::{self, Line};
use serde::Serialize;

use super::seen::Fingerprint;

/// The most lines of a request.
pub(crate) const MAX_LINES: usize = 10_000;

/// What a request brought.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The lines that are records, in order.
    pub(super) lines: Vec<BatchLine>,
    /// The others.
    pub(crate) refused: Vec<RefusedLine>,
}

/// A line as it will stand in a file, if its id is new.
#[derive(Debug)]
pub(super) struct BatchLine {
    pub(super) id: Fingerprint,
    pub(super) text: Vec<u8>,
    /// What an emitter lost: shell, cause, count.
    pub(super) lost: Vec<(String, String, u64)>,
}

/// A line that is no record, and never will be.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct RefusedLine {
    /// Its number, from 1.
    line: usize,
    /// Stable, for programs.
    pub(crate) code: &'static str,
    /// For people.
    error: String,
}

impl Batch {
    /// Checks every line of `body`. `by` is the caller's name, `may_send` says for which routes it may send records; `None` where there
    /// are more than [`MAX_LINES`].
    pub(crate) fn read(
        body: &[u8],
        now_ms: i64,
        by: Option<&str>,
        may_send: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut batch = Self::default();
        let received = match by {
            Some(by) => serde_json::json!({ "time_ms": now_ms, "by": by }),
            None => serde_json::json!({ "time_ms": now_ms }),
        };
        let end = format!(",\"received\":{received}}}\n");
        for (text, line) in body.split(|byte| *byte == b'\n').zip(1..) {
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            if batch.lines.len() + batch.refused.len() == MAX_LINES {
                return None;
            }
            match check(text, &may_send) {
                Ok(read) => {
                    let id = Fingerprint::of(read.id());
                    let lost = match read {
                        Line::Decision(_) => Vec::new(),
                        Line::Drops(drops) => {
                            let shell = drops.shell;
                            drops
                                .dropped
                                .into_iter()
                                .map(|(cause, count)| (shell.clone(), cause, count))
                                .collect()
                        }
                    };
                    // A record is an object with fields, so what is added follows a field.
                    let object = text.strip_suffix(b"}").unwrap_or(text).trim_ascii_end();
                    batch.lines.push(BatchLine { id, text: [object, end.as_bytes()].concat(), lost });
                }
                Err((code, error)) => batch.refused.push(RefusedLine { line, code, error }),
            }
        }
        Some(batch)
    }
}

fn check(text: &[u8], may_send: &impl Fn(&str) -> bool) -> Result<Line, (&'static str, String)> {
    let read = record::read(text).map_err(|refusal| (refusal.code, refusal.message))?;
    if let Line::Decision(record) = &read
        && !may_send(&record.route)
    {
        return Err(("forbidden_route", "this API key may not send records of this route".to_owned()));
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str) -> String {
        format!(
            r#"{{"schema":1,"kind":"decision","id":"{id}","time_ms":1,"shell":"node","shell_version":"0","emitter":"e","route":"a","sample_rate":1,"row_count":0}}"#
        )
    }

    #[test]
    fn lines_are_kept_as_they_came_and_refused_by_number() {
        let body =
            format!("{}\n\n  {} \r\nnonsense\n{}", line("1"), line("2"), line("3").replace("\"a\"", "\"b\""));
        let batch = Batch::read(body.as_bytes(), 7, Some("a \"key\""), |route| route == "a").unwrap();
        let texts: Vec<_> = batch.lines.iter().map(|line| String::from_utf8_lossy(&line.text)).collect();
        assert_eq!(texts.len(), 2);
        for (text, id) in texts.iter().zip(["1", "2"]) {
            let start = line(id);
            let rest = text.strip_prefix(start.trim_end_matches('}')).unwrap();
            assert_eq!(rest, ",\"received\":{\"time_ms\":7,\"by\":\"a \\\"key\\\"\"}}\n");
        }
        let refused: Vec<_> = batch.refused.iter().map(|line| (line.line, line.code)).collect();
        assert_eq!(refused, [(4, "not_json"), (5, "forbidden_route")]);
    }

    #[test]
    fn there_is_a_most_of_lines() {
        assert!(Batch::read("x\n".repeat(MAX_LINES).as_bytes(), 0, None, |_| true).is_some());
        assert!(Batch::read("x\n".repeat(MAX_LINES + 1).as_bytes(), 0, None, |_| true).is_none());
    }
}
