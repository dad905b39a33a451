//! The world `inference-core`.

use std::cell::RefCell;

use lockgate_package::AlignedBytes;

use self::bindings::exports::lockgate::core::inference::{
    Datatype, Error, Guest, GuestModel, GuestPrediction, GuestTensor, GuestTensorSpec, Model, OutOfRange,
    Prediction, Tensor, TensorBorrow, TensorSpec,
};
use self::bindings::exports::lockgate::core::types::ErrorCode;

#[expect(unsafe_code, reason = "the canonical ABI, as wit-bindgen generates it")]
mod bindings {
    use super::Component;

    wit_bindgen::generate!({ path: "../../wit", world: "inference-core" });
    export!(Component);
}

struct Component;

impl Guest for Component {
    type Tensor = OwnedTensor;
    type TensorSpec = OwnedTensorSpec;
    type Prediction = OwnedPrediction;
    type Model = OwnedModel;
}

struct OwnedTensor(lockgate_package::Tensor);

impl GuestTensor for OwnedTensor {
    fn new(name: String, datatype: Datatype, shape: Vec<i64>, data: Vec<u8>) -> Self {
        Self(lockgate_package::Tensor { name, datatype: from_wit(datatype), shape, data })
    }

    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn datatype(&self) -> Datatype {
        to_wit(self.0.datatype)
    }

    fn shape(&self) -> Vec<i64> {
        self.0.shape.clone()
    }

    fn data(&self) -> Vec<u8> {
        self.0.data.clone()
    }
}

struct OwnedTensorSpec(lockgate_package::TensorSpec);

impl GuestTensorSpec for OwnedTensorSpec {
    fn name(&self) -> String {
        self.0.name.clone()
    }

    fn datatype(&self) -> Datatype {
        to_wit(self.0.datatype)
    }

    fn shape(&self) -> Vec<i64> {
        self.0.shape.clone()
    }
}

struct OwnedPrediction(lockgate_inference::Prediction);

impl GuestPrediction for OwnedPrediction {
    fn outputs(&self) -> Vec<Tensor> {
        self.0.outputs.iter().map(|output| Tensor::new(OwnedTensor(output.clone()))).collect()
    }

    fn out_of_range(&self) -> Vec<OutOfRange> {
        let warning = |warning: &lockgate_inference::OutOfRange| OutOfRange {
            row: warning.row,
            feature: warning.feature,
            value: warning.value,
        };
        self.0.out_of_range.iter().take(lockgate_abi::WARNING_LIMIT).map(warning).collect()
    }
}

enum OwnedModel {
    /// Loaded through this world.
    Loaded(Box<RefCell<lockgate_inference::Model>>),
    /// One of those that the module was baked with, by its handle.
    Baked(usize),
}

impl OwnedModel {
    fn with<R>(&self, ask: impl FnOnce(&mut lockgate_inference::Model) -> R) -> R {
        crate::flat::with_models(|baked| {
            let mut loaded;
            let model = match self {
                Self::Loaded(model) => {
                    loaded = model.borrow_mut();
                    Some(&mut *loaded)
                }
                Self::Baked(handle) => baked.get_mut(*handle),
            };
            match model {
                Some(model) => ask(model),
                // A handle is given out when there is a package for it, and an instance never loses one.
                None => std::process::abort(),
            }
        })
    }

    fn manifest<R>(&self, ask: impl FnOnce(&lockgate_package::Manifest) -> R) -> R {
        self.with(|model| ask(model.manifest()))
    }
}

impl GuestModel for OwnedModel {
    fn load(bytes: Vec<u8>) -> Result<Model, Error> {
        let model = crate::load(AlignedBytes::copy_of(&bytes))?;
        Ok(Model::new(Self::Loaded(Box::new(RefCell::new(model)))))
    }

    fn baked() -> Vec<Model> {
        let count = crate::flat::with_models(|baked| baked.len());
        (0..count).map(|handle| Model::new(Self::Baked(handle))).collect()
    }

    fn name(&self) -> String {
        self.manifest(|manifest| manifest.model.clone())
    }

    fn version(&self) -> String {
        self.manifest(|manifest| manifest.version.clone())
    }

    fn digest(&self) -> Vec<u8> {
        self.with(|model| model.digest().0.to_vec())
    }

    fn inputs(&self) -> Vec<TensorSpec> {
        self.manifest(|manifest| specs(&manifest.signature.inputs))
    }

    fn outputs(&self) -> Vec<TensorSpec> {
        self.manifest(|manifest| specs(&manifest.signature.outputs))
    }

    fn features(&self) -> Vec<String> {
        self.manifest(|manifest| manifest.features.iter().map(|feature| feature.name.clone()).collect())
    }

    fn predict(
        &self,
        inputs: Vec<TensorBorrow<'_>>,
        options: Vec<(String, String)>,
    ) -> Result<Prediction, Error> {
        let options = options.iter().map(|(name, value)| Ok((name.as_str(), value.as_str())));
        let contributions = crate::options(options)?;
        let inputs: Vec<_> = inputs.iter().map(|input| input.get::<OwnedTensor>().0.view()).collect();
        #[cfg(feature = "fault")]
        if let Some(mark) = crate::mark(inputs.iter().map(|input| (input.datatype, input.data))) {
            mark.act();
        }
        let prediction = self.with(|model| crate::predict(model, &inputs, contributions))?;
        Ok(Prediction::new(OwnedPrediction(prediction)))
    }
}

fn specs(specs: &[lockgate_package::TensorSpec]) -> Vec<TensorSpec> {
    specs.iter().map(|spec| TensorSpec::new(OwnedTensorSpec(spec.clone()))).collect()
}

macro_rules! datatypes {
    ($($wit:ident),*) => {
        fn to_wit(datatype: lockgate_package::Datatype) -> Datatype {
            match datatype {
                $(lockgate_package::Datatype::$wit => Datatype::$wit),*
            }
        }

        fn from_wit(datatype: Datatype) -> lockgate_package::Datatype {
            match datatype {
                $(Datatype::$wit => lockgate_package::Datatype::$wit),*
            }
        }
    };
}

datatypes!(Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Fp32, Fp64, Bytes);

lockgate_abi::wit_errors!(Error, ErrorCode);
