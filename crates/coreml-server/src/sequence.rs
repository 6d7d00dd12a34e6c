//! The states of a model between the requests of a sequence: limited in number and in idle time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coreml_anywhere::{Session, State};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::protocol::wishes::Sequence;
use crate::refusal::Refusal;

/// The sequences of a model that are alive.
#[derive(Debug)]
pub(crate) struct Sequences {
    alive: Mutex<BTreeMap<String, Live>>,
    most: usize,
    patience: Duration,
}

#[derive(Debug)]
struct Live {
    state: Arc<State>,
    /// Requests of a sequence come one after the other, in the order in which they came.
    order: Arc<tokio::sync::Mutex<()>>,
    used: Instant,
}

impl Live {
    /// Whether a request is using it or waits for it.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.order) > 1
    }
}

/// A request's turn in its sequence; the next one may come when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) state: Arc<State>,
    _order: OwnedMutexGuard<()>,
}

impl Sequences {
    pub(crate) fn new(most: usize, patience: Duration) -> Self {
        Self { alive: Mutex::default(), most, patience }
    }

    /// How many are alive.
    pub(crate) fn len(&self) -> usize {
        self.alive.lock().len()
    }

    /// Waits for the request's turn.
    ///
    /// # Errors
    /// When the sequence was never started or has ended, or when there are too many.
    pub(crate) async fn turn(&self, session: &Session, asked: &Sequence) -> Result<Turn, Refusal> {
        let (state, order) = self.find(session, asked, Instant::now())?;
        Ok(Turn { state, _order: order.lock_owned().await })
    }

    fn find(
        &self,
        session: &Session,
        asked: &Sequence,
        now: Instant,
    ) -> Result<(Arc<State>, Arc<tokio::sync::Mutex<()>>), Refusal> {
        let mut alive = self.alive.lock();
        alive.retain(|_, live| live.is_in_use() || now.duration_since(live.used) < self.patience);
        if asked.starts {
            if !alive.contains_key(&asked.id) && alive.len() >= self.most {
                let message = format!("{} sequences are alive already", alive.len());
                return Err(Refusal::busy(message, Duration::from_secs(1)));
            }
            let live = Live { state: Arc::new(session.state()), order: Arc::default(), used: now };
            alive.insert(asked.id.clone(), live);
        }
        let unknown = || {
            Refusal::invalid(format!(
                "there is no sequence {:?}: start it with sequence_start, or it has ended",
                asked.id
            ))
        };
        let live = alive.get_mut(&asked.id).ok_or_else(unknown)?;
        live.used = now;
        let found = (live.state.clone(), live.order.clone());
        if asked.ends {
            // Who is in it already keeps its state.
            alive.remove(&asked.id);
        }
        Ok(found)
    }

    /// The request has had its turn.
    pub(crate) fn went_on(&self, id: &str) {
        if let Some(live) = self.alive.lock().get_mut(id) {
            live.used = Instant::now();
        }
    }
}
