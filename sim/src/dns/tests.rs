//! Questions and answers. That other people's resolvers understand them is shown end to end.

use std::net::Ipv4Addr;

use simple_dns::rdata::{A, RData};
use simple_dns::{
    CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
};

use super::*;
use crate::kube::Protocol;

fn endpoint(last: u8) -> ZoneEndpoint {
    ZoneEndpoint {
        address: Ipv4Addr::new(10, 244, 0, last),
        hostname: None,
    }
}

fn zone() -> Zone {
    let service = |name: &str, kind: Kind, endpoints: Vec<ZoneEndpoint>| ZoneService {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        kind,
        ports: vec![ZonePort {
            name: "http".to_owned(),
            protocol: Protocol::Tcp,
            port: 80,
        }],
        endpoints,
    };
    Zone {
        namespaces: vec!["default".to_owned(), "kube-system".to_owned()],
        services: vec![
            service(
                "web",
                Kind::Address(Ipv4Addr::new(10, 96, 0, 20)),
                vec![endpoint(2)],
            ),
            service("peers", Kind::Headless, (2..5).map(endpoint).collect()),
            service("many", Kind::Headless, (1..=200).map(endpoint).collect()),
            service("out", Kind::External("example.com".to_owned()), Vec::new()),
            service(
                "alias",
                Kind::External("web.default.svc.cluster.local".to_owned()),
                Vec::new(),
            ),
            service(
                "ring",
                Kind::External("ring.default.svc.cluster.local".to_owned()),
                Vec::new(),
            ),
        ],
        forward: None,
    }
}

fn query(name: &str, kind: QTYPE) -> Vec<u8> {
    let mut packet = Packet::new_query(0x1234);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(
        Name::new(name).unwrap(),
        kind,
        QCLASS::CLASS(CLASS::IN),
        false,
    ));
    packet.build_bytes_vec().unwrap()
}

/// The response code and the answers in words.
fn ask(zone: &Zone, name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
    let Reply::Message(bytes) = answer(zone, &query(name, QTYPE::TYPE(kind)), true) else {
        panic!("no message")
    };
    let reply = Packet::parse(&bytes).unwrap();
    assert_eq!(reply.id(), 0x1234);
    assert!(reply.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
    let words = reply.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => Ipv4Addr::from_bits(a.address).to_string(),
        RData::CNAME(name) => name.to_string(),
        RData::PTR(name) => name.to_string(),
        RData::SRV(srv) => format!("{} {}", srv.port, srv.target),
        other => format!("{other:?}"),
    });
    (reply.rcode(), words.collect())
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

/// A service's name is its address, a headless one's those of its endpoints, an external one's another name.
#[test]
fn services_have_addresses() {
    let zone = zone();
    for (name, expected) in [
        ("web.default.svc.cluster.local", &["10.96.0.20"][..]),
        ("WEB.Default.svc.cluster.local", &["10.96.0.20"][..]),
        (
            "peers.default.svc.cluster.local",
            &["10.244.0.2", "10.244.0.3", "10.244.0.4"],
        ),
        (
            "10-244-0-3.peers.default.svc.cluster.local",
            &["10.244.0.3"],
        ),
        ("10-1-2-3.default.pod.cluster.local", &["10.1.2.3"]),
        ("out.default.svc.cluster.local", &["example.com"]),
    ] {
        assert_eq!(
            ask(&zone, name, TYPE::A),
            (RCODE::NoError, words(expected)),
            "{name}"
        );
    }
}

/// A name that exists without an address of this kind is no error, one that does not exist is.
#[test]
fn absence_of_a_record_is_not_absence_of_the_name() {
    let zone = zone();
    let aaaa = ask(&zone, "web.default.svc.cluster.local", TYPE::AAAA);
    assert_eq!(aaaa, (RCODE::NoError, Vec::new()));
    assert_eq!(
        ask(&zone, "default.svc.cluster.local", TYPE::A).0,
        RCODE::NoError
    );
    for name in [
        "nope.default.svc.cluster.local",
        "web.other.svc.cluster.local",
        "web.default.cluster.local",
        "x-y.default.pod.cluster.local",
        "example.com.cluster.local",
    ] {
        assert_eq!(ask(&zone, name, TYPE::A).0, RCODE::NameError, "{name}");
    }
}

/// Named ports are SRV records, addresses have names.
#[test]
fn ports_and_addresses_have_names() {
    let zone = zone();
    let srv = |name: &str| ask(&zone, name, TYPE::SRV);
    assert_eq!(
        srv("_http._tcp.web.default.svc.cluster.local"),
        (RCODE::NoError, words(&["80 web.default.svc.cluster.local"]))
    );
    assert_eq!(
        srv("_http._tcp.peers.default.svc.cluster.local").1[2],
        "80 10-244-0-4.peers.default.svc.cluster.local"
    );
    assert_eq!(
        srv("_http._udp.web.default.svc.cluster.local").0,
        RCODE::NameError
    );
    assert_eq!(
        ask(&zone, "20.0.96.10.in-addr.arpa", TYPE::PTR).1,
        words(&["web.default.svc.cluster.local"])
    );
    assert!(
        ask(&zone, "3.0.244.10.in-addr.arpa", TYPE::PTR)
            .1
            .contains(&"10-244-0-3.peers.default.svc.cluster.local".to_owned())
    );
}

/// Other names go to the forwarder, and are refused without one.
#[test]
fn other_names_are_forwarded_or_refused() {
    let mut zone = zone();
    assert_eq!(ask(&zone, "example.com", TYPE::A).0, RCODE::Refused);
    zone.forward = Some(Ipv4Addr::new(8, 8, 8, 8));
    let question = query("example.com", QTYPE::TYPE(TYPE::A));
    assert_eq!(answer(&zone, &question, true), Reply::Forward);
}

/// Addresses of an alias come with it, from the cluster or from the forwarder; a ring of aliases ends.
#[test]
fn aliases_are_followed() {
    let mut zone = zone();
    let alias = ask(&zone, "alias.default.svc.cluster.local", TYPE::A);
    let expected = words(&["web.default.svc.cluster.local", "10.96.0.20"]);
    assert_eq!(alias, (RCODE::NoError, expected));
    assert!(
        ask(&zone, "ring.default.svc.cluster.local", TYPE::A)
            .1
            .len()
            < 20
    );

    zone.forward = Some(Ipv4Addr::new(8, 8, 8, 8));
    let question = query("out.default.svc.cluster.local", QTYPE::TYPE(TYPE::A));
    let Reply::Follow(further) = answer(&zone, &question, true) else {
        panic!("not followed")
    };
    let further = Packet::parse(&further).unwrap();
    assert_eq!(further.questions[0].qname.to_string(), "example.com");
    let mut said = Packet::new_reply(further.id());
    let a = RData::A(A {
        address: 0x0101_0101,
    });
    let owner = Name::new("example.com").unwrap();
    said.answers
        .push(ResourceRecord::new(owner, CLASS::IN, 60, a));
    let said = said.build_bytes_vec().unwrap();
    let Reply::Message(message) = answer_with(&zone, &question, true, Some(&said)) else {
        panic!("no message")
    };
    let reply = Packet::parse(&message).unwrap();
    let owners: Vec<String> = reply
        .answers
        .iter()
        .map(|own| own.name.to_string())
        .collect();
    assert_eq!(owners, ["out.default.svc.cluster.local", "example.com"]);
    assert!(matches!(reply.answers[1].rdata, RData::A(_)));
}

/// What is too long for UDP says so, and goes over TCP.
#[test]
fn long_answers_are_cut_over_udp() {
    let zone = zone();
    let question = query("many.default.svc.cluster.local", QTYPE::TYPE(TYPE::A));
    let Reply::Message(bytes) = answer(&zone, &question, true) else {
        panic!("no message")
    };
    let cut = Packet::parse(&bytes).unwrap();
    assert!(cut.has_flags(PacketFlag::TRUNCATION) && cut.answers.is_empty());
    let Reply::Message(bytes) = answer(&zone, &question, false) else {
        panic!("no message")
    };
    assert_eq!(Packet::parse(&bytes).unwrap().answers.len(), 200);
}

/// Answers and rubbish get no answer that could begin a loop.
#[test]
fn what_is_no_question_is_not_answered() {
    let zone = zone();
    let mut response = query("web.default.svc.cluster.local", QTYPE::TYPE(TYPE::A));
    response[2] |= 0x80;
    assert_eq!(answer(&zone, &response, true), Reply::Nothing);
    assert_eq!(answer(&zone, &[1, 2, 3], true), Reply::Nothing);
    let garbled = [0x12, 0x34, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0xff];
    let Reply::Message(bytes) = answer(&zone, &garbled, true) else {
        panic!("no message")
    };
    assert_eq!(Packet::parse(&bytes).unwrap().rcode(), RCODE::FormatError);
}

proptest::proptest! {
    /// Whatever comes, the name server goes on.
    #[test]
    fn no_message_makes_it_panic(message in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = answer(&zone(), &message, true);
    }
}
