//! What operations upload to a card.

use skn_kernels::{
    Packing, Rotary, RowSelection, attention, rows_at_positions, rows_of, select_rows, uploads,
};

use crate::common::{form, numbers, packing, values};
use crate::compile;

/// What several layers upload, of which each asks these rows.
fn of_layers(packing: &Packing, rows: &RowSelection, rotary: &Rotary) -> u64 {
    let before = uploads();
    let x = numbers(&[packing.rows(), 16], 1);
    for _ in 0..3 {
        let asking = select_rows(&x, rows).unwrap();
        let query = rotary.apply(&asking, rows).unwrap();
        let key = rotary.apply(&x, &packing.all_rows()).unwrap();
        attention(&query, &key, &x, packing, rows, &form(16, 2), None).unwrap();
        rows_at_positions(&x, rows).unwrap();
    }
    uploads() - before
}

#[test]
fn rows_of_a_batch_are_uploaded_once() {
    if compile::program().is_none() {
        return;
    }
    let (packing, rotary) = (packing(&[3, 0, 40]), Rotary::new(&[1.0, 0.1], 8).unwrap());
    // Where the rows are, the tiles of attention, and the table of angles.
    assert_eq!(of_layers(&packing, &packing.all_rows(), &rotary), 3);
    assert_eq!(of_layers(&packing, &packing.all_rows(), &rotary), 0);
    for rows in [packing.last_rows(1), packing.select(&[0, 2, 41]).unwrap()] {
        assert_eq!(of_layers(&packing, &rows, &rotary), 2, "where they are, and their tiles");
        assert_eq!(of_layers(&packing.clone(), &rows.clone(), &rotary), 0);
    }
}

#[test]
fn nothing_is_uploaded_for_no_rows() {
    if compile::program().is_none() {
        return;
    }
    let (table, before) = (numbers(&[4, 3], 1), uploads());
    assert_eq!(rows_of(&table, &[]).unwrap().dims(), [0, 3]);
    assert_eq!(rows_of(&numbers(&[4, 0], 1), &[3, 1]).unwrap().dims(), [2, 0]);
    assert_eq!(rows_of(&numbers(&[4], 1), &[]).unwrap().dims(), [0]);
    let none = packing(&[0, 0]).all_rows();
    assert_eq!(rows_at_positions(&table, &none).unwrap().dims(), [0, 3]);
    assert_eq!(uploads(), before);
    assert_eq!(values(&rows_of(&table, &[2, 0]).unwrap()).len(), 6);
    assert_eq!(uploads(), before + 1);
}
