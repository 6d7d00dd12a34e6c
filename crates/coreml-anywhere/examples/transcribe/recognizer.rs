//! The models of one folder, and how a window of sound goes through them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coreml_anywhere::model::{ArrayFeature, FeatureKind};
use coreml_anywhere::tensor::{Shape, Tensor, TensorView};
use coreml_anywhere::{CpuOptions, Inputs, Session, default_backends_with};

use crate::Failure;
use crate::mel::{HOP, LogMel};
use crate::rules::{Rules, Segment, probability, segments};
use crate::vocabulary::Vocabulary;
use crate::wav::RATE;

/// Above this probability of silence nothing is written for a window.
const SILENT: f32 = 0.6;
/// As many tokens does the vocabulary have that knows English only, although it has names for other languages.
const ENGLISH_ONLY: usize = 51_864;

/// Where the sound's picture comes from.
enum FrontEnd {
    Own(LogMel),
    Model(Session),
}

/// Models of Whisper's structure with the interface that WhisperKit publishes them with.
pub(crate) struct Recognizer {
    front_end: FrontEnd,
    encoder: Session,
    decoder: Session,
    vocabulary: Vocabulary,
    language: String,
    /// Sizes of the picture: bands and frames.
    picture: [usize; 2],
    pub(crate) spent: Spent,
}

/// Where the time went.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) front_end: Duration,
    pub(crate) encoder: Duration,
    pub(crate) decoder: Duration,
    pub(crate) tokens: u32,
}

/// The compiled model of this name, or the package.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    ["mlmodelc", "mlpackage"].iter().map(|kind| folder.join(format!("{name}.{kind}"))).find(|path| path.exists())
}

fn open(path: &Path, threads: usize) -> Result<Session, Failure> {
    let builder = Session::builder().backends(default_backends_with(CpuOptions::default()));
    Ok(if threads > 0 { builder.threads(threads) } else { builder }.open(path)?)
}

fn array<'a>(session: &'a Session, name: &str) -> Result<&'a ArrayFeature, Failure> {
    match session.interface().input(name).map(|feature| &feature.kind) {
        Some(FeatureKind::MultiArray(array)) => Ok(array),
        _ => Err(format!("{} has no input {name}, as models of this kind have", session.path().display()).into()),
    }
}

fn view<'a>(array: &ArrayFeature, values: &'a [f32]) -> Result<TensorView<'a>, Failure> {
    Ok(TensorView::new(Shape::try_new(&array.shape)?, values)?)
}

impl Recognizer {
    pub(crate) fn open(folder: &Path, threads: usize, language: &str) -> Result<Self, Failure> {
        let wanted = |name: &str| {
            find(folder, name).ok_or_else(|| format!("{} has no {name}.mlmodelc or .mlpackage", folder.display()))
        };
        let encoder = open(&wanted("AudioEncoder")?, threads)?;
        let decoder = open(&wanted("TextDecoder")?, threads)?;
        let picture = match array(&encoder, "melspectrogram_features")?.shape.as_slice() {
            &[1, bands, 1, frames] => [bands, frames],
            other => {
                return Err(
                    format!("melspectrogram_features has the shape {other:?}, not [1, bands, 1, frames]").into()
                );
            }
        };
        let front_end = match find(folder, "MelSpectrogram") {
            Some(path) => FrontEnd::Model(open(&path, threads)?),
            None => FrontEnd::Own(LogMel::new(picture[0])),
        };
        let vocabulary = Vocabulary::open(&folder.join("tokenizer.json"))?;
        Ok(Self {
            front_end,
            encoder,
            decoder,
            vocabulary,
            language: language.to_owned(),
            picture,
            spent: Spent::default(),
        })
    }

    /// Samples of a window.
    pub(crate) fn window(&self) -> usize {
        self.picture[1] * HOP
    }

    /// What is said in a window of sound, and after how many seconds the next one should begin.
    pub(crate) fn transcribe(&mut self, samples: &[f32]) -> Result<(Vec<Segment>, f32), Failure> {
        let start = Instant::now();
        let features = match &self.front_end {
            FrontEnd::Own(mel) => mel.features(samples),
            FrontEnd::Model(session) => {
                let inputs = Inputs::new().tensor("audio", view(array(session, "audio")?, samples)?);
                floats(session.predict(&inputs)?.tensor("melspectrogram_features")?)
            }
        };
        self.spent.front_end += start.elapsed();
        let start = Instant::now();
        let name = "melspectrogram_features";
        let inputs = Inputs::new().tensor(name, view(array(&self.encoder, name)?, &features)?);
        let sound = floats(self.encoder.predict(&inputs)?.tensor("encoder_output_embeds")?);
        self.spent.encoder += start.elapsed();
        let start = Instant::now();
        let written = self.write(&sound)?;
        self.spent.decoder += start.elapsed();
        Ok(segments(&self.vocabulary, &written, samples.len() as f32 / RATE as f32))
    }

    /// The tokens of a window, one after another.
    fn write(&mut self, sound: &[f32]) -> Result<Vec<usize>, Failure> {
        let special = |name: &str| self.vocabulary.special(name).ok_or_else(|| format!("the vocabulary has no {name}"));
        let rules = Rules { vocabulary: &self.vocabulary, end: special("<|endoftext|>")? };
        let mut prompt = vec![special("<|startoftranscript|>")?];
        let mut written = Vec::new();
        let mut step = Step::new(&self.decoder, sound)?;
        while step.position < step.context {
            let given = prompt.get(step.position).or_else(|| written.last()).copied().unwrap_or_default();
            let logits = step.take(given)?;
            self.spent.tokens += 1;
            if step.position == 1 {
                if let Some(silence) = self.vocabulary.special("<|nospeech|>")
                    && probability(&logits, silence) > SILENT
                {
                    return Ok(written);
                }
                if let Some(language) = self.vocabulary.special(&format!("<|{}|>", self.language))
                    && logits.len() != ENGLISH_ONLY
                {
                    prompt.extend([language, special("<|transcribe|>")?]);
                }
            }
            if step.position >= prompt.len() {
                match rules.next(&logits, &written) {
                    end if end == rules.end => return Ok(written),
                    token => written.push(token),
                }
            }
        }
        Ok(written)
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor
        .as_slice::<f32>()
        .map_or_else(|| tensor.view().to_f64_vec().iter().map(|&x| x as f32).collect(), <[f32]>::to_vec)
}

/// The decoder and what it has read: in states of the model, or in caches that are handed in and out.
struct Step<'a> {
    decoder: &'a Session,
    state: coreml_anywhere::State,
    sound: &'a [f32],
    keys: Vec<f32>,
    values: Vec<f32>,
    /// One at the position that is being read.
    here: Vec<f32>,
    /// Far below zero at positions that are not to be seen.
    hidden: Vec<f32>,
    position: usize,
    context: usize,
}

impl<'a> Step<'a> {
    fn new(decoder: &'a Session, sound: &'a [f32]) -> Result<Self, Failure> {
        let context = array(decoder, "decoder_key_padding_mask")?.shape.iter().product();
        let size = |name: &str| array(decoder, name).map_or(0, |array| array.shape.iter().product());
        Ok(Self {
            decoder,
            state: decoder.state(),
            sound,
            keys: vec![0.0; size("key_cache")],
            values: vec![0.0; size("value_cache")],
            here: vec![0.0; context],
            hidden: vec![-10_000.0; context],
            position: 0,
            context,
        })
    }

    /// Reads a token; how likely each may follow.
    fn take(&mut self, token: usize) -> Result<Vec<f32>, Failure> {
        self.here.fill(0.0);
        self.here[self.position] = 1.0;
        self.hidden[self.position] = 0.0;
        let numbers = [token, self.position].map(|number| [number as i32]);
        let mut inputs = Inputs::new();
        for feature in &self.decoder.interface().inputs {
            let name = feature.name.as_str();
            let array = array(self.decoder, name)?;
            let values = match name {
                "input_ids" | "cache_length" => {
                    let number = &numbers[usize::from(name == "cache_length")];
                    inputs = inputs.tensor(name, TensorView::new(Shape::try_new(&array.shape)?, number)?);
                    continue;
                }
                "key_cache" => &self.keys,
                "value_cache" => &self.values,
                "kv_cache_update_mask" => &self.here,
                "decoder_key_padding_mask" => &self.hidden,
                "encoder_output_embeds" => self.sound,
                other => {
                    return Err(format!("the decoder has an input {other}, which this example does not know").into());
                }
            };
            inputs = inputs.tensor(name, view(array, values)?);
        }
        let stateful = !self.decoder.interface().states.is_empty();
        let answer = if stateful {
            self.decoder.predict_with_state(&inputs, &self.state)?
        } else {
            self.decoder.predict(&inputs)?
        };
        drop(inputs);
        for (cache, name) in [(&mut self.keys, "key_cache_updates"), (&mut self.values, "value_cache_updates")] {
            if cache.is_empty() {
                continue;
            }
            let update = floats(answer.tensor(name)?);
            for (row, value) in cache.chunks_mut(self.context).zip(update) {
                row[self.position] = value;
            }
        }
        self.position += 1;
        Ok(floats(answer.tensor("logits")?))
    }
}
