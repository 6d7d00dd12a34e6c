//! Lists: `make_list`, `list_read`, `list_write`, `list_gather`, `list_scatter`, `list_length`.
//!
//! A list is a tensor whose first axis counts its elements, which are zero until they are written. Writing beyond the
//! end makes it longer, so the type of a write's result depends on the value of its index; reading there is an error. A
//! size of the elements that the program leaves open, by naming it, is 0 until the first write sets it; until then the
//! list has no elements that could be lost.

use coreml_model::Opset;
use coreml_tensor::DType;

use crate::op::{Bind, Env, Ins, Op, OpError, OpSpec, Outs, Types, constant, input, shape_of, variadic};
use crate::value::{Kind, Type};

pub(crate) static OPS: &[OpSpec] = &[
    OpSpec {
        name: "make_list",
        since: Opset::Ios15,
        params: &[
            input("init_length").optional(),
            variadic("elem_shape").or_names(),
            constant("dynamic_length").optional(),
            constant("dtype").optional(),
        ],
        bind: Bind::Node(|args| {
            let name = args.str("dtype", "fp32")?;
            let dtype = DType::from_name(name);
            let dtype = dtype.ok_or_else(|| OpError::parameter("dtype", format!("`{name}` is not a type")))?;
            Ok(Box::new(MakeList { kind: Kind::of(dtype) }))
        }),
    },
    OpSpec {
        name: "list_read",
        since: Opset::Ios15,
        params: &[input("ls"), input("index")],
        bind: Bind::Node(|_| Ok(Box::new(Read { index: "index", many: false }))),
    },
    OpSpec {
        name: "list_gather",
        since: Opset::Ios15,
        params: &[input("ls"), input("indices")],
        bind: Bind::Node(|_| Ok(Box::new(Read { index: "indices", many: true }))),
    },
    OpSpec {
        name: "list_write",
        since: Opset::Ios15,
        params: &[input("ls"), input("index"), input("value")],
        bind: Bind::Node(|_| Ok(Box::new(Write { index: "index", many: false }))),
    },
    OpSpec {
        name: "list_scatter",
        since: Opset::Ios15,
        params: &[input("ls"), input("indices"), input("value")],
        bind: Bind::Node(|_| Ok(Box::new(Write { index: "indices", many: true }))),
    },
    OpSpec {
        name: "list_length",
        since: Opset::Ios15,
        params: &[input("ls")],
        bind: Bind::Node(|_| Ok(Box::new(Length))),
    },
];

#[derive(Debug)]
struct MakeList {
    kind: Kind,
}

impl Op for MakeList {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let mut dims = Vec::new();
        for i in 0..ins.len() {
            let name = if i == 0 { "init_length" } else { "elem_shape" };
            if i == 0 && !ins.has(0) {
                dims.push(1);
                continue;
            }
            // Sizes are integers or names, and names are not tensors of integers.
            if i > 0 && (!ins.has(i) || ins.ty(i).kind == Kind::Float) {
                dims.push(0);
                continue;
            }
            if ins.ty(i).kind == Kind::Float {
                return Err(OpError::parameter(name, "must be integers"));
            }
            for &size in ins.known_ints(i)? {
                let size = usize::try_from(size);
                dims.push(size.map_err(|_| OpError::parameter(name, "must not be negative"))?);
            }
        }
        Ok(vec![Type::new(self.kind, shape_of(&dims)?)])
    }

    fn run(&self, _ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        outs.f32(0).fill(0.0);
        Ok(())
    }
}

/// The number of elements of the list in input 0.
fn length(ins: Ins<'_>) -> Result<usize, OpError> {
    ins.shape(0).first().copied().ok_or_else(|| OpError::parameter("ls", "is not a list"))
}

/// One element, or those at several indices as one tensor.
#[derive(Debug)]
struct Read {
    index: &'static str,
    many: bool,
}

impl Op for Read {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        length(ins)?;
        let count = ins.expect_kind(1, Kind::Int)?.count();
        if !self.many && count != 1 {
            return Err(OpError::parameter(self.index, format!("must be one number, found {count}")));
        }
        let (list, leading) = (ins.ty(0), [count]);
        let dims = [if self.many { &leading[..] } else { &[] }, &list.shape[1..]].concat();
        Ok(vec![list.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let count = length(ins)?;
        let len: usize = ins.shape(0)[1..].iter().product();
        for (i, &index) in ins.i32(1).iter().enumerate() {
            let from = usize::try_from(index).ok().filter(|&from| from < count);
            let from = from.ok_or_else(|| {
                OpError::parameter(self.index, format!("{index} is beyond a list of {count} elements"))
            })?;
            outs.f32(0)[i * len..][..len].copy_from_slice(&ins.f32(0)[from * len..][..len]);
        }
        Ok(())
    }
}

/// Replaces one element, or those at several indices by the parts of one tensor.
#[derive(Debug)]
struct Write {
    index: &'static str,
    many: bool,
}

impl Op for Write {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        let (list, value) = (ins.ty(0), ins.ty(2));
        let count = ins.expect_kind(1, Kind::Int)?.count();
        if !self.many && count != 1 {
            return Err(OpError::parameter(self.index, format!("must be one number, found {count}")));
        }
        let shape = list.shape;
        let mut len = length(ins)?;
        let element = if self.many { value.shape.get(1..) } else { Some(&value.shape[..]) };
        let element = element.filter(|element| {
            let sizes = element.iter().zip(&shape[1..]);
            element.len() + 1 == shape.rank() && sizes.into_iter().all(|(&size, &listed)| size == listed || listed == 0)
        });
        let fits = element.is_some() && (!self.many || value.shape[0] == count);
        if !fits || (value.kind == Kind::Float) != (list.kind == Kind::Float) {
            return Err(OpError::parameter("value", format!("{} does not fit a list {}", value.shape, list.shape)));
        }
        for &index in ins.known_ints(1)? {
            let index = usize::try_from(index)
                .map_err(|_| OpError::parameter(self.index, format!("{index} is not a place in a list")))?;
            len = len.max(index.saturating_add(1));
        }
        let mut dims = vec![len];
        dims.extend_from_slice(element.unwrap_or_default());
        Ok(vec![list.with_shape(shape_of(&dims)?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        let (list, value) = (ins.f32(0), ins.f32(2));
        let len: usize = outs.shape(0)[1..].iter().product();
        let out = outs.f32(0);
        let (old, new) = out.split_at_mut(list.len());
        old.copy_from_slice(list);
        new.fill(0.0);
        for (i, &index) in ins.i32(1).iter().enumerate() {
            out[index as usize * len..][..len].copy_from_slice(&value[i * len..][..len]);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Length;

impl Op for Length {
    fn infer(&self, ins: Ins<'_>) -> Result<Types, OpError> {
        length(ins)?;
        Ok(vec![Type::new(Kind::Int, shape_of(&[])?)])
    }

    fn run(&self, ins: Ins<'_>, outs: &mut Outs<'_>, _env: &mut Env<'_>) -> Result<(), OpError> {
        outs.i32(0)[0] = i32::try_from(length(ins)?).unwrap_or(i32::MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::testing::{Value, run};

    #[test]
    fn lists_grow_with_zeros_and_are_read_back() {
        let list = run("make_list", &[Value::int(&[], &[1]), Value::int(&[], &[2])], &[]).unwrap().remove(0);
        assert_eq!(list, Value::float(&[1, 2], &[0.0, 0.0]));
        let value = Value::float(&[2], &[3.0, 4.0]);
        let longer = run("list_write", &[list.clone(), Value::int(&[], &[2]), value.clone()], &[]).unwrap().remove(0);
        assert_eq!(longer, Value::float(&[3, 2], &[0.0, 0.0, 0.0, 0.0, 3.0, 4.0]));
        assert_eq!(run("list_read", &[longer.clone(), Value::int(&[], &[2])], &[]).unwrap(), [value]);
        assert_eq!(run("list_length", std::slice::from_ref(&longer), &[]).unwrap(), [Value::int(&[], &[3])]);
        let two = Value::float(&[2, 2], &[1.0, 2.0, 5.0, 6.0]);
        let scattered = run("list_scatter", &[list, Value::int(&[2], &[1, 0]), two.clone()], &[]).unwrap().remove(0);
        let gathered = run("list_gather", &[scattered, Value::int(&[2], &[1, 0])], &[]).unwrap();
        assert_eq!(gathered, [two]);
        let error = run("list_read", &[longer, Value::int(&[], &[3])], &[]).unwrap_err();
        assert_eq!(error.to_string(), "parameter `index`: 3 is beyond a list of 3 elements");
    }

    #[test]
    fn the_first_write_says_what_was_left_open() {
        // Anything but an integer stands for a name here.
        let sizes = [Value::int(&[], &[2]), Value::float(&[], &[0.0]), Value::int(&[], &[3])];
        let list = run("make_list", &sizes, &[]).unwrap().remove(0);
        assert_eq!(list, Value::float(&[2, 0, 3], &[]));
        let ins = |list: &Value, dims: &[usize], values: &[f32]| {
            [list.clone(), Value::int(&[], &[1]), Value::float(dims, values)]
        };
        let written = run("list_write", &ins(&list, &[1, 3], &[1.0, 2.0, 3.0]), &[]).unwrap().remove(0);
        assert_eq!(written, Value::float(&[2, 1, 3], &[0.0, 0.0, 0.0, 1.0, 2.0, 3.0]));
        assert!(run("list_write", &ins(&list, &[1, 4], &[0.0; 4]), &[]).is_err());
        assert!(run("list_write", &ins(&written, &[2, 3], &[0.0; 6]), &[]).is_err());
    }

    #[test]
    fn elements_must_have_the_shape_of_the_list() {
        let list = Value::float(&[1, 2], &[0.0; 2]);
        let ins = [list.clone(), Value::int(&[], &[0]), Value::float(&[3], &[0.0; 3])];
        assert!(run("list_write", &ins, &[]).unwrap_err().to_string().contains("`value`"));
        let ins = [list, Value::int(&[], &[-1]), Value::float(&[2], &[0.0; 2])];
        assert!(run("list_write", &ins, &[]).unwrap_err().to_string().contains("`index`"));
    }
}
