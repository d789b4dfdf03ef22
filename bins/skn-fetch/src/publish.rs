//! Names for contents: a snapshot becomes visible as a whole, and one that is there already grows at one moment.
//!
//! It is built aside, in `.unpublished/COMMIT.new`, and takes its place by a rename. Where there is a snapshot, the two
//! change places; where the system can't do that, the old one is moved to `COMMIT.old` first, and a kill between the two
//! renames leaves none, until the next fetch moves it back. In both cases the old one is `COMMIT.old` until what another
//! program gave a name in it meanwhile has moved: what can't be moved stays there, and the next fetch moves it. huggingface_hub
//! looks at `blobs`, `refs` and `snapshots` of a repository's folder alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use skn_artifact::{is_folder, make_folder};
use skn_program::Failure;

use crate::content::Hash;
use crate::disk::{error, exchange, is_there, kind, point, remove, sync};

/// The folder in a repository's where snapshots are built.
pub(crate) const ASIDE: &str = ".unpublished";

/// Another program may make the snapshot meanwhile, each time.
const TRIES: usize = 5;

/// A reader that has just opened the old folder gets to list it before it is removed.
const READER: Duration = Duration::from_millis(50);

/// A snapshot to be.
pub(crate) struct Publication<'a> {
    /// The repository's folder.
    pub(crate) repository: &'a Path,
    /// The commit.
    pub(crate) commit: &'a str,
    /// Names and contents, all of which are here.
    pub(crate) files: &'a [(&'a str, &'a Hash)],
}

impl Publication<'_> {
    /// Sees to it that the snapshot has these files, beside those that it has. Nobody else may be at it.
    ///
    /// # Errors
    /// If the system refuses; then the snapshot is as it was. Or if what another program gave a name meanwhile can't be moved to it:
    /// then it has the files, and each call tries first to move the rest.
    pub(crate) fn publish(&self) -> Result<()> {
        self.publish_by(exchange)
    }

    fn publish_by(&self, exchange: fn(&Path, &Path) -> io::Result<()>) -> Result<()> {
        let (snapshot, new, old) = (self.snapshot(), self.aside("new"), self.aside("old"));
        if is_there(&old)? {
            match kind(&snapshot)? {
                None => {
                    make_folder(&self.repository.join("snapshots"))?;
                    self.rename(&old, &snapshot).map_err(error(&old, "rename"))?;
                }
                Some(kind) if kind.is_dir() => {
                    keep_others(&old, &snapshot)?;
                    remove(&old)?;
                }
                // Below it is refused.
                Some(_) => {}
            }
        }
        for _ in 0..TRIES {
            remove(&new)?;
            if self.is_whole()? {
                return Ok(());
            }
            if kind(&snapshot)?.is_some_and(|kind| kind.is_symlink()) {
                let target = fs::read_link(&snapshot).unwrap_or_default();
                return Err(Failure::input(format!(
                    "{}: expected a folder, found a link to {}; remove it, or put the folder in its place",
                    snapshot.display(),
                    target.display()
                )));
            }
            self.build(&new)?;
            if !is_there(&snapshot)? {
                make_folder(&self.repository.join("snapshots"))?;
                match self.rename(&new, &snapshot) {
                    Ok(()) => return Ok(()),
                    Err(_) if is_there(&snapshot)? => continue,
                    Err(found) => return Err(error(&new, "rename")(found).into()),
                }
            }
            let replaced = match exchange(&new, &snapshot) {
                // What is called `new` goes when it is found. Where that name stays, the others' files are moved all the same.
                Ok(()) => fs::rename(&new, &old).map_or(&new, |()| &old),
                Err(_) => {
                    self.rename(&snapshot, &old).map_err(error(&snapshot, "rename"))?;
                    if let Err(found) = self.rename(&new, &snapshot) {
                        self.rename(&old, &snapshot).map_err(error(&old, "rename"))?;
                        return Err(error(&new, "rename")(found).into());
                    }
                    &old
                }
            };
            sync(&self.repository.join("snapshots"))?;
            std::thread::sleep(READER);
            keep_others(replaced, &snapshot)?;
            return Ok(remove(replaced)?);
        }
        Err(Failure::locked(format!("{}: another program writes it", snapshot.display())))
    }

    fn snapshot(&self) -> PathBuf {
        self.repository.join("snapshots").join(self.commit)
    }

    fn aside(&self, end: &str) -> PathBuf {
        self.repository.join(ASIDE).join(format!("{}.{end}", self.commit))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        sync(&self.repository.join("snapshots")).map_err(io::Error::other)
    }

    /// Whether each file has its name. A copy, where there are no links, is made anew, and so is what can't be read.
    fn is_whole(&self) -> Result<bool> {
        let snapshot = self.snapshot();
        let right = |(name, hash): &(&str, &Hash)| {
            fs::read_link(snapshot.join(name)).is_ok_and(|found| found == target(name, hash))
        };
        Ok(is_there(&snapshot)? && self.files.iter().all(right))
    }

    /// What is in the snapshot, and the files.
    fn build(&self, new: &Path) -> Result<()> {
        make_folder(new)?;
        let mut folders = BTreeSet::from([new.to_path_buf()]);
        let snapshot = self.snapshot();
        if is_there(&snapshot)? {
            let ours = self.files.iter().map(|(name, _)| snapshot.join(name)).collect();
            carry(&snapshot, new, &ours, &mut folders)?;
        }
        for (name, hash) in self.files {
            let path = new.join(name);
            let folder = path.parent().unwrap_or(new);
            fs::create_dir_all(folder).map_err(error(folder, "make the folder"))?;
            folders.extend(folder.ancestors().take_while(|above| *above != new).map(Path::to_path_buf));
            let content = self.repository.join("blobs").join(hash.digits());
            point(&target(name, hash), &content, &path).map_err(error(&path, "link"))?;
        }
        Ok(folders.iter().try_for_each(|folder| sync(folder))?)
    }
}

/// Where the link of a name leads: from snapshots/COMMIT/FOLDERS OF THE NAME up to the repository's folder.
fn target(name: &str, hash: &Hash) -> PathBuf {
    let up = "../".repeat(2 + name.matches('/').count());
    format!("{up}blobs/{}", hash.digits()).into()
}

/// Gives what is in one folder a second name in another, but for files that get another content.
fn carry(from: &Path, to: &Path, but: &BTreeSet<PathBuf>, folders: &mut BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(from).map_err(error(from, "read the folder"))? {
        let entry = entry.map_err(error(from, "read the folder"))?;
        let (old, new) = (entry.path(), to.join(entry.file_name()));
        if but.contains(&old) {
            continue;
        }
        let kind = entry.file_type().map_err(error(&old, "read"))?;
        if kind.is_dir() {
            fs::create_dir(&new).map_err(error(&new, "make the folder"))?;
            folders.insert(new.clone());
            carry(&old, &new, but, folders)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&old).map_err(error(&old, "read"))?;
            point(&target, &old, &new).map_err(error(&new, "link"))?;
        } else if fs::hard_link(&old, &new).is_err() {
            fs::copy(&old, &new).map_err(error(&new, "copy to"))?;
        }
    }
    Ok(())
}

/// Moves what another program gave a name in the old folder meanwhile.
fn keep_others(old: &Path, new: &Path) -> Result<()> {
    for entry in fs::read_dir(old).map_err(error(old, "read the folder"))? {
        let entry = entry.map_err(error(old, "read the folder"))?;
        let (from, to) = (entry.path(), new.join(entry.file_name()));
        let kind = entry.file_type().map_err(error(&from, "read"))?;
        if !is_there(&to)? {
            fs::rename(&from, &to).map_err(error(&from, "rename"))?;
            sync(new)?;
        } else if kind.is_dir() && is_folder(&to)? {
            keep_others(&from, &to)?;
        }
    }
    Ok(())
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    struct Desk(tempfile::TempDir);

    impl Desk {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn publish(&self, names: &[&str], exchange: fn(&Path, &Path) -> io::Result<()>) -> Result<()> {
            let hash = Hash::parse(COMMIT).unwrap();
            let files: Vec<(&str, &Hash)> = names.iter().map(|name| (*name, &hash)).collect();
            Publication { repository: self.0.path(), commit: COMMIT, files: &files }.publish_by(exchange)
        }

        /// The files of the snapshot, with where they lead.
        fn snapshot(&self) -> Vec<String> {
            let mut found = Vec::new();
            walk(&self.path("snapshots").join(COMMIT), "", &mut found);
            found.sort();
            found
        }

        fn is_tidy(&self) -> bool {
            self.path(ASIDE).read_dir().unwrap().next().is_none()
        }
    }

    fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in folder.read_dir().into_iter().flatten() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), &format!("{name}/"), found),
                false => found.push(name),
            }
        }
    }

    fn unsupported(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(22))
    }

    #[test]
    fn a_snapshot_grows_and_keeps_what_it_had() {
        for exchange in [exchange, unsupported] {
            let desk = Desk::new();
            desk.publish(&["a/x", "a/y"], exchange).unwrap();
            assert_eq!(desk.snapshot(), ["a/x", "a/y"]);
            let folder = desk.path("snapshots").join(COMMIT);
            fs::write(folder.join("by-hand"), "mine").unwrap();
            symlink("../../../blobs/other", folder.join("a/z")).unwrap();
            fs::remove_file(folder.join("a/y")).unwrap();
            symlink("elsewhere", folder.join("a/y")).unwrap();
            desk.publish(&["a/y", "b"], exchange).unwrap();
            assert_eq!(desk.snapshot(), ["a/x", "a/y", "a/z", "b", "by-hand"]);
            assert_eq!(fs::read_to_string(folder.join("by-hand")).unwrap(), "mine");
            let content = format!("../../../blobs/{COMMIT}");
            assert_eq!(fs::read_link(folder.join("a/y")).unwrap(), Path::new(&content));
            assert_eq!(fs::read_link(folder.join("a/z")).unwrap(), Path::new("../../../blobs/other"));
            assert!(desk.is_tidy());
        }
    }

    #[test]
    fn what_a_kill_left_is_mended() {
        // Before anything was visible, with a part built.
        let desk = Desk::new();
        let new = desk.path(ASIDE).join(format!("{COMMIT}.new"));
        fs::create_dir_all(&new).unwrap();
        symlink("part", new.join("part")).unwrap();
        desk.publish(&["a"], exchange).unwrap();
        assert_eq!(desk.snapshot(), ["a"]);
        // Between two renames.
        let old = desk.path(ASIDE).join(format!("{COMMIT}.old"));
        fs::rename(desk.path("snapshots").join(COMMIT), &old).unwrap();
        desk.publish(&["b"], unsupported).unwrap();
        assert_eq!(desk.snapshot(), ["a", "b"]);
        // Behind the second.
        fs::create_dir_all(&old).unwrap();
        desk.publish(&["b"], unsupported).unwrap();
        assert_eq!(desk.snapshot(), ["a", "b"]);
        assert!(desk.is_tidy());
    }

    #[test]
    fn what_another_program_adds_meanwhile_stays() {
        fn adding(new: &Path, snapshot: &Path) -> io::Result<()> {
            fs::create_dir(snapshot.join("b"))?;
            symlink("theirs", snapshot.join("b/theirs"))?;
            symlink("theirs", snapshot.join("a/theirs"))?;
            exchange(new, snapshot)
        }
        let desk = Desk::new();
        desk.publish(&["a/x"], exchange).unwrap();
        desk.publish(&["a/y"], adding).unwrap();
        assert_eq!(desk.snapshot(), ["a/theirs", "a/x", "a/y", "b/theirs"]);
    }

    #[test]
    fn what_another_program_adds_goes_only_where_all_can_be_looked_at() {
        fn add(new: &Path, snapshot: &Path) -> io::Result<()> {
            fs::create_dir(snapshot.join("b"))?;
            symlink("theirs", snapshot.join("b/theirs"))?;
            symlink("b", new.join("b"))
        }
        fn adding(new: &Path, snapshot: &Path) -> io::Result<()> {
            add(new, snapshot)?;
            exchange(new, snapshot)
        }
        fn adding_unsupported(new: &Path, snapshot: &Path) -> io::Result<()> {
            add(new, snapshot)?;
            unsupported(new, snapshot)
        }
        for exchange in [adding, adding_unsupported] {
            let desk = Desk::new();
            desk.publish(&["a/x"], exchange).unwrap();
            let theirs = desk.path(ASIDE).join(format!("{COMMIT}.old/b/theirs"));
            // They stay until they can be moved.
            for _ in 0..3 {
                let message = desk.publish(&["a/y"], exchange).unwrap_err().to_string();
                assert!(message.contains(&format!("{COMMIT}/b: can't look at: ")), "{message}");
                assert!(theirs.is_symlink());
            }
            fs::remove_file(desk.path("snapshots").join(COMMIT).join("b")).unwrap();
            desk.publish(&["a/y"], exchange).unwrap();
            assert_eq!(desk.snapshot(), ["a/x", "a/y", "b/theirs"]);
            assert!(desk.is_tidy());
        }
    }

    #[test]
    fn a_failure_leaves_the_old_one() {
        let desk = Desk::new();
        desk.publish(&["a"], exchange).unwrap();
        let long = "x".repeat(300);
        let message = desk.publish(&["b", &long], exchange).unwrap_err().to_string();
        assert!(message.contains(&long), "{message}");
        assert_eq!(desk.snapshot(), ["a"]);
        // What is no folder is not taken for one.
        let folder = desk.path("snapshots").join(COMMIT);
        fs::rename(&folder, desk.path("elsewhere")).unwrap();
        symlink(desk.path("elsewhere"), &folder).unwrap();
        let message = desk.publish(&["b"], exchange).unwrap_err().to_string();
        assert!(message.contains("expected a folder, found a link to"), "{message}");
        desk.publish(&["a"], exchange).unwrap();
    }
}
