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
    /// It is no question; say nothing.
    Nothing,
}

/// The reply to `message`; over UDP it is cut where the asker could not take it.
#[must_use]
pub fn answer(zone: &Zone, message: &[u8], udp: bool) -> Reply {
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
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    for data in &records {
        let wanted = match (question.qtype, data) {
            (QTYPE::ANY, _) | (_, Data::Cname(_)) => true,
            (QTYPE::TYPE(kind), Data::A(_)) => kind == TYPE::A,
            (QTYPE::TYPE(kind), Data::Srv { .. }) => kind == TYPE::SRV,
            (QTYPE::TYPE(kind), Data::Ptr(_)) => kind == TYPE::PTR,
            _ => false,
        };
        if wanted && !add(&mut reply, question.qname.clone(), data) {
            *reply.rcode_mut() = RCODE::ServerFailure;
        }
    }
    if reply.answers.is_empty() {
        // Who asks again within this time need not ask us (RFC 2308).
        reply.name_servers.extend(authority());
    }
    finish(&reply, limit)
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
