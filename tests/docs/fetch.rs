//! Command lines of `skn-fetch` in the documentation are such as it takes.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::page;

use page::{Block, pages};
use skn_fetch::Fetch;

#[test]
fn commands_are_taken() {
    let mut seen = 0;
    for page in pages() {
        let lines = page.blocks.iter().flat_map(Block::commands);
        for words in
            lines.filter(|words| words[0] == "skn-fetch" && !words.iter().any(|word| word == "[OPTIONS]"))
        {
            seen += 1;
            let parsed = skn_program::parse::<Fetch>(&words);
            assert!(parsed.is_ok(), "{}: {words:?}: {}", page.path.display(), parsed.err().unwrap());
        }
    }
    assert!(seen > 5, "{seen} commands: are they all found?");
}
