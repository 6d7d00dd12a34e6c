//! Where a prediction with a deadline waits for the calls it has started, and where a call sees that nobody waits any
//! more.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use smallvec::SmallVec;

use super::gate::Place;
use super::lane::{Lane, Reply, StateUse};
use crate::Instant;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::owned::OwnedInputs;

/// Shared by the caller and the calls it has started. Everything a call reads or writes belongs to it or to this, so
/// that one that returns after its caller has left touches nothing of the caller's.
#[derive(Debug)]
pub(super) struct Desk {
    inputs: Arc<OwnedInputs>,
    mail: Mutex<Mail>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Mail {
    replies: SmallVec<[(usize, Reply); 2]>,
    /// The switch of each call, by the position of its lane.
    asked: SmallVec<[(usize, Cancel); 2]>,
    /// Lanes whose reply is no longer waited for, and whether the call counts as abandoned.
    left: SmallVec<[(usize, bool); 2]>,
}

impl Desk {
    pub(super) fn new(inputs: Arc<OwnedInputs>) -> Arc<Self> {
        Arc::new(Self { inputs, mail: Mutex::default(), arrived: Condvar::new() })
    }

    pub(super) fn inputs(&self) -> &Arc<OwnedInputs> {
        &self.inputs
    }

    /// Has the lane at `position` answer on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread.
    pub(super) fn ask(
        self: &Arc<Self>,
        position: usize,
        lane: &Arc<Lane>,
        state: StateUse,
        patience: Duration,
        place: Option<Place>,
    ) -> Result<(), Error> {
        let (desk, own, cancel) = (self.clone(), lane.clone(), Cancel::new());
        self.mail.lock().asked.push((position, cancel.clone()));
        lane.run(move || {
            let reply = own.perform(&desk.inputs.checked(), state, Some(patience), Some(&cancel));
            // The next one need not wait until this reply has been read.
            reply.leave(place);
            let mut mail = desk.mail.lock();
            if let Some(&(_, abandoned)) = mail.left.iter().find(|(of, _)| *of == position) {
                drop(mail);
                own.returned_late(abandoned);
                return;
            }
            mail.replies.push((position, reply));
            desk.arrived.notify_one();
        })
    }

    /// The next reply, if one comes within `patience`.
    pub(super) fn wait(&self, patience: Duration) -> Option<(usize, Reply)> {
        let until = Instant::now() + patience;
        let mut mail = self.mail.lock();
        while mail.replies.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if self.arrived.wait_for(&mut mail, left).timed_out() && mail.replies.is_empty() {
                return None;
            }
        }
        Some(mail.replies.remove(0))
    }

    /// Goes on without the reply of the lane at `position`.
    pub(super) fn leave(&self, position: usize, lane: &Lane) {
        let mut mail = self.mail.lock();
        if let Some(arrived) = mail.replies.iter().position(|(of, _)| *of == position) {
            mail.replies.remove(arrived);
            return;
        }
        if let Some((_, cancel)) = mail.asked.iter().find(|(of, _)| *of == position) {
            cancel.cancel();
        }
        // Before the call can find that it was left, which takes the lock.
        let abandoned = lane.abandon();
        mail.left.push((position, abandoned));
    }
}
