//! Outputs in memory that the caller already has.

use coreml_tensor::{Element, TensorView};

use crate::error::{Error, ErrorKind};
use crate::outputs::Outputs;

/// Where [`Session::predict_into`](crate::Session::predict_into) writes outputs.
///
/// ```
/// use coreml_core::Buffers;
///
/// let mut probabilities = [0f32; 1000];
/// let buffers = Buffers::new().tensor("probabilities", &mut probabilities);
/// # let _ = buffers;
/// ```
#[derive(Default)]
pub struct Buffers<'b>(Vec<(String, Writer<'b>)>);

type Writer<'b> = Box<dyn FnMut(TensorView<'_>) -> Result<(), String> + 'b>;

impl<'b> Buffers<'b> {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The multi-array or image output `name` goes to `buffer`, in row-major order. It must have as many elements, and of that
    /// type: `float32` for half precision.
    #[must_use]
    pub fn tensor<T: Element>(mut self, name: &str, buffer: &'b mut [T]) -> Self {
        let write = move |tensor: TensorView<'_>| {
            let values = tensor.as_slice::<T>().filter(|values| values.len() == buffer.len()).ok_or_else(|| {
                let (found, len) = (tensor.dtype(), buffer.len());
                format!("is a {found} tensor of shape {}, the buffer has {len} of {}", tensor.shape(), T::DTYPE)
            })?;
            buffer.copy_from_slice(values);
            Ok(())
        };
        self.0.push((name.to_owned(), Box::new(write)));
        self
    }

    /// Writes all of them.
    pub(crate) fn fill(&mut self, outputs: &Outputs) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(|(name, write)| {
            write(outputs.tensor(name)?.view()).map_err(|why| Error::feature(ErrorKind::InvalidInput, name, why))
        })
    }
}

/// The names.
impl std::fmt::Debug for Buffers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outputs::Value;
    use coreml_tensor::Tensor;

    #[test]
    fn outputs_are_written_where_they_fit() {
        let tensor = Tensor::new([2, 2].into(), vec![1.0f32, 2.0, 3.0, 4.0]).unwrap();
        let outputs = Outputs::new(vec![("y".into(), Value::Tensor(tensor))]);
        let mut right = [0f32; 4];
        Buffers::new().tensor("y", &mut right).fill(&outputs).unwrap();
        assert_eq!(right, [1.0, 2.0, 3.0, 4.0]);
        let mut short = [0f32; 3];
        let error = Buffers::new().tensor("y", &mut short).fill(&outputs).unwrap_err();
        assert_eq!(error.to_string(), "feature `y`: is a fp32 tensor of shape [2, 2], the buffer has 3 of fp32");
        let mut other = [0i32; 4];
        assert!(Buffers::new().tensor("y", &mut other).fill(&outputs).is_err());
        assert!(Buffers::new().tensor("z", &mut right).fill(&outputs).unwrap_err().to_string().contains("`y`"));
    }
}
