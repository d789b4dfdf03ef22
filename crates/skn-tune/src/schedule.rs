use crate::error::{Result, TuneError};

/// The learning rate over the steps of a training: a linear warm-up, then a linear decay to 0.
///
/// With T steps in all and w = ratio T, *not rounded*, the factor of step s = 0, 1, .. is `s / max(1, w)` while
/// `s < w`, then `max(0, (T - s) / max(1, T - w))` (the published implementation's scheduler). So step 0 has rate 0
/// unless there is no warm-up at all.
///
/// ```
/// let schedule = skn_tune::Schedule::new(10, 0.2)?;
/// let factors: Vec<f64> = (0..5).map(|step| schedule.factor(step)).collect();
/// assert_eq!(factors, [0.0, 0.5, 1.0, 0.875, 0.75]);
/// # Ok::<(), skn_tune::TuneError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    total: u64,
    warmup: f64,
}

impl Schedule {
    /// For `total` steps, of which the share `ratio` (0 to 1) is warm-up.
    ///
    /// # Errors
    /// If `ratio` is not in that range.
    pub fn new(total: u64, ratio: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(TuneError::setting("warm-up", "a share from 0 to 1", ratio));
        }
        Ok(Self { total, warmup: ratio * total as f64 })
    }

    /// T: the number of steps.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What the learning rate is multiplied by at a step, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        let (step, total, warmup) = (step as f64, self.total as f64, self.warmup);
        if step < warmup {
            step / warmup.max(1.0)
        } else {
            ((total - step) / (total - warmup).max(1.0)).max(0.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_below_one_step_still_has_rate_0_at_step_0() {
        // The golden case: T = 24, w = 0.144.
        let schedule = Schedule::new(24, 0.006).unwrap();
        assert_eq!(schedule.factor(0), 0.0);
        assert!((schedule.factor(1) - 23.0 / 23.856).abs() < 1e-15);
        assert!((schedule.factor(23) - 1.0 / 23.856).abs() < 1e-15);
        assert_eq!(schedule.factor(24), 0.0);
        assert_eq!(schedule.factor(100), 0.0);
    }

    #[test]
    fn without_warm_up_it_begins_at_1() {
        let schedule = Schedule::new(4, 0.0).unwrap();
        assert_eq!([0, 1, 2, 3].map(|step| schedule.factor(step)), [1.0, 0.75, 0.5, 0.25]);
    }

    #[test]
    fn all_warm_up_never_decays() {
        let schedule = Schedule::new(4, 1.0).unwrap();
        assert_eq!([0, 1, 2, 3, 4].map(|step| schedule.factor(step)), [0.0, 0.25, 0.5, 0.75, 0.0]);
    }

    #[test]
    fn no_share_is_refused() {
        for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Schedule::new(10, ratio).unwrap_err().to_string().contains("warm-up"));
        }
    }
}
