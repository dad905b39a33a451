//! Both sides of the flat entry point against each other, and each against nonsense.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use lockgate_abi::{
    AttributeValue, Buffers, CompactDecision, ContextFields, DecideRequest, DecideRequestWriter,
    DecideResponseWriter, DecisionRecord, ErrorCode, Failure, Malformed, OutOfRangeRecord, PredictRequest,
    Reply, Response, ShadowRecord, TensorRecord, WARNING_LIMIT, write_failure, write_loaded,
    write_predict_request, write_predict_response,
};
use lockgate_package::{Datatype, Tensor};
use proptest::collection::vec;
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Context {
    route: String,
    others: [Option<String>; 5],
    attributes: Vec<(String, Attribute)>,
}

#[derive(Debug, Clone)]
enum Attribute {
    Text(String),
    Number(f64),
    Boolean(bool),
}

impl Context {
    fn fields(&self) -> ContextFields<'_> {
        let [user, symbol, tenant, session, variant] = self.others.each_ref().map(Option::as_deref);
        ContextFields { route: &self.route, user, symbol, tenant, session, variant }
    }

    fn attributes(&self) -> impl Iterator<Item = (&str, AttributeValue<'_>)> + Clone {
        self.attributes.iter().map(|(name, value)| {
            let value = match value {
                Attribute::Text(text) => AttributeValue::Text(text),
                Attribute::Number(number) => AttributeValue::Number(*number),
                Attribute::Boolean(boolean) => AttributeValue::Boolean(*boolean),
            };
            (name.as_str(), value)
        })
    }
}

fn contexts() -> impl Strategy<Value = Vec<Context>> {
    let text = || prop::option::of(".{0,9}");
    let value = prop_oneof![
        ".{0,12}".prop_map(Attribute::Text),
        (-1e9..1e9_f64).prop_map(Attribute::Number),
        any::<bool>().prop_map(Attribute::Boolean),
    ];
    let context = (".{0,12}", [text(), text(), text(), text(), text()], vec((".{0,6}", value), 0..4))
        .prop_map(|(route, others, attributes)| Context { route, others, attributes });
    vec(context, 0..5)
}

fn decide_request(contexts: &[Context], now_ms: i64, unavailable: &[[u8; 32]]) -> Vec<u8> {
    let mut out = vec![0xEE; 7];
    let mut writer = DecideRequestWriter::new(&mut out, now_ms);
    for context in contexts {
        writer.context(&context.fields(), context.attributes()).unwrap();
    }
    writer.finish(unavailable).unwrap();
    out
}

fn sample_context() -> Context {
    Context {
        route: "eurusd".to_owned(),
        others: [Some("alice".to_owned()), None, Some(String::new()), None, Some("canary".to_owned())],
        attributes: vec![
            ("country".to_owned(), Attribute::Text("DE".to_owned())),
            ("risk".to_owned(), Attribute::Number(0.5)),
            ("beta".to_owned(), Attribute::Boolean(true)),
        ],
    }
}

fn sample_decision() -> DecisionRecord<'static> {
    DecisionRecord {
        compact: CompactDecision {
            reason: 4,
            step: 8,
            bucket: Some(83_211),
            route_index: 3,
            variant_index: 1,
            ..CompactDecision::default()
        },
        placement: 1,
        variant: "canary",
        model: "eurusd_gb",
        version: "1.1.0",
        layer: Some("eurusd"),
        payload: Some("{\"threshold\":0.5}"),
        package: [7; 32],
        ..DecisionRecord::default()
    }
}

/// A decision in which everything is there.
fn rich_decision() -> DecisionRecord<'static> {
    DecisionRecord {
        compact: CompactDecision {
            step: 9,
            unit_missing: true,
            holdout: true,
            washout: true,
            unavailable: true,
            intended_index: Some(255),
            target_index: Some(70_000),
            bucket: None,
            stage: Some(0),
            window: Some(41),
            shadow_mask: 0b1010,
            ..sample_decision().compact
        },
        rule: Some("r"),
        tenant: Some("acme"),
        user: Some(""),
        intended: Some("ö"),
        ..sample_decision()
    }
}

fn sample_shadows() -> [ShadowRecord<'static>; 2] {
    let shadow = ShadowRecord {
        number: 1,
        name: "new",
        variant_index: 2,
        variant: "next",
        model: "eurusd_lstm",
        version: "2.0.0",
        placement: 2,
        package: [9; 32],
        rate: 10,
        concurrency: 2,
        bytes: 1 << 20,
        deadline_ms: 1000,
    };
    [shadow, ShadowRecord { number: 3, name: "", rate: 0, ..shadow }]
}

fn decide_response() -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = DecideResponseWriter::new(&mut out, 9, &[1; 32]);
    writer.decision(&sample_decision(), [].into_iter()).unwrap();
    writer.unknown_route().unwrap();
    writer.decision(&rich_decision(), sample_shadows().into_iter()).unwrap();
    writer.finish().unwrap();
    out
}

fn compact_response() -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = DecideResponseWriter::compact(&mut out, 9, &[1; 32], 3).unwrap();
    writer.compact_decision(&sample_decision().compact).unwrap();
    writer.compact_unknown_route().unwrap();
    writer.compact_decision(&rich_decision().compact).unwrap();
    writer.finish().unwrap();
    out
}

fn sample_tensors() -> Vec<Tensor> {
    vec![
        Tensor::fp32("input", vec![2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        Tensor {
            name: "words".to_owned(),
            datatype: Datatype::Bytes,
            shape: vec![2],
            data: b"\x02\0\0\0hi\0\0\0\0".to_vec(),
        },
        Tensor { name: String::new(), datatype: Datatype::Bool, shape: vec![], data: vec![1] },
    ]
}

fn predict_response(tensors: &[Tensor], warnings: &[OutOfRangeRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    write_predict_response(&mut out, &[5; 32], tensors.iter().map(Tensor::view), warnings.iter().copied())
        .unwrap();
    out
}

fn done(bytes: &[u8]) -> Response<'_> {
    match Reply::read(bytes, 0) {
        Ok(Reply::Done(response)) => response,
        other => panic!("{other:?}"),
    }
}

/// Reads everything that a response may hold, whichever kind it is.
fn read_all(memory: &[u8], address: u32) -> Result<(), Malformed> {
    if let Reply::Done(response) = Reply::read(memory, address)? {
        let decisions = match response.compact_decisions() {
            Ok(mut decisions) => decisions.try_for_each(|decision| decision.map(|_| ())),
            Err(_) => response.decisions().try_for_each(|decision| decision.map(|_| ())),
        };
        let tensors = response.outputs().try_for_each(|tensor| tensor?.to_tensor().map(|_| ()));
        let warnings = response.out_of_range().map(|_| ());
        decisions.and(tensors).and(warnings)?;
    }
    Ok(())
}

fn parse_all(request: &[u8]) {
    if let Ok(request) = DecideRequest::parse(request) {
        for context in request.contexts().flatten() {
            for (name, _) in context.attributes() {
                context.attribute(name);
            }
            context.attribute("nowhere");
        }
    }
    if let Ok(request) = PredictRequest::parse(request) {
        for tensor in request.inputs().flatten() {
            let _ = tensor.to_tensor();
        }
        request.options().for_each(drop);
    }
}

proptest! {
    #[test]
    fn contexts_cross_unchanged(contexts in contexts(), now in any::<i64>(), unavailable in vec(any::<[u8; 32]>(), 0..3)) {
        let bytes = decide_request(&contexts, now, &unavailable);
        let request = DecideRequest::parse(&bytes).unwrap();
        prop_assert_eq!(request.now_ms, now);
        prop_assert_eq!(request.unavailable, &unavailable[..]);
        let read: Vec<_> = request.contexts().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(read.len(), contexts.len());
        for (read, context) in read.iter().zip(&contexts) {
            prop_assert_eq!(read.fields, context.fields());
            prop_assert!(read.attributes().eq(context.attributes()));
            if let Some((name, first)) = context.attributes().next() {
                prop_assert_eq!(read.attribute(name), Some(first));
            }
        }
    }

    #[test]
    fn tensors_cross_unchanged(
        shapes in vec((".{0,8}", vec(0..4_i64, 0..4), any::<f32>()), 0..4),
        warnings in vec((any::<u32>(), any::<u32>(), -1e9..1e9_f64), 0..4),
        options in vec((".{0,5}", ".{0,5}"), 0..3),
    ) {
        let tensors: Vec<Tensor> = shapes
            .into_iter()
            .map(|(name, shape, value)| {
                let count = shape.iter().product::<i64>() as usize;
                Tensor::fp32(name, shape, &vec![value; count])
            })
            .collect();
        let views: Vec<_> = tensors.iter().map(Tensor::view).collect();
        let options: Vec<_> = options.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut out = Vec::new();
        write_predict_request(&mut out, 4, &views, &options).unwrap();
        let request = PredictRequest::parse(&out).unwrap();
        prop_assert_eq!(request.model, 4);
        for (read, tensor) in request.inputs().zip(&tensors) {
            let read = read.unwrap();
            prop_assert_eq!((read.data.as_ptr().addr() - out.as_ptr().addr()) % 16, 0);
            let read = read.to_tensor().unwrap();
            prop_assert_eq!(&read.data, &tensor.data);
            prop_assert_eq!((&read.name, &read.shape), (&tensor.name, &tensor.shape));
        }
        prop_assert_eq!(request.inputs().count(), tensors.len());
        prop_assert_eq!(request.options().collect::<Result<Vec<_>, _>>().unwrap(), options);

        let warnings: Vec<_> =
            warnings.into_iter().map(|(row, feature, value)| OutOfRangeRecord { row, feature, value }).collect();
        let out = predict_response(&tensors, &warnings);
        let response = done(&out);
        prop_assert_eq!(response.digest, [5; 32]);
        prop_assert_eq!(response.out_of_range().unwrap(), warnings);
        let data: Vec<_> = response.outputs().map(|tensor| tensor.unwrap().to_tensor().unwrap().data).collect();
        prop_assert_eq!(data, tensors.into_iter().map(|tensor| tensor.data).collect::<Vec<_>>());
    }

    #[test]
    fn nonsense_is_an_error_and_never_a_panic(bytes in vec(any::<u8>(), 0..400), address in 0..500_u32) {
        parse_all(&bytes);
        let _ = read_all(&bytes, address);
    }

    #[test]
    fn damaged_messages_never_panic(at in any::<prop::sample::Index>(), value in prop_oneof![any::<u8>(), Just(0), Just(255)], cut in any::<prop::sample::Index>()) {
        let request = decide_request(&[sample_context(), sample_context()], 1, &[[3; 32]]);
        let mut predict = Vec::new();
        let tensors = sample_tensors();
        let views: Vec<_> = tensors.iter().map(Tensor::view).collect();
        write_predict_request(&mut predict, 0, &views, &[("a", "b")]).unwrap();
        let warning = OutOfRangeRecord { row: 1, feature: 2, value: 3.0 };
        let responses = [decide_response(), compact_response(), predict_response(&tensors, &[warning])];
        for mut message in [request, predict].into_iter().chain(responses) {
            let at = at.index(message.len());
            message[at] = value;
            parse_all(&message);
            let _ = read_all(&message, 0);
            message.truncate(cut.index(message.len()));
            parse_all(&message);
            let _ = read_all(&message, 0);
        }
    }
}

#[test]
fn decisions_cross_unchanged() {
    let bytes = decide_response();
    let response = done(&bytes);
    assert_eq!((response.count, response.bundle_version, response.digest), (3, 9, [1; 32]));
    let decisions: Vec<_> = response.decisions().collect::<Result<_, _>>().unwrap();
    let [Some((first, none)), None, Some((second, shadows))] = &decisions[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!((*first, *second), (sample_decision(), rich_decision()));
    assert_eq!(none.clone().count(), 0);
    assert_eq!(shadows.clone().collect::<Result<Vec<_>, _>>().unwrap(), sample_shadows());
}

#[test]
fn compact_decisions_cross_unchanged() {
    let bytes = compact_response();
    assert_eq!(bytes.len(), 64 + 3 * 32);
    let response = done(&bytes);
    assert!(response.is_compact());
    let decisions: Vec<_> = response.compact_decisions().unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(decisions, [Some(sample_decision().compact), None, Some(rich_decision().compact)]);
    let wrong = response.decisions().next().unwrap().unwrap_err().to_string();
    assert_eq!(wrong, "the decisions are compact, at byte 56");
    let full = decide_response();
    let wrong = done(&full).compact_decisions().err().unwrap().to_string();
    assert_eq!(wrong, "the decisions are not compact, at byte 56");
}

#[test]
fn a_shell_says_which_form_it_wants() {
    for (compact, flags) in [(false, 0), (true, 1)] {
        let mut out = Vec::new();
        let writer = DecideRequestWriter::new(&mut out, 7);
        let writer = if compact { writer.compact() } else { writer };
        writer.finish(&[]).unwrap();
        assert_eq!(out[12..16], [flags, 0, 0, 0]);
        assert_eq!(DecideRequest::parse(&out).unwrap().compact, compact);
    }
}

/// What ABI 1.0 wrote: no form, a fixed part of 112 bytes, and strings behind it.
#[test]
fn decisions_of_the_first_version_are_read() {
    let mut out = vec![0; 64 + 120];
    for (at, value) in [(0, 64), (4, 184), (12, 1), (64, 120), (88, 112), (92, 1), (96, 113), (104, 113)] {
        out[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    out[72..75].copy_from_slice(&[1, 1, 8]);
    out[64 + 112..].copy_from_slice(b"v\xff\xff\xff\xff\xff\xff\xff");
    let response = done(&out);
    let decisions: Vec<_> = response.decisions().collect::<Result<_, _>>().unwrap();
    let [Some((decision, shadows))] = &decisions[..] else { panic!("{decisions:?}") };
    assert_eq!((decision.variant, decision.model, decision.tenant), ("v", "", None));
    assert_eq!((decision.compact.stage, decision.compact.shadow_mask), (None, 0));
    assert_eq!(shadows.clone().count(), 0);
}

/// Strings may lie anywhere in a context's record, with anything between them.
#[test]
fn a_context_may_be_laid_out_otherwise() {
    let mut out = decide_request(&[sample_context()], 1, &[]);
    let size = u32::from_le_bytes(out[32..36].try_into().unwrap());
    // Bytes that are no UTF-8 behind the strings.
    out.extend_from_slice(&[0xff; 8]);
    let len = out.len() as u32;
    out[4..8].copy_from_slice(&len.to_le_bytes());
    out[32..36].copy_from_slice(&(size + 8).to_le_bytes());
    let context = DecideRequest::parse(&out).unwrap().contexts().next().unwrap().unwrap();
    assert_eq!(context.fields, sample_context().fields());
    assert!(context.attributes().eq(sample_context().attributes()));
    for (name, value) in sample_context().attributes() {
        assert_eq!(context.attribute(name), Some(value));
    }
    assert_eq!(context.attribute("x"), None);
}

#[test]
fn every_truncated_response_is_an_error() {
    for whole in [decide_response(), compact_response(), predict_response(&sample_tensors(), &[])] {
        assert_eq!(read_kind(&whole), Ok(()));
        for len in 0..whole.len() {
            assert!(read_kind(&whole[..len]).is_err(), "cut at {len}");
        }
    }
    fn read_kind(bytes: &[u8]) -> Result<(), Malformed> {
        match Reply::read(bytes, 0)? {
            Reply::Done(response) if response.is_compact() => {
                response.compact_decisions()?.try_for_each(|d| d.map(drop))
            }
            Reply::Done(response) if response.bundle_version == 9 => {
                response.decisions().try_for_each(|d| d.map(drop))
            }
            Reply::Done(response) => response.outputs().try_for_each(|t| t?.to_tensor().map(drop)),
            Reply::Failed(failure) => panic!("{failure:?}"),
        }
    }
}

#[test]
fn failures_cross_unchanged_and_long_texts_are_cut() {
    for code in ErrorCode::ALL {
        assert_eq!(ErrorCode::from_number(code.number()), Some(code));
        let mut out = Vec::new();
        write_failure(&mut out, code, "what", "do this");
        let Ok(Reply::Failed(failure)) = Reply::read(&out, 0) else { panic!("{code:?}") };
        assert_eq!(failure, Failure { code, message: "what".to_owned(), hint: "do this".to_owned() });
    }
    assert_eq!(ErrorCode::from_number(0), None);
    assert_eq!(ErrorCode::from_number(17), None);
    let mut out = Vec::new();
    write_failure(&mut out, ErrorCode::Internal, &"ä".repeat(5000), "");
    let Ok(Reply::Failed(failure)) = Reply::read(&out, 0) else { panic!() };
    assert_eq!(failure.message, "ä".repeat(2048));
}

/// Changes one field of a good response and says which error that gives.
fn check_response(bytes: &[u8], at: usize, value: &[u8], problem: &str) {
    let mut bytes = bytes.to_vec();
    bytes[at..at + value.len()].copy_from_slice(value);
    let error = match Reply::read(&bytes, 0) {
        Err(error) => error,
        Ok(Reply::Done(response)) if response.bundle_version == 9 && response.is_compact() => {
            match response.compact_decisions() {
                Ok(mut decisions) => {
                    decisions.find_map(Result::err).unwrap_or_else(|| panic!("byte {at}: accepted"))
                }
                Err(error) => error,
            }
        }
        Ok(Reply::Done(response)) if response.bundle_version == 9 => {
            response.decisions().find_map(Result::err).unwrap_or_else(|| panic!("byte {at}: accepted"))
        }
        Ok(Reply::Done(response)) => response
            .outputs()
            .map(|tensor| tensor.and_then(|tensor: TensorRecord<'_>| tensor.to_tensor()))
            .find_map(Result::err)
            .or(response.out_of_range().err())
            .unwrap_or_else(|| panic!("byte {at}: accepted")),
        Ok(Reply::Failed(failure)) => panic!("{failure:?}"),
    };
    assert_eq!(error.to_string(), problem, "byte {at}");
}

#[test]
fn lies_in_a_response_are_named() {
    let decide = decide_response();
    let huge = &[0xff, 0xff, 0xff, 0x7f];
    check_response(
        &decide,
        0,
        &[8, 0, 0, 0],
        "the response's header_size or total_size is too small, at byte 0",
    );
    check_response(&decide, 4, huge, "the response's total_size reaches beyond the memory, at byte 0");
    check_response(&decide, 8, &[99, 0, 0, 0], "the status is no error code of this ABI, at byte 8");
    check_response(&decide, 12, &[9, 0, 0, 0], "a field lies outside its record, at byte 864");
    check_response(
        &decide,
        64,
        &[4, 0, 0, 0],
        "a record's size is too small or no multiple of 8, at byte 64",
    );
    check_response(&decide, 68, &[1, 0, 0, 0], "a decision's status is none of this ABI, at byte 68");
    check_response(
        &decide,
        72,
        &[7],
        "a decision's reason, placement or step is none of this ABI, at byte 72",
    );
    check_response(&decide, 432 + 104, huge, "an offset or length points outside the message, at byte 592");
    check_response(
        &decide,
        592 + 4,
        &[4],
        "a decision's reason, placement or step is none of this ABI, at byte 596",
    );
    check_response(
        &decide,
        592 + 24,
        huge,
        "an offset or length points outside the message, at byte 2147484079",
    );
    let compact = compact_response();
    check_response(&compact, 12, huge, "an offset or length points outside the message, at byte 64");
    check_response(&compact, 64, &[1], "a decision's status is none of this ABI, at byte 64");
    check_response(
        &compact,
        65,
        &[7],
        "a decision's reason, placement or step is none of this ABI, at byte 65",
    );
    check_response(&compact, 60, &[31], "the decisions are not compact, at byte 56");
    check_response(&decide, 88, huge, "an offset or length points outside the message, at byte 2147483711");
    check_response(&decide, 224, &[0xff], "a string is not UTF-8, at byte 224");

    let warning = OutOfRangeRecord { row: 1, feature: 2, value: 3.0 };
    let predict = predict_response(&sample_tensors(), &[warning]);
    check_response(&predict, 56, huge, "more warnings than a response may list, at byte 56");
    check_response(&predict, 68, &[14, 0, 0, 0], "a datatype is none of this ABI, at byte 68");
    check_response(&predict, 80, &[1], "a tensor's data are not aligned to 16 bytes, at byte 80");
    check_response(&predict, 84, huge, "an offset or length points outside the message, at byte 224");
    check_response(&predict, 96, &[3], "a tensor's data do not fit its shape, at byte 64");
    check_response(&predict, 103, &[0x80], "a dimension is negative, at byte 96");
}

#[test]
fn a_response_may_lie_anywhere_in_the_memory_but_not_beyond() {
    let mut memory = vec![0; 64];
    memory.extend(decide_response());
    assert!(matches!(Reply::read(&memory, 64), Ok(Reply::Done(response)) if response.count == 3));
    let outside = "the response lies outside the memory, at byte";
    for address in [memory.len() as u32 - 63, memory.len() as u32 + 1, u32::MAX] {
        assert_eq!(Reply::read(&memory, address).unwrap_err().to_string(), format!("{outside} {address}"));
    }
}

#[test]
fn headers_and_records_may_grow() {
    let mut out = decide_response();
    out.splice(64..64, [0xAB; 8]);
    out[0] = 72;
    let len = out.len() as u32;
    out[4..8].copy_from_slice(&len.to_le_bytes());
    let first = done(&out).decisions().next().unwrap().unwrap().unwrap().0;
    assert_eq!(first, sample_decision());
    let mut out = compact_response();
    for record in [160, 128, 96] {
        out.splice(record..record, [0xAB; 8]);
    }
    let len = out.len() as u32;
    out[4..8].copy_from_slice(&len.to_le_bytes());
    out[60] = 40;
    let decisions: Vec<_> = done(&out).compact_decisions().unwrap().collect();
    assert_eq!(decisions[2], Ok(Some(rich_decision().compact)));
}

#[test]
fn loads_are_answered_with_handle_and_digest() {
    let mut out = Vec::new();
    write_loaded(&mut out, 3, 0, &[8; 32]);
    let response = done(&out);
    assert_eq!((response.count, response.digest), (3, [8; 32]));
}

#[test]
fn at_most_so_many_warnings_are_written() {
    let warning = OutOfRangeRecord { row: 0, feature: 0, value: 0.0 };
    let out = predict_response(&[], &vec![warning; WARNING_LIMIT + 5]);
    assert_eq!(done(&out).out_of_range().unwrap().len(), WARNING_LIMIT);
}

#[test]
fn buffers_keep_their_place_until_more_is_asked_for() {
    let mut buffers = Buffers::default();
    assert!(buffers.request(1).is_none());
    let Ok(Reply::Failed(failure)) = Reply::read(&buffers.output, 0) else { panic!() };
    assert_eq!(failure.code, ErrorCode::MalformedRequest);
    let first = buffers.reserve(1);
    assert_eq!(first % 64, 0);
    assert_eq!(buffers.reserve(65_536), first);
    assert_eq!(buffers.request(65_536).map(|(input, _)| input.len()), Some(65_536));
    assert!(buffers.request(65_537).is_none());
    buffers.reserve(100_000);
    assert_eq!(buffers.take(99_999).map(|bytes| bytes.len()), Some(99_999));
    assert!(buffers.take(1).is_none(), "what was taken is gone");
}
