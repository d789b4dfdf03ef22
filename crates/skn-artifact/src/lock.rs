use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{ArtifactError, Result};
use crate::file::{is_temporary, make_folder};
use crate::link::refuse_link;
use crate::look::is_there;
use crate::names::file;

/// The right to write into a run's folder. It ends when this is dropped, or with the process, however that ends.
///
/// A folder that was made for the lock, and is still empty when the lock ends, goes with it: a command that failed
/// leaves nothing behind.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    folder: PathBuf,
}

impl RunLock {
    /// Takes the lock of a folder, which is made if need be. `program` is what another one is told.
    ///
    /// # Errors
    /// [`ArtifactError::Locked`] if another program holds it; its name and process number are in the message.
    /// [`ArtifactError::Link`] if the lock is a link. [`ArtifactError::Io`] if the system refuses, or can't say whether the lock is
    /// still in its place.
    pub fn acquire(folder: &Path, program: &str) -> Result<Self> {
        let mut vanished = 0;
        loop {
            let lock = match Self::try_acquire(folder, program) {
                // Between making the folder and opening the file, its holder may have removed both.
                Err(ArtifactError::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && vanished < LOOKS =>
                {
                    vanished += 1;
                    continue;
                }
                lock => lock?,
            };
            // Between opening and locking, its holder may have removed the file: that lock would keep nobody out.
            if is_at(&lock.file, &folder.join(file::LOCK))? {
                remove_leftovers(folder, 0);
                return Ok(lock);
            }
        }
    }

    fn try_acquire(folder: &Path, program: &str) -> Result<Self> {
        make_folder(folder)?;
        let path = folder.join(file::LOCK);
        refuse_link(folder, Path::new(file::LOCK))?;
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(ArtifactError::io(&path, "create"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(ArtifactError::Locked { folder: folder.into(), holder: holder_of(&mut file) });
            }
            Err(TryLockError::Error(error)) => return Err(ArtifactError::io(&path, "lock")(error)),
        }
        let holder = format!("{program} (process {})\n", std::process::id());
        file.set_len(0).map_err(ArtifactError::io(&path, "write"))?;
        file.seek(SeekFrom::Start(0)).map_err(ArtifactError::io(&path, "write"))?;
        file.write_all(holder.as_bytes()).map_err(ArtifactError::io(&path, "write"))?;
        Ok(Self { file, folder: folder.into() })
    }

    /// Whether the folder has nothing but the lock. One that can't be read may have more, and stays.
    fn is_alone(&self) -> bool {
        let only_lock = |entries: std::fs::ReadDir| {
            entries.into_iter().all(|entry| entry.is_ok_and(|entry| entry.file_name() == file::LOCK))
        };
        std::fs::read_dir(&self.folder).is_ok_and(only_lock)
    }
}

/// How often, and how far apart, the holder's name is looked for.
const LOOKS: usize = 20;
const BETWEEN: Duration = Duration::from_millis(5);

/// What the holder of a lock wrote of itself, which is for a message only. It takes the lock first, so for a moment nothing is
/// there, or the name of the one before it, which was killed.
fn holder_of(file: &mut File) -> String {
    let mut holder = String::new();
    for _ in 0..LOOKS {
        holder.clear();
        file.seek(SeekFrom::Start(0)).ok();
        file.read_to_string(&mut holder).ok();
        if holder.ends_with('\n') && !is_gone(&holder) {
            break;
        }
        std::thread::sleep(BETWEEN);
    }
    match holder.trim() {
        "" => "a program that has not said its name".into(),
        name => name.into(),
    }
}

/// Whether this machine has no process of that number. Another machine may have, where the folder is shared.
fn is_gone(holder: &str) -> bool {
    let number = holder.rsplit_once("(process ").and_then(|(_, rest)| rest.split(')').next());
    let place = number.map(|number| Path::new("/proc").join(number));
    let is_there = |place: &Path| is_there(place).ok();
    cfg!(target_os = "linux")
        && is_there(Path::new("/proc/self")) == Some(true)
        && place.is_some_and(|place| is_there(&place) == Some(false))
}

/// Removes files that a killed program was writing, here and below. A folder with a lock of its own is another run's. What
/// can't be read or removed is left: it harms nobody.
fn remove_leftovers(folder: &Path, depth: usize) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            // One that can't be looked at may have a lock.
            Ok(kind)
                if kind.is_dir() && depth < 3 && matches!(is_there(&path.join(file::LOCK)), Ok(false)) =>
            {
                remove_leftovers(&path, depth + 1);
            }
            Ok(kind) if kind.is_file() && is_temporary(&entry.file_name()) => {
                std::fs::remove_file(path).ok();
            }
            _ => {}
        }
    }
}

/// Whether an open file is the one that the path leads to. What the system can't say is an error: whoever asked again would ask
/// for ever.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let id = |of: std::io::Result<std::fs::Metadata>| match of {
        Ok(of) => Ok(Some((of.dev(), of.ino()))),
        // The latter: another machine has removed it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle) => {
            Ok(None)
        }
        Err(error) => Err(ArtifactError::io(path, "look at")(error)),
    };
    let open = id(file.metadata())?;
    Ok(open.is_some() && open == id(std::fs::metadata(path))?)
}

/// An open file can't be removed there.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> Result<bool> {
    Ok(true)
}

impl Drop for RunLock {
    fn drop(&mut self) {
        if self.is_alone() {
            // What can't be removed is left: it harms nobody. Another program's lock, where somebody has removed ours, keeps others out.
            let path = self.folder.join(file::LOCK);
            if matches!(is_at(&self.file, &path), Ok(true)) {
                std::fs::remove_file(path).ok();
            }
            std::fs::remove_dir(&self.folder).ok();
        }
        // The kernel does the same when the file is closed.
        self.file.unlock().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::acquire(folder.path(), "skn-train").unwrap();
        let error = RunLock::acquire(folder.path(), "skn-probe").unwrap_err();
        assert!(error.to_string().contains("skn-train"), "{error}");
        drop(first);
        RunLock::acquire(folder.path(), "skn-probe").unwrap();
    }

    #[test]
    fn a_holder_that_is_just_beginning_is_named_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file::LOCK);
        // What a killed program left: no machine has so many processes.
        std::fs::write(&path, "skn-train (process 999999999)\n").unwrap();
        let mut holder = OpenOptions::new().write(true).open(&path).unwrap();
        holder.lock().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(BETWEEN);
                holder.set_len(0).unwrap();
                std::thread::sleep(BETWEEN);
                writeln!(holder, "skn-probe (process {})", std::process::id()).unwrap();
            });
            let error = RunLock::acquire(folder.path(), "skn-mask").unwrap_err();
            let expected = format!("another run works here: skn-probe (process {})", std::process::id());
            assert!(error.to_string().ends_with(&expected), "{error}");
        });
        holder.set_len(0).unwrap();
        let error = RunLock::acquire(folder.path(), "skn-mask").unwrap_err();
        assert!(error.to_string().ends_with("a program that has not said its name"), "{error}");
    }

    /// Where locks are files that somebody has removed by hand.
    #[cfg(unix)]
    #[test]
    fn only_its_own_file_goes_with_a_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file::LOCK);
        let first = RunLock::acquire(folder.path(), "skn-train").unwrap();
        std::fs::remove_file(&path).unwrap();
        let _second = RunLock::acquire(folder.path(), "skn-probe").unwrap();
        drop(first);
        assert!(path.exists());
        let error = RunLock::acquire(folder.path(), "skn-mask").unwrap_err();
        assert!(error.to_string().contains("skn-probe"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_is_not_made_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, folder.path().join(file::LOCK)).unwrap();
        let error = RunLock::acquire(folder.path(), "skn-train").unwrap_err();
        assert!(error.to_string().contains(".lock: a link to "), "{error}");
        assert!(!elsewhere.exists());
    }

    #[test]
    fn what_a_killed_program_was_writing_goes() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        for name in
            ["best/.skn-abc.tmp", ".skn-def.tmp", "other/.skn-ghi.tmp", "best/mine.tmp", "other/.lock"]
        {
            std::fs::create_dir_all(place(name).parent().unwrap()).unwrap();
            std::fs::write(place(name), "x").unwrap();
        }
        let _lock = RunLock::acquire(folder.path(), "skn-train").unwrap();
        assert!(!place("best/.skn-abc.tmp").exists() && !place(".skn-def.tmp").exists());
        assert!(place("other/.skn-ghi.tmp").exists(), "another program may be writing it");
        assert!(place("best/mine.tmp").exists());
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_whose_lock_cannot_be_looked_at_is_another_runs() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join(".skn-abc.tmp"), "x").unwrap();
        std::os::unix::fs::symlink(file::LOCK, other.join(file::LOCK)).unwrap();
        let _lock = RunLock::acquire(folder.path(), "skn-train").unwrap();
        assert!(other.join(".skn-abc.tmp").exists());
    }

    #[test]
    fn a_folder_in_which_nothing_came_about_goes_with_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let [empty, used] = ["empty", "used"].map(|name| folder.path().join(name));
        let locks = [&empty, &used].map(|run| RunLock::acquire(run, "skn-train").unwrap());
        std::fs::write(used.join("split.json"), "{}").unwrap();
        drop(locks);
        assert!(!empty.exists() && used.join("split.json").exists());
        // Many at once on a folder that comes and goes: never two holders.
        let holders = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(_lock) = RunLock::acquire(&empty, "skn-train") else { continue };
                        assert_eq!(holders.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        holders.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
    }
}
