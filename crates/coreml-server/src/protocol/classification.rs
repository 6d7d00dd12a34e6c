//! The classification extension: the likeliest classes of an output, as strings `VALUE:INDEX` or `VALUE:INDEX:LABEL`.

use bytes::Bytes;
use coreml_anywhere::Value;

use super::Content;
use crate::refusal::Refusal;

/// The `most` likeliest classes, likeliest first: for each element of the first dimension where there are several.
///
/// # Errors
/// When the output has no numbers.
pub(crate) fn classes(name: &str, value: &Value, most: usize) -> Result<Content, Refusal> {
    match value {
        Value::Dictionary(entries) => {
            let values: Vec<f64> = entries.iter().map(|(_, value)| *value).collect();
            let told = largest(&values, most).into_iter().map(|index| {
                let (label, value) = &entries[index];
                format!("{value}:{index}:{label}")
            });
            let told: Vec<_> = told.map(Bytes::from).collect();
            Ok(Content::Strings(vec![told.len()], told))
        }
        Value::Tensor(tensor) if tensor.shape().count() > 0 => {
            let values = tensor.view().to_f64_vec();
            let batch = match *tensor.shape().dims() {
                [batch, _, ..] => Some(batch),
                _ => None,
            };
            let row = values.len() / batch.unwrap_or(1);
            let each = most.min(row);
            let told = values.chunks(row).flat_map(|row| {
                largest(row, most).into_iter().map(|index| Bytes::from(format!("{}:{index}", row[index])))
            });
            Ok(Content::Strings(batch.into_iter().chain([each]).collect(), told.collect()))
        }
        other => Err(Refusal::tensor(name, format!("is a {}, which has no classes", other.describe()))),
    }
}

/// The positions of the largest values, largest first; of equal ones the first. NaN comes last.
fn largest(values: &[f64], most: usize) -> Vec<usize> {
    let key = |index: &usize| if values[*index].is_nan() { f64::NEG_INFINITY } else { values[*index] };
    let mut positions: Vec<usize> = (0..values.len()).collect();
    positions.sort_by(|a, b| key(b).total_cmp(&key(a)));
    positions.truncate(most);
    positions
}

#[cfg(test)]
mod tests {
    use super::*;
    use coreml_anywhere::Label;
    use coreml_anywhere::tensor::Tensor;

    fn told(value: &Value, most: usize) -> (Vec<usize>, Vec<String>) {
        match classes("y", value, most).unwrap() {
            Content::Strings(shape, strings) => {
                (shape, strings.iter().map(|string| String::from_utf8(string.to_vec()).unwrap()).collect())
            }
            Content::Numbers(_) => unreachable!(),
        }
    }

    #[test]
    fn the_likeliest_come_first() {
        let tensor = Tensor::new([2, 3].into(), vec![0.25f32, 0.5, 0.25, f32::NAN, -1.0, 2.0]).unwrap();
        let (shape, strings) = told(&Value::Tensor(tensor), 2);
        assert_eq!((shape, strings), (vec![2, 2], ["0.5:1", "0.25:0", "2:2", "-1:1"].map(String::from).into()));
        let entries = [("cat", 0.25), ("dog", 0.75)].map(|(label, p)| (Label::String(label.into()), p));
        assert_eq!(
            told(&Value::Dictionary(entries.into()), 9),
            (vec![2], vec!["0.75:1:dog".into(), "0.25:0:cat".into()])
        );
        assert!(classes("y", &Value::String("a".into()), 1).is_err());
    }
}
