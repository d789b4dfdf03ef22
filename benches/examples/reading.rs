//! `reading FILE.jsonl TOKENIZER.json`: reads and tokenises rows of SST-2's form; prints the number of rows and tokens, and
//! the seconds that reading took, and tokenising. For `peers/reading.py`.

#![allow(clippy::print_stdout, reason = "a program")]

use std::path::Path;
use std::time::Instant;

use skn_data::{Join, Task, TextEncoder, read_dataset};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, tokenizer] = &arguments[..] else { return Err("expected FILE.jsonl TOKENIZER.json".into()) };
    let begun = Instant::now();
    let mut data = read_dataset(Path::new(file), &Task::builtin("sst2")?)?;
    let read = begun.elapsed().as_secs_f64();
    let encoder = TextEncoder::from_json(&std::fs::read(tokenizer)?, tokenizer)?;
    let rows = data.splits.remove("train").unwrap_or_default();
    let texts = encoder.encode_all(rows, 128, Join::Separated)?;
    let tokens: usize = texts.iter().map(|text| text.ids.len()).sum();
    println!("{} {tokens} {read:.2} {:.2}", texts.len(), begun.elapsed().as_secs_f64() - read);
    Ok(())
}
