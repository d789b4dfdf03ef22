//! `--dry-run`: what a program would do.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Table, presets};
use serde::Serialize;
use skn_session::DryRun as Found;

use crate::number::Count;

/// What a program would read, write and take.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct DryRun(pub(crate) Found);

/// Files that are listed; of more it is told how many.
const LISTED: usize = 12;

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { reads, writes, work, seconds, memory, available_memory, notes, .. } = &self.0;
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN).set_header(["what is done", "texts", "time"]);
        for work in work {
            let texts = work.texts.map_or_else(String::new, |texts| texts.to_string());
            let about = if work.timed { "" } else { "at most about " };
            let time = work
                .seconds
                .map_or_else(|| "not known".to_owned(), |time| format!("{about}{}", duration(time)));
            table.add_row([Cell::new(&work.what), right(texts), right(time)]);
        }
        let known = work.iter().all(|work| work.seconds.is_some());
        table.add_row([
            Cell::new(if known { "all" } else { "all but what is not known" }),
            right(String::new()),
            right(format!("about {}", duration(*seconds))),
        ]);
        writeln!(f, "{table}\n")?;
        for read in reads {
            let bytes = read.bytes.map_or_else(String::new, |bytes| format!(" ({})", size(bytes)));
            writeln!(f, "reads {}{bytes}", read.name)?;
        }
        for file in writes.iter().take(LISTED) {
            let bytes = file.bytes.map_or_else(String::new, |bytes| format!(" ({})", size(bytes)));
            let replaces = if file.replaces { ", which is there already" } else { "" };
            writeln!(f, "would write {}{bytes}{replaces}", file.path.display())?;
        }
        if let Some(more) = writes.len().checked_sub(LISTED).filter(|more| *more > 0) {
            writeln!(f, "would write {} more", Count(more, "file"))?;
        }
        if let Some(memory) = memory {
            let left =
                available_memory.map_or_else(String::new, |left| format!("; {} are free here", size(left)));
            writeln!(f, "memory about {}{left}", size(*memory))?;
        }
        for note in notes {
            writeln!(f, "{note}")?;
        }
        write!(f, "{}", self.measured())
    }
}

impl DryRun {
    /// How it was found out.
    fn measured(&self) -> String {
        let Found { run, rehearsed_with, writes, .. } = &self.0;
        let place = match run {
            Some(run) => format!("nothing was written to {}", run.display()),
            None if writes.is_empty() => "it would write no file".to_owned(),
            None => "nothing was written".to_owned(),
        };
        let sample =
            rehearsed_with.map_or_else(String::new, |texts| format!(" with {texts} texts of each part,"));
        format!("{place}; timed{sample} on this machine as busy as it is")
    }
}

/// Seconds as one reads them.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 100.0 => format!("{seconds:.1} s"),
        seconds if seconds < 6000.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Bytes as one reads them.
fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e3 => format!("{bytes} bytes"),
        bytes if bytes < 1e6 => format!("{:.1} KB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_one_reads_them() {
        assert_eq!([0.0123, 12.34, 240.0, 7200.0].map(duration), ["12 ms", "12.3 s", "4 min", "2.0 h"]);
        assert_eq!(
            [17, 1_500, 2_400_000, 3_100_000_000].map(size),
            ["17 bytes", "1.5 KB", "2.4 MB", "3.1 GB"]
        );
    }
}
