//! Where the Hugging Face cache keeps a repository: one folder with `blobs` (contents, named by their hashes),
//! `snapshots/<commit>` (links to them, by file name) and `refs/<revision>` (which commit that is), as
//! `huggingface_hub` writes it.
//!
//! ```
//! use skn_hub::{Kind, Repository};
//!
//! let repository = Repository::parse(Kind::Dataset, "stanfordnlp/sst2@refs/convert/parquet").unwrap();
//! assert_eq!(repository.folder_name(), "datasets--stanfordnlp--sst2");
//! assert_eq!(repository.fetch_command(), "skn-fetch --dataset stanfordnlp/sst2 --revision refs/convert/parquet");
//! ```

// What others wrote is read here: no byte of it may end the program, or become another number.
#![cfg_attr(
    not(test),
    warn(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

mod cache;
mod environment;
mod error;
mod folder;
mod links;
mod repository;
mod snapshot;

pub use crate::cache::Cache;
pub use crate::environment::{expanded, is_on, offline_by, token_file, variable};
pub use crate::error::{HubError, Result};
pub use crate::links::follow;
pub use crate::repository::{Kind, MAIN, Repository, is_commit};
pub use crate::snapshot::Snapshot;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests;
