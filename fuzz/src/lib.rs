//! What podwire does with bytes that nobody has checked.
//!
//! Each target is a plain function of bytes ([`targets`]). Three things call it: libFuzzer (`cargo fuzz run TARGET`), the
//! plain mutating driver (`cargo run -p fuzz --bin TARGET -- --seconds 60`, see [`driver`]), and `cargo test`, which
//! replays the seeds and everything in `fuzz/regressions`.

pub mod allocations;
pub mod bench;
pub mod driver;
pub mod input;
pub mod node;
pub mod targets;
