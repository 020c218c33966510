//! Connections of a node that several workers share: which of them has a tuple.
//!
//! Decides what is claimed: both tuples of every connection but those of IPIP, which carries everybody's packets between two
//! nodes, has no ports to tell them apart and is translated by nobody. See [`crate::share`] for the whole.
//!
//! Cost: nothing where there is one worker; else see [`claims`](crate::table::claims).

use super::{ConfirmError, Conntrack, Tuple};
use crate::table::claims::Refused;
use crate::wire::ipv4::PROTOCOL_IPIP;

impl Conntrack {
    /// The other worker that has this tuple.
    pub(super) fn owner(&self, tuple: &Tuple) -> Option<u8> {
        let share = self.share.as_ref()?;
        let owner = share.claims().owner(tuple.key())?;
        (owner != share.index()).then_some(owner)
    }

    /// Where a packet of this tuple is to be handed over to, which no connection of this worker has; none when it was `handed`
    /// over to this worker.
    pub(super) fn elsewhere(&self, tuple: &Tuple, handed: bool) -> Option<u8> {
        if handed { None } else { self.owner(tuple) }
    }

    /// Makes a connection's tuples this worker's.
    pub(super) fn claim(&self, orig: &Tuple, reply: &Tuple) -> Result<(), ConfirmError> {
        let Some(share) = &self.share else {
            return Ok(());
        };
        if orig.protocol == PROTOCOL_IPIP {
            return Ok(());
        }
        let claim = |tuple: &Tuple| {
            let claimed = share.claims().claim(tuple.key(), share.index());
            claimed.map_err(|refused| match refused {
                Refused::Taken => ConfirmError::Clash,
                Refused::Full => ConfirmError::Full,
            })
        };
        claim(orig)?;
        if reply != orig
            && let Err(error) = claim(reply)
        {
            share.claims().release(orig.key(), share.index());
            return Err(error);
        }
        Ok(())
    }

    /// A connection is no more.
    pub(super) fn release(&self, orig: &Tuple, reply: &Tuple) {
        if let Some(share) = &self.share {
            share.claims().release(orig.key(), share.index());
            share.claims().release(reply.key(), share.index());
        }
    }
}

impl Drop for Conntrack {
    /// What is left of a table goes with it.
    fn drop(&mut self) {
        if self.share.is_some() {
            self.flush(|_, _, _| true);
        }
    }
}
