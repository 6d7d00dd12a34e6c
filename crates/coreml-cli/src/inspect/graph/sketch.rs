//! The picture of a package: its features, and between them the models in it, in the order they run.

use std::collections::HashMap;

use coreml_anywhere::describe;
use coreml_anywhere::model::{Content, Feature, Interface, Stage};

use super::picture::{Edge, Node, Picture, Role};

/// A result of a node.
pub(super) type Source = (usize, usize);

/// A picture in the making.
#[derive(Default)]
pub(super) struct Sketch {
    pub(super) picture: Picture,
    /// Where each feature comes from by now.
    pub(super) features: HashMap<String, Source>,
}

/// Draws a program within a pipeline's member, or as the whole. False if the model has none; it is then one node.
pub(super) type DrawProgram<'a> = dyn FnMut(&mut Sketch, &Stage, &[usize]) -> bool + 'a;

impl Sketch {
    pub(super) fn of(title: String, model: &Stage, interface: &Interface, program: &mut DrawProgram<'_>) -> Picture {
        let mut sketch = Self::default();
        sketch.picture.title = title;
        for (features, kind) in [(&interface.inputs, "input"), (&interface.states, "state")] {
            for feature in features {
                let node = sketch.feature(Role::Input, kind, feature);
                sketch.features.insert(feature.name.clone(), (node, 0));
            }
        }
        sketch.add_stage(model, &mut Vec::new(), program);
        for feature in &interface.outputs {
            let node = sketch.feature(Role::Output, "output", feature);
            if let Some(&source) = sketch.features.get(&feature.name).filter(|source| source.0 != node) {
                sketch.edge(source, node);
            }
        }
        sketch.picture.edges.sort_unstable();
        sketch.picture.edges.dedup();
        sketch.picture
    }

    fn feature(&mut self, role: Role, kind: &str, feature: &Feature) -> usize {
        let details =
            if feature.description.is_empty() { Vec::new() } else { vec![detail("description", &feature.description)] };
        self.node(Node {
            role,
            kind: kind.to_owned(),
            name: feature.name.clone(),
            ty: describe(&feature.kind),
            scope: Some(Vec::new()),
            details,
        })
    }

    pub(super) fn node(&mut self, node: Node) -> usize {
        self.picture.nodes.push(node);
        self.picture.nodes.len() - 1
    }

    pub(super) fn edge(&mut self, (from, result): Source, to: usize) {
        self.picture.edges.push(Edge { from, result, to });
    }

    fn add_stage(&mut self, stage: &Stage, path: &mut Vec<usize>, program: &mut DrawProgram<'_>) {
        let first = self.picture.nodes.len();
        match stage.content() {
            Content::Pipeline(members) => {
                for (i, member) in members.iter().enumerate() {
                    path.push(i);
                    self.add_stage(member, path, program);
                    path.pop();
                }
            }
            _ if program(self, stage, path) => {}
            _ => self.add_opaque(stage),
        }
        // What belongs to a member lies in its box. A member of one node says itself what it is.
        if let Some(position) = path.last().filter(|_| self.picture.nodes.len() > first + 1) {
            let name = format!("member {}: {}", position + 1, stage.kind());
            for node in &mut self.picture.nodes[first..] {
                node.scope.get_or_insert_default().insert(0, name.clone());
            }
        }
    }

    /// A model whose inside is no graph.
    fn add_opaque(&mut self, stage: &Stage) {
        let Interface { inputs, outputs, .. } = stage.interface();
        let names = |features: &[Feature]| features.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
        let node = self.node(Node {
            kind: stage.kind().to_owned(),
            name: names(outputs),
            ty: outputs.first().map_or_else(String::new, |feature| describe(&feature.kind)),
            scope: Some(Vec::new()),
            details: vec![detail("inputs", names(inputs)), detail("outputs", names(outputs))],
            ..Node::default()
        });
        for feature in inputs {
            if let Some(&source) = self.features.get(&feature.name) {
                self.edge(source, node);
            }
        }
        for (result, feature) in outputs.iter().enumerate() {
            self.features.insert(feature.name.clone(), (node, result));
        }
    }
}

pub(super) fn detail(name: &str, text: impl Into<String>) -> (String, String) {
    (name.to_owned(), text.into())
}
