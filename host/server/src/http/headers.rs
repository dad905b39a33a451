use std::borrow::Cow;

use axum::http::HeaderMap;
use lockgate_shell::Headers;

/// A request's headers, as `lockgate-shell` reads them.
pub(crate) struct RequestHeaders<'a>(pub(crate) &'a HeaderMap);

impl Headers for RequestHeaders<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.0.get(name).map(|value| Cow::Borrowed(value.as_bytes()))
    }

    fn is_repeated(&self, name: &str) -> bool {
        self.0.get_all(name).iter().nth(1).is_some()
    }
}
