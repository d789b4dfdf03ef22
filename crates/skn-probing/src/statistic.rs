use std::any::Any;

use candle_core::Tensor;
use skn_counts::Pool;
use skn_kernels::{Misfit, RowGroups};
use skn_model::NeuronSite;

use crate::error::{ProbingError, Result};
use crate::record::Record;

/// One thing that is taken of activations in a pass over a split: a sum, a count, the activations of one neuron.
///
/// [`collect`](crate::collect) runs any number of them over a split in one pass. Of each batch a thread asks the statistic for its
/// part ([`Self::of_batch`]), gives that part each row of activations that it reads ([`Self::take`]), layer by layer as they are made,
/// and the parts are put together in an order that depends on texts and options only ([`Self::absorb`]). Parts of a batch are in
/// memory at once for each thread, so a statistic must not keep more of a text than it has to.
///
/// What comes of it is a [`Record`]: what a file holds. A statistic whose numbers are integers has the same record in any order of texts
/// and for any grouping into batches and shards.
///
/// ```
/// use skn_artifact::{Array, TensorBundle};
/// use skn_probing::{BatchTexts, Metadata, Pool, Record, Result, Row, Statistic, other};
///
/// /// How many texts have an activation above 1 somewhere in a layer, `[L]`.
/// #[derive(Clone)]
/// struct Loud(Vec<i64>);
///
/// impl Statistic for Loud {
///     fn reads(&self, pool: Pool, _layer: usize) -> bool {
///         pool == Pool::Max
///     }
///     fn of_batch(&self, _: &BatchTexts<'_>) -> Result<Box<dyn Statistic>> {
///         Ok(Box::new(Self(vec![0; self.0.len()])))
///     }
///     fn take(&mut self, row: &Row<'_>) -> Result<()> {
///         self.0[row.layer] += i64::from(row.values.iter().any(|&value| value > 1.0));
///         Ok(())
///     }
///     fn absorb(&mut self, part: Box<dyn Statistic>) -> Result<()> {
///         let part: Self = skn_probing::part(part)?;
///         self.merge(&part)
///     }
///     fn file(&self, split: &str) -> String {
///         format!("{split}_loud")
///     }
///     fn into_record(self: Box<Self>) -> Result<Box<dyn Record>> {
///         Ok(self)
///     }
/// }
///
/// impl Record for Loud {
///     fn merge(&mut self, other: &dyn Record) -> Result<()> {
///         let other: &Self = skn_probing::other(other)?;
///         self.0.iter_mut().zip(&other.0).for_each(|(whole, part)| *whole += part);
///         Ok(())
///     }
///     fn to_bundle(&self, metadata: &Metadata) -> Result<TensorBundle> {
///         let mut bundle = skn_probing::described("loud", metadata);
///         bundle.insert("texts", Array::i64(vec![self.0.len()], self.0.clone())?);
///         Ok(bundle)
///     }
/// }
/// # let mut loud = Loud(vec![0; 2]);
/// # loud.take(&Row { pool: Pool::Max, layer: 1, position: 0, text: 0, label: 1, values: &[0.5, 2.0], output_norm: None, slopes: None }).unwrap();
/// # assert_eq!(loud.0, [0, 1]);
/// ```
pub trait Statistic: Any + Send + Sync {
    /// Whether it takes a pool's rows of a layer. Rows that nobody reads are not computed in the last layer.
    fn reads(&self, pool: Pool, layer: usize) -> bool;

    /// Which number of a gated FFN's neuron it takes, where that is not the one that the pass reads
    /// ([`PassOptions::site`](crate::PassOptions::site)). A plain FFN has one number alone.
    fn site(&self) -> Option<NeuronSite> {
        None
    }

    /// Whether rows come with the norm of the FFN's output ([`Row::output_norm`]).
    fn needs_output_norm(&self) -> bool {
        false
    }

    /// Which gradients rows come with, in a pass that goes back ([`collect_gradients`](crate::collect_gradients)). It goes back once for
    /// each that somebody reads, for each class once.
    fn slopes(&self) -> &[SlopeOf] {
        &[]
    }

    /// The same statistic of which nothing was taken yet, for the texts of a batch.
    ///
    /// # Errors
    /// If the texts are none that it can be of.
    fn of_batch(&self, texts: &BatchTexts<'_>) -> Result<Box<dyn Statistic>>;

    /// Is given a row of activations that it reads: all of them are finite, as are their gradients. Of a layer, rows come text by text, and together.
    ///
    /// # Errors
    /// If they are not what can be taken; that ends the pass.
    fn take(&mut self, row: &Row<'_>) -> Result<()>;

    /// This statistic as one that takes rows where a device has them, so that they need not travel to the host; nothing unless it is
    /// written. Where a device reduces rows (`Backend::reduces`) it is then given [`Block`]s and no rows.
    fn blocks(&mut self) -> Option<&mut dyn TakeBlocks> {
        None
    }

    /// Adds what was taken of a batch: a part that [`Self::of_batch`] made ([`part`] is its type).
    ///
    /// # Errors
    /// If there is too much of it.
    fn absorb(&mut self, part: Box<dyn Statistic>) -> Result<()>;

    /// The name of its file in the task's folder, without extension, such as `dev_perf`.
    fn file(&self, split: &str) -> String;

    /// What its file holds.
    ///
    /// # Errors
    /// If it was of too few texts.
    fn into_record(self: Box<Self>) -> Result<Box<dyn Record>>;
}

/// A [`Statistic`] that takes rows where they lie ([`Statistic::blocks`]).
///
/// What it makes of them may stay there as well: parts of batches then add to numbers that they share with the statistic that made
/// them, and [`Statistic::absorb`] adds what else there is. An error ends the pass, and then nobody asks for sums of half a batch.
pub trait TakeBlocks {
    /// Is given all rows of a pool of a layer that it reads. Nobody has looked whether they are finite: what is not is a [`Misfit`], which
    /// the reductions of `skn-kernels` note. The batch is then computed once more, its rows given by [`Statistic::take`] up to one that is
    /// refused, for an error with its name. So are gradients, of which those that it reads are its to note.
    ///
    /// # Errors
    /// If the device fails; that ends the pass.
    fn take_block(&mut self, block: &Block<'_>, misfit: &mut Misfit) -> Result<()>;

    /// Is called when the pass is over, of the statistic that absorbed all parts: what lies on the device comes to the host.
    ///
    /// # Errors
    /// If the device fails, or there is too much of it.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The rows of a batch that are of one pool, of one layer, on a device that reduces them.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// What was taken of the texts' activations.
    pub pool: Pool,
    /// The layer, from 0.
    pub layer: usize,
    /// A number for each neuron that the layer has, `[.., width]`, with more rows than these.
    pub values: &'a Tensor,
    /// Which rows of them: a group for each prompt position, one where they are pooled, that has a row for each text, with the text's
    /// class.
    pub rows: &'a RowGroups,
    /// The index in its batch of the text that a row of a group is of.
    pub texts: &'a [usize],
    /// For each row of the values the norm of what the FFN makes of it, `[..]`; where somebody asked for it, as
    /// [`Row::output_norm`].
    pub output_norms: Option<&'a Tensor>,
    /// The gradients to all of the values, of their shape, as [`Row::slopes`].
    pub slopes: Option<&'a Slopes<Tensor>>,
}

/// The activations of a layer's neurons for one text, at a prompt position or pooled.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// What was taken of the text's activations.
    pub pool: Pool,
    /// The layer, from 0.
    pub layer: usize,
    /// The prompt position, from 0; 0 where they are pooled.
    pub position: usize,
    /// The text's index in its batch.
    pub text: usize,
    /// The text's class.
    pub label: usize,
    /// A number for each neuron that the layer has.
    pub values: &'a [f32],
    /// The Euclidean norm of what the FFN makes of these neurons, its bias counted; where somebody asked for it
    /// ([`Statistic::needs_output_norm`]), and the values are one row's products.
    pub output_norm: Option<f32>,
    /// Their gradients, a number for each neuron, in a pass that goes back ([`collect_gradients`](crate::collect_gradients)).
    pub slopes: Option<&'a Slopes<&'a [f32]>>,
}

/// What a gradient to activations is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SlopeOf {
    /// The answer's loss, its cross-entropy in nats.
    Loss,
    /// The probability of the text's own class, among the classes.
    OwnClass,
    /// The probability of each class, among the classes.
    EachClass,
}

/// Gradients to activations, by what they are of; those that nobody reads ([`Statistic::slopes`]) are not there.
#[derive(Clone, Debug)]
pub struct Slopes<T> {
    /// [`SlopeOf::Loss`]
    pub loss: Option<T>,
    /// [`SlopeOf::OwnClass`]
    pub own: Option<T>,
    /// [`SlopeOf::EachClass`]: one for each class, or none.
    pub classes: Vec<T>,
}

impl<T> Slopes<T> {
    /// The one gradient of a kind of which there is one.
    pub(crate) fn one(&self, of: SlopeOf) -> Option<&T> {
        match of {
            SlopeOf::Loss => self.loss.as_ref(),
            SlopeOf::OwnClass => self.own.as_ref(),
            SlopeOf::EachClass => None,
        }
    }

    /// All that are there.
    pub(crate) fn each(&self) -> impl Iterator<Item = &T> {
        self.loss.iter().chain(&self.own).chain(&self.classes)
    }

    /// Something else of each.
    pub(crate) fn map<'a, U>(&'a self, mut of: impl FnMut(&'a T) -> Result<U>) -> Result<Slopes<U>> {
        Ok(Slopes {
            loss: self.loss.as_ref().map(&mut of).transpose()?,
            own: self.own.as_ref().map(&mut of).transpose()?,
            classes: self.classes.iter().map(of).collect::<Result<_>>()?,
        })
    }

    /// Something of each with that of others, which has the same.
    pub(crate) fn with<U>(
        &self,
        others: &Self,
        mut of: impl FnMut(&T, &T) -> Result<U>,
    ) -> Result<Slopes<U>> {
        let mut others = others.each();
        self.map(|own| {
            let other = others.next();
            of(own, other.ok_or_else(|| ProbingError::mismatch("gradients", "the same each time", "fewer"))?)
        })
    }
}

/// Rows of a pass that does not go back came to who reads gradients.
pub(crate) fn no_slopes() -> ProbingError {
    ProbingError::mismatch("rows of a ranking", "their gradients", "none: the pass does not go back")
}

/// The texts of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchTexts<'a> {
    /// The class of each.
    pub labels: &'a [usize],
    /// The row of each in its part of the data.
    pub rows: &'a [u64],
    /// Where each stands in the list of texts that the pass is over.
    pub places: &'a [usize],
}

/// A part as the type that made it.
///
/// # Errors
/// If it is of another type, which is a mistake of the statistic.
pub fn part<S: Statistic>(part: Box<dyn Statistic>) -> Result<S> {
    let part: Box<dyn Any> = part;
    let part = part.downcast::<S>();
    part.map(|part| *part).map_err(|_| ProbingError::wrong_type::<S>("part of a statistic"))
}
