//! Lays out the storage of a plan.
//!
//! Values live in *slots*. A slot is reused once the last reader of its value has run, so values whose lives do not
//! overlap share one; views (`reshape` and the like) share their input's slot; an operation that can work in place
//! takes over its input's. Values of unknown size have their own slots, which grow.

use super::{Place, Step};
use crate::compute::Compute;
use crate::graph::{Graph, GraphOperands, Node};
use crate::op::Ins;

pub(super) struct Layout {
    pub(super) steps: Vec<Step>,
    pub(super) places: Vec<Place>,
    pub(super) slots: Vec<usize>,
    /// Values that some step or result reads.
    pub(super) used: Vec<bool>,
    /// Values that are others under another name: what they show, and the value.
    pub(super) views: Vec<(usize, usize)>,
}

impl Layout {
    /// Scratch elements the most demanding step wants.
    pub(super) fn scratch(&self, graph: &Graph, compute: &Compute) -> usize {
        let of = |node: &Node| {
            let known = node.inputs.iter().flatten().all(|&id| graph.ty(id).is_some());
            if known { node.op.scratch(Ins(&GraphOperands { graph, inputs: &node.inputs }), compute) } else { 0 }
        };
        graph.nodes.iter().map(of).max().unwrap_or(0)
    }
}

pub(super) fn lay_out(graph: &Graph, reuse: bool) -> Layout {
    let count = graph.values.len();
    let is_constant = |value: usize| graph.values[value].constant.is_some();
    let is_result = |value: usize| graph.outputs.iter().any(|id| id.0 == value);
    let is_fixed = |value: usize| graph.values[value].ty.is_some();
    let len = |value: usize| graph.values[value].ty.map_or(0, |ty| ty.count());

    // A view stands for the value it shows.
    let mut root: Vec<usize> = (0..count).collect();
    let is_view = |node: &Node| -> Option<(usize, usize)> {
        let source = node.inputs[node.op.same_elements()?]?.0;
        let output = node.outputs.first()?.0;
        // A view of a constant would have to be a constant, and two results must not be one buffer.
        let (Some(from), Some(to)) = (graph.values[source].ty, graph.values[output].ty) else { return None };
        let views = !is_constant(source) && from.kind == to.kind && !is_result(output);
        views.then_some((source, output))
    };
    for node in &graph.nodes {
        if let Some((source, output)) = is_view(node).filter(|_| reuse) {
            root[output] = root[source];
        }
    }

    let mut used = vec![false; count];
    let mut last_use = vec![0usize; count];
    for (position, node) in graph.nodes.iter().enumerate() {
        for id in node.inputs.iter().flatten() {
            used[id.0] = true;
            last_use[root[id.0]] = position;
        }
        // A result nobody reads still has to be written somewhere.
        for id in &node.outputs {
            last_use[root[id.0]] = last_use[root[id.0]].max(position);
        }
    }
    for id in &graph.outputs {
        used[id.0] = true;
        last_use[root[id.0]] = usize::MAX;
    }

    let mut slots = Slots::default();
    let mut places = vec![Place::Nowhere; count];
    for id in &graph.inputs {
        places[id.0] = slots.take(len(id.0), is_fixed(id.0));
    }
    let mut steps = Vec::new();
    let mut views = Vec::new();
    let mut nested = 0;
    for (position, node) in graph.nodes.iter().enumerate() {
        if reuse && let Some((source, output)) = is_view(node) {
            places[output] = places[source];
            views.push((root[output], output));
            release(graph, node, position, &root, &last_use, &mut slots, &places, is_fixed);
            continue;
        }
        let in_place = node.op.in_place().filter(|&i| {
            let (Some(Some(input)), Some(output)) = (node.inputs.get(i), node.outputs.first()) else { return false };
            let source = root[input.0];
            let alone = node.inputs.iter().flatten().filter(|id| root[id.0] == source).count() == 1;
            reuse
                && alone
                && !is_constant(input.0)
                && last_use[source] == position
                && graph.values[input.0].ty.map(|ty| (ty.kind, ty.count()))
                    == graph.values[output.0].ty.map(|ty| (ty.kind, ty.count()))
                && is_fixed(input.0)
        });
        for (i, output) in node.outputs.iter().enumerate() {
            places[output.0] = match (in_place, i) {
                (Some(input), 0) => node.inputs[input].map_or(Place::Nowhere, |id| places[id.0]),
                _ => slots.take(len(output.0), reuse && is_fixed(output.0)),
            };
        }
        let children = node.op.nested().len();
        steps.push(Step {
            op: node.op.clone(),
            kind: node.kind.to_string(),
            output_name: graph.place(node).into(),
            inputs: node.inputs.iter().map(|id| id.map(|id| id.0)).collect(),
            outputs: node.outputs.iter().map(|id| id.0).collect(),
            in_place,
            deferred: graph.is_deferred(node),
            nested: (nested, children),
        });
        nested += children;
        if reuse {
            release(graph, node, position, &root, &last_use, &mut slots, &places, is_fixed);
        }
    }
    Layout { steps, places, slots: slots.lens, used, views }
}

/// Frees the slots of values whose last reader is the node at `position`.
#[expect(clippy::too_many_arguments, reason = "one loop of `lay_out`, split off because it runs in two places")]
fn release(
    graph: &Graph,
    node: &Node,
    position: usize,
    root: &[usize],
    last_use: &[usize],
    slots: &mut Slots,
    places: &[Place],
    is_fixed: impl Fn(usize) -> bool,
) {
    let ids = node.inputs.iter().flatten().chain(&node.outputs);
    for id in ids {
        let source = root[id.0];
        let dead = last_use[source] == position && graph.values[source].constant.is_none() && is_fixed(source);
        if dead && let Place::Slot(slot) = places[source] {
            slots.free(slot);
        }
    }
    // What an in-place output took over lives on with it.
    for id in &node.outputs {
        if last_use[root[id.0]] > position
            && let Place::Slot(slot) = places[id.0]
        {
            slots.reclaim(slot);
        }
    }
}

#[derive(Default)]
struct Slots {
    lens: Vec<usize>,
    free: Vec<usize>,
}

impl Slots {
    /// The free slot that fits `len` best, the largest one made larger, or a new one.
    fn take(&mut self, len: usize, share: bool) -> Place {
        let fits = |&(_, &slot): &(usize, &usize)| self.lens[slot] >= len;
        let candidates = || self.free.iter().enumerate();
        let best = candidates().filter(fits).min_by_key(|&(_, &slot)| self.lens[slot]);
        let chosen = best.or_else(|| candidates().max_by_key(|&(_, &slot)| self.lens[slot])).map(|(at, _)| at);
        match chosen.filter(|_| share) {
            Some(at) => {
                let slot = self.free.swap_remove(at);
                self.lens[slot] = self.lens[slot].max(len);
                Place::Slot(slot)
            }
            None => {
                self.lens.push(len);
                Place::Slot(self.lens.len() - 1)
            }
        }
    }

    fn free(&mut self, slot: usize) {
        if !self.free.contains(&slot) {
            self.free.push(slot);
        }
    }

    fn reclaim(&mut self, slot: usize) {
        self.free.retain(|&free| free != slot);
    }
}
