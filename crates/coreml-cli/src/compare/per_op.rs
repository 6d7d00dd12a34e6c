//! `coreml compare --plans --per-op`: finds the operation in which the optimised plan differs from the reference plan, and
//! cuts out a model that shows it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use coreml_anywhere::divergence::{Bounds, Cut, Distance, Divergence, StepError};
use coreml_anywhere::model::{Interface, Package};
use coreml_anywhere::tensor::npz::{self, Array};
use coreml_anywhere::{CpuBackend, CpuOptions, Error, Inputs, LoadOptions, Session, check};
use serde_json::{Value as Json, json};

use super::distance::tolerance;
use super::{answers, number};
use crate::failure::Failure;
use crate::model_args::{ModelArgs, with_images};
use crate::table;

/// Rows for people; JSON has all.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(super) struct PerOp {
    /// Judge each operation: find the first in which the optimised plan departs from the reference plan. Both plans stay as they
    /// are; what is fused is judged together. Needs --plans
    #[arg(long, requires = "plans", conflicts_with_all = ["reference", "with", "backends"])]
    pub(super) per_op: bool,
    /// How far an operation's own result may be off: its relative L2 distance
    #[arg(long, value_name = "PART", default_value_t = Bounds::default().relative_l2, value_parser = tolerance, requires = "per_op")]
    op_l2: f64,
    /// The same for its largest difference, as a part of the largest expected value
    #[arg(long, value_name = "PART", default_value_t = Bounds::default().relative_largest, value_parser = tolerance, requires = "per_op")]
    op_largest: f64,
    /// Write the operation that was found as DIR/model.mlpackage, with DIR/inputs.npz and DIR/expected.npz
    #[arg(long, value_name = "DIR", requires = "per_op")]
    cut: Option<PathBuf>,
}

/// What was found, and where it was written.
pub(super) struct Found {
    divergence: Divergence,
    bounds: Bounds,
    first: Option<StepError>,
    cut: Option<(PathBuf, Result<Distance, Failure>)>,
    /// What makes the engine plan the cut model as it planned the whole.
    flags: String,
}

impl PerOp {
    /// Says what is wrong with the call before any work is done.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.cut.as_deref().filter(|folder| folder.exists()) {
            Some(folder) => Err(Failure::usage(format!("{} exists already", folder.display()))),
            None => Ok(()),
        }
    }

    /// Runs the plans on one prediction's inputs, which `inputs` makes for an interface.
    pub(super) fn find(
        &self,
        model: &ModelArgs,
        threads: usize,
        inputs: impl FnOnce(&Interface) -> Result<Vec<Inputs<'static>>, Failure>,
    ) -> Result<Found, Failure> {
        let package = Package::open(&model.file.model).map_err(Error::from)?;
        let package = Arc::new(with_images(package, &model.file.image_input)?);
        let interface = package.interface(model.file.function.as_deref()).map_err(Error::from)?.clone();
        let [inputs] = <[_; 1]>::try_from(inputs(&interface)?)
            .map_err(|_| Failure::usage("--per-op looks at one prediction; give --inputs once"))?;
        let mut options = LoadOptions::default();
        options.function.clone_from(&model.file.function);
        options.threads = threads;
        let backend = model.engine()?;
        let divergence = Divergence::measure(&backend, &package, &options, &check(&interface, &inputs)?)?;
        let bounds = Bounds { relative_l2: self.op_l2, relative_largest: self.op_largest };
        let first = divergence.first(bounds).cloned();
        let cut = self.cut.as_ref().zip(first.as_ref()).map(|(folder, step)| {
            // What was found is told all the same.
            let cut = divergence.cut(step).map_err(Failure::from);
            (folder.clone(), cut.and_then(|cut| write(&cut, folder, backend, threads)))
        });
        Ok(Found { divergence, bounds, first, cut, flags: model.engine_flags() })
    }
}

/// Writes a model that was cut out with its inputs and the reference plan's answer; tells how far the optimised plan is from
/// that.
fn write(cut: &Cut, folder: &Path, backend: CpuBackend, threads: usize) -> Result<Distance, Failure> {
    let cannot = |path: &Path, error| Failure::file(format!("cannot write {}", path.display()), error);
    fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    let [model, inputs, expected] = ["model.mlpackage", "inputs.npz", "expected.npz"].map(|name| folder.join(name));
    cut.model().write_package(&model).map_err(|error| cannot(&model, error))?;
    let arrays: Vec<(&str, Array)> =
        cut.inputs.iter().map(|(name, tensor)| (name.as_str(), Array::Tensor(tensor.clone()))).collect();
    let save = |path: &Path, arrays: &[(&str, Array)]| {
        npz::write(path, arrays.iter().map(|(name, array)| (*name, array)))
            .map_err(|error| Failure::file(format!("cannot write {}", path.display()), error))
    };
    save(&inputs, &arrays)?;
    let given = cut.inputs.iter().fold(Inputs::new(), |given, (name, tensor)| given.owned_tensor(name, tensor.clone()));
    let given = [given];
    let answer = |backend: CpuBackend| {
        let session = Session::builder().backends([Arc::new(backend) as _]).threads(threads).open(&model)?;
        answers(&session, &given)
    };
    let right = answer(CpuBackend::new(CpuOptions::reference()))?;
    let named: Vec<(&str, Array)> = right.iter().map(|(name, array)| (name.as_str(), array.clone())).collect();
    save(&expected, &named)?;
    let found = answer(backend)?;
    let distances = found.iter().filter_map(|(name, found)| {
        let (_, expected) = right.iter().find(|(known, _)| known == name)?;
        match (found, expected) {
            (Array::Tensor(found), Array::Tensor(expected)) => Some(Distance::between(found, expected)),
            _ => None,
        }
    });
    Ok(distances.max_by(|a, b| a.relative_l2.total_cmp(&b.relative_l2)).unwrap_or_default())
}

impl Found {
    /// What is wrong, in words; `None` if no operation diverges.
    pub(super) fn verdict(&self) -> Option<String> {
        let step = self.first.as_ref()?;
        Some(format!("the plans diverge in {} -> %{}", step.kind, step.output))
    }

    pub(super) fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let steps = &self.divergence.steps;
        match &self.first {
            None => {
                let judged = steps.iter().filter(|step| step.own.is_ok()).count();
                writeln!(out, "\nNo operation diverges: {judged} steps are within the bounds.")?;
            }
            Some(step) => {
                writeln!(out, "\nFirst divergence: {} -> %{} {}", step.kind, step.output, step.shape)?;
                writeln!(out, "  it stands for {}", covers(step))?;
                if let Ok(own) = step.own {
                    writeln!(
                        out,
                        "  its own error is {:.3e} relative L2, {:.3e} at most",
                        own.relative_l2, own.largest
                    )?;
                }
            }
        }
        if let Some((folder, Err(error))) = &self.cut {
            writeln!(out, "  it is not written to {}: {error}", folder.display())?;
        }
        if let Some((folder, Ok(shown))) = &self.cut {
            let shows = if self.bounds.admit(*shown) { "does NOT show it by itself" } else { "shows it by itself" };
            writeln!(
                out,
                "  cut out, it {shows} ({:.3e} relative L2):\n    coreml compare {}/model.mlpackage --inputs {}/inputs.npz --plans --per-op{}",
                shown.relative_l2,
                folder.display(),
                folder.display(),
                self.flags
            )?;
        }
        let mut unknown = steps.iter().filter_map(|step| Some((step, step.own.as_ref().err()?)));
        if let Some((step, why)) = unknown.next() {
            let more = unknown.count();
            let others = if more > 0 { format!(", and {more} more,") } else { String::new() };
            writeln!(out, "{} -> %{}{others} could not be judged: {why}", step.kind, step.output)?;
        }
        let mut order: Vec<&StepError> = steps.iter().collect();
        let own = |step: &StepError| step.own.as_ref().map_or(-1.0, |own| own.relative_l2);
        order.sort_by(|a, b| own(b).total_cmp(&own(a)));
        let head = ["#", "operation", "output", "shape", "own L2", "own largest", "L2 so far", "stands for"];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(order.iter().take(SHOWN).map(|step| {
            let [l2, largest] = match &step.own {
                Ok(own) => [own.relative_l2, own.largest].map(|number| format!("{number:.3e}")),
                Err(_) => ["-"; 2].map(String::from),
            };
            let total = step.total.map_or("-".into(), |total| format!("{:.3e}", total.relative_l2));
            let place = if steps.iter().any(|step| step.member > 0) {
                format!("{}.{}", step.member, step.position)
            } else {
                step.position.to_string()
            };
            let (kind, output, shape) = (step.kind.clone(), step.output.clone(), step.shape.to_string());
            let covered: Vec<_> = step.covers.iter().map(|covered| covered.kind.as_str()).collect();
            vec![place, kind, output, shape, l2, largest, total, covered.join(", ")]
        }));
        writeln!(out)?;
        table::print(out, &rows)?;
        if steps.len() > SHOWN {
            writeln!(out, "and {} more; --json has all", steps.len() - SHOWN)?;
        }
        Ok(())
    }

    pub(super) fn as_json(&self) -> Json {
        let distance = |distance: &Distance| {
            json!({
                "largest": number(distance.largest), "relative_largest": number(distance.relative_largest),
                "relative_l2": number(distance.relative_l2),
            })
        };
        let one = |step: &StepError| {
            let covers: Vec<_> =
                step.covers.iter().map(|covered| json!({"kind": covered.kind, "output": covered.output})).collect();
            json!({
                "member": step.member, "position": step.position, "operation": step.kind, "output": step.output,
                "shape": step.shape.dims(), "covers": covers,
                "own": step.own.as_ref().ok().map(distance), "unknown": step.own.as_ref().err(),
                "total": step.total.as_ref().map(distance),
                "rounding": distance(&step.rounding), "diverges": step.diverges(self.bounds),
            })
        };
        let cut = self.cut.as_ref().map(|(folder, shown)| match shown {
            Ok(shown) => json!({"folder": folder, "own": distance(shown), "shows_it": !self.bounds.admit(*shown)}),
            Err(error) => json!({"folder": folder, "error": error.to_string()}),
        });
        json!({
            "relative_l2_bound": self.bounds.relative_l2, "relative_largest_bound": self.bounds.relative_largest,
            "first": self.first.as_ref().map(one), "cut": cut,
            "steps": self.divergence.steps.iter().map(one).collect::<Vec<_>>(),
        })
    }
}

/// The operations of a step, in words.
fn covers(step: &StepError) -> String {
    if step.covers.is_empty() {
        return "no operation, it changes the layout".into();
    }
    let names: Vec<_> = step.covers.iter().map(|covered| format!("{} %{}", covered.kind, covered.output)).collect();
    names.join(", ")
}
