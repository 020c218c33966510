//! The nat table itself: verdicts, and tables that are refused.

use super::*;
use router_core::config::nat::{Backend, Matches, OUTPUT, POSTROUTING, PREROUTING, Rule, Target};
use router_core::{ConfigError, DropReason, FramePool, Instant, Limits, Router};

/// Only a rule's own verdict ends a connection: Drop without a word, Reject with 3/3.
#[test]
fn rules_may_refuse() {
    let refuse = |chain: &str, target| {
        let mut snapshot = node();
        snapshot.nat.append(
            chain,
            Rule::new(target).when(Matches {
                dports: vec![(1, 10), (53, 53)],
                ..Matches::default()
            }),
        );
        // Before the jump to the masquerading, where there is one.
        if let Some(chain) = snapshot.nat.chains.iter_mut().find(|c| c.name == chain) {
            chain.rules.rotate_right(1);
        }
        snapshot
    };
    for chain in [PREROUTING, POSTROUTING] {
        for port in [1, 7, 10, 53] {
            let packet = a1() / ipv4(A1, X) / udp(4000, port) / b"x";
            let mut h = Harness::new(refuse(chain, Target::Drop));
            h.expect_silent_drop(POD1, &packet, DropReason::NatDrop);
            let mut h = Harness::new(refuse(chain, Target::Reject));
            h.rx(POD1, &packet);
            assert_eq!(source_of(&h.take(POD1)).0, GW_A);
            h.expect_silence();
            assert!(sessions(&h).is_empty());
        }
        let mut h = Harness::new(refuse(chain, Target::Drop));
        udp_port(&mut h, (POD1, a1()), (A1, 4000), (X, 11));
        // ICMP has no ports.
        h.rx(POD1, &(a1() / ipv4(A1, X) / echo_request(1, 1) / b""));
        h.take(UPLINK);
    }
}

/// Tables that contradict themselves are refused: loops, chains that are not there, targets out of place, no backends.
#[test]
fn impossible_tables_are_refused() {
    let error = |rules: &[(&str, Target)]| {
        let mut snapshot = node_a();
        for (chain, target) in rules {
            snapshot.nat.append(chain, Rule::new(target.clone()));
        }
        let mut router = Router::new(Limits::default(), 1);
        let mut pool = FramePool::new(1);
        router.apply(Instant::ZERO, snapshot, &mut pool).err()
    };
    let jump = |to: &str| Target::Jump(to.into());
    let dnat = |weights: &[u16]| Target::Dnat {
        backends: weights
            .iter()
            .map(|&weight| Backend {
                addr: A1,
                port: None,
                weight,
            })
            .collect(),
        affinity: None,
    };
    let masquerade = || Target::Masquerade(router_core::config::nat::PortChoice::default());
    let looped = [(PREROUTING, jump("a")), ("a", jump("b")), ("b", jump("a"))];
    assert!(matches!(error(&looped), Some(ConfigError::ChainLoop(_))));
    let own = [(POSTROUTING, jump(POSTROUTING))];
    assert!(matches!(error(&own), Some(ConfigError::ChainLoop(_))));
    let unknown = [(OUTPUT, jump("nowhere"))];
    assert!(matches!(error(&unknown), Some(ConfigError::UnknownChain(name)) if name == "nowhere"));
    for (chain, target) in [
        (PREROUTING, masquerade()),
        (OUTPUT, masquerade()),
        (POSTROUTING, dnat(&[1])),
    ] {
        let direct = [(chain, target.clone())];
        assert!(matches!(
            error(&direct),
            Some(ConfigError::MisplacedTarget(..))
        ));
        let reached = [(chain, jump("a")), ("a", target)];
        assert!(matches!(
            error(&reached),
            Some(ConfigError::MisplacedTarget(..))
        ));
    }
    for weights in [&[][..], &[1, 0]] {
        let none = [(PREROUTING, dnat(weights))];
        assert!(matches!(error(&none), Some(ConfigError::NoBackend(_))));
    }
    assert_eq!(
        error(&[
            (PREROUTING, jump("a")),
            ("a", Target::Return),
            ("b", jump("b"))
        ]),
        None
    );
}
