//! Pure data structures with a cost model in their documentation. They know nothing of packets.

pub mod claims;
mod cuckoo;
pub mod flow;
pub(crate) mod index;
mod limbo;
pub mod lpm4;
pub mod lpm6;
pub(crate) mod places;
mod refit;
mod rib;
#[cfg(any(test, feature = "testing", feature = "std"))]
mod shared;
#[cfg(not(any(test, feature = "testing", feature = "std")))]
#[path = "unshared.rs"]
mod shared;
pub mod wheel;
mod work;

/// A next hop: an index into a list of the caller's, at most [`MAX_NEXT_HOP`].
pub type NextHop = u16;

/// What a look-up gives for an address that no prefix covers.
pub const NO_ROUTE: NextHop = 0x7fff;

/// The largest next hop that a table can hold.
pub const MAX_NEXT_HOP: NextHop = NO_ROUTE - 1;

/// The table has no room for a prefix; for [`Lpm4`](lpm4::Lpm4) more than 32,768 groups of 256 cells would be needed, which
/// is what as many /24 with longer prefixes inside take. Also given for a next hop greater than [`MAX_NEXT_HOP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl core::fmt::Display for Full {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("the routing table is full")
    }
}

impl core::error::Error for Full {}

fn checked(hop: NextHop) -> Result<NextHop, Full> {
    if hop <= MAX_NEXT_HOP {
        Ok(hop)
    } else {
        Err(Full)
    }
}
