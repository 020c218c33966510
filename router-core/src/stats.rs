//! What a router counts: where every frame ended, and what it did on its own account.
//!
//! Decides nothing. Every frame that a router was given or made ends in exactly one place (law 4), and [`Stats`] can
//! prove it at any time: `rx + generated + cloned + split = tx + consumed + dropped + held + merged`
//! ([`Stats::check_conservation`]). Drops are counted per [`DropReason`] and, for received frames, per ingress port.
//!
//! Cost: a few additions to memory of the calling thread per frame; no atomics.

use alloc::vec::Vec;
use core::fmt;

use crate::config::PortId;
use crate::frame::Frame;

/// Makes a fieldless enum of counters: its variants in declaration order, their names and one sentence for each.
macro_rules! counters {
    ($(#[$meta:meta])* $vis:vis enum $Enum:ident { $($(#[$vmeta:meta])* $Variant:ident = $name:literal, $help:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        $vis enum $Enum { $(#[doc = $help] $(#[$vmeta])* $Variant,)+ }

        impl $Enum {
            /// Every variant, in the order of its number.
            pub const ALL: &[Self] = &[$(Self::$Variant,)+];

            /// Stable kebab-case name, as metrics, traces and `logs` show it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name,)+ }
            }

            /// What it means, in one sentence.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$Variant => $help,)+ }
            }

            /// The variant with this [`name`](Self::name).
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.name() == name)
            }
        }

        impl fmt::Display for $Enum {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        #[cfg(feature = "serde")]
        impl serde::Serialize for $Enum {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $Enum {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = <alloc::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Self::from_name(&name)
                    .ok_or_else(|| serde::de::Error::custom(alloc::format!("unknown name {name:?}")))
            }
        }

        impl Countable for $Enum {
            type Cells = [u64; Self::ALL.len()];
            const VARIANTS: &[Self] = Self::ALL;
            const ZERO: Self::Cells = [0; Self::ALL.len()];
            fn number(self) -> usize { usize::from(self as u8) }
            fn title(self) -> &'static str { self.name() }
        }
    };
}

/// An enum that numbers counters. Implemented for [`DropReason`], [`Event`] and [`RouteKind`] only.
pub trait Countable: Copy + PartialEq + 'static + sealed::Sealed {
    /// Array with one cell per variant.
    type Cells: AsRef<[u64]> + AsMut<[u64]> + Clone + PartialEq + Eq;
    /// All variants in the order of their numbers.
    const VARIANTS: &'static [Self];
    /// All cells at zero.
    const ZERO: Self::Cells;
    /// Index of the variant's cell.
    fn number(self) -> usize;
    /// Stable kebab-case name.
    fn title(self) -> &'static str;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::DropReason {}
    impl Sealed for super::Event {}
    impl Sealed for super::RouteKind {}
}

counters! {
    /// Why a frame went no further. One enum for the whole product (law 5).
    pub enum DropReason {
        UnknownPort = "unknown-port", "The frame names a port that the router does not have.";
        PortDown = "port-down", "The port it arrived on is administratively down or has nothing at its other end.";
        FrameTooShort = "frame-too-short", "Fewer bytes than an Ethernet header.";
        FrameTooLong = "frame-too-long", "Longer than any frame that this router can hold; the device cut it.";
        BadOffload = "bad-offload", "What its device says is left to do to it contradicts what it carries.";
        OtherHost = "other-host", "The destination MAC is neither the port's nor a group address.";
        UnknownEtherType = "unknown-ethertype", "Neither IPv4 nor ARP.";
        VlanTagged = "vlan-tagged", "An 802.1Q or 802.1ad tag on an untagged port.";
        Ipv6 = "ipv6", "IPv6, which is not forwarded.";
        UnicastInLinkBroadcast = "unicast-in-link-broadcast", "A unicast IPv4 destination inside a broadcast or multicast frame.";
        BadVersion = "bad-version", "The IP version is not 4.";
        BadHeaderLength = "bad-header-length", "The IPv4 header length is below 20 or beyond the bytes present.";
        BadTotalLength = "bad-total-length", "The IPv4 total length is below the header length or beyond the bytes present.";
        BadHeaderChecksum = "bad-header-checksum", "The IPv4 header checksum does not verify.";
        SourceRouted = "source-routed", "Loose or strict source routing, which is never followed.";
        BadOption = "bad-option", "An IPv4 option with an impossible length or pointer.";
        MartianSource = "martian-source", "A source address that no unicast host can have.";
        OwnSource = "own-source", "The source is one of the node's own addresses, but the packet came from outside.";
        MartianDestination = "martian-destination", "A destination that must not be seen on a wire (0/8, loopback).";
        RpFilter = "rp-filter", "Reverse path filter: the route back to the source does not leave by the ingress port.";
        Broadcast = "broadcast", "A broadcast destination: never forwarded, and nothing on the node listens.";
        Multicast = "multicast", "A multicast destination: there is no multicast routing.";
        ForwardingOff = "forwarding-off", "Not for this node, and ip_forward is off.";
        NoRoute = "no-route", "No route to the destination.";
        Blackhole = "blackhole", "A blackhole route.";
        Unreachable = "unreachable", "An unreachable route.";
        Prohibit = "prohibit", "A prohibit route.";
        TtlExpired = "ttl-expired", "The time to live ran out here.";
        FragmentationNeeded = "fragmentation-needed", "Longer than the egress MTU with DF set.";
        EgressDown = "egress-down", "The port it should leave by is down, has no carrier or leads nowhere.";
        NoLinkAddress = "no-link-address", "The next hop is not a unicast address, or its port resolves no addresses.";
        NeighbourFailed = "neighbour-failed", "The next hop did not answer ARP.";
        NeighbourFlushed = "neighbour-flushed", "It waited for a neighbour entry that was deleted.";
        NeighbourTableFull = "neighbour-table-full", "No room for another neighbour entry.";
        HoldQueueFull = "hold-queue-full", "Too many packets were waiting for address resolution; the oldest went.";
        PortRemoved = "port-removed", "It waited for a port that was removed or taken down.";
        BridgeSource = "bridge-source", "A bridge received it from a source MAC that no station can have.";
        BridgeReserved = "bridge-reserved", "To 01:80:c2:00:00:01 to 0f, which a bridge keeps to its link.";
        BridgeSamePort = "bridge-same-port", "The bridge knows the destination behind the port it came by, and hairpin is off there.";
        BridgeMtu = "bridge-mtu", "Longer than the MTU of the bridge port it should leave by, which bridges drop in silence.";
        BridgeNoPort = "bridge-no-port", "The bridge has no other port to send it to.";
        ArpMalformed = "arp-malformed", "Not an ARP packet for IPv4 over Ethernet.";
        ArpIgnored = "arp-ignored", "ARP that does not concern this node.";
        ArpMartian = "arp-martian", "ARP whose sender or target address is not believable on this port.";
        ArpPinned = "arp-pinned", "ARP that claims an address or MAC other than the one known to be at the end of this link.";
        IcmpMalformed = "icmp-malformed", "ICMP to this node that is too short or whose checksum does not verify.";
        IcmpIgnored = "icmp-ignored", "ICMP to this node that a router ignores (redirect, source quench, obsolete requests, strays).";
        TransportMalformed = "transport-malformed", "UDP or TCP to this node that is too short or whose checksum does not verify.";
        PortUnreachable = "port-unreachable", "UDP to this node where nothing listens.";
        ProtocolUnreachable = "protocol-unreachable", "A protocol to this node that nothing handles.";
        ConnectionRefused = "connection-refused", "TCP to this node where nothing listens.";
        NoListener = "no-listener", "A packet of the router's own to one of the node's addresses, which nothing receives.";
        FragmentInvalid = "fragment-invalid", "A fragment that cannot be part of any datagram, or contradicts the others of its datagram.";
        FragmentDuplicate = "fragment-duplicate", "A fragment that is there already.";
        FragmentOverlap = "fragment-overlap", "Fragments that overlap: the whole datagram goes.";
        ReassemblyFull = "reassembly-full", "Too many fragments were waiting for others; the oldest datagrams went.";
        ReassemblyTimeout = "reassembly-timeout", "The rest of the datagram did not come within 30 s.";
        PolicyIngress = "policy-ingress", "NetworkPolicy: no rule allows it to reach the pod it is for (ingress).";
        PolicyEgress = "policy-egress", "NetworkPolicy: no rule allows the pod it is from to send it (egress).";
        PolicyInvalid = "policy-invalid", "NetworkPolicy: to or from an isolated pod, and conntrack finds it INVALID.";
        TunnelSource = "tunnel-source", "IPIP from a station that is no known tunnel end, or a tunnelled packet with an end of its tunnel as source.";
        TunnelDown = "tunnel-down", "IPIP to this node, whose tunnel device is down.";
        TunnelDenied = "tunnel-denied", "IPIP from a port that may not send any.";
        TunnelNested = "tunnel-nested", "A tunnel within a tunnel: more than one header to put on or to take off.";
        TunnelLoop = "tunnel-loop", "The outer destination leads back into the tunnel, or to this node.";
        TunnelNoRoute = "tunnel-no-route", "No route to the other end of the tunnel.";
        TunnelCongested = "tunnel-congested", "Congestion was met in the tunnel by a packet that cannot be marked with it (outer CE, inner not ECN-capable).";
        TunnelTooLong = "tunnel-too-long", "A packet out of a tunnel that is longer than any frame.";
        ConntrackInvalid = "conntrack-invalid", "A packet of no connection where only connections pass: its inside source would have leaked, or the node would have answered it.";
        ConntrackFull = "conntrack-full", "No room for another connection, and none that was never answered to give up for it.";
        ConntrackInsertFailed = "conntrack-insert-failed", "No free port or identifier to translate to, or another connection has the same tuple.";
        NatDrop = "nat-drop", "A rule of the nat table drops the connection.";
        NatReject = "nat-reject", "A rule of the nat table refuses the connection: a service without endpoints.";
        BandwidthExceeded = "bandwidth-exceeded", "The port has a bandwidth limit, and its queue has no room left.";
        BurstExceeded = "burst-exceeded", "Longer than the burst of the port's bandwidth limit, so that it could never pass.";
        PoolEmpty = "pool-empty", "No free frame for a copy that was needed.";
    }
}

counters! {
    /// What a router does on its own account, or refrains from.
    pub enum Event {
        ArpRequestSent = "arp-request-sent", "An ARP request, broadcast or unicast probe, was sent.";
        ArpReplySent = "arp-reply-sent", "An ARP reply was sent.";
        ArpAnnounced = "arp-announced", "An address of the node was announced, because it is new or because another station claimed it.";
        ArpConflict = "arp-conflict", "Another station claimed one of the node's own addresses.";
        EchoReplySent = "echo-reply-sent", "An ICMP echo or timestamp request to the node was answered.";
        TcpResetSent = "tcp-reset-sent", "A TCP segment to a closed port of the node was answered with RST.";
        IcmpErrorSent = "icmp-error-sent", "An ICMP error was made.";
        IcmpErrorLimited = "icmp-error-limited", "An ICMP error was withheld by a rate limit.";
        IcmpErrorForbidden = "icmp-error-forbidden", "An ICMP error was withheld because RFC 1812 4.3.2.7 forbids one about such a packet.";
        NoFrame = "no-frame", "Something the router wanted to send was not made because the pool was empty.";
        Fragmented = "fragmented", "A datagram was cut into fragments.";
        Segmented = "segmented", "A superframe was cut into the frames that a wire would have carried.";
        Reassembled = "reassembled", "All fragments of a datagram were there.";
        Encapsulated = "encapsulated", "A packet was put into an IPIP tunnel.";
        Decapsulated = "decapsulated", "A packet was taken out of an IPIP tunnel.";
        TunnelEcnOdd = "tunnel-ecn-odd", "An outer header had an ECN mark that the inner packet does not know of (RFC 6040 4.2).";
        TunnelMtuLearned = "tunnel-mtu-learned", "A router inside a tunnel told the MTU of the way.";
        TunnelErrorRelayed = "tunnel-error-relayed", "An ICMP error about an outer packet was passed on to the sender of the inner one.";
        ConnectionEvicted = "connection-evicted", "A connection that was never answered made room for a new one.";
        ConnectionRestored = "connection-restored", "A connection that an earlier process of the node had goes on.";
        ConnectionLost = "connection-lost", "A connection that an earlier process of the node had could not be restored.";
        HostDelivered = "host-delivered", "A packet to the node was handed to its host namespace.";
        FdbLearned = "fdb-learned", "A bridge learned where a station is.";
        FdbMoved = "fdb-moved", "A station appeared behind another port of its bridge.";
        FdbEvicted = "fdb-evicted", "A bridge forgot the station it had not heard of for longest, to make room for another.";
        BridgeFlooded = "bridge-flooded", "A bridge sent a frame to all its ports.";
        BridgeOwnSource = "bridge-own-source", "A bridge port received a frame whose source is the bridge's own MAC.";
    }
}

counters! {
    /// What the tables said about a destination that was looked up (FWD-94).
    pub enum RouteKind {
        Unicast = "unicast", "A route that leads on by a next hop.";
        Local = "local", "An address of the node.";
        Broadcast = "broadcast", "255.255.255.255 or the directed broadcast of a connected subnet.";
        Blackhole = "blackhole", "A blackhole route.";
        Unreachable = "unreachable", "An unreachable route.";
        Prohibit = "prohibit", "A prohibit route.";
        NoRoute = "no-route", "No route, or a throw route.";
    }
}

/// One counter per variant of `E`.
#[derive(Clone, PartialEq, Eq)]
pub struct Counters<E: Countable>(E::Cells);

impl<E: Countable> Default for Counters<E> {
    fn default() -> Self {
        Self(E::ZERO)
    }
}

impl<E: Countable> Counters<E> {
    /// The counter of `which`.
    #[must_use]
    pub fn get(&self, which: E) -> u64 {
        self.0.as_ref().get(which.number()).copied().unwrap_or(0)
    }

    /// Sum of all counters.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.as_ref().iter().sum()
    }

    /// The counters that are not zero, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (E, u64)> + '_ {
        E::VARIANTS
            .iter()
            .map(|&e| (e, self.get(e)))
            .filter(|&(_, n)| n != 0)
    }

    fn absorb(&mut self, other: &Self) {
        for (mine, theirs) in self.0.as_mut().iter_mut().zip(other.0.as_ref()) {
            *mine += theirs;
        }
    }

    pub(crate) fn add(&mut self, which: E, n: u64) {
        if let Some(cell) = self.0.as_mut().get_mut(which.number()) {
            *cell += n;
        }
    }
}

impl<E: Countable> fmt::Debug for Counters<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(e, n)| (e.title(), n)))
            .finish()
    }
}

/// Counters of one port. Bytes include the Ethernet header, not the FCS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PortStats {
    /// Frames received; a superframe is one.
    pub rx_frames: u64,
    /// Frames that a wire would have carried for them (decision 14): segments, where one was a superframe.
    pub rx_segments: u64,
    /// Bytes received, the headers of a superframe once.
    pub rx_bytes: u64,
    /// Frames handed out for sending; a superframe is one.
    pub tx_frames: u64,
    /// Frames that a wire would carry for them.
    pub tx_segments: u64,
    /// Bytes handed out for sending, the headers of a superframe once.
    pub tx_bytes: u64,
    /// Frames received here that were dropped, by reason.
    pub drops: Counters<DropReason>,
}

impl PortStats {
    fn absorb(&mut self, other: &Self) {
        self.rx_frames += other.rx_frames;
        self.rx_segments += other.rx_segments;
        self.rx_bytes += other.rx_bytes;
        self.tx_frames += other.tx_frames;
        self.tx_segments += other.tx_segments;
        self.tx_bytes += other.tx_bytes;
        self.drops.absorb(&other.drops);
    }
}

/// Bytes of a frame, and segments that it stands for.
pub(crate) type Size = (usize, usize);

/// Counters of one router since its making, from the router's view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stats {
    /// Frames received.
    pub rx: u64,
    /// Frames the router made (ARP, ICMP, TCP resets).
    pub generated: u64,
    /// Extra copies of a frame (floods).
    pub cloned: u64,
    /// Frames gained by fragmentation and by cutting superframes: pieces minus one per datagram.
    pub split: u64,
    /// Frames handed out for sending.
    pub tx: u64,
    /// Frames that ended here because they were for the router: ARP it learned from, echo requests it answered.
    pub consumed: u64,
    /// Frames lost to reassembly: pieces minus one per datagram.
    pub merged: u64,
    /// Frames handed over to another worker of the node.
    #[cfg_attr(feature = "serde", serde(default))]
    pub handed: u64,
    /// Frames that another worker of the node has received and handed over.
    #[cfg_attr(feature = "serde", serde(default))]
    pub taken: u64,
    /// Frames dropped, by reason.
    pub drops: Counters<DropReason>,
    /// What the router did on its own account.
    pub events: Counters<Event>,
    /// Hits by kind of route, of packets received and made; one that goes as its connection's before is a hit too.
    pub routes: Counters<RouteKind>,
    ports: Vec<(PortId, PortStats)>,
}

impl Stats {
    /// Counters of every present port, in the order of the snapshot.
    #[must_use]
    pub fn ports(&self) -> &[(PortId, PortStats)] {
        &self.ports
    }

    /// Counters of one port.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&PortStats> {
        self.ports.iter().find(|(p, _)| *p == id).map(|(_, s)| s)
    }

    /// Frames dropped in all.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.total()
    }

    /// Checks that no frame was lost or invented: `rx + generated + cloned + split = tx + consumed + dropped + held +
    /// merged`, with `held_now` as [`Router::held`](crate::router::Router::held) gives it. One of several workers takes over
    /// frames besides, and hands over others.
    ///
    /// # Errors
    /// Both sums, when they differ.
    pub fn check_conservation(&self, held_now: usize) -> Result<(), ConservationError> {
        let sources = self.rx + self.generated + self.cloned + self.split + self.taken;
        let held = u64::try_from(held_now).unwrap_or(u64::MAX);
        let ended = self.tx + self.consumed + self.dropped() + self.merged + self.handed;
        let sinks = ended.saturating_add(held);
        if sources == sinks {
            Ok(())
        } else {
            Err(ConservationError { sources, sinks })
        }
    }

    /// Adds those of another worker of the node, which has the same ports.
    pub fn absorb(&mut self, other: &Self) {
        let mine = [
            &mut self.rx,
            &mut self.generated,
            &mut self.cloned,
            &mut self.split,
            &mut self.tx,
            &mut self.consumed,
            &mut self.merged,
            &mut self.handed,
            &mut self.taken,
        ];
        let theirs = [
            other.rx,
            other.generated,
            other.cloned,
            other.split,
            other.tx,
            other.consumed,
            other.merged,
            other.handed,
            other.taken,
        ];
        for (mine, theirs) in mine.into_iter().zip(theirs) {
            *mine += theirs;
        }
        self.drops.absorb(&other.drops);
        self.events.absorb(&other.events);
        self.routes.absorb(&other.routes);
        for (id, theirs) in &other.ports {
            match self.ports.iter_mut().find(|(port, _)| port == id) {
                Some((_, mine)) => mine.absorb(theirs),
                None => self.ports.push((*id, theirs.clone())),
            }
        }
    }

    /// Lays out counters for the ports of a new snapshot; those of ports that stay keep their values.
    pub(crate) fn set_ports(&mut self, ids: impl Iterator<Item = PortId>) {
        let mut old = core::mem::take(&mut self.ports);
        self.ports = ids
            .map(|id| {
                old.iter_mut().find(|(p, _)| *p == id).map_or_else(
                    || (id, PortStats::default()),
                    |(p, s)| (*p, core::mem::take(s)),
                )
            })
            .collect();
    }

    /// `slot` is the port's place in the snapshot; none when the router does not have it.
    pub(crate) fn count_rx(&mut self, slot: Option<usize>, size: Size) {
        self.rx += 1;
        if let Some(slot) = slot {
            self.count_upper_rx(slot, size);
        }
    }

    /// [`count_rx`](Self::count_rx) of so many frames with so many bytes in all, and `more` segments than frames.
    pub(crate) fn count_rx_many(&mut self, slot: usize, frames: u64, bytes: u64, more: u64) {
        self.rx += frames;
        if let Some((_, port)) = self.ports.get_mut(slot) {
            port.rx_frames += frames;
            port.rx_segments += frames + more;
            port.rx_bytes += bytes;
        }
    }

    /// [`count_tx`](Self::count_tx) of so many frames with so many bytes in all, and `more` segments than frames.
    pub(crate) fn count_tx_many(&mut self, slot: usize, frames: u64, bytes: u64, more: u64) {
        self.tx += frames;
        if let Some((_, port)) = self.ports.get_mut(slot) {
            port.tx_frames += frames;
            port.tx_segments += frames + more;
            port.tx_bytes += bytes;
        }
    }

    pub(crate) fn count_tx(&mut self, slot: usize, size: Size) {
        self.tx += 1;
        self.count_upper_tx(slot, size);
    }

    /// A frame that arrives at an interface above a port, which received it before: a bridge's own, a tunnel device.
    pub(crate) fn count_upper_rx(&mut self, slot: usize, (len, segments): Size) {
        if let Some((_, port)) = self.ports.get_mut(slot) {
            port.rx_frames += 1;
            port.rx_segments += segments as u64;
            port.rx_bytes += len as u64;
        }
    }

    /// A frame that leaves by an interface above a port, which sends it.
    pub(crate) fn count_upper_tx(&mut self, slot: usize, (len, segments): Size) {
        if let Some((_, port)) = self.ports.get_mut(slot) {
            port.tx_frames += 1;
            port.tx_segments += segments as u64;
            port.tx_bytes += len as u64;
        }
    }

    pub(crate) fn count_drop(&mut self, slot: Option<usize>, reason: DropReason) {
        self.drops.add(reason, 1);
        if let Some((_, port)) = slot.and_then(|s| self.ports.get_mut(s)) {
            port.drops.add(reason, 1);
        }
    }

    pub(crate) fn count_routes(&mut self, found: &Counters<RouteKind>) {
        for (kind, n) in found.iter() {
            self.routes.add(kind, n);
        }
    }

    pub(crate) fn count(&mut self, event: Event) {
        self.events.add(event, 1);
    }
}

/// Where frames go that a table gives up.
pub(crate) trait Discard {
    /// Counts and frees one frame.
    fn discard(&mut self, frame: Frame, reason: DropReason);
}

/// Frames were lost or invented: a bug in the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConservationError {
    /// rx + generated + cloned + split, and what was taken over
    pub sources: u64,
    /// tx + consumed + dropped + held + merged, and what was handed over
    pub sinks: u64,
}

impl fmt::Display for ConservationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "frames are not conserved: rx + generated + cloned + split = {}, tx + consumed + dropped + held + merged = {}",
            self.sources, self.sinks
        )
    }
}

impl core::error::Error for ConservationError {}

#[cfg(feature = "serde")]
mod serde_impl {
    use alloc::string::String;
    use core::fmt;
    use core::marker::PhantomData;

    use serde::de::{Error, MapAccess, Visitor};
    use serde::ser::SerializeMap;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Countable, Counters};

    /// As a map from name to count, zeros left out.
    impl<E: Countable> Serialize for Counters<E> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            for (which, n) in self.iter() {
                map.serialize_entry(which.title(), &n)?;
            }
            map.end()
        }
    }

    impl<'de, E: Countable> Deserialize<'de> for Counters<E> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Names<E>(PhantomData<E>);
            impl<'de, E: Countable> Visitor<'de> for Names<E> {
                type Value = Counters<E>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("a map from counter name to count")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut counters = Counters::default();
                    while let Some((name, n)) = map.next_entry::<String, u64>()? {
                        let which = E::VARIANTS
                            .iter()
                            .copied()
                            .find(|v| v.title() == name)
                            .ok_or_else(|| {
                                A::Error::custom(alloc::format!("unknown counter {name:?}"))
                            })?;
                        counters.add(which, n);
                    }
                    Ok(counters)
                }
            }
            deserializer.deserialize_map(Names(PhantomData))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kebab_case_unique_and_explained() {
        let mut names: Vec<&str> = DropReason::ALL.iter().map(|r| r.name()).collect();
        names.extend(Event::ALL.iter().map(|e| e.name()));
        for name in &names {
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for reason in DropReason::ALL {
            assert!(reason.help().ends_with('.'), "{reason}");
            assert_eq!(DropReason::from_name(reason.name()), Some(*reason));
        }
    }

    #[test]
    fn conservation_names_both_sums_when_a_frame_is_missing() {
        let mut stats = Stats::default();
        stats.count_rx(None, (60, 1));
        assert_eq!(stats.check_conservation(1), Ok(()));
        let error = stats.check_conservation(0).unwrap_err();
        assert_eq!((error.sources, error.sinks), (1, 0));
        stats.count_drop(None, DropReason::UnknownPort);
        assert_eq!(stats.check_conservation(0), Ok(()));
    }

    /// Every field of a worker's counters is in the node's.
    #[cfg(feature = "serde")]
    #[test]
    fn the_counters_of_two_workers_are_added() {
        let mut one = Stats::default();
        one.set_ports([PortId(3)].into_iter());
        one.count_rx_many(0, 5, 300, 2);
        one.count_tx_many(0, 2, 200, 1);
        one.count_drop(Some(0), DropReason::TtlExpired);
        one.count(Event::Fragmented);
        (one.generated, one.cloned, one.split) = (3, 4, 5);
        (one.consumed, one.merged, one.handed, one.taken) = (6, 7, 8, 9);
        one.routes.add(RouteKind::Local, 2);
        fn doubled(value: &mut serde_json::Value) {
            match value {
                serde_json::Value::Number(n) => *value = (n.as_u64().unwrap() * 2).into(),
                serde_json::Value::Array(all) => all.iter_mut().for_each(doubled),
                serde_json::Value::Object(map) => map.values_mut().for_each(doubled),
                _ => {}
            }
        }
        let mut expected = serde_json::to_value(&one).unwrap();
        doubled(&mut expected);
        expected["ports"][0][0] = 3.into();
        let other = one.clone();
        one.absorb(&other);
        assert_eq!(serde_json::to_value(&one).unwrap(), expected);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn statistics_survive_serialisation_by_name() {
        let mut stats = Stats::default();
        stats.set_ports([PortId(3)].into_iter());
        stats.count_rx(Some(0), (60, 1));
        stats.count_drop(Some(0), DropReason::TtlExpired);
        let json = serde_json::to_string(&stats).unwrap();
        assert!(json.contains(r#""ttl-expired":1"#), "{json}");
        assert_eq!(serde_json::from_str::<Stats>(&json).unwrap(), stats);
        assert!(
            serde_json::from_str::<Stats>(&json.replace("ttl-expired", "ttl-forgotten")).is_err()
        );
    }
}
