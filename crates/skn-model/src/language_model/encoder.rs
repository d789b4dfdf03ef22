use candle_core::Device;
use skn_kernels::Precision;

use super::embeddings::Embeddings;
use super::layer::Layer;
use super::norm::Norm;
use super::supply::TensorSupply;
use crate::architecture::Part;
use crate::config::Config;
use crate::error::Result;
use crate::layout::Layout;

/// The embeddings and the layers, which a pass goes up through.
pub(super) struct Encoder {
    pub(super) config: Config,
    pub(super) embeddings: Embeddings,
    pub(super) layers: Vec<Layer>,
    /// The norm behind the last layer.
    pub(super) final_norm: Option<Norm>,
}

impl Encoder {
    /// `mask` is the id of the `<mask>` token.
    pub(super) fn new(supply: &mut TensorSupply<'_>, config: &Config, mask: Option<u32>) -> Result<Self> {
        let embeddings = Embeddings::new(supply, config, mask)?;
        let layers = (0..config.layers()).map(|layer| Layer::new(supply, layer, config));
        let layers = layers.collect::<Result<_>>()?;
        let final_norm = supply.norm_if_any(Part::FinalNorm)?;
        Ok(Self { layers, config: config.clone(), embeddings, final_norm })
    }

    pub(super) fn device(&self) -> &Device {
        self.embeddings.device()
    }

    /// Where the prompt stands, and where the answer is read.
    pub(super) fn layout(&self) -> Layout {
        self.embeddings.layout()
    }

    pub(super) fn set_precision(&mut self, precision: Precision) {
        self.layers.iter_mut().for_each(|layer| layer.set_precision(precision));
    }

    /// Bytes that its layers' matrices take now.
    pub(super) fn weight_bytes(&self) -> usize {
        self.layers.iter().map(Layer::weight_bytes).sum()
    }

    /// Packs the frozen weights for answering texts, on so many threads.
    pub(super) fn pack(&self, threads: usize) -> Result<()> {
        let last = self.layers.len().saturating_sub(1);
        let threads = threads.clamp(1, self.layers.len().max(1));
        let share = |thread: usize| {
            let mut layers = self.layers.iter().enumerate().skip(thread).step_by(threads);
            layers.try_for_each(|(index, layer)| layer.pack(index == last))
        };
        std::thread::scope(|scope| {
            // Where the system gives no thread, this one does its share.
            let (mut others, mut left) = (Vec::new(), vec![0]);
            for thread in 1..threads {
                match std::thread::Builder::new().spawn_scoped(scope, move || share(thread)) {
                    Ok(other) => others.push(other),
                    Err(_) => left.push(thread),
                }
            }
            let own = left.into_iter().try_for_each(share);
            let join = |other: std::thread::ScopedJoinHandle<'_, _>| {
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            others.into_iter().map(join).fold(own, Result::and)
        })
    }
}
