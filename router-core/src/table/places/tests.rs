use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Keys as attackers and counters make them: little but the low bits differs.
fn key(n: u64) -> FlowKey {
    FlowKey([n << 3, n.rotate_right(17)])
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u64),
    Replace(u64),
    Remove(u64),
}

fn ops(keys: u64) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0..keys).prop_map(Op::Insert),
        1 => (0..keys).prop_map(Op::Replace),
        3 => (0..keys).prop_map(Op::Remove),
    ];
    prop::collection::vec(op, 0..2000)
}

/// A table and, as its caller would have them, the keys by number.
struct Caller {
    places: Places,
    keys: Vec<Option<u64>>,
}

impl Caller {
    fn new(capacity: usize, seed: u64) -> Self {
        Self {
            places: Places::new(capacity, seed),
            keys: Vec::new(),
        }
    }

    /// A number that stands in the table nowhere.
    fn fresh(&mut self, k: u64) -> u32 {
        self.keys.push(Some(k));
        u32::try_from(self.keys.len() - 1).unwrap()
    }

    fn get(&self, k: u64) -> Option<u32> {
        let is_it = |val: u32| self.keys[val as usize] == Some(k);
        self.places.get(key(k), is_it)
    }

    /// As packets are looked up ahead.
    fn guess(&self, k: u64) -> Option<u32> {
        let choices = self.places.choices_of(key(k));
        self.places.prefetch(choices);
        match self.places.first_of(choices) {
            First::Value(value) => Some(value),
            First::Nothing => None,
            First::Other => self.places.second_of(choices),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The table answers as a map does, and refuses only what is beyond its capacity. A guess of a key that is there may be
    /// another's whose tag is the same; a key that is not there may be guessed to be somebody's.
    #[test]
    fn the_table_is_a_map(ops in ops(400), capacity in 1_usize..300, seed: u64) {
        let mut caller = Caller::new(capacity, seed);
        let mut map = BTreeMap::new();
        for op in ops {
            match op {
                Op::Insert(k) if map.contains_key(&k) => prop_assert_eq!(caller.get(k), map.get(&k).copied()),
                Op::Insert(k) => {
                    let val = caller.fresh(k);
                    match caller.places.insert(key(k), val) {
                        Ok(()) => prop_assert!(map.insert(k, val).is_none() && map.len() <= capacity),
                        Err(Full) => prop_assert!(map.len() == capacity, "{} of {capacity}", map.len()),
                    }
                }
                Op::Replace(k) => {
                    let old = map.get(&k).copied();
                    let new = caller.fresh(k);
                    prop_assert_eq!(caller.places.replace(key(k), old.unwrap_or(MOST), new), old.is_some());
                    map.entry(k).and_modify(|val| *val = new);
                }
                Op::Remove(k) => {
                    let val = map.remove(&k);
                    prop_assert_eq!(caller.places.remove(key(k), val.unwrap_or(MOST)), val.is_some());
                }
            }
            prop_assert_eq!(caller.places.len(), map.len());
        }
        for k in 0..400 {
            prop_assert_eq!(caller.get(k), map.get(&k).copied());
            let guess = caller.guess(k);
            let tag = |k| caller.places.choices_of(key(k)).tag;
            let alike = guess.and_then(|val| caller.keys[val as usize]).is_some_and(|other| tag(other) == tag(k));
            prop_assert!(guess == map.get(&k).copied() || alike);
        }
        // Every count is right: the table is empty of them when it is empty of entries.
        for (k, val) in map {
            prop_assert!(caller.places.remove(key(k), val));
        }
        prop_assert!(caller.places.lines.iter().all(|line| *line == Line([0; 8])));
    }
}

#[test]
fn a_table_takes_as_many_keys_as_it_says_in_7_4_bytes_each() {
    for seed in 0..3 {
        let mut caller = Caller::new(20_000, seed);
        assert!(caller.places.bytes() <= 74 * 2_000);
        for k in 0..20_000 {
            let val = caller.fresh(k);
            caller.places.insert(key(k), val).unwrap();
        }
        assert_eq!(caller.places.insert(key(1 << 40), 30_000), Err(Full));
        let second =
            |k: &u64| caller.places.first_of(caller.places.choices_of(key(*k))) == First::Other;
        assert!(
            (0..20_000).filter(second).count() < 2_200,
            "most are in their first bucket"
        );
        for k in 0..20_000 {
            assert_eq!(caller.get(k), u32::try_from(k).ok());
        }
        assert_eq!(caller.get(1 << 40), None);
        assert!(caller.places.remove(key(7), 7));
        caller.places.insert(key(1 << 40), 30_000).unwrap();
        assert_eq!(caller.get(7), None);
    }
}

/// Keys that all have the same two buckets and the same tag: they fill both, each is found by what its caller knows, the
/// next is refused, and whichever goes, the others and the count are right.
#[test]
fn keys_of_one_tag_and_two_buckets_stand_in_both() {
    let mut caller = Caller::new(100, 5);
    let like = caller.places.choices_of(key(0));
    let (first, second) = (like.first as usize, caller.places.second(like));
    assert_ne!(first, second);
    // What the hash would have to be for that: numbers are put in by their choices here.
    for val in 0..20 {
        let place = cuckoo::make_room(&mut caller.places, first, second).unwrap();
        let is_second = (place.line != first).then_some(first);
        caller.places.put(place, like.tag, val + 1, is_second);
    }
    caller.places.len = 20;
    assert_eq!(
        caller.places.insert(key(0), 20),
        Err(Full),
        "neither bucket has room, nor can make any"
    );
    assert_eq!(count(&caller.places.lines[first]), 10);
    for gone in 0..20 {
        assert!(caller.places.remove(key(0), gone));
        for val in 0..20 {
            let found = caller.places.get(key(0), |other| other == val);
            assert_eq!(found, (val != gone).then_some(val));
        }
        caller.places.insert(key(0), gone).unwrap();
    }
    for val in 0..20 {
        assert!(caller.places.remove(key(0), val));
    }
    assert!(caller.places.lines.iter().all(|line| *line == Line([0; 8])));
}

#[test]
fn keys_that_share_their_buckets_under_one_secret_do_not_under_another() {
    let mut victim = Caller::new(2000, 1);
    let aimed: Vec<u64> = (0..400_000)
        .filter(|&k| {
            let choices = victim.places.choices_of(key(k));
            choices.first < 4 && victim.places.second(choices) < 4
        })
        .take(60)
        .collect();
    assert_eq!(aimed.len(), 60);
    let mut taken = 0;
    let mut other = Caller::new(2000, 2);
    for k in &aimed {
        let val = other.fresh(*k);
        other.places.insert(key(*k), val).unwrap();
        let val = victim.fresh(*k);
        taken += usize::from(victim.places.insert(key(*k), val).is_ok());
    }
    assert_eq!(taken, 40, "whoever knows the secret can fill buckets");
}

#[test]
fn a_table_for_nothing_is_full_and_numbers_that_do_not_fit_are_refused() {
    let mut caller = Caller::new(0, 1);
    assert_eq!(caller.places.insert(key(1), 1), Err(Full));
    assert_eq!(
        (caller.get(1), caller.places.remove(key(1), 1)),
        (None, false)
    );
    let mut caller = Caller::new(2, 1);
    assert_eq!(caller.places.insert(key(1), MOST + 1), Err(Full));
    caller.places.insert(key(1), MOST).unwrap();
    assert_eq!(caller.places.get(key(1), |val| val == MOST), Some(MOST));
    assert!(!caller.places.replace(key(1), MOST, MOST + 1));
}
