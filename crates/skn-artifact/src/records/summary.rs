use serde::{Deserialize, Serialize};

use super::damage::DamageEvidence;

/// `RUN/summary.json`: the final table of `skn-run`. Accuracy is the task's metric on test, 0 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The task's name.
    pub task: String,
    /// The model's id.
    pub model: String,
    /// Rows of the test set.
    pub test_rows: u64,
    /// The metric.
    pub accuracy: Points<f64>,
    /// 95 % intervals of the metric.
    pub interval: Points<[f64; 2]>,
    /// The best neuron.
    pub best_neuron: BestNeuron,
    /// How neurons were perturbed.
    pub perturbation: PerturbationSetting,
    /// Parameters.
    pub parameters: FullAndPruned<u64>,
    /// Median milliseconds a text.
    pub ms_per_text: FullAndPruned<f64>,
}

/// `RUN/summary.json` of `skn-run --untuned`: what a model's neurons tell as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UntunedFields")]
pub struct UntunedSummary {
    /// The task's name.
    pub task: String,
    /// The model's id.
    pub model: String,
    /// Rows of the test set.
    pub test_rows: u64,
    /// What the model answers; nothing of one that has no head to answer by. Its fields stand among those of the summary, all
    /// of them or none.
    #[serde(flatten)]
    pub answers: Option<UntunedAnswers>,
    /// The share of test's most frequent class: what always guessing it gets right.
    pub majority: f64,
    /// The neuron that predicts the label best at a text's last token.
    pub best_neuron: BestOfText,
}

/// How well a model's own words answer test, of an [`UntunedSummary`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UntunedAnswers {
    /// The task's metric.
    pub metric: String,
    /// The metric on test, where the label words answer.
    pub accuracy: f64,
    /// Its 95 % interval.
    pub interval: [f64; 2],
    /// Parameters.
    pub parameters: u64,
    /// Median milliseconds a text.
    pub ms_per_text: f64,
}

/// The fields of an [`UntunedSummary`] as they lie in the file. An `Option` that is flattened takes any error within for
/// nothing at all: a model with a damaged summary would be told of as one without a head.
#[derive(Deserialize)]
struct UntunedFields {
    task: String,
    model: String,
    test_rows: u64,
    metric: Option<String>,
    accuracy: Option<f64>,
    interval: Option<[f64; 2]>,
    parameters: Option<u64>,
    ms_per_text: Option<f64>,
    majority: f64,
    best_neuron: BestOfText,
}

impl TryFrom<UntunedFields> for UntunedSummary {
    type Error = String;

    fn try_from(fields: UntunedFields) -> Result<Self, String> {
        let UntunedFields { metric, accuracy, interval, parameters, ms_per_text, .. } = fields;
        let answers = match (metric, accuracy, interval, parameters, ms_per_text) {
            (None, None, None, None, None) => None,
            (Some(metric), Some(accuracy), Some(interval), Some(parameters), Some(ms_per_text)) => {
                Some(UntunedAnswers { metric, accuracy, interval, parameters, ms_per_text })
            }
            (metric, accuracy, interval, parameters, ms_per_text) => {
                let absent = [
                    ("metric", metric.is_none()),
                    ("accuracy", accuracy.is_none()),
                    ("interval", interval.is_none()),
                    ("parameters", parameters.is_none()),
                    ("ms_per_text", ms_per_text.is_none()),
                ];
                let absent = absent.iter().filter(|(_, absent)| *absent);
                let names: Vec<String> = absent.map(|(name, _)| format!("`{name}`")).collect();
                return Err(format!(
                    "{} missing or null, while others of what the model answers are there",
                    names.join(", ")
                ));
            }
        };
        Ok(Self {
            task: fields.task,
            model: fields.model,
            test_rows: fields.test_rows,
            answers,
            majority: fields.majority,
            best_neuron: fields.best_neuron,
        })
    }
}

/// The neuron that predicts the label best where it is read of the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestOfText {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its index, from 0.
    pub index: usize,
    /// The class that it tells from the rest, of more than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// What its predictivity is of: accuracy or balanced accuracy. Older summaries do not say it; of two classes theirs is of
    /// accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// Its predictivity on dev, where it was chosen.
    pub dev: f64,
    /// Its predictivity on test, which had no say.
    pub test: f64,
    /// The 95 % interval of that.
    pub interval: [f64; 2],
}

/// One value for each point of the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Points<T> {
    /// The model before tuning.
    pub untuned: T,
    /// The tuned model.
    pub tuned: T,
    /// The tuned model with its skill neurons perturbed.
    pub skill_perturbed: T,
    /// The tuned model with as many random neurons perturbed, mean over draws.
    pub random_perturbed: T,
    /// The pruned model.
    pub pruned: T,
    /// The pruned model, tuned further.
    pub pruned_tuned: T,
}

/// The neuron that predicts the label best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestNeuron {
    /// Its layer, from 0.
    pub layer: usize,
    /// Its index, from 0.
    pub index: usize,
    /// The prompt position it is read at, from 0.
    pub position: usize,
    /// The class that it tells from the rest, of more than two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    /// What its predictivity is of: accuracy or balanced accuracy. Older summaries do not say it; of two classes theirs is of
    /// accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<String>,
    /// Its predictivity on dev, where it was chosen.
    pub dev: f64,
    /// Its predictivity on test.
    pub test: f64,
    /// The lower end of the 95 % interval of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_low: Option<f64>,
    /// The upper end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_high: Option<f64>,
    /// Fisher's exact test on dev, the least over positions and classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p: Option<f64>,
    /// The same adjusted for all rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
    /// The chance that the best of all neurons has as much under shuffled labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_max: Option<f64>,
}

/// How the neurons of a summary were perturbed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerturbationSetting {
    /// gaussian, zero or mean.
    pub edit: String,
    /// Standard deviation of the noise, for gaussian.
    pub alpha: Option<f64>,
    /// Share of each layer's neurons.
    pub share: String,
    /// Draws of random neurons.
    pub draws: usize,
    /// How the selected neurons compare with the random ones on the same texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<DamageEvidence>,
}

/// Something of the full and of the pruned model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullAndPruned<T> {
    /// The full model's.
    pub full: T,
    /// The pruned model's.
    pub pruned: T,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_the_documented_form() {
        let text = r#"{"task":"sst2","model":"demo","test_rows":400,
            "accuracy":{"untuned":0.5,"tuned":0.9,"skill_perturbed":0.6,"random_perturbed":0.88,"pruned":0.8,"pruned_tuned":0.89},
            "interval":{"untuned":[0.4,0.6],"tuned":[0.8,1.0],"skill_perturbed":[0.5,0.7],"random_perturbed":[0.8,0.9],
                        "pruned":[0.7,0.9],"pruned_tuned":[0.8,0.9]},
            "best_neuron":{"layer":2,"index":5,"position":0,"score":"accuracy","dev":0.9,"test":0.88,"test_low":0.85,"test_high":0.91,
                           "p":1e-9,"q":4e-6,"p_max":0.001},
            "perturbation":{"edit":"gaussian","alpha":0.1,"share":"0.1","draws":10},
            "parameters":{"full":100,"pruned":60},"ms_per_text":{"full":1.0,"pruned":0.6}}"#;
        let summary: Summary = serde_json::from_str(text).unwrap();
        let again: serde_json::Value = serde_json::to_value(&summary).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(text).unwrap());
    }

    #[test]
    fn of_an_untuned_model_all_answers_are_there_or_none() {
        use serde_json::{Value, from_value, json};
        let whole = json!({
            "task": "sst2", "model": "demo", "test_rows": 400, "metric": "accuracy", "accuracy": 0.5, "interval": [0.4, 0.6],
            "majority": 0.52, "best_neuron": {"layer": 2, "index": 5, "dev": 0.9, "test": 0.88, "interval": [0.8, 0.9]},
            "parameters": 100, "ms_per_text": 1.5
        });
        let read = |value: &Value| from_value::<UntunedSummary>(value.clone());
        let found = read(&whole).unwrap();
        assert_eq!(found.answers.as_ref().map(|of| (of.parameters, of.interval)), Some((100, [0.4, 0.6])));
        assert_eq!(serde_json::to_value(&found).unwrap(), whole);

        let without = |keys: &[&str]| {
            let mut value = whole.clone();
            keys.iter().for_each(|key| drop(value.as_object_mut().unwrap().remove(*key).unwrap()));
            value
        };
        let headless = without(&["metric", "accuracy", "interval", "parameters", "ms_per_text"]);
        let found = read(&headless).unwrap();
        assert_eq!(found.answers, None);
        assert_eq!(serde_json::to_value(&found).unwrap(), headless);

        for key in whole.as_object().unwrap().keys() {
            let told = read(&without(&[key])).unwrap_err().to_string();
            assert!(told.contains(&format!("`{key}`")), "{key}: {told}");
            let mut changed = whole.clone();
            changed[key] = json!({"no": "such"});
            assert!(read(&changed).is_err(), "{key} of another type");
        }
        let mut changed = whole.clone();
        changed["accuracy"] = Value::Null;
        let told = read(&changed).unwrap_err().to_string();
        assert!(told.starts_with("`accuracy` missing or null"), "{told}");
    }
}
