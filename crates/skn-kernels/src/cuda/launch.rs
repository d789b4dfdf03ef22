//! Calls of the kernels: what is launched, with which arguments, and what comes out.

use candle_core::op::BackpropOp;
use candle_core::{DType, Result, Shape, Storage, Tensor, bail};

/// An argument of a kernel behind its outputs, in the kernel's order.
pub(super) enum Argument {
    /// A pointer to nothing.
    Nothing,
    /// Numbers to read, f32 or u32, in one piece.
    Tensor(Tensor),
    U32(u32),
    U64(u64),
    F32(f32),
}

/// What a kernel writes.
pub(super) enum Output {
    /// A pointer to nothing.
    Nothing,
    /// New memory, all of which it writes.
    New(DType, Shape),
    /// Numbers that it goes on from, and writes where they are.
    GoesOn(Made),
}

/// A call of a kernel. Its outputs are its first arguments.
pub(super) struct Launch {
    pub(super) kernel: &'static str,
    pub(super) grid: [u32; 3],
    /// Threads of a block.
    pub(super) block: u32,
    /// Bytes of shared memory that are given when it is launched.
    pub(super) shared: u32,
    pub(super) outputs: Vec<Output>,
    pub(super) arguments: Vec<Argument>,
}

/// What a kernel has written.
pub(super) struct Made {
    pub(super) storage: Storage,
    pub(super) shape: Shape,
}

impl Made {
    /// As a tensor that has no history.
    pub(super) fn tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }
}

impl Launch {
    pub(super) fn new(kernel: &'static str, grid: [u32; 3], block: u32) -> Self {
        Self { kernel, grid, block, shared: 0, outputs: Vec::new(), arguments: Vec::new() }
    }

    pub(super) fn shared(mut self, bytes: u32) -> Self {
        self.shared = bytes;
        self
    }

    pub(super) fn output(self, shape: impl Into<Shape>) -> Self {
        self.output_if(true, shape)
    }

    /// An output that the kernel leaves out where nobody wants it.
    pub(super) fn output_if(mut self, wanted: bool, shape: impl Into<Shape>) -> Self {
        self.outputs.push(if wanted { Output::New(DType::F32, shape.into()) } else { Output::Nothing });
        self
    }

    /// An output of other numbers than f32.
    pub(super) fn output_of(mut self, dtype: DType, shape: impl Into<Shape>) -> Self {
        self.outputs.push(Output::New(dtype, shape.into()));
        self
    }

    /// An output of f32, or the same rounded to bf16: two outputs, of which one is left out.
    pub(super) fn output_rounded_if(mut self, rounded: bool, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        self.outputs.extend(match rounded {
            false => [Output::New(DType::F32, shape), Output::Nothing],
            true => [Output::Nothing, Output::New(DType::BF16, shape)],
        });
        self
    }

    /// Numbers that the kernel goes on from, or nothing: an output too, which has what became of them. If the launch fails they are
    /// lost.
    pub(super) fn goes_on(mut self, from: Option<Made>) -> Self {
        self.outputs.push(from.map_or(Output::Nothing, Output::GoesOn));
        self
    }

    /// Numbers to read, copied if they are not in one piece.
    pub(super) fn tensor(mut self, x: &Tensor) -> Result<Self> {
        if !matches!(x.dtype(), DType::F32 | DType::U32) {
            bail!("{}: expected f32 or u32, found {:?}", self.kernel, x.dtype());
        }
        self.arguments.push(Argument::Tensor(x.contiguous()?));
        Ok(self)
    }

    /// Numbers to read, or nothing.
    pub(super) fn tensor_if(mut self, x: Option<&Tensor>) -> Result<Self> {
        match x {
            Some(x) => self.tensor(x),
            None => {
                self.arguments.push(Argument::Nothing);
                Ok(self)
            }
        }
    }

    /// A count or a code of 32 bits.
    pub(super) fn u32(mut self, number: usize) -> Result<Self> {
        let Ok(number) = u32::try_from(number) else {
            bail!("{}: expected a number below 2^32, found {number}", self.kernel);
        };
        self.arguments.push(Argument::U32(number));
        Ok(self)
    }

    pub(super) fn u64(mut self, number: usize) -> Self {
        self.arguments.push(Argument::U64(number as u64));
        self
    }

    pub(super) fn f32(mut self, number: f32) -> Self {
        self.arguments.push(Argument::F32(number));
        self
    }
}

/// Threads of most blocks.
pub(super) const THREADS: u32 = 256;

/// Blocks of [`THREADS`] for so many elements, each of its own: a thread takes four, and goes on with later ones where blocks are
/// too few.
pub(super) fn blocks(elements: usize) -> [u32; 3] {
    [elements.div_ceil(4 * THREADS as usize).clamp(1, 65_535) as u32, 1, 1]
}

/// Blocks of [`THREADS`] in which each warp has a row, or a column.
pub(super) fn warps(count: usize) -> [u32; 3] {
    [count.div_ceil(THREADS as usize / 32) as u32, 1, 1]
}
