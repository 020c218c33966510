//! Every kind of step in words: what `podwire trace` prints, to the letter.

use std::net::Ipv4Addr;

use router_core::config::nat::{Backend, Chain, Mark, Origin, PortChoice, Rule, Target};
use router_core::config::{PortConfig, RpFilter};
use router_core::policy::{Direction, Judgement, PolicyName};
use router_core::stats::RouteKind;
use router_core::trace::{
    Answered, Fit, PortNames, Step, Summary, Tracked, Transport, Withheld, icmp,
};
use router_core::{DropReason, Event, Mac, NeighbourState, PortId, Snapshot};

const ETH0: PortId = PortId(1);
const VETH: PortId = PortId(2);
/// A port that the names do not know.
const LOST: PortId = PortId(9);
const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
const NODE: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 3);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const UDP: Summary = Summary {
    src: A,
    dst: B,
    protocol: 17,
    ttl: 64,
    tos: 0,
    id: 1,
    len: 29,
    df: false,
    mf: false,
    offset: 0,
    transport: Transport::Ports {
        sport: 7,
        dport: 53,
        flags: 0,
    },
};

fn names() -> Vec<(PortId, String)> {
    vec![(ETH0, "eth0".into()), (VETH, "veth1".into())]
}

#[track_caller]
fn reads(step: Step, words: &str) {
    assert_eq!(step.sentence(&names()).to_string(), words, "{step:?}");
}

#[test]
fn steps_of_the_link_layer() {
    let (port, len, src, dst) = (ETH0, 98, MAC, OTHER);
    reads(
        Step::Rx {
            port,
            len,
            src,
            dst,
        },
        "received by eth0: 98 bytes, 02:00:00:00:00:01 > 02:00:00:00:00:02",
    );
    let lost = Step::Tx {
        port: LOST,
        len,
        src,
        dst,
    };
    reads(
        lost,
        "sent by port 9: 98 bytes, 02:00:00:00:00:01 > 02:00:00:00:00:02",
    );
    let accepted = |group, from_host| Step::Accepted {
        port: VETH,
        group,
        from_host,
    };
    reads(accepted(false, false), "sent to the MAC of veth1");
    reads(accepted(true, false), "sent to a group of stations");
    reads(accepted(false, true), "sent by the node itself");
    let (bridge, port) = (ETH0, VETH);
    reads(
        Step::Bridged { bridge, port, dst },
        "eth0: 02:00:00:00:00:02 is behind veth1",
    );
    reads(
        Step::BridgedUp { bridge, dst },
        "eth0: 02:00:00:00:00:02 is for the bridge's own interface",
    );
    reads(
        Step::Flooded { bridge, dst },
        "eth0: 02:00:00:00:00:02 to all ports",
    );
    reads(Step::Copied { len: 60 }, "copy of 60 bytes");
    reads(
        Step::Handed { worker: 3 },
        "goes on in worker 3 of the node",
    );
    reads(Step::Consumed, "ends here, taken by the router");
}

#[test]
fn steps_of_the_ip_layer() {
    reads(
        Step::Header { packet: UDP },
        "UDP 10.244.0.2:7 > 10.244.1.3:53, TTL 64, 29 bytes",
    );
    reads(
        Step::Options { len: 8 },
        "8 bytes of options, none forbidden",
    );
    let source = |rp_filter| Step::Source { src: A, rp_filter };
    reads(
        source(RpFilter::Off),
        "source 10.244.0.2 is possible (rp_filter off)",
    );
    reads(
        source(RpFilter::Loose),
        "source 10.244.0.2 can be reached (rp_filter loose)",
    );
    reads(
        source(RpFilter::Strict),
        "source 10.244.0.2 is reached by the same port (rp_filter strict)",
    );
    let ttl = |before, after| Step::Ttl { before, after };
    reads(ttl(64, 63), "TTL 64 -> 63");
    reads(
        ttl(64, 64),
        "TTL 64, not lowered for the node's own packets",
    );
    let mtu = |fit| Step::Mtu {
        port: ETH0,
        mtu: 1480,
        len: 1500,
        fit,
    };
    reads(mtu(Fit::Fits), "1500 bytes, fits MTU 1480 of eth0");
    reads(
        mtu(Fit::Fragment),
        "1500 bytes, must be cut: longer than MTU 1480 of eth0",
    );
    reads(
        mtu(Fit::TooBig),
        "1500 bytes, DF forbids to cut it: longer than MTU 1480 of eth0",
    );
    let local = |by| Step::Local { by };
    reads(
        local(Answered::Echo),
        "for this node: the router answers the echo request",
    );
    reads(
        local(Answered::Timestamp),
        "for this node: the router answers the timestamp request",
    );
    reads(
        local(Answered::Reset),
        "for this node: nothing listens, the router resets",
    );
    reads(
        local(Answered::Host),
        "for this node: its host namespace takes it",
    );
}

#[test]
fn routes_read_as_iproute2_prints_them() {
    let route = |kind, prefix: Option<&str>| Step::Route {
        dst: B,
        kind,
        prefix: prefix.map(|p| p.parse().unwrap()),
        via: None,
        port: None,
        metric: None,
        src: None,
    };
    let net = Some("10.244.1.0/24");
    reads(
        route(RouteKind::Local, net),
        "10.244.1.3 is an address of this node",
    );
    reads(
        route(RouteKind::Broadcast, net),
        "10.244.1.3 is a broadcast address",
    );
    reads(route(RouteKind::NoRoute, None), "no route to 10.244.1.3");
    reads(route(RouteKind::Unicast, net), "route 10.244.1.0/24");
    reads(
        route(RouteKind::Unicast, Some("0.0.0.0/0")),
        "route default",
    );
    reads(
        route(RouteKind::Unicast, Some("10.244.1.3/32")),
        "route 10.244.1.3",
    );
    reads(route(RouteKind::Unicast, None), "route ?");
    reads(
        route(RouteKind::Blackhole, net),
        "route blackhole 10.244.1.0/24",
    );
    reads(
        route(RouteKind::Unreachable, Some("0.0.0.0/0")),
        "route unreachable default",
    );
    reads(
        route(RouteKind::Prohibit, Some("10.244.1.3/32")),
        "route prohibit 10.244.1.3",
    );
    let whole = |metric| Step::Route {
        dst: B,
        kind: RouteKind::Unicast,
        prefix: Some("0.0.0.0/0".parse().unwrap()),
        via: Some(Ipv4Addr::new(172, 18, 0, 1)),
        port: Some(ETH0),
        metric: Some(metric),
        src: Some(NODE),
    };
    reads(
        whole(1024),
        "route default via 172.18.0.1 dev eth0 src 172.18.0.3 metric 1024",
    );
    reads(
        whole(0),
        "route default via 172.18.0.1 dev eth0 src 172.18.0.3",
    );
}

#[test]
fn steps_of_fragments_and_tunnels() {
    reads(Step::Fragmented { pieces: 3 }, "cut into 3 fragments");
    let piece = Summary {
        mf: true,
        offset: 1480,
        transport: Transport::Other,
        ..UDP
    };
    reads(
        Step::Piece { packet: piece },
        "fragment: UDP 10.244.0.2 > 10.244.1.3, TTL 64, 29 bytes, fragment at 1480+",
    );
    let last = Summary { mf: false, ..piece };
    reads(
        Step::Piece { packet: last },
        "fragment: UDP 10.244.0.2 > 10.244.1.3, TTL 64, 29 bytes, fragment at 1480",
    );
    reads(
        Step::Queued { port: VETH },
        "bandwidth limit of veth1: waits for its turn",
    );
    reads(
        Step::Collected,
        "waits for the other fragments of its datagram",
    );
    reads(Step::Reassembled { pieces: 3 }, "all 3 fragments are there");
    reads(Step::Merged, "goes on with the first fragment");
    let encap = |df| Step::Encap {
        port: VETH,
        src: NODE,
        dst: Ipv4Addr::new(172, 18, 0, 4),
        ttl: 63,
        df,
        len: 1500,
    };
    reads(
        encap(true),
        "encapsulated by veth1 (IPIP): 172.18.0.3 > 172.18.0.4, TTL 63, 1500 bytes, DF",
    );
    reads(
        encap(false),
        "encapsulated by veth1 (IPIP): 172.18.0.3 > 172.18.0.4, TTL 63, 1500 bytes",
    );
    let (port, src, dst) = (VETH, NODE, Ipv4Addr::new(172, 18, 0, 4));
    reads(
        Step::Decap { port, src, dst },
        "decapsulated by veth1 (IPIP 172.18.0.3 > 172.18.0.4)",
    );
}

#[test]
fn steps_of_address_resolution() {
    let (port, ip) = (ETH0, NODE);
    let neighbour = |state| Step::Neighbour {
        port,
        ip,
        mac: MAC,
        state,
    };
    reads(
        neighbour(None),
        "neighbour 172.18.0.3 on eth0: 02:00:00:00:00:01",
    );
    for (state, name) in [
        (NeighbourState::Incomplete, "INCOMPLETE"),
        (NeighbourState::Reachable, "REACHABLE"),
        (NeighbourState::Stale, "STALE"),
        (NeighbourState::Delay, "DELAY"),
        (NeighbourState::Probe, "PROBE"),
        (NeighbourState::Failed, "FAILED"),
        (NeighbourState::Permanent, "PERMANENT"),
    ] {
        reads(
            neighbour(Some(state)),
            &format!("neighbour 172.18.0.3 on eth0: 02:00:00:00:00:01 {name}"),
        );
    }
    reads(
        Step::Held { port, ip },
        "neighbour 172.18.0.3 on eth0 is not known yet: held",
    );
    let asked = |to| Step::Asked { port, ip, to };
    reads(asked(None), "asked on eth0: who has 172.18.0.3?");
    reads(
        asked(Some(MAC)),
        "asked on eth0: who has 172.18.0.3? (02:00:00:00:00:01 only)",
    );
    reads(
        Step::Released { port, ip },
        "neighbour 172.18.0.3 on eth0 has answered: goes on",
    );
}

#[test]
fn what_the_router_says_itself_or_does_not() {
    let event = Event::IcmpErrorSent;
    let error = Summary {
        protocol: 1,
        transport: Transport::Icmp {
            kind: 3,
            code: 4,
            ident: 0,
            seq: 0,
        },
        ..UDP
    };
    reads(
        Step::Made {
            event,
            packet: error,
        },
        "made (icmp-error-sent): ICMP 10.244.0.2 > 10.244.1.3, fragmentation needed, TTL 64, 29 bytes",
    );
    reads(
        Step::NotMade { event },
        "not made for want of a free frame (icmp-error-sent)",
    );
    let withheld = |why| Step::Withheld {
        kind: 11,
        code: 0,
        why,
    };
    reads(
        withheld(Withheld::Forbidden),
        "no ICMP time exceeded: RFC 1812 allows none about such a packet",
    );
    reads(
        withheld(Withheld::Limited),
        "no ICMP time exceeded: rate limit",
    );
    for &reason in DropReason::ALL {
        reads(
            Step::Dropped { reason },
            &format!("dropped: {}: {}", reason.name(), reason.help()),
        );
    }
}

#[test]
fn icmp_messages_have_their_names() {
    for (kind, code, words) in [
        (8, 0, "echo request"),
        (0, 0, "echo reply"),
        (13, 0, "timestamp request"),
        (14, 0, "timestamp reply"),
        (3, 0, "network unreachable"),
        (3, 1, "host unreachable"),
        (3, 2, "protocol unreachable"),
        (3, 3, "port unreachable"),
        (3, 4, "fragmentation needed"),
        (3, 13, "administratively prohibited"),
        (3, 5, "type 3 code 5"),
        (11, 0, "time exceeded"),
        (11, 1, "type 11 code 1"),
        (12, 1, "parameter problem"),
        (5, 0, "type 5 code 0"),
    ] {
        assert_eq!(icmp(kind, code).to_string(), words);
    }
}

#[test]
fn packets_name_their_protocol_and_tcp_its_flags() {
    let other = |protocol| Summary {
        protocol,
        transport: Transport::Other,
        ..UDP
    };
    for (protocol, name) in [
        (1, "ICMP"),
        (6, "TCP"),
        (17, "UDP"),
        (4, "protocol 4"),
        (132, "protocol 132"),
    ] {
        assert_eq!(
            other(protocol).to_string(),
            format!("{name} 10.244.0.2 > 10.244.1.3, TTL 64, 29 bytes")
        );
    }
    for (flags, words) in [
        (0x02, " SYN"),
        (0x12, " SYN ACK"),
        (0x01, " FIN"),
        (0x04, " RST"),
        (0x18, " PSH ACK"),
        (0x20, " URG"),
        (0x10, " ACK"),
        (0xc0, ""),
    ] {
        let segment = Summary {
            protocol: 6,
            df: true,
            transport: Transport::Ports {
                sport: 4000,
                dport: 80,
                flags,
            },
            ..UDP
        };
        assert_eq!(
            segment.to_string(),
            format!("TCP 10.244.0.2:4000 > 10.244.1.3:80{words}, TTL 64, 29 bytes, DF")
        );
    }
}

#[test]
fn connections_and_translations() {
    for (state, words) in [
        (
            Tracked::Untracked,
            "belongs to no connection that is tracked",
        ),
        (
            Tracked::Invalid,
            "INVALID: belongs to no connection and begins none",
        ),
        (Tracked::New, "NEW: begins a connection"),
        (
            Tracked::Unreplied,
            "NEW: of a connection that was not answered yet",
        ),
        (Tracked::Established { reply: false }, "ESTABLISHED"),
        (
            Tracked::Established { reply: true },
            "ESTABLISHED, reply direction",
        ),
        (
            Tracked::Related,
            "RELATED: an ICMP error about a connection",
        ),
    ] {
        reads(Step::Tracked { state }, words);
    }
    reads(
        Step::Translated { packet: UDP },
        "translated: UDP 10.244.0.2:7 > 10.244.1.3:53, TTL 64, 29 bytes",
    );
}

/// A rule is told by its target, and by who asked for it where, as far as that is known.
#[test]
fn rules_of_the_nat_table() {
    let backend = Backend {
        addr: B,
        port: Some(80),
        weight: 1,
    };
    let targets = [
        (Target::Accept, "ACCEPT"),
        (Target::Return, "RETURN"),
        (Target::Jump("KUBE-SVC-X".into()), "KUBE-SVC-X"),
        (Target::Mark(Mark { value: 1, mask: 1 }), "MARK"),
        (Target::Masquerade(PortChoice::default()), "MASQUERADE"),
        (
            Target::Snat(NODE, PortChoice::default()),
            "SNAT to 172.18.0.3",
        ),
        (
            Target::Dnat {
                backends: vec![backend],
                affinity: None,
            },
            "DNAT",
        ),
        (Target::Drop, "DROP"),
        (Target::Reject, "REJECT"),
    ];
    let mut snapshot = Snapshot::default();
    let (rules, words): (Vec<_>, Vec<_>) = targets
        .map(|(target, words)| (Rule::new(target), words))
        .into_iter()
        .unzip();
    snapshot.nat.chains = vec![Chain {
        name: "CHAIN".into(),
        rules,
    }];
    let step = |chain, rule| Step::NatRule { chain, rule };
    for (n, words) in (0..).zip(words) {
        let told = step(0, n).sentence(&snapshot).to_string();
        assert_eq!(told, format!("nat CHAIN rule {}: {words}", n + 1));
    }
    let past = step(0, 9).sentence(&snapshot).to_string();
    assert_eq!(past, "nat CHAIN rule 10");
    reads(step(1, 0), "nat chain 1 rule 1");
    let mut origin = Origin {
        name: "kindnetd ip-masq-agent".into(),
        at: None,
    };
    snapshot.nat.chains[0].rules[4].origin = Some(origin.clone());
    let told = step(0, 4).sentence(&snapshot).to_string();
    assert_eq!(
        told,
        "nat CHAIN rule 5: MASQUERADE (kindnetd ip-masq-agent)"
    );
    origin.at = Some("lab.yaml:3".into());
    snapshot.nat.chains[0].rules[4].origin = Some(origin);
    let told = step(0, 4).sentence(&snapshot).to_string();
    assert_eq!(
        told,
        "nat CHAIN rule 5: MASQUERADE (kindnetd ip-masq-agent, lab.yaml:3)"
    );
}

#[test]
fn judgements_of_policies() {
    let step = |judgement| Step::Policy {
        direction: Direction::Ingress,
        judgement,
    };
    for (judgement, words) in [
        (Judgement::NotIsolated, "the pod is not isolated"),
        (
            Judgement::Tracked,
            "belongs to a connection that was allowed",
        ),
        (
            Judgement::Exempt,
            "from the node to its own pod, or from a pod to itself",
        ),
        (
            Judgement::Allowed { policy: 3, rule: 1 },
            "allowed by policy 3, rule 2",
        ),
        (Judgement::Denied { policy: None }, "no rule allows it"),
        (
            Judgement::Denied { policy: Some(3) },
            "no rule allows it; the pod is isolated by policy 3",
        ),
        (Judgement::Invalid, "INVALID at an isolated pod"),
    ] {
        reads(step(judgement), &format!("ingress policy: {words}"));
    }
    let mut snapshot = Snapshot::default();
    snapshot.policy.policies = vec![PolicyName {
        name: "default/web".into(),
        place: None,
    }];
    let allowed = step(Judgement::Allowed { policy: 0, rule: 0 });
    assert_eq!(
        allowed.sentence(&snapshot).to_string(),
        "ingress policy: allowed by default/web, rule 1"
    );
}

/// A snapshot knows its ports by name; who knows nothing says numbers.
#[test]
fn names_come_from_whoever_knows_them() {
    let snapshot = Snapshot {
        ports: vec![PortConfig::ethernet(ETH0.0, "ens3", MAC, 1500)],
        ..Snapshot::default()
    };
    let step = Step::Held {
        port: ETH0,
        ip: NODE,
    };
    let told = step.sentence(&snapshot);
    assert_eq!(
        told.to_string(),
        "neighbour 172.18.0.3 on ens3 is not known yet: held"
    );
    assert_eq!(format!("{told:?}"), told.to_string());
    assert_eq!(
        step.to_string(),
        "neighbour 172.18.0.3 on port 1 is not known yet: held"
    );
    assert_eq!(snapshot.port_name(VETH), None);
    assert!(names().policy(0).is_none() && names().nat_chain(0).is_none());
}
