//! One DNS message for another (RFC 1034, 1035, 2308, 2782, 6891). Pure.

use simple_dns::rdata::{A, CNAME, OPT, PTR, RData, SOA, SRV};
use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};

use super::DOMAIN;
use super::zone::{Data, Found, Zone};

/// Time to live of records and of denials, seconds (coredns' kubernetes plugin: 30).
const TTL: u32 = 30;

/// Longest message over UDP without EDNS (RFC 1035 2.3.4).
const PLAIN: usize = 512;

/// Longest message over UDP that is ever sent: what fits every link (DNS flag day 2020).
const LARGEST: usize = 1232;

/// What to do with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send this.
    Message(Vec<u8>),
    /// Let the forwarder answer.
    Forward,
    /// The name is an alias of one that is none of the cluster's: ask the forwarder this, and then [`answer_with`] it.
    Follow(Vec<u8>),
    /// It is no question; say nothing.
    Nothing,
}

/// Aliases that are followed inside the cluster.
const MAX_ALIASES: usize = 8;

/// The reply to `message`; over UDP it is cut where the asker could not take it.
#[must_use]
pub fn answer(zone: &Zone, message: &[u8], udp: bool) -> Reply {
    answer_with(zone, message, udp, None)
}

/// As [`answer`], with what the forwarder said to [`Reply::Follow`].
#[must_use]
pub fn answer_with(zone: &Zone, message: &[u8], udp: bool, forwarder: Option<&[u8]>) -> Reply {
    let Ok(query) = Packet::parse(message) else {
        return refuse_unread(message);
    };
    if query.has_flags(PacketFlag::RESPONSE) {
        return Reply::Nothing;
    }
    let limit = match (udp, query.opt()) {
        (false, _) => usize::from(u16::MAX),
        (true, None) => PLAIN,
        (true, Some(opt)) => usize::from(opt.udp_packet_size).clamp(PLAIN, LARGEST),
    };
    let mut reply = Packet::new_reply(query.id());
    if query.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    if zone.forward.is_some() {
        reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    }
    if query.opt().is_some() {
        *reply.opt_mut() = Some(OPT {
            opt_codes: Vec::new(),
            udp_packet_size: u16::try_from(LARGEST).unwrap_or(u16::MAX),
            version: 0,
        });
    }
    let [question] = query.questions.as_slice() else {
        *reply.rcode_mut() = RCODE::FormatError;
        return finish(&reply, limit);
    };
    reply.questions.push(question.clone());
    if query.opcode() != OPCODE::StandardQuery {
        *reply.rcode_mut() = RCODE::NotImplemented;
        return finish(&reply, limit);
    }
    let name = question.qname.to_string().to_ascii_lowercase();
    let records = match zone.find(name.trim_end_matches('.')) {
        Found::Elsewhere if zone.forward.is_some() => return Reply::Forward,
        Found::Elsewhere => {
            *reply.rcode_mut() = RCODE::Refused;
            return finish(&reply, limit);
        }
        Found::NoName => {
            *reply.rcode_mut() = RCODE::NameError;
            Vec::new()
        }
        Found::Records(records) => records,
    };
    let upstream = match forwarder.map(Packet::parse) {
        Some(Ok(upstream)) => Some(upstream),
        Some(Err(_)) => return Reply::Nothing,
        None => None,
    };
    // Stub resolvers want the addresses of an alias together with it (RFC 1034 4.3.2, step 3a).
    let is_for_alias = matches!(question.qtype, QTYPE::ANY | QTYPE::TYPE(TYPE::CNAME));
    let (aliases, end) = match records.as_slice() {
        [Data::Cname(target)] if !is_for_alias => follow(zone, target),
        _ => (Vec::new(), None),
    };
    if let (Some(end), None, Some(_)) = (&end, &upstream, zone.forward) {
        let mut further = Packet::new_query(query.id());
        further.set_flags(PacketFlag::RECURSION_DESIRED);
        let Ok(name) = Name::new(end) else {
            return Reply::Nothing;
        };
        let mut asked = question.clone();
        asked.qname = name;
        further.questions.push(asked);
        return further
            .build_bytes_vec_compressed()
            .map_or(Reply::Nothing, Reply::Follow);
    }
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let owned = records.iter().map(|data| (None, data));
    let of_aliases = aliases.iter().map(|(owner, data)| (Some(owner), data));
    for (owner, data) in owned.chain(of_aliases) {
        let wanted = match (question.qtype, data) {
            (QTYPE::ANY, _) | (_, Data::Cname(_)) => true,
            (QTYPE::TYPE(kind), Data::A(_)) => kind == TYPE::A,
            (QTYPE::TYPE(kind), Data::Srv { .. }) => kind == TYPE::SRV,
            (QTYPE::TYPE(kind), Data::Ptr(_)) => kind == TYPE::PTR,
            _ => false,
        };
        let owner = owner.map_or_else(|| Ok(question.qname.clone()), |owner| Name::new(owner));
        let added = owner.is_ok_and(|owner| !wanted || add(&mut reply, owner, data));
        if !added {
            *reply.rcode_mut() = RCODE::ServerFailure;
        }
    }
    if let (Some(upstream), Some(_)) = (upstream, end) {
        *reply.rcode_mut() = upstream.rcode();
        reply.answers.extend(upstream.answers);
    }
    if reply.answers.is_empty() {
        // Who asks again within this time need not ask us (RFC 2308).
        reply.name_servers.extend(authority());
    }
    finish(&reply, limit)
}

/// The records of aliases that begin with `target`, each with its name; last the name that is not the cluster's.
fn follow(zone: &Zone, target: &str) -> (Vec<(String, Data)>, Option<String>) {
    let mut all = Vec::new();
    let mut name = target.trim_end_matches('.').to_ascii_lowercase();
    for _ in 0..MAX_ALIASES {
        let records = match zone.find(&name) {
            Found::Elsewhere => return (all, Some(name)),
            Found::NoName => break,
            Found::Records(records) => records,
        };
        let next = match records.as_slice() {
            [Data::Cname(next)] => Some(next.trim_end_matches('.').to_ascii_lowercase()),
            _ => None,
        };
        all.extend(records.into_iter().map(|data| (name.clone(), data)));
        match next {
            Some(next) => name = next,
            None => break,
        }
    }
    (all, None)
}

fn record<'a>(name: Name<'a>, rdata: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(name, CLASS::IN, TTL, rdata)
}

/// Adds one record, of an SRV the address too. False when a name is none, which the control plane rules out.
fn add<'a>(reply: &mut Packet<'a>, owner: Name<'a>, data: &'a Data) -> bool {
    let name = |text: &'a str| Name::new(text);
    let rdata = match data {
        Data::A(address) => RData::A(A {
            address: address.to_bits(),
        }),
        Data::Cname(target) => match name(target) {
            Ok(target) => RData::CNAME(CNAME(target)),
            Err(_) => return false,
        },
        Data::Ptr(target) => match name(target) {
            Ok(target) => RData::PTR(PTR(target)),
            Err(_) => return false,
        },
        Data::Srv {
            port,
            target,
            address,
        } => {
            let Ok(target) = name(target) else {
                return false;
            };
            let host = RData::A(A {
                address: address.to_bits(),
            });
            reply.additional_records.push(record(target.clone(), host));
            RData::SRV(SRV {
                priority: 0,
                weight: 100,
                port: *port,
                target,
            })
        }
    };
    reply.answers.push(record(owner, rdata));
    true
}

/// The SOA record of the cluster's zone.
fn authority() -> Option<ResourceRecord<'static>> {
    let soa = SOA {
        mname: Name::new("ns.dns.cluster.local").ok()?,
        rname: Name::new("hostmaster.cluster.local").ok()?,
        serial: 1,
        refresh: 7200,
        retry: 1800,
        expire: 86_400,
        minimum: TTL,
    };
    Some(record(Name::new(DOMAIN).ok()?, RData::SOA(soa)))
}

/// The message, or what says that it is too long.
fn finish(reply: &Packet<'_>, limit: usize) -> Reply {
    let Ok(bytes) = reply.build_bytes_vec_compressed() else {
        return Reply::Nothing;
    };
    if bytes.len() <= limit {
        return Reply::Message(bytes);
    }
    let mut cut = reply.clone();
    cut.answers.clear();
    cut.name_servers.clear();
    cut.additional_records.clear();
    cut.set_flags(PacketFlag::TRUNCATION);
    cut.build_bytes_vec_compressed()
        .map_or(Reply::Nothing, Reply::Message)
}

/// A message that can't be read is answered when it is a question with a header at least.
fn refuse_unread(message: &[u8]) -> Reply {
    let Some(&[id0, id1, flags, _, ..]) = message.first_chunk::<12>() else {
        return Reply::Nothing;
    };
    if flags & 0x80 != 0 {
        return Reply::Nothing;
    }
    let mut reply = Packet::new_reply(u16::from_be_bytes([id0, id1]));
    *reply.rcode_mut() = RCODE::FormatError;
    reply
        .build_bytes_vec_compressed()
        .map_or(Reply::Nothing, Reply::Message)
}
