//! Joins products in a row where the result between them would not stay in the cache: a dense convolution with the
//! depthwise one it feeds, convolutions and such pairs into chains that run strip by strip, plain matrix products into pairs.

use std::sync::Arc;

use coreml_kernels::conv::{Chain, DenseDepthwise, Stage, StageKernel};

use super::Compute;
use crate::graph::{Graph, Id, Node};
use crate::lowered::conv::{Conv, Convolution};
use crate::lowered::conv_chain::ConvChain;
use crate::lowered::linear::Linear;
use crate::lowered::linear_pair::LinearPair;

/// Elements of a result that a core's second-level cache keeps beside weights and inputs. A smaller one is better
/// computed whole: each weight matrix is then read once instead of once per strip.
const CACHED: usize = 1 << 18;

/// Elements of a dense convolution's result from which on its depthwise successor makes it line by line in the L1 cache.
/// The dense one is faster on its own, but a larger result costs more to write and read than that.
const WIDE: usize = 1 << 17;

/// Pixels of a line from which on its vectors of channels make good tiles.
const LONG_LINE: usize = 24;

/// The most convolutions in a chain.
const LONGEST: usize = 4;

/// The most arithmetic, as a part of all, that strips may do again because they share lines.
const MOST_RECOMPUTED: f64 = 0.15;

pub(super) fn run(graph: &mut Graph, compute: &Compute) {
    let uses = graph.use_counts();
    let producers = graph.producers();
    // From the back, so that a chain is found from its last node.
    for at in (0..graph.nodes.len()).rev() {
        let links = Links { graph, uses: &uses, producers: &producers };
        if let Some(node) = links.pair(at).or_else(|| links.chain(at, compute)) {
            graph.nodes[at] = node;
        }
    }
}

/// Before [`run`]: depthwise convolutions make their input themselves.
pub(super) fn depthwise(graph: &mut Graph, _compute: &Compute) {
    let uses = graph.use_counts();
    let producers = graph.producers();
    for at in 0..graph.nodes.len() {
        let links = Links { graph, uses: &uses, producers: &producers };
        if let Some(node) = links.depthwise(at) {
            graph.nodes[at] = node;
        }
    }
}

struct Links<'a> {
    graph: &'a Graph,
    uses: &'a [usize],
    producers: &'a [Option<usize>],
}

impl Links<'_> {
    /// The node that makes the first input of `node`, if nothing else uses it.
    fn source(&self, node: &Node) -> Option<(&Node, Id)> {
        let id = node.inputs[0].filter(|id| self.uses[id.0] == 1)?;
        Some((&self.graph.nodes[self.producers[id.0]?], id))
    }

    fn count(&self, id: Id) -> usize {
        self.graph.ty(id).map_or(0, |ty| ty.count())
    }

    fn depthwise(&self, at: usize) -> Option<Node> {
        let node = &self.graph.nodes[at];
        let second = node.op.is::<Conv>()?;
        let (source, between) = self.source(node)?;
        let [.., width, _] = *self.graph.ty(between)?.shape.dims() else { return None };
        if self.count(between) < WIDE || width < LONG_LINE {
            return None;
        }
        let op = Convolution::dense_depthwise(source.op.is::<Conv>()?, second)?;
        Some(joined(Arc::new(op), &[source, node]))
    }

    fn pair(&self, at: usize) -> Option<Node> {
        let node = &self.graph.nodes[at];
        let second = node.op.is::<Linear>()?;
        let (source, between) = self.source(node)?;
        let first = source.op.is::<Linear>().filter(|first| !first.residual)?;
        let op = LinearPair::new(first, second)?;
        (self.count(between) > CACHED).then(|| joined(Arc::new(op), &[source, node]))
    }

    /// The chain that ends in the node at `at`: as long as what lies between would not stay in the cache.
    fn chain(&self, at: usize, compute: &Compute) -> Option<Node> {
        let last = &self.graph.nodes[at];
        let (end, residual) = stage(last)?;
        let (mut nodes, mut stages) = (vec![last], vec![end]);
        let mut best = None;
        while let Some((source, between)) = self.source(nodes[0])
            && nodes.len() < LONGEST
            && let Some((before, false)) = stage(source)
        {
            nodes.insert(0, source);
            stages.insert(0, before);
            // A small result in the middle may still be worth passing by for the sake of a large one before it.
            if self.count(between) <= CACHED {
                continue;
            }
            let chain = Chain::new(stages.clone());
            let [h, w] = self.image(nodes[0])?;
            if chain.recomputed(h, w, compute.threads()) <= MOST_RECOMPUTED {
                best = Some(joined(Arc::new(ConvChain { chain: Arc::new(chain), residual }), &nodes));
            }
        }
        best
    }

    /// Height and width of a convolution's input.
    fn image(&self, node: &Node) -> Option<[usize; 2]> {
        match *self.graph.ty(node.inputs[0]?)?.shape.dims() {
            [_, h, w, _] => Some([h, w]),
            [_, w, _] => Some([1, w]),
            _ => None,
        }
    }
}

/// A node as a stage of a chain, and whether it has a residual.
fn stage(node: &Node) -> Option<(Stage, bool)> {
    if let Some(conv) = node.op.is::<Conv>().filter(|conv| conv.kernel.works_in_strips()) {
        let kernel = StageKernel::Conv(Arc::clone(&conv.kernel));
        return Some((Stage { kernel, activation: conv.activation }, conv.residual));
    }
    let both = node.op.is::<Convolution<DenseDepthwise>>()?;
    let kernel = StageKernel::DenseDepthwise(Arc::clone(&both.kernel));
    Some((Stage { kernel, activation: both.activation }, both.residual))
}

/// One node in place of `nodes`, which follow each other.
fn joined(op: Arc<dyn crate::op::Op>, nodes: &[&Node]) -> Node {
    let (first, last) = (nodes[0], nodes[nodes.len() - 1]);
    let kinds: Vec<_> = nodes.iter().map(|node| node.kind.as_str()).collect();
    let inputs = std::iter::once(first.inputs[0]).chain(last.inputs[1..].iter().copied()).collect();
    Node { op, kind: kinds.join(" > ").into(), inputs, outputs: last.outputs.clone() }
}
