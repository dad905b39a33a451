//! The headers that mean something to every shell.

use std::borrow::Cow;
use std::time::Duration;

use lockgate_oip::{HEADER_LENGTH, Parameter};

use crate::Problem;

/// The header that says how many milliseconds a request may take.
pub const HEADER_TIMEOUT: &str = "x-request-timeout-ms";

/// The header in which an edge tells the origin what it decided: JSON in ASCII.
pub const HEADER_DECISION: &str = "x-lockgate-decision";

/// The headers of a request. Names are given in lower case.
pub trait Headers {
    /// The value of a header; the first, if it is given several times.
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>>;

    /// Whether a header is given several times. A platform that joins them with commas cannot tell.
    fn is_repeated(&self, _name: &str) -> bool {
        false
    }
}

/// Headers as a list of names and values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderList(pub Vec<(String, String)>);

impl Headers for HeaderList {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let found = self.0.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
    }

    fn is_repeated(&self, name: &str) -> bool {
        self.0.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name)).count() > 1
    }
}

impl From<&[(&str, &str)]> for HeaderList {
    fn from(headers: &[(&str, &str)]) -> Self {
        Self(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }
}

/// The text of a header; an empty one counts as absent.
///
/// # Errors
/// One that is not UTF-8 or given twice.
pub fn header_text(headers: &(impl Headers + ?Sized), name: &str) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = str::from_utf8(&value)
        .map_err(|_| Problem::bad_request("invalid_header", format!("the header {name} is not UTF-8")))?;
    if headers.is_repeated(name) {
        return Err(Problem::bad_request("invalid_header", format!("the header {name} is given twice")));
    }
    Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned))
}

/// The time that [`HEADER_TIMEOUT`] asks for.
///
/// # Errors
/// One that is no number of milliseconds.
pub fn header_timeout(headers: &(impl Headers + ?Sized)) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(HEADER_TIMEOUT) else { return Ok(None) };
    let millis =
        visible(&value).and_then(|text| text.trim().parse::<u64>().ok()).filter(|millis| *millis > 0);
    millis.map(|millis| Some(Duration::from_millis(millis))).ok_or_else(|| {
        Problem::bad_request(
            "invalid_header",
            format!("the header {HEADER_TIMEOUT} is not a number of milliseconds, 1 or more"),
        )
    })
}

/// The request parameter `timeout`, in microseconds as other servers of the protocol have it; 0 asks for the default.
///
/// # Errors
/// One that is no such number.
pub fn parameter_timeout(parameter: Option<&Parameter>) -> Result<Option<Duration>, Problem> {
    match parameter {
        None | Some(Parameter::Null | Parameter::Integer(0)) => Ok(None),
        Some(Parameter::Integer(micros)) if *micros > 0 => {
            Ok(Some(Duration::from_micros(micros.unsigned_abs())))
        }
        Some(other) => Err(Problem::bad_request(
            "invalid_parameter",
            format!("parameter `timeout`: expected a number of microseconds, found {}", other.describe()),
        )),
    }
}

/// How much of the body is JSON, where binary tensors follow it.
///
/// # Errors
/// A header that is no number.
pub fn header_length(headers: &(impl Headers + ?Sized)) -> Result<Option<usize>, Problem> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = visible(&value).and_then(|text| text.trim().parse().ok());
    length.map(Some).ok_or_else(|| {
        Problem::bad_request(
            "invalid_binary_data",
            "the header Inference-Header-Content-Length is not a number of bytes",
        )
    })
}

/// Visible ASCII.
fn visible(value: &[u8]) -> Option<&str> {
    str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')))
}
