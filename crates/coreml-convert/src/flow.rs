//! Layers in order, with branches and loops.
//!
//! Networks have one scope for all blobs; blocks of ML Programs have explicit results. So a branch or a loop returns the
//! blobs that are written inside and read afterwards, as in a compiler's liveness analysis. `loopBreak` and
//! `loopContinue` become a number that says how the round ended, and a condition skips what follows them.

use std::collections::{HashMap, HashSet};

use coreml_model::{Fields, Layer};
use coreml_tensor::MAX_RANK;

use crate::builder::{Blob, Builder, tensor};
use crate::error::ConvertError;
use crate::layers;
use crate::liveness::{Live, Places, Uses};

pub(crate) const BRANCH: u32 = 605;
pub(crate) const LOOP: u32 = 615;
pub(crate) const BREAK: u32 = 620;
pub(crate) const CONTINUE: u32 = 625;

/// How a round of a loop goes on: as it is.
const GOING: i32 = 0;
/// Nothing more of this round.
const SKIPPING: i32 = 1;
/// No more rounds.
const LEAVING: i32 = 2;

/// Levels of blocks in each other, which what follows a jump is one of.
const MAX_DEPTH: usize = 64;

/// A layer, and the networks inside.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) layer: Layer<'a>,
    /// Of a branch what is done if its condition holds and if not, of a loop the condition and the body.
    pub(crate) nested: [Vec<Self>; 2],
    uses: Uses<'a>,
}

/// The layers of a network. How deep they lie in each other was bounded when the file was read.
pub(crate) fn steps(network: Fields<'_>) -> Result<Vec<Step<'_>>, ConvertError> {
    Layer::all(network)?.into_iter().map(Step::new).collect()
}

impl<'a> Step<'a> {
    fn new(layer: Layer<'a>) -> Result<Self, ConvertError> {
        let inner = |number: u32| match layer.fields.message(number)? {
            Some(network) => steps(network),
            None => Ok(Vec::new()),
        };
        let nested = match layer.tag {
            Some(BRANCH) => [inner(1)?, inner(2)?],
            Some(LOOP) => [inner(3)?, inner(4)?],
            _ => Default::default(),
        };
        let inputs = Uses::new(layer.inputs.iter().copied(), [], false);
        let uses = match (layer.tag, &nested) {
            (Some(BRANCH), [then, otherwise]) => inputs.then(&uses(then).or(&uses(otherwise))),
            (Some(LOOP), [tested, body]) => {
                let test = Uses::new([layer.fields.text(2)?], [], false);
                inputs.then(&uses(tested).then(&test).then(&uses(body)).repeated())
            }
            (tag, _) => {
                inputs.then(&Uses::new([], layer.outputs.iter().copied(), matches!(tag, Some(BREAK | CONTINUE))))
            }
        };
        Ok(Self { layer, nested, uses })
    }

    fn writes(&self, found: &mut Vec<&'a str>) {
        found.extend(&self.layer.outputs);
        self.nested.iter().flatten().for_each(|step| step.writes(found));
    }
}

/// What layers do one after the other.
fn uses<'a>(steps: &[Step<'a>]) -> Uses<'a> {
    steps.iter().fold(Uses::default(), |all, step| all.then(&step.uses))
}

/// A network being lowered.
pub(crate) struct Flow<'a, 'b> {
    builder: &'b mut Builder,
    /// As many axes as all blobs have, if they do.
    axes: Option<i32>,
    blobs: HashMap<&'a str, Blob>,
    /// What names stood for before the blocks that are open wrote them, to be put back when they end.
    replaced: Vec<(&'a str, Option<Blob>)>,
    /// How the round goes on, inside a loop that has jumps.
    going: Option<Blob>,
    depth: usize,
}

impl<'a, 'b> Flow<'a, 'b> {
    pub(crate) fn new(builder: &'b mut Builder, axes: Option<i32>, blobs: HashMap<&'a str, Blob>) -> Self {
        Self { builder, axes, blobs, replaced: Vec::new(), going: None, depth: 0 }
    }

    pub(crate) fn into_blobs(self) -> HashMap<&'a str, Blob> {
        self.blobs
    }

    fn blob(&self, name: &str) -> Option<Blob> {
        self.blobs.get(name).copied()
    }

    fn set(&mut self, name: &'a str, blob: Blob) {
        let before = self.blobs.insert(name, blob);
        if self.depth > 0 {
            self.replaced.push((name, before));
        }
    }

    /// Lowers `steps`, after which the blobs in `live` are read.
    pub(crate) fn run(&mut self, steps: &[Step<'a>], live: &Live<'_, 'a>) -> Result<(), ConvertError> {
        let places = Places::new(steps.iter().map(|step| &step.uses));
        for (i, step) in steps.iter().enumerate() {
            let around = live;
            let live = Live::new(&places, i + 1, Some(around));
            let place = |error: ConvertError| error.within(&format!("layer `{}`", step.layer.name));
            match step.layer.tag {
                Some(BREAK | CONTINUE) if self.going.is_none() => {
                    return Err(place(ConvertError::invalid("is in no loop")));
                }
                Some(tag @ (BREAK | CONTINUE)) => {
                    let how = if tag == BREAK { LEAVING } else { SKIPPING };
                    self.going = Some(self.number(how));
                    return Ok(());
                }
                Some(BRANCH) => {
                    self.branch(step, &live).map_err(place)?;
                    if let (true, Some(going), Some(rest)) = (step.uses.jumps, self.going, steps.get(i + 1..))
                        && !rest.is_empty()
                    {
                        let goes_on = self.builder.binary("equal", going, GOING);
                        return self.choose(goes_on, [rest, &[]], around);
                    }
                }
                Some(LOOP) => self.repeat(step, &live).map_err(place)?,
                _ => {
                    let known = |name: &&str| {
                        self.blob(name).ok_or_else(|| {
                            let name = name.escape_debug();
                            ConvertError::invalid(format!("takes `{name}`, which nothing before gives"))
                        })
                    };
                    let inputs = step.layer.inputs.iter().map(known).collect::<Result<_, _>>().map_err(place)?;
                    let given = layers::lower(self.builder, self.axes, &step.layer, inputs).map_err(place)?;
                    step.layer.outputs.iter().zip(given).for_each(|(&name, blob)| self.set(name, blob));
                }
            }
        }
        Ok(())
    }

    fn branch(&mut self, step: &Step<'a>, live: &Live<'_, 'a>) -> Result<(), ConvertError> {
        let condition = self.input(step)?;
        let holds = self.truth(condition);
        let [then, otherwise] = &step.nested;
        self.choose(holds, [then, otherwise], live)
    }

    /// The blob that decides about a branch or a loop.
    fn input(&mut self, step: &Step<'a>) -> Result<Blob, ConvertError> {
        let name = step.layer.inputs.first().copied().unwrap_or_default();
        let blob = self.blob(name).ok_or_else(|| {
            ConvertError::invalid(format!("depends on `{}`, which nothing before gives", name.escape_debug()))
        })?;
        Ok(self.builder.ranked(blob))
    }

    /// Whether the number in `x` is not 0.
    fn truth(&mut self, x: Blob) -> Blob {
        let number = self.builder.reshape(x, Vec::new());
        let size = self.builder.unary("abs", number);
        self.builder.binary("greater", size, 1e-6)
    }

    fn number(&mut self, value: i32) -> Blob {
        let number = self.builder.integers(vec![value]);
        self.builder.reshape(number, Vec::new())
    }

    fn enter(&mut self) -> Result<usize, ConvertError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ConvertError::unsupported(format!("more than {MAX_DEPTH} branches and loops in each other")));
        }
        Ok(self.replaced.len())
    }

    /// Puts names back to what they stood for at `mark`.
    fn leave(&mut self, mark: usize) {
        self.depth -= 1;
        for (name, before) in self.replaced.drain(mark..).rev() {
            match before {
                Some(blob) => self.blobs.insert(name, blob),
                None => self.blobs.remove(name),
            };
        }
    }

    /// One of two lists of layers, as `condition` says.
    fn choose(&mut self, condition: Blob, ways: [&[Step<'a>]; 2], live: &Live<'_, 'a>) -> Result<(), ConvertError> {
        let names = written(ways.iter().copied().flatten(), |name| live.contains(name));
        let going = self.going.filter(|_| ways.iter().copied().flatten().any(|step| step.uses.jumps));
        let before = self.going;
        let mut blocks = Vec::new();
        let mut results = Vec::new();
        for way in ways {
            let mark = self.enter()?;
            let around = self.builder.open_block();
            self.run(way, live)?;
            let mut outputs = self.values(&names);
            results.push(outputs.clone());
            if going.is_some() {
                outputs.extend(self.going.map(Some));
            }
            let outputs = outputs.into_iter().map(|blob| self.or_nothing(blob)).collect::<Result<Vec<_>, _>>()?;
            blocks.push(self.builder.close_block(around, &[], &outputs));
            self.leave(mark);
            self.going = before;
        }
        let [then, otherwise] = results.as_slice() else { unreachable!("there are two ways") };
        let mut ranks: Vec<usize> =
            then.iter().zip(otherwise).map(|(a, b)| a.or(*b).map_or(MAX_RANK, |blob| blob.rank)).collect();
        ranks.extend(going.map(|_| 0));
        let chosen = self.builder.cond(condition, &ranks, blocks);
        for ((&name, &blob), (a, b)) in names.iter().zip(&chosen).zip(then.iter().zip(otherwise)) {
            self.settle(blob, [*a, *b]);
            self.set(name, blob);
        }
        if going.is_some() {
            self.going = chosen.last().copied();
        }
        Ok(())
    }

    /// Notes what is not sure about a blob that is one of two.
    fn settle(&mut self, blob: Blob, from: [Option<Blob>; 2]) {
        let sizes = from.iter().flatten().map(|&from| self.builder.assumed(from));
        let sizes = sizes.filter(|sizes| sizes.len() == blob.rank).min_by_key(|sizes| sizes.iter().flatten().count());
        self.builder.assume(blob, sizes);
        match from {
            [Some(a), Some(b)] if self.builder.is_missing(a) || self.builder.is_missing(b) => {
                self.builder.doubt(blob);
            }
            [Some(a), Some(b)] if a.rank == b.rank => {}
            [Some(_), Some(_)] => self.builder.doubt_rank(blob),
            _ => self.builder.doubt(blob),
        }
    }

    fn values(&self, names: &[&'a str]) -> Vec<Option<Blob>> {
        names.iter().map(|name| self.blob(name)).collect()
    }

    /// The blob, or one that stands for none: no layer gives blobs with so many axes.
    fn or_nothing(&mut self, blob: Option<Blob>) -> Result<Blob, ConvertError> {
        match blob {
            Some(blob) => Ok(blob),
            None => Ok(self.builder.constant(tensor::<f32>(&[0; MAX_RANK], Vec::new())?)),
        }
    }

    fn repeat(&mut self, step: &Step<'a>, live: &Live<'_, 'a>) -> Result<(), ConvertError> {
        let [tested, body] = &step.nested;
        let tested_blob = step.layer.fields.text(2)?;
        let is_tested = !tested_blob.is_empty();
        let count = step.layer.fields.uint(1)?;
        let count = if !step.layer.inputs.is_empty() {
            let count = self.input(step)?;
            let count = self.builder.cast(count, "int32");
            Some(self.builder.reshape(count, Vec::new()))
        } else if !is_tested || count > 0 {
            Some(self.number(i32::try_from(count).unwrap_or(i32::MAX)))
        } else {
            None
        };
        // Every round may read what the one before wrote.
        let round = Places::new([&step.uses].into_iter());
        let inside = Live::new(&round, 0, Some(live));
        let names = written(tested.iter().chain(body), |name| {
            inside.contains(name) && (live.contains(name) || self.blobs.contains_key(name))
        });
        let given = self.values(&names);

        let mark = self.enter()?;
        let going_around = self.going;
        let (first, truth) = (self.number(0), self.builder.truth());
        let mut variables = vec![first, truth];
        for &blob in &given {
            variables.push(self.or_nothing(blob)?);
        }
        let test = self.builder.parameters(&variables);
        let around = self.builder.open_block();
        let mut goes_on = test[1];
        if let Some(count) = count.filter(|_| !is_tested) {
            let left = self.builder.binary("less", test[0], count);
            goes_on = self.builder.binary("logical_and", goes_on, left);
        }
        let condition = self.builder.close_block(around, &test, &[goes_on]);

        let parameters = self.builder.parameters(&variables);
        let around = self.builder.open_block();
        for ((&name, &parameter), given) in names.iter().zip(&parameters[2..]).zip(&given) {
            if let Some(given) = given {
                // A round may leave another rank to the next.
                self.builder.doubt_rank(parameter);
                self.builder.doubt_like(parameter, *given);
                self.set(name, parameter);
            }
        }
        self.going = Some(self.number(GOING));
        if is_tested {
            let wanted = Uses::new([tested_blob], [], false).then(&uses(body));
            let wanted = Places::new([&wanted].into_iter());
            self.run(tested, &Live::new(&wanted, 0, Some(&inside)))?;
            let test = self.blob(tested_blob).ok_or_else(|| {
                ConvertError::invalid(format!("depends on `{}`, which nothing gives", tested_blob.escape_debug()))
            })?;
            let test = self.builder.ranked(test);
            let mut holds = self.truth(test);
            if let Some(count) = count {
                let left = self.builder.binary("less", parameters[0], count);
                holds = self.builder.binary("logical_and", holds, left);
            }
            self.round_if(holds, body, &inside)?;
        } else {
            self.run(body, &inside)?;
        }
        let next = self.builder.binary("add", parameters[0], 1);
        let going = self.going.unwrap_or(next);
        let stays = self.builder.binary("not_equal", going, LEAVING);
        let results = self.values(&names);
        let mut outputs = vec![next, stays];
        for &blob in &results {
            outputs.push(self.or_nothing(blob)?);
        }
        let body = self.builder.close_block(around, &parameters, &outputs);
        self.leave(mark);
        self.going = going_around;

        let ranks: Vec<usize> = outputs.iter().map(|blob| blob.rank).collect();
        let repeated = self.builder.repeat(&variables, &ranks, [condition, body]);
        for ((&name, &blob), (before, after)) in names.iter().zip(&repeated[2..]).zip(given.iter().zip(&results)) {
            self.settle(blob, [*before, *after]);
            self.set(name, blob);
        }
        Ok(())
    }

    /// The body of a loop, or the end of the loop.
    fn round_if(&mut self, holds: Blob, body: &[Step<'a>], live: &Live<'_, 'a>) -> Result<(), ConvertError> {
        let names = written(body.iter(), |name| live.contains(name));
        let mark = self.enter()?;
        let around = self.builder.open_block();
        self.run(body, live)?;
        let done = self.values(&names);
        let going = self.going;
        let outputs =
            done.iter().copied().chain([going]).map(|blob| self.or_nothing(blob)).collect::<Result<Vec<_>, _>>()?;
        let then = self.builder.close_block(around, &[], &outputs);
        self.leave(mark);

        let around = self.builder.open_block();
        let before = self.values(&names);
        let leaving = self.number(LEAVING);
        let unchanged = before.iter().copied().chain([Some(leaving)]);
        let unchanged = unchanged.map(|blob| self.or_nothing(blob)).collect::<Result<Vec<_>, _>>()?;
        let otherwise = self.builder.close_block(around, &[], &unchanged);

        let ranks: Vec<usize> = outputs.iter().map(|blob| blob.rank).collect();
        let chosen = self.builder.cond(holds, &ranks, vec![then, otherwise]);
        for ((&name, &blob), (a, b)) in names.iter().zip(&chosen).zip(done.iter().zip(&before)) {
            self.settle(blob, [*a, *b]);
            self.set(name, blob);
        }
        self.going = chosen.last().copied();
        Ok(())
    }
}

/// The blobs that `steps` write, each once, as far as they are wanted.
fn written<'s, 'a: 's>(steps: impl Iterator<Item = &'s Step<'a>>, wanted: impl Fn(&str) -> bool) -> Vec<&'a str> {
    let mut names = Vec::new();
    steps.for_each(|step| step.writes(&mut names));
    let mut seen = HashSet::new();
    names.retain(|&name| wanted(name) && seen.insert(name));
    names
}
