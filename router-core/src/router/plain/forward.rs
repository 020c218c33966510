//! What is plain becomes what it leaves as. See [`super`].

use super::egress::{Clock, Egress, Moment};
use super::look::Seen;
use super::{Counts, HEADERS, ask_for};
use crate::config::PortId;
use crate::frame::{Batch, Frame};
use crate::neigh::NeighbourTable;
use crate::router::{Io, Router};
use crate::stats::Stats;
use crate::table::NextHop;
use crate::time::Instant;
use crate::wire::ethernet;
use crate::wire::ipv4;

/// What frames are changed by, and where they are counted.
struct Forward<'a> {
    egress: &'a mut [Egress],
    neighbours: &'a mut NeighbourTable,
    moment: Moment,
    counts: &'a mut Counts,
    stats: &'a mut Stats,
}

impl<'a> Forward<'a> {
    #[inline(always)]
    fn new(
        (egress, neighbours): (&'a mut [Egress], &'a mut NeighbourTable),
        (counts, stats): (&'a mut Counts, &'a mut Stats),
        clock: &mut Clock,
        now: Instant,
    ) -> Self {
        Self {
            moment: clock.moment(now, neighbours),
            egress,
            neighbours,
            counts,
            stats,
        }
    }

    /// Makes a frame what it leaves as, if it is plain, and counts it. The port that it leaves by.
    #[inline(always)]
    fn forward(&mut self, frame: &mut Frame, seen: Seen, place: NextHop) -> Option<PortId> {
        // No route is a place beyond the last.
        let egress = self.egress.get_mut(usize::from(place))?;
        let headers: &mut [u8; HEADERS] = frame.received_mut()?;
        // What they end with.
        let dst = u32::from_ne_bytes(*headers.last_chunk()?);
        if seen.longest() > egress.mtu || !egress.resolve(dst, &self.moment, self.neighbours) {
            return None;
        }
        let (link, ip) = headers.split_at_mut(ethernet::HEADER_LEN);
        link.copy_from_slice(&egress.header);
        ipv4::decrement_ttl(ip.first_chunk_mut()?);
        self.counts.turn_to((seen.slot(), egress.slot), self.stats);
        let len = ethernet::HEADER_LEN + usize::from(seen.total_len());
        let received = if frame.is_offloaded() {
            self.counts.add_more(seen);
            frame.trim(len)
        } else {
            frame.shorten(len)
        };
        self.counts.add(received, len);
        Some(egress.port)
    }
}

impl Router {
    /// Sends the frames of a batch up to the first that is not plain, which are all, as a rule: changes them where they are,
    /// and hands them on as one.
    pub(in crate::router) fn forward_first(
        &mut self,
        rx: &mut Batch,
        counts: &mut Counts,
        io: &mut Io<'_>,
    ) {
        let frames = rx.as_mut_slice();
        ask_for(frames);
        let mut done = 0;
        while let Some(rest) = frames.get_mut(done..)
            && !rest.is_empty()
        {
            let (ports, fib) = (&self.snapshot.ports, &self.fib);
            let group = self.plain.look_and_route(rest, ports, fib);
            let plain = self.forward_group(&mut rest[..group], counts, io.now);
            io.tx.name_ports(&self.plain.ways_out[..plain]);
            done += plain;
            if plain < group {
                break;
            }
        }
        io.tx.take_named(rx);
    }

    /// Sends frame `n` of those that were [looked at](super::Plain::look_and_route), if it is plain; gives it back otherwise.
    pub(in crate::router) fn forward_next(
        &mut self,
        n: usize,
        mut frame: Frame,
        counts: &mut Counts,
        io: &mut Io<'_>,
    ) -> Result<(), Frame> {
        let Self {
            plain,
            neighbours,
            stats,
            ..
        } = self;
        let shown = plain.seen.get(n).zip(plain.dst_places.get(n));
        let (tables, counts) = ((&mut plain.egress[..], neighbours), (counts, stats));
        let mut with = Forward::new(tables, counts, &mut plain.clock, io.now);
        let plain = shown.and_then(|(&seen, &place)| with.forward(&mut frame, seen, place));
        let Some(port) = plain else {
            return Err(frame);
        };
        io.tx.push(port, frame);
        Ok(())
    }

    /// Makes the frames that were [looked at](super::Plain::look_and_route) what they leave as, up to the first that is not plain;
    /// their ports are in `ways_out`. Number of frames.
    #[inline(never)]
    fn forward_group(&mut self, frames: &mut [Frame], counts: &mut Counts, now: Instant) -> usize {
        let Self {
            plain,
            neighbours,
            stats,
            ..
        } = self;
        let plain = &mut **plain;
        let (tables, counts) = ((&mut plain.egress[..], neighbours), (counts, stats));
        let mut with = Forward::new(tables, counts, &mut plain.clock, now);
        let shown = plain.seen.iter().zip(&plain.dst_places);
        let mut done = 0;
        for ((frame, (&seen, &place)), way_out) in
            frames.iter_mut().zip(shown).zip(&mut plain.ways_out)
        {
            let Some(port) = with.forward(frame, seen, place) else {
                break;
            };
            *way_out = port;
            done += 1;
        }
        done
    }
}
