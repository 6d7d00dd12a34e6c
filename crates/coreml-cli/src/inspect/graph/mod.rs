//! `coreml inspect --graph`: a model's operations as a picture.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coreml_anywhere::model::{Interface, Package, Stage as Model};
use coreml_anywhere::outline::Outline;
use coreml_anywhere::{CpuBackend, LoadOptions};

use self::picture::{Picture, Role};
use self::sketch::Sketch;
use self::tree::Tree;
use crate::failure::Failure;

mod dot;
mod layout;
mod page;
mod picture;
mod plan;
mod program;
mod scopes;
mod sketch;
mod svg;
#[cfg(test)]
mod tests;
mod tree;

/// Operations that can be drawn: more would take minutes, and nobody could read them.
const MOST_NODES: usize = 20_000;

/// The forms of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Svg,
    Dot,
    Html,
}

/// Which operations are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Those in the file.
    Program,
    /// Those of the CPU engine's plan.
    Plan,
}

/// Where a picture goes, and in which format.
#[derive(Debug, Clone)]
pub(super) struct Target {
    path: PathBuf,
    form: Form,
}

impl Target {
    /// The format follows from the file's extension.
    pub(super) fn new(path: &Path) -> Result<Self, Failure> {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let form = match extension.as_deref() {
            Some("svg") => Form::Svg,
            Some("dot" | "gv") => Form::Dot,
            Some("html") => Form::Html,
            _ => {
                return Err(Failure::usage(format!(
                    "--graph {}: takes a file that ends in .svg, .dot or .html",
                    path.display()
                )));
            }
        };
        Ok(Self { path: path.to_path_buf(), form })
    }

    /// Writes the picture, and says what of.
    fn write(&self, mut picture: Picture) -> Result<String, Failure> {
        let tree = arrange(&mut picture)?;
        let text = match self.form {
            Form::Dot => dot::file(&picture, &tree),
            Form::Svg => svg::file(&picture, &tree, &lay_out(&picture, &tree)?),
            Form::Html => page::file(&picture, &tree, &lay_out(&picture, &tree)?),
        };
        let path = self.path.display();
        fs::write(&self.path, text).map_err(|error| Failure::file(format!("cannot write {path}"), error))?;
        let steps = picture.nodes.iter().filter(|node| node.role == Role::Step).count();
        let number = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let scopes = tree.boxes.len() - 1;
        Ok(format!("{path}: {} in {}", number(steps, "operation"), number(scopes, "scope")))
    }
}

/// Draws a package's operations, and says what was written.
pub(super) fn draw(
    package: Package,
    interface: &Interface,
    function: Option<&str>,
    of: Of,
    target: &Target,
) -> Result<String, Failure> {
    target.write(picture(package, interface, function, of)?)
}

/// The picture of a package's operations.
fn picture(package: Package, interface: &Interface, function: Option<&str>, of: Of) -> Result<Picture, Failure> {
    let file = package.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let function = function.unwrap_or(package.default_function()).to_owned();
    let package = Arc::new(package);
    let draw = |title: &str, program: &mut sketch::DrawProgram<'_>| {
        Sketch::of(format!("{file}: {title}"), package.model(), interface, program)
    };
    // A member of a pipeline runs its own default function.
    let function_of = |stage: &Model, path: &[usize]| {
        if path.is_empty() { function.clone() } else { stage.default_function().to_owned() }
    };
    match of {
        Of::Program => {
            let has_program = |stage: &&Model| !stage.program().functions.is_empty();
            if !package.model().leaves().iter().any(has_program) {
                let kind = package.model().kind();
                let instead = "--stage plan draws what the CPU engine makes of it";
                return Err(Failure::usage(format!("a model of type `{kind}` has no program to draw; {instead}")));
            }
            Ok(draw("program", &mut |sketch, stage, path| {
                let Some(function) = stage.program().functions.get(&function_of(stage, path)) else { return false };
                program::add(sketch, function);
                true
            }))
        }
        Of::Plan => {
            let mut options = LoadOptions::default();
            options.function = Some(function.clone());
            let outline = Outline::of(&CpuBackend::default(), &package, &options)?;
            Ok(draw("plan of the CPU engine", &mut |sketch, stage, path| {
                let Some(plan) = outline.programs.iter().find(|plan| plan.member == path) else { return false };
                plan::add(sketch, plan, stage, &function_of(stage, path));
                true
            }))
        }
    }
}

/// Puts nodes into the boxes of their scopes.
fn arrange(picture: &mut Picture) -> Result<Tree, Failure> {
    let count = picture.nodes.len();
    if count > MOST_NODES {
        return Err(Failure::usage(format!("{count} operations are too many to draw; the most are {MOST_NODES}")));
    }
    let mut scopes: Vec<_> = picture.nodes.iter_mut().map(|node| node.scope.take()).collect();
    let mut givers = vec![Vec::new(); scopes.len()];
    picture.edges.iter().for_each(|edge| givers[edge.to].push(edge.from));
    scopes::fill(&mut scopes, &givers);
    picture.nodes.iter_mut().zip(scopes).for_each(|(node, scope)| node.scope = scope);
    Ok(Tree::of(picture))
}

fn lay_out(picture: &Picture, tree: &Tree) -> Result<layout::Layout, Failure> {
    let sizes: Vec<[f64; 2]> = picture.nodes.iter().map(svg::size).collect();
    let names: Vec<f64> = tree.boxes.iter().map(|one| svg::name_width(&one.name)).collect();
    layout::lay_out(picture, tree, &sizes, &names).map_err(|layout::TooTangled| {
        Failure::usage("too many values pass too many operations for a picture; .dot has no such limit")
    })
}
