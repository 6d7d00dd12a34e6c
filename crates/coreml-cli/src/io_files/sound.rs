//! Turns sound files into the arrays that models take.

use std::io::Read;

use coreml_anywhere::model::{ArrayFeature, Feature, FeatureKind, ShapeConstraint};
use coreml_anywhere::tensor::{Shape, Tensor};
use hound::{SampleFormat, WavReader};

use super::resample::resample;
use crate::failure::Failure;

/// How a recording is converted for a model.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sound {
    /// Samples per second; the file's own by default.
    pub(crate) rate: Option<u32>,
    /// Whether silence is added if the model takes more samples.
    pub(crate) pad: bool,
}

/// The sample rates that are accepted.
pub(crate) const RATES: std::ops::RangeInclusive<u32> = 1_000..=768_000;

impl Sound {
    /// A `.wav` file as numbers from -1 to 1, its channels averaged, in the shape of `feature`.
    pub(super) fn read(self, source: impl Read, feature: Option<&Feature>, file: &str) -> Result<Tensor, Failure> {
        let failed = |error: hound::Error| match error {
            hound::Error::Unsupported => Failure::file(
                format!("cannot read {file}"),
                "its samples are coded in another way than as whole (PCM) or floating-point numbers",
            ),
            error => Failure::file(format!("cannot read {file}"), error),
        };
        let reader = WavReader::new(source).map_err(failed)?;
        let rate = reader.spec().sample_rate;
        let samples = mono(reader).map_err(failed)?;
        let samples = match self.rate {
            Some(wanted) if wanted != rate => {
                if !RATES.contains(&rate) {
                    let told = format!("it has {rate} samples a second");
                    return Err(Failure::file(format!("cannot resample {file}"), told));
                }
                resample(&samples, rate, wanted)
            }
            _ => samples,
        };
        let shape = match feature {
            Some(Feature { name, kind: FeatureKind::MultiArray(array), .. }) => {
                let refused = |told| Failure::invalid_input(format!("{file}: `{name}`: {told}"));
                self.shape(array, samples.len()).map_err(refused)?
            }
            // Whoever checks the inputs will say what is wrong with the name or the type.
            _ => vec![samples.len()],
        };
        let failed = |error: String| Failure::file(format!("cannot read {file}"), error);
        let shape = Shape::try_new(&shape).map_err(|error| failed(error.to_string()))?;
        let mut samples = samples;
        samples.resize(shape.count(), 0.0);
        Tensor::new(shape, samples).map_err(|error| failed(error.to_string()))
    }

    /// The shape that so many samples are given: axes of one, and then theirs.
    fn shape(self, array: &ArrayFeature, count: usize) -> Result<Vec<usize>, String> {
        let along = |shape: &[usize]| match shape.split_last() {
            Some((&last, before)) if before.iter().all(|&size| size == 1) => Some(last),
            _ => None,
        };
        let told =
            |shape: &[usize]| format!("it takes an array of shape {shape:?}, which is not one of samples in a row");
        let fitting = |length: usize| length == count || self.pad && length > count;
        let row = |length: usize, rank: usize| {
            let mut shape = vec![1; rank];
            shape[rank - 1] = length;
            shape
        };
        match &array.constraint {
            ShapeConstraint::Range(ranges) => {
                let Some((last, before)) = ranges.split_last() else { return Err(told(&array.shape)) };
                if !before.iter().all(|range| range.contains(1)) {
                    return Err(told(&array.shape));
                }
                let length = if self.pad { count.max(last.min) } else { count };
                if !last.contains(length) {
                    let most = last.max.map_or_else(|| "any number".to_owned(), |max| max.to_string());
                    return Err(self.advice(count, last.min, &format!("{} to {most} samples", last.min)));
                }
                Ok(row(length, ranges.len()))
            }
            ShapeConstraint::Enumerated(shapes) => {
                let lengths: Vec<_> = shapes.iter().filter_map(|shape| Some((along(shape)?, shape.len()))).collect();
                match lengths.iter().copied().filter(|&(length, _)| fitting(length)).min() {
                    Some((length, rank)) => Ok(row(length, rank)),
                    None if lengths.is_empty() => Err(told(&array.shape)),
                    None => {
                        let most = lengths.iter().map(|&(length, _)| length).max().unwrap_or(0);
                        let lengths: Vec<_> = lengths.iter().map(|(length, _)| length.to_string()).collect();
                        Err(self.advice(count, most, &format!("{} samples", lengths.join(" or "))))
                    }
                }
            }
            _ => {
                let length = along(&array.shape).ok_or_else(|| told(&array.shape))?;
                if fitting(length) {
                    return Ok(row(length, array.shape.len()));
                }
                Err(self.advice(count, length, &format!("{length} samples")))
            }
        }
    }

    /// Why so many samples are refused where so many could be padded to, and what may help.
    fn advice(self, count: usize, padded: usize, taken: &str) -> String {
        let rate = if self.rate.is_none() { "; --sample-rate HZ resamples" } else { "" };
        let pad = if count < padded { "; --pad adds silence at the end" } else { "" };
        format!("it takes {taken}, the file has {count}{rate}{pad}")
    }
}

/// All samples from -1 to 1, the channels averaged.
fn mono(reader: WavReader<impl Read>) -> Result<Vec<f32>, hound::Error> {
    let spec = reader.spec();
    let channels = usize::from(spec.channels.max(1));
    let samples: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.into_samples::<f32>().collect::<Result<_, _>>()?,
        SampleFormat::Int => {
            let scale = 0.5f32.powi(i32::from(spec.bits_per_sample) - 1);
            reader
                .into_samples::<i32>()
                .map(|sample| Ok(sample? as f32 * scale))
                .collect::<Result<_, hound::Error>>()?
        }
    };
    Ok(samples.chunks_exact(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect())
}
