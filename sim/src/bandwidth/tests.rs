use super::*;

fn of(pairs: &[(&str, &str)]) -> Result<Bandwidth, BTreeMap<String, String>> {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Bandwidth::of_annotations(&pairs.collect())
}

/// CAL-34: rates as Kubernetes writes them; without annotations there are no limits.
#[test]
fn annotations_are_rates_in_bits() {
    assert_eq!(of(&[("app", "web")]), Ok(Bandwidth::default()));
    let both = of(&[
        ("kubernetes.io/ingress-bandwidth", "8M"),
        ("kubernetes.io/egress-bandwidth", "1Gi"),
    ])
    .unwrap();
    let ingress = both.ingress.unwrap();
    assert_eq!((ingress.rate, ingress.burst), (8_000_000, 200_000));
    let egress = both.egress.unwrap();
    assert_eq!((egress.rate, egress.burst), (1 << 30, (1 << 30) / 40));
    // What the pod receives is what the port sends.
    let shape = both.shape();
    assert_eq!(shape.tx.map(|rate| rate.rate), Some(1_000_000));
    assert_eq!(shape.rx.map(|rate| rate.rate), Some(1 << 27));
    let slow = Limit::of_rate(1000);
    assert_eq!(slow.burst, 8 * 16_384, "room for full frames at any rate");
}

/// CAL-34: Calico's annotations have the burst, and win.
#[test]
fn calicos_annotations_win() {
    let limits = of(&[
        ("kubernetes.io/ingress-bandwidth", "8M"),
        ("qos.projectcalico.org/ingressBandwidth", "5M"),
        ("qos.projectcalico.org/ingressBurst", "2147483647"),
        ("kubernetes.io/egress-bandwidth", "3M"),
        ("qos.projectcalico.org/egressBurst", "64k"),
    ])
    .unwrap();
    let limit = |rate, burst| Some(Limit { rate, burst });
    assert_eq!(limits.ingress, limit(5_000_000, 2_147_483_647));
    assert_eq!(limits.egress, limit(3_000_000, 64_000));
}

/// CAL-34: what kubelet and the plugin refuse is refused, every mistake by its annotation.
#[test]
fn bad_annotations_are_refused() {
    for (key, value, why) in [
        ("kubernetes.io/ingress-bandwidth", "fast", "no quantity"),
        ("kubernetes.io/ingress-bandwidth", "8Mbit", "no quantity"),
        ("kubernetes.io/ingress-bandwidth", "-8M", "no quantity"),
        ("kubernetes.io/egress-bandwidth", "999", "small (< 1kbit/s)"),
        ("kubernetes.io/egress-bandwidth", "0", "small (< 1kbit/s)"),
        (
            "kubernetes.io/egress-bandwidth",
            "1.1P",
            "large (> 1Pbit/s)",
        ),
        ("qos.projectcalico.org/ingressBurst", "1M", "without a rate"),
        (
            "qos.projectcalico.org/ingressPacketRate",
            "9",
            "not in this",
        ),
    ] {
        let wrong = of(&[(key, value)]).unwrap_err();
        assert!(wrong[key].contains(why), "{key}: {wrong:?}");
    }
    let wrong = of(&[
        ("kubernetes.io/egress-bandwidth", "1k"),
        ("qos.projectcalico.org/egressBurst", "40G"),
        ("kubernetes.io/ingress-bandwidth", "1"),
    ])
    .unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert!(of(&[("kubernetes.io/egress-bandwidth", "1k")]).is_ok());
    assert!(of(&[("kubernetes.io/egress-bandwidth", "1P")]).is_ok());
}

/// CAL-34: in a conflist rate and burst stand both or neither.
#[test]
fn the_plugin_wants_rate_and_burst() {
    let limit = |rate, burst| Some(Limit { rate, burst });
    assert_eq!(Bandwidth::of_plugin([0; 4]), Ok(Bandwidth::default()));
    let found = Bandwidth::of_plugin([123, 456, 0, 0]).unwrap();
    assert_eq!((found.ingress, found.egress), (limit(123, 456), None));
    for (keys, why) in [
        ([9, 0, 0, 0], "burst must also"),
        ([0, 0, 0, 9], "rate must also"),
        ([9, 1 << 36, 0, 0], "4GB"),
        ([0, 0, 7, 800], "whole bytes"),
    ] {
        let error = Bandwidth::of_plugin(keys).unwrap_err();
        assert!(error.contains(why), "{keys:?}: {error}");
    }
}
