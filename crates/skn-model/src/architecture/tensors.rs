use super::part::{LayerPart, Part};
use crate::config::Config;

/// What tensors a part has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `weight` `[outputs, inputs]` and `bias` `[outputs]`.
    Dense { outputs: usize, inputs: usize },
    /// `weight` and `bias` `[width]`.
    Norm { width: usize },
    /// `weight` `[rows, width]`, whose rows are looked up.
    Table { rows: usize, width: usize },
    /// `bias` `[length]` alone.
    Bias { length: usize },
}

/// A part of a model, with what its tensors are called and of which shape they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) part: Part,
    pub(crate) name: String,
    pub(crate) form: Form,
}

impl Module {
    pub(crate) fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    pub(crate) fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }

    /// Its tensors by name, with their shapes.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let (weight, bias) = match self.form {
            Form::Dense { outputs, inputs } => (Some(vec![outputs, inputs]), Some(outputs)),
            Form::Norm { width } => (Some(vec![width]), Some(width)),
            Form::Table { rows, width } => (Some(vec![rows, width]), None),
            Form::Bias { length } => (None, Some(length)),
        };
        let weight = weight.map(|shape| (self.weight(), shape));
        weight.into_iter().chain(bias.map(|length| (self.bias(), vec![length])))
    }
}

impl Config {
    /// The parts of the model, from the embeddings up to the head.
    pub(crate) fn modules(&self) -> impl Iterator<Item = Module> + '_ {
        const BEFORE: [Part; 4] = [Part::Words, Part::Positions, Part::TokenTypes, Part::EmbeddingNorm];
        const BEHIND: [Part; 3] = [Part::HeadDense, Part::HeadNorm, Part::HeadBias];
        let of_layer = |layer| {
            let parts = self.family.names().in_layers.iter();
            parts.map(move |(part, _)| Part::Layer(layer, *part))
        };
        let layers = (0..self.layers()).flat_map(of_layer);
        BEFORE.into_iter().chain(layers).chain(BEHIND).filter_map(|part| self.module(part))
    }

    /// A part of the model; nothing if it has none such.
    pub(crate) fn module(&self, part: Part) -> Option<Module> {
        Some(Module { part, name: self.family.names().of(part)?, form: self.form(part)? })
    }

    fn form(&self, part: Part) -> Option<Form> {
        let hidden = self.hidden_size;
        let square = Form::Dense { outputs: hidden, inputs: hidden };
        Some(match part {
            Part::Words => Form::Table { rows: self.vocab_size, width: hidden },
            Part::Positions => Form::Table { rows: self.max_position_embeddings, width: hidden },
            Part::TokenTypes => Form::Table { rows: self.type_vocab_size, width: hidden },
            Part::EmbeddingNorm | Part::HeadNorm => Form::Norm { width: hidden },
            Part::HeadDense => square,
            Part::HeadBias => Form::Bias { length: self.vocab_size },
            Part::Layer(layer, part) => {
                let width = *self.intermediate_sizes.get(layer)?;
                match part {
                    LayerPart::Query | LayerPart::Key | LayerPart::Value | LayerPart::AttentionOutput => {
                        square
                    }
                    LayerPart::AttentionNorm | LayerPart::OutputNorm => Form::Norm { width: hidden },
                    LayerPart::Up => Form::Dense { outputs: width, inputs: hidden },
                    LayerPart::Down => Form::Dense { outputs: hidden, inputs: width },
                }
            }
        })
    }
}
