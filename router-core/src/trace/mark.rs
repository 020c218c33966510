//! The mark that a traced frame carries.

/// Which trace a frame belongs to, and as what; or that it belongs to none.
///
/// Two bytes: the number of the trace (0: none), then the [`Role`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Mark {
    trace: u8,
    role: Role,
}

/// What a marked frame is to the packet that is traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[repr(u8)]
pub enum Role {
    /// The packet itself, or a piece or copy of it.
    #[default]
    Packet = 0,
    /// An answer to it.
    Answer = 1,
    /// An ICMP error about it or about its answer.
    Error = 2,
}

impl Mark {
    /// Not traced.
    pub const NONE: Self = Self {
        trace: 0,
        role: Role::Packet,
    };

    /// The mark of the packet of trace `trace`; [`Mark::NONE`] for 0.
    #[must_use]
    pub const fn new(trace: u8) -> Self {
        Self {
            trace,
            role: Role::Packet,
        }
    }

    /// True when the frame is traced.
    #[inline]
    #[must_use]
    pub const fn is_set(self) -> bool {
        self.trace != 0
    }

    /// Number of the trace, 0 for none.
    #[must_use]
    pub const fn trace(self) -> u8 {
        self.trace
    }

    /// What the frame is to the traced packet.
    #[must_use]
    pub const fn role(self) -> Role {
        self.role
    }

    /// The mark of an answer to a frame with this mark.
    #[must_use]
    pub const fn answer(self) -> Self {
        self.with(Role::Answer)
    }

    /// The mark of an ICMP error about a frame with this mark.
    #[must_use]
    pub const fn error(self) -> Self {
        self.with(Role::Error)
    }

    const fn with(self, role: Role) -> Self {
        if self.is_set() {
            Self {
                trace: self.trace,
                role,
            }
        } else {
            Self::NONE
        }
    }

    /// As a number, for a descriptor that leaves the process.
    #[must_use]
    pub const fn to_bits(self) -> u16 {
        u16::from_le_bytes([self.trace, self.role as u8])
    }

    /// The reverse of [`Mark::to_bits`]; none for a number that no mark has.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Option<Self> {
        let [trace, role] = bits.to_le_bytes();
        let role = match role {
            0 => Role::Packet,
            1 => Role::Answer,
            2 => Role::Error,
            _ => return None,
        };
        if trace == 0 && !matches!(role, Role::Packet) {
            return None;
        }
        Some(Self { trace, role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_and_no_others_are_a_mark() {
        let mut legal = 0;
        for bits in 0..=u16::MAX {
            if let Some(mark) = Mark::from_bits(bits) {
                assert_eq!(mark.to_bits(), bits);
                legal += 1;
            }
        }
        assert_eq!(legal, 1 + 255 * 3);
    }

    #[test]
    fn nothing_is_passed_on_by_a_frame_without_mark() {
        assert_eq!(Mark::NONE.answer(), Mark::NONE);
        assert_eq!(Mark::NONE.error(), Mark::NONE);
        assert_eq!(Mark::new(7).answer().error().role(), Role::Error);
    }
}
