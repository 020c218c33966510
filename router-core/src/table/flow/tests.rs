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
    Insert(u64, u32),
    Replace(u64, u32),
    Remove(u64),
}

fn ops(keys: u64) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        5 => (0..keys, 0..u32::MAX).prop_map(|(k, v)| Op::Insert(k, v)),
        1 => (0..keys, 0..u32::MAX - 1).prop_map(|(k, v)| Op::Replace(k, v)),
        3 => (0..keys).prop_map(Op::Remove),
    ];
    prop::collection::vec(op, 0..2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The table answers as a map does, and refuses only what is there or beyond its capacity.
    #[test]
    fn the_table_is_a_map(ops in ops(400), capacity in 1_usize..300, seed: u64) {
        let mut table = FlowTable::new(capacity, seed);
        let mut map = BTreeMap::new();
        for op in ops {
            match op {
                Op::Insert(k, v) => match table.insert(key(k), v) {
                    Ok(()) => prop_assert!(map.insert(k, v).is_none() && map.len() <= capacity),
                    Err(InsertError::Occupied) => prop_assert!(map.contains_key(&k)),
                    Err(InsertError::Full) => {
                        prop_assert!(!map.contains_key(&k));
                        prop_assert!(map.len() == capacity, "{} of {capacity}", map.len());
                    }
                },
                Op::Replace(k, v) => {
                    prop_assert_eq!(table.replace(key(k), v), map.get(&k).copied());
                    map.entry(k).and_modify(|old| *old = v);
                }
                Op::Remove(k) => prop_assert_eq!(table.remove(key(k)), map.remove(&k)),
            }
            prop_assert_eq!(table.len(), map.len());
        }
        let keys: Vec<FlowKey> = (0..400).map(key).collect();
        let mut values = alloc::vec![None; 400];
        table.get_batch(&keys, &mut values);
        for (k, value) in (0..400).zip(values) {
            prop_assert_eq!(value, map.get(&k).copied());
            prop_assert_eq!(table.get(key(k)), map.get(&k).copied());
        }
        // Every count is right: the table is empty of them when it is empty of keys.
        for k in map.into_keys() {
            table.remove(key(k));
        }
        prop_assert!(table.lines.iter().all(|line| overflow(line) == 0 && free_way(line) == Some(0)));
    }
}

#[test]
fn a_table_takes_as_many_keys_as_it_says_in_27_bytes_each() {
    for seed in 0..3 {
        let mut table = FlowTable::new(20_000, seed);
        assert!(table.bytes() <= 27 * 20_000);
        for n in 0..20_000_u32 {
            table.insert(key(u64::from(n)), n).unwrap();
        }
        assert_eq!(table.insert(key(1 << 40), 0), Err(InsertError::Full));
        assert_eq!(table.insert(key(7), 0), Err(InsertError::Occupied));
        for n in 0..20_000_u32 {
            assert_eq!(table.get(key(u64::from(n))), Some(n));
        }
        assert_eq!(table.get(key(1 << 40)), None);
        table.remove(key(7)).unwrap();
        table.insert(key(1 << 40), 5).unwrap();
        assert_eq!(table.get(key(1 << 40)), Some(5));
    }
}

#[test]
fn keys_that_share_their_buckets_under_one_secret_do_not_under_another() {
    let victim = FlowTable::new(2000, 1);
    let aimed: Vec<FlowKey> = (0..800_000)
        .map(key)
        .filter(|&k| victim.choices(k).0 < 8)
        .take(1000)
        .collect();
    assert_eq!(aimed.len(), 1000);
    let mut other = FlowTable::new(2000, 2);
    for (n, k) in (0..).zip(&aimed) {
        other.insert(*k, n).unwrap();
    }
    let mut victim = victim;
    let taken = aimed
        .iter()
        .filter(|k| victim.insert(**k, 0).is_ok())
        .count();
    assert!(taken < 1000, "whoever knows the secret can fill buckets");
    assert_eq!(victim.len(), taken);
    let found = aimed.iter().filter(|k| victim.get(**k).is_some()).count();
    assert_eq!(found, taken, "what was taken is found");
}

#[test]
fn a_table_for_nothing_is_full() {
    let mut table = FlowTable::new(0, 1);
    assert_eq!(table.insert(key(1), 1), Err(InsertError::Full));
    assert_eq!((table.get(key(1)), table.remove(key(1))), (None, None));
}
