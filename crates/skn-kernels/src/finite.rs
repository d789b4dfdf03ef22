//! Numbers that no computation goes on from.

/// The first number that is NaN or infinite, and its place before it; nothing if there is none.
pub fn not_finite(values: &[f32]) -> Option<(usize, f32)> {
    // A sum of `0 x` is 0 or NaN, and unlike a search it is computed sixteen values at a time.
    let mut lanes = [0f32; 16];
    for chunk in values.chunks(16) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * 0.0;
        }
    }
    let finite = lanes.iter().all(|lane| *lane == 0.0);
    if finite { None } else { values.iter().copied().enumerate().find(|(_, value)| !value.is_finite()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_found_wherever_it_stands() {
        assert_eq!(not_finite(&[]), None);
        assert_eq!(not_finite(&[f32::MAX, -f32::MAX, f32::MIN_POSITIVE / 2.0, -0.0]), None);
        for place in [0, 15, 16, 17, 40] {
            for wrong in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                let mut values = vec![1.5f32; 41];
                (values[place], values[40]) = (wrong, wrong);
                let (found, value) = not_finite(&values).unwrap();
                assert_eq!((found, value.to_bits()), (place, wrong.to_bits()));
            }
        }
    }
}
