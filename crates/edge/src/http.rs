//! A request as it came, an answer as it goes, and which endpoint is meant.

use std::borrow::Cow;

use lockgate_shell::{Headers, Problem};

/// A request, its body read.
pub struct Request<'a> {
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// The path, still percent-encoded, without the query.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a dyn Headers,
    /// The body; one byte more than [`max_body`](crate::Settings::max_body) is enough of one that is longer.
    pub body: &'a [u8],
}

/// When, and what names things: there is no clock and no randomness in here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970-01-01T00:00Z.
    pub now_ms: i64,
    /// Random bytes, new for each request.
    pub random: [u8; 16],
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// An answer in JSON.
    pub(crate) fn json(status: u16, value: &impl serde::Serialize) -> Self {
        // Values of this crate have string keys and finite numbers; writing them into a vector cannot fail.
        let body = serde_json::to_vec(value).unwrap_or_default();
        Self { status, headers: vec![("content-type".to_owned(), "application/json".to_owned())], body }
    }

    /// What a caller is told instead of an answer, with the request's `id` where it is known.
    pub fn problem(problem: &Problem, id: Option<String>) -> Self {
        let mut response = Self::json(problem.status, &problem.message(id));
        if let Some(seconds) = problem.retry_after_seconds() {
            response.set("retry-after", seconds.to_string());
        }
        if problem.status == 401 {
            response.set("www-authenticate", "Bearer");
        }
        response
    }

    /// Adds a header.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.headers.push((name.to_owned(), value.into()));
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }
}

/// What a path and a method ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Health,
    Server,
    Live,
    Ready,
    Metadata(Name),
    ModelReady(Name),
    Infer(Name),
}

/// A route, and the version that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) route: String,
    pub(crate) version: Option<String>,
}

impl Endpoint {
    /// Whether it needs no identity.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self, Self::Health | Self::Server | Self::Live | Self::Ready)
    }

    pub(crate) fn of(method: &str, path: &str) -> Result<Self, Problem> {
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        let endpoint = match parts.as_slice() {
            ["health"] => Self::Health,
            ["v2"] | ["v2", ""] => Self::Server,
            ["v2", "health", "live"] => Self::Live,
            ["v2", "health", "ready"] => Self::Ready,
            ["v2", "models", route, rest @ ..] if !route.is_empty() => {
                let (version, rest) = match rest {
                    ["versions", version, rest @ ..] if !version.is_empty() => (Some(*version), rest),
                    rest => (None, rest),
                };
                let name = || {
                    let version = version.map(decode).transpose()?;
                    Ok::<Name, Problem>(Name { route: decode(route)?, version })
                };
                match rest {
                    [] => Self::Metadata(name()?),
                    ["ready"] => Self::ModelReady(name()?),
                    ["infer"] => Self::Infer(name()?),
                    _ => return Err(Problem::not_found(path)),
                }
            }
            _ => return Err(Problem::not_found(path)),
        };
        let is_infer = matches!(endpoint, Self::Infer(_));
        let fits = if is_infer { method == "POST" } else { matches!(method, "GET" | "HEAD") };
        if fits {
            return Ok(endpoint);
        }
        Err(Problem::method_not_allowed(path, method, if is_infer { "POST" } else { "GET" }))
    }
}

/// Takes the percent-encoding off a part of a path.
fn decode(part: &str) -> Result<String, Problem> {
    if !part.contains('%') {
        return Ok(part.to_owned());
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let escaped = match tail.first_chunk::<2>() {
            Some(digits) if *first == b'%' => {
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).is_ok().then_some(byte[0])
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).map_err(|_| Problem::invalid_path())
}

/// Refuses a body that is compressed.
pub(crate) fn plain(headers: &dyn Headers) -> Result<(), Problem> {
    match headers.get("content-encoding") {
        Some(encoding) if encoding.as_ref() != b"identity" => Err(Problem::unsupported_encoding(&encoding)),
        _ => Ok(()),
    }
}

/// A header's value as text, what is no UTF-8 replaced.
pub(crate) fn lossy(headers: &dyn Headers, name: &str) -> Option<String> {
    headers.get(name).map(|value| match value {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_endpoints() {
        let name = |route: &str, version: Option<&str>| Name {
            route: route.to_owned(),
            version: version.map(str::to_owned),
        };
        let check = |method: &str, path: &str| {
            Endpoint::of(method, path).map_err(|problem| (problem.status, problem.code))
        };
        assert_eq!(check("GET", "/v2"), Ok(Endpoint::Server));
        assert_eq!(check("GET", "/v2/"), Ok(Endpoint::Server));
        assert_eq!(check("GET", "/v2/health/live"), Ok(Endpoint::Live));
        assert_eq!(check("GET", "/v2/models/a"), Ok(Endpoint::Metadata(name("a", None))));
        assert_eq!(check("GET", "/v2/models/a%20b/ready"), Ok(Endpoint::ModelReady(name("a b", None))));
        assert_eq!(
            check("POST", "/v2/models/a/versions/m%401.0.0/infer"),
            Ok(Endpoint::Infer(name("a", Some("m@1.0.0"))))
        );
        assert_eq!(check("GET", "/v2/models/a/infer"), Err((405, "method_not_allowed")));
        assert_eq!(check("POST", "/health"), Err((405, "method_not_allowed")));
        for path in
            ["/", "", "/v2/models", "/v2/models/", "/v2/models/a/", "/v2/models/a/b", "/v2/models/a/versions"]
        {
            assert_eq!(check("GET", path), Err((404, "not_found")), "{path}");
        }
        assert_eq!(check("GET", "/v2/models/%ff"), Err((400, "invalid_path")));
        assert_eq!(decode("%zz%4"), Ok("%zz%4".to_owned()), "what is no escape stays");
    }
}
