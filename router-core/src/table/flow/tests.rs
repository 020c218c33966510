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
    fn the_table_is_a_map(ops in ops(400), capacity in 1_usize..300, seed: u64, skipped in 0_usize..400) {
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
        // In batches of every length and beginning, into slices that are too long.
        let keys: Vec<FlowKey> = (0..400).map(key).collect();
        let mut values = Vec::new();
        for keys in [&keys[..skipped], &keys[skipped..]] {
            let mut found = alloc::vec![Some(77); keys.len() + 3];
            table.get_batch(keys, &mut found);
            prop_assert_eq!(&found[keys.len()..], [Some(77); 3]);
            values.extend_from_slice(&found[..keys.len()]);
        }
        for (k, value) in (0..400).zip(values) {
            prop_assert_eq!(value, map.get(&k).copied());
            prop_assert_eq!(table.get(key(k)), map.get(&k).copied());
        }
        // Every count is right: the table is empty of them when it is empty of keys.
        for k in map.into_keys() {
            table.remove(key(k));
        }
        let free = |line| overflow(&table.lines[line]) == 0 && table.free_way(line) == Some(0);
        prop_assert!((0..table.lines.len()).all(free));
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

/// Four keys and more that all have the same two buckets: they stand in both, are found whichever of them goes, and the
/// bucket's count goes with them.
#[test]
fn keys_of_the_same_two_buckets_stand_in_both() {
    let mut table = FlowTable::new(20, 5);
    let same = |k: &FlowKey| table.choices(*k) == table.choices(key(0));
    let six: Vec<FlowKey> = (0..).map(key).filter(same).take(7).collect();
    let (first, second) = table.choices(key(0));
    for (n, k) in (0..).zip(&six[..6]) {
        table.insert(*k, n).unwrap();
    }
    // Both are full, and whatever is in them has no third bucket.
    assert_eq!(table.insert(six[6], 6), Err(InsertError::Full));
    assert_eq!(overflow(&table.lines[first]), 3);
    for gone in 0..6 {
        assert_eq!(table.remove(six[gone]), Some(u32::try_from(gone).unwrap()));
        let mut values = [None; 7];
        table.get_batch(&six, &mut values);
        for (n, k) in six.iter().enumerate() {
            let there = n < 6 && n != gone;
            let expected = there.then(|| u32::try_from(n).unwrap());
            assert_eq!((table.get(*k), values[n]), (expected, expected));
        }
        table
            .insert(six[gone], u32::try_from(gone).unwrap())
            .unwrap();
    }
    for k in &six[..6] {
        table.remove(*k).unwrap();
    }
    assert_eq!(overflow(&table.lines[first]), 0);
    assert_eq!(overflow(&table.lines[second]), 0);
}

#[test]
fn a_table_for_nothing_is_full() {
    let mut table = FlowTable::new(0, 1);
    assert_eq!(table.insert(key(1), 1), Err(InsertError::Full));
    assert_eq!((table.get(key(1)), table.remove(key(1))), (None, None));
}
