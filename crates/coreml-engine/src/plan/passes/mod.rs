//! The passes of the optimised plan, in order. Each rewrites the graph without changing what it computes, except for
//! rounding; where types are unknown, the graph is left alone.

use std::sync::OnceLock;

use coreml_model::SmolStr;
use parking_lot::Mutex;

use super::Compute;
use crate::graph::{Graph, Node};
use crate::value::Buffer;

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

/// What `make` makes of each node, on all threads: most of the time that loading takes goes into packing weights. It is
/// given room for the elements of a constant.
fn of_each<T: Send + Sync>(
    nodes: &[Node],
    compute: &Compute,
    make: impl Fn(&Node, &mut Buffer) -> Option<T> + Sync,
) -> Vec<Option<T>> {
    // Memory that is used again need not be cleared again.
    let rooms: Vec<_> = (0..compute.pool.threads()).map(|_| Mutex::new(Buffer::default())).collect();
    let made: Vec<_> = nodes.iter().map(|_| OnceLock::new()).collect();
    compute.pool.run_indexed(nodes.len(), &|participant, at| {
        if let Some(one) = make(&nodes[at], &mut rooms[participant].lock()) {
            // Each node has its task, and nobody else sets this one.
            let _ = made[at].set(one);
        }
    });
    made.into_iter().map(OnceLock::into_inner).collect()
}

/// What an operation is called whose factors are rounded to bf16.
fn in_bf16(kind: &str) -> SmolStr {
    format!("{kind} bf16").into()
}
