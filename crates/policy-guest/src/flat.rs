//! The flat entry point. A warm decision allocates nothing: the request is read where it lies, the bundle is used in
//! place, and the response goes into a buffer that is kept.

use std::cell::RefCell;

use lockgate_abi::{
    Buffers, CompactDecision, DecideRequest, DecideResponseWriter, DecisionRecord, ErrorCode, Malformed,
    ShadowRecord, TooLarge, write_failure, write_loaded,
};
use lockgate_package::AlignedBytes;
use lockgate_policy::{Bundle, Choice, Decision, ShadowView};

use crate::view::View;

#[derive(Default)]
struct State {
    buffers: Buffers,
    /// Unit lists that wait for their bundle.
    lists: Vec<AlignedBytes>,
    bundle: Option<Bundle>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

lockgate_abi::flat_exports!(lockgate_decide => decide);

/// Gives the bundle that this instance holds, through `lockgate_load` or from a baked image.
pub(crate) fn with_bundle<R>(use_it: impl FnOnce(Option<&Bundle>) -> R) -> R {
    STATE.with_borrow_mut(|state| use_it(state.bundle.as_ref()))
}

impl State {
    fn load(&mut self, len: usize) {
        let Some(bytes) = self.buffers.take(len) else { return };
        let output = &mut self.buffers.output;
        if self.bundle.is_some() {
            let hint = "make a new instance for another bundle";
            return write_failure(output, ErrorCode::AlreadyLoaded, "this instance holds a bundle", hint);
        }
        if crate::is_unit_list(&bytes) {
            // Its content is checked together with the bundle that names it.
            self.lists.push(bytes);
            let count = u32::try_from(self.lists.len()).unwrap_or(u32::MAX);
            return write_loaded(output, count, 0, &[0; 32]);
        }
        match crate::load(bytes, std::mem::take(&mut self.lists)) {
            Ok(bundle) => {
                write_loaded(output, 0, bundle.version(), &bundle.digest().0);
                self.bundle = Some(bundle);
            }
            Err(failure) => write_failure(output, failure.code, &failure.message, &failure.hint),
        }
    }

    fn loaded(&mut self, index: usize) {
        let output = &mut self.buffers.output;
        match self.bundle.as_ref().filter(|_| index == 0) {
            Some(bundle) => write_loaded(output, 0, bundle.version(), &bundle.digest().0),
            None => write_failure(output, ErrorCode::NotLoaded, "no bundle is loaded", ""),
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
        match answer(bundle, &request, output) {
            Ok(()) => {}
            Err(Refused::Malformed(error)) => {
                write_failure(output, ErrorCode::MalformedRequest, &error.to_string(), "");
            }
            Err(Refused::TooLarge) => {
                output.clear();
                let hint = "send fewer contexts at once";
                write_failure(output, ErrorCode::LimitExceeded, &TooLarge.to_string(), hint);
            }
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

/// Why a request gets no decisions.
enum Refused {
    Malformed(Malformed),
    TooLarge,
}

impl From<Malformed> for Refused {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

impl From<TooLarge> for Refused {
    fn from(TooLarge: TooLarge) -> Self {
        Self::TooLarge
    }
}

fn answer(bundle: &Bundle, request: &DecideRequest<'_>, output: &mut Vec<u8>) -> Result<(), Refused> {
    let (version, digest) = (bundle.version(), bundle.digest().0);
    let mut response = if request.compact {
        DecideResponseWriter::compact(output, version, &digest, request.context_limit())?
    } else {
        DecideResponseWriter::new(output, version, &digest)
    };
    let mut choice = Choice::EMPTY;
    request.each(|context| {
        match bundle.choose(&View::of_record(context), request.now_ms, request.unavailable, &mut choice) {
            Ok(()) if request.compact => response.compact_decision(&compact(&choice))?,
            Ok(()) => answer_in_full(&mut response, bundle, &choice)?,
            Err(_) if request.compact => response.compact_unknown_route()?,
            Err(_) => response.unknown_route()?,
        }
        Ok::<(), Refused>(())
    })?;
    Ok(response.finish()?)
}

#[inline(never)]
fn answer_in_full(
    response: &mut DecideResponseWriter<'_>,
    bundle: &Bundle,
    choice: &Choice,
) -> Result<(), TooLarge> {
    let decision = bundle.decision(choice);
    response.decision(&record(choice, &decision), shadows(&decision))
}

#[inline]
fn compact(choice: &Choice) -> CompactDecision {
    let some = |number: u32| (number != Choice::NONE).then_some(number);
    CompactDecision {
        reason: choice.reason.number(),
        step: choice.step,
        unit_missing: choice.flags & Choice::UNIT_MISSING != 0,
        holdout: choice.flags & Choice::HOLDOUT != 0,
        washout: choice.flags & Choice::WASHOUT != 0,
        unavailable: choice.flags & Choice::UNAVAILABLE != 0,
        route_index: choice.route,
        variant_index: choice.variant,
        intended_index: some(choice.intended),
        target_index: some(choice.target),
        bucket: some(choice.bucket),
        stage: some(choice.stage),
        window: some(choice.window),
        shadow_mask: choice.shadows,
    }
}

fn record<'a>(choice: &Choice, decision: &Decision<'a>) -> DecisionRecord<'a> {
    let (route, variant) = (decision.route(), decision.variant());
    DecisionRecord {
        compact: compact(choice),
        placement: variant.placement.number(),
        variant: variant.name,
        model: variant.model,
        version: variant.version,
        rule: decision.rule(),
        layer: decision.layer(),
        payload: variant.payload,
        package: variant.digest.0,
        tenant: route.tenant(),
        user: route.user(),
        intended: decision.intended().map(|variant| variant.name),
    }
}

fn shadows<'b>(decision: &Decision<'b>) -> impl Iterator<Item = ShadowRecord<'b>> + Clone + use<'b> {
    let (route, mask) = (decision.route(), decision.shadow_mask);
    let running =
        (0..u8::try_from(u32::BITS).unwrap_or(u8::MAX)).filter(move |number| mask >> number & 1 != 0);
    running.filter_map(move |number| Some(shadow(number, route.shadow(u32::from(number))?)))
}

fn shadow(number: u8, shadow: ShadowView<'_>) -> ShadowRecord<'_> {
    let ShadowView { name, variant, variant_index, limits, .. } = shadow;
    ShadowRecord {
        number,
        name,
        variant_index,
        variant: variant.name,
        model: variant.model,
        version: variant.version,
        placement: variant.placement.number(),
        package: variant.digest.0,
        rate: limits.rate,
        concurrency: limits.concurrency,
        bytes: limits.bytes,
        deadline_ms: limits.deadline_ms,
    }
}
