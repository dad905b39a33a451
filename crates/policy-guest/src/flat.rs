//! The flat entry point. A warm decision allocates nothing: the request is read where it lies, the bundle is used in
//! place, and the response goes into a buffer that is kept.

use std::cell::RefCell;

use lockgate_abi::{
    AttributeValue, Buffers, ContextRecord, DecideRequest, DecideResponseWriter, DecisionRecord, ErrorCode,
    TooLarge, write_failure, write_loaded,
};
use lockgate_policy::{Bundle, Context, Decision};

#[derive(Default)]
struct State {
    buffers: Buffers,
    bundle: Option<Bundle>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// The version of the flat entry point.
#[expect(unsafe_code, reason = "a shell finds the export by its name")]
#[unsafe(no_mangle)]
pub extern "C" fn lockgate_abi() -> u32 {
    lockgate_abi::VERSION
}

/// The address of the input buffer, of at least `len` bytes.
#[expect(unsafe_code, reason = "a shell finds the export by its name")]
#[unsafe(no_mangle)]
pub extern "C" fn lockgate_reserve(len: usize) -> usize {
    STATE.with_borrow_mut(|state| state.buffers.reserve(len))
}

/// Takes a bundle of `len` bytes from the input buffer.
#[expect(unsafe_code, reason = "a shell finds the export by its name")]
#[unsafe(no_mangle)]
pub extern "C" fn lockgate_load(len: usize) -> usize {
    STATE.with_borrow_mut(|state| {
        state.load(len);
        state.buffers.response()
    })
}

/// Answers a decide request of `len` bytes in the input buffer.
#[expect(unsafe_code, reason = "a shell finds the export by its name")]
#[unsafe(no_mangle)]
pub extern "C" fn lockgate_decide(len: usize) -> usize {
    STATE.with_borrow_mut(|state| {
        state.decide(len);
        state.answer(len)
    })
}

impl State {
    fn load(&mut self, len: usize) {
        let Some(bytes) = self.buffers.take(len) else { return };
        let output = &mut self.buffers.output;
        if self.bundle.is_some() {
            let hint = "make a new instance for another bundle";
            return write_failure(output, ErrorCode::AlreadyLoaded, "this instance holds a bundle", hint);
        }
        match crate::load(bytes) {
            Ok(bundle) => {
                write_loaded(output, 0, bundle.version(), &bundle.digest().0);
                self.bundle = Some(bundle);
            }
            Err(failure) => write_failure(output, failure.code, &failure.message, &failure.hint),
        }
    }

    fn decide(&mut self, len: usize) {
        let Some((request, output)) = self.buffers.request(len) else { return };
        let Some(bundle) = &self.bundle else {
            return write_failure(
                output,
                ErrorCode::NotLoaded,
                "no bundle is loaded",
                "call lockgate_load first",
            );
        };
        let request = match DecideRequest::parse(request) {
            Ok(request) => request,
            Err(error) => return write_failure(output, ErrorCode::MalformedRequest, &error.to_string(), ""),
        };
        let mut response = DecideResponseWriter::new(output, bundle.version(), &bundle.digest().0);
        for context in request.contexts() {
            let context = match context {
                Ok(context) => context,
                Err(error) => {
                    return write_failure(output, ErrorCode::MalformedRequest, &error.to_string(), "");
                }
            };
            let written = match bundle.decide(&Record(context), request.now_ms, request.unavailable) {
                Ok(decision) => response.decision(&record(&decision)),
                Err(_) => response.unknown_route(),
            };
            if written.is_err() {
                return too_large(output);
            }
        }
        if response.finish().is_err() {
            too_large(output);
        }
    }

    #[cfg(not(feature = "fault"))]
    fn answer(&self, _len: usize) -> usize {
        self.buffers.response()
    }

    /// The fault core: misbehaves on the first marked context.
    #[cfg(feature = "fault")]
    fn answer(&mut self, len: usize) -> usize {
        let mark = self.buffers.request(len).and_then(|(request, _)| {
            let contexts = DecideRequest::parse(request).ok()?.contexts();
            contexts.flatten().find_map(|context| lockgate_abi::fault::Mark::of_user(context.fields.user?))
        });
        let address = self.buffers.response();
        match mark {
            Some(mark) => {
                mark.act();
                mark.damage(&mut self.buffers.output, address)
            }
            None => address,
        }
    }
}

fn too_large(output: &mut Vec<u8>) {
    output.clear();
    write_failure(output, ErrorCode::LimitExceeded, &TooLarge.to_string(), "send fewer contexts at once");
}

fn record<'a>(decision: &Decision<'a>) -> DecisionRecord<'a> {
    DecisionRecord {
        reason: decision.reason.number(),
        placement: decision.placement.number(),
        step: decision.step.number(),
        unit_missing: decision.unit_missing,
        bucket: decision.bucket,
        route_index: decision.route_index,
        variant_index: decision.variant_index,
        variant: decision.variant,
        model: decision.model,
        version: decision.version,
        rule: decision.rule,
        layer: decision.layer,
        payload: decision.payload,
        package: decision.package.0,
    }
}

/// A context where it lies in the request.
struct Record<'a>(ContextRecord<'a>);

impl Context for Record<'_> {
    fn route(&self) -> &str {
        self.0.fields.route
    }

    fn user(&self) -> Option<&str> {
        self.0.fields.user
    }

    fn symbol(&self) -> Option<&str> {
        self.0.fields.symbol
    }

    fn tenant(&self) -> Option<&str> {
        self.0.fields.tenant
    }

    fn session(&self) -> Option<&str> {
        self.0.fields.session
    }

    fn attribute(&self, name: &str) -> Option<lockgate_policy::AttributeValue<'_>> {
        self.0.attribute(name).map(|value| match value {
            AttributeValue::Text(text) => lockgate_policy::AttributeValue::Text(text),
            AttributeValue::Number(number) => lockgate_policy::AttributeValue::Number(number),
            AttributeValue::Boolean(boolean) => lockgate_policy::AttributeValue::Boolean(boolean),
        })
    }
}
