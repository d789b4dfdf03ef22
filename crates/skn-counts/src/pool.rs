use skn_artifact::names::kind;

/// What is taken of a neuron's activations over one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pool {
    /// Each prompt position's: `[L, P, F]`.
    Position,
    /// The mean over the text's own tokens, `<s>` and `</s>` included: `[L, F]`. Summed in f64 in the order of
    /// positions, rounded to f32.
    Mean,
    /// The maximum over the same tokens: `[L, F]`.
    Max,
    /// That of the last of the same tokens: `[L, F]`.
    Last,
}

impl Pool {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Position, Self::Mean, Self::Max, Self::Last];

    /// What stands for it in names of files: nothing, `mean`, `max` or `last`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Position => "",
            Self::Mean => "mean",
            Self::Max => "max",
            Self::Last => "last",
        }
    }

    /// The name of the file of averages, without extension, which is its kind too: `train_avg`, `train_mean_avg`,
    /// `train_max_avg`, `train_last_avg`.
    pub fn average_file(self) -> &'static str {
        match self {
            Self::Position => kind::AVERAGE,
            Self::Mean => kind::MEAN_AVERAGE,
            Self::Max => kind::MAX_AVERAGE,
            Self::Last => kind::LAST_AVERAGE,
        }
    }

    /// The name of the file of counts on a split, without extension: `dev_perf`, `dev_mean_perf`, `test_max_perf`.
    pub fn performance_file(self, split: &str) -> String {
        format!("{split}_{}", self.performance_kind())
    }

    /// What a file of counts says it is (`skn.kind`).
    pub fn performance_kind(self) -> &'static str {
        match self {
            Self::Position => kind::PERFORMANCE,
            Self::Mean => kind::MEAN_PERFORMANCE,
            Self::Max => kind::MAX_PERFORMANCE,
            Self::Last => kind::LAST_PERFORMANCE,
        }
    }

    /// Whether a text's activations become one for each neuron.
    pub fn is_of_text(self) -> bool {
        self != Self::Position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_names_of_the_run_folder() {
        assert_eq!(Pool::Position.performance_file("dev"), "dev_perf");
        assert_eq!(Pool::Mean.performance_file("test"), "test_mean_perf");
        assert_eq!(Pool::Max.average_file(), "train_max_avg");
    }
}
