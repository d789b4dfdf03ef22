use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use skn_model::Precision;

use super::text;

/// Where and how a session computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Compute {
    /// Where to compute; default [`DeviceChoice::Auto`].
    #[serde(with = "text")]
    pub device: DeviceChoice,
    /// Threads; the results are the same for any number. Default: as many as the machine has cores.
    #[serde(skip)]
    pub threads: Option<NonZeroUsize>,
    /// What the products of frozen weights are made in; default f32.
    #[serde(with = "precision")]
    pub precision: Precision,
}

impl Default for Compute {
    fn default() -> Self {
        Self { device: DeviceChoice::Auto, threads: None, precision: Precision::F32 }
    }
}

/// A device as a user names it: `auto`, `cpu`, `cuda` or `cuda:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// CUDA if the program has it and the machine too, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// A CUDA device by number
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => {
                number.parse().map(Self::Cuda).map_err(|_| format!("cuda:{number}: expected a device number"))
            }
            _ => Err("expected auto, cpu, cuda or cuda:N".into()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

mod precision {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use skn_model::Precision;

    pub(super) fn serialize<S: Serializer>(value: &Precision, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Precision, D::Error> {
        let name = String::deserialize(from)?;
        let known = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        known.ok_or_else(|| D::Error::custom(format!("precision {name}: expected f32, tf32 or bf16")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_in_the_original() {
        assert_eq!("cuda:1".parse(), Ok(DeviceChoice::Cuda(1)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!("gpu".parse::<DeviceChoice>().is_err() && "cuda:x".parse::<DeviceChoice>().is_err());
    }
}
