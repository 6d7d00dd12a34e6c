//! `coreml run`: predictions from files.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use coreml_anywhere::model::FeatureKind;
use coreml_anywhere::{ErrorKind, Image, ImageReader, Inputs, Prediction, Session, State};

use self::annotate::Annotator;
use self::findings::{About, Detection, Finder, View};
use self::images::ImageFiles;
use self::jobs::{Job, Jobs};
use self::json::Form;
use crate::console;
use crate::failure::Failure;
use crate::io_files::{NamedFile, OutputFile, Reader, Sound, is_standard, named_text};
use crate::model_args::ModelArgs;

mod annotate;
mod findings;
mod images;
mod jobs;
mod json;
mod text;

/// Run a model and print or save what it answers
///
/// Several --inputs are predictions in that order, on one state if the model has states. An .npz holds arrays by
/// feature name; an image feature is uint8, height x width x 3 (RGB) or height x width (grey), in a size the model takes;
/// a dictionary is two arrays, NAME.keys and NAME.values.
///
/// Pictures (.png, .jpg, .gif, .webp, .bmp) are turned upright by their EXIF data, cropped in the middle and resized to
/// the model's size; of a model that takes several sizes, to the one nearest to the picture's shape.
///
/// A folder of pictures, or a pattern in quotes (--input image='photos/*.jpg'), makes a prediction of each, in the order of
/// their names; one that cannot be read is told on standard error, the others go on, and the exit code is 3.
///
/// Sound (.wav) becomes numbers from -1 to 1, its channels averaged. `-` is standard input, of which the bytes tell what it
/// is, and NAME=@TEXT is the text itself.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    model: ModelArgs,
    /// Arrays by feature name; may be repeated for several predictions; - for standard input
    #[arg(long, value_name = "FILE.npz")]
    inputs: Vec<PathBuf>,
    /// One feature from an .npy or .npz file, a picture, a .wav file, or a folder of pictures; may be repeated
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<NamedFile>,
    /// One feature that is a string or a number; may be repeated
    #[arg(long, value_name = "NAME=STRING", value_parser = named_text)]
    text: Vec<NamedFile>,
    /// Leave pictures as they are stored, whatever their EXIF data say of how the camera was held
    #[arg(long)]
    raw_orientation: bool,
    /// Resample sound to this rate; without it to that in the model's metadata (`sample_rate`), if there is one
    #[arg(long, value_name = "HZ", value_parser = clap::value_parser!(u32).range(1_000..=768_000))]
    sample_rate: Option<u32>,
    /// Add silence at the end of sound that is shorter than the model takes
    #[arg(long)]
    pad: bool,
    /// Save the outputs: as NAME, or STEP/NAME if there are several predictions; - for standard output
    #[arg(long, short, value_name = "FILE.npz")]
    output: Option<PathBuf>,
    /// Save each output that is an image as NAME.png, of several predictions as STEP-NAME.png or PICTURE-NAME.png; half-precision
    /// grey is stretched from its least to its largest number
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Draw on the picture what a detector found or a segmenter tells of each pixel; of several pictures as DIR/PICTURE.png
    #[arg(long, value_name = "FILE.png|DIR")]
    annotate: Option<PathBuf>,
    /// Print the outputs as JSON: those of at most 64 numbers whole, larger ones summed up, with their place in the file that
    /// --output writes; of a folder of pictures an object a line
    #[arg(long)]
    json: bool,
    /// How many of a classifier's labels to print
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
    /// Threads for one prediction on the CPU engine; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

pub(crate) fn run(arguments: &Arguments, out: &mut impl Write) -> Result<(), Failure> {
    if arguments.json && arguments.output.as_deref().is_some_and(is_standard) {
        return Err(Failure::usage(
            "--output - writes to standard output, where --json would print; save to a file instead",
        ));
    }
    let session = arguments.model.open(arguments.threads)?;
    let about = About::of(session.package())?;
    let interface = session.interface();
    let reader = Reader {
        interface,
        pictures: ImageReader::new().raw_orientation(arguments.raw_orientation),
        sound: Sound { rate: arguments.sample_rate.or(about.sample_rate()), pad: arguments.pad },
    };
    let finder = Finder::of(&about, interface);
    let annotator = arguments.annotate.as_deref().map(|path| Annotator::new(path, interface)).transpose()?;
    let images = arguments.images.as_deref().map(|folder| ImageFiles::new(folder, interface)).transpose()?;
    let files = [arguments.input.as_slice(), &arguments.text].concat();
    let jobs = Jobs::new(reader, &arguments.inputs, &files)?;
    if let Some(annotator) = &annotator {
        annotator.check(jobs.len() > 1 || jobs.pictures().is_some())?;
    }
    let saved = arguments.output.as_deref().map(OutputFile::create).transpose()?;
    let stateful = !interface.states.is_empty();
    let state = stateful.then(|| session.state());
    let call = Call { arguments, session: &session, state: state.as_ref(), finder: &finder };
    let mut kept = Kept { saved, images, annotator };
    if jobs.pictures().is_some() {
        call.of_folder(&jobs, &mut kept, out)?
    } else {
        call.of_files(&jobs, &mut kept, out)?
    }
    kept.saved.map_or(Ok(()), OutputFile::finish)
}

/// What all predictions of a call have in common.
struct Call<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    state: Option<&'a State>,
    finder: &'a Finder,
}

/// Where outputs go beside standard output.
struct Kept {
    saved: Option<OutputFile>,
    images: Option<ImageFiles>,
    annotator: Option<Annotator>,
}

/// A prediction that was made, and what was found on its picture.
struct Made {
    prediction: Prediction,
    detections: Option<Vec<Detection>>,
}

impl Call<'_> {
    /// The predictions of a call that names each file.
    fn of_files(&self, jobs: &Jobs<'_>, kept: &mut Kept, out: &mut impl Write) -> Result<(), Failure> {
        let Arguments { json, output, top, .. } = self.arguments;
        let mut shown = Vec::new();
        for (step, job) in jobs.iter().enumerate() {
            let job = job?;
            let made = self.make(job, kept)?.map_err(|(failure, _)| failure)?;
            let Made { prediction, detections } = &made;
            let several = jobs.len() > 1;
            if *json {
                shown.push(self.form().prediction(prediction, several.then_some(step), detections.as_deref()));
            } else if output.is_none() {
                if several {
                    writeln!(out, "prediction {step}")?;
                }
                text::print(prediction, *top, out)?;
            }
        }
        if *json {
            writeln!(out, "{:#}", json::document(self.session, &shown))?;
        }
        Ok(())
    }

    /// The predictions of a folder's pictures: what is wrong with one does not keep the others from theirs.
    fn of_folder(&self, jobs: &Jobs<'_>, kept: &mut Kept, out: &mut impl Write) -> Result<(), Failure> {
        let Some(pictures) = jobs.pictures() else { return Ok(()) };
        if pictures.passed_over > 0 {
            let what = if pictures.passed_over == 1 { "file that is no picture" } else { "files that are no pictures" };
            console::note(format_args!("passed over {} {what}", pictures.passed_over));
        }
        let bar = console::bar(jobs.len() as u64, "{wide_bar} {pos}/{len} {eta}");
        let width = pictures.files.iter().map(|file| file.display().to_string().chars().count()).max().unwrap_or(0);
        let mut failed = 0;
        console::stop_when_interrupted();
        for ((step, file), job) in pictures.files.iter().enumerate().zip(jobs.iter()) {
            let made = match job {
                Ok(job) => self.make(job, kept)?,
                Err(failure) => Err((failure, true)),
            };
            match made {
                Ok(Made { prediction, detections }) => {
                    let shown = file.display().to_string();
                    let line = if self.arguments.json {
                        json::line(self.form().prediction(&prediction, Some(step), detections.as_deref()), &shown)
                            .to_string()
                    } else {
                        format!(
                            "{shown:width$}  {}",
                            text::line(&prediction, detections.as_deref(), self.arguments.top)
                        )
                    };
                    if self.arguments.json || self.arguments.output.is_none() {
                        bar.suspend(|| writeln!(out, "{line}"))?;
                    }
                }
                Err((failure, true)) => {
                    failed += 1;
                    bar.suspend(|| crate::tell(&failure.of_file(file)));
                }
                Err((failure, false)) => return Err(failure.of_file(file)),
            }
            bar.inc(1);
            if console::stopped() {
                console::note(format_args!("interrupted after {} of {} pictures", step + 1, jobs.len()));
                break;
            }
        }
        bar.finish_and_clear();
        if failed > 0 {
            let message = format!("{failed} of {} pictures have no answer", jobs.len());
            return Err(Failure::invalid_input(message));
        }
        Ok(())
    }

    fn form(&self) -> Form<'_> {
        Form { top: self.arguments.top, saved: self.arguments.output.as_deref().and_then(Path::to_str) }
    }

    /// Makes a prediction and keeps what is to be kept of it. The inner error is the prediction's own, and whether it is the
    /// inputs' fault; the outer one ends the call.
    fn make(&self, job: Job, kept: &mut Kept) -> Result<Result<Made, (Failure, bool)>, Failure> {
        let Job { step, label, file, inputs, picture } = job;
        let inputs: Inputs<'_> = match &picture {
            Some((name, picture)) => inputs.image(name.as_str(), picture),
            None => inputs,
        };
        let prediction = match self.state {
            Some(state) => self.session.predict_with_state(&inputs, state),
            None => self.session.predict(&inputs),
        };
        let prediction = match prediction {
            Ok(prediction) => prediction,
            Err(error) => {
                let of_inputs = error.kind() == ErrorKind::InvalidInput;
                return Ok(Err((error.into(), of_inputs)));
            }
        };
        if let Some(saved) = &mut kept.saved {
            saved.add(&prediction, step)?;
        }
        if let Some(images) = &kept.images {
            images.write(&prediction, label.as_deref())?;
        }
        let view = picture.as_ref().and_then(|(name, picture)| self.view(name, picture));
        let mut detections = None;
        if let Some(annotator) = &kept.annotator {
            detections = annotator.draw(self.finder, &prediction, view, file.as_deref(), label.as_deref())?;
        } else if let Some(view) = view
            && (self.arguments.json || step.is_some())
        {
            detections = self.finder.boxes(&prediction, view);
        }
        Ok(Ok(Made { prediction, detections }))
    }

    /// The picture, and which part of it the model saw.
    fn view<'p>(&self, name: &str, picture: &'p Image<'static>) -> Option<View<'p>> {
        match &self.session.interface().input(name)?.kind {
            FeatureKind::Image(feature) => Some(View { picture, seen: picture.seen(feature).ok()? }),
            _ => None,
        }
    }
}
