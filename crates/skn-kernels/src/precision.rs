//! What frozen weights are multiplied in.

/// What the products with a frozen weight multiply. Sums and biases are f32 either way, and so is everything between products that anybody
/// but the next product sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// TensorFloat-32, of NVIDIA's GPUs alone ([`Backend::multiplies_in`](crate::Backend::multiplies_in)): weights and what comes in are
    /// rounded to 11 bits of precision in the product itself, and weights take the memory of f32. Cards before Ampere (compute
    /// capability 8.0) have none, and multiply in f32.
    Tf32,
    /// bfloat16: weights and what comes in are rounded to 8 bits of precision, and weights take half the memory: packed on a
    /// CPU, or on a GPU. On a CPU with AVX512-BF16 products take about half the time
    /// ([`Isa::multiplies_bf16`](crate::Isa::multiplies_bf16)); on others they take about as long as in f32, and the result is the same but for the
    /// order of sums.
    Bf16,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// Its name: f32, tf32 or bf16.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}
