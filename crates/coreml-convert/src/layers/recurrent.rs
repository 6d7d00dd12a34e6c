//! Recurrent layers: `simpleRecurrent`, `gru`, `uniDirectionalLSTM`, `biDirectionalLSTM`.
//!
//! With the usual activations, these layers become the recurrent operations of ML Programs. Otherwise the steps are
//! written out in a loop ([`steps`]), which works for everything.

use coreml_model::Fields;
use coreml_tensor::Tensor;

use super::{Context, Lowered, Row, row};
use crate::builder::{Arg, Blob, tensor};
use crate::error::ConvertError;
use crate::weights::{Layout, weights};

mod steps;

pub(super) static ROWS: &[Row] = &[
    row(400, "simpleRecurrent", |c| {
        let fields = c.fields;
        let gates = Gates::read(c, fields, fields.bool(20)?, &[30], &[31], &[32])?;
        let output = fields.message(10)?.unwrap_or_default();
        one_direction(c, gates, Cell::Rnn { output }, fields.bool(15)?)
    }),
    row(410, "gru", |c| {
        let fields = c.fields;
        // Reset, output (which ML Programs call new), update.
        let gates = Gates::read(c, fields, fields.bool(20)?, &[31, 32, 30], &[51, 52, 50], &[71, 72, 70])?;
        let [gate, output] = activations(&fields.messages(10)?)?;
        one_direction(c, gates, Cell::Gru { gate, output }, fields.bool(15)?)
    }),
    row(420, "uniDirectionalLSTM", |c| {
        let fields = c.fields;
        let options = fields.message(15)?.unwrap_or_default();
        let (gates, cell) = lstm(c, options, fields.message(20)?.unwrap_or_default(), &fields.messages(10)?)?;
        if c.layer.outputs.len() == 2 {
            return Err(ConvertError::invalid("has two outputs; an LSTM gives its states or not"));
        }
        one_direction(c, gates, cell, options.bool(10)?)
    }),
    row(430, "biDirectionalLSTM", |c| {
        let fields = c.fields;
        let options = fields.message(15)?.unwrap_or_default();
        let [forward, backward] = *fields.messages(20)? else {
            return Err(ConvertError::invalid("must have the weights of two directions"));
        };
        let (gates, cell) = lstm(c, options, forward, &fields.messages(10)?)?;
        let (back_gates, back_cell) = lstm(c, options, backward, &fields.messages(11)?)?;
        let (x, rank) = sequence(c)?;
        let (states, back_states) = (states(c, x, gates.width, 1, 2)?, states(c, x, gates.width, 3, 2)?);
        let sequence = options.bool(10)?;
        let ahead = run(c, &Run { gates, cell, x, states, reverse: false, sequence })?;
        let mut back =
            run(c, &Run { gates: back_gates, cell: back_cell, x, states: back_states, reverse: true, sequence })?;
        // Run in reverse, a layer gives its results in the order it computes them.
        if sequence {
            back[0] = c.builder.op("reverse", 3, vec![("x", back[0].into()), ("axes", vec![0].into())]);
        }
        let both = vec![("values", Arg::Blobs(vec![ahead[0], back[0]])), ("axis", 2.into())];
        let both = c.builder.op("concat", 3, both);
        Ok(with_axes(c, rank, both, &[&ahead[1..], &back[1..]].concat()))
    }),
];

/// The weights of all gates, one after the other.
struct Gates {
    input: Tensor,
    hidden: Tensor,
    bias: Option<Tensor>,
    /// Elements of the state.
    width: usize,
}

impl Gates {
    /// From the fields of `params`, in the order of the gates.
    fn read(
        c: &Context<'_>,
        params: Fields<'_>,
        has_bias: bool,
        input: &[u32],
        hidden: &[u32],
        bias: &[u32],
    ) -> Result<Self, ConvertError> {
        let (features, width) = (c.size(1)?, c.size(2)?);
        // The recursion comes first: that it has as many weights bounds the state.
        let hidden = stacked(params, hidden, &[width, width])?;
        let bias = if has_bias { Some(stacked(params, bias, &[width])?) } else { None };
        Ok(Self { input: stacked(params, input, &[width, features])?, hidden, bias, width })
    }
}

/// The weights of several fields, each of the shape `dims`, below each other.
fn stacked(params: Fields<'_>, numbers: &[u32], dims: &[usize]) -> Result<Tensor, ConvertError> {
    let mut values = Vec::new();
    for &number in numbers {
        values.extend(weights(params.message(number)?.unwrap_or_default(), Layout::rows(dims)?)?);
    }
    let rows = dims.first().map_or(0, |rows| rows.saturating_mul(numbers.len()));
    tensor(&[&[rows], dims.get(1..).unwrap_or_default()].concat(), values)
}

/// What a layer makes of the sums of its gates; activations are messages.
enum Cell<'a> {
    Rnn { output: Fields<'a> },
    Gru { gate: Fields<'a>, output: Fields<'a> },
    Lstm { gate: Fields<'a>, cell: Fields<'a>, output: Fields<'a>, coupled: bool, clip: f32, peephole: Option<Tensor> },
}

fn activations<'a, const N: usize>(given: &[Fields<'a>]) -> Result<[Fields<'a>; N], ConvertError> {
    let wrong = |_| ConvertError::invalid(format!("has {} activations, {N} are needed", given.len()));
    given.try_into().map_err(wrong)
}

fn lstm<'a>(
    c: &Context<'_>,
    options: Fields<'_>,
    params: Fields<'_>,
    given: &[Fields<'a>],
) -> Result<(Gates, Cell<'a>), ConvertError> {
    let [gate, cell, output] = activations(given)?;
    // Input, forget, output, and the new value of the cell.
    let mut gates = Gates::read(c, params, options.bool(20)?, &[1, 2, 4, 3], &[20, 21, 23, 22], &[40, 41, 43, 42])?;
    let width = gates.width;
    if options.bool(30)? {
        let mut bias = gates
            .bias
            .as_ref()
            .map_or_else(|| vec![0.0; 4 * width], |bias| bias.as_slice::<f32>().unwrap_or_default().to_vec());
        bias.iter_mut().skip(width).take(width).for_each(|forget| *forget += 1.0);
        gates.bias = Some(tensor(&[4 * width], bias)?);
    }
    let peephole = if options.bool(40)? { Some(stacked(params, &[60, 61, 62], &[width])?) } else { None };
    let clip = if options.float(60)? == 0.0 { SUM_LIMIT } else { options.float(60)? };
    Ok((gates, Cell::Lstm { gate, cell, output, coupled: options.bool(50)?, clip, peephole }))
}

/// Sums are kept within this before an activation sees them; so is the cell of an LSTM unless the file says otherwise.
const SUM_LIMIT: f32 = 50.0;

/// One direction of a layer.
struct Run<'a> {
    gates: Gates,
    cell: Cell<'a>,
    /// `[steps, batch, features]`.
    x: Blob,
    /// `[batch, width]` each.
    states: Vec<Blob>,
    reverse: bool,
    /// Whether the results of all steps are wanted, or only the last.
    sequence: bool,
}

fn one_direction(c: &mut Context<'_>, gates: Gates, cell: Cell<'_>, all: bool) -> Lowered {
    let reverse = c.fields.bool(100)?;
    let (x, rank) = sequence(c)?;
    let count = if matches!(cell, Cell::Lstm { .. }) { 2 } else { 1 };
    let states = states(c, x, gates.width, 1, count)?;
    let results = run(c, &Run { gates, cell, x, states, reverse, sequence: all })?;
    Ok(with_axes(c, rank, results[0], &results[1..]))
}

/// The first input as `[steps, batch, features]`, and its rank.
fn sequence(c: &mut Context<'_>) -> Result<(Blob, usize), ConvertError> {
    let x = c.input(0)?;
    match x.rank {
        3 => Ok((x, 3)),
        5 => {
            let outer = c.builder.sizes(x, 0, 2);
            let features = c.builder.integers(vec![super::int(c.size(1)?)?]);
            let shape = c.builder.joined(vec![outer, features]);
            let sequence = c.builder.shaped(x, shape, 3);
            let sizes = c.builder.assumed(x);
            c.builder.assume(sequence, Some(vec![sizes[0], sizes[1], Some(c.size(1)?)]));
            Ok((sequence, 5))
        }
        rank => Err(ConvertError::unsupported(format!("of a blob with {rank} axes, sequences have 5"))),
    }
}

/// `count` initial states, from input `first` on; zeros where there is none.
fn states(c: &mut Context<'_>, x: Blob, width: usize, first: usize, count: usize) -> Result<Vec<Blob>, ConvertError> {
    let width = super::int(width)?;
    let mut state = |i: usize| match c.inputs.get(i) {
        Some(&given) => c.builder.reshape(given, vec![-1, width]),
        None => {
            let batch = c.builder.sizes(x, 1, 2);
            let width = c.builder.integers(vec![width]);
            let sizes = c.builder.joined(vec![batch, width]);
            c.builder.op("fill", 2, vec![("shape", sizes.into()), ("value", 0.0.into())])
        }
    };
    Ok((first..first + count).map(&mut state).collect())
}

/// The result `[steps, batch, width]` and the last states with the axes that the input had.
fn with_axes(c: &mut Context<'_>, rank: usize, y: Blob, states: &[Blob]) -> Vec<Blob> {
    let (inner, outer) = if rank == 5 { (vec![3, 4], vec![0, 3, 4]) } else { (Vec::new(), vec![0]) };
    let y = if inner.is_empty() { y } else { c.builder.expand_dims(y, inner) };
    let states: Vec<_> = states.iter().map(|&state| c.builder.expand_dims(state, outer.clone())).collect();
    [vec![y], states].concat()
}

/// The result and the last states: by an operation if there is one that says the same.
fn run(c: &mut Context<'_>, run: &Run<'_>) -> Lowered {
    let results = match operation(run)? {
        Some((kind, options)) => by_operation(c, run, kind, options),
        None => steps::lower(c.builder, run)?,
    };
    let (x, width) = (c.builder.assumed(run.x), Some(run.gates.width));
    let steps = if run.sequence { x[0] } else { Some(1) };
    for (i, &result) in results.iter().enumerate() {
        c.builder.assume(result, Some(if i == 0 { vec![steps, x[1], width] } else { vec![x[1], width] }));
    }
    Ok(results)
}

/// Arguments by name.
type Arguments = Vec<(&'static str, Arg)>;

/// The operation for a layer and the arguments only it has.
fn operation(run: &Run<'_>) -> Result<Option<(&'static str, Arguments)>, ConvertError> {
    let mut options = Vec::new();
    let functions = match &run.cell {
        Cell::Rnn { output } => vec![("activation", output)],
        Cell::Gru { gate, output } => vec![("recurrent_activation", gate), ("activation", output)],
        Cell::Lstm { coupled: true, .. } => return Ok(None),
        Cell::Lstm { gate, cell, output, clip, peephole, .. } => {
            options.push(("clip", (*clip).into()));
            options.extend(peephole.clone().map(|peephole| ("peephole", peephole.into())));
            vec![("recurrent_activation", gate), ("cell_activation", cell), ("activation", output)]
        }
    };
    for (name, function) in functions {
        let Some(function) = usual(*function)? else { return Ok(None) };
        options.push((name, function.into()));
    }
    let kind = match run.cell {
        Cell::Rnn { .. } => "rnn",
        Cell::Gru { .. } => "gru",
        Cell::Lstm { .. } => "lstm",
    };
    Ok(Some((kind, options)))
}

/// What operations call an activation, if they have it. Only such as are flat long before [`SUM_LIMIT`], since operations
/// do not limit sums.
fn usual(function: Fields<'_>) -> Result<Option<&'static str>, ConvertError> {
    let Some(&tag) = function.numbers()?.last() else { return Ok(None) };
    let parameters = function.message(tag)?.unwrap_or_default();
    let parameters = (parameters.float(1)?, parameters.float(2)?);
    Ok(match tag {
        30 => Some("tanh"),
        // Not set, it is the plain one.
        31 if parameters == (0.0, 0.0) => Some("tanh"),
        40 => Some("sigmoid"),
        41 if parameters == (0.0, 0.0) || parameters == (0.2, 0.5) => Some("sigmoid_hard"),
        _ => None,
    })
}

fn by_operation(c: &mut Context<'_>, run: &Run<'_>, kind: &str, options: Arguments) -> Vec<Blob> {
    let mut inputs = vec![
        ("x", run.x.into()),
        ("weight_ih", run.gates.input.clone().into()),
        ("weight_hh", run.gates.hidden.clone().into()),
        ("direction", if run.reverse { "reverse" } else { "forward" }.into()),
        ("output_sequence", run.sequence.into()),
    ];
    inputs.extend(run.gates.bias.clone().map(|bias| ("bias", bias.into())));
    inputs.extend(options);
    inputs.extend(["initial_h", "initial_c"].into_iter().zip(&run.states).map(|(name, &state)| (name, state.into())));
    let ranks: &[usize] = if run.states.len() == 2 { &[3, 2, 2] } else { &[3, 2] };
    c.builder.many(kind, ranks, inputs)
}
