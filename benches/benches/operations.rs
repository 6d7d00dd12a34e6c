//! One operation of each family through the engine, as a program of its own: the optimised plan beside the reference
//! plan. The reference plan is the plain, slow loop; the difference is what passes and fast kernels save.
//!
//! Missing families take no time of their own in a run: `compression` is resolved when a plan is made, and `classify`
//! only names the probabilities' labels. The operations of `control_flow`, `list` and `states` move little or nothing;
//! small programs of the golden tests show what a step and a block cost.

use std::hint::black_box;
use std::sync::Arc;

use coreml_benches::{criterion as config, must, values};
use coreml_engine::{Compute, Plan, PlanOptions};
use coreml_model::{Argument, Constant, Function, Limits, Opset, Package};
use coreml_tensor::{Element, Shape, TensorView};
use coreml_testing::{repository, tensor, tiny::elementwise_model};
use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};

fn array<T: Element>(dims: &[usize], values: &[T]) -> Vec<Argument> {
    vec![Argument::Constant(Arc::new(Constant::Tensor(Arc::new(tensor(dims, values)))))]
}

fn floats(dims: &[usize]) -> Vec<Argument> {
    array(dims, &values(dims.iter().product()))
}

fn ints(values: &[i32]) -> Vec<Argument> {
    array(&[values.len()], values)
}

fn scalar<T: Element>(value: T) -> Vec<Argument> {
    array(&[], &[value])
}

fn text(text: &str) -> Vec<Argument> {
    vec![Argument::Constant(Arc::new(Constant::Strings(Shape::SCALAR, vec![text.to_owned()])))]
}

/// Arguments by the names of their parameters.
type Arguments = Vec<(&'static str, Vec<Argument>)>;

/// A function of one operation of `results` results, which is given `arguments` of the function's input of `dims`.
fn function(kind: &str, dims: &[usize], results: usize, arguments: impl FnOnce(Argument) -> Arguments) -> Function {
    // A program of as many operations, of which the first takes the results of the others.
    let bytes = elementwise_model(dims, &vec!["relu"; results]);
    let package = must(Package::from_parts(&bytes, None, &Limits::default()));
    let mut function = package.program().functions[package.default_function()].clone();
    function.opset = Opset::Ios18;
    let outputs: Vec<_> = function.body.operations.drain(1..).flat_map(|operation| operation.outputs).collect();
    let operation = &mut function.body.operations[0];
    operation.outputs.extend(outputs);
    operation.kind = kind.into();
    let arguments = arguments(Argument::Value(function.inputs[0]));
    operation.inputs = arguments.into_iter().map(|(name, arguments)| (name.into(), arguments.into())).collect();
    function
}

/// A family, the operation that stands for it, and a program of it.
type Case = (&'static str, &'static str, Function);

fn cases() -> Vec<Case> {
    let image: &[usize] = &[1, 64, 28, 28];
    let tokens: &[usize] = &[197, 192];
    let of_x = |x: Argument| vec![("x", vec![x])];
    let case = |family, kind, dims: &[usize], arguments: &dyn Fn(Argument) -> Arguments| -> Case {
        (family, kind, function(kind, dims, 1, arguments))
    };
    vec![
        case("activation", "silu", image, &of_x),
        case("conv", "conv", &[1, 64, 14, 14], &|x| {
            vec![("x", vec![x]), ("weight", floats(&[64, 64, 3, 3])), ("pad_type", text("same"))]
        }),
        case("conv", "conv_transpose", &[1, 64, 14, 14], &|x| {
            let strides = ("strides", ints(&[2, 2]));
            vec![("x", vec![x]), ("weight", floats(&[64, 32, 2, 2])), strides, ("pad_type", text("valid"))]
        }),
        case("control_flow", "select", image, &|x| {
            let condition = values(64 * 28 * 28).iter().map(|x| *x > 0.0).collect::<Vec<_>>();
            vec![("cond", array(image, &condition)), ("a", vec![x]), ("b", floats(image))]
        }),
        case("elementwise_binary", "add", image, &|x| vec![("x", vec![x]), ("y", floats(&[1, 64, 1, 1]))]),
        case("elementwise_unary", "tanh", image, &of_x),
        case("image_resizing", "upsample_bilinear", image, &|x| {
            let [height, width] = ["scale_factor_height", "scale_factor_width"].map(|name| (name, scalar(2.0f32)));
            vec![("x", vec![x]), height, width]
        }),
        case("linear", "linear", tokens, &|x| vec![("x", vec![x]), ("weight", floats(&[576, 192]))]),
        case("linear", "matmul", &[3, 197, 64], &|x| {
            vec![("x", vec![x.clone()]), ("y", vec![x]), ("transpose_y", scalar(true))]
        }),
        case("normalization", "layer_norm", tokens, &|x| {
            vec![("x", vec![x]), ("axes", ints(&[1])), ("gamma", floats(&[192])), ("beta", floats(&[192]))]
        }),
        case("pool", "max_pool", image, &|x| {
            vec![
                ("x", vec![x]),
                ("kernel_sizes", ints(&[2, 2])),
                ("strides", ints(&[2, 2])),
                ("pad_type", text("valid")),
            ]
        }),
        case("quantization", "quantize", image, &|x| {
            vec![("input", vec![x]), ("scale", scalar(0.01f32)), ("output_dtype", text("int8"))]
        }),
        case("random", "random_uniform", &[1], &|_| vec![("shape", ints(&[64, 28, 28])), ("seed", scalar(1i32))]),
        ("recurrent", "lstm", lstm()),
        case("reduction", "reduce_mean", image, &|x| vec![("x", vec![x]), ("axes", ints(&[2, 3]))]),
        case("scatter_gather", "gather", &[1000, 192], &|x| {
            let rows: Vec<i32> = (0..197).map(|i| i * 31 % 1000).collect();
            vec![("x", vec![x]), ("indices", ints(&rows)), ("axis", scalar(0i32))]
        }),
        case("tensor_operation", "concat", image, &|x| {
            vec![("values", vec![x.clone(), x]), ("axis", scalar(1i32)), ("interleave", scalar(false))]
        }),
        case("tensor_transformation", "transpose", &[197, 3, 64], &|x| {
            vec![("x", vec![x]), ("perm", ints(&[1, 0, 2]))]
        }),
        ("control_flow", "while_loop", golden("control/while_loop-counted")),
        ("list", "list in a loop", golden("control/list-in-loop")),
        ("states", "accumulator", golden("state/accumulator")),
    ]
}

fn lstm() -> Function {
    let (steps, width) = (16, 64);
    function("lstm", &[steps, 1, width], 3, |x| {
        vec![
            ("x", vec![x]),
            ("initial_h", floats(&[1, width])),
            ("initial_c", floats(&[1, width])),
            ("weight_ih", floats(&[4 * width, width])),
            ("weight_hh", floats(&[4 * width, width])),
            ("output_sequence", scalar(true)),
        ]
    })
}

/// The program of a golden test.
fn golden(name: &str) -> Function {
    let package = must(Package::open(repository().join("tests/golden").join(format!("{name}.mlmodel"))));
    package.program().functions[package.default_function()].clone()
}

fn operations(c: &mut Criterion) {
    let compute = Compute::new(1);
    for (family, kind, function) in cases() {
        let mut group = c.benchmark_group(format!("{family}/{kind}"));
        group.sampling_mode(SamplingMode::Flat);
        for (name, options) in [("plan", PlanOptions::default()), ("reference plan", PlanOptions::reference())] {
            let shapes = shapes(&function);
            let plan = must(Plan::new(&function, &shapes, &options, &compute));
            let (mut workspace, mut states) = (must(plan.workspace()), plan.states());
            for (i, shape) in shapes.iter().enumerate() {
                let values = values(shape.count());
                must(plan.set_input(&mut workspace, i, must(TensorView::new(*shape, &values))));
            }
            must(plan.run(&mut workspace, &mut states));
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter(|| plan.run(black_box(&mut workspace), &mut states));
            });
        }
        group.finish();
    }
}

/// The declared shapes of a function's tensor inputs.
fn shapes(function: &Function) -> Vec<Shape> {
    let declared = function.inputs.iter().filter_map(|&input| match &function.value(input).ty {
        coreml_model::ValueType::Tensor(ty) => Some(&ty.dims),
        _ => None,
    });
    declared
        .map(|dims| {
            let sizes = dims.iter().map(|dim| if let coreml_model::Dim::Fixed(n) = dim { *n } else { 1 });
            Shape::new(&sizes.collect::<Vec<_>>())
        })
        .collect()
}

criterion_group! {
    name = benches;
    config = config().sample_size(10);
    targets = operations
}
criterion_main!(benches);
