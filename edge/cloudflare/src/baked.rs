//! Where the policy comes from in a shell that fetches nothing: it is baked in.

use std::rc::Rc;

use worker::{Context, Env};

use crate::isolate::{Isolate, Loaded};

/// What serves.
#[expect(clippy::unused_async, reason = "a shell that fetches waits here")]
pub(crate) async fn ready(isolate: &Rc<Isolate>, _env: &Env, _context: &Context) -> Option<Rc<Loaded>> {
    isolate.loaded()
}

/// There is nothing to refresh.
pub(crate) async fn if_due(_isolate: &Isolate, _env: &Env) {}
