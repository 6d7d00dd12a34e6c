//! Which operations a model has, and what a prediction costs the CPU engine.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use coreml_anywhere::model::{Block, Package};
use coreml_anywhere::outline::{Outline, PlannedProgram, PlannedStep};
use coreml_anywhere::{CpuBackend, LoadOptions};
use serde_json::{Value as Json, json};

use super::Leaf;
use crate::figures::{count, flops, size};
use crate::table;

/// Kinds of operations that people are shown.
const MOST_KINDS: usize = 10;

/// How often each kind of operation occurs in all programs of a package, without constants.
pub(super) struct Operations {
    /// The most frequent first.
    kinds: Vec<(String, u64)>,
}

impl Operations {
    pub(super) fn of(leaves: &[Leaf<'_>]) -> Self {
        let mut counts = BTreeMap::new();
        for program in leaves.iter().filter_map(|leaf| leaf.program().ok()) {
            program.functions.values().for_each(|function| add(&function.body, &mut counts));
        }
        let mut kinds: Vec<_> = counts.into_iter().collect();
        kinds.sort_by(|(name, count), (other, others)| others.cmp(count).then_with(|| name.cmp(other)));
        Self { kinds }
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let all: u64 = self.kinds.iter().map(|(_, number)| number).sum();
        writeln!(out, "\noperations: {}, constants apart", count(all))?;
        let row = |(name, number): &(String, u64)| vec![format!("  {name}"), count(*number)];
        let rows: Vec<_> = self.kinds.iter().take(MOST_KINDS).map(row).collect();
        table::columns(out, &[("", false), ("", true)], &rows)?;
        match self.kinds.len().saturating_sub(MOST_KINDS) {
            0 => Ok(()),
            1 => writeln!(out, "  … and 1 more kind"),
            more => writeln!(out, "  … and {more} more kinds"),
        }
    }

    pub(super) fn json(&self) -> Json {
        self.kinds.iter().map(|(name, count)| json!({"name": name, "count": count})).collect()
    }
}

fn add(block: &Block, counts: &mut BTreeMap<String, u64>) {
    let is_constant = |kind: &str| kind == "const" || kind.starts_with("constexpr_");
    for operation in block.operations.iter().filter(|operation| !is_constant(&operation.kind)) {
        *counts.entry(operation.kind.to_string()).or_default() += 1;
        operation.blocks.iter().for_each(|block| add(block, counts));
    }
}

/// What a prediction of the default shapes costs the CPU engine, or why that is not known.
pub(super) struct Work(Result<Sums, String>);

struct Sums {
    steps: u64,
    /// Steps whose arithmetic or traffic only a run can tell.
    untold: u64,
    flops: u64,
    bytes: u64,
    workspace_bytes: u64,
    state_bytes: u64,
}

impl Work {
    pub(super) fn of(package: Package, function: Option<&str>) -> Self {
        let mut options = LoadOptions::default();
        options.function = function.map(str::to_owned);
        // One thread: a plan for more needs more memory to work in, and models are inspected on any machine.
        options.threads = 1;
        let outline = Outline::of(&CpuBackend::default(), &Arc::new(package), &options);
        Self(match outline {
            Ok(outline) if outline.programs.is_empty() => Err("a model of this type has no operations".to_owned()),
            Ok(outline) => Ok(Sums::of(&outline)),
            Err(error) => Err(error.to_string()),
        })
    }

    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "\nCPU engine")?;
        let sums = match &self.0 {
            Ok(sums) => sums,
            Err(reason) => return writeln!(out, "  not told: {reason}"),
        };
        let untold = if sums.untold > 0 { format!(" at least; {} depend on data", sums.untold) } else { String::new() };
        let arithmetic = if sums.flops > 0 { flops(sums.flops) } else { "none".to_owned() };
        let rows = [
            ("steps", count(sums.steps)),
            ("arithmetic", format!("{arithmetic} of products for a prediction of the default shapes{untold}")),
            (
                "memory traffic",
                format!("{} at least, if each step reads its inputs and weights once", size(sums.bytes)),
            ),
            ("works in", format!("{} on one thread, weights apart", size(sums.workspace_bytes))),
            ("states", size(sums.state_bytes)),
        ];
        let shown = rows.into_iter().filter(|(name, _)| *name != "states" || sums.state_bytes > 0);
        table::print(out, &shown.map(|(name, text)| vec![format!("  {name}"), text]).collect::<Vec<_>>())
    }

    pub(super) fn json(&self) -> Json {
        match &self.0 {
            Ok(sums) => json!({
                "steps": sums.steps, "steps_untold": sums.untold, "flops": sums.flops, "bytes": sums.bytes,
                "workspace_bytes": sums.workspace_bytes, "state_bytes": sums.state_bytes,
            }),
            Err(reason) => json!({"unavailable": reason}),
        }
    }
}

impl Sums {
    fn of(outline: &Outline) -> Self {
        let steps = || outline.programs.iter().flat_map(|program| &program.steps).filter(|step| !step.is_view);
        let sum =
            |of: &dyn Fn(&PlannedProgram) -> usize| outline.programs.iter().map(|program| of(program) as u64).sum();
        let total = |of: &dyn Fn(&PlannedStep) -> Option<u64>| {
            steps().filter_map(of).fold(0u64, |sum, number| sum.saturating_add(number))
        };
        Self {
            steps: steps().count() as u64,
            untold: steps().filter(|step| step.bytes.is_none()).count() as u64,
            flops: total(&|step| step.flops),
            bytes: total(&|step| step.bytes),
            workspace_bytes: sum(&|program| program.workspace_bytes),
            state_bytes: sum(&|program| program.state_bytes),
        }
    }
}
