use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::{Result, TuneError};

/// Adam (Kingma and Ba, 2015), bias-corrected, epsilon outside the root, with decoupled weight decay (Loshchilov and
/// Hutter, 2019):
///
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `p = p (1 - rate decay) - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + epsilon)` at the t-th update, t from 1.
///
/// Unlike candle's own, its state can be read and put back.
#[derive(Clone, Debug)]
pub struct Adam {
    settings: AdamSettings,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

/// The constants of [`Adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Decay of the mean of gradients; default 0.9.
    pub beta1: f64,
    /// Decay of the mean of squared gradients; default 0.98.
    pub beta2: f64,
    /// Added to the root; default 1e-6.
    pub epsilon: f64,
    /// Decoupled weight decay of every parameter; default 0.
    pub weight_decay: f64,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.98, epsilon: 1e-6, weight_decay: 0.0 }
    }
}

/// What [`Adam`] remembers of a parameter; both have its shape.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Decaying mean of its gradients.
    pub mean: Tensor,
    /// Decaying mean of their squares.
    pub variance: Tensor,
}

impl Adam {
    /// An optimiser that has not seen a gradient.
    pub fn new(settings: AdamSettings) -> Self {
        Self { settings, step: 0, moments: BTreeMap::new() }
    }

    /// An optimiser that has made `step` updates and remembers `moments`.
    pub fn restore(settings: AdamSettings, step: u64, moments: BTreeMap<String, Moments>) -> Self {
        Self { settings, step, moments }
    }

    /// Updates made so far.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// What is remembered of each parameter, by name.
    pub fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// Makes one update of all `variables` with their `gradients` times `scale` (see
    /// [`clip_factor`](crate::clip_factor)).
    ///
    /// # Errors
    /// If a variable has no gradient, or one of another shape.
    pub fn update(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &BTreeMap<String, Tensor>,
        scale: f64,
        learning_rate: f64,
    ) -> Result<()> {
        if let Some(name) = variables.keys().find(|name| !gradients.contains_key(*name)) {
            return Err(TuneError::NoGradient { step: self.step, parameter: name.clone() });
        }
        self.step += 1;
        for (name, variable) in variables {
            if variable.elem_count() > 0 {
                self.update_one(name, variable, &(&gradients[name] * scale)?, learning_rate)?;
            }
        }
        Ok(())
    }

    fn update_one(&mut self, name: &str, variable: &Var, gradient: &Tensor, rate: f64) -> Result<()> {
        let AdamSettings { beta1, beta2, epsilon, weight_decay } = self.settings;
        let (mean, variance) = match self.moments.get(name) {
            Some(moments) => (moments.mean.clone(), moments.variance.clone()),
            None => (variable.zeros_like()?, variable.zeros_like()?),
        };
        let mean = ((mean * beta1)? + (gradient * (1.0 - beta1))?)?;
        let variance = ((variance * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let corrected = (&mean / self.correction(beta1))?;
        let root = ((&variance / self.correction(beta2))?.sqrt()? + epsilon)?;
        let decayed = (variable.as_tensor() * (1.0 - rate * weight_decay))?;
        let value = (decayed - ((corrected / root)? * rate)?)?;
        variable.set(&value.detach())?;
        let moments = Moments { mean: mean.detach(), variance: variance.detach() };
        self.moments.insert(name.to_owned(), moments);
        Ok(())
    }

    /// `1 - beta^t`: a moment's weight that its start at 0 has not taken.
    fn correction(&self, beta: f64) -> f64 {
        // `powi` multiplies; `powf` is the system's, and differs between systems.
        1.0 - beta.powi(i32::try_from(self.step).unwrap_or(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn variable(value: f32) -> BTreeMap<String, Var> {
        BTreeMap::from([("p".to_string(), Var::new(&[value], &Device::Cpu).unwrap())])
    }

    fn gradient(value: f32) -> BTreeMap<String, Tensor> {
        BTreeMap::from([("p".to_string(), Tensor::new(&[value], &Device::Cpu).unwrap())])
    }

    fn value(variables: &BTreeMap<String, Var>) -> f64 {
        f64::from(variables["p"].to_vec1::<f32>().unwrap()[0])
    }

    #[test]
    fn two_updates_by_hand() {
        let variables = variable(1.0);
        let mut adam = Adam::new(AdamSettings::default());
        adam.update(&variables, &gradient(0.5), 1.0, 0.1).unwrap();
        // m = 0.05, corrected 0.5; v = 0.005, corrected 0.25: 1 - 0.1 * 0.5 / (0.5 + 1e-6)
        assert!((value(&variables) - (1.0 - 0.05 / 0.500001)).abs() < 1e-7);
        let before = value(&variables);
        adam.update(&variables, &gradient(-1.0), 1.0, 0.1).unwrap();
        // m = 0.9 * 0.05 - 0.1 = -0.055, over 1 - 0.81; v = 0.98 * 0.005 + 0.02 = 0.0249, over 1 - 0.9604
        let change = 0.1 * (-0.055 / 0.19) / ((0.0249f64 / 0.0396).sqrt() + 1e-6);
        assert!((value(&variables) - (before - change)).abs() < 1e-7);
        assert_eq!(adam.step(), 2);
    }

    #[test]
    fn epsilon_stands_outside_the_root() {
        let variables = variable(0.0);
        let settings = AdamSettings { epsilon: 1.0, ..Default::default() };
        Adam::new(settings).update(&variables, &gradient(3.0), 1.0, 1.0).unwrap();
        assert!((value(&variables) + 3.0 / 4.0).abs() < 1e-6, "inside it would be 3 / sqrt(10)");
    }

    #[test]
    fn a_rate_of_0_fills_the_moments_and_changes_nothing() {
        let variables = variable(1.0);
        let mut adam = Adam::new(AdamSettings::default());
        adam.update(&variables, &gradient(2.0), 0.5, 0.0).unwrap();
        assert_eq!(value(&variables), 1.0);
        let moments = &adam.moments()["p"];
        assert!(
            (moments.mean.to_vec1::<f32>().unwrap()[0] - 0.1).abs() < 1e-8,
            "the scale halves the gradient"
        );
        assert!((moments.variance.to_vec1::<f32>().unwrap()[0] - 0.02).abs() < 1e-8);
    }

    #[test]
    fn weight_decay_is_decoupled() {
        let variables = variable(2.0);
        let settings = AdamSettings { weight_decay: 0.5, ..Default::default() };
        Adam::new(settings).update(&variables, &gradient(0.0), 1.0, 0.1).unwrap();
        assert!((value(&variables) - 1.9).abs() < 1e-7);
    }

    #[test]
    fn a_restored_optimiser_goes_on_with_the_same_bits() {
        let (straight, resumed) = (variable(1.0), variable(1.0));
        let mut adam = Adam::new(AdamSettings::default());
        let mut first = Adam::new(AdamSettings::default());
        for (step, g) in [0.3f32, -0.7, 0.2].into_iter().enumerate() {
            adam.update(&straight, &gradient(g), 0.9, 0.01).unwrap();
            let settings = AdamSettings::default();
            let mut second = Adam::restore(settings, first.step(), first.moments().clone());
            second.update(&resumed, &gradient(g), 0.9, 0.01).unwrap();
            assert_eq!(value(&straight).to_bits(), value(&resumed).to_bits(), "step {step}");
            first = second;
        }
    }

    #[test]
    fn a_missing_gradient_is_named() {
        let error = Adam::new(AdamSettings::default()).update(&variable(1.0), &BTreeMap::new(), 1.0, 0.1);
        assert!(error.unwrap_err().to_string().contains("`p`"));
    }
}
