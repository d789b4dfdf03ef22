//! Rows of bits, lowest first in each byte.

/// Sets the bits of the values that are above their thresholds; `bits` are 0 before.
pub(crate) fn set_above(values: &[f32], thresholds: &[f32], bits: &mut [u8]) {
    for ((byte, values), thresholds) in bits.iter_mut().zip(values.chunks(8)).zip(thresholds.chunks(8)) {
        let above = values.iter().zip(thresholds).map(|(value, threshold)| u8::from(value > threshold));
        *byte = above.enumerate().fold(0, |byte, (bit, above)| byte | above << bit);
    }
}

/// A matrix of bits `[rows, columns]` turned to `[columns, rows]`; each row begins at a byte, and what is behind it is 0.
pub(crate) fn transpose(bits: &[u8], rows: usize, columns: usize) -> Vec<u8> {
    let (from, to) = (columns.div_ceil(8), rows.div_ceil(8));
    let mut turned = vec![0; columns * to];
    for (byte_row, eight) in bits.chunks(8 * from).enumerate() {
        for byte_column in 0..from {
            let mut block = [0; 8];
            for (byte, row) in block.iter_mut().zip(eight.chunks_exact(from)) {
                *byte = row[byte_column];
            }
            let block = transpose_block(u64::from_le_bytes(block)).to_le_bytes();
            for (column, byte) in (8 * byte_column..columns).zip(block) {
                turned[column * to + byte_row] = byte;
            }
        }
    }
    turned
}

/// 8 x 8 bits turned, byte `r` being row `r` (Warren, Hacker's Delight, 2nd edition, section 7-3).
fn transpose_block(mut x: u64) -> u64 {
    for (shift, mask) in
        [(7, 0x00AA_00AA_00AA_00AA), (14, 0x0000_CCCC_0000_CCCC), (28, 0x0000_0000_F0F0_F0F0)]
    {
        let swapped = (x ^ (x >> shift)) & mask;
        x ^= swapped ^ (swapped << shift);
    }
    x
}

/// Puts `count` bits of `from` behind the first `at` of `to`, whose further bits are 0.
pub(crate) fn append_bits(to: &mut [u8], at: usize, from: &[u8], count: usize) {
    let (start, shift) = (at / 8, at % 8);
    for (index, &byte) in from.iter().take(count.div_ceil(8)).enumerate() {
        let left = count - 8 * index;
        // Bits behind the last text are nobody's.
        let byte = if left < 8 { byte & ((1 << left) - 1) } else { byte };
        to[start + index] |= byte << shift;
        if shift > 0 && left > 8 - shift {
            to[start + index + 1] |= byte >> (8 - shift);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(bits: &[u8], stride: usize, row: usize, column: usize) -> bool {
        bits[row * stride + column / 8] >> (column % 8) & 1 == 1
    }

    #[test]
    fn a_bit_is_where_its_value_is_above() {
        let mut bits = [0; 2];
        set_above(&[1.0, 0.5, f32::NAN, 0.0, 0.0, 0.0, 0.0, 2.0, 0.6], &[0.5; 9], &mut bits);
        assert_eq!(bits, [0b1000_0001, 1]);
    }

    #[test]
    fn every_bit_is_turned() {
        for (rows, columns) in [(1usize, 1usize), (8, 8), (7, 9), (17, 30), (64, 3), (3, 64)] {
            let stride = columns.div_ceil(8);
            let mut bits = vec![0u8; rows * stride];
            for place in 0..rows * columns {
                let (row, column) = (place / columns, place % columns);
                // No pattern of 8.
                bits[row * stride + column / 8] |= u8::from(place * place % 11 < 5) << (column % 8);
            }
            let turned = transpose(&bits, rows, columns);
            let to = rows.div_ceil(8);
            for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
                assert_eq!(
                    bit(&turned, to, column, row),
                    bit(&bits, stride, row, column),
                    "{rows} x {columns}: {row}, {column}"
                );
            }
            let ones = |bits: &[u8]| bits.iter().map(|byte| byte.count_ones()).sum::<u32>();
            assert_eq!(ones(&turned), ones(&bits), "nothing behind the rows");
        }
    }

    #[test]
    fn bits_are_put_behind_others() {
        for (first, second) in [(0usize, 5usize), (3, 5), (8, 9), (5, 20), (7, 1), (13, 3)] {
            let all: Vec<bool> = (0..first + second).map(|place| place * place % 7 < 3).collect();
            let pack = |bits: &[bool]| {
                let mut bytes = vec![0u8; bits.len().div_ceil(8)];
                bits.iter()
                    .enumerate()
                    .for_each(|(place, &bit)| bytes[place / 8] |= u8::from(bit) << (place % 8));
                bytes
            };
            let mut found = vec![0; (first + second).div_ceil(8)];
            append_bits(&mut found, 0, &pack(&all[..first]), first);
            let mut dirty = pack(&all[first..]);
            if second % 8 > 0 {
                *dirty.last_mut().unwrap() |= 0x80;
            }
            append_bits(&mut found, first, &dirty, second);
            assert_eq!(found, pack(&all), "{second} behind {first}");
        }
    }
}
