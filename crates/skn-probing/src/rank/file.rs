//! The file of a ranking, and what a shard's holds instead of scores.

use skn_artifact::names::{key, rank};
use skn_artifact::{Array, ArtifactError, TensorBundle, TensorFile};
use skn_counts::{Areas, Pool, ScoreRule};
use skn_stats::{MeanAccumulator, SquareAccumulator};

use super::histogram::{BINS, Histogram, Pairs};
use super::ranking::Ranking;
use super::record::RankRecord;
use super::tally::Tally;
use crate::error::{ProbingError, Result};
use crate::record::{Metadata, Record, described, other, wrong_metadata};
use crate::watch::Dims;

impl RankRecord {
    /// Reads a shard's file, with what scores are computed from.
    ///
    /// # Errors
    /// If the file is of another kind or shape, is not a shard's, or holds what can't be.
    pub fn read(file: &TensorFile) -> Result<Self> {
        read(file)
    }
}

impl Record for RankRecord {
    fn merge(&mut self, shard: &dyn Record) -> Result<()> {
        let shard: &Self = other(shard)?;
        let of = |all: &Self| {
            format!("{} {:?} {:?} of {} classes", all.ranking, all.pool, all.dims.sizes(), all.texts.len())
        };
        if of(self) != of(shard) || self.widths != shard.widths {
            return Err(ProbingError::mismatch("ranking of a shard", of(self), of(shard)));
        }
        if self.column != shard.column {
            let of = |all: &Self| {
                all.column.as_deref().map_or("classes".to_owned(), |column| format!("{column:?}"))
            };
            return Err(ProbingError::mismatch("ranking of a shard, correlated with", of(self), of(shard)));
        }
        if self.as_published != shard.as_published {
            let of = |all: &Self| if all.as_published { "the published score" } else { "the usual score" };
            return Err(ProbingError::mismatch("ranking of a shard", of(self), of(shard)));
        }
        if (&self.dead, &self.deviation) != (&shard.dead, &shard.deviation) {
            return Err(ProbingError::mismatch(
                "ranking of a shard",
                "the same averages over train",
                "others",
            ));
        }
        self.tally.merge(&shard.tally)?;
        self.texts.iter_mut().zip(&shard.texts).for_each(|(whole, part)| *whole += part);
        Ok(())
    }

    fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
        bundle(self, metadata)
    }
}

/// `score` F32 `[L, F]`, larger is more of it; `dead` BOOL `[L, F]`; `position` and `class` I32 `[L, F]` where one was chosen; and for
/// some rankings what the score is the magnitude of, and what stands beside it. A shard's file has sums instead.
///
/// `auc` has its areas at all positions and of all classes too ([`Areas`]), and there is a file of test that has them alone: what was
/// chosen on dev is told of test by these, and nothing is chosen on test.
fn bundle(record: &RankRecord, metadata: &Metadata) -> Result<TensorBundle> {
    // A merged file is that of the whole run, which needs no word for its shards.
    let mut metadata = metadata.clone();
    metadata.remove(rank::COMPAT);
    let metadata = &metadata;
    let mut bundle = described(rank::KIND, metadata);
    bundle.describe(rank::RANKING, record.ranking.name());
    bundle.describe(rank::POOL, rank::pool_name(record.pool.name()));
    if let Some(column) = &record.column {
        bundle.describe(rank::COLUMN, column);
    }
    if let Some(widths) = key::widths(&record.widths) {
        bundle.describe(key::WIDTHS, widths);
    }
    if !record.unsettled().is_empty() {
        let layers: Vec<String> = record.unsettled().iter().map(usize::to_string).collect();
        bundle.describe(rank::UNSETTLED, layers.join(","));
    }
    if metadata.contains_key(key::SHARD) {
        if record.as_published {
            bundle.describe(rank::COMPAT, rank::PAPER);
        }
        sums(record, &mut bundle)?;
        return Ok(bundle);
    }
    if let Tally::Histogram(histogram) = &record.tally {
        areas(record, histogram, &mut bundle)?;
        if metadata.get(key::SPLIT).is_some_and(|split| split != "dev") {
            return Ok(bundle);
        }
    }
    let (shape, ranked) = (record.shape().to_vec(), record.ranked()?);
    bundle.insert("score", Array::f32(shape.clone(), ranked.score)?);
    bundle.insert("dead", Array::bool(shape.clone(), ranked.dead)?);
    if record.pool == Pool::Position && record.ranking != Ranking::Random {
        bundle.insert("position", Array::i32(shape.clone(), ranked.position)?);
    }
    if record.ranking == Ranking::Lape || (record.is_of_a_class() && record.texts.len() > 2) {
        bundle.insert("class", Array::i32(shape.clone(), ranked.class)?);
    }
    let (signed, beside) = match record.ranking {
        Ranking::Predictivity => {
            let rule = record.rule();
            bundle.describe(key::SCORE, rule.name());
            (Some(if rule == ScoreRule::Accuracy { "accuracy" } else { "balanced_accuracy" }), None)
        }
        Ranking::Auc => (Some("auc"), Some("bound")),
        Ranking::MeanDifference => (Some("difference"), Some("cohen_d")),
        Ranking::Correlation => (Some("r"), None),
        Ranking::Lape => (Some("entropy"), None),
        Ranking::Gradient => (Some("agreement"), None),
        Ranking::Cett | Ranking::Taylor | Ranking::IntegratedGradients | Ranking::L1 | Ranking::Random => {
            (None, None)
        }
    };
    for (name, values) in [(signed, ranked.signed), (beside, ranked.beside)] {
        if let Some(name) = name {
            bundle.insert(name, Array::f32(shape.clone(), values)?);
        }
    }
    Ok(bundle)
}

/// The areas of all places, of class 1 of two and of each class of more.
fn areas(record: &RankRecord, histogram: &Histogram, bundle: &mut TensorBundle) -> Result<()> {
    let (dims, places, texts) = (record.dims.sizes(), record.dims.elements(), &record.texts);
    let ruled = if texts.len() == 2 { 1..2 } else { 0..texts.len() };
    let too_many = || ProbingError::mismatch("texts of a ranking", "less than 2^32", "more");
    let all: u64 = texts.iter().sum();
    let total = u32::try_from(all).map(i64::from).map_err(|_| too_many())?;
    let positives = texts[ruled.clone()].iter().map(|&texts| texts as i64).collect::<Vec<_>>();
    let (mut twice_above, mut bound) = (Vec::new(), Vec::new());
    for class in ruled.clone() {
        for place in 0..places {
            let Pairs { above, shared, .. } = histogram.pairs(place, class);
            twice_above.push((2 * above + shared) as i64);
            bound.push(histogram.area(place, class).1 as f32);
        }
    }
    let spread = (0..places).map(|place| histogram.spread(place) as f32).collect();
    let shape: Vec<usize> =
        Some(ruled.len()).filter(|&classes| classes > 1).into_iter().chain(dims.iter().copied()).collect();
    let areas = Areas::new(twice_above, bound, spread);
    Ok(areas.insert(&shape, dims, (positives, total), bundle)?)
}

fn sums(record: &RankRecord, bundle: &mut TensorBundle) -> Result<()> {
    let (dims, classes) = (record.dims.sizes().to_vec(), record.texts.len());
    let by_class = || [&[classes][..], &dims].concat();
    let integers = |counts: &[u64]| {
        counts.iter().map(|&count| i64::try_from(count)).collect::<std::result::Result<_, _>>()
    };
    let too_many = |_| ProbingError::mismatch("texts of a ranking", "at most 2^63 - 1", "more");
    bundle.insert("texts", Array::i64(vec![classes], integers(&record.texts).map_err(too_many)?)?);
    bundle.insert("dead", Array::bool(dims.clone(), record.dead.clone())?);
    bundle.insert("seed", Array::i64(vec![1], vec![record.seed as i64])?);
    if let Some(deviation) = &record.deviation {
        bundle.insert("deviation", Array::f32(dims.clone(), deviation.clone())?);
    }
    let mut fixed = |name: &str, shape: Vec<usize>, (high, low): (Vec<i64>, Vec<i64>)| -> Result<()> {
        bundle.insert(format!("{name}_high"), Array::i64(shape.clone(), high)?);
        bundle.insert(format!("{name}_low"), Array::i64(shape, low)?);
        Ok(())
    };
    match &record.tally {
        Tally::Fired(fired) => {
            bundle.insert("fired", Array::i64(by_class(), integers(fired).map_err(too_many)?)?);
        }
        Tally::Agreed(agreed) => {
            let by_side = [&[2, classes][..], &dims].concat();
            bundle.insert("agreed", Array::i64(by_side, integers(agreed).map_err(too_many)?)?);
        }
        Tally::Sums { of_class, squares } => {
            let (high, low, _) = of_class.parts()?;
            fixed("sum", by_class(), (high, low))?;
            if let Some(squares) = squares {
                fixed("square", dims, squares.parts()?)?;
            }
        }
        Tally::Moments { sum, product, squares, .. } => {
            for (name, sums) in [("sum", sum), ("product", product)] {
                let (high, low, _) = sums.parts()?;
                fixed(name, dims.clone(), (high, low))?;
            }
            fixed("square", dims, squares.parts()?)?;
        }
        Tally::Histogram(histogram) => {
            let counts = histogram.counts.iter().map(|&count| i64::from(count)).collect();
            bundle.insert("histogram", Array::i64([&dims[..], &[classes, BINS]].concat(), counts)?);
        }
        Tally::Weighted(sums) => {
            let (high, low, _) = sums.parts()?;
            fixed("sum", dims, (high, low))?;
        }
        Tally::Bins { .. } | Tally::Given { .. } | Tally::Nothing => {}
    }
    Ok(())
}

fn read(file: &TensorFile) -> Result<RankRecord> {
    file.expect_kind(rank::KIND)?;
    let ranking = named(file, rank::RANKING, |name| name.parse::<Ranking>().ok())?;
    let pool = named(file, rank::POOL, |name| {
        Pool::ALL.into_iter().find(|pool| name == rank::pool_name(pool.name()))
    })?;
    if ranking == Ranking::L1 || !file.contains("texts") {
        let (expected, found) = ("what a shard's file has", "scores alone, which don't merge");
        return Err(wrong(file, "texts", expected, found));
    }
    let (of, texts) = file.i64("texts", None)?;
    let (sizes, dead) = file.bool("dead", None)?;
    let fits = sizes.len() == if pool == Pool::Position { 3 } else { 2 };
    if of.len() != 1 || of[0] < 2 || !fits || sizes.contains(&0) {
        return Err(wrong(
            file,
            "dead",
            "a shape of the pool, none 0, of two classes or more",
            format!("{sizes:?} of {of:?}"),
        ));
    }
    let texts = counts(file, "texts", &texts)?;
    let dims = Dims::new(sizes)?;
    let seed = file.i64("seed", Some(&[1]))?.1[0] as u64;
    let deviation = match file.contains("deviation") {
        true => Some(file.f32("deviation", Some(dims.sizes()))?.1),
        false => None,
    };
    let (layers, neurons) = (dims.sizes()[0], dims.sizes()[dims.sizes().len() - 1]);
    let widths = match file.metadata().get(key::WIDTHS) {
        None => vec![neurons; layers],
        Some(text) => {
            let widths: Option<Vec<usize>> = text.split(',').map(|width| width.parse().ok()).collect();
            let fits = |all: &Vec<usize>| all.len() == layers && all.iter().all(|&width| width <= neurons);
            widths.filter(fits).ok_or_else(|| {
                wrong_metadata(file, key::WIDTHS, format!("{layers} numbers up to {neurons}"), text)
            })?
        }
    };
    let column = file.metadata().get(rank::COLUMN).filter(|_| ranking == Ranking::Correlation).cloned();
    let tally = tally(file, (ranking, column.is_some()), &dims, &texts)?;
    let as_published = match file.metadata().get(rank::COMPAT).map(String::as_str) {
        None => false,
        Some(rank::PAPER) => true,
        Some(found) => return Err(wrong_metadata(file, rank::COMPAT, rank::PAPER.into(), found)),
    };
    Ok(RankRecord { ranking, pool, dims, widths, texts, dead, deviation, seed, as_published, column, tally })
}

fn tally(
    file: &TensorFile,
    (ranking, of_numbers): (Ranking, bool),
    dims: &Dims,
    texts: &[u64],
) -> Result<Tally> {
    let (sizes, classes) = (dims.sizes(), texts.len());
    let by_class = [&[classes][..], sizes].concat();
    let all = texts.iter().try_fold(0u64, |sum, &texts| sum.checked_add(texts));
    let all = all.filter(|&all| i64::try_from(all).is_ok());
    let all = all.ok_or_else(|| wrong(file, "texts", "less than 2^63 together", "more"))?;
    let halves = |name: &str, shape: &[usize]| -> Result<(Vec<i64>, Vec<i64>)> {
        let (_, high) = file.i64(&format!("{name}_high"), Some(shape))?;
        Ok((high, file.i64(&format!("{name}_low"), Some(shape))?.1))
    };
    let named_sums = |name: &str, shape: &[usize]| -> Result<MeanAccumulator> {
        let (high, low) = halves(name, shape)?;
        MeanAccumulator::from_parts(&high, &low, all as i64)
            .map_err(|error| wrong(file, &format!("{name}_high"), "sums of the texts", error))
    };
    let sums = |shape: &[usize]| named_sums("sum", shape);
    let squares_of = || -> Result<SquareAccumulator> {
        let (high, low) = halves("square", sizes)?;
        let squares = SquareAccumulator::from_parts(&high, &low, all as i64);
        squares.map_err(|error| wrong(file, "square_high", "sums of squares", error))
    };
    if of_numbers {
        let (sum, product) = (sums(sizes)?, named_sums("product", sizes)?);
        return Ok(Tally::Moments { sum, product, squares: squares_of()?, numbers: Vec::new() });
    }
    Ok(match Tally::new(ranking, 0, classes) {
        Tally::Fired(_) => {
            let (_, fired) = file.i64("fired", Some(&by_class))?;
            Tally::Fired(at_most(file, "fired", &fired, texts, "the class")?)
        }
        Tally::Agreed(_) => {
            let (_, agreed) = file.i64("agreed", Some(&[&[2][..], &by_class].concat()))?;
            let (of_class, of_others) = agreed.split_at(agreed.len() / 2);
            let others: Vec<u64> = texts.iter().map(|texts| all - texts).collect();
            let mut counts = at_most(file, "agreed", of_class, texts, "the class")?;
            counts.extend(at_most(file, "agreed", of_others, &others, "other classes")?);
            Tally::Agreed(counts)
        }
        Tally::Sums { squares, .. } => {
            let of_class = sums(&by_class)?;
            let squares = match squares {
                None => None,
                Some(_) => Some(squares_of()?),
            };
            Tally::Sums { of_class, squares }
        }
        Tally::Histogram(_) => {
            let (_, found) = file.i64("histogram", Some(&[sizes, &[classes, BINS]].concat()))?;
            let counts: Option<Vec<u32>> = found.iter().map(|&count| u32::try_from(count).ok()).collect();
            let counts = counts.ok_or_else(|| wrong(file, "histogram", "0 to 2^32 - 1", "another number"))?;
            Tally::Histogram(Histogram { classes, counts })
        }
        Tally::Weighted(_) => Tally::Weighted(sums(sizes)?),
        Tally::Bins { .. } | Tally::Given { .. } | Tally::Moments { .. } | Tally::Nothing => Tally::Nothing,
    })
}

fn counts(file: &TensorFile, name: &str, found: &[i64]) -> Result<Vec<u64>> {
    let count = |&count: &i64| u64::try_from(count).map_err(|_| wrong(file, name, "0 or more", count));
    found.iter().map(count).collect()
}

/// Counts `[C, places]`, for each class of so many texts.
fn at_most(file: &TensorFile, name: &str, found: &[i64], texts: &[u64], of: &str) -> Result<Vec<u64>> {
    let counts = counts(file, name, found)?;
    let places = (counts.len() / texts.len().max(1)).max(1);
    for (of_class, &texts) in counts.chunks_exact(places).zip(texts) {
        if let Some(count) = of_class.iter().find(|&&count| count > texts) {
            return Err(wrong(file, name, format!("at most {texts}, the texts of {of}"), count));
        }
    }
    Ok(counts)
}

fn named<T>(file: &TensorFile, key: &str, read: impl Fn(&str) -> Option<T>) -> Result<T> {
    let found = file.metadata().get(key).map_or("", String::as_str);
    read(found).ok_or_else(|| wrong_metadata(file, key, "a name that is known".into(), found))
}

fn wrong(file: &TensorFile, tensor: &str, expected: impl ToString, found: impl ToString) -> ProbingError {
    let (file, tensor) = (file.path().into(), tensor.into());
    ArtifactError::Tensor { file, tensor, expected: expected.to_string(), found: found.to_string() }.into()
}
