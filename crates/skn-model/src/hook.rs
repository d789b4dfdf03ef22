use candle_core::Tensor;
use skn_kernels::RowSelection;

use crate::error::Result;
use crate::layout::{Layout, RowPlace};
use crate::site::Site;

/// Which rows must be computed for somebody, in ascending order of how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reads {
    /// None: the hook is not called.
    Nothing,
    /// The row of each sequence where the answer is read.
    Answer,
    /// The prompt rows of each sequence, the `<mask>` row included.
    Prompt,
    /// Every row.
    All,
}

/// The rows of a tensor that a hook is given: which text and which position each belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub(crate) rows: &'a RowSelection,
    pub(crate) samples: &'a [u64],
    pub(crate) layout: Layout,
}

impl<'a> Rows<'a> {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// For each row the index of its sequence in the batch, ascending.
    pub fn sequence(&self) -> &'a [u32] {
        self.rows.sequence()
    }

    /// For each row its position in its sequence, from 0.
    pub fn position(&self) -> &'a [u32] {
        self.rows.position()
    }

    /// For each *sequence* the number of its text in the data.
    pub fn samples(&self) -> &'a [u64] {
        self.samples
    }

    /// For each row what it is in its sequence.
    pub fn place(&self) -> impl Iterator<Item = RowPlace> + 'a {
        let (layout, packing) = (self.layout, self.rows.packing());
        let rows = self.sequence().iter().zip(self.position());
        rows.map(move |(&sequence, &position)| {
            layout.place(position as usize, packing.range(sequence as usize).len())
        })
    }

    /// Where the prompt stands, and where the answer is read.
    pub fn layout(&self) -> Layout {
        self.layout
    }
}

/// Looks at activations as they are made, or edits them.
///
/// A hook is passed into [`LanguageModel::forward`](crate::LanguageModel::forward) by mutable reference: nothing is registered in
/// the model and nothing stays there. What [`Self::on`] returns goes on through the model, so returning `x` is
/// watching and returning something else is editing.
///
/// Any `FnMut(Site, &Rows, Tensor) -> Result<Tensor>` is a hook that reads neurons and outputs of all layers.
///
/// ```
/// use candle_core::Tensor;
/// use skn_model::{Hook, Result, Rows, Site};
///
/// let mut shapes = Vec::new();
/// let mut watch = |site: Site, _: &Rows<'_>, x: Tensor| -> Result<Tensor> {
///     shapes.push((site, x.dims().to_vec()));
///     Ok(x)
/// };
/// fn takes_a_hook(_: &mut dyn Hook) {}
/// takes_a_hook(&mut watch);
/// ```
pub trait Hook {
    /// Which rows this hook wants at a site; all, but for the factors of a gated FFN's neurons, which are there only where
    /// somebody wants them, and an error in a plain FFN. It is still given every row that is computed for others; a site of
    /// which it reads [`Reads::Nothing`] is not visited. An edit that matters only for the answer reads
    /// [`Reads::Answer`]. It says the same throughout a pass: another answer may be an error.
    fn reads(&self, site: Site) -> Reads {
        match site {
            Site::FfnGate { .. } | Site::FfnUp { .. } => Reads::Nothing,
            Site::FfnAct { .. } | Site::LayerOut { .. } => Reads::All,
        }
    }

    /// Is given `x` `[rows, width]` at `site` and returns what goes on through the model, of the same shape.
    ///
    /// # Errors
    /// Any error ends the pass.
    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> Result<Tensor>;

    /// Whether [`Self::see_ffn_output`] is called for a layer whose neurons this hook reads, each time after [`Self::on`] was given
    /// them.
    fn sees_ffn_output(&self, layer: usize) -> bool {
        let _ = layer;
        false
    }

    /// Sees what a layer's FFN makes of its neurons, as they go on: its second matrix and bias, `[rows, hidden]`, before the norm or the
    /// sum behind it ([`LanguageModel::ffn_output`](crate::LanguageModel::ffn_output)). The rows are those of the neurons.
    ///
    /// # Errors
    /// Any error ends the pass.
    fn see_ffn_output(&mut self, layer: usize, rows: &Rows<'_>, output: &Tensor) -> Result<()> {
        let _ = (layer, rows, output);
        Ok(())
    }
}

impl<F: FnMut(Site, &Rows<'_>, Tensor) -> Result<Tensor>> Hook for F {
    fn on(&mut self, site: Site, rows: &Rows<'_>, x: Tensor) -> Result<Tensor> {
        self(site, rows, x)
    }
}

/// The hook that reads nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHook;

impl Hook for NoHook {
    fn reads(&self, _: Site) -> Reads {
        Reads::Nothing
    }

    fn on(&mut self, _: Site, _: &Rows<'_>, x: Tensor) -> Result<Tensor> {
        Ok(x)
    }
}

/// Two hooks, the second given what the first returned.
#[derive(Debug, Default)]
pub struct Chain<A, B>(pub A, pub B);

impl<A: Hook, B: Hook> Hook for Chain<A, B> {
    fn reads(&self, site: Site) -> Reads {
        self.0.reads(site).max(self.1.reads(site))
    }

    fn on(&mut self, site: Site, rows: &Rows<'_>, mut x: Tensor) -> Result<Tensor> {
        for hook in [&mut self.0 as &mut dyn Hook, &mut self.1] {
            if hook.reads(site) != Reads::Nothing {
                x = hook.on(site, rows, x)?;
            }
        }
        Ok(x)
    }

    fn sees_ffn_output(&self, layer: usize) -> bool {
        sees(&self.0, layer) || sees(&self.1, layer)
    }

    fn see_ffn_output(&mut self, layer: usize, rows: &Rows<'_>, output: &Tensor) -> Result<()> {
        for hook in [&mut self.0 as &mut dyn Hook, &mut self.1] {
            if sees(hook, layer) {
                hook.see_ffn_output(layer, rows, output)?;
            }
        }
        Ok(())
    }
}

/// Whether a hook is called with what a layer's FFN makes of its neurons.
pub(crate) fn sees(hook: &dyn Hook, layer: usize) -> bool {
    hook.sees_ffn_output(layer) && hook.reads(Site::FfnAct { layer }) != Reads::Nothing
}
