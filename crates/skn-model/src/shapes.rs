use crate::config::Config;

/// Every tensor of a masked language model of this configuration, with its shape.
pub fn shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    needed_shapes(config, true).collect()
}

/// Those of the encoder, and of the head if it is there.
pub(crate) fn needed_shapes(config: &Config, head: bool) -> impl Iterator<Item = (String, Vec<usize>)> {
    let head = if head { head_shapes(config) } else { Vec::new() };
    encoder_shapes(config).into_iter().chain(head)
}

/// Whether there is any tensor of the head: if there is, all must be.
pub(crate) fn has_head(config: &Config, has: impl Fn(&str) -> bool) -> bool {
    head_shapes(config).iter().any(|(name, _)| has(name))
}

fn encoder_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, family) = (config.hidden_size, config.family);
    let table = |part: &str, rows: usize| (family.embeddings(&format!("{part}.weight")), vec![rows, hidden]);
    let mut all = vec![
        table("word_embeddings", config.vocab_size),
        table("position_embeddings", config.max_position_embeddings),
        table("token_type_embeddings", config.type_vocab_size),
    ];
    push_norm(&mut all, &family.embeddings("LayerNorm"), hidden);
    for (index, &width) in config.intermediate_sizes.iter().enumerate() {
        let layer = family.layer(index);
        for projection in ["self.query", "self.key", "self.value", "output.dense"] {
            push_dense(&mut all, &format!("{layer}.attention.{projection}"), [hidden, hidden]);
        }
        push_norm(&mut all, &format!("{layer}.attention.output.LayerNorm"), hidden);
        push_dense(&mut all, &format!("{layer}.intermediate.dense"), [width, hidden]);
        push_dense(&mut all, &format!("{layer}.output.dense"), [hidden, width]);
        push_norm(&mut all, &format!("{layer}.output.LayerNorm"), hidden);
    }
    all
}

/// Those of the masked-LM head, of which there is at least one.
pub(crate) fn head_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, family) = (config.hidden_size, config.family);
    let mut all = Vec::new();
    push_dense(&mut all, family.head_dense(), [hidden, hidden]);
    push_norm(&mut all, family.head_norm(), hidden);
    all.push((family.head_bias().into(), vec![config.vocab_size]));
    all
}

/// The first tensor of the masked-LM head, by which its absence is told.
pub(crate) fn head_tensor(config: &Config) -> String {
    format!("{}.weight", config.family.head_dense())
}

fn push_norm(all: &mut Vec<(String, Vec<usize>)>, name: &str, width: usize) {
    all.push((format!("{name}.weight"), vec![width]));
    all.push((format!("{name}.bias"), vec![width]));
}

fn push_dense(all: &mut Vec<(String, Vec<usize>)>, name: &str, [outputs, inputs]: [usize; 2]) {
    all.push((format!("{name}.weight"), vec![outputs, inputs]));
    all.push((format!("{name}.bias"), vec![outputs]));
}
