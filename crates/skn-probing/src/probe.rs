use std::fmt;
use std::str::FromStr;

use skn_artifact::did_you_mean;
use skn_counts::Pool;

use crate::error::ProbingError;

/// What `--probe_type` asks for.
///
/// ```
/// use skn_probing::{Pool, ProbeType};
///
/// assert_eq!("acc_mean".parse::<ProbeType>()?.pool(), Some(Pool::Mean));
/// assert_eq!(ProbeType::all().map(|probe| probe.name()).join(","), "acc,acc_mean,acc_max,acc_last,pos,top,prompt_act,speed");
/// # Ok::<(), skn_probing::ProbingError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ProbeType {
    /// `acc`: predictivity of every neuron at every prompt position.
    Acc,
    /// `acc_mean`: predictivity of every neuron's mean over a text's tokens.
    AccMean,
    /// `acc_max`: predictivity of every neuron's maximum over a text's tokens.
    AccMax,
    /// `acc_last`: predictivity of every neuron at a text's last token.
    AccLast,
    /// `pos`: activations of one neuron at the prompt positions.
    Pos,
    /// `top`: the texts that excite the best neurons most.
    Top,
    /// `prompt_act`: activations at the `<mask>` row for an empty text.
    PromptAct,
    /// `speed`: accuracy and time of inference.
    Speed,
}

impl ProbeType {
    /// Every probe.
    pub fn all() -> [Self; 8] {
        [
            Self::Acc,
            Self::AccMean,
            Self::AccMax,
            Self::AccLast,
            Self::Pos,
            Self::Top,
            Self::PromptAct,
            Self::Speed,
        ]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccMean => "acc_mean",
            Self::AccMax => "acc_max",
            Self::AccLast => "acc_last",
            Self::Pos => "pos",
            Self::Top => "top",
            Self::PromptAct => "prompt_act",
            Self::Speed => "speed",
        }
    }

    /// What it takes of a text's activations, if it is a probe of predictivity.
    pub fn pool(self) -> Option<Pool> {
        match self {
            Self::Acc => Some(Pool::Position),
            Self::AccMean => Some(Pool::Mean),
            Self::AccMax => Some(Pool::Max),
            Self::AccLast => Some(Pool::Last),
            Self::Pos | Self::Top | Self::PromptAct | Self::Speed => None,
        }
    }
}

impl fmt::Display for ProbeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProbeType {
    type Err = ProbingError;

    fn from_str(name: &str) -> Result<Self, ProbingError> {
        Self::all().into_iter().find(|probe| probe.name() == name).ok_or_else(|| ProbingError::UnknownProbe {
            expected: expected(name, Self::all().map(Self::name)),
            found: name.to_owned(),
        })
    }
}

/// The names that there are, and the one that was probably meant.
pub(crate) fn expected<const N: usize>(wanted: &str, known: [&str; N]) -> String {
    let near = did_you_mean(wanted, known);
    known.join(", ") + &near.map_or_else(String::new, |near| format!("; {near}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for probe in ProbeType::all() {
            assert_eq!(probe.to_string().parse::<ProbeType>().unwrap(), probe);
        }
        let error = "ACC".parse::<ProbeType>().unwrap_err();
        let expected = "probe `ACC`: expected one of acc, acc_mean, acc_max, acc_last, pos, top, prompt_act, speed; did you mean acc";
        assert_eq!(error.to_string(), expected);
    }
}
