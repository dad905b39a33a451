//! The flat entry point.

use std::cell::RefCell;

use lockgate_abi::{
    Buffers, ErrorCode, Failure, Malformed, OutOfRangeRecord, PredictRequest, TooLarge, write_failure,
    write_loaded, write_predict_response,
};
use lockgate_inference::Model;
use lockgate_package::{Tensor, TensorView};
use smallvec::SmallVec;

#[derive(Default)]
struct State {
    buffers: Buffers,
    models: Vec<Model>,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

lockgate_abi::flat_exports!(lockgate_predict => predict);

/// Gives the packages that this instance holds, through `lockgate_load` or from a baked image, in the order of their handles.
pub(crate) fn with_models<R>(use_them: impl FnOnce(&mut [Model]) -> R) -> R {
    STATE.with_borrow_mut(|state| use_them(&mut state.models))
}

impl State {
    fn load(&mut self, len: usize) {
        let Some(bytes) = self.buffers.take(len) else { return };
        let output = &mut self.buffers.output;
        match crate::load(bytes) {
            Ok(model) => {
                // The memory ends long before there are 2³² packages in it.
                let handle = u32::try_from(self.models.len()).unwrap_or(u32::MAX);
                write_loaded(output, handle, 0, &model.digest().0);
                self.models.push(model);
            }
            Err(failure) => write_failure(output, failure.code, &failure.message, &failure.hint),
        }
    }

    fn loaded(&mut self, index: usize) {
        let output = &mut self.buffers.output;
        match (self.models.get(index), u32::try_from(index)) {
            (Some(model), Ok(handle)) => write_loaded(output, handle, 0, &model.digest().0),
            _ => write_failure(output, ErrorCode::NotLoaded, "no package was loaded under this handle", ""),
        }
    }

    fn predict(&mut self, len: usize) {
        let Some((request, output)) = self.buffers.request(len) else { return };
        if let Err(failure) = predict(&mut self.models, request, output) {
            write_failure(output, failure.code, &failure.message, &failure.hint);
        }
    }

    #[cfg(not(feature = "fault"))]
    fn answer(&self, _len: usize) -> usize {
        self.buffers.response()
    }

    /// The fault core: misbehaves on a marked input.
    #[cfg(feature = "fault")]
    fn answer(&mut self, len: usize) -> usize {
        let mark = self.buffers.request(len).and_then(|(request, _)| {
            let inputs = PredictRequest::parse(request).ok()?.inputs().collect::<Result<Vec<_>, _>>().ok()?;
            crate::mark(inputs.iter().map(|input| (input.datatype, input.data)))
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

fn predict(models: &mut [Model], request: &[u8], output: &mut Vec<u8>) -> Result<(), Failure> {
    let request = PredictRequest::parse(request).map_err(|error| malformed(&error))?;
    let contributions =
        crate::options(request.options().map(|option| option.map_err(|error| malformed(&error))))?;
    let model =
        usize::try_from(request.model).ok().and_then(|handle| models.get_mut(handle)).ok_or_else(|| {
            Failure {
                code: ErrorCode::UnknownModel,
                message: format!("no package was loaded under handle {}", request.model),
                hint: "take the handle from the response to lockgate_load".to_owned(),
            }
        })?;
    // Models have few inputs; what describes them stays on the stack. The first walk finds out whether all of them are well-formed.
    let mut dimensions: SmallVec<[i64; 6]> = SmallVec::new();
    for input in request.inputs() {
        for dimension in input.map_err(|error| malformed(&error))?.shape() {
            dimensions.push(dimension);
        }
    }
    let mut rest = dimensions.as_slice();
    let mut views: SmallVec<[TensorView<'_>; 2]> = SmallVec::new();
    for input in request.inputs().flatten() {
        let (shape, others) = rest.split_at(input.shape().len());
        rest = others;
        views.push(TensorView { name: input.name, datatype: input.datatype, shape, data: input.data });
    }
    let prediction = crate::predict(model, &views, contributions)?;
    let out_of_range = prediction.out_of_range.iter().map(|warning| OutOfRangeRecord {
        row: warning.row,
        feature: warning.feature,
        value: warning.value,
    });
    write_predict_response(
        output,
        &model.digest().0,
        prediction.outputs.iter().map(Tensor::view),
        out_of_range,
    )
    .map_err(|TooLarge| Failure {
        code: ErrorCode::LimitExceeded,
        message: TooLarge.to_string(),
        hint: "send fewer rows at once".to_owned(),
    })?;
    model.recycle(prediction);
    Ok(())
}

fn malformed(error: &Malformed) -> Failure {
    Failure { code: ErrorCode::MalformedRequest, message: error.to_string(), hint: String::new() }
}
