//! A capture as lines, one per packet.
//!
//! ```text
//!   12:34:56.789012 minikube/eth0 In  IP 10.244.0.2 > 10.244.1.3: ICMP echo request, id 7, seq 1, length 64
//!   12:34:56.789040 minikube/drop     IP 10.244.0.2 > 9.9.9.9: UDP, length 1, dropped: no-route
//! ```
//!
//! Decides the look: that of `tcpdump -n -i any`, with the node in front of the interface. In and Out are the router's view;
//! times are UTC.

use std::io::{self, Write};

use tap_bridge::layer::capture::pcapng::Direction;

use super::{Output, Packet, PlaceId};
use crate::control::capture::CaptureCounts;
use crate::view::packet::line;

/// Lines on their way to a terminal or a pipe.
#[derive(Debug)]
pub struct Lines<W> {
    to: W,
    buffer: String,
    places: Vec<String>,
    width: usize,
}

impl<W: Write> Lines<W> {
    /// Lines for `to`.
    pub fn new(to: W) -> Self {
        Self {
            to,
            buffer: String::new(),
            places: Vec::new(),
            width: 0,
        }
    }
}

/// `12:34:56.789012`
fn time_of_day(at: u64) -> String {
    let micros = at / 1000;
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{micros:06}")
}

impl<W: Write> Output for Lines<W> {
    fn place(&mut self, id: PlaceId, node: &str, name: &str) -> io::Result<()> {
        let name = format!("{node}/{name}");
        self.width = self.width.max(name.len());
        if self.places.len() <= id {
            self.places.resize(id + 1, String::new());
        }
        self.places[id] = name;
        Ok(())
    }

    fn packet(&mut self, place: PlaceId, packet: &Packet<'_>) -> io::Result<()> {
        let direction = match packet.direction {
            Some(Direction::Rx) => "In ",
            Some(Direction::Tx) => "Out",
            None => "   ",
        };
        let name = self.places.get(place).map_or("?", String::as_str);
        let len = usize::try_from(packet.len).unwrap_or(usize::MAX);
        let text = line(packet.bytes, len);
        let why = packet
            .reason
            .map_or_else(String::new, |reason| format!(", dropped: {reason}"));
        let (time, width) = (time_of_day(packet.at), self.width);
        self.buffer += &format!("{time} {name:width$} {direction} {text}{why}\n");
        if self.buffer.len() > 1 << 16 {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.write_all(self.buffer.as_bytes())?;
        self.buffer.clear();
        self.to.flush()
    }

    fn finish(&mut self, _: u64, _: &[(PlaceId, CaptureCounts)]) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_day() {
        assert_eq!(time_of_day(0), "00:00:00.000000");
        let at = ((3 * 86400 + 23 * 3600 + 59 * 60 + 8) * 1_000_000 + 42) * 1000 + 999;
        assert_eq!(time_of_day(at), "23:59:08.000042");
    }
}
