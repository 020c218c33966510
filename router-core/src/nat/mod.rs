//! Network address translation (dataplane sections 4.2, 4.4, 4.6, 4.7): the nat table applied to the connections that
//! `conntrack` finds.
//!
//! Destinations are translated where a packet comes in ([`Nat::enter`]), sources where it leaves ([`Nat::leave`]) or is
//! delivered ([`Nat::deliver`]). The rules are asked for the first packet of a connection (NAT-2); what they decide
//! stands in the reply tuple, and every later packet, in both directions, is translated by looking at it. The way that a
//! packet took is stored with its direction ([`Action`]) and serves the next ones, until the configuration changes.
//!
//! A packet that is INVALID is never translated; it is dropped where it would have been, so that no inside address gets
//! out (NAT-7, deviation D1 from Linux), and before it reaches the node itself (NAT-34).
//!
//! Out of scope: application gateways; no payload is edited (NAT-70).
//!
//! Cost: see `conntrack`; the rules are walked for first packets alone. A node without a nat table has no [`Nat`].

mod again;
mod dnat;
mod icmp_error;
mod ports;
mod rewrite;
mod rules;

use core::net::Ipv4Addr;

use crate::config::nat::{NatConfig, PortChoice, Target};
use crate::config::{PortId, Snapshot};
use crate::conntrack::{
    Action, Change, ConfirmError, Conntrack, Dir, Filter, Seen, Session, Tuple, has_ports,
};
use crate::fib::{Fib, Hop};
use crate::frame::Frame;
use crate::icmp_error::{IcmpError, Refusal};
use crate::ports::ConfigError;
use crate::random::Rng;
use crate::share::Share;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::trace::{Step, Tracked};
use crate::wire::icmpv4;
use crate::wire::ipv4::{Ipv4, PROTOCOL_ICMP, PROTOCOL_SCTP};
use dnat::Affinity;
use rewrite::End;
pub(crate) use rewrite::Form;
use rules::{Facts, Hook, Place, Rules, Ruling};

pub use rules::{ChainCounts, Count};

/// What is known of a packet on its way through the router.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Context {
    /// What it is to the connections.
    pub(crate) seen: Seen,
    /// What it said when it came, where it has a tuple.
    received: Option<Tuple>,
    /// The rule that decided last, for traces.
    rule: Option<Place>,
    /// Its mark, as rules set it.
    mark: u32,
    in_port: Option<PortId>,
    from_host: bool,
    /// IPv4 bytes of the datagram.
    bytes: usize,
    /// How its transport checksum stands.
    form: Form,
    /// Another worker has handed it over, as one of this worker's.
    handed: bool,
}

impl Context {
    /// Of a frame of which nothing is known yet.
    pub(crate) fn of(frame: &Frame) -> Self {
        Self {
            handed: frame.is_known(),
            ..Self::default()
        }
    }

    /// The worker that the packet's connection belongs to, if that is another one.
    pub(crate) const fn elsewhere(&self) -> Option<u8> {
        match self.seen {
            Seen::Elsewhere(worker) => Some(worker),
            _ => None,
        }
    }

    /// What traces say of it.
    pub(crate) const fn tracked(&self) -> Tracked {
        match self.seen {
            Seen::Untracked | Seen::Elsewhere(_) => Tracked::Untracked,
            Seen::Invalid => Tracked::Invalid,
            Seen::New => Tracked::New,
            Seen::Known {
                established: false, ..
            } => Tracked::Unreplied,
            Seen::Known { dir, .. } => Tracked::Established {
                reply: matches!(dir, Dir::Reply),
            },
            Seen::Related { .. } => Tracked::Related,
        }
    }

    /// The rule that decided since this was asked last, as traces tell it.
    pub(crate) fn take_rule(&mut self) -> Option<Step> {
        let place = self.rule.take()?;
        Some(Step::NatRule {
            chain: u32::try_from(place.chain).ok()?,
            rule: u32::try_from(place.rule).ok()?,
        })
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Nat {
    conntrack: Conntrack,
    rules: Rules,
    affinity: Affinity,
    rng: Rng,
    /// Of the configuration; never 0.
    generation: u32,
}

impl Nat {
    /// Tracking and translation as `config` says.
    ///
    /// # Errors
    /// When the table contradicts itself.
    pub(crate) fn new(
        config: &NatConfig,
        seed: u64,
        share: Option<Share>,
    ) -> Result<Self, ConfigError> {
        let mut rng = Rng::new(seed);
        let mut affinity = Affinity::default();
        affinity.prepare(config, &mut rng);
        Ok(Self {
            rules: Rules::new(config, &Rules::default())?,
            conntrack: Conntrack::new(&config.conntrack, rng.next(), share),
            affinity,
            rng,
            generation: 1,
        })
    }

    /// Puts a new configuration in force. Connections stay (NAT-2), but for those masqueraded to an address that is gone,
    /// or to a port that is gone or down (NAT-68).
    ///
    /// # Errors
    /// When the table contradicts itself; nothing has changed then.
    pub(crate) fn configure(&mut self, snapshot: &Snapshot) -> Result<(), ConfigError> {
        self.rules = Rules::new(&snapshot.nat, &self.rules)?;
        self.conntrack.configure(&snapshot.nat.conntrack);
        self.affinity.prepare(&snapshot.nat, &mut self.rng);
        self.generation = self.generation.wrapping_add(1).max(1);
        self.conntrack.flush(|_, reply, masquerade| {
            masquerade.is_some_and(|port| {
                let up = snapshot.ports.iter().any(|p| p.id == port && p.up);
                !up || !snapshot.addresses.iter().any(|a| a.addr == reply.dst)
            })
        });
        Ok(())
    }

    /// How many unanswered connections made room for new ones since this was asked last.
    pub(crate) fn take_evicted(&mut self) -> u64 {
        core::mem::take(&mut self.conntrack.evicted)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.conntrack.next_deadline()
    }

    /// Removes connections that have expired.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.conntrack.expire(now);
    }

    pub(crate) const fn conntrack(&self) -> &Conntrack {
        &self.conntrack
    }

    /// The counters of the rules.
    pub(crate) fn counts(&self) -> &[ChainCounts] {
        self.rules.counts()
    }

    pub(crate) fn zero_counts(&mut self) {
        self.rules.zero();
    }

    pub(crate) fn flush(&mut self, filter: &Filter) -> usize {
        self.conntrack
            .flush(|original, reply, _| filter.holds(original, reply))
    }

    /// Removes the connections, by their original and reply tuples, that `which` is true for.
    pub(crate) fn flush_where(&mut self, which: impl Fn(&Tuple, &Tuple) -> bool) -> usize {
        self.conntrack
            .flush(|original, reply, _| which(original, reply))
    }

    pub(crate) fn import(&mut self, now: Instant, session: &Session) -> bool {
        self.conntrack.import(now, session)
    }

    /// From now on changes of connections are noted.
    pub(crate) fn keep_journal(&mut self) {
        self.conntrack.keep_journal();
    }

    /// Tells at most `most` of them.
    pub(crate) fn changes(&mut self, now: Instant, most: usize, tell: impl FnMut(Change)) {
        self.conntrack.changes(now, most, tell);
    }

    /// A datagram has come in: which connection is it of, and where is it to go? `packet` is its IPv4 header and payload,
    /// or, if it came in pieces, the first of them, with the datagram put together in `whole`. Who knows already what the
    /// packet is to the connections has put that into `context`.
    ///
    /// # Errors
    /// When a rule says that it goes no further.
    pub(crate) fn enter(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        whole: Option<&[u8]>,
        (in_port, from_host, form): (PortId, bool, Form),
        fib: &Fib,
        context: &mut Context,
    ) -> Result<(), Refusal> {
        let datagram = whole.unwrap_or(packet);
        let Some(ip) = Ipv4::peek(datagram) else {
            return Err(DropReason::BadHeaderLength.into());
        };
        let bytes = usize::from(ip.total_len());
        context.form = form;
        context.in_port = (!from_host).then_some(in_port);
        context.from_host = from_host;
        context.received = Tuple::of(&ip);
        context.bytes = bytes;
        if context.seen == Seen::Untracked {
            context.seen = if whole.is_some() && !translatable_in_pieces(&ip) {
                Seen::Invalid
            } else {
                // What is partial is right by definition.
                let check = !from_host && form == Form::Complete;
                self.conntrack.track(now, &ip, check, context.handed)
            };
        }
        match context.seen {
            Seen::New => {
                let hook = if from_host {
                    Hook::Output
                } else {
                    Hook::Prerouting
                };
                let tuple = self.conntrack.pending().tuple(Dir::Original);
                if tuple.dst.is_loopback() && !from_host && self.conntrack.keeps_localnet() {
                    return Err(DropReason::MartianDestination.into());
                }
                let mut facts = Facts {
                    tuple,
                    in_port: context.in_port,
                    out_port: None,
                    mark: 0,
                    bytes,
                };
                let (ruling, rule) =
                    self.rules
                        .evaluate(hook, &mut facts, |a| fib.is_local(a), true);
                context.mark = facts.mark;
                context.rule = rule;
                match ruling {
                    Ruling::Dnat(place) => {
                        let target = self.destination(now, &tuple, place);
                        if let Some(target) = target {
                            self.conntrack.set_reply(target.invert(), None);
                            rewrite::set_end(packet, End::Dst, &target, form);
                        }
                    }
                    Ruling::Drop => return Err(DropReason::NatDrop.into()),
                    Ruling::Reject => return Err(reject()),
                    Ruling::Accept | Ruling::Masquerade(_) | Ruling::Snat(..) => {}
                }
            }
            Seen::Known { id, dir, .. } => {
                if let Some(conn) = self.conntrack.get(id) {
                    let target = conn.target(dir);
                    if conn.tuple(dir) != target {
                        rewrite::set_end(packet, End::Dst, &target, form);
                    }
                }
            }
            Seen::Related { id, dir } => {
                if let Some(conn) = self.conntrack.get(id)
                    && !icmp_error::translate(packet, conn, dir, End::Dst)
                {
                    return Err(DropReason::ConntrackInvalid.into());
                }
            }
            Seen::Untracked | Seen::Invalid | Seen::Elsewhere(_) => {}
        }
        Ok(())
    }

    /// What a rule of destination NAT makes of a connection.
    fn destination(&mut self, now: Instant, tuple: &Tuple, place: Place) -> Option<Tuple> {
        let rule = self.rules.rule(place)?;
        let Target::Dnat { backends, affinity } = &rule.target else {
            return None;
        };
        let service = if affinity.is_some() {
            let (chain, ..) = self.rules.describe(place)?;
            dnat::service(chain, &rule.matches)
        } else {
            0
        };
        let backend = dnat::choose(
            &mut self.affinity,
            &mut self.rng,
            now,
            (service, tuple.src),
            backends,
            *affinity,
        )?;
        let port = backend.port.filter(|_| has_ports(tuple.protocol));
        Some(Tuple {
            dst: backend.addr,
            dport: port.unwrap_or(tuple.dport),
            ..*tuple
        })
    }

    /// The way that packets of this connection and direction took before, if it is still right for one that came in by
    /// the port in `slot`; and what they are translated to, if they are.
    #[inline]
    pub(crate) fn shortcut(
        &self,
        context: &Context,
        slot: usize,
    ) -> Option<(Action, Option<Tuple>)> {
        let Seen::Known { id, dir, .. } = context.seen else {
            return None;
        };
        let conn = self.conntrack.get(id)?;
        let action = conn.action(dir);
        if action.generation != self.generation || usize::from(action.from) != slot {
            return None;
        }
        let target = conn.target(dir);
        Some((action, conn.is_translated().then_some(target)))
    }

    /// A datagram leaves by `hop`: under which source? A connection that it begins is one from now on. `from` is the
    /// place of its ingress port.
    ///
    /// # Errors
    /// When it must not leave.
    pub(crate) fn leave(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        context: &mut Context,
        (from, hop): (usize, &Hop),
        fib: &Fib,
    ) -> Result<(), Refusal> {
        let bytes = context.bytes;
        match context.seen {
            Seen::New => {
                let current = self.conntrack.pending().target(Dir::Original);
                let mut facts = Facts {
                    tuple: current,
                    in_port: context.in_port,
                    out_port: Some(hop.port),
                    mark: context.mark,
                    bytes,
                };
                let (ruling, rule) =
                    self.rules
                        .evaluate(Hook::Postrouting, &mut facts, |a| fib.is_local(a), true);
                context.rule = rule;
                let (addr, choice, masquerade) = match ruling {
                    Ruling::Masquerade(choice) => {
                        let next_hop = hop.via.unwrap_or(current.dst);
                        let addr = fib
                            .source_on(hop.port, next_hop)
                            .ok_or(DropReason::ConntrackInsertFailed)?;
                        (addr, choice, Some(hop.port))
                    }
                    Ruling::Snat(addr, choice) => (addr, choice, None),
                    Ruling::Drop => return Err(DropReason::NatDrop.into()),
                    Ruling::Reject => return Err(reject()),
                    Ruling::Accept | Ruling::Dnat(_) => (current.src, PortChoice::default(), None),
                };
                if addr.is_loopback() {
                    return Err(DropReason::MartianSource.into());
                }
                let target = self.bind(now, &current, addr, choice, masquerade)?;
                let id = self.confirm(now)?;
                self.learn(id, Dir::Original, from, hop);
                if target != current {
                    rewrite::set_end(packet, End::Src, &target, context.form);
                }
            }
            Seen::Known { id, dir, .. } => {
                if let Some(conn) = self.conntrack.get(id) {
                    let target = conn.target(dir);
                    if conn.tuple(dir) != target {
                        rewrite::set_end(packet, End::Src, &target, context.form);
                    }
                }
                self.learn(id, dir, from, hop);
            }
            Seen::Related { id, dir } => {
                if let Some(conn) = self.conntrack.get(id)
                    && !icmp_error::translate(packet, conn, dir, End::Src)
                {
                    return Err(DropReason::ConntrackInvalid.into());
                }
            }
            Seen::Invalid => return self.leave_invalid(packet, context, hop, fib),
            Seen::Untracked | Seen::Elsewhere(_) => {}
        }
        Ok(())
    }

    /// A packet of no connection may leave where a connection would not have been translated (NAT-7, NAT-8).
    fn leave_invalid(
        &mut self,
        packet: &[u8],
        context: &Context,
        hop: &Hop,
        fib: &Fib,
    ) -> Result<(), Refusal> {
        if context.from_host {
            return Ok(());
        }
        let Some(ip) = Ipv4::peek(packet) else {
            return Err(DropReason::BadHeaderLength.into());
        };
        if self.conntrack.drops_invalid() {
            return Err(DropReason::ConntrackInvalid.into());
        }
        let tuple = context.received.unwrap_or_else(|| Tuple {
            src: ip.src(),
            dst: ip.dst(),
            sport: 0,
            dport: 0,
            protocol: ip.protocol(),
        });
        let mut facts = Facts {
            tuple,
            in_port: context.in_port,
            out_port: Some(hop.port),
            mark: context.mark,
            bytes: 0,
        };
        let (ruling, _) =
            self.rules
                .evaluate(Hook::Postrouting, &mut facts, |a| fib.is_local(a), false);
        match ruling {
            Ruling::Accept | Ruling::Dnat(_) => Ok(()),
            _ => Err(DropReason::ConntrackInvalid.into()),
        }
    }

    /// A datagram is for the node itself. A connection that it begins is one from now on; its source may have to make
    /// way for another connection's (NAT-15).
    ///
    /// # Errors
    /// When it is INVALID (NAT-34), or there is no room for its connection.
    pub(crate) fn deliver(
        &mut self,
        now: Instant,
        packet: &mut [u8],
        context: &Context,
    ) -> Result<(), Refusal> {
        match context.seen {
            Seen::Invalid => return Err(DropReason::ConntrackInvalid.into()),
            Seen::New => {
                let current = self.conntrack.pending().target(Dir::Original);
                let target = self.bind(now, &current, current.src, PortChoice::default(), None)?;
                self.confirm(now)?;
                if target != current {
                    rewrite::set_end(packet, End::Src, &target, context.form);
                }
            }
            Seen::Known { id, dir, .. } => {
                if let Some(conn) = self.conntrack.get(id) {
                    let target = conn.target(dir);
                    if conn.tuple(dir) != target {
                        rewrite::set_end(packet, End::Src, &target, context.form);
                    }
                }
            }
            Seen::Related { id, dir } => {
                if let Some(conn) = self.conntrack.get(id)
                    && !icmp_error::translate(packet, conn, dir, End::Src)
                {
                    return Err(DropReason::ConntrackInvalid.into());
                }
            }
            Seen::Untracked | Seen::Elsewhere(_) => {}
        }
        Ok(())
    }

    /// Gives the pending connection a source at `addr`, and so its reply tuple.
    fn bind(
        &mut self,
        now: Instant,
        current: &Tuple,
        addr: Ipv4Addr,
        choice: PortChoice,
        masquerade: Option<PortId>,
    ) -> Result<Tuple, Refusal> {
        let target = ports::source(
            &mut self.conntrack,
            &mut self.rng,
            now,
            current,
            addr,
            choice,
        )
        .ok_or(DropReason::ConntrackInsertFailed)?;
        self.conntrack.set_reply(target.invert(), masquerade);
        Ok(target)
    }

    fn confirm(&mut self, now: Instant) -> Result<crate::conntrack::ConnId, Refusal> {
        self.conntrack.confirm(now).map_err(|error| {
            match error {
                ConfirmError::Full => DropReason::ConntrackFull,
                ConfirmError::Clash => DropReason::ConntrackInsertFailed,
            }
            .into()
        })
    }

    fn learn(&mut self, id: crate::conntrack::ConnId, dir: Dir, from: usize, hop: &Hop) {
        let Some(conn) = self.conntrack.get(id) else {
            return;
        };
        let (Ok(from), Ok(to)) = (u16::try_from(from), u16::try_from(hop.slot)) else {
            return;
        };
        let action = Action {
            generation: self.generation,
            from,
            to,
            next_hop: hop.via.unwrap_or_else(|| conn.target(dir).dst),
        };
        if conn.action(dir) != action {
            self.conntrack.set_action(id, dir, action);
        }
    }

    /// What the router's own packet from `src` to `dst` with this transport header is translated to: an answer belongs to
    /// the connection of what it answers. None when it stays as it is.
    pub(crate) fn answer(
        &mut self,
        now: Instant,
        (src, dst, protocol): (Ipv4Addr, Ipv4Addr, u8),
        transport: &[u8],
    ) -> Option<Tuple> {
        let tuple = Tuple::with(src, dst, protocol, transport)?;
        let (_, dir, target) = self.known(now, &tuple)?;
        (dir == Dir::Reply && tuple != target).then_some(target)
    }

    fn known(&mut self, now: Instant, tuple: &Tuple) -> Option<(Tuple, Dir, Tuple)> {
        let (id, dir) = self.conntrack.lookup(now, tuple)?;
        let conn = self.conntrack.get(id)?;
        Some((conn.tuple(dir), dir, conn.target(dir)))
    }

    /// Makes a packet what its sender sent, so that an error about it can quote that.
    pub(crate) fn undo(&self, packet: &mut [u8], context: &Context) {
        if let Some(received) = context.received {
            rewrite::set_both(packet, &received, context.form);
        }
    }

    /// As [`Nat::undo`], for a packet that had left already and waited for its next hop: its connection is known by what
    /// the answer to it would be.
    pub(crate) fn undo_sent(&mut self, now: Instant, packet: &mut [u8], form: Form) {
        let answer = Ipv4::peek(packet)
            .and_then(|ip| Tuple::of(&ip))
            .map(|tuple| tuple.invert());
        if let Some(answer) = answer
            && let Some((_, _, target)) = self.known(now, &answer)
        {
            rewrite::set_both(packet, &target.invert(), form);
        }
    }
}

/// Gives a packet the source that its connection is translated to.
pub(crate) fn set_source(packet: &mut [u8], target: &Tuple, form: Form) {
    rewrite::set_end(packet, End::Src, target, form);
}

/// Gives a packet both ends of what its connection is translated to.
pub(crate) fn set_both(packet: &mut [u8], target: &Tuple) {
    rewrite::set_both(packet, target, Form::Complete);
}

/// False for what would need a checksum over all pieces made anew: ICMP errors, which nobody makes so long, and SCTP, which
/// fragments itself.
fn translatable_in_pieces(ip: &Ipv4<'_>) -> bool {
    match ip.protocol() {
        PROTOCOL_ICMP => !ip.payload().first().is_some_and(|&k| icmpv4::is_error(k)),
        PROTOCOL_SCTP => false,
        _ => true,
    }
}

fn reject() -> Refusal {
    Refusal::with(DropReason::NatReject, IcmpError::PortUnreachable)
}
