//! Transcribes a file of any length, with only the part that is still needed in memory.

use std::path::Path;

use crate::Failure;
use crate::vad::Detector;
use crate::wav::{RATE, Wav};

/// Samples that are kept from before the first that are taken for speech.
const MARGIN: u64 = RATE as u64 / 4;

/// Hands out windows of a file, and skips silence.
pub(crate) struct Listener {
    wav: Wav,
    held: Vec<f32>,
    /// The position of the first sample that is held.
    first: u64,
    ended: bool,
    detector: Option<Detector>,
    /// Of each piece that the detector has looked at, whether it is speech.
    speech: Vec<bool>,
}

impl Listener {
    pub(crate) fn open(path: &Path, detector: Option<Detector>) -> Result<Self, Failure> {
        let wav = Wav::open(path)?;
        Ok(Self { wav, held: Vec::new(), first: 0, ended: false, detector, speech: Vec::new() })
    }

    /// How many samples the file has.
    pub(crate) fn samples(&self) -> u64 {
        self.wav.samples()
    }

    /// `length` samples from `at` on, with silence behind the file's end; `None` if it ends before `at`.
    pub(crate) fn window(&mut self, at: u64, length: usize) -> Result<Option<Vec<f32>>, Failure> {
        self.fill(at + length as u64)?;
        let behind = at.saturating_sub(self.first) as usize;
        let Some(there) = self.held.get(behind..).filter(|there| !there.is_empty()) else { return Ok(None) };
        let mut window = there[..there.len().min(length)].to_vec();
        window.resize(length, 0.0);
        // The detector may be behind.
        let looked = self.detector.as_ref().map_or(u64::MAX, |detector| (self.speech.len() * detector.piece()) as u64);
        let done = (at.min(looked).saturating_sub(self.first) as usize).min(self.held.len());
        self.held.drain(..done);
        self.first += done as u64;
        Ok(Some(window))
    }

    /// Where speech begins from `at` on, a little before it; `None` if there is none in the next `length` samples.
    /// Without a detector everything may be speech.
    pub(crate) fn speech(&mut self, at: u64, length: usize) -> Result<Option<u64>, Failure> {
        let Some(piece) = self.detector.as_ref().map(Detector::piece) else { return Ok(Some(at)) };
        let end = at + length as u64;
        let mut number = (at / piece as u64) as usize;
        while (number * piece) as u64 <= end {
            if self.speech.len() <= number && !self.look(piece)? {
                break;
            }
            if self.speech.get(number) == Some(&true) {
                return Ok(Some(at.max(((number * piece) as u64).saturating_sub(MARGIN))));
            }
            // Pieces before the one that is asked for are looked at, too: the network remembers.
            number += usize::from(self.speech.len() > number);
        }
        Ok(None)
    }

    /// Has the detector look at its next piece; whether there is one.
    fn look(&mut self, piece: usize) -> Result<bool, Failure> {
        let begin = (self.speech.len() * piece) as u64;
        self.fill(begin + piece as u64)?;
        let from = begin.saturating_sub(self.first) as usize;
        match (self.held.get(from..), &mut self.detector) {
            (Some(there @ [_, ..]), Some(detector)) => {
                self.speech.push(detector.is_speech(&there[..there.len().min(piece)])?);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Reads on up to the sample `end`.
    fn fill(&mut self, end: u64) -> Result<(), Failure> {
        let held = self.first + self.held.len() as u64;
        if !self.ended && held < end {
            self.ended = !self.wav.read((end - held) as usize, &mut self.held)?;
        }
        Ok(())
    }
}
