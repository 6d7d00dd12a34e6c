//! What is drawn: operations, the values between them, and the scopes they belong to.

use coreml_anywhere::operations;

/// A graph of operations. Every edge leads from an earlier node to a later one.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

/// An operation, an input or an output.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) role: Role,
    /// The operation, or what the feature is.
    pub(super) kind: String,
    /// The name of its first result.
    pub(super) name: String,
    /// That result's type and shape.
    pub(super) ty: String,
    /// The scopes it belongs to, outermost first; `None` if its names do not say.
    pub(super) scope: Option<Vec<String>>,
    /// Further details of it: names and texts.
    pub(super) details: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Step,
    Input,
    Output,
}

/// A value on its way from the node that gives it to one that takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) from: usize,
    /// Which of the node's results it is.
    pub(super) result: usize,
    pub(super) to: usize,
}

/// A group of operations drawn in one colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Convolution,
    Product,
    Normalization,
    Activation,
    Elementwise,
    Pooling,
    Shape,
    Other,
}

impl Family {
    /// All of them, with the name in style sheets, the name for people, and a colour for light grounds.
    pub(super) const ALL: [(Self, &'static str, &'static str, &'static str); 8] = [
        (Self::Convolution, "conv", "convolution", "#cfe3f7"),
        (Self::Product, "prod", "product", "#dcd6f7"),
        (Self::Normalization, "norm", "normalization", "#fbe3b8"),
        (Self::Activation, "act", "activation", "#cdebd0"),
        (Self::Elementwise, "elem", "element-wise", "#c9ebea"),
        (Self::Pooling, "pool", "pooling and reduction", "#f7d4dc"),
        (Self::Shape, "shape", "shape and selection", "#e6e8ea"),
        (Self::Other, "other", "other", "#f3f3ee"),
    ];

    pub(super) fn class(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).map_or("other", |row| row.1)
    }

    pub(super) fn colour(self) -> &'static str {
        Self::ALL.iter().find(|row| row.0 == self).map_or("#ffffff", |row| row.3)
    }
}

impl Node {
    /// The family of the first operation that it does.
    pub(super) fn family(&self, families: &Families) -> Family {
        families.of(&self.kind)
    }
}

/// The families of all operations by name.
pub(super) struct Families(Vec<(&'static str, Family)>);

impl Families {
    pub(super) fn new() -> Self {
        let family = |name: &str| match name {
            "conv" => Family::Convolution,
            "linear" | "recurrent" => Family::Product,
            "normalization" => Family::Normalization,
            "activation" => Family::Activation,
            "elementwise_binary" | "elementwise_unary" => Family::Elementwise,
            "pool" | "reduction" => Family::Pooling,
            "tensor_transformation" | "tensor_operation" | "scatter_gather" | "image_resizing" => Family::Shape,
            _ => Family::Other,
        };
        Self(operations().iter().map(|operation| (operation.name, family(operation.family))).collect())
    }

    /// The family of the first operation of a step: `conv+gelu > conv` is a convolution.
    pub(super) fn of(&self, kind: &str) -> Family {
        let first = kind.split(['+', ' ']).next().unwrap_or_default();
        self.0.iter().find(|(name, _)| *name == first).map_or(Family::Other, |(_, family)| *family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_steps_are_of_the_family_of_their_first_operation() {
        let families = Families::new();
        assert_eq!(families.of("conv+gelu > linear"), Family::Convolution);
        assert_eq!(families.of("softmax"), Family::Activation);
        assert_eq!(families.of("add"), Family::Elementwise);
        assert_eq!(families.of("<script>"), Family::Other);
    }
}
