//! One ping: when to send, what an answer means, what to print. Pure; the time is passed in.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::packet::{EchoId, Heard, ICMP_HEADER, IPV4_HEADER, echo_request, parse};
use super::stats::{Rtt, Statistics};
use super::{Options, PathMtu};

/// Shortest interval between two requests.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// What the session wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send the next request now.
    Send,
    /// Listen, until then at most.
    Listen(Instant),
    /// It is over.
    Finished,
}

/// A line to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// On stdout, unless quiet.
    Out(String),
    /// On stderr.
    Err(String),
}

#[derive(Clone, Copy, Debug)]
struct Request {
    at: Instant,
    answered: bool,
}

/// A ping of one destination.
#[derive(Debug)]
pub(super) struct Session<'a> {
    name: &'a str,
    dst: Ipv4Addr,
    /// Our own address: an ICMP error from there is a local one.
    source: Ipv4Addr,
    options: &'a Options,
    id: u16,
    started: Instant,
    last_sent: Option<Instant>,
    /// By sequence number: 65536 at most.
    requests: HashMap<u16, Request>,
    max_rtt: Duration,
    stats: Statistics,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        name: &'a str,
        dst: Ipv4Addr,
        source: Ipv4Addr,
        options: &'a Options,
        id: u16,
        now: Instant,
    ) -> Self {
        Self {
            name,
            dst,
            source,
            options,
            id,
            started: now,
            last_sent: None,
            requests: HashMap::new(),
            max_rtt: Duration::ZERO,
            stats: Statistics::default(),
        }
    }

    /// `PING b (10.244.0.2) 56(84) bytes of data.`
    pub(super) fn header(&self) -> String {
        let size = self.options.size;
        let whole = size + ICMP_HEADER + IPV4_HEADER;
        let Self { name, dst, .. } = self;
        format!("PING {name} ({dst}) {size}({whole}) bytes of data.")
    }

    /// The statistics block, from the empty line on.
    pub(super) fn footer(&self) -> String {
        format!("\n--- {} ping statistics ---\n{}", self.name, self.stats)
    }

    pub(super) fn into_statistics(self) -> Statistics {
        self.stats
    }

    fn interval(&self) -> Duration {
        self.options.interval.max(MIN_INTERVAL)
    }

    pub(super) fn due(&self, now: Instant) -> Due {
        let deadline = self.options.deadline.map(|after| self.started + after);
        if deadline.is_some_and(|at| at <= now) {
            return Due::Finished;
        }
        let Some(last) = self.last_sent else {
            return Due::Send;
        };
        let count = self.options.count.map(u64::from);
        let until = if count.is_some_and(|count| self.stats.transmitted >= count) {
            if self.stats.received + self.stats.errors >= self.stats.transmitted {
                return Due::Finished;
            }
            // iputils: two round trips when there is a measure for it, else the given time.
            let linger = if self.stats.received > 0 {
                (2 * self.max_rtt).max(self.interval())
            } else {
                self.options.timeout
            };
            if last + linger <= now {
                return Due::Finished;
            }
            last + linger
        } else {
            let next = last + self.interval();
            if next <= now {
                return Due::Send;
            }
            next
        };
        Due::Listen(deadline.map_or(until, |deadline| until.min(deadline)))
    }

    /// Sequence number of the next request; the first is 1.
    fn next_seq(&self) -> u16 {
        // Two bytes on the wire: it wraps around, as iputils' does.
        let [low, high, ..] = (self.stats.transmitted + 1).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// The next request's ICMP message.
    pub(super) fn request(&self) -> Vec<u8> {
        let seq = self.next_seq();
        echo_request(EchoId { id: self.id, seq }, self.options.size)
    }

    /// The request went out.
    pub(super) fn sent(&mut self, now: Instant) {
        let request = Request {
            at: now,
            answered: false,
        };
        self.requests.insert(self.next_seq(), request);
        self.stats.transmitted += 1;
        self.last_sent = Some(now);
        self.stats.elapsed = now.duration_since(self.started);
    }

    /// The request could not go out.
    pub(super) fn refused(&mut self, now: Instant, why: &str) -> Line {
        self.sent(now);
        self.stats.errors += 1;
        Line::Err(format!("podwire ping: {why}"))
    }

    /// It is longer than the first link takes.
    pub(super) fn too_long(&mut self, now: Instant, mtu: Option<u32>) -> Line {
        self.sent(now);
        self.local_error(mtu)
    }

    fn local_error(&mut self, mtu: Option<u32>) -> Line {
        self.stats.errors += 1;
        let mtu = mtu.map_or_else(String::new, |mtu| format!(", mtu={mtu}"));
        Line::Err(format!("podwire ping: local error: message too long{mtu}"))
    }

    /// A packet arrived; none when it is not about this ping.
    pub(super) fn heard(&mut self, now: Instant, packet: &[u8]) -> Option<Line> {
        match parse(packet)? {
            Heard::Reply {
                echo,
                from,
                ttl,
                len,
            } if echo.id == self.id => {
                let request = self.requests.get_mut(&echo.seq)?;
                let rtt = now.duration_since(request.at);
                let again = core::mem::replace(&mut request.answered, true);
                if again {
                    self.stats.duplicates += 1;
                } else {
                    self.stats.received += 1;
                }
                self.max_rtt = self.max_rtt.max(rtt);
                self.stats.add_rtt(rtt);
                let seq = echo.seq;
                let mut line = format!(
                    "{len} bytes from {from}: icmp_seq={seq} ttl={ttl} time={}",
                    Rtt(rtt)
                );
                if again {
                    line.push_str(" (DUP!)");
                }
                if from != self.dst {
                    line.push_str(" (DIFFERENT ADDRESS!)");
                }
                Some(Line::Out(line))
            }
            Heard::Error {
                echo,
                dst,
                from,
                error,
            } if echo.id == self.id && dst == self.dst => {
                self.requests.get(&echo.seq)?;
                if from == self.source
                    && self.options.path_mtu == PathMtu::Do
                    && let Some(mtu) = error.mtu()
                {
                    return Some(self.local_error(Some(u32::from(mtu))));
                }
                self.stats.errors += 1;
                let seq = echo.seq;
                Some(Line::Out(format!("From {from} icmp_seq={seq} {error}")))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Ipv4Packet};

    use super::super::packet::ipv4;
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
    const B: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
    const GW: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn reply(to: &[u8], from: Ipv4Addr, ttl: u8) -> Vec<u8> {
        let mut message = to.to_vec();
        let mut icmp = Icmpv4Packet::new_unchecked(&mut message[..]);
        icmp.set_msg_type(Icmpv4Message::EchoReply);
        icmp.fill_checksum();
        let mut bytes = ipv4(A, ttl, false, &message);
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_src_addr(from);
        packet.fill_checksum();
        bytes
    }

    fn error(about: &[u8], from: Ipv4Addr, kind: u8, code: u8, mtu: u16) -> Vec<u8> {
        let quote = ipv4(B, 1, false, about);
        let mut message = vec![kind, code, 0, 0, 0, 0];
        message.extend(mtu.to_be_bytes());
        message.extend(&quote[..28]);
        Icmpv4Packet::new_unchecked(&mut message[..]).fill_checksum();
        let mut bytes = ipv4(A, 64, false, &message);
        bytes[12..16].copy_from_slice(&from.octets());
        Ipv4Packet::new_unchecked(&mut bytes[..]).fill_checksum();
        bytes
    }

    fn options(count: u32) -> Options {
        Options {
            count: Some(count),
            ..Options::default()
        }
    }

    fn out(line: Option<Line>) -> String {
        match line {
            Some(Line::Out(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    /// A whole run of two, as iputils prints it.
    #[test]
    fn two_answered_requests() {
        let t0 = Instant::now();
        let options = options(2);
        let mut s = Session::new("b", B, A, &options, 7, t0);
        assert_eq!(s.header(), "PING b (10.244.1.2) 56(84) bytes of data.");
        assert_eq!(s.due(t0), Due::Send);
        let first = s.request();
        s.sent(t0);
        assert_eq!(s.due(t0), Due::Listen(t0 + ms(1000)));
        let line = s.heard(t0 + Duration::from_micros(123), &reply(&first, B, 62));
        assert_eq!(
            out(line),
            "64 bytes from 10.244.1.2: icmp_seq=1 ttl=62 time=0.123 ms"
        );
        assert_eq!(s.due(t0 + ms(999)), Due::Listen(t0 + ms(1000)));
        assert_eq!(s.due(t0 + ms(1000)), Due::Send);
        let second = s.request();
        s.sent(t0 + ms(1000));
        let line = s.heard(
            t0 + ms(1000) + Duration::from_micros(77),
            &reply(&second, B, 62),
        );
        assert_eq!(
            out(line),
            "64 bytes from 10.244.1.2: icmp_seq=2 ttl=62 time=0.077 ms"
        );
        assert_eq!(s.due(t0 + ms(1001)), Due::Finished);
        assert_eq!(
            s.footer(),
            "\n--- b ping statistics ---\n\
             2 packets transmitted, 2 received, 0% packet loss, time 1000ms\n\
             rtt min/avg/max/mdev = 0.077/0.100/0.123/0.023 ms\n"
        );
    }

    /// A second answer is a duplicate and counts as such.
    #[test]
    fn a_second_answer_is_a_duplicate() {
        let t0 = Instant::now();
        let options = options(1);
        let mut s = Session::new("b", B, A, &options, 7, t0);
        let request = s.request();
        s.sent(t0);
        let answer = reply(&request, B, 62);
        s.heard(t0 + ms(2), &answer);
        let line = out(s.heard(t0 + ms(3), &answer));
        assert!(line.ends_with("time=3.00 ms (DUP!)"), "{line}");
        let stats = s.into_statistics();
        assert_eq!((stats.received, stats.duplicates), (1, 1));
    }

    /// Answers to another pinger, to a request that was never sent, and requests are not ours.
    #[test]
    fn what_belongs_to_others_is_ignored() {
        let t0 = Instant::now();
        let options = options(3);
        let mut s = Session::new("b", B, A, &options, 7, t0);
        let request = s.request();
        s.sent(t0);
        let other = echo_request(EchoId { id: 8, seq: 1 }, 56);
        let future = echo_request(EchoId { id: 7, seq: 2 }, 56);
        for packet in [
            reply(&other, B, 62),
            reply(&future, B, 62),
            ipv4(A, 64, false, &request),
            error(&other, GW, 11, 0, 0),
        ] {
            assert_eq!(s.heard(t0, &packet), None);
        }
    }

    /// Without an answer the wait ends after the timeout; with one after two round trips, an interval at least.
    #[test]
    fn the_last_wait_depends_on_what_was_heard() {
        let t0 = Instant::now();
        let options = options(2);
        let mut s = Session::new("b", B, A, &options, 7, t0);
        let request = s.request();
        s.sent(t0);
        s.sent(t0 + ms(1000));
        let patience = t0 + ms(1000) + options.timeout;
        assert_eq!(s.due(t0 + ms(1000)), Due::Listen(patience));
        assert_eq!(s.due(patience), Due::Finished);
        s.heard(t0 + ms(1500), &reply(&request, B, 62));
        assert_eq!(s.due(t0 + ms(1500)), Due::Listen(t0 + ms(1000) + ms(3000)));
    }

    /// A deadline ends everything.
    #[test]
    fn a_deadline_ends_the_ping() {
        let t0 = Instant::now();
        let options = Options {
            deadline: Some(ms(1500)),
            ..Options::default()
        };
        let mut s = Session::new("b", B, A, &options, 7, t0);
        s.sent(t0);
        s.sent(t0 + ms(1000));
        assert_eq!(s.due(t0 + ms(1000)), Due::Listen(t0 + ms(1500)));
        assert_eq!(s.due(t0 + ms(1500)), Due::Finished);
    }

    /// An ICMP error is printed with who reports it, and ends the wait for that request.
    #[test]
    fn an_error_is_reported() {
        let t0 = Instant::now();
        let options = options(1);
        let mut s = Session::new("b", B, A, &options, 7, t0);
        let request = s.request();
        s.sent(t0);
        let line = s.heard(t0 + ms(1), &error(&request, GW, 11, 0, 0));
        assert_eq!(
            out(line),
            "From 10.244.0.1 icmp_seq=1 Time to live exceeded"
        );
        assert_eq!(s.due(t0 + ms(1)), Due::Finished);
        assert!(
            s.footer()
                .contains("1 packets transmitted, 0 received, +1 errors, 100% packet loss")
        );
    }

    /// "Fragmentation needed" from our own address is a local error; from a router it is the router's.
    #[test]
    fn a_message_that_is_too_long_is_a_local_error() {
        let t0 = Instant::now();
        let options = Options {
            path_mtu: PathMtu::Do,
            ..options(2)
        };
        let mut s = Session::new("b", B, A, &options, 7, t0);
        let request = s.request();
        s.sent(t0);
        let expected = "podwire ping: local error: message too long, mtu=1500";
        assert_eq!(
            s.heard(t0, &error(&request, A, 3, 4, 1500)),
            Some(Line::Err(expected.into()))
        );
        assert_eq!(
            out(s.heard(t0, &error(&request, GW, 3, 4, 1400))),
            "From 10.244.0.1 icmp_seq=1 Frag needed and DF set (mtu = 1400)"
        );
        assert_eq!(s.too_long(t0, Some(1500)), Line::Err(expected.into()));
    }

    /// Sequence numbers have two bytes.
    #[test]
    fn sequence_numbers_wrap_around() {
        let t0 = Instant::now();
        let options = Options::default();
        let mut s = Session::new("b", B, A, &options, 7, t0);
        s.stats.transmitted = 65_534;
        assert_eq!(s.next_seq(), 65_535);
        s.sent(t0);
        assert_eq!(s.next_seq(), 0);
    }
}
