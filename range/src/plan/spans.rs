//! Stretches of time as sets: what is left of a range when others are taken away.

/// The parts of `start..end` that none of `busy` covers, in order.
#[must_use]
pub fn without(start: i64, end: i64, mut busy: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    busy.sort_unstable();
    let mut free = Vec::new();
    let mut from = start;
    for (begin, stop) in busy {
        if begin >= end {
            break;
        }
        if begin > from {
            free.push((from, begin));
        }
        from = from.max(stop);
    }
    if end > from {
        free.push((from, end));
    }
    free
}

/// Where the weights of overlapping stretches add up to more than `most`.
#[must_use]
pub fn crowded(stretches: &[(i64, i64, u64)], most: u64) -> Vec<(i64, i64)> {
    let mut steps: Vec<(i64, i64)> = Vec::with_capacity(stretches.len() * 2);
    for &(begin, stop, weight) in stretches {
        let weight = i64::try_from(weight).unwrap_or(i64::MAX / 1_000);
        steps.extend([(begin, weight), (stop, -weight)]);
    }
    steps.sort_unstable();
    let mut crowded = Vec::new();
    let mut load = 0;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    for pair in steps.windows(2) {
        load += pair[0].1;
        if load > most && pair[1].0 > pair[0].0 {
            crowded.push((pair[0].0, pair[1].0));
        }
    }
    crowded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_between_overlapping_stretches_is_free() {
        assert_eq!(without(0, 100, vec![(40, 50), (10, 20), (15, 30)]), [(0, 10), (30, 40), (50, 100)]);
        assert_eq!(without(10, 20, vec![(0, 30)]), []);
        assert_eq!(without(10, 20, vec![]), [(10, 20)]);
        assert_eq!(without(10, 20, vec![(30, 40), (0, 12)]), [(12, 20)]);
    }

    #[test]
    fn it_is_crowded_where_weights_add_up() {
        let stretches = [(0, 10, 2), (5, 15, 2), (15, 20, 5)];

        assert_eq!(crowded(&stretches, 3), [(5, 10), (15, 20)]);
        assert_eq!(crowded(&stretches, 4), [(15, 20)]);
        assert_eq!(crowded(&stretches, 5), []);
    }
}
