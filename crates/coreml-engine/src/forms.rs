//! What the plans of one function for different shapes share: its weights in the forms that kernels read.
//!
//! A model with flexible shapes is planned again for each shape, a language model for each token that its mask grows by;
//! packing weights again each time would take longer than the prediction. So code that makes a form of constants first
//! asks here whether another plan still holds the same one. Only plans hold forms: a form is freed with the last plan that
//! needs it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, OnceLock, Weak};

use coreml_model::{Constant, Operation};
use coreml_tensor::{DType, Shape};
use parking_lot::Mutex;

/// A constant of a function that is the same for all shapes: written in the program, or computed from such constants
/// alone. It is known by its place in memory, so [`Forms`] must not outlive the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    address: usize,
    /// Which result, if it is the address of an operation.
    output: usize,
}

impl Source {
    /// A constant that stands in the program.
    pub(crate) fn constant(constant: &Constant) -> Self {
        Self { address: std::ptr::from_ref(constant).addr(), output: 0 }
    }

    /// A result of an operation all of whose inputs are such constants.
    pub(crate) fn result(operation: &Operation, output: usize) -> Self {
        Self { address: std::ptr::from_ref(operation).addr(), output }
    }
}

/// What is known of a constant without its elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConstantKind {
    /// Element type and shape, if it is a tensor of numbers.
    pub(crate) ty: Option<(DType, Shape)>,
    /// Whether it is held in a form smaller than its elements.
    pub(crate) compressed: bool,
}

/// The forms of a function's constants that its plans hold.
#[derive(Default)]
pub(crate) struct Forms {
    /// By the type of a form and of what else decides it: a [`Table`].
    tables: Mutex<HashMap<TypeId, Box<dyn Any + Send>>>,
    /// Whether the engine was found to have all operations of the function.
    supported: OnceLock<()>,
    /// Results that were computed without fault when the function was first planned.
    results: Mutex<HashMap<Source, ConstantKind>>,
}

/// Forms by the constants they are made of and by whatever else decides how.
struct Table<K, T> {
    forms: HashMap<(Vec<Source>, K), Weak<T>>,
    /// How many there may be before those that are gone are cleared away.
    room: usize,
}

impl Forms {
    /// What `make` makes of the constants `sources`, in a way that `key` tells; made only if no plan holds it. A constant
    /// without a source is another one in each plan: nothing made of it is shared.
    pub(crate) fn get<K, T>(
        &self,
        sources: impl Iterator<Item = Option<Source>>,
        key: K,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<Arc<T>>
    where
        K: Eq + Hash + Send + 'static,
        T: Send + Sync + 'static,
    {
        let Some(sources) = sources.collect::<Option<Vec<_>>>() else { return make().map(Arc::new) };
        let key = (sources, key);
        if let Some(known) = self.table(|table| table.forms.get(&key).and_then(Weak::upgrade)) {
            return Some(known);
        }
        // Made outside the lock: it may take long, and plans of other shapes need other forms.
        let made = Arc::new(make()?);
        Some(self.table(|table: &mut Table<K, T>| {
            if let Some(known) = table.forms.get(&key).and_then(Weak::upgrade) {
                return known;
            }
            if table.forms.len() >= table.room {
                table.forms.retain(|_, form| form.strong_count() > 0);
                table.room = table.forms.len().max(64) * 2;
            }
            table.forms.insert(key, Arc::downgrade(&made));
            made
        }))
    }

    fn table<K: Send + 'static, T: Send + Sync + 'static, R>(&self, ask: impl FnOnce(&mut Table<K, T>) -> R) -> R {
        let mut tables = self.tables.lock();
        let table = tables
            .entry(TypeId::of::<Table<K, T>>())
            .or_insert_with(|| Box::new(Table::<K, T> { forms: HashMap::new(), room: 64 }));
        match table.downcast_mut() {
            Some(table) => ask(table),
            None => unreachable!("the table was made under its own type"),
        }
    }

    /// Makes sure that the engine has all operations of the function; asks only once.
    pub(crate) fn supported<E>(&self, check: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        if self.supported.get().is_none() {
            check()?;
            self.supported.get_or_init(|| ());
        }
        Ok(())
    }

    /// What a result is, if it was computed before.
    pub(crate) fn result(&self, source: Source) -> Option<ConstantKind> {
        self.results.lock().get(&source).copied()
    }

    /// Takes down that a result was computed without fault.
    pub(crate) fn computed(&self, source: Source, kind: ConstantKind) {
        self.results.lock().insert(source, kind);
    }
}

impl fmt::Debug for Forms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Forms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(addresses: &[usize]) -> impl Iterator<Item = Option<Source>> {
        addresses.iter().map(|&address| (address > 0).then_some(Source { address, output: 0 }))
    }

    #[test]
    fn a_form_is_shared_as_long_as_it_is_held() {
        let forms = Forms::default();
        let first = forms.get(sources(&[8, 16]), 'a', || Some(1)).unwrap();
        assert_eq!(*forms.get(sources(&[8, 16]), 'a', || Some(2)).unwrap(), 1, "the same sources and key");
        assert_eq!(*forms.get(sources(&[8, 16]), 'b', || Some(3)).unwrap(), 3, "another key");
        assert_eq!(*forms.get(sources(&[8]), 'a', || Some(4)).unwrap(), 4, "other sources");
        assert_eq!(*forms.get(sources(&[8, 16]), 'a', || Some(5u8)).unwrap(), 5, "another type");
        drop(first);
        assert_eq!(*forms.get(sources(&[8, 16]), 'a', || Some(6)).unwrap(), 6, "nobody held it");
    }

    #[test]
    fn what_is_made_of_a_constant_without_a_source_is_not_shared() {
        let forms = Forms::default();
        let first = forms.get(sources(&[8, 0]), (), || Some(1)).unwrap();
        assert_eq!((*first, *forms.get(sources(&[8, 0]), (), || Some(2)).unwrap()), (1, 2));
    }

    #[test]
    fn forms_that_are_gone_leave_nothing() {
        let forms = Forms::default();
        for address in 1..10_000 {
            forms.get(sources(&[address]), (), || Some(0));
        }
        let entries = forms.table(|table: &mut Table<(), i32>| table.forms.len());
        assert!(entries <= 128, "{entries} entries for forms that nobody holds");
    }
}
