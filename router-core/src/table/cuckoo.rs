//! Room in a cuckoo table: the search for a free place, and the moves that make one.
//!
//! Decides who moves where, for both tables of keys ([`flow`](super::flow), [`places`](super::places)). Does not know what an
//! entry is: only that it is in one of two buckets, and may be in the other one as well. Look-ups are the tables' own.
//!
//! Source: Pagh and Rodler, "Cuckoo hashing" (2004); breadth first as in Fan, Andersen and Kaminsky, "MemC3" (2013).
//!
//! Cost: a look at two buckets where one has room; else a search bounded by `REACH` buckets.

/// Buckets that an insertion looks at in search of a free place.
const REACH: usize = 256;

/// A place in a bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) way: usize,
}

/// Buckets whose entries have another bucket each.
pub(super) trait Buckets {
    /// Places in a bucket.
    const WAYS: usize;

    /// A free place in a bucket.
    fn free_way(&self, line: usize) -> Option<usize>;

    /// The other bucket of what stands in this place.
    fn other_of(&self, place: Place) -> Option<usize>;

    /// Moves what stands in `from` to `to`, which is free and in its other bucket.
    fn shift(&mut self, from: Place, to: Place);
}

/// A step of the search for a free place: the entry in `way` of the bucket of step `from` has `line` as its other bucket.
#[derive(Clone, Copy)]
struct Step {
    line: usize,
    from: usize,
    way: usize,
}

impl Step {
    /// The first, which nothing was moved for.
    const fn first(line: usize) -> Self {
        Self {
            line,
            from: usize::MAX,
            way: 0,
        }
    }
}

/// A free place in one of two buckets, after moving others if that is needed. Nothing has moved if there is none.
pub(super) fn make_room<B: Buckets>(buckets: &mut B, first: usize, second: usize) -> Option<Place> {
    for line in [first, second] {
        if let Some(way) = buckets.free_way(line) {
            return Some(Place { line, way });
        }
    }
    let mut steps = [Step::first(first); REACH];
    *steps.get_mut(1)? = Step::first(second);
    let mut known = 2;
    let mut at = 0;
    while at < known {
        let here = *steps.get(at)?;
        for way in 0..B::WAYS {
            let place = Place {
                line: here.line,
                way,
            };
            let line = buckets.other_of(place)?;
            let step = Step {
                line,
                from: at,
                way,
            };
            if let Some(free) = buckets.free_way(line) {
                return move_along(buckets, &steps, step, free);
            }
            if let Some(place) = steps.get_mut(known) {
                *place = step;
                known += 1;
            }
        }
        at += 1;
    }
    None
}

/// Moves entries along the path that ends with `last`, in whose bucket `way` is free, and gives the place that becomes free
/// at its beginning. The search is breadth first, so no bucket is twice on a path: the second time could not have found a
/// free place that the first had not found before.
fn move_along<B: Buckets>(
    buckets: &mut B,
    steps: &[Step; REACH],
    last: Step,
    mut free: usize,
) -> Option<Place> {
    let mut step = last;
    loop {
        let parent = *steps.get(step.from)?;
        let from = Place {
            line: parent.line,
            way: step.way,
        };
        let to = Place {
            line: step.line,
            way: free,
        };
        buckets.shift(from, to);
        if parent.from == usize::MAX {
            return Some(from);
        }
        free = from.way;
        step = parent;
    }
}
