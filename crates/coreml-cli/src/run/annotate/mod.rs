//! Draws what a model found on the picture.

use std::path::{Path, PathBuf};

use coreml_anywhere::Outputs;
use coreml_anywhere::model::{FeatureKind, Interface};
use image::ExtendedColorType;

use self::canvas::Canvas;
use super::findings::{DRAWN, Detection, Finder, Findings, View};
use super::images::{make_folder, write_png};
use crate::failure::Failure;

mod boxes;
mod canvas;
mod legend;
mod palette;

/// Where drawn pictures go.
pub(super) struct Annotator {
    path: PathBuf,
}

impl Annotator {
    pub(super) fn new(path: &Path, interface: &Interface) -> Result<Self, Failure> {
        let takes = interface.inputs.iter().any(|input| matches!(input.kind, FeatureKind::Image(_)));
        let gives = interface.outputs.iter().any(|output| matches!(output.kind, FeatureKind::MultiArray(_)));
        if !takes {
            return Err(Failure::unsupported(
                "--annotate draws on pictures, and none of the model's inputs is an image",
            ));
        }
        if !gives {
            return Err(Failure::unsupported(format!(
                "--annotate: none of the model's outputs is an array; it draws {DRAWN}"
            )));
        }
        Ok(Self { path: path.to_owned() })
    }

    fn is_file(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
    }

    /// Checks that the path fits what is to be written there.
    pub(super) fn check(&self, several: bool) -> Result<(), Failure> {
        if self.is_file() && several {
            let message = format!("--annotate {}: several pictures need a folder", self.path.display());
            return Err(Failure::usage(message));
        }
        if self.is_file() { Ok(()) } else { make_folder(&self.path) }
    }

    /// Draws on a copy of the picture. Returns the boxes that were drawn, if the model finds boxes.
    pub(super) fn draw(
        &self,
        finder: &Finder,
        outputs: &Outputs,
        view: Option<View<'_>>,
        file: Option<&Path>,
        label: Option<&str>,
    ) -> Result<Option<Vec<Detection>>, Failure> {
        let view = view.ok_or_else(|| {
            Failure::usage("--annotate draws on the picture that the model is given: --input NAME=PICTURE names it")
        })?;
        let findings = finder.find(outputs, view)?;
        let mut canvas = Canvas::of(view.picture)?;
        canvas.frame_of(view.seen);
        let boxes = match findings {
            Findings::Boxes(boxes) => {
                boxes::draw(&mut canvas, &boxes);
                Some(boxes)
            }
            Findings::Regions(regions) => {
                let shares = legend::overlay(&mut canvas, &regions, view.seen);
                legend::add(&mut canvas, &shares);
                None
            }
        };
        let path = self.place(file, label)?;
        let Canvas { width, height, ref pixels } = canvas;
        write_png(&path, pixels, width, height, ExtendedColorType::Rgb8)?;
        Ok(boxes)
    }

    /// The file of one picture.
    fn place(&self, file: Option<&Path>, label: Option<&str>) -> Result<PathBuf, Failure> {
        let path = if self.is_file() {
            self.path.clone()
        } else {
            let stem = file.and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
            let name = label.map(str::to_owned).or(stem).unwrap_or_else(|| "picture".to_owned());
            self.path.join(format!("{name}.png"))
        };
        let same = |file: &Path| Some(file.canonicalize().ok()? == path.canonicalize().ok()?);
        if file.and_then(same) == Some(true) {
            let message =
                format!("--annotate would overwrite the picture {} itself; name another place", path.display());
            return Err(Failure::usage(message));
        }
        Ok(path)
    }
}
