use std::ops::Range;

use super::forms::{HeadForm, HeadNorms, NormForm};
use super::names::Stored;
use super::part::{LayerPart, Part};
use crate::config::Config;

/// What a part computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A matrix `[outputs, inputs]`, and a bias `[outputs]` if it has one.
    Dense { outputs: usize, inputs: usize, bias: bool },
    /// A weight `[width]`, and a bias `[width]` if it has one.
    Norm { width: usize, bias: bool },
    /// A matrix `[rows, width]` whose rows are looked up.
    Table { rows: usize, width: usize },
    /// A bias `[length]` alone.
    Bias { length: usize },
}

/// Where a dense part's numbers are in the tensor that holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// They are the tensor.
    Whole,
    /// The outputs from `first` on, of `of`.
    Outputs { first: usize, of: usize },
    /// For each head its `place`th of three blocks of outputs, of this width.
    Heads { place: usize, width: usize },
}

impl Piece {
    /// Which rows of its tensor these rows of a part are, in their order.
    pub(crate) fn rows(self, rows: Range<usize>) -> Vec<Range<usize>> {
        let mut pieces = Vec::new();
        match self {
            Self::Whole => pieces.push(rows),
            Self::Outputs { first, .. } => pieces.push(first + rows.start..first + rows.end),
            Self::Heads { place, width } => {
                let mut row = rows.start;
                while row < rows.end && width > 0 {
                    let (head, within) = (row / width, row % width);
                    let count = (width - within).min(rows.end - row);
                    let start = (3 * head + place) * width + within;
                    pieces.push(start..start + count);
                    row += count;
                }
            }
        }
        pieces
    }
}

/// A part of a model, with what its tensors are called and of which shape they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) part: Part,
    pub(crate) name: String,
    pub(crate) form: Form,
    /// Where its numbers are in its tensors.
    pub(crate) piece: Piece,
    /// Whether its matrix is stored as `[inputs, outputs]`.
    pub(crate) transposed: bool,
}

impl Module {
    pub(crate) fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    pub(crate) fn bias(&self) -> String {
        format!("{}.bias", self.name)
    }

    /// Whether it has a bias.
    pub(crate) fn has_bias(&self) -> bool {
        match self.form {
            Form::Dense { bias, .. } | Form::Norm { bias, .. } => bias,
            Form::Table { .. } => false,
            Form::Bias { .. } => true,
        }
    }

    /// Its tensors by name, with the shapes that they are stored in. Parts that share a tensor all have it.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let (weight, length) = match self.form {
            Form::Dense { outputs, inputs, .. } => {
                let outputs = match self.piece {
                    Piece::Whole => outputs,
                    Piece::Outputs { of, .. } => of,
                    Piece::Heads { .. } => outputs * 3,
                };
                let shape = if self.transposed { vec![inputs, outputs] } else { vec![outputs, inputs] };
                (Some(shape), outputs)
            }
            Form::Norm { width, .. } => (Some(vec![width]), width),
            Form::Table { rows, width } => (Some(vec![rows, width]), 0),
            Form::Bias { length } => (None, length),
        };
        let weight = weight.map(|shape| (self.weight(), shape));
        weight.into_iter().chain(self.has_bias().then(|| (self.bias(), vec![length])))
    }
}

impl Config {
    /// The parts of the model, from the embeddings up to the head.
    pub(crate) fn modules(&self) -> impl Iterator<Item = Module> + '_ {
        const BEFORE: [Part; 4] = [Part::Words, Part::Positions, Part::TokenTypes, Part::EmbeddingNorm];
        const BEHIND: [Part; 5] =
            [Part::FinalNorm, Part::HeadDense, Part::HeadNorm, Part::HeadBias, Part::Decoder];
        let of_layer = |layer| {
            let parts = self.family.names().in_layers.iter();
            parts.map(move |(part, _)| Part::Layer(layer, *part))
        };
        let layers = (0..self.layers()).flat_map(of_layer);
        BEFORE.into_iter().chain(layers).chain(BEHIND).filter_map(|part| self.module(part))
    }

    /// A part of the model; nothing if it has none such.
    pub(crate) fn module(&self, part: Part) -> Option<Module> {
        let names = self.family.names();
        let name = names.of(part)?;
        let form = self.form(part)?;
        let (piece, transposed) = match part {
            Part::Layer(_, part) => {
                (self.piece(part, names.stored, form), names.stored == Stored::Transposed)
            }
            _ => (Piece::Whole, false),
        };
        let transposed = transposed && matches!(form, Form::Dense { .. });
        Some(Module { part, name, form, piece, transposed })
    }

    /// Where the numbers of a part of a layer are in its tensors.
    fn piece(&self, part: LayerPart, stored: Stored, form: Form) -> Piece {
        let Form::Dense { outputs, .. } = form else { return Piece::Whole };
        let attention = &self.architecture.attention;
        let place = match part {
            LayerPart::Query | LayerPart::Gate => 0,
            LayerPart::Key | LayerPart::Up => 1,
            LayerPart::Value => 2,
            _ => return Piece::Whole,
        };
        let is_ffn = matches!(part, LayerPart::Gate | LayerPart::Up);
        match stored {
            Stored::Apart => Piece::Whole,
            Stored::Fused if is_ffn => Piece::Outputs { first: place * outputs, of: 2 * outputs },
            Stored::HeadByHead | Stored::Transposed if is_ffn => Piece::Whole,
            Stored::HeadByHead => Piece::Heads { place, width: attention.head_width },
            Stored::Fused | Stored::Transposed => Piece::Outputs { first: place * outputs, of: 3 * outputs },
        }
    }

    fn norm(&self, width: usize) -> Form {
        Form::Norm { width, bias: self.architecture.norm == NormForm::Layer { bias: true } }
    }

    fn form(&self, part: Part) -> Option<Form> {
        let (hidden, how) = (self.hidden_size, &self.architecture);
        let is_masked = matches!(how.head, HeadForm::Masked(_));
        Some(match part {
            Part::Words => Form::Table { rows: self.vocab_size, width: hidden },
            Part::Positions => Form::Table { rows: self.max_position_embeddings, width: hidden },
            Part::TokenTypes => Form::Table { rows: self.type_vocab_size, width: hidden },
            Part::EmbeddingNorm | Part::FinalNorm => self.norm(hidden),
            Part::HeadNorm => is_masked.then(|| self.norm(hidden))?,
            Part::HeadDense => {
                is_masked.then_some(Form::Dense { outputs: hidden, inputs: hidden, bias: how.biases.head })?
            }
            Part::HeadBias => {
                (is_masked && how.biases.logits).then_some(Form::Bias { length: self.vocab_size })?
            }
            Part::Decoder => (how.head == HeadForm::Untied)
                .then_some(Form::Table { rows: self.vocab_size, width: hidden })?,
            Part::Layer(layer, part) => self.form_in_layer(layer, part)?,
        })
    }

    fn form_in_layer(&self, layer: usize, part: LayerPart) -> Option<Form> {
        let (hidden, how) = (self.hidden_size, &self.architecture);
        let width = *self.intermediate_sizes.get(layer)?;
        let attention = &how.attention;
        let [queries, keys] =
            [attention.heads, attention.key_value_heads].map(|heads| heads * attention.head_width);
        let dense = |outputs, inputs, bias| Form::Dense { outputs, inputs, bias };
        let head_norm = |together| match attention.norms {
            HeadNorms::None => None,
            HeadNorms::Each => Some(self.norm(attention.head_width)),
            HeadNorms::Together => Some(self.norm(together)),
        };
        Some(match part {
            LayerPart::InputNorm => how.layers.get(layer)?.normed.then(|| self.norm(hidden))?,
            LayerPart::Query => dense(queries, hidden, how.biases.attention_in),
            LayerPart::Key | LayerPart::Value => dense(keys, hidden, how.biases.attention_in),
            LayerPart::QueryNorm => head_norm(queries)?,
            LayerPart::KeyNorm => head_norm(keys)?,
            LayerPart::AttentionOutput => dense(hidden, queries, how.biases.attention_out),
            LayerPart::Gate => how.gated.then_some(dense(width, hidden, how.biases.ffn_in))?,
            LayerPart::Up => dense(width, hidden, how.biases.ffn_in),
            LayerPart::Down => dense(hidden, width, how.biases.ffn_out),
            LayerPart::AttentionEndNorm
            | LayerPart::AttentionSumNorm
            | LayerPart::FfnNorm
            | LayerPart::FfnEndNorm
            | LayerPart::FfnSumNorm => self.norm(hidden),
        })
    }
}
