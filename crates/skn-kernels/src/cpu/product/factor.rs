//! What products multiply: packed elements themselves, or the numbers of packed pairs.

use crate::cpu::element::{Element, Pair, to_bf16};
use crate::cpu::memory::Aligned;
use crate::cpu::panels::PANEL;
use crate::cpu::simd::{Isa, multiversioned};
use crate::cpu::transpose;
use crate::cpu::view::View;

/// How packed elements are multiplied as factors `F`, which hold as many numbers or half of them, and what rows of the left-hand
/// side become for that.
pub(super) trait As<F: Element>: Element {
    /// A left-hand side as it lies, where its numbers are the factors already.
    fn lent(left: View<'_>) -> Option<View<'_, F>>;

    /// The factors of numbers that lie one after another on the left; what the last one lacks is 0.
    fn left(isa: Isa, out: &mut [F], numbers: &[f32]);

    /// The factors of steps of a panel: the elements themselves, or made of them in `made`.
    fn factors<'m>(isa: Isa, steps: &'m [Self], made: &'m mut Aligned<F>) -> &'m [F];

    /// Turns a block ([`crate::cpu::transpose`]); `from` has at most the steps of one, `to` all of them.
    fn turn(isa: Isa, from: &[Self], to: &mut [F]);
}

impl As<f32> for f32 {
    fn lent(left: View<'_>) -> Option<View<'_, f32>> {
        Some(left)
    }

    fn left(_: Isa, out: &mut [f32], numbers: &[f32]) {
        out.copy_from_slice(numbers);
    }

    fn factors<'m>(_: Isa, steps: &'m [Self], _: &'m mut Aligned<f32>) -> &'m [f32] {
        steps
    }

    fn turn(isa: Isa, from: &[Self], to: &mut [f32]) {
        transpose::transpose(isa, from, to);
    }
}

impl As<Pair> for Pair {
    fn lent(_: View<'_>) -> Option<View<'_, Pair>> {
        None
    }

    fn left(_: Isa, out: &mut [Pair], numbers: &[f32]) {
        Self::of_row(out, numbers);
    }

    fn factors<'m>(_: Isa, steps: &'m [Self], _: &'m mut Aligned<Pair>) -> &'m [Pair] {
        steps
    }

    fn turn(isa: Isa, from: &[Self], to: &mut [Pair]) {
        transpose::transpose_pairs(isa, from, to);
    }
}

impl As<f32> for Pair {
    fn lent(_: View<'_>) -> Option<View<'_, f32>> {
        None
    }

    fn left(isa: Isa, out: &mut [f32], numbers: &[f32]) {
        out.copy_from_slice(numbers);
        round(isa, out);
    }

    fn factors<'m>(isa: Isa, steps: &'m [Self], made: &'m mut Aligned<f32>) -> &'m [f32] {
        let made = made.at_least(2 * steps.len());
        widen(isa, steps, made);
        made
    }

    fn turn(isa: Isa, from: &[Self], to: &mut [f32]) {
        let mut numbers = [0f32; transpose::block::<f32>()];
        widen(isa, from, &mut numbers);
        transpose::transpose(isa, &numbers, to);
    }
}

multiversioned! {
    /// Steps of numbers from steps of pairs: two from each.
    widen = widen_steps(from: &[Pair], to: &mut [f32])
}

#[inline(always)]
fn widen_steps<const FUSED: bool>(from: &[Pair], to: &mut [f32]) {
    for (pairs, to) in from.as_chunks::<PANEL>().0.iter().zip(to.as_chunks_mut::<{ 2 * PANEL }>().0) {
        let (first, second) = to.split_at_mut(PANEL);
        for ((pair, first), second) in pairs.iter().zip(first).zip(second) {
            [*first, *second] = pair.numbers();
        }
    }
}

multiversioned! {
    /// Rounds numbers to bfloat16.
    round = round_each(numbers: &mut [f32])
}

#[inline(always)]
fn round_each<const FUSED: bool>(numbers: &mut [f32]) {
    numbers.iter_mut().for_each(|number| *number = f32::from_bits(to_bf16(*number) << 16));
}
