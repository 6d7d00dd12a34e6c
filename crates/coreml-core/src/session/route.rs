//! The way of a prediction through the lanes: who is asked, for how long, and who is asked next.
//!
//! Without a deadline the backends compute on the caller's thread, one after another. With one they compute on threads
//! of their own, and the caller waits: for the backend in front until so much time is left as the next one usually
//! needs, then for the next one as well or instead, and never beyond the deadline.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_breaker::Permit;
use smallvec::SmallVec;

use super::desk::Desk;
use super::lane::{Reply, StateUse};
use super::state::Contents;
use super::{Attempt, Attempts, Prediction, Session};
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
    start: Instant,
    attempts: Attempts,
}

/// A call that is under way.
struct Flight<'s> {
    position: usize,
    permit: Permit<'s>,
    started: Instant,
    /// When the next lane must be asked.
    cut: Instant,
}

impl<'s, 'i> Route<'s, 'i> {
    pub(super) fn new(
        session: &'s Session,
        inputs: &'i CheckedInputs<'i>,
        positions: Range<usize>,
        state: Option<&'i mut Contents>,
    ) -> Self {
        Self { session, inputs, state, positions, start: session.clock.now(), attempts: Attempts::new() }
    }

    pub(super) fn go(mut self) -> Result<Prediction, Error> {
        let _span = trace::prediction(&self.session.function);
        self.session.watch_memory(self.start);
        let answered = match self.session.policy.deadline {
            None => self.one_after_another(),
            Some(total) => self.in_time(total),
        };
        match answered {
            Ok((position, outputs, ended)) => {
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
            let started = if self.attempts.is_empty() { self.start } else { self.session.clock.now() };
            let permit = match lane.admit(started) {
                Ok(permit) => permit,
                Err(error) => {
                    last = Some(self.refused(position, error));
                    continue;
                }
            };
            let state = self.state_for(position);
            let reply = lane.perform(self.inputs, state, None, None);
            let flight = Flight { position, permit, started, cut: started };
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
        let desk = Desk::new(Arc::new(OwnedInputs::from(self.inputs)));
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
                match self.launch(&desk, position, deadline, total, true) {
                    Ok(flight) => flights.push(flight),
                    Err(error) => last = Some(self.refused(position, error)),
                }
                continue;
            }
            let wake = if waiting.is_empty() || hedged { deadline } else { flights[0].cut };
            match desk.wait(remaining(wake)) {
                Some((position, reply)) => {
                    let Some(found) = flights.iter().position(|flight| flight.position == position) else { continue };
                    let flight = flights.remove(found);
                    let verify = |reference: &Arc<_>| {
                        let aside = Desk::new(desk.inputs().clone());
                        aside.ask(0, reference, StateUse::None, remaining(deadline), None).ok()?;
                        let reply = aside.wait(remaining(deadline));
                        if reply.is_none() {
                            aside.leave(0, reference);
                        }
                        reply.map(|(_, reply)| reply)
                    };
                    match self.conclude(flight, reply, verify) {
                        Ok(answer) => {
                            self.leave(&desk, flights, &answer, hedged);
                            self.compare_aside(&answer, || desk.inputs().clone());
                            return Ok(answer);
                        }
                        Err(error) if classify(error.kind()).try_next => last = Some(self.next_after(position, error)),
                        Err(error) => {
                            flights.drain(..).for_each(|flight| self.give_up(&desk, flight, ErrorKind::Cancelled));
                            return Err(error);
                        }
                    }
                }
                None if wake == deadline => {
                    flights.drain(..).for_each(|flight| self.give_up(&desk, flight, ErrorKind::Timeout));
                    return Err(Error::new(ErrorKind::Timeout, format!("no answer within {total:.0?}")));
                }
                None if self.state.is_none() && session.hedges.as_ref().is_some_and(|budget| budget.spend()) => {
                    hedged = true;
                    if let Some(position) = waiting.next() {
                        match self.launch(&desk, position, deadline, total, false) {
                            Ok(flight) => flights.push(flight),
                            Err(error) => last = Some(self.refused(position, error)),
                        }
                    }
                }
                None => {
                    let flight = flights.remove(0);
                    let position = flight.position;
                    self.give_up(&desk, flight, ErrorKind::Timeout);
                    last = Some(self.next_after(position, Error::new(ErrorKind::Timeout, late())));
                }
            }
        }
    }

    /// Asks the lane at `position`, on a thread of its own; `waits` for a place if there is none now.
    fn launch(
        &mut self,
        desk: &Arc<Desk>,
        position: usize,
        deadline: Instant,
        total: Duration,
        waits: bool,
    ) -> Result<Flight<'s>, Error> {
        let session = self.session;
        let lane = &session.lanes[position];
        let mut cut = deadline;
        if position + 1 < self.positions.end {
            cut -= session.lanes[position + 1].pace.reserve(total);
        }
        let asked = if self.attempts.is_empty() { self.start } else { session.clock.now() };
        let place = lane.place(asked, cut, waits)?;
        let started = if place.is_some() { session.clock.now() } else { asked };
        let permit = lane.admit(started)?;
        if position + 1 < self.positions.end && session.hedges.is_some() {
            let patience = lane.pace.patience(|| lane.meter.usual(0.99));
            cut = patience.map_or(cut, |patience| cut.min(started + patience));
        }
        let state = self.state_for(position);
        match desk.ask(position, lane, state, deadline.saturating_duration_since(started), place) {
            Ok(()) => Ok(Flight { position, permit, started, cut }),
            Err(error) => {
                lane.settle(permit, Some(error.kind()), Duration::ZERO, started);
                Err(error)
            }
        }
    }

    /// Judges a reply, compares it with the fallback's where that is to be done first, and tells everybody. `reference`
    /// asks another lane for its answer to the same inputs.
    fn conclude(
        &mut self,
        flight: Flight<'s>,
        reply: Reply,
        reference: impl FnOnce(&Arc<super::lane::Lane>) -> Option<Reply>,
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
        if session.policy.deadline.is_some() {
            lane.pace.record(elapsed);
        }
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
            trace::fallback(lane.name(), &error);
            lane.meter.fell_back(error.kind());
        }
        error
    }

    fn state_for(&mut self, position: usize) -> StateUse {
        self.state.as_mut().map_or(StateUse::None, |contents| contents.take(position))
    }

    /// Has the fallback answer too, aside, if it is this prediction's turn.
    fn compare_aside(&self, answer: &(usize, Outputs, Instant), inputs: impl FnOnce() -> Arc<OwnedInputs>) {
        let (position, outputs, now) = answer;
        if self.state.is_none() {
            self.session.compare_aside(*position, outputs, *now, inputs);
        }
    }
}

fn late() -> &'static str {
    "did not answer in time"
}

fn no_backend() -> Error {
    Error::new(ErrorKind::Bug, "the session has no backend")
}

/// The last error, told with those before it.
fn in_view_of(error: Error, attempts: &[Attempt]) -> Error {
    if attempts.len() < 2 {
        return error;
    }
    let told: Vec<_> = attempts
        .iter()
        .filter_map(|attempt| Some(format!("{}: {}", attempt.backend, attempt.error.as_ref()?)))
        .collect();
    Error::caused_by(error.kind(), format!("every backend failed: {}", told.join("; ")), error)
}
