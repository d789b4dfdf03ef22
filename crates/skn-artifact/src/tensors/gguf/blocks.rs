//! How numbers are stored in a GGUF file.

/// A type of stored numbers: blocks of so many, each of so many bytes, one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockType {
    name: &'static str,
    numbers: usize,
    bytes: usize,
}

impl BlockType {
    /// Its name in ggml, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Numbers of a block.
    pub fn numbers(self) -> usize {
        self.numbers
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        self.bytes
    }

    /// Bytes of so many numbers; nothing if they are no whole blocks, or too many.
    pub fn size(self, numbers: usize) -> Option<usize> {
        let blocks = numbers.is_multiple_of(self.numbers).then(|| numbers / self.numbers)?;
        blocks.checked_mul(self.bytes)
    }

    /// The type that a file's header means by a number.
    pub(super) fn numbered(number: u32) -> Option<Self> {
        let found = TYPES.iter().find(|(known, ..)| *known == number);
        found.map(|&(_, name, numbers, bytes)| Self { name, numbers, bytes })
    }
}

/// All types that ggml has or had a reader for: number, name, numbers and bytes of a block.
const TYPES: [(u32, &str, usize, usize); 34] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_blocks_have_a_size() {
        let of = |number| BlockType::numbered(number).unwrap();
        assert_eq!((of(12).size(512), of(12).size(100), of(0).size(3)), (Some(288), None, Some(12)));
        assert_eq!(of(0).size(usize::MAX), None);
        assert_eq!(BlockType::numbered(5), None, "a type that is gone");
    }
}
