use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;

use skn_counts::{Distances, Performance, ScoreRule};

use crate::error::{Result, SelectError};
use crate::exact::Whole;

/// What several files of one sub-task, one for each seed, come to.
///
/// ```
/// use skn_select::Aggregate;
///
/// assert_eq!("min".parse::<Aggregate>()?, Aggregate::Min);
/// assert_eq!(Aggregate::Mean.to_string(), "mean");
/// # Ok::<(), skn_select::SelectError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// The mean of a neuron's scores.
    #[default]
    Mean,
    /// The smallest of them.
    Min,
}

impl Aggregate {
    /// Every one.
    pub fn all() -> [Self; 2] {
        [Self::Mean, Self::Min]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Min => "min",
        }
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Aggregate {
    type Err = SelectError;

    fn from_str(name: &str) -> Result<Self> {
        Self::all().into_iter().find(|aggregate| aggregate.name() == name).ok_or_else(|| {
            SelectError::mismatch(
                "type of aggregate",
                Self::all().map(Self::name).join(" or "),
                format!("`{name}`"),
            )
        })
    }
}

/// How well each neuron predicts the labels of one sub-task: over its files the mean or the smallest of
/// `max over positions |accuracy - 0.5|`, of the accuracy or of the balanced one ([`ScoreRule`]).
///
/// Scores are compared exactly: as `|2 correct - total|` for one file; for several each is brought to the
/// product of the different totals, in whole numbers of any size. So the order of the files changes nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    widths: Vec<usize>,
    neurons: usize,
    parts: Vec<Whole>,
    score: Vec<f32>,
    /// Which neurons have no score, as they are dead in every file.
    dead: Vec<bool>,
}

impl Scores {
    /// The scores of a sub-task from its files: one set for two classes; for more, one for each class against
    /// the rest, or for `class` alone. Classes that a file has no text of are left out.
    ///
    /// # Errors
    /// If there are no files, they differ in shape or classes, there is no such class, a file has no text of it, or can't
    /// have this score.
    pub fn of_group(
        files: &[Performance],
        aggregate: Aggregate,
        class: Option<usize>,
        score: ScoreRule,
    ) -> Result<Vec<Self>> {
        let Some(first) = files.first() else {
            return Err(SelectError::mismatch("files of a sub-task", "at least one", "none"));
        };
        files[1..].iter().try_for_each(|file| check_same(first, file))?;
        let rules = match class {
            Some(class) if class >= first.classes() => {
                let what = format!("{}: class", first.file().display());
                return Err(SelectError::mismatch(what, format!("0 to {}", first.classes() - 1), class));
            }
            // The one rule of two classes tells both.
            Some(class) if first.rules() > 1 => class..class + 1,
            _ => 0..first.rules(),
        };
        // A class that some file has no text of, or none of the rest, is no sub-task, unless it is the one asked for.
        let told = |rule: &usize| class.is_some() || files.iter().all(|file| file.tells(*rule, score));
        let scores = rules.clone().filter(told).map(|rule| Self::of_rule(files, aggregate, rule, score));
        match scores.collect::<Result<Vec<_>>>()? {
            // The error says what is missing.
            none if none.is_empty() => Ok(vec![Self::of_rule(files, aggregate, rules.start, score)?]),
            scores => Ok(scores),
        }
    }

    fn of_rule(files: &[Performance], aggregate: Aggregate, rule: usize, score: ScoreRule) -> Result<Self> {
        let (layers, neurons) = (files[0].layers(), files[0].neurons());
        let distances =
            files.iter().map(|file| file.distances(rule, score)).collect::<Result<Vec<_>, _>>()?;
        let mut wholes: Vec<u64> = distances.iter().map(|distances| distances.whole).collect();
        wholes.sort_unstable();
        wholes.dedup();
        let common = product(&wholes, None);
        let factors: Vec<Whole> =
            distances.iter().map(|distances| product(&wholes, Some(distances.whole))).collect();
        let parts: Vec<Whole> =
            (0..layers * neurons).map(|place| aggregate_at(place, &distances, &factors, aggregate)).collect();
        // Parts are of twice the distance from 0.5, and for the mean of a sum.
        let whole = match aggregate {
            Aggregate::Mean => common.times(2).times(files.len() as u64),
            Aggregate::Min => common.times(2),
        };
        let score = parts.iter().map(|part| part.over(&whole) as f32).collect();
        let dead = (0..layers * neurons).map(|place| distances.iter().all(|file| file.dead[place])).collect();
        Ok(Self { widths: files[0].widths().to_vec(), neurons, parts, score, dead })
    }

    /// The number of layers, L.
    pub fn layers(&self) -> usize {
        self.widths.len()
    }

    /// The number of neurons that each layer has: what is beyond in the arrays is padding.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// The number of neurons in the widest layer, F.
    pub fn neurons(&self) -> usize {
        self.neurons
    }

    /// The scores, `[L, F]`, 0 to 0.5: quotients in f64, rounded to f32. Neurons of equal score have the same
    /// one.
    pub fn score(&self) -> &[f32] {
        &self.score
    }

    /// Which neurons are dead at every position of every file, `[L, F]`: they have no score. Where one is dead in some files
    /// only, those count 0.
    pub fn dead(&self) -> &[bool] {
        &self.dead
    }

    /// For each layer its neurons, best first; of equals, the lower index first. Dead ones are the last.
    pub fn rank(&self) -> Vec<Vec<u32>> {
        (0..self.layers()).map(|layer| self.rank_layer(layer, self.neurons)).collect()
    }

    /// Whether two neurons have exactly the same score, as places in `[L, F]`.
    pub(crate) fn ties(&self, a: usize, b: usize) -> bool {
        (self.dead[a], &self.parts[a]) == (self.dead[b], &self.parts[b])
    }

    /// [`Self::rank`] for one layer that has only `width` neurons.
    pub(crate) fn rank_layer(&self, layer: usize, width: usize) -> Vec<u32> {
        let parts = &self.parts[layer * self.neurons..][..width];
        let mut order: Vec<u32> = (0..width as u32).collect();
        // Stable, so that equals stay in the order of their indices.
        let dead = &self.dead[layer * self.neurons..][..width];
        order.sort_by_key(|&neuron| (dead[neuron as usize], Reverse(&parts[neuron as usize])));
        order
    }
}

/// The product of the different denominators, but for one of them.
fn product(wholes: &[u64], but: Option<u64>) -> Whole {
    let others = wholes.iter().filter(|&&whole| Some(whole) != but);
    others.fold(Whole::new(1), |product, &whole| product.times(whole))
}

fn aggregate_at(place: usize, files: &[Distances], factors: &[Whole], aggregate: Aggregate) -> Whole {
    let parts = files.iter().zip(factors).map(|(file, factor)| factor.times(file.parts[place]));
    let aggregated = match aggregate {
        Aggregate::Mean => parts.reduce(|sum, part| sum.plus(&part)),
        Aggregate::Min => parts.min(),
    };
    aggregated.unwrap_or_else(|| Whole::new(0))
}

fn check_same(first: &Performance, other: &Performance) -> Result<()> {
    let expected = described(first);
    if described(other) == expected {
        return Ok(());
    }
    let expected = format!("{expected} as in {}", first.file().display());
    Err(SelectError::file(other.file(), "tensor `correct`", expected, described(other)))
}

fn described(file: &Performance) -> String {
    let (layers, positions, neurons) = (file.layers(), file.positions(), file.neurons());
    let positions = if file.pooled() { "pooled".to_owned() } else { format!("{positions} positions") };
    let widths = file.widths();
    let widths = if widths.iter().all(|&width| width == neurons) {
        String::new()
    } else {
        format!(" at most, {widths:?}")
    };
    format!("{} classes, {layers} layers, {positions}, {neurons} neurons{widths}", file.classes())
}
