//! A prediction's way through the lanes: which one is asked, for how long, and which one next.
//!
//! Without a deadline the backends compute on the caller's thread, one after another. With a deadline, backends that stop
//! when told to still do; the others compute on threads of their own, and the caller waits. It waits for the first
//! backend until only as much time is left as the next one usually needs, then for the next one as well or instead, and
//! never beyond the deadline.

use std::cell::OnceCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use coreml_breaker::Permit;
use coreml_telemetry::Gauge;
use smallvec::SmallVec;

use super::desk::Desk;
use super::gate::Place;
use super::lane::{Lane, Reply, StateUse};
use super::state::Contents;
use super::{Attempt, Attempts, Prediction, Session};
use crate::Instant;
use crate::call::Call;
use crate::check::CheckedInputs;
use crate::classify::classify;
use crate::error::{Error, ErrorKind};
use crate::outputs::Outputs;
use crate::owned::OwnedInputs;
use crate::sentinel;
use crate::trace;

/// One prediction on its way.
pub(super) struct Route<'s, 'i> {
    session: &'s Session,
    inputs: &'i CheckedInputs<'i>,
    /// The state, of a model that has one.
    state: Option<&'i mut Contents>,
    positions: Range<usize>,
    call: &'i Call,
    start: Instant,
    attempts: Attempts,
}

/// How long a prediction without a deadline waits for a place among those that are computed at once.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Counts a prediction as long as it is being made.
struct InFlight<'s>(&'s Gauge);

impl<'s> InFlight<'s> {
    fn new(gauge: &'s Gauge) -> Self {
        gauge.add(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.add(-1.0);
    }
}

/// A call that is under way.
struct Flight<'s> {
    position: usize,
    permit: Permit<'s>,
    started: Instant,
    /// When the next lane must be asked.
    cut: Instant,
    /// Held until the backend has computed.
    place: Option<Place>,
}

impl<'s, 'i> Route<'s, 'i> {
    pub(super) fn new(
        session: &'s Session,
        inputs: &'i CheckedInputs<'i>,
        positions: Range<usize>,
        state: Option<&'i mut Contents>,
        call: &'i Call,
        start: Instant,
    ) -> Self {
        Self { session, inputs, state, positions, call, start, attempts: Attempts::new() }
    }

    pub(super) fn go(mut self) -> Result<Prediction, Error> {
        let _span = trace::prediction(&self.session.function);
        let _counted = InFlight::new(&self.session.in_flight);
        self.session.watch_memory(self.start);
        let answered = match self.call.deadline.or(self.session.policy.deadline) {
            _ if self.call.is_cancelled() => Err(cancelled()),
            None => self.one_after_another(),
            Some(total) => self.in_time(total),
        };
        match answered {
            Ok((position, outputs, ended)) => {
                let outputs = self.call.choose(outputs);
                let session = self.session;
                session.answered.increment();
                session.lanes[position].meter.served(ended.duration_since(self.start));
                let served_by = session.lanes[position].name();
                Ok(Prediction { outputs, served_by, attempts: self.attempts, degraded: position > 0 })
            }
            Err(error) => {
                self.session.failed.increment();
                Err(in_view_of(error, &self.attempts))
            }
        }
    }

    fn one_after_another(&mut self) -> Result<(usize, Outputs, Instant), Error> {
        let mut last = None;
        for position in self.positions.clone() {
            let lane = &self.session.lanes[position];
            // A workspace for each of many callers would be a memory that grows with the load; where a prediction takes next
            // to nothing, the line would take longer.
            let place = lane
                .pace
                .is_slow()
                .then(|| lane.place(self.start + NO_DEADLINE, true, self.call.priority).ok().flatten())
                .flatten();
            let first = self.attempts.is_empty() && place.is_none();
            let started = if first { self.start } else { self.session.clock.now() };
            let permit = match lane.admit(started) {
                Ok(permit) => permit,
                Err(error) => {
                    last = Some(self.refused(position, error));
                    continue;
                }
            };
            let state = self.state_for(position);
            let reply = lane.perform(self.inputs, state, None, self.call.cancel.as_ref());
            reply.leave(place);
            let flight = Flight { position, permit, started, cut: started, place: None };
            match self
                .conclude(flight, reply, |reference| Some(reference.perform(self.inputs, StateUse::None, None, None)))
            {
                Ok(answer) => {
                    self.compare_aside(&answer, || Arc::new(OwnedInputs::from(self.inputs)));
                    return Ok(answer);
                }
                Err(error) if classify(error.kind()).try_next => last = Some(self.next_after(position, error)),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(no_backend))
    }

    fn in_time(&mut self, total: Duration) -> Result<(usize, Outputs, Instant), Error> {
        let session = self.session;
        let inputs = self.inputs;
        let desk = OnceCell::new();
        // The inputs are copied for those who may outlive the caller, and only then.
        let desk = || -> &Arc<Desk> { desk.get_or_init(|| Desk::new(Arc::new(OwnedInputs::from(inputs)))) };
        let deadline = self.start + total;
        let remaining = |until: Instant| until.saturating_duration_since(session.clock.now());
        let (mut waiting, mut flights) = (self.positions.clone(), SmallVec::<[Flight<'s>; 2]>::new());
        let mut last = None;
        let mut hedged = false;
        if let Some(budget) = &session.hedges {
            budget.earn();
        }
        loop {
            if flights.is_empty() {
                let Some(position) = waiting.next() else { return Err(last.unwrap_or_else(no_backend)) };
                let flight = match self.admit(position, deadline, total, true) {
                    Ok(flight) => flight,
                    Err(error) => {
                        last = Some(self.refused(position, error));
                        continue;
                    }
                };
                if self.computes_here(position) {
                    match self.compute_here(flight, deadline, &remaining) {
                        Ok(answer) => {
                            self.compare_aside(&answer, || Arc::new(OwnedInputs::from(inputs)));
                            return Ok(answer);
                        }
                        Err(error) if error.kind() == ErrorKind::Timeout && waiting.is_empty() => {
                            return Err(Error::new(ErrorKind::Timeout, format!("no answer within {total:.0?}")));
                        }
                        Err(error) if classify(error.kind()).try_next => last = Some(self.next_after(position, error)),
                        Err(error) => return Err(error),
                    }
                    continue;
                }
                match self.launch(desk(), flight, deadline) {
                    Ok(flight) => flights.push(flight),
                    Err(error) => last = Some(self.refused(position, error)),
                }
                continue;
            }
            let wake = if waiting.is_empty() || hedged { deadline } else { flights[0].cut };
            match desk().wait(remaining(wake)) {
                Some((position, reply)) => {
                    let Some(found) = flights.iter().position(|flight| flight.position == position) else { continue };
                    let flight = flights.remove(found);
                    let verify =
                        |reference: &Arc<_>| answer_aside(desk().inputs().clone(), reference, remaining(deadline));
                    match self.conclude(flight, reply, verify) {
                        Ok(answer) => {
                            self.leave(desk(), flights, &answer, hedged);
                            self.compare_aside(&answer, || desk().inputs().clone());
                            return Ok(answer);
                        }
                        Err(error) if classify(error.kind()).try_next => last = Some(self.next_after(position, error)),
                        Err(error) => {
                            flights.drain(..).for_each(|flight| self.give_up(desk(), flight, ErrorKind::Cancelled));
                            return Err(error);
                        }
                    }
                }
                None if wake == deadline => {
                    flights.drain(..).for_each(|flight| self.give_up(desk(), flight, ErrorKind::Timeout));
                    return Err(Error::new(ErrorKind::Timeout, format!("no answer within {total:.0?}")));
                }
                None if self.state.is_none() && session.hedges.as_ref().is_some_and(|budget| budget.spend()) => {
                    hedged = true;
                    if let Some(position) = waiting.next() {
                        let flight = self.admit(position, deadline, total, false);
                        match flight.and_then(|flight| self.launch(desk(), flight, deadline)) {
                            Ok(flight) => flights.push(flight),
                            Err(error) => last = Some(self.refused(position, error)),
                        }
                    }
                }
                None => {
                    let flight = flights.remove(0);
                    let position = flight.position;
                    self.give_up(desk(), flight, ErrorKind::Timeout);
                    last = Some(self.next_after(position, Error::new(ErrorKind::Timeout, late())));
                }
            }
        }
    }

    /// Leave to ask the lane at `position`; `waits` for a place if there is none now.
    fn admit(&mut self, position: usize, deadline: Instant, total: Duration, waits: bool) -> Result<Flight<'s>, Error> {
        let session = self.session;
        let lane = &session.lanes[position];
        let mut cut = deadline;
        if position + 1 < self.positions.end {
            cut -= session.lanes[position + 1].pace.reserve(total);
        }
        let asked = if self.attempts.is_empty() { self.start } else { session.clock.now() };
        let place = lane.place(cut, waits, self.call.priority)?;
        let started = if place.is_some() { session.clock.now() } else { asked };
        let permit = lane.admit(started)?;
        if position + 1 < self.positions.end && session.hedges.is_some() {
            let patience = lane.pace.patience(|| lane.meter.usual(0.99));
            cut = patience.map_or(cut, |patience| cut.min(started + patience));
        }
        Ok(Flight { position, permit, started, cut, place })
    }

    /// Has the lane answer on a thread of its own.
    fn launch(&mut self, desk: &Arc<Desk>, mut flight: Flight<'s>, deadline: Instant) -> Result<Flight<'s>, Error> {
        let lane = &self.session.lanes[flight.position];
        let state = self.state_for(flight.position);
        let patience = deadline.saturating_duration_since(flight.started);
        match desk.ask(flight.position, lane, state, patience, flight.place.take()) {
            Ok(()) => Ok(flight),
            Err(error) => {
                lane.settle(flight.permit, Some(error.kind()), Duration::ZERO, flight.started);
                Err(error)
            }
        }
    }

    /// Whether the caller's own thread computes, because the model stops in time and no other backend is to be asked
    /// meanwhile.
    fn computes_here(&self, position: usize) -> bool {
        let hedges = self.session.hedges.is_some() && position + 1 < self.positions.end;
        !hedges && self.session.lanes[position].stops()
    }

    /// Has the lane answer on this thread, until it is another one's turn.
    fn compute_here(
        &mut self,
        mut flight: Flight<'s>,
        deadline: Instant,
        remaining: &impl Fn(Instant) -> Duration,
    ) -> Result<(usize, Outputs, Instant), Error> {
        let lane = &self.session.lanes[flight.position];
        let state = self.state_for(flight.position);
        let cancel = self.call.cancel.clone().unwrap_or_default().until(flight.cut);
        let mut reply = lane.perform(self.inputs, state, Some(remaining(deadline)), Some(&cancel));
        reply.leave(flight.place.take());
        if reply.is_cancelled() && !self.call.is_cancelled() {
            reply.result = Err(Error::new(ErrorKind::Timeout, late()));
        }
        let inputs = self.inputs;
        self.conclude(flight, reply, |reference| {
            answer_aside(Arc::new(OwnedInputs::from(inputs)), reference, remaining(deadline))
        })
    }

    /// Judges a reply, compares it with the fallback's where that is to be done first, and tells everybody. `reference`
    /// asks another lane for its answer to the same inputs.
    fn conclude(
        &mut self,
        flight: Flight<'s>,
        reply: Reply,
        reference: impl FnOnce(&Arc<Lane>) -> Option<Reply>,
    ) -> Result<(usize, Outputs, Instant), Error> {
        let Flight { position, permit, started, .. } = flight;
        let session = self.session;
        let lane = &session.lanes[position];
        let ended = session.clock.now();
        let elapsed = ended.duration_since(started);
        let mut result = reply.result;
        if !lane.is_last() && !session.policy.trust_outputs {
            result = result.and_then(|outputs| match sentinel::inspect(&session.interface, &outputs) {
                Ok(()) => Ok(outputs),
                Err(error) => {
                    lane.meter.outputs_rejected();
                    Err(error)
                }
            });
        }
        let mut better = None;
        if let (Ok(outputs), None, Some(shadow)) = (&result, &self.state, session.shadow_before_answer(position)) {
            let last = session.lanes.len() - 1;
            let expected = reference(&session.lanes[last]).and_then(|reply| reply.result.ok());
            if let Err(error) = shadow.judge(lane, outputs, expected.as_ref(), session.clock.now()) {
                better = expected.map(|outputs| (last, outputs, session.clock.now()));
                result = Err(error);
            }
        }
        lane.settle(permit, result.as_ref().err().map(Error::kind), elapsed, ended);
        self.attempts.push(Attempt { backend: lane.name(), error: result.as_ref().err().cloned(), elapsed });
        if let Some((last, outputs, now)) = better {
            lane.meter.fell_back(ErrorKind::Fault);
            let elapsed = now.duration_since(ended);
            self.attempts.push(Attempt { backend: session.lanes[last].name(), error: None, elapsed });
            session.lanes[last].meter.attempt(None, elapsed);
            return Ok((last, outputs, now));
        }
        if result.is_err() && lane.is_last() && lane.is_useless() {
            session.lose_last(ended);
        }
        let outputs = result?;
        lane.pace.record(elapsed);
        if let (Some(contents), Some(state)) = (&mut self.state, reply.state) {
            contents.bind(position, state);
        }
        Ok((position, outputs, ended))
    }

    /// Leaves behind what is still running when there is an answer.
    fn leave(
        &mut self,
        desk: &Desk,
        flights: SmallVec<[Flight<'s>; 2]>,
        answer: &(usize, Outputs, Instant),
        hedged: bool,
    ) {
        if hedged {
            self.session.lanes[answer.0].meter.won_hedge();
        }
        for flight in flights {
            // In front of the one that answered it is late; behind it, it was only asked to make sure.
            let kind = if flight.position < answer.0 { ErrorKind::Timeout } else { ErrorKind::Cancelled };
            if kind == ErrorKind::Timeout {
                self.session.lanes[flight.position].meter.fell_back(kind);
            }
            self.give_up(desk, flight, kind);
        }
    }

    fn give_up(&mut self, desk: &Desk, flight: Flight<'s>, kind: ErrorKind) {
        let (session, Flight { position, permit, started, .. }) = (self.session, flight);
        let lane = &session.lanes[position];
        let now = session.clock.now();
        let elapsed = now.duration_since(started);
        lane.settle(permit, Some(kind), elapsed, now);
        desk.leave(position, lane);
        let words = if kind == ErrorKind::Timeout { late() } else { "another backend answered first" };
        self.attempts.push(Attempt { backend: lane.name(), error: Some(Error::new(kind, words)), elapsed });
    }

    /// A lane that may not be asked.
    fn refused(&mut self, position: usize, error: Error) -> Error {
        let backend = self.session.lanes[position].name();
        self.attempts.push(Attempt { backend, error: Some(error.clone()), elapsed: Duration::ZERO });
        self.next_after(position, error)
    }

    /// The error of the lane at `position`, counted as a fallback if there is a next one.
    fn next_after(&self, position: usize, error: Error) -> Error {
        if position + 1 < self.positions.end {
            let lane = &self.session.lanes[position];
            lane.tell_fallback(&error, self.session.clock.now());
            lane.meter.fell_back(error.kind());
        }
        error
    }

    fn state_for(&mut self, position: usize) -> StateUse {
        self.state.as_mut().map_or(StateUse::None, |contents| contents.take(position))
    }

    /// Has the fallback answer too, in the background, if this prediction is due for comparison.
    fn compare_aside(&self, answer: &(usize, Outputs, Instant), inputs: impl FnOnce() -> Arc<OwnedInputs>) {
        let (position, outputs, now) = answer;
        if self.state.is_none() {
            self.session.compare_aside(*position, outputs, *now, inputs);
        }
    }
}

/// Another lane's answer to the same inputs, if it comes in time.
fn answer_aside(inputs: Arc<OwnedInputs>, lane: &Arc<Lane>, patience: Duration) -> Option<Reply> {
    let desk = Desk::new(inputs);
    desk.ask(0, lane, StateUse::None, patience, None).ok()?;
    let reply = desk.wait(patience);
    if reply.is_none() {
        desk.leave(0, lane);
    }
    reply.map(|(_, reply)| reply)
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the prediction was cancelled before it began")
}

fn late() -> &'static str {
    "did not answer in time"
}

fn no_backend() -> Error {
    Error::new(ErrorKind::Bug, "the session has no backend")
}

/// The last error, with the earlier ones in its message.
fn in_view_of(error: Error, attempts: &[Attempt]) -> Error {
    if attempts.len() < 2 {
        return error;
    }
    let told: Vec<_> = attempts
        .iter()
        .filter_map(|attempt| Some(format!("{}: {}", attempt.backend, attempt.error.as_ref()?)))
        .collect();
    error.retold(format!("every backend failed: {}", told.join("; ")))
}
