//! The `podwire` program.

fn main() {}
