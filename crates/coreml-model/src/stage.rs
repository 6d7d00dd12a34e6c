//! What a model consists of.

use std::collections::BTreeMap;

use crate::classic::ClassicModel;
use crate::interface::Interface;
use crate::neural_network::NeuralNetwork;
use crate::program::Program;

/// One model: a whole file, or a member of a pipeline in it.
#[derive(Debug)]
pub struct Stage {
    pub(crate) kind: &'static str,
    pub(crate) content: Content,
    pub(crate) interface: Interface,
    pub(crate) function: String,
}

/// What a model is.
#[derive(Debug)]
#[non_exhaustive]
pub enum Content {
    /// An ML Program.
    Program(Program),
    /// A neural network, which can be lowered to a program.
    NeuralNetwork(NeuralNetwork),
    /// A model of a classic type.
    Classic(ClassicModel),
    /// Models that run in this order. Each finds its inputs by name among those of the pipeline and the outputs of
    /// earlier members, the latest first. At least one.
    Pipeline(Vec<Stage>),
}

/// What stands for the program of a model that is none.
static NO_PROGRAM: Program = Program { functions: BTreeMap::new() };

impl Stage {
    /// The name of the model's type in the format: `mlProgram`, `pipelineClassifier`, ….
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What the model is.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// The program; without functions if the model is not one.
    pub fn program(&self) -> &Program {
        if let Content::Program(program) = &self.content { program } else { &NO_PROGRAM }
    }

    /// The neural network, if the model is one.
    pub fn network(&self) -> Option<&NeuralNetwork> {
        if let Content::NeuralNetwork(network) = &self.content { Some(network) } else { None }
    }

    /// The model of a classic type, if it is one.
    pub fn classic(&self) -> Option<&ClassicModel> {
        if let Content::Classic(classic) = &self.content { Some(classic) } else { None }
    }

    /// The members of a pipeline; the model itself if it is not a pipeline.
    pub fn members(&self) -> &[Self] {
        if let Content::Pipeline(members) = &self.content { members } else { std::slice::from_ref(self) }
    }

    /// All models in this one that are not pipelines, in the order they run.
    pub fn leaves(&self) -> Vec<&Self> {
        match &self.content {
            Content::Pipeline(members) => members.iter().flat_map(Self::leaves).collect(),
            _ => vec![self],
        }
    }

    /// The inputs and outputs of the default function.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// The function of the program that runs when none is named.
    pub fn default_function(&self) -> &str {
        &self.function
    }
}
