//! What making the demo takes, from some of its steps.

use std::time::Instant;

use skn_probing::Progress;

use crate::error::{Result, SessionError};
use crate::options::PretrainDemo;
use crate::rehearsal::{Rehearsal, seconds_since};

/// The least time that steps are measured for, and the most steps.
const SECONDS: f64 = 0.5;
const STEPS: u64 = 16;

/// Times some steps, spread over the training, whose documents grow, and one look at the label words that the model names; what that
/// look found.
///
/// # Errors
/// As a step or the look; if the progress says to stop.
pub(super) fn rehearse<T>(
    rehearsal: &Rehearsal,
    progress: &dyn Progress,
    recipe: &PretrainDemo,
    step: &mut dyn FnMut(u64) -> Result<()>,
    look: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let PretrainDemo { steps, batch, report_every, .. } = *recipe;
    let most = steps.min(STEPS);
    if most > 0 {
        // The first one makes what the others find.
        step(0)?;
    }
    let (began, mut done) = (Instant::now(), 0);
    while done < most && (done == 0 || seconds_since(began) < SECONDS) {
        if progress.cancelled() {
            return Err(stopped(done, steps));
        }
        step(spread(done, steps))?;
        done += 1;
    }
    let measured = seconds_since(began);
    let texts = (steps * batch) as f64;
    rehearsal.note("pre-training", texts, measured, measured / done.max(1) as f64 * steps as f64);
    let began = Instant::now();
    let found = look()?;
    let measured = seconds_since(began);
    // At the first step, every so many, and at the end.
    let looks = (steps.div_ceil(report_every.max(1)) + 1) as f64;
    rehearsal.note("naming label words", 0.0, measured, looks * measured);
    Ok(found)
}

/// Step number `place` of those that are taken, far from the ones before it: the bits of the place, mirrored, are the share of all steps
/// (van der Corput 1935).
fn spread(place: u64, steps: u64) -> u64 {
    let share = place.reverse_bits() as f64 / 2f64.powi(64);
    ((share * steps as f64) as u64).min(steps.saturating_sub(1))
}

/// What is told of a training that was told to stop.
pub(super) fn stopped(step: u64, steps: u64) -> SessionError {
    SessionError::Interrupted(format!("step {step} of {steps}; nothing of the model is written"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skn_probing::Silent;

    use super::*;

    #[test]
    fn steps_are_spread_and_reckoned_for_all() {
        let rehearsal = Rehearsal::new(1, false, Arc::new(Silent));
        let recipe = PretrainDemo { steps: 100, batch: 3, report_every: 40, ..PretrainDemo::default() };
        let mut taken = Vec::new();
        let mut step = |step| {
            taken.push(step);
            Ok(())
        };
        assert_eq!(rehearse(&rehearsal, &Silent, &recipe, &mut step, || Ok(7)).unwrap(), 7);
        assert_eq!(taken[..6], [0, 0, 50, 25, 75, 12], "the first one is not timed");
        assert_eq!(taken.len(), 17);
        let passes = rehearsal.seen().passes.clone();
        assert_eq!(passes[0].texts, 300.0);
        assert!((passes[0].seconds / passes[0].measured - 100.0 / 16.0).abs() < 1e-9);
        // Steps 0, 40 and 80, and the end.
        assert!((passes[1].seconds / passes[1].measured - 4.0).abs() < 1e-9);
    }

    #[test]
    fn no_steps_take_no_time() {
        let rehearsal = Rehearsal::new(1, false, Arc::new(Silent));
        let recipe = PretrainDemo { steps: 0, ..PretrainDemo::default() };
        let mut step = |_| panic!("there is none");
        rehearse(&rehearsal, &Silent, &recipe, &mut step, || Ok(())).unwrap();
        assert_eq!(rehearsal.seen().passes[0].seconds, 0.0);
    }
}
