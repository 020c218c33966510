//! Go's `math/rand`, as far as Calico's choice of a host's first block needs it (CAL-2).
//!
//! The generator is Mitchell's and Reeds' additive lagged Fibonacci generator, x(n) = x(n-607) + x(n-273) mod 2^64. Go fills its
//! register from a Lehmer generator and mixes in a table of 607 words, "cooked" by 7.8e12 steps of the same generator. The table
//! is not carried here: the recurrence is linear, so that many steps are the polynomial x^N modulo x^607 - x^334 - 1, found by
//! squaring, 43 times, and applied to the register that the table began with. Source: Go, src/math/rand/rng.go and
//! gen_cooked.go; math/big, nat.random. Cost: about 20 million multiplications once per process, then microseconds.

use std::sync::OnceLock;

/// Words of the register, and the larger lag.
const LENGTH: usize = 607;
/// The smaller lag.
const TAP: usize = 273;
/// Steps that cooked the table.
const COOKED_STEPS: u64 = 7_800_000_000_000;
/// Modulus of the Lehmer generator, 2^31 - 1.
const LEHMER_MODULUS: u64 = 0x7fff_ffff;
/// What a seed of zero stands for.
const ZERO_SEED: u64 = 89_482_311;

type Register = [u64; LENGTH];

/// `rand.New(rand.NewSource(seed))`.
#[derive(Clone, Debug)]
pub(super) struct GoRand {
    register: Box<Register>,
    tap: usize,
    feed: usize,
}

impl GoRand {
    pub(super) fn new(seed: u32) -> Self {
        let seed = match u64::from(seed) % LEHMER_MODULUS {
            0 => ZERO_SEED,
            seed => seed,
        };
        let mut register = Box::new(fill(seed, [40, 20, 0]));
        for (word, cooked) in register.iter_mut().zip(cooked().iter()) {
            *word ^= cooked;
        }
        Self {
            register,
            tap: 0,
            feed: LENGTH - TAP,
        }
    }

    fn next(&mut self) -> u64 {
        let before = |at: usize| at.checked_sub(1).unwrap_or(LENGTH - 1);
        self.tap = before(self.tap);
        self.feed = before(self.feed);
        let sum = self.register[self.feed].wrapping_add(self.register[self.tap]);
        self.register[self.feed] = sum;
        sum
    }

    /// `Uint32`: the upper half of the 63 bits of `Int63`.
    fn uint32(&mut self) -> u64 {
        (self.next() >> 31) & 0xffff_ffff
    }

    /// `big.Int.Rand` below `limit`, which fits one word: too large draws are thrown away.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        let mask = u64::MAX >> limit.max(1).leading_zeros();
        loop {
            let low = self.uint32();
            let drawn = (low | (self.uint32() << 32)) & mask;
            if drawn < limit.max(1) {
                return drawn;
            }
        }
    }
}

/// A register filled from the Lehmer generator, three draws a word.
fn fill(seed: u64, shifts: [u32; 3]) -> Register {
    let mut x = seed;
    let mut draw = || {
        x = x * 48_271 % LEHMER_MODULUS;
        x
    };
    for _ in 0..20 {
        draw();
    }
    core::array::from_fn(|_| {
        shifts
            .iter()
            .fold(0, |word, shift| word ^ (draw() << shift))
    })
}

/// The word of the register that step `n` reads first and overwrites.
const fn overwritten_by(n: usize) -> usize {
    (2 * LENGTH - TAP - 1 - n % LENGTH) % LENGTH
}

fn cooked() -> &'static Register {
    static COOKED: OnceLock<Box<Register>> = OnceLock::new();
    COOKED.get_or_init(|| Box::new(cook(COOKED_STEPS)))
}

/// The register of `gen_cooked.go` after `steps` steps.
fn cook(steps: u64) -> Register {
    let jump = power_of_x(steps);
    // In the order of the sequence, and as far on as the farthest of the results needs.
    let start = fill(1, [20, 10, 0]);
    let mut sequence: Vec<u64> = (0..LENGTH).map(|n| start[overwritten_by(n)]).collect();
    for n in LENGTH..2 * LENGTH {
        sequence.push(sequence[n - LENGTH].wrapping_add(sequence[n - TAP]));
    }
    let behind = usize::try_from(steps % 607).unwrap_or_default();
    let mut register = [0_u64; LENGTH];
    for n in 0..LENGTH {
        register[overwritten_by(behind + n)] = jump
            .iter()
            .zip(&sequence[n..])
            .fold(0_u64, |sum, (&factor, &word)| {
                sum.wrapping_add(factor.wrapping_mul(word))
            });
    }
    register
}

/// x^n modulo x^607 - x^334 - 1, coefficients modulo 2^64, lowest first.
fn power_of_x(n: u64) -> Register {
    let mut power = [0_u64; LENGTH];
    power[0] = 1;
    for bit in (0..u64::BITS - n.leading_zeros()).rev() {
        let mut wide = [0_u64; 2 * LENGTH];
        let shift = usize::from((n >> bit) & 1 == 1);
        for (i, a) in power.iter().enumerate() {
            for (sum, b) in wide[i + shift..].iter_mut().zip(&power) {
                *sum = sum.wrapping_add(a.wrapping_mul(*b));
            }
        }
        for k in (LENGTH..2 * LENGTH).rev() {
            let high = wide[k];
            for low in [k - LENGTH, k - TAP] {
                wide[low] = wide[low].wrapping_add(high);
            }
        }
        power.copy_from_slice(&wide[..LENGTH]);
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The jump gives what single steps give, so the words are right wherever it ends.
    #[test]
    fn a_jump_is_so_many_steps() {
        for steps in [0_usize, 1, 606, 607, 608, 5000] {
            let mut register = fill(1, [20, 10, 0]);
            for n in 0..steps {
                let other = register[(LENGTH - 1 + LENGTH - n % LENGTH) % LENGTH];
                let word = &mut register[overwritten_by(n)];
                *word = word.wrapping_add(other);
            }
            assert_eq!(cook(u64::try_from(steps).unwrap()), register, "{steps}");
        }
    }

    /// Both ends of the table that Go carries.
    #[test]
    fn the_cooked_table_is_gos() {
        let signed = |at: usize| cooked()[at].cast_signed();
        assert_eq!(
            [signed(0), signed(1)],
            [-4_181_792_142_133_755_926, -4_576_982_950_128_230_565]
        );
        assert_eq!(
            [signed(605), signed(606)],
            [9_103_922_860_780_351_547, 4_152_330_101_494_654_406]
        );
    }

    /// `rand.New(rand.NewSource(1)).Int63()`, which every Go programmer has seen: 5577006791947779410 first.
    #[test]
    fn the_first_numbers_of_seed_one_are_gos() {
        let mut rand = GoRand::new(1);
        assert_eq!(rand.next() & (u64::MAX >> 1), 5_577_006_791_947_779_410);
        assert_eq!(rand.next() & (u64::MAX >> 1), 8_674_665_223_082_153_551);
    }

    /// A single block is block 0, and no draw reaches the limit.
    #[test]
    fn draws_stay_below_their_limit() {
        let mut rand = GoRand::new(7);
        assert_eq!(rand.below(1), 0);
        assert!((0..1000).all(|_| rand.below(1000) < 1000));
    }
}
