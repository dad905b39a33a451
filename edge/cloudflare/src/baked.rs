//! Where the policy comes from in a shell that fetches nothing: it is baked in.

use std::rc::Rc;

use worker::{Context, Env};

use crate::isolate::{Isolate, Loaded};

/// Nothing is ever waited for.
pub(crate) enum Wait {}

/// What serves.
pub(crate) fn ready(
    isolate: &Rc<Isolate>,
    _env: &Env,
    _context: &Context,
) -> Result<Option<Rc<Loaded>>, Wait> {
    Ok(isolate.loaded())
}

impl Wait {
    #[expect(clippy::unused_async, reason = "a shell that fetches waits here")]
    pub(crate) async fn over(
        self,
        _isolate: &Rc<Isolate>,
        _env: &Env,
        _context: &Context,
    ) -> Option<Rc<Loaded>> {
        match self {}
    }
}

/// There is nothing to refresh.
pub(crate) async fn if_due(_isolate: &Isolate, _env: &Env) {}
