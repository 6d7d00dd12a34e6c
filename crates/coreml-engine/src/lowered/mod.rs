//! Operations of the optimised plan: packed, fused, channels-last forms of the plain ones.
//!
//! They are not in the table; `plan::passes` puts them in place of plain operations whose parameters it knows. Each
//! computes the same as the operations it replaces, except for rounding.

pub(crate) mod conv;
pub(crate) mod conv_chain;
mod images;
pub(crate) mod linear;
pub(crate) mod linear_pair;
pub(crate) mod pool;
pub(crate) mod recurrent;
pub(crate) mod scale_shift;
pub(crate) mod view;

use coreml_kernels::Activation;
use coreml_kernels::conv::ConvTranspose2d;

use crate::op::Op;

/// A product whose results an activation or an addition can be applied to before they are stored.
pub(crate) trait Epilogue: Op {
    /// With `activation` after everything else, if there is none yet.
    fn with_activation(&self, activation: Activation) -> Option<Box<dyn Op>>;

    /// With another input, last, added to the result before the activation, if neither is there yet.
    fn with_residual(&self) -> Option<Box<dyn Op>>;
}

/// The operation's epilogue, if it is one that has one.
pub(crate) fn epilogue(op: &dyn Op) -> Option<&dyn Epilogue> {
    if let Some(conv) = op.is::<conv::Conv>() {
        return Some(conv);
    }
    if let Some(conv) = op.is::<conv::Convolution<ConvTranspose2d>>() {
        return Some(conv);
    }
    op.is::<linear::Linear>().map(|linear| linear as &dyn Epilogue)
}
