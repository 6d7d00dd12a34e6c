//! The operations of ML Programs, one file per family, each with a table of its rows.
//!
//! The families are those of the format's own operation set. Semantics follow coremltools' definitions of the
//! operations; where those are silent or wrong, they follow what the converter's own tests expect. Every operation here
//! is the plain form that the reference plan runs; the optimised plan replaces the costly ones with the forms in
//! `lowered`.

use std::collections::HashMap;
use std::sync::LazyLock;

use coreml_model::Opset;

use crate::op::{OpSpec, Role};

pub(crate) mod activation;
pub(crate) mod classify;
pub(crate) mod compression;
pub(crate) mod control_flow;
pub(crate) mod conv;
pub(crate) mod elementwise_binary;
pub(crate) mod elementwise_unary;
pub(crate) mod image_resizing;
pub(crate) mod linear;
pub(crate) mod list;
pub(crate) mod neural_network;
pub(crate) mod normalization;
pub(crate) mod pool;
#[cfg(test)]
mod properties;
pub(crate) mod quantization;
pub(crate) mod random;
pub(crate) mod recurrent;
pub(crate) mod reduction;
#[cfg(test)]
mod robustness;
pub(crate) mod rows;
pub(crate) mod scalar;
pub(crate) mod scatter_gather;
pub(crate) mod states;
pub(crate) mod tensor_operation;
pub(crate) mod tensor_transformation;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod work;

/// All families, by the name of the file they live in.
pub(crate) static FAMILIES: &[(&str, &[OpSpec])] = &[
    ("activation", activation::OPS),
    ("classify", classify::OPS),
    ("compression", compression::OPS),
    ("control_flow", control_flow::OPS),
    ("conv", conv::OPS),
    ("elementwise_binary", elementwise_binary::OPS),
    ("elementwise_unary", elementwise_unary::OPS),
    ("image_resizing", image_resizing::OPS),
    ("image_resizing/sampling", image_resizing::sampling::OPS),
    ("linear", linear::OPS),
    ("list", list::OPS),
    ("neural_network", neural_network::OPS),
    ("normalization", normalization::OPS),
    ("pool", pool::OPS),
    ("quantization", quantization::OPS),
    ("random", random::OPS),
    ("recurrent", recurrent::OPS),
    ("reduction", reduction::OPS),
    ("scatter_gather", scatter_gather::OPS),
    ("scatter_gather/scatter", scatter_gather::scatter::OPS),
    ("states", states::OPS),
    ("tensor_operation", tensor_operation::OPS),
    ("tensor_operation/create", tensor_operation::create::OPS),
    ("tensor_operation/extend", tensor_operation::extend::OPS),
    ("tensor_operation/order", tensor_operation::order::OPS),
    ("tensor_operation/suppression", tensor_operation::suppression::OPS),
    ("tensor_transformation", tensor_transformation::OPS),
    ("tensor_transformation/blocks", tensor_transformation::blocks::OPS),
    ("tensor_transformation/parts", tensor_transformation::parts::OPS),
];

/// Operations of the format that the engine will not have, each with the reason.
static REFUSED: &[(&str, &str)] = &[
    (
        "conv_quantized",
        "coremltools calls it experimental and its results may change; quantised weights come as `constexpr_` operations \
         or `quantize` and `dequantize` beside a plain `conv`, which are supported",
    ),
    ("custom_layer", "what it computes is code of the app that brings it, which no model file holds"),
];

/// Operations of the format that the engine will never run, each with the reason.
pub fn refused() -> &'static [(&'static str, &'static str)] {
    REFUSED
}

/// What to say of an operation that `opset` does not have.
pub(crate) fn why_missing(name: &str, opset: Opset) -> String {
    if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return format!("is refused: {reason}");
    }
    match find(name, Opset::Ios26) {
        Some(spec) => format!("is not in {opset}, only from {} on", spec.since),
        None => format!("is not supported yet (operation set {opset})"),
    }
}

/// The newest row for `name` that `opset` has.
pub(crate) fn find(name: &str, opset: Opset) -> Option<&'static OpSpec> {
    static ROWS: LazyLock<HashMap<&str, Vec<&OpSpec>>> = LazyLock::new(|| {
        let mut rows: HashMap<&str, Vec<&OpSpec>> = HashMap::new();
        for spec in FAMILIES.iter().flat_map(|(_, rows)| rows.iter()) {
            rows.entry(spec.name).or_default().push(spec);
        }
        rows
    });
    ROWS.get(name)?.iter().copied().filter(|spec| spec.since <= opset).max_by_key(|spec| spec.since)
}

/// An operation the engine has, as its row declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OperationInfo {
    /// The operation's type in a program.
    pub name: &'static str,
    /// The family it belongs to, which is also the file it is in.
    pub family: &'static str,
    /// The first operation set that has it in this form.
    pub since: Opset,
    /// Its parameters.
    pub parameters: Vec<ParameterInfo>,
}

/// A parameter of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParameterInfo {
    /// The name it is bound by.
    pub name: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Whether its value must be known when the plan is made.
    pub constant: bool,
}

/// Every operation the engine has, by family and in the order of its table; one that changed with an operation set is
/// listed once for each form.
pub fn operations() -> Vec<OperationInfo> {
    let rows = FAMILIES.iter().flat_map(|(family, rows)| rows.iter().map(move |spec| (*family, spec)));
    let info = |(family, spec): (&'static str, &'static OpSpec)| {
        let parameters = spec.params.iter().map(|param| ParameterInfo {
            name: param.name,
            required: param.required,
            constant: param.role == Role::Constant,
        });
        OperationInfo { name: spec.name, family, since: spec.since, parameters: parameters.collect() }
    };
    rows.map(info).collect()
}

/// Whether the engine has the operation `name` as the operation set `opset` defines it.
pub fn supports(name: &str, opset: Opset) -> bool {
    find(name, opset).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_missing_for_a_reason() {
        assert!(why_missing("custom_layer", Opset::Ios18).starts_with("is refused: what it computes"));
        assert_eq!(why_missing("read_state", Opset::Ios15), "is not in CoreML5, only from CoreML8 on");
        assert_eq!(why_missing("fold_laundry", Opset::Ios16), "is not supported yet (operation set CoreML6)");
        for (name, _) in REFUSED {
            assert!(find(name, Opset::Ios26).is_none(), "{name} is refused and supported");
        }
    }
}
