//! `skn-fetch` before a server that tests begin: `cargo test -p skn-fetch --test suite`.

mod fetch;
mod fetch_attacks;
#[path = "docs/fetch.rs"]
mod fetch_docs;
#[path = "messages/fetch.rs"]
mod fetch_messages;
mod fetch_places;
mod fetch_slow;
mod fetch_whole;

// What they share.
#[path = "support/cases.rs"]
mod cases;
#[path = "support/damage.rs"]
mod damage;
#[path = "support/fetching.rs"]
mod fetching;
#[path = "support/hub.rs"]
mod hub;
#[path = "docs/page.rs"]
mod page;
