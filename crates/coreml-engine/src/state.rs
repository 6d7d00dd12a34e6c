//! The states of a model: arrays that survive between predictions.

use crate::value::{Buffer, Type};

/// The states of one function, zero at first. Predictions that share them run one after another.
#[derive(Debug, Clone, Default)]
pub struct States {
    pub(crate) arrays: Vec<State>,
}

#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) elements: Buffer,
}

impl States {
    pub(crate) fn zeros(types: impl IntoIterator<Item = (String, Type)>) -> Self {
        let array = |(name, ty): (String, Type)| State { name, ty, elements: Buffer::with_len(ty.count()) };
        Self { arrays: types.into_iter().map(array).collect() }
    }

    /// Names and elements of the states, as `f32` in row-major order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.arrays.iter().map(|s| (s.name.as_str(), s.ty.shape.dims(), &s.elements.floats()[..s.ty.count()]))
    }
}
