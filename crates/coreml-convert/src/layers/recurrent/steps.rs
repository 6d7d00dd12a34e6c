//! Recurrent layers written out step by step, for any activations and options.

use coreml_model::Fields;

use super::{Cell, Run, SUM_LIMIT};
use crate::builder::{Arg, Blob, Builder};
use crate::error::ConvertError;
use crate::layers::activation;

/// The result and the last states of a layer. What depends on the inputs alone is computed for all steps at once; the
/// loop's variables are the step, the states, and the results so far if all are wanted.
pub(super) fn lower(builder: &mut Builder, run: &Run<'_>) -> Result<Vec<Blob>, ConvertError> {
    let mut arguments = vec![("x", run.x.into()), ("weight", run.gates.input.clone().into())];
    arguments.extend(run.gates.bias.clone().map(|bias| ("bias", bias.into())));
    let sums = builder.op("linear", 3, arguments);
    let steps = builder.sizes(run.x, 0, 1);
    let steps = builder.reshape(steps, Vec::new());
    let first = builder.integers(vec![0]);
    let first = builder.reshape(first, Vec::new());
    let mut variables = vec![first];
    variables.extend(&run.states);
    if run.sequence {
        let outer = builder.sizes(run.x, 0, 2);
        let width = builder.sizes(run.states[0], 1, 2);
        let sizes = builder.joined(vec![outer, width]);
        variables.push(builder.op("fill", 3, vec![("shape", sizes.into()), ("value", 0.0.into())]));
    }
    let parameters = builder.parameters(&variables);
    let around = builder.open_block();
    let goes_on = builder.binary("less", parameters[0], steps);
    let condition = builder.close_block(around, &parameters, &[goes_on]);
    let parameters = builder.parameters(&variables);
    let around = builder.open_block();
    let next = round(builder, run, [sums, steps], &parameters)?;
    let body = builder.close_block(around, &parameters, &next);
    let ranks: Vec<usize> = variables.iter().map(|variable| variable.rank).collect();
    let results = builder.repeat(&variables, &ranks, [condition, body]);
    let states = &results[1..=run.states.len()];
    let y = if run.sequence { results[results.len() - 1] } else { builder.expand_dims(states[0], vec![0]) };
    Ok([&[y], states].concat())
}

/// What the loop's variables are after a round.
fn round(
    b: &mut Builder,
    run: &Run<'_>,
    [sums, steps]: [Blob; 2],
    variables: &[Blob],
) -> Result<Vec<Blob>, ConvertError> {
    let (step, states) = (variables[0], &variables[1..=run.states.len()]);
    let at = if run.reverse {
        let left = b.binary("sub", steps, step);
        b.binary("sub", left, 1)
    } else {
        step
    };
    let sums = b.op("gather", 2, vec![("x", sums.into()), ("indices", at.into()), ("axis", 0.into())]);
    let mut next = vec![b.binary("add", step, 1)];
    next.extend(one_step(b, run, sums, states)?);
    if run.sequence {
        let place = b.reshape(step, vec![1]);
        let result = b.expand_dims(next[1], vec![0]);
        let arguments = vec![
            ("data", variables[variables.len() - 1].into()),
            ("indices", place.into()),
            ("updates", result.into()),
            ("axis", 0.into()),
            ("mode", "update".into()),
        ];
        next.push(b.op("scatter", 3, arguments));
    }
    Ok(next)
}

/// The states after a step, of the gates' `sums` over its inputs.
fn one_step(b: &mut Builder, run: &Run<'_>, sums: Blob, states: &[Blob]) -> Result<Vec<Blob>, ConvertError> {
    let h = states[0];
    let width = run.gates.width;
    // Rows of the recursion's weights, for some of the gates.
    let recursion = |b: &mut Builder, h: Blob, gates: std::ops::Range<usize>| {
        let weights = run.gates.hidden.as_slice::<f32>().unwrap_or_default();
        let rows = weights[gates.start * width * width..gates.end * width * width].to_vec();
        let rows = crate::builder::tensor(&[gates.len() * width, width], rows)?;
        Ok::<_, ConvertError>(b.op("linear", 2, vec![("x", h.into()), ("weight", rows.into())]))
    };
    match &run.cell {
        Cell::Rnn { output } => {
            let remembered = recursion(b, h, 0..1)?;
            let sum = b.binary("add", sums, remembered);
            Ok(vec![limited(b, *output, sum)?])
        }
        Cell::Gru { gate, output } => {
            let [reset, new, update] = *parts(b, sums, 3) else { unreachable!("as many as were asked for") };
            let remembered = recursion(b, h, 0..1)?;
            let reset = b.binary("add", reset, remembered);
            let reset = limited(b, *gate, reset)?;
            let remembered = recursion(b, h, 2..3)?;
            let update = b.binary("add", update, remembered);
            let update = limited(b, *gate, update)?;
            let kept = b.binary("mul", reset, h);
            let remembered = recursion(b, kept, 1..2)?;
            let new = b.binary("add", new, remembered);
            let new = limited(b, *output, new)?;
            // (1 - update) new + update h
            let difference = b.binary("sub", h, new);
            let share = b.binary("mul", update, difference);
            Ok(vec![b.binary("add", new, share)])
        }
        Cell::Lstm { gate, cell, output, coupled, clip, peephole } => {
            let c = states[1];
            let remembered = recursion(b, h, 0..4)?;
            let sums = b.binary("add", sums, remembered);
            let [enter, forget, leave, new] = *parts(b, sums, 4) else { unreachable!("as many as were asked for") };
            let peeped = |b: &mut Builder, sum: Blob, i: usize, c: Blob| match peephole {
                None => Ok::<_, ConvertError>(sum),
                Some(peephole) => {
                    let weights = peephole.as_slice::<f32>().unwrap_or_default();
                    let weights = crate::builder::tensor(&[width], weights[i * width..][..width].to_vec())?;
                    let seen = b.binary("mul", c, weights);
                    Ok(b.binary("add", sum, seen))
                }
            };
            let enter = peeped(b, enter, 0, c)?;
            let enter = limited(b, *gate, enter)?;
            let new = limited(b, *cell, new)?;
            let new = b.binary("mul", enter, new);
            let kept = if *coupled {
                let taken = b.binary("mul", enter, c);
                b.binary("sub", c, taken)
            } else {
                let forget = peeped(b, forget, 1, c)?;
                let forget = limited(b, *gate, forget)?;
                b.binary("mul", forget, c)
            };
            let c = b.binary("add", kept, new);
            let c = clipped(b, c, *clip);
            let leave = peeped(b, leave, 2, c)?;
            let leave = limited(b, *gate, leave)?;
            let shown = activation::apply(b, *output, c, 0)?;
            Ok(vec![b.binary("mul", leave, shown), c])
        }
    }
}

/// `[batch, count * width]` in `count` parts.
fn parts(b: &mut Builder, sums: Blob, count: usize) -> Vec<Blob> {
    let inputs = vec![("x", sums.into()), ("num_splits", Arg::from(count as i32)), ("axis", 1.into())];
    b.many("split", &vec![2; count], inputs)
}

fn clipped(b: &mut Builder, x: Blob, limit: f32) -> Blob {
    b.op("clip", x.rank, vec![("x", x.into()), ("alpha", (-limit).into()), ("beta", limit.into())])
}

/// An activation of sums that are kept within bounds.
fn limited(b: &mut Builder, function: Fields<'_>, sum: Blob) -> Result<Blob, ConvertError> {
    let sum = clipped(b, sum, SUM_LIMIT);
    activation::apply(b, function, sum, 0)
}
