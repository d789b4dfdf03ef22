//! What frozen weights are multiplied in.

/// What the products with a frozen weight multiply. Sums, biases and everything between products are f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bfloat16: weights and what comes in are rounded to 8 bits of precision, and packed weights take half the memory. On a
    /// CPU with AVX512-BF16 products take about half the time ([`Isa::multiplies_bf16`](crate::Isa::multiplies_bf16)); elsewhere they take about as long as
    /// in f32, and the result is the same but for the order of sums.
    Bf16,
}

impl Precision {
    /// Its name: f32 or bf16.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}
