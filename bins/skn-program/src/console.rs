//! What a program says while it works: log lines, progress, and how signals stop it.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use skn_artifact::{visible, visible_json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::{Common, ProgressKind};

/// The signals that ask a program to stop.
#[cfg(unix)]
pub(crate) const STOPPING: &[(i32, &str)] = {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
    &[(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGUSR1, "SIGUSR1")]
};
#[cfg(not(unix))]
pub(crate) const STOPPING: &[(i32, &str)] = {
    use signal_hook::consts::{SIGINT, SIGTERM};
    &[(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM")]
};

/// A line of progress is printed at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The program's stderr: log lines, and progress as bars or as lines. Results go to stdout, through `print`.
pub struct Console {
    bars: MultiProgress,
    kind: ProgressKind,
    signal: Arc<AtomicUsize>,
    current: Mutex<Option<Current>>,
}

struct Current {
    what: String,
    unit: Unit,
    total: u64,
    done: u64,
    /// How much was done before it began.
    before: u64,
    /// What is known by now.
    note: String,
    bar: Option<ProgressBar>,
    began: Instant,
    logged: Instant,
}

impl Current {
    /// The time that the rest takes if it goes on as it did since it began; nothing as long as nothing is done.
    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let (done, rest) = (self.done.checked_sub(self.before)?, self.total.saturating_sub(self.done));
        (done > 0).then(|| elapsed.mul_f64(rest as f64 / done as f64))
    }

    /// How far it is, in a line.
    fn line(&self, elapsed: Duration) -> String {
        let percent = 100 * self.done / self.total.max(1);
        let [done, total] = [self.done, self.total].map(|amount| self.unit.show(amount));
        let mut line = format!("{}: {done} of {total} ({percent} %)", self.what);
        if !self.note.is_empty() {
            line += &format!(", {}", self.note);
        }
        if let Some(left) = self.left(elapsed) {
            line += &format!(", {} left", HumanDuration(left));
        }
        line
    }
}

/// What is counted.
#[derive(Clone, Copy)]
enum Unit {
    Items,
    Bytes,
}

impl Unit {
    fn template(self) -> &'static str {
        match self {
            Self::Items => "{msg:>22} {wide_bar} {pos}/{len}  {elapsed} < {eta}  {prefix}",
            Self::Bytes => {
                "{msg:>22} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {elapsed} < {eta}  {prefix}"
            }
        }
    }

    fn show(self, amount: u64) -> String {
        match self {
            Self::Items => amount.to_string(),
            Self::Bytes => HumanBytes(amount).to_string(),
        }
    }
}

impl Console {
    /// Sets up logging, progress and signal handling as the flags say.
    ///
    /// # Errors
    /// If the signal handlers can't be installed.
    pub fn new(common: &Common) -> anyhow::Result<Self> {
        Self::with_wording(common, str::to_owned)
    }

    /// The same, with log lines in other words: a library names options, a program has flags.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_wording(common: &Common, wording: fn(&str) -> String) -> anyhow::Result<Self> {
        let terminal =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let kind = match common.progress {
            ProgressKind::Auto if common.quiet => ProgressKind::None,
            ProgressKind::Auto if terminal => ProgressKind::Bar,
            ProgressKind::Auto => ProgressKind::Log,
            given => given,
        };
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        start_logging(common, AboveBars(bars.clone(), wording));
        Ok(Self { bars, kind, signal: watch_signals()?, current: Mutex::new(None) })
    }

    /// The number of the signal that asked the program to stop, if one did.
    pub fn signal(&self) -> Option<usize> {
        Some(self.signal.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
    }

    /// Something of `total` steps begins; whatever ran before is over.
    pub fn begin(&self, what: &str, total: u64) {
        self.start(what, total, Unit::Items);
    }

    /// The same, of `total` bytes.
    pub fn begin_bytes(&self, what: &str, total: u64) {
        self.start(what, total, Unit::Bytes);
    }

    /// So many more are done.
    pub fn advance(&self, amount: u64) {
        self.update(|current| current.done += amount);
    }

    /// So many were done before: the time that is left is not told by them.
    pub fn resumes(&self, amount: u64) {
        self.update(|current| {
            current.done += amount;
            current.before += amount;
            if let Some(bar) = &current.bar {
                bar.set_position(current.done);
                bar.reset_eta();
            }
        });
    }

    /// What is known by now, shown beside how far it is.
    pub fn note(&self, found: &str) {
        self.update(|current| {
            current.note = found.into();
            if let Some(bar) = &current.bar {
                bar.set_prefix(visible(found).into_owned());
            }
        });
    }

    /// So many are done in all.
    pub fn reach(&self, done: u64) {
        self.update(|current| current.done = done);
    }

    fn start(&self, what: &str, total: u64, unit: Unit) {
        let Ok(mut current) = self.current.lock() else { return };
        if let Some(bar) = current.as_mut().and_then(|current| current.bar.take()) {
            bar.finish_and_clear();
        }
        let bar = self.bar(what, total, unit);
        let (what, note, now) = (what.into(), String::new(), Instant::now());
        *current =
            Some(Current { what, unit, total, done: 0, before: 0, note, bar, began: now, logged: now });
    }

    fn bar(&self, what: &str, total: u64, unit: Unit) -> Option<ProgressBar> {
        if self.kind != ProgressKind::Bar {
            return None;
        }
        let style = ProgressStyle::with_template(unit.template());
        let bar = self.bars.add(ProgressBar::new(total).with_message(visible(what).into_owned()));
        Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    fn update(&self, change: impl FnOnce(&mut Current)) {
        let Ok(mut current) = self.current.lock() else { return };
        let Some(current) = current.as_mut() else { return };
        change(current);
        if let Some(bar) = &current.bar {
            bar.set_position(current.done);
            if current.done >= current.total {
                bar.finish_and_clear();
            }
        } else if self.kind == ProgressKind::Log && current.logged.elapsed() >= LOG_EVERY {
            current.logged = Instant::now();
            tracing::info!("{}", current.line(current.began.elapsed()));
        }
    }
}

/// The first signal asks the work to stop at the next safe place; a second one ends the program at once.
///
/// SIGUSR1 is what a scheduler is told to send some time before it takes the machine away. SIGXCPU, which comes each second once
/// the processor's time is over, would be its own second one.
fn watch_signals() -> anyhow::Result<Arc<AtomicUsize>> {
    let signal = Arc::new(AtomicUsize::new(0));
    let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for (number, _) in STOPPING {
        let number = *number;
        signal_hook::flag::register_conditional_default(number, Arc::clone(&again))?;
        signal_hook::flag::register(number, Arc::clone(&again))?;
        signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)?;
    }
    Ok(signal)
}

fn start_logging(common: &Common, writer: AboveBars) {
    // Libraries of others trace each word that they read: who asks for more asks it of ours.
    let level = match (common.quiet, common.verbose) {
        (true, _) => "error",
        (_, 0) => "info",
        (_, 1) => "info,skn=debug",
        _ => "info,skn=trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let colour = colour || std::env::var_os("CLICOLOR_FORCE").is_some_and(|value| value != "0");
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colour)
        .with_target(false)
        // It would tell of a closed stderr on stderr, and panic.
        .log_internal_errors(false)
        .without_time();
    // A second console in one process (tests) keeps the first one's logger.
    logger.try_init().ok();
}

/// Writes to stderr with the bars out of the way.
#[derive(Clone)]
struct AboveBars(MultiProgress, fn(&str) -> String);

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Where nobody listens the work goes on.
        let line = visible_line(&(self.1)(&String::from_utf8_lossy(bytes)));
        self.0.suspend(|| std::io::stderr().write_all(line.as_bytes())).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Prints a result on stdout, with control characters spelled out: texts and names in it are other people's. A reader that has
/// gone away (`| head`) is not an error.
///
/// # Errors
/// If stdout can't be written for any other reason.
pub fn print(text: &str) -> std::io::Result<()> {
    write_result(&visible(text))
}

/// The same of JSON, which says the same to who reads it.
///
/// # Errors
/// As [`print()`].
pub fn print_json(json: &str) -> std::io::Result<()> {
    write_result(&visible_json(json))
}

/// Prints whole lines of a result on stdout, each with its end, before the rest is known; spelled out as [`print()`] and
/// [`print_json()`] do it.
///
/// # Errors
/// If stdout can't be written; of the kind `BrokenPipe` if its reader has gone away.
pub fn print_lines(lines: &str, spelling: Spelling) -> std::io::Result<()> {
    let shown = match spelling {
        Spelling::Text => visible(lines),
        Spelling::Json => visible_json(lines),
        Spelling::Table if std::io::stdout().is_terminal() => visible(lines),
        Spelling::Table => lines.into(),
    };
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(shown.as_bytes()).and_then(|()| stdout.flush()).map_err(unwritten)
}

fn unwritten(error: std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("stdout: can't write the result: {error}"))
}

/// How control characters of a result are spelled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// For people.
    Text,
    /// So that JSON says the same.
    Json,
    /// For people on a terminal alone: a table has no way to say the same.
    Table,
}

fn write_result(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(unwritten),
    }
}

/// A log line with control characters spelled out, but for the logger's own colours: it spells the ones of messages that would
/// look like them.
fn visible_line(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut shown = visible(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let colour =
            part.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';').starts_with('m');
        shown += if colour { "\u{1b}[" } else { "\\u{1b}[" };
        shown += &visible(part);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_known_and_what_is_left() {
        let now = Instant::now();
        let mut current = Current {
            what: "training".into(),
            unit: Unit::Items,
            total: 1000,
            done: 0,
            before: 0,
            note: String::new(),
            bar: None,
            began: now,
            logged: now,
        };
        let minute = Duration::from_secs(60);
        assert_eq!(current.line(minute), "training: 0 of 1000 (0 %)", "nobody knows yet");
        (current.done, current.before) = (500, 250);
        current.note = "loss 0.5000, dev accuracy 0.7500".into();
        let line = "training: 500 of 1000 (50 %), loss 0.5000, dev accuracy 0.7500, 2 minutes left";
        assert_eq!(current.line(minute), line, "250 took a minute; what was done before took none");
    }

    #[test]
    fn a_log_line_keeps_colours_alone() {
        assert_eq!(visible_line("\u{1b}[32m INFO\u{1b}[0m a\n"), "\u{1b}[32m INFO\u{1b}[0m a\n");
        assert_eq!(
            visible_line("a\u{1b}[2J\u{9b}\u{1b}]0;t\u{7}\u{202e}"),
            "a\\u{1b}[2J\\u{9b}\\u{1b}]0;t\\u{7}\\u{202e}"
        );
    }
}
