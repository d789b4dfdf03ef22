use super::*;
use proptest::prelude::*;

/// The most rows that are not cut.
fn at_once() -> usize {
    Isa::available().into_iter().map(rows_at_once).max().unwrap()
}

fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// `left x weight^T + bias` in f64.
fn naive(left: View<'_>, weight: View<'_>, bias: &[f32]) -> Vec<f64> {
    let element = |row: usize, column: usize| {
        let products =
            left.row(row).iter().zip(weight.row(column)).map(|(a, b)| f64::from(*a) * f64::from(*b));
        f64::from(bias[column]) + products.sum::<f64>()
    };
    (0..left.rows * weight.rows).map(|place| element(place / weight.rows, place % weight.rows)).collect()
}

fn close(ours: &[f32], theirs: &[f64], tolerance: f64) -> bool {
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(ours, theirs)| (f64::from(*ours) - theirs).abs() < tolerance)
}

#[test]
fn a_product_by_hand() {
    let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let left = [1.0, 10.0, -1.0, 0.5];
    for isa in Isa::available() {
        let panels = Panels::<f32>::of_transposed(View::dense(&weight, 3, 2));
        let product = panels.multiply(isa, View::dense(&left, 2, 2), &[100.0, 0.0, 0.0], |_| {});
        assert_eq!(product, [121.0, 43.0, 65.0, 100.0, -1.0, -2.0], "{isa:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn products_are_right_on_every_instruction_set(
        rows in 0usize..40, inner in 0usize..70, columns in 0usize..80, seed: u32
    ) {
        let (left, weight) = (numbers(rows * inner, seed), numbers(columns * inner, seed ^ 1));
        let (left, weight) = (View::dense(&left, rows, inner), View::dense(&weight, columns, inner));
        let bias = numbers(columns, seed ^ 2);
        let expected = naive(left, weight, &bias);
        let transposed = weight.transposed();
        // As if the transpose had been packed, to the bit.
        let (back, turned) = (numbers(rows * columns, seed ^ 3), View::dense(&transposed, inner, columns));
        let back = View::dense(&back, rows, columns);
        for isa in Isa::available() {
            let expected = Panels::<f32>::of(weight).multiply(isa, back, &[], |_| {});
            prop_assert_eq!(Panels::<f32>::of(turned).multiply_transposed(isa, back), expected);
            let expected = Panels::<Pair>::of(weight).multiply(isa, back, &[], |_| {});
            prop_assert_eq!(Panels::<Pair>::of(turned).multiply_transposed(isa, back), expected);
        }
        for isa in Isa::available() {
            for panels in [Panels::<f32>::of_transposed(weight), Panels::<f32>::of(View::dense(&transposed, inner, columns))] {
                let product = panels.multiply(isa, left, &bias, |_| {});
                prop_assert!(close(&product, &expected, 1e-4), "{:?}", isa);
                // A row alone has the bits that it has among others.
                for row in 0..rows.min(14) {
                    let alone = panels.multiply(isa, View::dense(left.row(row), 1, inner), &bias, |_| {});
                    prop_assert_eq!(&alone, &product[row * columns..(row + 1) * columns]);
                }
            }
        }
    }
}

#[test]
fn long_products_are_cut_without_a_trace() {
    let (rows, inner, columns) = (2 * at_once() + 7, SLAB + 261, 33);
    let (left, weight) = (numbers(rows * inner, 3), numbers(columns * inner, 4));
    let (left, weight) = (View::dense(&left, rows, inner), View::dense(&weight, columns, inner));
    let expected = naive(left, weight, &vec![0.0; columns]);
    for isa in Isa::available() {
        let product = Panels::<f32>::of_transposed(weight).multiply(isa, left, &[], |_| {});
        assert!(close(&product, &expected, 1e-3), "{isa:?}");
        let turned = Panels::<f32>::of(weight).multiply_transposed(isa, left);
        assert!(turned == product, "{isa:?}");
        let [turned, product] = [
            Panels::<Pair>::of(weight).multiply_transposed(isa, left),
            Panels::<Pair>::of_transposed(weight).multiply(isa, left, &[], |_| {}),
        ];
        assert!(turned == product, "{isa:?}");
    }
}

#[test]
fn rows_that_share_cache_sets_are_copied_without_a_trace() {
    let (rows, inner, columns) = (at_once() + 14, ALIAS, 70);
    let apart = ALIAS + 3;
    let values = numbers(rows * apart, 11);
    let dense: Vec<f32> = values.chunks(apart).flat_map(|row| row[..inner].to_vec()).collect();
    let left = View { values: &values, rows, columns: inner, stride: apart };
    let weight = numbers(columns * inner, 12);
    let panels = Panels::<f32>::of_transposed(View::dense(&weight, columns, inner));
    let bias = numbers(columns, 13);
    for isa in Isa::available() {
        let product = panels.multiply(isa, View::dense(&dense, rows, inner), &bias, |_| {});
        assert!(product == panels.multiply(isa, left, &bias, |_| {}), "{isa:?}");
    }
}

#[test]
fn pairs_of_16_bits_are_the_product_of_rounded_numbers() {
    for (rows, inner, columns) in
        [(1, 1, 1), (3, 2, 31), (13, 7, 33), (at_once() + 2, 2 * SLAB + 5, 70), (0, 4, 4), (2, 0, 5)]
    {
        let round = |value: f32| {
            let mut pair = [Pair::default()];
            Pair::of_row(&mut pair, &[value]);
            pair[0].numbers()[0]
        };
        let (left, weight) = (numbers(rows * inner, 21), numbers(columns * inner, 22));
        let bias = numbers(columns, 23);
        let [rounded_left, rounded_weight]: [Vec<f32>; 2] =
            [&left, &weight].map(|values| values.iter().map(|&value| round(value)).collect());
        let expected = naive(
            View::dense(&rounded_left, rows, inner),
            View::dense(&rounded_weight, columns, inner),
            &bias,
        );
        let transposed = View::dense(&weight, columns, inner).transposed();
        for isa in Isa::available() {
            let panels = Panels::<Pair>::of_transposed(View::dense(&weight, columns, inner));
            let product = panels.multiply(isa, View::dense(&left, rows, inner), &bias, |_| {});
            assert!(close(&product, &expected, 1e-4), "{isa:?} {rows} {inner} {columns}");
            if !isa.multiplies_bf16() {
                let rounded = View::dense(&rounded_weight, columns, inner);
                let left = View::dense(&rounded_left, rows, inner);
                let expected = Panels::<f32>::of_transposed(rounded).multiply(isa, left, &bias, |_| {});
                assert!(product == expected, "{isa:?} {rows} {inner} {columns}");
            }
            let panels = Panels::<Pair>::of(View::dense(&transposed, inner, columns));
            assert!(product == panels.multiply(isa, View::dense(&left, rows, inner), &bias, |_| {}));
            // A row alone has the bits it has among others.
            for row in [0, rows / 2, rows.saturating_sub(1)].into_iter().filter(|&row| row < rows) {
                let alone = View::dense(&left[row * inner..][..inner], 1, inner);
                let alone = panels.multiply(isa, alone, &bias, |_| {});
                assert!(alone == product[row * columns..][..columns], "{isa:?} row {row}");
            }
        }
    }
}

#[test]
fn every_element_is_finished_once() {
    let (rows, inner, columns) = (at_once() + 1, SLAB + 1, 65);
    let (left, weight) = (vec![0f32; rows * inner], vec![0f32; columns * inner]);
    let panels = Panels::<f32>::of_transposed(View::dense(&weight, columns, inner));
    let product = panels.multiply(Isa::best(), View::dense(&left, rows, inner), &[], |part| {
        for row in part.values.chunks_mut(part.stride) {
            row[..part.columns].iter_mut().for_each(|value| *value += 1.0);
        }
    });
    assert!(product.iter().all(|&value| value == 1.0));
}

#[test]
fn parts_of_matrices_are_left_alone_outside() {
    // With 8 bits of precision, so that pairs give the same.
    let numbers =
        |count, seed| numbers(count, seed).iter().map(|value| (value * 64.0).round() / 64.0).collect();
    let [values, weight]: [Vec<f32>; 2] = [numbers(4 * 10, 8), numbers(4 * 5, 9)];
    let left = View { values: &values[3..], rows: 3, columns: 5, stride: 10 };
    let weight = View::dense(&weight, 4, 5);
    let expected = naive(left, weight, &[0.0; 4]);
    for isa in Isa::available() {
        let products: [&dyn Fn(&mut ViewMut<'_>); 2] = [
            &|out| Panels::<f32>::of_transposed(weight).multiply_into(isa, left, &[], out, |_| {}),
            &|out| Panels::<Pair>::of_transposed(weight).multiply_into(isa, left, &[], out, |_| {}),
        ];
        for product in products {
            let mut out = [7f32; 3 * 9];
            product(&mut ViewMut { values: &mut out[2..], columns: 4, stride: 9 });
            let found: Vec<f32> = out.chunks(9).flat_map(|row| row[2..6].to_vec()).collect();
            assert!(close(&found, &expected, 1e-5), "{isa:?}");
            assert!(out.chunks(9).all(|row| row[..2] == [7.0; 2] && row[6..] == [7.0; 3]), "{isa:?}");
        }
    }
}

#[test]
fn vector_sets_agree_in_every_bit() {
    let (left, weight) = (numbers(25 * 100, 5), numbers(50 * 100, 6));
    let panels = Panels::<f32>::of_transposed(View::dense(&weight, 50, 100));
    let products = Isa::available().into_iter().filter(|isa| *isa != Isa::Portable);
    let products: Vec<_> =
        products.map(|isa| panels.multiply(isa, View::dense(&left, 25, 100), &[], |_| {})).collect();
    assert!(products.windows(2).all(|pair| pair[0] == pair[1]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    /// Zeros beside a part are as good as a part, and a product may go on in parts of the inner index: to the bit.
    #[test]
    fn parts_of_a_panel_are_products_with_zeros(
        rows in 0usize..30, inner in 0usize..1700, columns in 0usize..150, seed: u32, cut in 0f64..1.0
    ) {
        let (left, weight) = (numbers(rows * inner, seed), numbers(inner * columns, seed ^ 1));
        let (left, weight) = (View::dense(&left, rows, inner), View::dense(&weight, inner, columns));
        let middle = (cut * inner as f64) as usize;
        let first_column = ((cut * columns as f64) as usize / PANEL) * PANEL;
        for isa in Isa::available() {
            let panels = Panels::<f32>::of(weight);
            let whole = panels.multiply(isa, left, &[], |_| {});
            // From a column on, for all of the inner index.
            let width = columns - first_column;
            let mut found = vec![7f32; rows * width];
            let out = &mut ViewMut::dense(&mut found, width);
            panels.multiply_part(isa, left, [0..inner, first_column..columns], out);
            for (found, whole) in found.chunks(width.max(1)).zip(whole.chunks(columns.max(1))) {
                prop_assert_eq!(found, &whole[first_column..], "{:?}", isa);
            }
            // From a number of the inner index on: what lies before counts as 0.
            let mut zeros = left.values.to_vec();
            zeros.chunks_mut(inner.max(1)).for_each(|row| row[..middle].fill(0.0));
            let expected = panels.multiply(isa, View::dense(&zeros, rows, inner), &[], |_| {});
            let rest = View {
                values: left.values.get(middle..).unwrap_or_default(), columns: inner - middle, ..left
            };
            let mut found = vec![7f32; rows * columns];
            let out = &mut ViewMut::dense(&mut found, columns);
            panels.multiply_part(isa, rest, [middle..inner, 0..columns], out);
            prop_assert_eq!(found, expected, "{:?}", isa);
            // One part after the other.
            let mut found = vec![0f32; rows * columns];
            for part in [0..middle, middle..inner] {
                let weight = View { values: &weight.values[part.start * columns..], rows: part.len(), ..weight };
                let left = View { values: left.values.get(part.start..).unwrap_or_default(), columns: part.len(), ..left };
                Panels::<f32>::of(weight).multiply_adding(isa, left, &mut ViewMut::dense(&mut found, columns));
            }
            prop_assert_eq!(found, whole, "{:?}", isa);
        }
    }
}
