//! Numbers that look random and are the same in every run: an attack that was seen once can be
//! made again.

/// A stream of numbers (`SplitMix64`, Steele, Lea and Flood 2014); not for secrets.
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream of a seed and a number; neighbours have nothing in common.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut dice = Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        dice.roll();
        dice
    }

    /// The next 64 bits.
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 when there is none.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        // Seven bytes are enough for any length here and fit every machine's `usize`.
        let roll = usize::try_from(self.roll() >> 33).unwrap_or_default();
        roll % limit.max(1)
    }

    /// A number from `first` up to `last`.
    pub(crate) fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// True once in `often` times.
    pub(crate) fn one_in(&mut self, often: usize) -> bool {
        self.below(often) == 0
    }

    /// Any byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let [byte, ..] = self.roll().to_le_bytes();
        byte
    }

    /// That many bytes of any value.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    /// One of them.
    pub(crate) fn pick<'a, T: ?Sized>(&mut self, among: &[&'a T]) -> &'a T
    where
        &'a T: Default,
    {
        among.get(self.below(among.len())).copied().unwrap_or_default()
    }

    /// That many of the given ASCII characters.
    pub(crate) fn text(&mut self, alphabet: &[u8], count: usize) -> String {
        let mut one = || alphabet.get(self.below(alphabet.len())).copied().unwrap_or(b'x');
        (0..count).map(|_| char::from(one())).collect()
    }

    /// Puts them in another order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_number_roll_the_same() {
        let rolls = |seed, number| {
            let mut dice = Dice::new(seed, number);
            (dice.roll(), dice.roll())
        };
        assert_eq!(rolls(1, 2), rolls(1, 2));
        assert_ne!(rolls(1, 2), rolls(1, 3));
        assert_ne!(rolls(1, 2), rolls(2, 2));
    }

    #[test]
    fn every_face_comes_up_about_equally_often() {
        let mut dice = Dice::new(7, 7);
        let mut faces = [0; 6];
        (0..6000).for_each(|_| faces[dice.below(6)] += 1);
        assert!(faces.iter().all(|count| (900..1100).contains(count)), "{faces:?}");
        assert_eq!(dice.below(0), 0);
        assert!((0..100).all(|_| (3..=5).contains(&dice.between(3, 5))));
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<_> = (0..50).collect();
        Dice::new(1, 1).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
