//! How much work is needed: floating-point operations of matrix products, two for a multiply-add. As `peers/speed_work.py`.

use skn_bench::{PROMPT_ROWS, VERBALIZER};
use skn_data::Encoded;
use skn_model::Config;

/// Which rows the last layer computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// The answer's alone.
    Answer,
    /// The answer's, keys and values absorbed into its query, for each head as wide as the rows.
    Absorbed,
    /// All rows, up to the neurons.
    Neurons,
}

/// Operations of products with weights, and of those of attention.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Operations {
    weights: f64,
    attention: f64,
}

impl Operations {
    /// Of a forward pass over texts behind the prompt.
    pub(crate) fn forward(config: &Config, texts: &[Encoded], last: Last) -> Self {
        let (hidden, heads) = (config.hidden_size as f64, config.num_attention_heads as f64);
        let mut all = Self::default();
        for text in texts {
            let rows = (PROMPT_ROWS + text.ids.len()) as f64;
            for (layer, &width) in config.intermediate_sizes.iter().enumerate() {
                let here = (layer + 1 == config.layers()).then_some(last);
                let (queries, keys, wide, second) = match here {
                    None => (rows, rows, 1.0, rows),
                    Some(Last::Answer) => (1.0, rows, 1.0, 1.0),
                    Some(Last::Absorbed) => (1.0, 1.0, heads, 1.0),
                    Some(Last::Neurons) => (rows, rows, 1.0, 0.0),
                };
                all.weights +=
                    2.0 * (keys + queries) * hidden * hidden + (queries + second) * hidden * width as f64;
                all.attention += 2.0 * wide * queries * rows * hidden;
            }
            if last != Last::Neurons {
                all.weights += hidden * hidden + hidden * VERBALIZER.len() as f64;
            }
        }
        Self { weights: 2.0 * all.weights, attention: 2.0 * all.attention }
    }

    /// Of the forward pass alone.
    pub(crate) fn once(self) -> f64 {
        self.weights + self.attention
    }

    /// Of it and of the gradients of what weights are multiplied with: as much again. The gradients of a product of attention cost
    /// twice the product.
    pub(crate) fn with_gradients(self) -> f64 {
        2.0 * self.weights + 3.0 * self.attention
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Next to what the model itself counts, which leaves out the label words.
    #[test]
    fn as_the_model_counts() {
        let config = Config::new(300, [48, 4, 160, 4], 128).unwrap();
        for rows in [20, 33] {
            let texts = skn_bench::Lengths::Fixed(rows).texts(1);
            let counted = 2.0 * (config.multiply_adds(rows) + 48 * 2) as f64;
            let found = Operations::forward(&config, &texts, Last::Absorbed);
            assert_eq!(found.once(), counted);
            // One row of keys and values less, or all of them.
            let plain = Operations::forward(&config, &texts, Last::Answer);
            assert!(plain.weights > found.weights && plain.attention < found.attention);
            assert_eq!(plain.with_gradients(), 2.0 * plain.weights + 3.0 * plain.attention);
            let neurons = Operations::forward(&config, &texts, Last::Neurons);
            assert!(neurons.once() > plain.once());
        }
    }
}
