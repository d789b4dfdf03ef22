//! Edits of activations as data, the hook that applies them, and random controls.
//!
//! A [`Perturbation`] says what happens to which neurons: they are held at zero ([`Edit::Zero`]) or at their mean
//! ([`Edit::Mean`]), or noise is added ([`Edit::Gaussian`]). Its [`hook`](Perturbation::hook) goes into
//! [`LanguageModel::forward`](skn_model::LanguageModel::forward); the model itself is never changed. What the same edit does to
//! [`random_control`] neurons, or to [`matched_control`] neurons that vary as much, tells how much of its effect is due to the
//! choice of neurons.
//!
//! ```
//! use skn_perturb::{Edit, Perturbation, random_control};
//!
//! let widths = [8, 8]; // FFN widths of a model of two layers
//! let skill = vec![vec![], vec![2, 5]];
//! let edit = Edit::Gaussian { alpha: 0.1, seed: 42, per_token: false };
//! let perturbation = Perturbation::new(edit, skill.clone(), &widths)?;
//! let hook = perturbation.hook(); // one for each batch
//! # let _: &dyn skn_model::Hook = &hook;
//!
//! let control = random_control(&skill, &widths, 42, 0)?;
//! assert!(control[0].is_empty() && control[1].len() == 2);
//! assert!(!control[1].contains(&2) && !control[1].contains(&5));
//! # Ok::<(), skn_perturb::PerturbError>(())
//! ```

mod control;
mod edit;
mod error;
mod finite;
mod hook;
mod kind;
mod matched;
mod means;
mod noise_table;
mod perturbation;
mod text_noise;

pub use crate::control::random_control;
pub use crate::edit::Edit;
pub use crate::error::{PerturbError, Result};
pub use crate::hook::PerturbHook;
pub use crate::kind::EditKind;
pub use crate::matched::{matched_control, variance_ratio};
pub use crate::means::mean_over_positions;
pub use crate::noise_table::NoiseTable;
pub use crate::perturbation::Perturbation;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
