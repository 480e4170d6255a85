//! Whether the other side's values are right and only their times are not.

use crate::series::{Point, Series};

/// Shifts tried, milliseconds: up to this, in such steps.
const MOST_MS: i64 = 120_000;
const STEP_MS: i64 = 1_000;
/// Smaller ones are what stamps differ by anyhow.
const LEAST_MS: i64 = 5_000;
/// Steps of the other side that a shift must explain, and the share of what is to be explained that it may leave.
const LEAST_STEPS: usize = 3;
const LEFT: f64 = 0.25;
/// As they are, the steps must be apart by this share of what happened: a steady load looks the same at any time.
const APART: f64 = 0.2;

/// By how much the other side's times are late (early, if negative), milliseconds; `None` where they are not, or where nothing tells.
pub fn find(ours: &Series<'_>, theirs: &[Point], interval_ms: i64, floor: f64) -> Option<i64> {
    let as_they_are = misfit(ours, theirs, 0)?;
    let happened: f64 = theirs.windows(2).map(|pair| (pair[1].value - pair[0].value).abs()).sum();
    let seconds = (theirs[theirs.len() - 1].unix_ms - theirs[0].unix_ms) as f64 / 1e3;
    if as_they_are <= APART * happened + floor * seconds {
        return None;
    }
    let tried = (-MOST_MS / STEP_MS..=MOST_MS / STEP_MS).map(|step| step * STEP_MS).filter(|ms| ms.abs() >= LEAST_MS);
    let (misfit, ms) =
        tried.filter_map(|ms| Some((misfit(ours, theirs, ms)?, ms))).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.abs().cmp(&b.1.abs())))?;
    // What one step of the load is off by, a shift of a step more or less.
    (misfit <= LEFT * as_they_are && ms.abs() <= MOST_MS.max(interval_ms)).then_some(ms)
}

/// The sum of differences, step by step, if the other side's times were late by so much; `None` where ours has too little of that time.
fn misfit(ours: &Series<'_>, theirs: &[Point], late_ms: i64) -> Option<f64> {
    let mut steps = 0;
    let mut sum = 0.0;
    for pair in theirs.windows(2) {
        let (Some(before), Some(after)) = (ours.at(pair[0].unix_ms - late_ms), ours.at(pair[1].unix_ms - late_ms)) else { continue };
        steps += 1;
        sum += ((pair[1].value - pair[0].value) - (after - before)).abs();
    }
    // As if all of it were there: a shift must not win by comparing less.
    let all = theirs.len().saturating_sub(1);
    (steps >= LEAST_STEPS.max(all.div_ceil(2))).then(|| sum * all as f64 / f64::from(steps as u32))
}
