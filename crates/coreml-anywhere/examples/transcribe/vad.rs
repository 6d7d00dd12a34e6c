//! Finds where somebody speaks, with Silero's network for voice activity, which takes 32 ms at a time.

use std::path::Path;

use coreml_anywhere::model::FeatureKind;
use coreml_anywhere::tensor::{Shape, TensorView};
use coreml_anywhere::{Inputs, Session};

use crate::Failure;

/// Samples from before a piece that the network sees with it.
const CONTEXT: usize = 64;
/// From this probability on it is speech.
const SPEECH: f32 = 0.5;

/// The network, and what it remembers of the sound so far.
pub(crate) struct Detector {
    session: Session,
    /// The last samples of the piece before, and the piece.
    samples: Vec<f32>,
    hidden: Vec<f32>,
    cell: Vec<f32>,
}

impl Detector {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let session = Session::builder().threads(1).open(path)?;
        let size = |name: &str| match session.interface().input(name).map(|feature| &feature.kind) {
            Some(FeatureKind::MultiArray(array)) => Ok(array.shape.iter().product()),
            _ => Err(format!("{} has no input {name}, as Silero's network has", path.display())),
        };
        let (samples, hidden, cell) = (size("audio_input")?, size("hidden_state")?, size("cell_state")?);
        if samples <= CONTEXT {
            return Err(format!("{} takes {samples} samples, which is too few", path.display()).into());
        }
        Ok(Self { samples: vec![0.0; samples], hidden: vec![0.0; hidden], cell: vec![0.0; cell], session })
    }

    /// Samples that are looked at together.
    pub(crate) fn piece(&self) -> usize {
        self.samples.len() - CONTEXT
    }

    /// How likely somebody speaks in the next piece of the sound; samples that are missing are silence.
    pub(crate) fn probability(&mut self, piece: &[f32]) -> Result<f32, Failure> {
        let length = self.piece();
        self.samples.copy_within(length.., 0);
        let given = piece.len().min(length);
        self.samples[CONTEXT..][..given].copy_from_slice(&piece[..given]);
        self.samples[CONTEXT + given..].fill(0.0);
        let [samples, hidden, cell] = [&self.samples, &self.hidden, &self.cell]
            .map(|values| TensorView::new(Shape::new(&[1, values.len()]), values.as_slice()));
        let inputs =
            Inputs::new().tensor("audio_input", samples?).tensor("hidden_state", hidden?).tensor("cell_state", cell?);
        let answer = self.session.predict(&inputs)?;
        drop(inputs);
        let values = |name: &str| -> Result<Vec<f32>, Failure> {
            let tensor = answer.tensor(name)?;
            Ok(tensor.view().to_f64_vec().iter().map(|&value| value as f32).collect())
        };
        (self.hidden, self.cell) = (values("new_hidden_state")?, values("new_cell_state")?);
        Ok(values("vad_output")?.first().copied().unwrap_or(0.0))
    }

    pub(crate) fn is_speech(&mut self, piece: &[f32]) -> Result<bool, Failure> {
        Ok(self.probability(piece)? >= SPEECH)
    }
}
