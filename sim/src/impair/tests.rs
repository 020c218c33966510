//! Values as they are written, read and shown.

use super::*;

#[test]
fn values_have_units_and_are_shown_as_they_were_written() {
    for (text, nanos) in [
        ("20ms", 20_000_000),
        ("1.5s", 1_500_000_000),
        ("100us", 100_000),
        ("7ns", 7),
    ] {
        assert_eq!(time(text), Ok(nanos));
        assert_eq!(show_time(nanos), text);
    }
    for (text, bits) in [
        ("100mbit", 100_000_000),
        ("1.5gbit", 1_500_000_000),
        ("64kbit", 64_000),
        ("7bit", 7),
    ] {
        assert_eq!(rate(text), Ok(bits));
        assert_eq!(show_rate(bits), text);
    }
    assert_eq!(rate("0bit"), Ok(0));
    for text in ["0.1%", "1%", "5.25%", "100%", "0.001%"] {
        assert_eq!(show_percent(percent(text).unwrap()), text);
    }
    assert_eq!(percent("100%"), Ok(u32::MAX));
}

#[test]
fn what_has_no_unit_or_no_sense_is_refused() {
    for text in [
        "20", "ms", "", "-1ms", "1.2.3ms", "20m", "2h", "3601s", "1e3ms", "20 ms",
    ] {
        assert!(time(text).is_err(), "{text}");
    }
    for text in ["1", "101%", "-1%", "%", "nan%", "0.1"] {
        assert!(percent(text).is_err(), "{text}");
    }
    for text in ["100", "100mb", "mbit", "2000tbit", "0.1bit", "1mbps"] {
        assert!(rate(text).is_err(), "{text}");
    }
    let reorder = Impair {
        reorder: 1,
        ..Impair::default()
    };
    assert!(reorder.check().is_err());
    let shaped = Impair {
        distribution: Shape::Normal,
        delay: 1,
        ..Impair::default()
    };
    assert!(shaped.check().is_err());
}

#[test]
fn words_are_those_of_tc() {
    assert_eq!(Impair::default().words(), "");
    let all = Impair {
        delay: 20_000_000,
        jitter: 2_000_000,
        distribution: Shape::Normal,
        loss: percent("0.1%").unwrap(),
        duplicate: percent("1%").unwrap(),
        corrupt: percent("2%").unwrap(),
        reorder: percent("5%").unwrap(),
        rate: 100_000_000,
        limit: 50,
        seed: 7,
    };
    assert_eq!(
        all.words(),
        "delay 20ms jitter 2ms distribution normal loss 0.1% duplicate 1% corrupt 2% reorder 5% rate 100mbit limit 50 seed 7"
    );
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Impair>(&json).unwrap(), all);
    assert!(
        !all.is_none()
            && Impair {
                seed: 3,
                ..Impair::default()
            }
            .is_none()
    );
}
