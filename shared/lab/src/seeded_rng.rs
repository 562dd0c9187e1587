//! Values that differ from check to check, and are the same for the same seed.

use std::ops::RangeInclusive;

/// A seeded choice of values, so that what was written down beforehand does not pass.
#[derive(Clone, Debug)]
pub struct SeededRng(fastrand::Rng);

/// Names that mean nothing.
const NAMES: [&str; 24] = [
    "amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "hazel", "indigo", "jade", "karst",
    "lilac", "maple", "nacre", "ochre", "pearl", "quartz", "reed", "sable", "topaz", "umber", "violet",
    "willow", "zinc",
];

impl SeededRng {
    /// Dice for one exercise: the same seed throws something else in another one.
    pub fn new(seed: u32, exercise: &str) -> Self {
        let salt = xxhash_rust::xxh3::xxh3_64(exercise.as_bytes());
        Self(fastrand::Rng::with_seed(salt ^ u64::from(seed)))
    }

    /// A seed that nobody knew before: short, for people to type.
    pub fn seed() -> u32 {
        fastrand::u32(1..1_000_000)
    }

    /// A number in this range.
    pub fn number(&mut self, range: RangeInclusive<u32>) -> u32 {
        self.0.u32(range)
    }

    /// `n` different names, at most 24.
    pub fn names(&mut self, n: usize) -> Vec<String> {
        let mut names = NAMES;
        self.0.shuffle(&mut names);
        names.into_iter().take(n).map(str::to_owned).collect()
    }

    /// The list in another order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        self.0.shuffle(list);
    }
}
