//! The predictions that one `coreml run` asks for, read one after another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use coreml_anywhere::model::FeatureKind;
use coreml_anywhere::{Image, Inputs};

use crate::failure::Failure;
use crate::io_files::{Found, NamedFile, Origin, Reader, check_standard_input, is_picture};

/// One prediction to make.
pub(super) struct Job {
    /// Its number, if there are several.
    pub(super) step: Option<usize>,
    /// The name that its own files get, if there are several.
    pub(super) label: Option<String>,
    /// The path of its picture.
    pub(super) file: Option<PathBuf>,
    /// All inputs but the picture.
    pub(super) inputs: Inputs<'static>,
    /// The picture that may be drawn on, and the name of its feature.
    pub(super) picture: Option<(String, Image<'static>)>,
}

/// All predictions of one run of the command.
pub(super) struct Jobs<'a> {
    reader: Reader<'a>,
    /// Each has the arrays of a prediction.
    archives: &'a [PathBuf],
    /// What every prediction is given, but the picture.
    given: Vec<(String, Found)>,
    /// The same as inputs, with the arrays that go with all pictures of a folder.
    inputs: Inputs<'static>,
    picture: Option<(String, Image<'static>)>,
    file: Option<PathBuf>,
    /// The pictures of a folder, each for a prediction.
    pictures: Option<Pictures>,
}

impl<'a> Jobs<'a> {
    pub(super) fn new(reader: Reader<'a>, archives: &'a [PathBuf], files: &[NamedFile]) -> Result<Self, Failure> {
        check_standard_input(archives, files)?;
        let (given, inputs) = (Vec::new(), Inputs::new());
        let mut jobs = Self { reader, archives, given, inputs, picture: None, file: None, pictures: None };
        for named in files {
            match &named.from {
                Origin::File(path) if stands_for_several(path) => {
                    if jobs.pictures.is_some() {
                        return Err(Failure::usage("only one input can be a folder or a pattern"));
                    }
                    jobs.pictures = Some(Pictures::new(reader, &named.name, path)?);
                }
                from => match reader.read(named)? {
                    Found::Picture(picture) if jobs.picture.is_none() => {
                        jobs.picture = Some((named.name.clone(), picture));
                        jobs.file = if let Origin::File(path) = from { Some(path.clone()) } else { None };
                    }
                    found => jobs.given.push((named.name.clone(), found)),
                },
            }
        }
        if jobs.pictures.is_some() {
            // The picture that may be drawn on is the folder's.
            jobs.given.extend(jobs.picture.take().map(|(name, picture)| (name, Found::Picture(picture))));
            jobs.inputs = match archives {
                [] => Inputs::new(),
                [archive] => reader.archive(archive)?,
                _ => {
                    return Err(Failure::usage("with a folder of pictures there can be one --inputs, for all of them"));
                }
            };
        }
        let inputs = std::mem::take(&mut jobs.inputs);
        jobs.inputs = jobs.with_given(inputs)?;
        Ok(jobs)
    }

    fn with_given(&self, inputs: Inputs<'static>) -> Result<Inputs<'static>, Failure> {
        self.given.iter().try_fold(inputs, |inputs, (name, found)| self.reader.add(inputs, name, found.clone()))
    }

    /// The folder of pictures, if there is one.
    pub(super) fn pictures(&self) -> Option<&Pictures> {
        self.pictures.as_ref()
    }

    /// How many predictions there are.
    pub(super) fn len(&self) -> usize {
        self.pictures.as_ref().map_or(self.archives.len().max(1), |pictures| pictures.files.len())
    }

    /// The predictions in order. None is read before it is asked for.
    pub(super) fn iter(&self) -> impl Iterator<Item = Result<Job, Failure>> {
        (0..self.len()).map(|step| match &self.pictures {
            Some(pictures) => self.of_picture(pictures, step),
            None => self.of_archive(step),
        })
    }

    fn of_picture(&self, pictures: &Pictures, step: usize) -> Result<Job, Failure> {
        let file = &pictures.files[step];
        let picture = self.reader.pictures.open(file)?;
        Ok(Job {
            step: Some(step),
            label: Some(pictures.label(step)),
            file: Some(file.clone()),
            inputs: self.inputs.clone(),
            picture: Some((pictures.feature.clone(), picture)),
        })
    }

    fn of_archive(&self, step: usize) -> Result<Job, Failure> {
        let inputs = match self.archives.get(step) {
            Some(archive) => self.with_given(self.reader.archive(archive)?)?,
            None => self.inputs.clone(),
        };
        let several = self.archives.len() > 1;
        Ok(Job {
            step: several.then_some(step),
            label: several.then(|| step.to_string()),
            file: self.file.clone(),
            inputs,
            picture: self.picture.clone(),
        })
    }
}

/// The pictures in a folder, or that match a pattern.
pub(super) struct Pictures {
    feature: String,
    pub(super) files: Vec<PathBuf>,
    /// How many other files were among them.
    pub(super) passed_over: usize,
    /// How many are called so.
    stems: HashMap<String, usize>,
}

impl Pictures {
    fn new(reader: Reader<'_>, feature: &str, path: &Path) -> Result<Self, Failure> {
        match reader.interface.input(feature).map(|feature| &feature.kind) {
            Some(FeatureKind::Image(_)) => {}
            Some(_) => {
                return Err(Failure::invalid_input(format!("`{feature}` is not an image, so no folder of pictures")));
            }
            None => {
                let names: Vec<_> = reader.interface.inputs.iter().map(|input| format!("`{}`", input.name)).collect();
                let message = format!("`{feature}`: the model has no such input; it has {}", names.join(", "));
                return Err(Failure::invalid_input(message));
            }
        }
        let shown = path.display().to_string();
        let mut files = Vec::new();
        if path.is_dir() {
            let failed = |error| Failure::file(format!("cannot read the folder {shown}"), error);
            for entry in std::fs::read_dir(path).map_err(failed)? {
                files.push(entry.map_err(failed)?.path());
            }
        } else {
            let bad = |error| Failure::usage(format!("{shown}: is no pattern: {error}"));
            for entry in glob::glob(&shown).map_err(bad)? {
                files.push(entry.map_err(|error| Failure::file(format!("cannot read {shown}"), error))?);
            }
        }
        files.retain(|file| !file.is_dir());
        files.sort();
        let count = files.len();
        files.retain(|file| is_picture(file));
        if files.is_empty() {
            return Err(Failure::file(
                format!("{shown}: there are no pictures"),
                format!("it stands for {count} other files"),
            ));
        }
        let passed_over = count - files.len();
        let mut stems = HashMap::new();
        files.iter().for_each(|file| *stems.entry(stem(file)).or_default() += 1);
        Ok(Self { feature: feature.to_owned(), files, passed_over, stems })
    }

    /// What files are called that belong to this picture: as itself, with its number where another picture, of another folder or
    /// with another end of its name, is called the same.
    fn label(&self, step: usize) -> String {
        let own = stem(&self.files[step]);
        let others = |label: &str| self.stems.get(label).is_some_and(|&count| count > usize::from(label == own));
        let mut label = own.clone();
        while others(&label) {
            label = format!("{label}-{step}");
        }
        label
    }
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Whether a path is a folder or, as no file is called that, a pattern.
fn stands_for_several(path: &Path) -> bool {
    path.is_dir() || path.to_string_lossy().contains(['*', '?', '[']) && !path.exists()
}
