//! Which packs a verification of some per cent reads: at random, by a seed that is reported, so
//! that the same choice can be made again.

use std::collections::BTreeSet;

/// Numbers of the chosen ones of `count` things, ascending: `percent` of them, at least one.
pub(super) fn choose(count: usize, percent: u8, seed: u64) -> Vec<usize> {
    if percent >= 100 {
        return (0..count).collect();
    }
    let wanted = (count * usize::from(percent)).div_ceil(100).max(1);
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut ranked: Vec<_> = (0..count)
        .map(|number| {
            let hash = blake3::keyed_hash(&key, &(number as u64).to_le_bytes());
            (*hash.as_bytes(), number)
        })
        .collect();
    ranked.sort_unstable();
    let chosen: BTreeSet<_> = ranked.into_iter().map(|(_, n)| n).take(wanted).collect();
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_share_is_at_least_one_never_twice_and_the_same_for_a_seed(
            count in 1..500_usize,
            percent in 1..=100_u8,
            seed: u64,
        ) {
            let chosen = choose(count, percent, seed);
            let exact = count * usize::from(percent);
            prop_assert!(!chosen.is_empty());
            prop_assert!(chosen.len() * 100 >= exact && chosen.len() * 100 < exact + 100);
            prop_assert!(chosen.windows(2).all(|two| two[0] < two[1]));
            prop_assert!(chosen.iter().all(|n| *n < count));
            prop_assert_eq!(choose(count, percent, seed), chosen);
        }
    }

    #[test]
    fn in_time_every_pack_has_its_turn() {
        let seen: BTreeSet<_> = (0..400).flat_map(|seed| choose(20, 5, seed)).collect();
        assert_eq!(seen.len(), 20);
    }

    #[test]
    fn nothing_can_be_chosen_of_nothing() {
        assert_eq!(choose(0, 5, 1), Vec::<usize>::new());
        assert_eq!(choose(0, 100, 1), Vec::<usize>::new());
    }
}
