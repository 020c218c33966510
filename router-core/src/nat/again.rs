//! What the first packets of a connection decided, done again to the next ones.
//!
//! The way that a direction took is stored with its connection ([`Action`]), and what it is translated to stands in the
//! connection's tuples; so a packet that is known to belong there needs no rule, no route and no policy. A configuration
//! ends all stored ways by its generation. Whoever asks sees to what differs from packet to packet: length, TTL, options.
//!
//! Cost: the connection's line; a pass over the packet for its checksum where that is looked at; one update of each
//! checksum for everything that is changed.

use core::net::Ipv4Addr;

use super::{Context, Form, Nat, rewrite};
use crate::conntrack::{Action, ConnId, Dir, Guess, Seen};
use crate::table::flow::FlowKey;
use crate::time::Instant;

/// Where a packet goes that belongs to a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    id: ConnId,
    dir: Dir,
    /// Place of the port.
    pub(crate) to: usize,
    pub(crate) next_hop: Ipv4Addr,
}

impl Nat {
    /// Where the connection of a packet with this key is to be looked for.
    #[inline]
    pub(crate) fn look_for(&self, key: FlowKey) -> Guess {
        self.conntrack.look_for(key)
    }

    /// Asks for that.
    pub(crate) fn ask(&self, guesses: &[Guess]) {
        self.conntrack.ask(guesses);
    }

    /// Looks up what was asked for.
    pub(crate) fn guess(&self, guesses: &mut [Guess]) {
        self.conntrack.guess(guesses);
    }

    /// The way that packets of the guessed connection and direction take, if the packet that it was guessed for belongs to
    /// it and came in by the port in `slot`, as those did.
    #[inline]
    pub(crate) fn way(&self, now: Instant, guess: &Guess, slot: u16) -> Option<Way> {
        let (id, dir, action) = self.conntrack.confirmed(now, guess)?;
        let Action {
            generation,
            from,
            to,
            next_hop,
        } = action;
        let way = Way {
            id,
            dir,
            to: to.into(),
            next_hop,
        };
        (generation == self.generation && from == slot).then_some(way)
    }

    /// Takes a packet into account that has a [`way`](Self::way), and makes of it what leaves on that way: translated, its
    /// TTL lower by one. Its IPv4 header was validated and has no options; `form` is how its checksum stands.
    ///
    /// # Errors
    /// When it does not belong to the connection after all: what is known of it by then, for the long way. It is as it was.
    #[inline]
    pub(crate) fn pass(
        &mut self,
        now: Instant,
        form: Form,
        packet: &mut [u8],
        &Way { id, dir, .. }: &Way,
    ) -> Result<(), Context> {
        // What is partial is right by definition.
        let check = form == Form::Complete;
        if let Some(conn) = self.conntrack.udp_goes_on(now, packet, check, (id, dir)) {
            rewrite::forward(packet, conn, dir, form);
            return Ok(());
        }
        let seen = self.conntrack.track_known(now, packet, check, (id, dir));
        match (seen, self.conntrack.get(id)) {
            (Seen::Known { id: same, .. }, Some(conn)) if same == id => {
                rewrite::forward(packet, conn, dir, form);
                Ok(())
            }
            _ => Err(Context {
                seen,
                ..Context::default()
            }),
        }
    }
}
