//! The tensors of a GGUF file as those of a model in Hugging Face form.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use skn_artifact::{BlockType, GgufFile, TensorDigest};

use super::blocks;
use super::kind::Kind;
use super::rows::RowOrder;
use crate::architecture::{Form, LayerPart, NormForm, Part};
use crate::config::Config;
use crate::error::{ModelError, Result};

/// The divisors of a rotation's inverse frequencies; the configuration has them.
pub(super) const ROPE_FREQS: &str = "rope_freqs.weight";

/// The tensors of a GGUF file, by their names there, as those of a model.
#[derive(Debug)]
pub(crate) struct GgufWeights {
    file: Arc<GgufFile>,
    known: BTreeMap<String, Known>,
}

/// A tensor that a model has, and how it differs in a file.
#[derive(Debug)]
struct Known {
    /// What the model calls it.
    name: String,
    rows: RowOrder,
    /// Whether a matrix is stored as its transpose.
    turned: bool,
    /// Whether 1 was added to all numbers.
    plus_one: bool,
}

impl GgufWeights {
    /// The tensors of a file that is a model of this configuration.
    ///
    /// # Errors
    /// If it does not say what it is.
    pub(crate) fn new(file: Arc<GgufFile>, config: &Config) -> Result<Self> {
        let kind = Kind::of(&file)?;
        if cfg!(target_endian = "big") {
            let found = "a big-endian one, on which blocks of such a file are not read";
            return Err(ModelError::field(file.path(), "(machine)", "a little-endian one", found));
        }
        let how = &config.architecture;
        let (heads, width) = (how.attention.heads, how.attention.head_width);
        let mut known = BTreeMap::new();
        for module in config.modules() {
            let is_dense = matches!(module.form, Form::Dense { .. });
            let rows = match module.part {
                Part::Layer(_, LayerPart::Query | LayerPart::Key) if kind == Kind::Llama => {
                    RowOrder::Neighbours { width }
                }
                Part::Layer(_, LayerPart::Query | LayerPart::Key | LayerPart::Value)
                    if kind == Kind::GptNeox =>
                {
                    RowOrder::Thirds { heads, width }
                }
                _ => RowOrder::Same,
            };
            let rows = if is_dense { rows } else { RowOrder::Same };
            let plus_one = how.norm == NormForm::RmsPlusOne && matches!(module.form, Form::Norm { .. });
            let Some(stored) = stored_name(module.part, kind) else { continue };
            for (name, _) in module.tensors() {
                let Some((_, end)) = name.rsplit_once('.') else { continue };
                let (stored, turned) = (format!("{stored}.{end}"), module.transposed && end == "weight");
                known.insert(stored, Known { name, rows, turned, plus_one });
            }
        }
        Ok(Self { file, known })
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// The names of the tensors in the file.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names()
    }

    /// What the model calls a tensor of the file, if it has one such.
    pub(crate) fn name_of(&self, stored: &str) -> Option<&str> {
        self.known.get(stored).map(|known| known.name.as_str())
    }

    /// What the file would call a tensor of the model.
    pub(crate) fn stored_of(&self, name: &str) -> Option<&str> {
        self.known.iter().find(|(_, known)| known.name == name).map(|(stored, _)| stored.as_str())
    }

    /// Whether a tensor that the model does not have changes nothing.
    pub(crate) fn is_unused(stored: &str) -> bool {
        stored == ROPE_FREQS
    }

    /// Whether a matrix is stored as its transpose.
    pub(crate) fn is_turned(&self, stored: &str) -> bool {
        self.known.get(stored).is_some_and(|known| known.turned)
    }

    /// Checks that there is a tensor which can be read as one of this shape in the model.
    ///
    /// # Errors
    /// If it is not there, or has another shape or a type that is not read.
    pub(crate) fn expect(&self, stored: &str, shape: &[usize]) -> Result<()> {
        let (found, kind) = self.tensor(stored)?;
        let expected = self.stored_shape(stored, shape);
        if *found != expected {
            let (expected, found) = (format!("shape {expected:?}"), format!("shape {found:?}"));
            return Err(ModelError::weight(self.path(), stored, expected, found));
        }
        if !blocks::is_read(kind) {
            let expected = format!("one of the types {}", blocks::names());
            return Err(ModelError::weight(self.path(), stored, expected, kind.name()));
        }
        Ok(())
    }

    /// The hash of a tensor's blocks.
    ///
    /// # Errors
    /// If they can't be read.
    pub(crate) fn digest(&self, stored: &str) -> Result<TensorDigest> {
        Ok(self.file.scan(stored, |_| {})?)
    }

    /// Gives a tensor's numbers to `each` as they are stored, a piece after the other, and takes the hash of its blocks.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn scan(&self, stored: &str, mut each: impl FnMut(&[f32])) -> Result<TensorDigest> {
        let (_, kind) = self.tensor(stored)?;
        let (mut values, mut done) = (Vec::new(), Ok(()));
        let digest = self.file.scan(stored, |bytes| {
            values.clear();
            if done.is_ok() {
                done = blocks::append(kind, bytes, &mut values);
                each(&values);
            }
        })?;
        done.map(|()| digest)
    }

    /// The numbers of a tensor of this shape in the model, of those that are stored.
    pub(crate) fn arranged(&self, stored: &str, shape: &[usize], mut values: Vec<f32>) -> Vec<f32> {
        let Some(known) = self.known.get(stored) else { return values };
        if known.plus_one {
            values.iter_mut().for_each(|value| *value -= 1.0);
        }
        let shape = self.stored_shape(stored, shape);
        let [rows, behind @ ..] = shape.as_slice() else { return values };
        let width = behind.iter().product::<usize>().max(1);
        let values = known.rows.arranged(values, *rows, width);
        if known.turned { transposed(&values, width) } else { values }
    }

    /// Appends some rows of a matrix; of one that is stored as its transpose, rows of that.
    ///
    /// # Errors
    /// If there are no such rows, or they can't be read.
    pub(crate) fn append_rows(&self, stored: &str, rows: Range<usize>, values: &mut Vec<f32>) -> Result<()> {
        let (shape, kind) = self.tensor(stored)?;
        let width = shape.iter().skip(1).product::<usize>().max(1);
        let order = self.known.get(stored).map_or(RowOrder::Same, |known| known.rows);
        let mut read = Vec::new();
        for run in order.runs(rows) {
            let to = if run.step == 1 { &mut *values } else { &mut read };
            self.file.rows(stored, run.span(), |bytes| blocks::append(kind, bytes, to))??;
            if run.step != 1 {
                read.chunks(width).step_by(run.step).for_each(|row| values.extend_from_slice(row));
                read.clear();
            }
        }
        Ok(())
    }

    /// All numbers of a tensor of this shape in the model.
    ///
    /// # Errors
    /// If it can't be read.
    pub(crate) fn whole(&self, stored: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let mut values = Vec::with_capacity(shape.iter().product());
        self.scan(stored, |piece| values.extend_from_slice(piece))?;
        Ok(self.arranged(stored, shape, values))
    }

    fn tensor(&self, stored: &str) -> Result<(&[usize], BlockType)> {
        let found = self.file.tensor(stored);
        found.ok_or_else(|| ModelError::weight(self.path(), stored, "a tensor", "nothing"))
    }

    /// The shape that a tensor of this shape in the model has in the file.
    fn stored_shape(&self, stored: &str, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if self.is_turned(stored) {
            shape.reverse();
        }
        shape
    }
}

/// What a file calls a part of a model.
fn stored_name(part: Part, kind: Kind) -> Option<String> {
    let fused = matches!(kind, Kind::GptNeox | Kind::Gpt2);
    let (layer, part) = match part {
        Part::Layer(layer, part) => (layer, part),
        Part::Words => return Some("token_embd".into()),
        Part::Positions => return Some("position_embd".into()),
        Part::FinalNorm => return Some("output_norm".into()),
        Part::Decoder => return Some("output".into()),
        Part::TokenTypes | Part::EmbeddingNorm | Part::HeadDense | Part::HeadNorm | Part::HeadBias => {
            return None;
        }
    };
    let name = match part {
        LayerPart::InputNorm => "attn_norm",
        LayerPart::Query | LayerPart::Key | LayerPart::Value if fused => "attn_qkv",
        LayerPart::Query => "attn_q",
        LayerPart::Key => "attn_k",
        LayerPart::Value => "attn_v",
        LayerPart::QueryNorm => "attn_q_norm",
        LayerPart::KeyNorm => "attn_k_norm",
        LayerPart::AttentionOutput => "attn_output",
        LayerPart::AttentionEndNorm => "post_attention_norm",
        LayerPart::FfnNorm => "ffn_norm",
        LayerPart::Gate => "ffn_gate",
        LayerPart::Up => "ffn_up",
        LayerPart::Down => "ffn_down",
        LayerPart::FfnEndNorm => "post_ffw_norm",
        LayerPart::AttentionSumNorm | LayerPart::FfnSumNorm => return None,
    };
    Some(format!("blk.{layer}.{name}"))
}

/// The transpose of a matrix whose rows are so wide.
fn transposed(values: &[f32], width: usize) -> Vec<f32> {
    (0..width).flat_map(|column| values.iter().skip(column).step_by(width).copied()).collect()
}
