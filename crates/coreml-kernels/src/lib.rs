//! CPU arithmetic on slices: matrix products, convolutions, element-wise functions.
