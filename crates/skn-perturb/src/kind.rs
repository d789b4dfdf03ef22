use std::fmt;
use std::str::FromStr;

use crate::error::{PerturbError, Result};

/// The name of an edit, as it stands on a command line and in a result file.
///
/// ```
/// use skn_perturb::EditKind;
///
/// assert_eq!("zero".parse(), Ok(EditKind::Zero));
/// assert_eq!(EditKind::Gaussian.to_string(), "gaussian");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EditKind {
    /// `gaussian`: noise is added.
    #[default]
    Gaussian,
    /// `zero`: activations become 0.
    Zero,
    /// `mean`: activations become their mean.
    Mean,
}

impl EditKind {
    /// Every edit.
    pub const ALL: [Self; 3] = [Self::Gaussian, Self::Zero, Self::Mean];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gaussian => "gaussian",
            Self::Zero => "zero",
            Self::Mean => "mean",
        }
    }
}

impl fmt::Display for EditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EditKind {
    type Err = PerturbError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| PerturbError::UnknownEdit {
            expected: Self::ALL.map(Self::name).join(", "),
            found: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in EditKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        let error = "Zero".parse::<EditKind>().unwrap_err();
        assert_eq!(error.to_string(), "edit `Zero`: expected one of gaussian, zero, mean");
    }
}
