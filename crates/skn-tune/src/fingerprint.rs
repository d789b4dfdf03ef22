use std::collections::BTreeMap;

use skn_artifact::sha256_hex;
use skn_data::Encoded;
use skn_model::{Backend, LanguageModel, PromptPlace};

use crate::checkpoint::Fingerprint;
use crate::error::Result;
use crate::options::{TrainData, TrainOptions};
use crate::train_run::{Beginning, TrainRun};

/// Everything that the bits of a training depend on.
pub(crate) fn fingerprint(
    model: &LanguageModel,
    data: &TrainData<'_>,
    options: &TrainOptions,
    run: &TrainRun,
    dropout: [f32; 2],
) -> Result<Fingerprint> {
    let begins_with = match run.begins {
        Beginning::New => "new parameters".to_string(),
        Beginning::Loaded => format!("loaded parameters, SHA-256 {}", model.tuning()?.sha256()?),
        Beginning::OwnBest => "loaded parameters of this run".to_string(),
    };
    let parameters = model.parameters();
    let numbers: usize = parameters.values().map(|variable| variable.elem_count()).sum();
    let optional = |count: Option<u64>| count.map_or("none".to_string(), |count| count.to_string());
    let settings = [
        ("task", run.task.clone()),
        ("data_sha256", run.data_sha256.clone()),
        ("tokenizer_sha256", run.tokenizer_sha256.clone()),
        ("train", describe(data.train)),
        ("dev", describe(data.dev)),
        ("metric", data.metric.name().to_string()),
        ("verbalizer", format!("{:?}", run.verbalizer.ids)),
        ("model_sha256", run.model.sha256.clone()),
        ("model", model.config().arithmetic()),
        ("method", run.method.clone()),
        ("prompt_size", model.prompt_rows().to_string()),
        ("parameters", format!("{} tensors of {numbers} numbers", parameters.len())),
        ("begins_with", begins_with),
        ("seed", options.seed.to_string()),
        ("epochs", options.epochs.to_string()),
        ("batch", options.batch.to_string()),
        ("accumulate", options.accumulate.to_string()),
        ("learning_rate", options.learning_rate.to_string()),
        ("weight_decay", options.weight_decay.to_string()),
        ("warmup", options.warmup.to_string()),
        ("dropout", format!("{} (hidden), {} (attention)", dropout[0], dropout[1])),
        ("eval_every", optional(options.eval_every)),
        ("early_stop", options.early_stop.to_string()),
        ("max_steps", optional(options.max_steps)),
        ("max_norm", options.max_norm.to_string()),
        ("clip", options.clip.name().to_string()),
        ("dtype", model.precision().name().to_string()),
        ("token_budget", options.token_budget.to_string()),
    ];
    let mut settings: BTreeMap<String, String> =
        settings.map(|(name, value)| (name.to_string(), value)).into();
    // Only where it is not as it has always been, and where there is one: checkpoints of older versions know of none. A template is
    // told before the texts, which differ with it: settings are compared in the order of their names.
    let place = model.prompt_place().filter(|place| *place == PromptPlace::Front);
    settings.extend(place.map(|place| ("prompt_place".to_string(), place.to_string())));
    settings.extend(run.template_sha256.iter().map(|hash| ("data_template".to_string(), hash.clone())));
    // Device and instruction set, on which the last bits depend.
    Ok(Fingerprint { machine: Backend::machine(model.device())?, settings })
}

/// Number of texts, and a hash of their tokens and classes: it tells another cut or another join apart, which the hash
/// of the data set can't.
fn describe(texts: &[Encoded]) -> String {
    let mut hash = String::new();
    for some in texts.chunks(1024) {
        let mut bytes = hash.into_bytes();
        for text in some {
            bytes.extend((text.ids.len() as u64).to_le_bytes());
            bytes.extend((text.label as u64).to_le_bytes());
            bytes.extend(text.row.to_le_bytes());
            bytes.extend(text.ids.iter().flat_map(|id| id.to_le_bytes()));
        }
        hash = sha256_hex(&bytes);
    }
    format!("{} rows, SHA-256 {hash}", texts.len())
}
