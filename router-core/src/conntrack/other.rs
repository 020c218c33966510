//! How long connections live whose protocols say little or nothing about it (NAT-31, NAT-32).

use core::time::Duration;

use crate::config::nat::Timers;
use crate::time::Instant;
use crate::wire::ipv4::{PROTOCOL_GRE, PROTOCOL_ICMP};

/// UDP is a stream when traffic both ways lasts longer than this.
pub(super) const STREAM_AFTER: Duration = Duration::from_secs(2);

/// An SCTP association, by its first chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SctpState {
    /// INIT or HEARTBEAT seen.
    #[default]
    Opening,
    /// Traffic both ways.
    Established,
    /// ABORT or one of the SHUTDOWNs seen.
    Closing,
}

const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

impl SctpState {
    /// An association that begins with this chunk. None when none does.
    pub(super) const fn begin(chunk: u8) -> Option<Self> {
        match chunk {
            INIT | HEARTBEAT => Some(Self::Opening),
            _ => None,
        }
    }

    pub(super) const fn after(self, chunk: u8, replied: bool) -> Self {
        match chunk {
            INIT => Self::Opening,
            ABORT | SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => Self::Closing,
            DATA | SACK | HEARTBEAT | HEARTBEAT_ACK | COOKIE_ECHO | COOKIE_ACK
                if replied && !matches!(self, Self::Closing) =>
            {
                Self::Established
            }
            _ => self,
        }
    }

    pub(super) const fn timeout(self, timers: &Timers) -> Duration {
        match self {
            Self::Established => timers.sctp_established,
            Self::Opening | Self::Closing => timers.sctp,
        }
    }
}

/// How long a UDP connection lives after a packet at `now`, and whether it is a stream by then.
pub(super) fn udp(
    now: Instant,
    stream_at: Instant,
    replied: bool,
    timers: &Timers,
) -> (Duration, bool) {
    if replied && now > stream_at {
        (timers.udp_stream, true)
    } else {
        (timers.udp, false)
    }
}

/// How long any other connection lives after a packet, and whether it is one in earnest.
pub(super) const fn any(protocol: u8, replied: bool, timers: &Timers) -> (Duration, bool) {
    match protocol {
        PROTOCOL_ICMP => (timers.icmp, false),
        PROTOCOL_GRE if replied => (timers.gre_stream, true),
        PROTOCOL_GRE => (timers.gre, false),
        _ => (timers.generic, false),
    }
}
