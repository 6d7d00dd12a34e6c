//! The passes of the optimised plan, in order. Each rewrites the graph without changing what it computes, beyond
//! rounding; a graph whose types are partly unknown is left alone where they are.

use super::Compute;
use crate::graph::Graph;

mod chain;
mod channels_last;
mod dead_code;
mod fuse;
mod gate;
mod pack;
mod recurrent;

type Pass = fn(&mut Graph, &Compute);

/// Constant folding is not among them: the graph is folded as it is built.
static PASSES: &[(&str, Pass)] = &[
    ("pack", pack::run),
    ("recurrent", recurrent::run),
    ("channels_last", channels_last::run),
    ("gate", gate::run),
    ("dead_code", dead_code::run),
    ("fuse", fuse::run),
    ("dead_code", dead_code::run),
    ("depthwise", chain::depthwise),
    ("chain", chain::run),
    ("dead_code", dead_code::run),
];

pub(super) fn run(graph: &mut Graph, compute: &Compute) {
    for (_, pass) in PASSES {
        pass(graph, compute);
    }
}

/// What an operation is called whose factors are rounded to bf16.
fn in_bf16(kind: &str) -> String {
    format!("{kind} bf16")
}
