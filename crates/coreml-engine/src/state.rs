//! The states of a model: arrays that survive between predictions.

use coreml_core::cast;
use coreml_tensor::{DType, Tensor, TensorView};

use crate::value::{Buffer, Kind, Type, load_tensor, try_store_tensor};

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

    /// A copy of the contents of the state `name`; half precision comes as `float32`. `None` if there is no such state,
    /// or no memory for the copy.
    pub fn read(&self, name: &str) -> Option<Tensor> {
        let state = self.arrays.iter().find(|state| state.name == name)?;
        try_store_tensor(&state.ty, &state.elements.floats()[..state.ty.count()]).ok()
    }

    /// Replaces the contents of the state `name`, converted to its type. Returns `false` and changes nothing if there is
    /// no such state, its number of elements differs, or there is no memory for the conversion.
    pub fn write(&mut self, name: &str, contents: TensorView<'_>) -> bool {
        let Some(state) = self.arrays.iter_mut().find(|state| state.name == name) else { return false };
        let dtype = match state.ty.kind {
            Kind::Float => DType::Float32,
            Kind::Int => DType::Int32,
            Kind::Bool => DType::Bool,
        };
        match cast(contents, dtype) {
            Some(numbers) if numbers.shape().count() == state.ty.count() => {
                load_tensor(numbers.view().data(), &mut state.elements);
                true
            }
            _ => false,
        }
    }

    /// Names and elements of the states, as `f32` in row-major order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[usize], &[f32])> {
        self.arrays.iter().map(|s| (s.name.as_str(), s.ty.shape.dims(), &s.elements.floats()[..s.ty.count()]))
    }
}

#[cfg(test)]
mod tests {
    use coreml_tensor::Shape;

    use super::*;

    #[test]
    fn contents_are_read_and_written_as_the_states_kind() {
        let ty = |kind| Type::new(kind, Shape::from([2]));
        let mut states = States::zeros([("f".into(), ty(Kind::Float)), ("n".into(), ty(Kind::Int))]);
        assert_eq!(states.read("f").unwrap().as_slice::<f32>(), Some(&[0.0, 0.0][..]));
        let given = Tensor::new(Shape::from([2]), vec![1.5f64, -3.0]).unwrap();
        assert!(states.write("f", given.view()) && states.write("n", given.view()));
        assert_eq!(states.read("f").unwrap().as_slice::<f32>(), Some(&[1.5, -3.0][..]));
        assert_eq!(states.read("n").unwrap().as_slice::<i32>(), Some(&[2, -3][..]));
        let long = Tensor::new(Shape::from([3]), vec![1.0f32; 3]).unwrap();
        assert!(!states.write("f", long.view()) && !states.write("x", given.view()));
        assert_eq!(states.read("f").unwrap().as_slice::<f32>(), Some(&[1.5, -3.0][..]));
        assert!(states.read("x").is_none());
    }
}
