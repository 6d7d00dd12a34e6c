//! MIL text: the form of programs in compiled models, in `model.mil`.
//!
//! The grammar is not published; this is how compilers are seen to write it:
//!
//! ```text
//! program(1.3) [buildInfo = …] { func NAME<ios17>(TYPE name, …) [attributes] { operations } -> (results); … }
//! operation:  TYPE name, … = kind(parameter = argument, …)[attribute = value, …] (TYPE name, …) { operations } -> (results) …;
//! argument:   a name, a value, or several in parentheses
//! value:      TYPE(literal), or TYPE(BLOBFILE(path = string("@model_path/…"), offset = uint64(64)))
//! type:       fp16, int32, string, …; tensor<fp16, [1, ?]>, list<…, 3>, tuple<…>, dict<…, …>, state<…>
//! literal:    0x1.8p-3, -7, true, "text", [[1, 2], [3, 4]]; in parentheses of a tuple; {{key, value}, …} of a dictionary
//! ```
//!
//! Of models older than iOS 18 compilers write version 1.0, where scalars are tensors without dimensions, `tensor<int32, []>(3)`.
//!
//! The text becomes the same messages as a package's program, so that one set of rules checks both.

mod float;
mod lexer;
mod literal;
mod parse;
mod print;

pub(crate) use parse::{Flexible, program};
pub(crate) use print::{Quoted, Scalars, text};
