use std::fmt;
use std::str::FromStr;

use skn_model::NeuronSite;

use crate::error::ProbingError;
use crate::probe::expected;
use crate::statistic::SlopeOf;

/// A way to order neurons by how much they have to do with the label. z is a neuron's activation, y whether the text is of class 1;
/// of more than two classes, of one class against the rest, and the best class counts. A neuron counts at its best position. All
/// are measured on dev, in one pass (those that need gradients in passes of their own), with averages, extremes and deviations of train.
///
/// ```
/// use skn_probing::Ranking;
///
/// assert_eq!("auc".parse::<Ranking>()?, Ranking::Auc);
/// assert_eq!(Ranking::MeanDifference.name(), "mean_difference");
/// # Ok::<(), skn_probing::ProbingError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Ranking {
    /// How often `z > mean of z over train` tells y, or that it does not: max(accuracy, 1 - accuracy); balanced accuracy of more than
    /// two classes, and where the larger of two has more than 55 % of the texts (Wang et al. 2022, "Finding Skill Neurons in
    /// Pre-trained Transformer-based Language Models"). As published it is accuracy of two classes
    /// whatever their shares. Its file says which (`skn.score`).
    Predictivity,
    /// The area under the ROC curve of z for y: |auc - 1/2| (Mann and Whitney 1947). From a histogram of 32 bins: 15 of one width from
    /// the smallest activation of train to the mean, and 15 from there to the largest, each wider than the one before; a file says how far each area is from the exact one at most:
    /// a half of the share of pairs of texts that share a bin. It holds the areas at all positions too, and so does a file of test, by which
    /// selecting can score neurons (score auc).
    Auc,
    /// |mean of z where y - mean of z elsewhere| (probeless ranking: Antverg and Belinkov 2022, "On the Pitfalls of Analyzing
    /// Individual Neurons in Language Models"). Divided by the deviation over train it is Cohen's d (Cohen 1988), which stands
    /// beside it; 0 of a deviation whose square is below [`LEAST_VARIANCE`](skn_stats::LEAST_VARIANCE).
    MeanDifference,
    /// |Pearson's r| of z with y, or with any number of each text; 0 where z's variance is below
    /// [`LEAST_VARIANCE`](skn_stats::LEAST_VARIANCE) (Pearson 1895; of neurons: Dalvi et al. 2019, "What Is One Grain of Sand in the Desert?").
    Correlation,
    /// How uneven among classes the texts are for which the activated gate is above 0: ln C - the entropy of the shares p of the classes'
    /// texts, divided by their sum (Tang et al. 2024, "Language-Specific Neurons: The Key to Multilingual Capabilities in Large Language
    /// Models"). Neurons without a p above the 95th percentile of all are left out; where that is the largest p, those
    /// without it. They have entropy ln C, as dead neurons have, and score 0.
    Lape,
    /// The mean over texts of |z| times the norm of the neuron's column of the second matrix, over the norm of the FFN's output: what a
    /// neuron contributes to it (Zhang et al. 2024, "ReLU^2 Wins").
    Cett,
    /// The mean over texts of |z dL/dz|, L the loss of the answer: what the loss changes by when the neuron goes, to first order (Molchanov et
    /// al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference"; Michel et al. 2019, "Are Sixteen Heads
    /// Really Better than One?"). Needs a way back through the model.
    Taylor,
    /// How often the sign of z dp/dz tells y, or that it does not, p the probability of class 1: max(share, 1 - share), the share the mean
    /// of those of the class's texts and of the others, so that a neuron without a slope has 1/2 whatever the classes' sizes (neuron
    /// empirical gradients: Zhao et al. 2024, "Neuron Empirical Gradient"). Needs a way back through the model.
    Gradient,
    /// The mean over texts of |z times the mean over k = 1 .. 20 of dp/dz at k/20 z|, p the probability of the text's class, all neurons
    /// that are read held at k/20 of what they are (Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks"; of neurons: Dai
    /// et al. 2022, "Knowledge Neurons in Pretrained Transformers"). Needs 21 passes, 20 of them back.
    IntegratedGradients,
    /// The magnitude of the neuron's weight in a logistic regression with L1-regularisation on all neurons of its layer
    /// ([`l1`](crate::l1); Tibshirani 1996; of neurons: Dalvi et al. 2019); 0 of neurons of such a small variance. Reads at most 4,096 texts of train, in a pass of its own.
    L1,
    /// Numbers of chance, keyed by seed, layer and neuron: the control.
    Random,
}

impl Ranking {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Predictivity,
        Self::Auc,
        Self::MeanDifference,
        Self::Correlation,
        Self::Lape,
        Self::Cett,
        Self::Taylor,
        Self::Gradient,
        Self::IntegratedGradients,
        Self::L1,
        Self::Random,
    ];

    /// Its name, which is its file's too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Predictivity => "predictivity",
            Self::Auc => "auc",
            Self::MeanDifference => "mean_difference",
            Self::Correlation => "correlation",
            Self::Lape => "lape",
            Self::Cett => "cett",
            Self::Taylor => "taylor",
            Self::Gradient => "gradient",
            Self::IntegratedGradients => "integrated_gradients",
            Self::L1 => "l1",
            Self::Random => "random",
        }
    }

    /// Whether it says one class of each neuron, of more than two.
    pub(super) fn is_of_a_class(self) -> bool {
        !matches!(self, Self::Cett | Self::Taylor | Self::IntegratedGradients | Self::L1 | Self::Random)
    }

    /// Whether it needs gradients ([`collect_gradients`](crate::collect_gradients)).
    pub fn needs_gradients(self) -> bool {
        !self.slopes().is_empty()
    }

    /// What its gradients are of, if it needs any: one kind of them.
    pub(super) fn slopes(self) -> &'static [SlopeOf] {
        match self {
            Self::Taylor => &[SlopeOf::Loss],
            Self::Gradient => &[SlopeOf::EachClass],
            Self::IntegratedGradients => &[SlopeOf::OwnClass],
            _ => &[],
        }
    }

    /// Whether it is taken in the one pass over dev, text by text.
    pub fn streams(self) -> bool {
        !self.needs_gradients() && self != Self::L1
    }

    /// In how many steps gradients are integrated, if they are.
    pub fn steps(self) -> Option<usize> {
        (self == Self::IntegratedGradients).then_some(20)
    }

    /// Which number of a gated FFN's neuron it reads, where that is not the one that the pass reads.
    pub(super) fn site(self) -> Option<NeuronSite> {
        match self {
            Self::Lape => Some(NeuronSite::Gate),
            Self::Cett | Self::Taylor | Self::Gradient | Self::IntegratedGradients => {
                Some(NeuronSite::Product)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Ranking {
    type Err = ProbingError;

    fn from_str(name: &str) -> Result<Self, ProbingError> {
        Self::ALL.into_iter().find(|ranking| ranking.name() == name).ok_or_else(|| {
            let expected = format!("one of {}", expected(name, Self::ALL.map(Self::name)));
            ProbingError::mismatch("ranking", expected, name)
        })
    }
}
