//! Tasks, readers, splits, tokenising and packed batches for text classification.
//!
//! The way of a text through this crate: a [`Task`] says which columns and splits it has, what stands around its texts and which words answer it,
//! [`read_dataset`] reads it in any of several forms, [`split()`] divides the rows once and for all into train, dev
//! and test, a [`TextEncoder`] makes token ids of them, and [`pack`] puts these into batches without padding.
//! [`Metric`] scores the answers. A [`RecordReader`] gives what is to be answered, with whatever stands beside the texts, as it
//! comes. [`binarize()`] makes questions of two classes of a task with more, and
//! [`saved_files`] the folder that Python loads.
//!
//! ```
//! use skn_data::{Dataset, Join, Task, TextEncoder, bert_tokenizer, pack, split};
//!
//! # fn main() -> skn_data::Result<()> {
//! let task = Task::builtin("sst2")?;
//! let rows = br#"{"sentence": "the play is superb", "label": 1}
//!                {"sentence": "a dull song", "label": 0}
//!                {"sentence": "the story feels graceful", "label": 1}"#;
//! let splits = split(Dataset::from_jsonl(&[("train", rows)], &task)?, &task, 42)?;
//! assert_eq!((splits.train.len(), splits.dev.len(), splits.test.len()), (1, 1, 1));
//!
//! // A model has its tokenizer.json; this one is made of BERT's older vocab.txt, with a few words.
//! let words = "[PAD] [UNK] [CLS] [SEP] [MASK] negative positive a the play song story is feels dull superb graceful";
//! let json = bert_tokenizer(words.replace(' ', "\n").as_bytes(), None, "model")?;
//! let encoder = TextEncoder::from_json(&json, "model/tokenizer.json")?;
//! let verbalizer = encoder.verbalizer(&task.labels)?;
//! assert_eq!(verbalizer.ids, [5, 6]);
//!
//! let texts = encoder.encode_all(&splits.train, 122, Join::Separated)?;
//! let batches = pack(&texts, 16, 4096, 128, 1);
//! assert_eq!(batches[0].text(0), Some(&texts[0].ids[..]));
//! # Ok(())
//! # }
//! ```
//!
//! No tensor library is used here, and nothing is written but a file without a name ([`TextStore`]).

mod batch;
mod binarize;
mod builtin;
mod dataset;
mod encode;
mod error;
mod format;
mod frame;
mod metric;
mod names;
mod overlap;
mod packed;
mod read;
mod records;
mod rows;
mod save;
mod shared;
mod small_file;
mod spellings;
mod split;
mod stored;
mod stored_rows;
mod stored_splits;
mod task;
mod task_syntax;
mod text;
mod text_template;
mod token_ids;
mod verbalizer;
mod wire;

#[cfg(test)]
mod golden;

/// The example in README is a test too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use crate::batch::{Batch, epoch_order, shard};
pub use crate::binarize::{Choice, SubTask, binarize};
pub use crate::dataset::{Dataset, Example, UNLABELLED, part_hash};
pub use crate::encode::{Encoded, Join, TextEncoder, TokenizerFiles, bert_tokenizer};
pub use crate::error::{DataError, Result, RowPlace};
pub use crate::format::Format;
pub use crate::metric::Metric;
pub use crate::overlap::Overlap;
pub use crate::packed::{Packed, pack, pack_in_order};
pub use crate::read::{read_dataset, read_dataset_to};
pub use crate::records::{
    BadRecord, CsvLayout, Field, Record, RecordFormat, RecordReader, TableReceiver, read_parquet_table,
};
pub use crate::rows::{Receiver, Row};
pub use crate::save::saved_files;
pub use crate::split::{PartIndex, SplitIndex, Splits, data_hash, split, split_with};
pub use crate::stored::{StoredTexts, TextHead, TextList, TextStore};
pub use crate::stored_rows::{SomeRows, StoredRows};
pub use crate::stored_splits::StoredSplits;
pub use crate::task::{OtherLabels, SplitNames, Task};
pub use crate::text::Text;
pub use crate::text_template::{Filled, TextTemplate, WrongTemplate};
pub use crate::token_ids::TokenIds;
pub use crate::verbalizer::Verbalizer;
pub use crate::wire::{Broken, PIPE, RowReader, RowWriter};
