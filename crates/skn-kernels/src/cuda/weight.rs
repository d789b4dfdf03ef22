//! The frozen weight of a layer on a card: where it is, and how products read it, which is made when it is first used.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{DType, Device, Result, Tensor, bail};

use super::run::zeros;
use crate::backend::Backend;
use crate::features::{Features, ReadRows};
use crate::precision::Precision;
use crate::upload::upload;

/// A frozen weight as products in its precision read it. A card holds it once: rounded, or as it is.
#[derive(Debug)]
pub(crate) struct OnCard {
    pub(crate) precision: Precision,
    features: Features,
    device: Device,
    original: Mutex<Original>,
    operand: OnceLock<Tensor>,
}

/// Every bit of a weight `[out, in]`, where that is still to be had.
#[derive(Clone)]
struct Original {
    /// Where it can be read from.
    read: Option<Arc<ReadRows>>,
    /// On the card. It goes when products need no more than what it was rounded to.
    tensor: Option<Tensor>,
}

impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Original").field("read", &self.read.is_some()).field("tensor", &self.tensor).finish()
    }
}

impl OnCard {
    /// One that is on its device already. It is waited for: another thread may read it, and let it go.
    pub(crate) fn given(weight: Tensor, features: Features) -> Result<Self> {
        let device = weight.device().clone();
        device.synchronize()?;
        Ok(Self::new(Original { read: None, tensor: Some(weight) }, features, device, Precision::F32))
    }

    /// One that is read when it is first needed.
    pub(crate) fn unread(read: Arc<ReadRows>, features: Features, device: Device) -> Self {
        Self::new(Original { read: Some(read), tensor: None }, features, device, Precision::F32)
    }

    fn new(original: Original, features: Features, device: Device, precision: Precision) -> Self {
        Self { precision, features, device, original: Mutex::new(original), operand: OnceLock::new() }
    }

    /// The same weight for products in another precision.
    pub(crate) fn with_precision(&self, precision: Precision) -> Self {
        Self::new(self.original().clone(), self.features, self.device.clone(), precision)
    }

    fn original(&self) -> MutexGuard<'_, Original> {
        // It is replaced as a whole or not at all.
        self.original.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What products read, `[out, in]`: bf16 for those in bf16, else f32.
    pub(crate) fn operand(&self) -> Result<&Tensor> {
        if let Some(operand) = self.operand.get() {
            return Ok(operand);
        }
        // Who comes second waits here, instead of making it too.
        let mut original = self.original();
        if let Some(operand) = self.operand.get() {
            return Ok(operand);
        }
        let operand = match self.precision {
            Precision::Bf16 => {
                let rounded = self.rounded(&original)?;
                original.tensor = None;
                rounded
            }
            Precision::F32 | Precision::Tf32 => {
                let whole = self.whole(&original)?;
                original.tensor = Some(whole.clone());
                whole
            }
        };
        Ok(self.operand.get_or_init(|| operand))
    }

    /// The weight in f32.
    pub(crate) fn weight(&self) -> Result<Tensor> {
        self.whole(&self.original())
    }

    fn whole(&self, original: &Original) -> Result<Tensor> {
        if let Some(tensor) = &original.tensor {
            return Ok(tensor.clone());
        }
        let shape = (self.features.outputs, self.features.inputs);
        let values = self.read(original)?;
        self.arrived(match values.is_empty() {
            true => zeros(shape, &self.device)?,
            false => upload(values, shape, &self.device)?,
        })
    }

    fn rounded(&self, original: &Original) -> Result<Tensor> {
        let shape = (self.features.outputs, self.features.inputs);
        if shape.0 == 0 || shape.1 == 0 {
            return self.arrived(zeros(shape, &self.device)?);
        }
        if let Some(card) = Backend::too_old_for(Precision::Bf16, &self.device)? {
            bail!(
                "linear: expected a card of compute capability 8.0 or more for products in bf16, found {card}"
            );
        }
        // candle asks for its kernel first, which only a thread may that has opened the card: this one has then.
        self.device.synchronize()?;
        let rounded = match &original.tensor {
            Some(tensor) => tensor.contiguous()?.to_dtype(DType::BF16)?,
            // Rounded before it goes to the card, which so never holds it in f32, not even for a moment.
            None => {
                let on_host = Tensor::from_vec(self.read(original)?, shape, &Device::Cpu)?;
                on_host.to_dtype(DType::BF16)?.to_device(&self.device)?
            }
        };
        self.arrived(rounded)
    }

    fn read(&self, original: &Original) -> Result<Vec<f32>> {
        let Some(read) = &original.read else {
            bail!(
                "linear: expected a weight in f32, found one that was rounded to bf16 when it was first used, which is all that the \
                 card holds; make the layer anew"
            );
        };
        let Features { inputs, outputs } = self.features;
        let mut values = Vec::with_capacity(outputs * inputs);
        read(0..outputs, &mut values)?;
        Ok(values)
    }

    /// A tensor that was just queued, once the card has made it. Each thread has a stream of its own there, and what other threads
    /// queue doesn't wait for this one's. A tensor without numbers has memory as well, and another thread may free that.
    fn arrived(&self, tensor: Tensor) -> Result<Tensor> {
        self.device.synchronize()?;
        Ok(tensor)
    }

    /// Bytes that it takes on the card now.
    pub(crate) fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        let original = self.original();
        let operand = self.operand.get();
        // Where both are in f32 they are one.
        let other =
            original.tensor.as_ref().filter(|tensor| operand.is_none_or(|it| it.dtype() != tensor.dtype()));
        operand.into_iter().chain(other).map(size).sum()
    }
}
