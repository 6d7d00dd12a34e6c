//! Finds which blobs are read later, and so have to outlive a branch or a loop.

use std::collections::{HashMap, HashSet};

/// What a layer, or one after the other, does with blobs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Uses<'a> {
    /// Those it may read as they were before it.
    reads: HashSet<&'a str>,
    /// Those it writes whatever happens.
    writes: HashSet<&'a str>,
    /// Whether it may end the round of a loop around it, so that what follows is skipped.
    pub(crate) jumps: bool,
}

impl<'a> Uses<'a> {
    pub(crate) fn new(
        reads: impl IntoIterator<Item = &'a str>,
        writes: impl IntoIterator<Item = &'a str>,
        jumps: bool,
    ) -> Self {
        Self { reads: reads.into_iter().collect(), writes: writes.into_iter().collect(), jumps }
    }

    /// These, and then `next`.
    pub(crate) fn then(mut self, next: &Self) -> Self {
        self.reads.extend(next.reads.difference(&self.writes));
        if !self.jumps {
            self.writes.extend(&next.writes);
        }
        self.jumps |= next.jumps;
        self
    }

    /// These, or `other`.
    pub(crate) fn or(mut self, other: &Self) -> Self {
        self.reads.extend(&other.reads);
        self.writes.retain(|name| other.writes.contains(name));
        self.jumps |= other.jumps;
        self
    }

    /// These any number of times, jumps being over then.
    pub(crate) fn repeated(self) -> Self {
        Self { writes: HashSet::new(), jumps: false, ..self }
    }
}

/// Where the layers of a list, which are counted from 1, use each blob.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    /// The places in order, and whether the blob is read there rather than written.
    of: HashMap<&'a str, Vec<(usize, bool)>>,
    jumps: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(crate) fn new<'s>(uses: impl Iterator<Item = &'s Uses<'a>>) -> Self
    where
        'a: 's,
    {
        let mut places = Self { of: HashMap::new(), jumps: Vec::new() };
        for (place, uses) in (1..).zip(uses) {
            let reads = uses.reads.iter().map(|&name| (name, true));
            let writes = uses.writes.difference(&uses.reads).map(|&name| (name, false));
            for (name, is_read) in reads.chain(writes) {
                places.of.entry(name).or_default().push((place, is_read));
            }
            if uses.jumps {
                places.jumps.push(place);
            }
        }
        places
    }
}

/// Which blobs are read later.
#[derive(Clone, Copy)]
pub(crate) struct Live<'s, 'a> {
    places: &'s Places<'a>,
    /// The layer being lowered.
    after: usize,
    /// What is live after the last layer, and after a jump.
    around: Option<&'s Self>,
}

impl<'s, 'a> Live<'s, 'a> {
    /// What is live after so many layers.
    pub(crate) fn new(places: &'s Places<'a>, after: usize, around: Option<&'s Self>) -> Self {
        Self { places, after, around }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        let all = self.places.of.get(name).map_or(&[][..], Vec::as_slice);
        match all.get(all.partition_point(|&(place, _)| place <= self.after)) {
            Some((_, true)) => true,
            Some(&(written, false)) if !self.may_jump_before(written) => false,
            _ => self.around.is_some_and(|around| around.contains(name)),
        }
    }

    /// Whether a layer from the one being lowered on may jump over the one at `place`.
    fn may_jump_before(&self, place: usize) -> bool {
        let jumps = &self.places.jumps;
        jumps.get(jumps.partition_point(|&jump| jump < self.after)).is_some_and(|&jump| jump < place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_first_is_not_read_as_it_was() {
        let step = |reads: &[&'static str], writes: &[&'static str]| {
            Uses::new(reads.iter().copied(), writes.iter().copied(), false)
        };
        let jump = Uses::new([], [], true);
        let list = [step(&["a"], &["b"]), step(&["b"], &["a"]), step(&["a", "c"], &["d"])];
        let all = list.iter().fold(Uses::default(), |all, next| all.then(next));
        assert_eq!(all.reads, ["a", "c"].into());
        assert_eq!(all.writes, ["a", "b", "d"].into());
        assert_eq!(all.clone().or(&step(&[], &["d", "e"])).writes, ["d"].into());
        assert!(all.repeated().writes.is_empty());
        assert_eq!(jump.clone().or(&step(&[], &[])).then(&list[0]).writes, [].into(), "it may be jumped over");

        let places = Places::new(list.iter());
        let wanted = Uses::new(["a", "d", "e"], [], false);
        let wanted = Places::new([&wanted].into_iter());
        let around = Live::new(&wanted, 0, None);
        let live = |after| Live::new(&places, after, Some(&around));
        let names =
            |after| ["a", "b", "c", "d", "e"].into_iter().filter(|name| live(after).contains(name)).collect::<Vec<_>>();
        let expected: [Vec<&str>; 4] =
            [vec!["a", "c", "e"], vec!["b", "c", "e"], vec!["a", "c", "e"], vec!["a", "d", "e"]];
        for (after, expected) in expected.into_iter().enumerate() {
            assert_eq!(names(after), expected, "after {after} layers");
        }

        // After the jump `a` is read as it is before the layer that would write it.
        let jumping = Uses::new(["f"], [], true);
        let places = Places::new([&jumping, &list[1]].into_iter());
        assert!(Live::new(&places, 1, Some(&around)).contains("a"));
        assert!(Live::new(&places, 0, Some(&around)).contains("a"));
        assert!(!Live::new(&places, 0, None).contains("a"));
    }
}
