//! Two samples to one observation. Pure: no clock, no files, and nothing that can fail.

use vedette_proto::{Column, Observation, Reading, Scope, Tier};

use crate::sample::Sample;

/// What happened between two samples of the same container, pod or node.
///
/// `previous` holds the last reading of every column, `current` what this tick read. A counter that went backwards, was not
/// read before or is not read now is absent; levels are taken as they are. The length of a tier's interval is present only
/// where the tier was read both times, and its growth only together with it.
#[must_use]
pub fn observe(previous: &Sample, current: &Sample) -> Observation {
    let mut row = Observation::default();
    let interval = |tier| Some(current.at_us(tier)?.checked_sub(previous.at_us(tier)?)).flatten().filter(|&us| us > 0);
    let intervals = [Tier::Fast, Tier::Slow, Tier::Rare].map(interval);
    for (column, interval) in [Column::IntervalUs, Column::SlowIntervalUs, Column::RareIntervalUs].into_iter().zip(intervals) {
        row.set_if(column, interval);
    }
    for (column, value) in current.iter() {
        match column.reading() {
            Reading::Gauge => row.set(column, value),
            Reading::Delta => {
                if intervals[column.tier() as usize].is_some() {
                    row.set_if(column, previous.get(column).and_then(|before| value.checked_sub(before)));
                }
            }
        }
    }
    row
}

/// Adds the columns of a pod's network namespace to the row of the container that carries them.
///
/// Growth is taken only where the pod's interval agrees with the row's to a tenth, since a row has one interval per tier
/// and a rate over the wrong one would be a surge that never was.
pub fn carry(row: &mut Observation, pod: &Observation) {
    for (column, value) in pod.iter().filter(|(column, _)| column.scope() == Scope::Pod) {
        let interval = match column.tier() {
            Tier::Fast => Column::IntervalUs,
            Tier::Slow => Column::SlowIntervalUs,
            Tier::Rare => Column::RareIntervalUs,
        };
        if column.reading() == Reading::Delta {
            let Some(theirs) = pod.get(interval) else { continue };
            match row.get(interval) {
                None => row.set(interval, theirs),
                Some(ours) if ours.abs_diff(theirs) > ours.max(theirs) / 10 => continue,
                Some(_) => {}
            }
        }
        row.set(column, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(at_us: [Option<u64>; 3], readings: &[(Column, u64)]) -> Sample {
        let mut sample = Sample::default();
        for (tier, at_us) in [Tier::Fast, Tier::Slow, Tier::Rare].into_iter().zip(at_us) {
            if let Some(at_us) = at_us {
                sample.read_at(tier, at_us);
            }
        }
        for &(column, value) in readings {
            sample.set(column, value);
        }
        sample
    }

    fn any_sample() -> impl Strategy<Value = Sample> {
        let at = prop::option::of(0..u64::MAX);
        ((at.clone(), at.clone(), at), prop::collection::vec((0..Column::COUNT, any::<u64>()), 0..60)).prop_map(
            |((fast, slow, rare), pairs)| {
                let pairs: Vec<_> = pairs.into_iter().map(|(place, value)| (Column::ALL[place], value)).collect();
                sample([fast, slow, rare], &pairs)
            },
        )
    }

    #[test]
    fn growth_is_over_the_interval_of_its_own_tier() {
        let before = sample([Some(4_000_000), Some(0), None], &[(Column::CpuUsageUs, 100), (Column::TcpActiveOpens, 10)]);
        let after = sample(
            [Some(5_000_000), Some(5_000_000), None],
            &[(Column::CpuUsageUs, 350), (Column::TcpActiveOpens, 1_010), (Column::PidsCurrent, 3)],
        );

        let row = observe(&before, &after);

        assert_eq!(row.get(Column::IntervalUs), Some(1_000_000));
        assert_eq!(row.get(Column::SlowIntervalUs), Some(5_000_000));
        assert_eq!(row.get(Column::RareIntervalUs), None);
        assert_eq!(row.get(Column::CpuUsageUs), Some(250));
        assert_eq!(row.get(Column::TcpActiveOpens), Some(1_000));
        assert_eq!(row.get(Column::PidsCurrent), Some(3));
    }

    #[test]
    fn a_counter_that_went_backwards_is_absent() {
        let before = sample([Some(0), None, None], &[(Column::CpuUsageUs, 100)]);
        let after = sample([Some(1), None, None], &[(Column::CpuUsageUs, 99)]);

        assert_eq!(observe(&before, &after).get(Column::CpuUsageUs), None);
    }

    #[test]
    fn a_new_container_counts_from_zero() {
        let before = Sample::before_birth(Some(1_000_000), None);
        let after = sample([Some(2_000_000), Some(2_000_000), None], &[(Column::CpuUsageUs, 40), (Column::PageFaults, 9)]);

        let row = observe(&before, &after);

        assert_eq!((row.get(Column::CpuUsageUs), row.get(Column::IntervalUs)), (Some(40), Some(1_000_000)));
        assert_eq!(row.get(Column::PageFaults), None, "no slow reading came before");
    }

    #[test]
    fn traffic_of_another_interval_is_not_carried() {
        let pod = observe(
            &sample([Some(0), None, None], &[(Column::NetRxBytes, 0)]),
            &sample([Some(1_000_000), None, None], &[(Column::NetRxBytes, 500)]),
        );
        let mut short = observe(&sample([Some(900_000 - 200_000), None, None], &[]), &sample([Some(1_000_000), None, None], &[]));
        let mut same = observe(&sample([Some(10), None, None], &[]), &sample([Some(1_000_010), None, None], &[]));

        carry(&mut short, &pod);
        carry(&mut same, &pod);

        assert_eq!(short.get(Column::NetRxBytes), None);
        assert_eq!(same.get(Column::NetRxBytes), Some(500));
    }

    proptest! {
        #[test]
        fn no_delta_is_more_than_the_counter_and_absent_stays_absent(before in any_sample(), after in any_sample()) {
            let row = observe(&before, &after);

            for (column, value) in row.iter().filter(|(column, _)| column.reading() == Reading::Delta) {
                let (old, new) = (before.get(column).unwrap(), after.get(column).unwrap());
                prop_assert!(new >= old && value == new - old);
            }
            for &column in Column::ALL {
                let interval = matches!(column, Column::IntervalUs | Column::SlowIntervalUs | Column::RareIntervalUs);
                prop_assert!(interval || after.get(column).is_some() || row.get(column).is_none());
            }
        }

        #[test]
        fn carrying_never_panics_and_brings_only_pod_columns(before in any_sample(), after in any_sample()) {
            let pod = observe(&before, &after);
            let mut row = Observation::default();

            carry(&mut row, &pod);

            prop_assert!(row.get(Column::CpuUsageUs).is_none() && row.get(Column::NodeForks).is_none());
        }
    }
}
