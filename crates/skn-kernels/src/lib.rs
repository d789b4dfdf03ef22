//! Differentiable tensor operations for packed sequences, on candle.
//!
//! Sequences of a batch stand one after another in one matrix `[rows, width]`, without padding; a [`Packing`] says
//! where each starts. Tensors are f32, but for what is made for one product in bf16 ([`Linear::forward_for`]).
//!
//! - [`Linear`] with its bias and activation, two of them as a gated FFN has them ([`Linear::forward_gated`], [`gated()`]),
//!   [`LayerNorm`], [`RmsNorm`], [`Rotary`] positions, [`attention()`] inside each sequence in the forms of encoders and
//!   decoders ([`AttentionForm`]), [`SelfAttention`] with its layers, [`dropout()`] keyed by sequence, [`select_rows`].
//! - Reductions of rows that leave them where they are: exact sums, ranges ([`ColumnSums`]), sums by class and of
//!   products ([`ColumnMoments`]) and of shares ([`ColumnShares`]), counts ([`ColumnCounts`], [`ColumnBins`]), bits ([`pack_above`]), means and maxima ([`pool_rows`]),
//!   some columns ([`pick_columns`]).
//! - Gradients go to the input and to exactly those parameters that are variables: a frozen weight is captured by
//!   the operation and never part of the graph.
//! - On the CPU each operation has a kernel of its own, compiled for AVX-512, for AVX2 and portably, and chosen when
//!   the program runs. They are single-threaded: callers give each core a batch, and keep candle's own
//!   threads out of the way ([`keep_candle_on_calling_thread`]) and freed memory at hand ([`keep_freed_memory`]). A row's result has the same bits whatever rows are beside it.
//! - On NVIDIA's GPUs (feature `cuda`) each has kernels of its own, on other devices they are [`composed`] of candle's
//!   operations.
//! - One thread at a time drives a card: each has a stream of its own there, which doesn't wait for another one's. Another
//!   thread may take over when the first has waited (`Device::synchronize`), and begins so too: candle finds its kernels
//!   only where the card is open. Frozen weights, and what says where rows stand, are waited for here.
//!
//! ```
//! use candle_core::{Device, Tensor, Var};
//! use skn_kernels::{Activation, Linear};
//!
//! let weight = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
//! let layer = Linear::new(weight, None)?;
//! let x = Var::new(&[[1f32, -1.0]], &Device::Cpu)?;
//! let y = layer.forward(&x, Activation::Relu)?;
//! assert_eq!(y.to_vec2::<f32>()?, [[0.0, 0.0]]);
//! assert!(y.sum_all()?.backward()?.get(&x).is_some());
//! # Ok::<(), candle_core::Error>(())
//! ```

mod activation;
mod allocator;
mod attention;
mod backend;
mod calls;
mod check;
pub mod composed;
mod cpu;
mod cuda;
mod features;
mod finite;
mod freed;
mod graphs;
mod launches;
mod linear;
mod mask;
mod moments;
mod norm;
mod noted;
mod on_device;
mod one_pool;
mod operations;
mod packing;
mod precision;
mod read_back;
mod reductions;
mod rms_norm;
mod rotary;
mod row_groups;
mod rows;
mod running;
mod self_attention;
mod upload;

pub use crate::activation::Activation;
pub use crate::allocator::{TellingAllocator, tell_of_memory};
pub use crate::attention::{AttentionForm, Sees};
pub use crate::backend::Backend;
pub use crate::calls::{attention, dropout, gated};
pub use crate::cpu::Isa;
pub use crate::cuda::play_on_host;
pub use crate::finite::not_finite;
pub use crate::freed::{give_back_freed_memory, keep_freed_memory};
pub use crate::graphs::Graphs;
pub use crate::launches::{casts, launches, replays};
pub use crate::linear::Linear;
pub use crate::mask::Dropout;
pub use crate::moments::{ColumnBins, ColumnMoments, ColumnShares, pick_columns, row_norms};
pub use crate::norm::LayerNorm;
pub use crate::one_pool::keep_candle_on_calling_thread;
pub use crate::packing::{Packing, RowSelection};
pub use crate::precision::Precision;
pub use crate::read_back::{numbers_read_back, with_values};
pub use crate::reductions::{ColumnCounts, ColumnSums, pack_above, pool_rows};
pub use crate::rms_norm::RmsNorm;
pub use crate::rotary::Rotary;
pub use crate::row_groups::{
    ColumnNumbers, ColumnTotals, Misfit, MomentTotals, RowGroups, RowNumbers, RowRuns,
};
pub use crate::rows::{rows_at_positions, rows_of, select_rows};
pub use crate::self_attention::SelfAttention;
pub use crate::upload::{numbers_on, uploads, zeros_on};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
