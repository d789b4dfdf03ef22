//! What a GGUF file says of its model, as a `config.json`.

use std::path::PathBuf;

use serde_json::{Map, Value, json};
use skn_artifact::{GgufFile, parse_json};

use super::beside::{differing, with_unsaid};
use super::kind::Kind;
use super::rope;
use super::says::{Pattern, Says};
use crate::config::Config;
use crate::error::{ModelError, Result};
use crate::family::Family;

/// A `config.json` beside a GGUF file.
pub(crate) struct Beside<'b> {
    pub(crate) path: PathBuf,
    pub(crate) bytes: &'b [u8],
}

/// The text of the `config.json` of the model in a file. What the file does not say, one beside it may say; it must not say
/// otherwise.
///
/// # Errors
/// If the file lacks something, says something that is not computed here, or something else than the one beside it.
pub(crate) fn config_json(file: &GgufFile, beside: Option<Beside<'_>>) -> Result<Vec<u8>> {
    let kind = Kind::of(file)?;
    let mut says = Says::new(file, kind);
    set_common(&mut says)?;
    match kind {
        Kind::Llama | Kind::Qwen2 | Kind::Qwen3 => set_llama(&mut says)?,
        Kind::Gemma2 | Kind::Gemma3 => set_gemma(&mut says)?,
        Kind::GptNeox => set_gpt_neox(&mut says)?,
        Kind::Gpt2 => set_gpt2(&mut says)?,
    }
    says.check_rest()?;
    let said = says.fields;
    let Some(beside) = beside else {
        let whole = rope::with_scaling(file, with_query_scale(file, kind, said)?)?;
        return to_json(&whole);
    };
    let other: Map<String, Value> = parse_json(&beside.path, beside.bytes, "a JSON object")?;
    let whole = merged(&said, &other);
    let said = with_unsaid(said, &other);
    let [mut of_file, of_both] = [(&said, file.path()), (&whole, &beside.path)]
        .map(|(fields, path)| Config::from_json(&to_json(fields)?, path));
    if let (Ok(of_file), Ok(of_both)) = (&mut of_file, &of_both) {
        rope::check_divisors(file, of_file, of_both)?;
    }
    let (of_file, of_both) = (of_file?, of_both?);
    if let Some((field, said, found)) = differing(&of_file, &of_both) {
        let expected = format!("{said}, as {} says", file.path().display());
        return Err(ModelError::field(&beside.path, field, expected, found));
    }
    to_json(&with_query_scale(file, kind, whole)?)
}

fn to_json(fields: &Map<String, Value>) -> Result<Vec<u8>> {
    serde_json::to_vec(fields).map_err(|error| ModelError::input("config.json", "JSON", error))
}

/// What is said beside a file, and what only the file says. The file knows best whether there is a table of its own that answers.
fn merged(said: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    /// Fields that `rope_parameters` has too.
    const OF_ROPE: [&str; 5] =
        ["rope_theta", "rope_scaling", "rope_local_base_freq", "rotary_pct", "rotary_emb_base"];
    let has_rope = other.get("rope_parameters").is_some_and(|value| !value.is_null());
    let mut whole = other.clone();
    for (field, value) in said {
        let is_tie = field == "tie_word_embeddings";
        let is_said = whole.contains_key(field) || has_rope && OF_ROPE.contains(&field.as_str());
        if is_tie || !is_said {
            whole.insert(field.clone(), value.clone());
        }
    }
    // transformers gives a Mistral that says nothing a window, llama.cpp none.
    if other.get("model_type").is_some_and(|kind| kind == "mistral") && !whole.contains_key("sliding_window")
    {
        whole.insert("sliding_window".to_owned(), Value::Null);
    }
    whole
}

/// What all kinds say.
fn set_common(says: &mut Says<'_>) -> Result<()> {
    const WORDS: &str = "token_embd.weight";
    let file = says.file;
    let lacks = || ModelError::weight(file.path(), WORDS, "a tensor", "nothing");
    let words = file.tensor(WORDS).and_then(|(shape, _)| shape.first().copied()).ok_or_else(lacks)?;
    says.set("vocab_size", words);
    says.set("tie_word_embeddings", !file.contains("output.weight"));
    let window = says.kind == Kind::Llama && says.integer_if_any("attention.sliding_window")?.is_some();
    let model_type = if window { "mistral" } else { says.kind.model_type() };
    says.set("model_type", model_type);
    let class = Family::MODEL_TYPES.iter().find(|(name, ..)| *name == model_type).map(|(.., class)| *class);
    says.set("architectures", json!([class]));
    says.set_tokens()
}

/// The sizes under the names that most families have for them: layers, hidden size, heads, width of the FFN, positions.
const USUAL: [&str; 5] = [
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
];

fn set_sizes(says: &mut Says<'_>, fields: [&str; 5]) -> Result<()> {
    const KEYS: [&str; 5] =
        ["block_count", "embedding_length", "attention.head_count", "feed_forward_length", "context_length"];
    for (key, field) in KEYS.into_iter().zip(fields) {
        let size = says.integer(key)?;
        says.set(field, size);
    }
    Ok(())
}

/// The width of a head: said, or what the heads share of the hidden size. The file must not say another of values, nor that
/// a part of it is rotated, unless `partial`.
fn head_width(says: &mut Says<'_>, partial: bool) -> Result<u64> {
    let (hidden, heads) = (says.integer("embedding_length")?, says.integer("attention.head_count")?);
    let width = match says.integer_if_any("attention.key_length")? {
        Some(width) => width,
        None => hidden.checked_div(heads).unwrap_or_default(),
    };
    let mut same = vec![("attention.value_length", says.integer_if_any("attention.value_length")?)];
    if !partial {
        same.push(("rope.dimension_count", says.integer_if_any("rope.dimension_count")?));
    }
    match same.into_iter().find(|(_, found)| found.is_some_and(|found| found != width)) {
        None => Ok(width),
        Some((name, found)) => {
            let key = format!("{}.{name}", says.kind.name());
            Err(says.wrong(&key, format!("{width}, the width of a head"), found.unwrap_or_default()))
        }
    }
}

/// Heads of keys and values; as many as heads if nothing is said.
fn set_key_value_heads(says: &mut Says<'_>) -> Result<()> {
    let heads = says.integer("attention.head_count")?;
    let found = says.integer_if_any("attention.head_count_kv")?.unwrap_or(heads);
    says.set("num_key_value_heads", found);
    Ok(())
}

/// What rotates queries and keys.
fn set_rope(says: &mut Says<'_>, theta: &str) -> Result<()> {
    let found = says.number_if_any("rope.freq_base")?.unwrap_or(10_000.0);
    says.set(theta, found);
    let (kind, factor) = (says.text_if_any("rope.scaling.type")?, says.number_if_any("rope.scaling.factor")?);
    let factor = factor.or(says.number_if_any("rope.scale_linear")?);
    match (kind.unwrap_or("linear"), factor) {
        ("none", _) | ("linear", None) => {}
        ("linear", Some(factor)) if factor == 1.0 || factor == 0.0 => {}
        ("linear", Some(factor)) => {
            says.set("rope_scaling", json!({"rope_type": "linear", "factor": factor}))
        }
        (other, _) => {
            let key = format!("{}.rope.scaling.type", says.kind.name());
            let expected = "none or linear: other ways to rotate are not computed here";
            return Err(says.wrong(&key, expected, format!("{other:?}")));
        }
    }
    Ok(())
}

fn set_llama(says: &mut Says<'_>) -> Result<()> {
    set_sizes(says, USUAL)?;
    set_key_value_heads(says)?;
    let width = head_width(says, false)?;
    says.set("head_dim", width);
    let epsilon = says.number("attention.layer_norm_rms_epsilon")?;
    says.set("rms_norm_eps", epsilon);
    set_rope(says, "rope_theta")?;
    says.set("hidden_act", "silu");
    if let Some(window) = says.integer_if_any("attention.sliding_window")? {
        says.set("sliding_window", window);
    }
    let has = |name: &str| says.file.contains(name);
    let (attention, ffn) = (has("blk.0.attn_q.bias"), has("blk.0.ffn_gate.bias"));
    match says.kind {
        Kind::Llama => {
            says.set("attention_bias", attention);
            says.set("mlp_bias", ffn);
        }
        Kind::Qwen3 => says.set("attention_bias", attention),
        _ => {}
    }
    Ok(())
}

fn set_gemma(says: &mut Says<'_>) -> Result<()> {
    let third = says.kind == Kind::Gemma3;
    set_sizes(says, USUAL)?;
    set_key_value_heads(says)?;
    let width = head_width(says, false)?;
    says.set("head_dim", width);
    let epsilon = says.number("attention.layer_norm_rms_epsilon")?;
    says.set("rms_norm_eps", epsilon);
    set_rope(says, "rope_theta")?;
    says.set("hidden_activation", "gelu_pytorch_tanh");
    for (key, field) in [
        ("attn_logit_softcapping", "attn_logit_softcapping"),
        ("final_logit_softcapping", "final_logit_softcapping"),
    ] {
        if let Some(cap) = says.number_if_any(key)? {
            says.set(field, cap);
        }
    }
    if let Some(theta) = says.number_if_any("rope.freq_base_swa")? {
        says.set("rope_local_base_freq", theta);
    }
    let window = says.integer("attention.sliding_window")?;
    says.set("sliding_window", window);
    match says.pattern_if_any("attention.sliding_window_pattern")? {
        None => {}
        Some(Pattern::Flags(flags)) => {
            let name = |slides: bool| if slides { "sliding_attention" } else { "full_attention" };
            says.set("layer_types", flags.into_iter().map(name).collect::<Vec<_>>());
        }
        Some(Pattern::Every(every)) if third => says.set("sliding_window_pattern", every),
        Some(Pattern::Every(2)) => {}
        Some(Pattern::Every(other)) => {
            return Err(says.wrong("gemma2.attention.sliding_window_pattern", "2", other));
        }
    }
    let attention = says.file.contains("blk.0.attn_q.bias");
    says.set("attention_bias", attention);
    Ok(())
}

/// What products of queries and keys are multiplied with: published models are known by their sizes, as llama.cpp knows them.
/// No file says it.
fn with_query_scale(
    file: &GgufFile,
    kind: Kind,
    mut fields: Map<String, Value>,
) -> Result<Map<String, Value>> {
    /// Gemma 2 and 3 of 2, 9, 27, 0.27, 1, 4, 12 and 27 billion parameters: layers, hidden size, heads, and the number.
    const GEMMA2: [([u64; 3], u64); 3] = [([26, 2304, 8], 256), ([42, 3584, 16], 256), ([46, 4608, 32], 144)];
    const GEMMA3: [([u64; 3], u64); 5] = [
        ([18, 640, 4], 256),
        ([26, 1152, 4], 256),
        ([34, 2560, 8], 256),
        ([48, 3840, 16], 256),
        ([62, 5376, 32], 168),
    ];
    let field = "query_pre_attn_scalar";
    let published = match kind {
        Kind::Gemma2 => &GEMMA2[..],
        Kind::Gemma3 => &GEMMA3[..],
        _ => return Ok(fields),
    };
    if fields.get(field).is_some_and(|value| !value.is_null()) {
        return Ok(fields);
    }
    let sizes =
        ["num_hidden_layers", "hidden_size", "num_attention_heads"].map(|name| fields.get(name)?.as_u64());
    let found = published.iter().find(|(known, _)| sizes == known.map(Some));
    let (_, scale) = found.ok_or_else(|| {
        let expected = "config.json beside the file, which says it: a file of this kind can't";
        ModelError::field(file.path(), field, expected, "none, and sizes that no published model has")
    })?;
    fields.insert(field.to_owned(), json!(scale));
    Ok(fields)
}

fn set_gpt_neox(says: &mut Says<'_>) -> Result<()> {
    set_sizes(says, USUAL)?;
    same_heads(says)?;
    let width = head_width(says, true)?;
    let rotated = says.integer("rope.dimension_count")?;
    if rotated > width {
        let expected = format!("at most {width}, the width of a head");
        return Err(says.wrong("gptneox.rope.dimension_count", expected, rotated));
    }
    says.set("rotary_pct", share(rotated, width));
    set_rope(says, "rotary_emb_base")?;
    let epsilon = says.number("attention.layer_norm_epsilon")?;
    says.set("layer_norm_eps", epsilon);
    says.set("hidden_act", "gelu");
    let parallel = says.flag_if_any("use_parallel_residual")?.unwrap_or(true);
    says.set("use_parallel_residual", parallel);
    let attention = says.file.contains("blk.0.attn_qkv.bias");
    says.set("attention_bias", attention);
    Ok(())
}

/// What `part` is of `all`, so that as much comes out when it is multiplied with `all` and cut to a whole number.
fn share(part: u64, all: u64) -> f64 {
    let (part, all) = (part as f64, all.max(1) as f64);
    let share = part / all;
    if (share * all).floor() < part { share.next_up() } else { share }
}

fn set_gpt2(says: &mut Says<'_>) -> Result<()> {
    set_sizes(says, ["n_layer", "n_embd", "n_head", "n_inner", "n_positions"])?;
    same_heads(says)?;
    head_width(says, false)?;
    let epsilon = says.number("attention.layer_norm_epsilon")?;
    says.set("layer_norm_epsilon", epsilon);
    says.set("activation_function", "gelu_new");
    Ok(())
}

/// Checks that keys and values have as many heads as queries.
fn same_heads(says: &mut Says<'_>) -> Result<()> {
    let heads = says.integer("attention.head_count")?;
    match says.integer_if_any("attention.head_count_kv")? {
        Some(found) if found != heads => {
            let key = format!("{}.attention.head_count_kv", says.kind.name());
            Err(says.wrong(&key, format!("{heads}, as many as heads"), found))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_out_whole() {
        for all in 1..200u64 {
            for part in 0..=all {
                assert_eq!((share(part, all) * all as f64) as u64, part, "{part} of {all}");
            }
        }
    }
}
