//! Asking the inference module.

use lockgate_abi::{Malformed, Reply, Response, TooLarge, write_predict_request};
use lockgate_package::plan::explain::{CONTRIBUTIONS, Contributions};
use lockgate_package::{Digest, Tensor, TensorView};
use lockgate_shell::{Execution, OutOfRange, RequestError};

use crate::catalog::{Catalog, PackageEntry};
use crate::core::{Core, CoreFault};
use crate::decide::Buffers;

/// What a version said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Predicted {
    pub(crate) outputs: Vec<Tensor>,
    pub(crate) out_of_range: Vec<OutOfRange>,
    pub(crate) execution: Option<Execution>,
}

/// Runs a package that the core holds.
pub(crate) fn run(
    core: &mut dyn Core,
    buffers: &mut Buffers,
    catalog: &Catalog,
    package: &Digest,
    inputs: &[Tensor],
    contributions: Contributions,
) -> Result<Predicted, RequestError> {
    let unknown = || RequestError::UnknownPackage { package: *package };
    let entry = catalog.packages.get(package).ok_or_else(unknown)?;
    let handle = core.handle(package).ok_or_else(unknown)?;
    let module = format!("inference ({}@{})", entry.model, entry.version);
    let views: Vec<TensorView<'_>> = inputs.iter().map(Tensor::view).collect();
    let option = contributions.value().map(|value| (CONTRIBUTIONS, value));
    if let Err(TooLarge) = write_predict_request(&mut buffers.request, handle, &views, option.as_slice()) {
        return Err(RequestError::no_room("send fewer rows at once"));
    }
    let called = core.predict(&buffers.request, &mut buffers.response);
    let result =
        called.and_then(|()| match Reply::read(&buffers.response, 0).map_err(CoreFault::Malformed)? {
            Reply::Failed(failure) => Ok(Err(RequestError::reported(&module, failure))),
            Reply::Done(response) => read(&response, package, entry).map(Ok).map_err(CoreFault::Malformed),
        });
    match result {
        Ok(Ok((outputs, out_of_range))) => {
            let execution =
                Execution { engine: entry.engine, core: core.inference_identity(), mock: entry.mock };
            Ok(Predicted { outputs, out_of_range, execution: Some(execution) })
        }
        Ok(Err(error)) => Err(error),
        Err(fault) => {
            if fault.is_fatal() {
                core.drop_inference();
            }
            Err(fault.into_error(&module, "predicting", "send fewer rows at once"))
        }
    }
}

fn read(
    response: &Response<'_>,
    package: &Digest,
    entry: &PackageEntry,
) -> Result<(Vec<Tensor>, Vec<OutOfRange>), Malformed> {
    if response.digest != package.0 {
        return Err(Malformed { problem: "another package answered", at: 24 });
    }
    let outputs = response.outputs().map(|output| output?.to_tensor()).collect::<Result<Vec<_>, _>>()?;
    let out_of_range = OutOfRange::read(response, |index| entry.features.get(index).map(String::as_str))?;
    Ok((outputs, out_of_range))
}
