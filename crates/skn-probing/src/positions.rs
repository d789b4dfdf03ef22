use skn_artifact::names::{file, key, kind, schema};
use skn_artifact::{Array, ArtifactError, TensorBundle, TensorFile};
use skn_counts::Pool;
use skn_data::TextList;
use skn_kernels::{ColumnNumbers, Misfit};
use skn_model::LanguageModel;

use crate::error::{ProbingError, Result};
use crate::picked::Picked;
use crate::record::{Metadata, Record, described, other};
use crate::statistic::{BatchTexts, Block, Row, Statistic, TakeBlocks, part};

/// The activations of one neuron at all prompt positions, for every text; without a prompt at the text's last token.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Positions {
    /// Prompt positions, or the last token.
    pub pool: Pool,
    /// P: how many positions a text has.
    pub positions: usize,
    /// `[texts, P]`, row-major, in the order of the texts.
    pub activations: Vec<f32>,
    /// The class of each text.
    pub labels: Vec<usize>,
    /// The row of each text in its part of the data. None of a file that does not say them.
    pub rows: Vec<u64>,
}

impl Positions {
    pub(crate) fn new(model: &LanguageModel, neuron: (usize, usize), texts: TextList<'_>) -> Result<Self> {
        let (layer, index) = neuron;
        let widths = &model.config().intermediate_sizes;
        let width = widths.get(layer).copied().unwrap_or(0);
        if index >= width {
            let expected = format!("a layer below {} and an index below its width, {width}", widths.len());
            return Err(ProbingError::mismatch("neuron", expected, format!("{layer},{index}")));
        }
        let (pool, positions) = match model.prompt_rows() {
            0 => (Pool::Last, 1),
            rows => (Pool::Position, rows),
        };
        let activations = vec![0.0; positions * texts.len()];
        let (mut labels, mut rows) = (vec![0; texts.len()], vec![0; texts.len()]);
        texts.each(|text| {
            (labels[text.place], rows[text.place]) = (text.label, text.row);
            Ok::<_, ProbingError>(())
        })?;
        Ok(Self { pool, positions, activations, labels, rows })
    }

    /// Puts the rows of a batch where its texts stand.
    pub(crate) fn fill(&mut self, places: impl Iterator<Item = usize>, rows: &[f32]) {
        for (place, row) in places.zip(rows.chunks_exact(self.positions.max(1))) {
            self.activations[place * self.positions..][..self.positions].copy_from_slice(row);
        }
    }

    /// Puts another shard's texts behind these.
    ///
    /// # Errors
    /// If it has another number of positions, or rows where these have none.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        if other.pool != self.pool {
            return Err(ProbingError::mismatch("place of a shard", self.pool.name(), other.pool.name()));
        }
        if self.rows.is_empty() != other.rows.is_empty() {
            let said = |of: &Self| if of.rows.is_empty() { "none" } else { "some" };
            return Err(ProbingError::mismatch("rows of a shard", said(self), said(other)));
        }
        if other.positions != self.positions {
            return Err(ProbingError::mismatch("positions of a shard", self.positions, other.positions));
        }
        self.activations.extend(&other.activations);
        self.labels.extend(&other.labels);
        self.rows.extend(&other.rows);
        Ok(())
    }

    /// The file `pos_dev/<layer>,<index>`: `activation`, `label` and `row`.
    ///
    /// # Errors
    /// If the fields do not fit together.
    pub fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        let texts = self.labels.len();
        let labels = self.labels.iter().map(|&label| label as i64).collect();
        let mut bundle = described(kind::POSITIONS, metadata);
        bundle.insert("activation", Array::f32(vec![texts, self.positions], self.activations.clone())?);
        bundle.insert("label", Array::i64(vec![texts], labels)?);
        if !self.rows.is_empty() {
            let rows = self.rows.iter().map(|&row| row as i64).collect();
            bundle.insert("row", Array::i64(vec![texts], rows)?);
            bundle.in_schema(schema::POSITIONS_WITH_ROWS);
        }
        if self.pool == Pool::Last {
            bundle.describe(key::POOL, self.pool.name());
        }
        Ok(bundle)
    }

    /// Reads what [`Self::to_bundle`] made.
    ///
    /// # Errors
    /// If the file is of another kind or shape, lacks the rows that its form has, or a label or a row is below 0.
    pub fn read(file: &TensorFile) -> Result<Self> {
        file.expect_kind(kind::POSITIONS)?;
        let (shape, activations) = file.f32("activation", None)?;
        let [texts, positions] = shape[..] else {
            return Err(wrong(file, "activation", "shape [texts, positions]", format!("{shape:?}")));
        };
        let (_, labels) = file.i64("label", Some(&[texts]))?;
        let class =
            |&label: &i64| usize::try_from(label).map_err(|_| wrong(file, "label", "0 or more", label));
        // Earlier forms had none.
        let promised = schema::POSITIONS_WITH_ROWS.to_string();
        let rows = match file.contains("row") || file.metadata().get(key::SCHEMA) == Some(&promised) {
            true => file.i64("row", Some(&[texts]))?.1,
            false => Vec::new(),
        };
        let row = |&row: &i64| u64::try_from(row).map_err(|_| wrong(file, "row", "0 or more", row));
        let is_last = file.metadata().get(key::POOL).is_some_and(|pool| pool == Pool::Last.name());
        Ok(Self {
            pool: if is_last { Pool::Last } else { Pool::Position },
            positions,
            activations,
            labels: labels.iter().map(class).collect::<Result<_>>()?,
            rows: rows.iter().map(row).collect::<Result<_>>()?,
        })
    }
}

impl Record for Positions {
    fn merge(&mut self, shard: &dyn Record) -> Result<()> {
        self.append(other(shard)?)
    }

    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        self.to_bundle(metadata)
    }
}

/// Captures the activations of one neuron (layer, index): the [`Statistic`] of [`Positions`].
#[derive(Clone, Debug)]
pub struct Capture {
    neuron: (usize, usize),
    /// Of all texts, or of those of a batch.
    positions: Positions,
    /// Where a batch's texts stand among all; empty of all.
    places: Vec<usize>,
    /// A batch's activations that are still on a device.
    picked: Option<Picked>,
    column: ColumnNumbers,
}

impl Capture {
    /// For these texts, in the order of the pass.
    ///
    /// # Errors
    /// If the model has no such neuron, or the texts are stored and can't be read.
    pub fn new<'t>(
        model: &LanguageModel,
        neuron: (usize, usize),
        texts: impl Into<TextList<'t>>,
    ) -> Result<Self> {
        let positions = Positions::new(model, neuron, texts.into())?;
        let column = ColumnNumbers::new(vec![neuron.1 as u32]);
        Ok(Self { neuron, positions, places: Vec::new(), picked: None, column })
    }

    /// What was captured.
    pub fn into_positions(self) -> Positions {
        self.positions
    }
}

impl Statistic for Capture {
    fn reads(&self, pool: Pool, layer: usize) -> bool {
        pool == self.positions.pool && layer == self.neuron.0
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let Positions { pool, positions, .. } = self.positions;
        let activations = vec![0.0; positions * texts.rows.len()];
        let (labels, rows) = (texts.labels.to_vec(), texts.rows.to_vec());
        let positions = Positions { pool, positions, activations, labels, rows };
        let (neuron, column) = (self.neuron, self.column.clone());
        Ok(Box::new(Self { neuron, positions, places: texts.places.to_vec(), picked: None, column }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        let place = row.text * self.positions.positions + row.position;
        self.positions.activations[place] = row.values[self.neuron.1];
        Ok(())
    }

    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        Some(self)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let Self { mut positions, places, picked, .. } = part(of_batch)?;
        if let Some(picked) = picked {
            let all = positions.positions;
            picked.each(|position, text, activation| {
                positions.activations[text * all + position] = activation[0];
            })?;
        }
        self.positions.fill(places.into_iter(), &positions.activations);
        Ok(())
    }

    fn file(&self, split: &str) -> String {
        let (layer, index) = self.neuron;
        file::stem(&file::positions(split, layer, index)).into()
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        Ok(Box::new(self.positions))
    }
}

impl TakeBlocks for Capture {
    /// The neuron's activations alone come to the host, when the batch is done.
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()> {
        self.picked = Some(Picked::of(block, &self.column, misfit)?);
        Ok(())
    }
}

fn wrong(file: &TensorFile, tensor: &str, expected: &str, found: impl ToString) -> ProbingError {
    let (file, tensor) = (file.path().into(), tensor.into());
    ArtifactError::Tensor { file, tensor, expected: expected.into(), found: found.to_string() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions() -> Positions {
        let (labels, rows) = (vec![0, 1, 1], vec![4, 2, 7]);
        Positions { pool: Pool::Position, positions: 2, activations: vec![0.0; 6], labels, rows }
    }

    #[test]
    fn rows_come_to_their_texts() {
        let mut positions = positions();
        positions.fill([2, 0].into_iter(), &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(positions.activations, [3.0, 4.0, 0.0, 0.0, 1.0, 2.0]);
    }

    #[test]
    fn shards_are_put_behind_each_other() {
        let mut whole = positions();
        let (activations, labels, rows) = (vec![5.0, 6.0], vec![2], vec![9]);
        let shard = Positions { activations, labels, rows, ..positions() };
        whole.append(&shard).unwrap();
        assert_eq!((&whole.activations[6..], &whole.labels[3..]), (&[5.0, 6.0][..], &[2][..]));
        assert_eq!(whole.rows, [4, 2, 7, 9]);
        assert!(whole.append(&Positions { positions: 1, ..shard.clone() }).is_err());
        assert!(whole.append(&Positions { pool: Pool::Last, ..shard.clone() }).is_err());
        assert!(whole.append(&Positions { rows: vec![], ..shard }).is_err(), "whose rows nobody knows");
    }

    #[test]
    fn a_file_is_read_back() {
        let bytes = positions().to_bundle(&Metadata::new()).unwrap().to_bytes().unwrap();
        let file = TensorFile::from_bytes("9,1.safetensors".as_ref(), bytes).unwrap();
        assert_eq!(Positions::read(&file).unwrap(), positions());
        assert_eq!(file.metadata()["skn.schema"], "5");
        // Earlier programs wrote no rows; without a prompt the place is said.
        for other in [
            Positions { rows: vec![], ..positions() },
            Positions { pool: Pool::Last, positions: 1, activations: vec![1.0; 3], ..positions() },
        ] {
            let bytes = other.to_bundle(&Metadata::new()).unwrap().to_bytes().unwrap();
            let file = TensorFile::from_bytes("9,1.safetensors".as_ref(), bytes).unwrap();
            assert_eq!(Positions::read(&file).unwrap(), other);
            let form = if other.rows.is_empty() { "1" } else { "5" };
            assert_eq!(file.metadata()["skn.schema"], form);
        }
    }

    #[test]
    fn a_form_with_rows_has_rows() {
        let without = Positions { rows: vec![], ..positions() };
        let mut bundle = without.to_bundle(&Metadata::new()).unwrap();
        bundle.in_schema(schema::POSITIONS_WITH_ROWS);
        let file = TensorFile::from_bytes("9,1.safetensors".as_ref(), bundle.to_bytes().unwrap()).unwrap();
        let message = Positions::read(&file).unwrap_err().to_string();
        assert!(message.contains("9,1.safetensors") && message.contains("row"), "{message}");
    }
}
