//! `skn-fetch`: from the Hugging Face Hub into its local cache, where every program finds it by name.
//!
//! The only crate that links `hf-hub`, which knows the Hub's addresses, how to ask it, and where the cache keeps a
//! repository. The contents come past it, because of what hf-hub 0.5 does with them: it writes where a header of the
//! response says, appends a whole file where a server ignores `Range`, gives a file its name before anybody could
//! check it, and sends the token along to the host that a redirect names.

// Doc comments of flags are help texts.
#![allow(rustdoc::invalid_html_tags, rustdoc::broken_intra_doc_links, rustdoc::bare_urls)]

mod answer;
mod choice;
mod content;
mod disk;
mod fetch;
mod fetched;
mod here;
mod http;
mod listing;
mod names;
mod patience;
mod publish;
mod remote;
mod settings;
mod shards;
mod store;
mod work;

pub use crate::fetch::{Fetch, program};
pub use crate::fetched::{Fetched, FetchedFile};
