use std::borrow::Cow;
use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use candle_core::Tensor;
use skn_artifact::names::{fire, key};
use skn_artifact::{Array, ArtifactError, Spool, TensorBundle, TensorFile};
use skn_counts::Pool;
use skn_data::TextList;
use skn_kernels::{Misfit, pack_above, with_values};
use skn_model::LanguageModel;

use crate::bits::{append_bits, set_above, transpose};
use crate::error::{ProbingError, Result};
use crate::record::{Metadata, Record, described, other, wrong_metadata};
use crate::shared::{Shared, Spare};
use crate::statistic::{BatchTexts, Block, Row, Statistic, TakeBlocks, part};
use crate::threshold::Threshold;
use crate::watch::Dims;

/// One bit for each neuron, position and text: whether the activation is above the threshold, as a [`Count`](crate::Count) compares it.
///
/// Bits of a text go to a [`Spool`] as soon as its batch is done, and are turned when the file is written, a position of a layer at a
/// time. So memory holds the bits of the batches under way, then those of one position.
#[derive(Clone, Debug)]
pub struct Fires {
    threshold: Arc<Threshold>,
    widths: Vec<usize>,
    kept: Arc<Kept>,
    /// Of a batch: for each text where its bits stand in `bits`, and which text of the file it is.
    of_batch: Vec<Option<(usize, usize)>>,
    /// For each text `[L, P, ceil(F / 8)]`.
    bits: Vec<u8>,
    /// Bits of layers that are still on a device.
    packed: Vec<Packed>,
    thresholds: Shared<Tensor>,
    spare: Spare<Vec<u8>>,
}

/// The bits of a layer's neurons for the texts of a batch, on a device.
#[derive(Clone, Debug)]
struct Packed {
    layer: usize,
    /// Which text of the batch each row of a position is of.
    texts: Vec<usize>,
    /// `[positions * texts, bytes]`
    bits: Tensor,
}

/// Some texts of a split, where all would be too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Their rows.
    pub rows: BTreeSet<u64>,
    /// How many texts the split has.
    pub of: usize,
}

/// The texts whose bits are kept, and where.
#[derive(Debug)]
struct Kept {
    /// Their places in the pass, ascending: the n-th is the n-th text of the file.
    places: Vec<usize>,
    labels: Vec<i64>,
    rows: Vec<i64>,
    /// What the file says of a sample.
    sample: Option<String>,
    spool: Spool,
}

impl Fires {
    /// For the neurons of a model and the texts of a pass, or those of them that are in a sample, in their order. `spool` gets
    /// `L P ceil(F / 8)` bytes for each.
    ///
    /// # Errors
    /// If the thresholds are of another shape than the model, or the texts are stored and can't be read.
    pub fn new<'t>(
        model: &LanguageModel,
        threshold: &Threshold,
        texts: impl Into<TextList<'t>>,
        sample: Option<&Sample>,
        spool: Spool,
    ) -> Result<Self> {
        let expected = Dims::of(model, threshold.pool())?;
        if threshold.dims != expected {
            let what = format!("thresholds {}", threshold.pool().average_file());
            return Err(ProbingError::mismatch(
                what,
                format!("{:?}", expected.sizes()),
                format!("{:?}", threshold.dims()),
            ));
        }
        let mut kept = Vec::new();
        texts.into().each(|text| {
            if sample.is_none_or(|sample| sample.rows.contains(&text.row)) {
                kept.push((text.place, text.label as i64, text.row as i64));
            }
            Ok::<_, ProbingError>(())
        })?;
        kept.sort_unstable();
        let places = kept.iter().map(|(place, ..)| *place).collect();
        let (labels, rows) = kept.iter().map(|(_, label, row)| (*label, *row)).unzip();
        let sample = sample.map(|sample| format!("{} of {}", sample.rows.len(), sample.of));
        Ok(Self {
            threshold: Arc::new(threshold.clone()),
            widths: model.config().intermediate_sizes.clone(),
            kept: Arc::new(Kept { places, labels, rows, sample, spool }),
            of_batch: Vec::new(),
            bits: Vec::new(),
            packed: Vec::new(),
            thresholds: Shared::default(),
            spare: Spare::default(),
        })
    }

    fn shape(&self) -> Shape {
        Shape::of(&self.threshold.dims)
    }
}

impl Statistic for Fires {
    fn reads(&self, pool: Pool, _: usize) -> bool {
        pool == self.threshold.pool()
    }

    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
        let mut kept = 0..;
        let slots = texts.places.iter().map(|place| self.kept.places.binary_search(place).ok());
        let of_batch: Vec<_> = slots.map(|slot| Some((kept.next()?, slot?))).collect();
        // A text that is not kept takes a number too.
        let mut bits = self.spare.take().unwrap_or_default();
        bits.clear();
        bits.resize(of_batch.len() * self.shape().of_text(), 0);
        let (threshold, widths, kept) = (self.threshold.clone(), self.widths.clone(), self.kept.clone());
        let (packed, thresholds, spare) = (Vec::new(), self.thresholds.share(), self.spare.share());
        Ok(Box::new(Self { threshold, widths, kept, of_batch, bits, packed, thresholds, spare }))
    }

    fn take(&mut self, row: &Row<'_>) -> Result<()> {
        let Some((index, _)) = self.of_batch[row.text] else { return Ok(()) };
        let shape = self.shape();
        let place = index * shape.of_text() + shape.offset(row.layer, row.position);
        let threshold = &self.threshold.values[self.threshold.dims.offset(row)..][..row.values.len()];
        set_above(row.values, threshold, &mut self.bits[place..][..shape.bytes()]);
        Ok(())
    }

    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        Some(self)
    }

    fn absorb(&mut self, of_batch: Box<dyn Statistic>) -> Result<()> {
        let of_text = self.shape().of_text();
        let mut part: Self = part(of_batch)?;
        part.unpack()?;
        let Self { of_batch, bits, .. } = part;
        for (index, slot) in of_batch.into_iter().flatten() {
            self.kept.spool.write((slot * of_text) as u64, &bits[index * of_text..][..of_text])?;
        }
        self.spare.keep(bits);
        Ok(())
    }

    fn file(&self, split: &str) -> String {
        fire::file(self.threshold.pool().name(), split)
    }

    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
        let (labels, rows) = (self.kept.labels.clone(), self.kept.rows.clone());
        let (shape, pool, sample) = (self.shape(), self.threshold.pool(), self.kept.sample.clone());
        let part = Part { texts: rows.len(), bits: Bits::Spool(self.kept) };
        Ok(Box::new(FireRecord { pool, shape, widths: self.widths, sample, labels, rows, parts: vec![part] }))
    }
}

impl TakeBlocks for Fires {
    /// Bits alone come to the host, when the batch is done.
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()> {
        // Where no text is kept too: a number that is not finite is an error there as on a processor.
        let mut thresholds = self.thresholds.lock();
        let threshold = match thresholds.entry(block.layer) {
            Entry::Occupied(threshold) => threshold.into_mut(),
            Entry::Vacant(place) => {
                let shape = [block.rows.groups(), block.values.dim(1)?];
                place.insert(self.threshold.on_device(block.layer, shape, block.values.device())?)
            }
        };
        let bits = pack_above(block.values, block.rows, threshold, misfit)?;
        self.packed.push(Packed { layer: block.layer, texts: block.texts.to_vec(), bits });
        Ok(())
    }
}

impl Fires {
    /// Fetches the bits that are on a device.
    fn unpack(&mut self) -> Result<()> {
        let shape = self.shape();
        for Packed { layer, texts, bits } in std::mem::take(&mut self.packed) {
            let bytes = bits.dim(1)?;
            // Nothing is fetched of a layer without neurons, nor where no text is kept.
            if bits.elem_count() == 0 || self.of_batch.iter().all(Option::is_none) {
                continue;
            }
            with_values(&bits, |bits: &[u8]| {
                for (row, bits) in bits.chunks_exact(bytes.max(1)).enumerate() {
                    let (position, text) = (row / texts.len(), texts[row % texts.len()]);
                    let Some((index, _)) = self.of_batch[text] else { continue };
                    let place = index * shape.of_text() + shape.offset(layer, position);
                    self.bits[place..][..bytes].copy_from_slice(bits);
                }
            })?;
        }
        Ok(())
    }
}

/// L, P (1 of whole texts) and F.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    layers: usize,
    positions: usize,
    neurons: usize,
}

impl Shape {
    fn of(dims: &Dims) -> Self {
        match dims.sizes() {
            [layers, positions, neurons] => {
                Self { layers: *layers, positions: *positions, neurons: *neurons }
            }
            sizes => Self { layers: sizes[0], positions: 1, neurons: sizes[sizes.len() - 1] },
        }
    }

    /// The bytes of a text's neurons at one position of a layer.
    fn bytes(self) -> usize {
        self.neurons.div_ceil(8)
    }

    /// The bytes of a text.
    fn of_text(self) -> usize {
        self.layers * self.positions * self.bytes()
    }

    /// Where a position of a layer stands among a text's bytes.
    fn offset(self, layer: usize, position: usize) -> usize {
        (layer * self.positions + position) * self.bytes()
    }

    fn dims(self, texts: usize) -> Vec<usize> {
        vec![self.layers, self.positions, self.neurons, texts.div_ceil(8)]
    }
}

/// The file `dev_fire` (`dev_last_fire`): `fire` U8 `[L, P, F, ceil(N / 8)]`, of which bit `i % 8`, lowest first, of byte `i / 8` is
/// text `i` of N; `label` and `row` I64 `[N]`. Bits behind the last text are 0. P is 1 of whole texts.
#[derive(Clone, Debug)]
pub struct FireRecord {
    pool: Pool,
    shape: Shape,
    widths: Vec<usize>,
    sample: Option<String>,
    labels: Vec<i64>,
    rows: Vec<i64>,
    /// One behind the other.
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    texts: usize,
    bits: Bits,
}

#[derive(Clone, Debug)]
enum Bits {
    Spool(Arc<Kept>),
    File(TensorFile),
}

const FIRE: &str = "fire";

impl FireRecord {
    /// Reads the header of a file that is open ([`TensorFile::open`]); bits are read from it when they are written elsewhere.
    ///
    /// # Errors
    /// If it is of another kind or shape, has a label below 0, or rows that do not ascend.
    pub fn read(file: &TensorFile, pool: Pool) -> Result<Self> {
        file.expect_kind(&fire::kind(pool.name()))?;
        let found = file.shape(FIRE)?.to_vec();
        let (of, labels) = file.i64("label", None)?;
        let texts = of.first().copied().unwrap_or(0);
        let (_, rows) = file.i64("row", Some(&[texts]))?;
        let shape = match found[..] {
            [layers, positions, neurons, _] => Shape { layers, positions, neurons },
            _ => Shape { layers: 0, positions: 0, neurons: 0 },
        };
        let fits = of.len() == 1 && found == shape.dims(texts) && !found[..3].contains(&0);
        if !fits || (pool.is_of_text() && shape.positions != 1) {
            let expected =
                format!("shape [layers, positions, neurons, {}] of {texts} texts", texts.div_ceil(8));
            return Err(wrong(file, FIRE, expected, format!("{found:?}")));
        }
        file.u8_range(FIRE, None, 0..0)?;
        if let Some(label) = labels.iter().find(|&&label| label < 0) {
            return Err(wrong(file, "label", "0 or more", label));
        }
        if let Some(pair) = rows.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(wrong(file, "row", "rows that ascend", format!("{} behind {}", pair[1], pair[0])));
        }
        let widths = match file.metadata().get(key::WIDTHS) {
            None => vec![shape.neurons; shape.layers],
            Some(text) => widths(text, shape).ok_or_else(|| {
                let expected = format!("{} numbers up to {}", shape.layers, shape.neurons);
                wrong_metadata(file, key::WIDTHS, expected, text)
            })?,
        };
        let parts = vec![Part { texts, bits: Bits::File(file.clone()) }];
        let sample = file.metadata().get(key::SAMPLE).cloned();
        Ok(Self { pool, shape, widths, sample, labels, rows, parts })
    }

    /// The bits of a position of a layer, `[F, ceil(N / 8)]`.
    fn position(&self, layer: usize, position: usize) -> skn_artifact::Result<Vec<u8>> {
        let (shape, stride) = (self.shape, self.rows.len().div_ceil(8));
        let mut bits = vec![0; shape.neurons * stride];
        let mut first = 0;
        for part in self.parts.iter().filter(|part| part.texts > 0) {
            let (of_part, length) = (part.position(shape, layer, position)?, part.texts.div_ceil(8));
            for (to, from) in bits.chunks_exact_mut(stride).zip(of_part.chunks_exact(length)) {
                append_bits(to, first, from, part.texts);
            }
            first += part.texts;
        }
        Ok(bits)
    }
}

fn widths(text: &str, shape: Shape) -> Option<Vec<usize>> {
    let widths: Option<Vec<usize>> = text.split(',').map(|width| width.parse().ok()).collect();
    widths.filter(|all| all.len() == shape.layers && all.iter().all(|&width| width <= shape.neurons))
}

impl Part {
    fn position(&self, shape: Shape, layer: usize, position: usize) -> skn_artifact::Result<Cow<'_, [u8]>> {
        let bytes = shape.bytes();
        match &self.bits {
            Bits::File(file) => {
                let length = shape.neurons * self.texts.div_ceil(8);
                let start = (layer * shape.positions + position) * length;
                file.u8_range(FIRE, None, start..start + length)
            }
            Bits::Spool(kept) => {
                /// Texts whose bits are turned at once; whole bytes of them.
                const SOME: usize = 1024;
                let stride = self.texts.div_ceil(8);
                let mut bits = vec![0; shape.neurons * stride];
                for first in (0..self.texts).step_by(SOME) {
                    let texts = SOME.min(self.texts - first);
                    let mut rows = vec![0; texts * bytes];
                    for (slot, row) in (first..).zip(rows.chunks_exact_mut(bytes.max(1))) {
                        let place = slot * shape.of_text() + shape.offset(layer, position);
                        kept.spool.read(place as u64, row)?;
                    }
                    let turned = transpose(&rows, texts, shape.neurons);
                    let of_neurons = turned.chunks_exact(texts.div_ceil(8));
                    for (to, from) in bits.chunks_exact_mut(stride).zip(of_neurons) {
                        to[first / 8..][..from.len()].copy_from_slice(from);
                    }
                }
                Ok(Cow::Owned(bits))
            }
        }
    }
}

impl Record for FireRecord {
    fn merge(&mut self, shard: &dyn Record) -> Result<()> {
        let shard: &Self = other(shard)?;
        let of = |all: &Self| format!("{:?} {:?} {:?} {:?}", all.pool, all.shape, all.widths, all.sample);
        if of(self) != of(shard) {
            return Err(ProbingError::mismatch("fire bits of a shard", of(self), of(shard)));
        }
        if let (Some(last), Some(first)) = (self.rows.last(), shard.rows.first())
            && last >= first
        {
            return Err(ProbingError::mismatch("first row of a shard", format!("above {last}"), first));
        }
        self.labels.extend(&shard.labels);
        self.rows.extend(&shard.rows);
        self.parts.extend(shard.parts.iter().cloned());
        Ok(())
    }

    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        let mut bundle = described(&fire::kind(self.pool.name()), metadata);
        if let Some(widths) = key::widths(&self.widths) {
            bundle.describe(key::WIDTHS, widths);
        }
        if let Some(sample) = &self.sample {
            bundle.describe(key::SAMPLE, sample);
        }
        let (own, shape, texts) = (self.clone(), self.shape, self.rows.len());
        let bits = Array::u8_pieces(shape.dims(texts), move |write| {
            let places = (0..shape.layers)
                .flat_map(|layer| (0..shape.positions).map(move |position| (layer, position)));
            for (layer, position) in places {
                write(&own.position(layer, position)?)?;
            }
            Ok(())
        });
        bundle.insert(FIRE, bits?);
        bundle.insert("label", Array::i64(vec![texts], self.labels.clone())?);
        bundle.insert("row", Array::i64(vec![texts], self.rows.clone())?);
        Ok(bundle)
    }
}

fn wrong(file: &TensorFile, tensor: &str, expected: impl ToString, found: impl ToString) -> ProbingError {
    let (file, tensor) = (file.path().into(), tensor.into());
    ArtifactError::Tensor { file, tensor, expected: expected.to_string(), found: found.to_string() }.into()
}
