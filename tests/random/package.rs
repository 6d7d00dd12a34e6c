//! Random programs as files.

use std::borrow::Cow;
use std::collections::BTreeMap;

use coreml_anywhere::model::{
    ArrayFeature, Dim, Feature, FeatureKind, Interface, Limits, Metadata, NewContent, NewModel, Package, Program,
    ReadError, ShapeConstraint, TensorType, ValueId, ValueType,
};
use coreml_anywhere::tensor::DType;

use crate::builder::Case;

/// A model file and the weight file that it refers to.
pub(crate) struct Parts {
    pub(crate) model: Vec<u8>,
    pub(crate) weights: Vec<u8>,
}

pub(crate) const WEIGHTS: &str = "@model_path/weights/weight.bin";

impl Parts {
    pub(crate) fn open(&self) -> Result<Package, ReadError> {
        read(&self.model, Some(&self.weights))
    }
}

pub(crate) fn read(model: &[u8], weights: Option<&[u8]>) -> Result<Package, ReadError> {
    let blobs = weights.map(|weights| BTreeMap::from([(WEIGHTS.to_owned(), weights.to_vec())]));
    Package::from_parts(model, blobs, &Limits::default())
}

fn feature(case: &Case, id: ValueId) -> Option<Feature> {
    let value = case.function.value(id);
    let array = |ty: &TensorType| {
        let shape = ty.dims.iter().map(|dim| if let Dim::Fixed(size) = *dim { size } else { 0 });
        ArrayFeature { dtype: ty.dtype, shape: shape.collect(), constraint: ShapeConstraint::Fixed, default: None }
    };
    let kind = match &value.ty {
        // Features have no type for a truth value, and an axis at least.
        ValueType::Tensor(ty) if ty.dtype != DType::Bool && !ty.dims.is_empty() => FeatureKind::MultiArray(array(ty)),
        ValueType::State(ty) => FeatureKind::State(array(ty)),
        _ => return None,
    };
    Some(Feature { name: value.name.to_string(), description: String::new(), kind, optional: false })
}

/// The program as a model, with those outputs that a model can have; `None` if there are none.
pub(crate) fn packaged(case: &Case) -> Option<(Program, Parts)> {
    let mut function = case.function.clone();
    function.body.outputs.retain(|&id| feature(case, id).is_some());
    if function.body.outputs.is_empty() {
        return None;
    }
    let features = |ids: &[ValueId]| ids.iter().filter_map(|&id| feature(case, id)).collect::<Vec<_>>();
    let (states, inputs) =
        features(&function.inputs).into_iter().partition(|feature| matches!(feature.kind, FeatureKind::State(_)));
    let outputs = features(&function.body.outputs);
    let interface = Interface { inputs, outputs, states, predicted_feature: None, predicted_probabilities: None };
    let program = Program { functions: BTreeMap::from([("main".to_owned(), function)]) };
    let model = NewModel {
        content: NewContent::Program(Cow::Borrowed(&program)),
        interfaces: BTreeMap::from([("main".to_owned(), &interface)]),
        default_function: "main".to_owned(),
        metadata: Metadata::default(),
    };
    let (model, weights) = model.to_parts().unwrap();
    Some((program, Parts { model, weights }))
}
