use std::fmt;
use std::str::FromStr;

use crate::error::ModelError;
use crate::site::Site;

/// Which number of a neuron is read: of a plain FFN its activation, of a gated one the product that its second matrix is
/// multiplied with, or one of the two factors.
///
/// ```
/// use skn_model::{NeuronSite, Site};
///
/// let site: NeuronSite = "gate".parse()?;
/// assert_eq!((site.at(3), site.name()), (Site::FfnGate { layer: 3 }, "gate"));
/// assert_eq!(NeuronSite::default(), NeuronSite::Product);
/// # Ok::<(), skn_model::ModelError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NeuronSite {
    /// `act(gate) * up`, or a plain FFN's activation: what can be edited and pruned
    #[default]
    Product,
    /// `act(gate)`
    Gate,
    /// `up`
    Up,
}

impl NeuronSite {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Product, Self::Gate, Self::Up];

    /// Its name: product, gate or up.
    pub fn name(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Gate => "gate",
            Self::Up => "up",
        }
    }

    /// Where it is in a layer's pass.
    pub fn at(self, layer: usize) -> Site {
        match self {
            Self::Product => Site::FfnAct { layer },
            Self::Gate => Site::FfnGate { layer },
            Self::Up => Site::FfnUp { layer },
        }
    }
}

impl fmt::Display for NeuronSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NeuronSite {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let known = Self::ALL.into_iter().find(|site| site.name() == name);
        known.ok_or_else(|| ModelError::input("site", "product, gate or up", name))
    }
}
