//! The fence: people's data and tokenizer files are read by a child process, under limits of processor time and memory.
//!
//! Damaged Arrow, Parquet and tokenizer files make the best libraries panic, abort or ask for gigabytes. The child is this
//! program again, with a first word that no user types. Rows come back through a pipe, in a form of our own that the parent
//! checks; all columns of a Parquet file that is to be answered as lines of JSON; of a tokenizer comes back only that it can be parsed and used, and the parent then parses the same bytes.
//!
//! A program puts up the fence by calling [`enter`] before anything else; in one that does not, files are read in process.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread::Builder;

use skn_artifact::ErrorKind;
use skn_data::{
    Broken, DataError, Dataset, PIPE, Receiver, Row, RowReader, RowWriter, StoredRows, Task, TextEncoder,
    TokenizerFiles, read_dataset_to,
};

use skn_probing::Progress;

use crate::error::{Result, SessionError};
use crate::options::Size;

mod child;
mod limits;
mod table;

pub(crate) use child::no_thread;
use child::{Child, End, MARKER, OWN_FAILURE, UP, broken_pipe};
use limits::{LIMITS, Limits, data_memory, of_tokenizer, seconds};
pub(crate) use limits::{address_space, taken};
pub(crate) use table::{Part, read_table};

/// What a child says of an error: the task is wrong, or a file.
const USAGE: u8 = 2;
const INPUT: u8 = 3;

const ROWS: &str = "rows";
const TOKENIZER: &str = "tokenizer";

/// Puts up the fence: from then on this program reads people's data and tokenizers in child processes, which are the
/// program itself started again. In such a child this does the work and says how to exit; call it first in `main`.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     if let Some(code) = skn_session::fence::enter() {
///         return code;
///     }
///     // .. what the program does
///     std::process::ExitCode::SUCCESS
/// }
/// ```
pub fn enter() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_none_or(|word| word != MARKER) {
        UP.get_or_init(|| ());
        return None;
    }
    // What a library says when it panics is not for users; the parent says what they need.
    std::panic::set_hook(Box::new(|_| {}));
    let words: Vec<OsString> = words.collect();
    let done = Limits::begin().and_then(|limits| match &words[..] {
        [work, path, most] if work == ROWS => {
            let most = most.to_str().and_then(|most| most.parse().ok()).unwrap_or(u64::MAX);
            send_rows(Path::new(path), limits, most)
        }
        [work, path, texts @ ..] if work == table::TABLE => {
            let texts: Vec<String> = texts.iter().map(|name| name.to_string_lossy().into_owned()).collect();
            table::send_table(Path::new(path), &texts, limits)
        }
        [work, file] if work == TOKENIZER => try_tokenizer(&file.to_string_lossy(), limits),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    });
    match done {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "{error}");
            Some(ExitCode::from(OWN_FAILURE))
        }
    }
}

/// Reads the rows of a task behind the fence. `most` bytes of text (and 64 for each row) are kept at most.
///
/// # Errors
/// As [`skn_data::read_dataset`]; if reading breaks a limit or the reader fails; if there can be no child process.
pub(crate) fn read_dataset(path: &Path, task: &Task, most: u64, progress: &dyn Progress) -> Result<Dataset> {
    if !task.needs_data() {
        return Ok(skn_data::read_dataset(path, task)?);
    }
    received(path, task, most, progress, |reader| reader.read())
}

/// As [`read_dataset`], but that many rows do not stay in memory: they lie in a file without a name that takes room in this folder.
///
/// # Errors
/// As [`read_dataset`]; if they can't be written there.
pub(crate) fn store_dataset(
    path: &Path,
    task: &Task,
    most: u64,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<StoredRows> {
    received(path, task, most, progress, |reader| reader.store(folder))
}

/// What `read` makes of rows as they come.
fn received<T: Send>(
    path: &Path,
    task: &Task,
    most: u64,
    progress: &dyn Progress,
    read: impl FnOnce(&mut RowReader<'_, Box<dyn Read>>) -> Result<T, Broken> + Send,
) -> Result<T> {
    if UP.get().is_none() {
        return read_here(path, task, most, read);
    }
    let words = [ROWS.into(), path.into(), OsString::from(most.to_string())];
    let mut child = Child::start(MARKER, &words)?;
    child.give(&serde_json::to_vec(&(task, task.reads_numbers()))?);
    let read = child.read(progress, |pipe| {
        let mut reader = RowReader::new(Box::new(pipe) as Box<dyn Read>, task, most);
        let read = read(&mut reader);
        tell(reader.notes());
        read.map_err(|broken| (broken, reader.place(), reader.file_bytes(), reader.unpacked_bytes()))
    });
    let (broken, place, files, unpacked) = match read? {
        Ok(rows) => return Ok(rows),
        Err(broken) => broken,
    };
    let place = if files == 0 { format!("{} ({place})", path.display()) } else { place };
    let (cpu, memory) = (seconds(files), data_memory(unpacked, most));
    Err(match broken {
        Broken::Ended(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            broken_pipe("read from", &error)
        }
        Broken::Ended(_) => child.end(progress).failure(&place, cpu, memory),
        broken => explained(broken, &place, most),
    })
}

/// The same in this process, where nobody put up the fence: as many bytes, but no limit of time.
fn read_here<T>(
    path: &Path,
    task: &Task,
    most: u64,
    read: impl FnOnce(&mut RowReader<'_, Box<dyn Read>>) -> Result<T, Broken>,
) -> Result<T> {
    let no_pipe = |error| SessionError::failed(format!("{}: no pipe to read it: {error}", path.display()));
    let (pipe, sent) = io::pipe().map_err(no_pipe)?;
    std::thread::scope(|scope| {
        let sender = Builder::new().name("skn-reader".into()).spawn_scoped(scope, move || {
            let mut writer = RowWriter::new(sent);
            match read_dataset_to(path, task, &mut writer) {
                Ok(()) => writer.finish(),
                Err(error) => writer.fail(kind_of(&error), &error.to_string()),
            }
        });
        let sender = sender.map_err(|error| no_thread("to read a file on", &error))?;
        let mut reader = RowReader::new(Box::new(pipe) as Box<dyn Read>, task, most);
        let read = read(&mut reader);
        tell(reader.notes());
        let place = format!("{} ({})", path.display(), reader.place());
        drop(reader);
        let failed = sender.join().is_err();
        read.map_err(|broken| match broken {
            _ if failed => {
                SessionError::input(format!("{place}: the library failed on it; the file is damaged"))
            }
            broken => explained(broken, &place, most),
        })
    })
}

/// Tells what readers have to tell.
fn tell(notes: &[String]) {
    for note in notes {
        tracing::info!("{note}");
    }
}

/// What a reader that broke off says.
fn explained(broken: Broken, place: &str, most: u64) -> SessionError {
    match broken {
        Broken::Reported { kind: USAGE, message } => SessionError::Usage(message),
        Broken::Reported { message, .. } => SessionError::Input(message),
        Broken::Unkept(error) => (*error).into(),
        Broken::TooLarge => SessionError::input(format!(
            "{place}: the rows have more than {most} bytes, 64 counted for each beside its text, which option `max_data` allows; \
             give it more, as in option `max_data` {}",
            Size(most.saturating_mul(2))
        )),
        _ => SessionError::input(format!("{place}: the reader sent nonsense; the file is damaged")),
    }
}

/// What a reader says of an error.
fn kind_of(error: &DataError) -> u8 {
    if error.kind() == ErrorKind::Usage { USAGE } else { INPUT }
}

/// Finds out behind the fence whether a tokenizer can be made of these files and used.
///
/// # Errors
/// If it can't, if that breaks a limit, or if there can be no child process.
pub(crate) fn check_tokenizer(files: &TokenizerFiles, progress: &dyn Progress) -> Result<()> {
    if UP.get().is_none() {
        return Ok(());
    }
    let mut child = Child::start(MARKER, &[TOKENIZER.into(), files.folder().into()])?;
    for part in files.parts().flat_map(|(name, bytes)| [name.as_bytes(), bytes]) {
        child.give(&(part.len() as u64).to_le_bytes());
        child.give(part);
    }
    let mut said = String::new();
    let read = child.read(progress, |pipe| pipe.take(1 << 20).read_to_string(&mut said))?;
    let bytes = files.parts().map(|(_, bytes)| bytes.len() as u64).sum();
    match (read, child.end(progress)) {
        (Err(error), _) if error.kind() != io::ErrorKind::InvalidData => {
            Err(broken_pipe("read from", &error))
        }
        (Ok(_), End::Done) if said.is_empty() => Ok(()),
        (Ok(_), End::Done) => Err(SessionError::input(said)),
        (_, end) => {
            let (seconds, memory) = of_tokenizer(bytes);
            Err(end.failure(&files.main_file(), seconds, memory))
        }
    }
}

/// In the child: reads what the parent asks for, and sends it.
fn send_rows(path: &Path, limits: Limits, most: u64) -> io::Result<()> {
    let (task, numbers): (Task, bool) = serde_json::from_reader(io::stdin().lock())?;
    let task = task.reading_numbers(numbers);
    let mut sender = Sender { writer: RowWriter::new(io::stdout()), limits, most, files: 0 };
    let result = read_dataset_to(path, &task, &mut sender);
    let sent = match result {
        Ok(()) => sender.writer.finish(),
        // Nothing is wrong with the file then.
        Err(DataError::Io { file, source }) if [PIPE, LIMITS].contains(&file.as_str()) => {
            return Err(io::Error::new(source.kind(), format!("{file}: {source}")));
        }
        Err(error) => sender.writer.fail(kind_of(&error), &error.to_string()),
    };
    sent.map_err(io::Error::other)
}

/// In the child: makes a tokenizer of what the parent gives, and uses it.
fn try_tokenizer(folder: &str, mut limits: Limits) -> io::Result<()> {
    let mut given = Vec::new();
    // Its own copy is the parent's to answer for.
    limits.set(u64::MAX, u64::MAX)?;
    io::stdin().lock().read_to_end(&mut given)?;
    let (seconds, memory) = of_tokenizer(given.len() as u64);
    limits.again(seconds, memory)?;
    let mut rest = &given[..];
    let mut files = TokenizerFiles::new(folder);
    while let Some((name, bytes)) = next_part(&mut rest).zip(next_part(&mut rest)) {
        files.insert(&String::from_utf8_lossy(name), bytes);
    }
    if files.parts().next().is_none() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if let Err(error) = TextEncoder::from_files(&files).and_then(|encoder| encoder.try_out()) {
        io::stdout().write_all(error.to_string().as_bytes())?;
    }
    Ok(())
}

/// A part behind its length, of those that the parent gave one after another.
fn next_part<'g>(rest: &mut &'g [u8]) -> Option<&'g [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let (part, after) = after.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    *rest = after;
    Some(part)
}

/// Sends rows, and lets the limits grow with the files.
struct Sender<W> {
    writer: RowWriter<W>,
    limits: Limits,
    most: u64,
    files: u64,
}

impl<W: Write> Sender<W> {
    fn allow(&mut self, bytes: u64) -> skn_data::Result<()> {
        let allowed = self.limits.set(seconds(self.files), data_memory(bytes, self.most));
        allowed.map_err(|source| DataError::Io { file: LIMITS.to_owned(), source })
    }
}

impl<W: Write> Receiver for Sender<W> {
    fn split(&mut self, name: &str) -> skn_data::Result<()> {
        self.writer.split(name)
    }

    fn file(&mut self, name: &str, bytes: u64) -> skn_data::Result<()> {
        self.files = self.files.saturating_add(bytes);
        self.allow(bytes)?;
        self.writer.file(name, bytes)
    }

    fn unpacked(&mut self, bytes: u64) -> skn_data::Result<()> {
        self.allow(bytes)?;
        self.writer.unpacked(bytes)
    }

    fn note(&mut self, message: &str) -> skn_data::Result<()> {
        self.writer.note(message)
    }

    fn row(&mut self, row: Row<'_>) -> skn_data::Result<()> {
        self.writer.row(row)
    }
}
