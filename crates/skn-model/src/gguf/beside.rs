//! A `config.json` beside a GGUF file: what it may say, and whether it says something else than the file.

use serde_json::{Map, Value};

use crate::config::Config;

/// What a file can't say, or need not: that comes from the `config.json` beside it.
const UNSAID: [&str; 18] = [
    "query_pre_attn_scalar",
    "hidden_act",
    "hidden_activation",
    "activation_function",
    "attention_dropout",
    "hidden_dropout",
    "resid_pdrop",
    "attn_pdrop",
    "embd_pdrop",
    "layer_types",
    "sliding_window_pattern",
    "rope_local_base_freq",
    "use_bidirectional_attention",
    "use_sliding_window",
    "pretraining_tp",
    "scale_attn_weights",
    "scale_attn_by_inverse_layer_idx",
    "auto_map",
];

/// What a file says, with what it can't say taken from beside it.
pub(super) fn with_unsaid(mut said: Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    /// What a layer of Gemma 3 with a window rotates by.
    fn local(other: &Map<String, Value>) -> Option<&Value> {
        other.get("rope_parameters")?.get("sliding_attention")?.get("rope_theta")
    }
    for field in UNSAID {
        let own = said.contains_key(field)
            && !["hidden_act", "hidden_activation", "activation_function"].contains(&field);
        if let Some(value) = other.get(field).filter(|_| !own) {
            said.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(theta) = local(other).filter(|_| !said.contains_key("rope_local_base_freq")) {
        said.insert("rope_local_base_freq".to_owned(), theta.clone());
    }
    // A Mistral is a llama there, whose window no file of an older converter has.
    let is =
        |fields: &Map<String, Value>, name: &str| fields.get("model_type").is_some_and(|kind| kind == name);
    if is(other, "mistral") && is(&said, "llama") {
        said.insert("model_type".to_owned(), "mistral".into());
        said.insert("sliding_window".to_owned(), other.get("sliding_window").cloned().unwrap_or_default());
    }
    said
}

/// The first thing in which two configurations differ: its name, what the file says, what is said beside it.
pub(super) fn differing(of_file: &Config, beside: &Config) -> Option<(&'static str, String, String)> {
    let parts = |config: &Config| {
        let how = &config.architecture;
        let windows: Vec<_> = how.layers.iter().map(|layer| layer.sees.before).collect();
        let rotations: Vec<_> = how.layers.iter().map(|layer| layer.rotation.clone()).collect();
        [
            ("model_type", format!("{:?}", config.family)),
            ("num_hidden_layers", config.layers().to_string()),
            ("hidden_size", config.hidden_size.to_string()),
            ("vocab_size", config.vocab_size.to_string()),
            ("num_attention_heads", config.num_attention_heads.to_string()),
            ("num_key_value_heads", how.attention.key_value_heads.to_string()),
            ("head_dim", how.attention.head_width.to_string()),
            ("intermediate_size", format!("{:?}", config.intermediate_sizes)),
            ("max_position_embeddings", config.max_position_embeddings.to_string()),
            ("norm epsilon", config.layer_norm_eps.to_string()),
            ("attention_bias, mlp_bias", format!("{:?}", how.biases)),
            ("sliding_window", format!("{windows:?}")),
            ("rope_parameters", format!("inverse frequencies {rotations:?}")),
            ("attn_logit_softcapping", format!("{:?}", how.attention.cap)),
            ("final_logit_softcapping", format!("{:?}", how.logit_cap)),
            ("use_parallel_residual", how.parallel.to_string()),
        ]
    };
    let both = parts(of_file).into_iter().zip(parts(beside));
    let mut differing = both.filter(|((_, said), (_, found))| said != found);
    let shown = |text: String| if text.len() > 80 { "others".to_owned() } else { text };
    let found = differing.next().map(|((field, said), (_, found))| (field, shown(said), shown(found)));
    // Whatever else there is.
    found.or_else(|| {
        (!of_file.computes_as(beside)).then(|| ("(together)", "the same".into(), "something else".into()))
    })
}
