use std::fmt;
use std::str::FromStr;

use crate::error::ProbingError;

/// What `--probe_type` asks for.
///
/// ```
/// use skn_probing::{Pool, ProbeType};
///
/// assert_eq!("acc_mean".parse::<ProbeType>()?.pool(), Some(Pool::Mean));
/// assert_eq!(ProbeType::all().map(|probe| probe.name()).join(","), "acc,acc_mean,acc_max,pos,prompt_act,speed");
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
    /// `pos`: activations of one neuron at the prompt positions.
    Pos,
    /// `prompt_act`: activations at the `<mask>` row for an empty text.
    PromptAct,
    /// `speed`: accuracy and time of inference.
    Speed,
}

impl ProbeType {
    /// Every probe.
    pub fn all() -> [Self; 6] {
        [Self::Acc, Self::AccMean, Self::AccMax, Self::Pos, Self::PromptAct, Self::Speed]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccMean => "acc_mean",
            Self::AccMax => "acc_max",
            Self::Pos => "pos",
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
            Self::Pos | Self::PromptAct | Self::Speed => None,
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
            expected: Self::all().map(Self::name).join(", "),
            found: name.to_owned(),
        })
    }
}

/// What is taken of a neuron's activations over one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Pool {
    /// Each prompt position's: `[L, P, F]`.
    Position,
    /// The mean over the text's own tokens, `<s>` and `</s>` included: `[L, F]`. Summed in f64 in the order of
    /// positions, rounded to f32.
    Mean,
    /// The maximum over the same tokens: `[L, F]`.
    Max,
}

impl Pool {
    /// The name of the file of averages, without extension: `train_avg`, `train_mean_avg`, `train_max_avg`.
    pub fn average_file(self) -> &'static str {
        match self {
            Self::Position => "train_avg",
            Self::Mean => "train_mean_avg",
            Self::Max => "train_max_avg",
        }
    }

    /// The name of the file of counts on a split, without extension: `dev_perf`, `dev_mean_perf`, `test_max_perf`.
    pub fn performance_file(self, split: &str) -> String {
        format!("{split}_{}", self.performance_kind())
    }

    /// What a file of counts says it is (`skn.kind`).
    pub(crate) fn performance_kind(self) -> &'static str {
        match self {
            Self::Position => "perf",
            Self::Mean => "mean_perf",
            Self::Max => "max_perf",
        }
    }
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
        let expected = "probe `ACC`: expected one of acc, acc_mean, acc_max, pos, prompt_act, speed";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn files_have_the_names_of_the_run_folder() {
        assert_eq!(Pool::Position.performance_file("dev"), "dev_perf");
        assert_eq!(Pool::Mean.performance_file("test"), "test_mean_perf");
        assert_eq!(Pool::Max.average_file(), "train_max_avg");
    }
}
