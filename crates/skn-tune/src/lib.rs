//! Training of soft prompts, biases and adapters on a frozen RoBERTa, and of whole models: Adam, schedule, clipping,
//! metrics, checkpoints and exact resume.
//!
//! - [`train`] is the whole loop: it leaves the best parameters, a line of metrics for each evaluation, and
//!   checkpoints from which a resumed training goes on bit for bit.
//! - [`step_gradients`] and [`pretrain_step`] give loss and gradients of one step, the same bits for any number of
//!   threads; [`gradient_norm`], [`clip_factor`], [`Schedule`] and [`Adam`] turn them into an update.
//!
//! ```
//! use std::collections::BTreeMap;
//! use candle_core::{Device, Tensor, Var};
//! use skn_tune::{Adam, AdamSettings, Schedule, clip_factor, cross_entropy, gradient_norm};
//!
//! // One weight learns to tell two classes apart.
//! let weight = BTreeMap::from([("weight".to_string(), Var::new(&[[0f32, 0.0]], &Device::Cpu)?)]);
//! let (mut adam, schedule) = (Adam::new(AdamSettings::default()), Schedule::new(20, 0.1)?);
//! let mut losses = Vec::new();
//! for step in 0..20 {
//!     let loss = cross_entropy(&weight["weight"], &[1])?.sum_all()?;
//!     let mut store = loss.backward()?;
//!     let gradient: Option<Tensor> = store.remove(&weight["weight"]);
//!     let gradients = gradient.map(|gradient| ("weight".to_string(), gradient)).into_iter().collect();
//!     let scale = clip_factor(gradient_norm(step, &gradients)?, 1.0);
//!     adam.update(&weight, &gradients, scale, 0.1 * schedule.factor(step))?;
//!     losses.push(loss.to_scalar::<f32>()?);
//! }
//! assert!(losses[19] < 0.3 * losses[0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adam;
mod checkpoint;
mod clip;
mod error;
mod fingerprint;
mod loss;
mod options;
mod schedule;
mod step;
mod train;
mod train_run;

pub use crate::adam::{Adam, AdamSettings, Moments};
pub use crate::clip::{ClipScope, clip_factor, gradient_norm};
pub use crate::error::{Result, TuneError};
pub use crate::loss::cross_entropy;
pub use crate::options::{TOKEN_BUDGET, TrainData, TrainOptions};
pub use crate::schedule::Schedule;
pub use crate::step::{MaskedBatch, PretrainStep, Step, StepGradients, pretrain_step, step_gradients};
pub use crate::train::{Outcome, Stopped, check_resume, train};
pub use crate::train_run::{Beginning, TrainRun};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
