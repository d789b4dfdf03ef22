use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `RUN/info/<task>/evidence.json`: what speaks for a task's neurons and against chance. Predictivities are 0.5 to 1, by the
/// score that neurons are ranked by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What right answers come to: accuracy or balanced.
    pub score: String,
    /// The file of counts, by its name without extension: `dev_perf`.
    pub counts: String,
    /// Its hash: what follows says nothing of other counts.
    pub counts_sha256: String,
    /// All that was read in its folder, it too, by the names of files with their hashes; empty in records of older versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
    /// The one class, from 0, that neurons are ranked for, of more than two; nothing where all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// How many rules were tested: of live neurons, at each position, for each class.
    pub rules: u64,
    /// How many neurons have q of at most 0.05.
    pub discoveries: u64,
    /// How many neurons have a rule.
    pub neurons: u64,
    /// The best neurons, the best first.
    pub best: Vec<NeuronRecord>,
    /// What the best neuron has if labels are shuffled; nothing where there are no fire bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<ChanceRecord>,
    /// How far the selected neurons stay the same when texts are drawn anew, by share.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stability: Vec<StabilityRecord>,
    /// How right the best neurons are by majority, on the texts that have fire bits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<VoteRecord>,
    /// How far selected neurons fire for the texts that others fire for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CorrelationRecord>,
}

/// A neuron of [`Evidence`], and a line of `neurons.csv`. What is unknown is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NeuronRecord {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its index, from 0.
    pub index: usize,
    /// The prompt position it is read at, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// The class that it tells from the rest, of more than two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// Its predictivity on dev, where it was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<f64>,
    /// How right the same rule is on test, which had no say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<f64>,
    /// The lower end of the 95 % interval of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_low: Option<f64>,
    /// The upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_high: Option<f64>,
    /// Fisher's exact test on dev, or of score auc the rank-sum test, the least over positions and classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// The same adjusted for all rules (Benjamini and Hochberg 1995).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
    /// The chance that the best of all neurons has as much under shuffled labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_max: Option<f64>,
}

/// What the best neuron has if labels are shuffled, in [`Evidence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChanceRecord {
    /// How often labels were shuffled.
    pub draws: u64,
    /// The seed of the shuffles.
    pub seed: u64,
    /// The texts that were shuffled.
    pub texts: u64,
    /// Whether they are a sample of those that were counted.
    pub sample: bool,
    /// The best predictivity under the true labels of the same texts.
    pub measured: f64,
    /// The best predictivity of each draw.
    pub best: Vec<f64>,
    /// The same of each layer, `[layers][draws]`.
    pub layers: Vec<Vec<f64>>,
}

/// How far the neurons of a share stay the same when texts are drawn anew, in [`Evidence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StabilityRecord {
    /// Share of each layer's neurons.
    pub share: String,
    /// How often texts were drawn, with replacement within each class.
    pub draws: u64,
    /// The mean of the Jaccard index of the selected neurons and of those that a draw selects.
    pub mean: f64,
    /// 95 % of the draws are between these.
    pub interval: [f64; 2],
}

/// How right the best neurons are by majority, in [`Evidence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VoteRecord {
    /// How many of the best neurons vote.
    pub neurons: u64,
    /// How right they are on dev, where they were chosen. On test there are no fire bits; what older versions say of it is
    /// not read.
    pub dev: f64,
}

/// How far neurons fire for the same texts, in [`Evidence`]: the phi coefficient of pairs of one layer, without its sign.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorrelationRecord {
    /// The share of each layer's neurons that are selected.
    pub share: String,
    /// The mean over pairs of selected neurons.
    pub among_selected: f64,
    /// The mean over pairs of a selected and another neuron.
    pub with_others: f64,
    /// The largest of these.
    pub most_with_others: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evidence_has_the_documented_form() {
        let text = r#"{"score":"accuracy","counts":"dev_perf","counts_sha256":"ab",
            "inputs":{"dev_perf.safetensors":"ab","test_perf.safetensors":"cd"},"class":2,"rules":4096,"discoveries":12,"neurons":640,
            "best":[{"layer":2,"index":5,"position":0,"dev":0.9,"test":0.88,"test_low":0.8,"test_high":0.93,"p":1e-9,"q":4e-6,
                     "p_max":0.001}],
            "chance":{"draws":2,"seed":0,"texts":200,"sample":false,"measured":0.9,"best":[0.6,0.61],"layers":[[0.6,0.59],[0.58,0.61]]},
            "stability":[{"share":"0.1","draws":100,"mean":0.7,"interval":[0.6,0.8]}],
            "votes":[{"neurons":3,"dev":0.91}],
            "correlation":{"share":"0.1","among_selected":0.5,"with_others":0.1,"most_with_others":0.75}}"#;
        let evidence: Evidence = serde_json::from_str(text).unwrap();
        let again: serde_json::Value = serde_json::to_value(&evidence).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn older_evidence_is_read() {
        let text = r#"{"score":"accuracy","counts":"dev_perf","counts_sha256":"ab","rules":4096,"discoveries":12,"neurons":640,
            "best":[],"votes":[{"neurons":3,"dev":0.91,"test":0.9}]}"#;
        let evidence: Evidence = serde_json::from_str(text).unwrap();
        assert_eq!((evidence.inputs.len(), evidence.class), (0, None));
        assert_eq!(evidence.votes, [VoteRecord { neurons: 3, dev: 0.91 }]);
    }
}
