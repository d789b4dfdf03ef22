//! Names that the file system can't take, found before anything is fetched.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use skn_hub::Repository;
use skn_program::Failure;

/// Bytes of a name between two slashes, at most: what Linux, macOS and the others have.
const LONGEST_NAME: usize = 255;

/// Bytes of a path, at most.
const LONGEST_PATH: usize = if cfg!(target_vendor = "apple") { 1023 } else { 4095 };

/// Bytes of a name in a message, at most: a hostile list has names of megabytes.
const SHOWN: usize = 60;

/// Refuses a repository or a revision that can't have its folder in the cache, `folder`.
///
/// # Errors
/// In this case, naming the limit.
pub(crate) fn check_repository(folder: &Path, repository: &Repository) -> Result<()> {
    let Repository { name, revision, .. } = repository;
    check_parts(&repository.folder_name())
        .map_err(|why| Failure::usage(format!("{}: {why}", shown(name))))?;
    let of_revision = |why| Failure::usage(format!("revision {}: {why}", shown(revision)));
    check_parts(revision).map_err(of_revision)?;
    // It is written beside under a temporary name first.
    let temporary = Path::new(revision).parent().unwrap_or(Path::new("")).join(".skn-000000.tmp");
    for path in [folder.join("refs").join(revision), folder.join("refs").join(temporary)] {
        check_path(&path).map_err(of_revision)?;
    }
    // The longest that is made for any content.
    let content = format!("blobs/{}.incomplete", "0".repeat(64));
    check_path(&folder.join(content)).map_err(|why| Failure::usage(format!("the cache's {why}")))
}

/// Refuses files that can't have their names below `folder`, where a snapshot is built.
///
/// # Errors
/// In this case, naming the file and the limit.
pub(crate) fn check_files<'a>(folder: &Path, names: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    let all: BTreeSet<&str> = names.clone().collect();
    for name in names {
        check_parts(name)
            .and_then(|()| check_path(&folder.join(name)))
            .map_err(|why| Failure::input(format!("{}: {why}; leave it out with --include", shown(name))))?;
        let above = name.match_indices('/').filter_map(|(end, _)| name.get(..end));
        if let Some(file) = above.into_iter().find(|above| all.contains(above)) {
            let (file, name) = (shown(file), shown(name));
            return Err(Failure::offline(format!(
                "{file}: expected a file or a folder, found both in the Hub's list: {name} too"
            )));
        }
    }
    Ok(())
}

fn check_parts(name: &str) -> Result<(), String> {
    match name.split('/').map(str::len).find(|length| *length > LONGEST_NAME) {
        Some(length) => Err(format!("expected a name of at most {LONGEST_NAME} bytes, found {length}")),
        None => Ok(()),
    }
}

fn check_path(path: &Path) -> Result<(), String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    match whole.as_os_str().len() {
        length if length > LONGEST_PATH => Err(format!(
            "path: expected at most {LONGEST_PATH} bytes with the cache's folder, found {length}"
        )),
        _ => Ok(()),
    }
}

/// A name, or its beginning.
fn shown(name: &str) -> String {
    match name.char_indices().find(|(place, _)| *place >= SHOWN) {
        Some((end, _)) if name.len() > SHOWN + 3 => format!("{}...", name.get(..end).unwrap_or_default()),
        _ => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skn_hub::Kind;

    fn files(names: &[&str]) -> Result<()> {
        check_files(Path::new("/cache/models--a--b/.unpublished/0123abcd.new"), names.iter().copied())
    }

    #[test]
    fn names_are_as_long_as_the_file_system_takes() {
        let longest = "x".repeat(LONGEST_NAME);
        files(&["config.json", &longest, &format!("a/{longest}/{longest}")]).unwrap();
        let message = files(&["config.json", &format!("data/{longest}y")]).unwrap_err().to_string();
        let start = format!("data/{}...: expected a name of at most 255 bytes, found 256", "x".repeat(55));
        assert!(message.starts_with(&start), "{message}");
        // Bytes, not characters.
        let message = files(&[&"\u{e4}".repeat(128)]).unwrap_err().to_string();
        assert!(message.ends_with("found 256; leave it out with --include"), "{message}");
        let message = files(&[&format!("{longest}/").repeat(16)]).unwrap_err().to_string();
        assert!(message.contains(&format!("path: expected at most {LONGEST_PATH} bytes")), "{message}");
    }

    #[test]
    fn a_file_is_no_folder() {
        files(&["a", "a.b/c", "b/c/d", "b/c/e"]).unwrap();
        let message = files(&["a/b/c", "a/b", "x"]).unwrap_err().to_string();
        assert_eq!(message, "a/b: expected a file or a folder, found both in the Hub's list: a/b/c too");
    }

    #[test]
    fn repositories_and_revisions_have_folders() {
        let check = |text: &str, folder: &str| {
            let repository = Repository::parse(Kind::Model, text).unwrap();
            check_repository(&Path::new(folder).join(repository.folder_name()), &repository)
        };
        let long = "x".repeat(300);
        check("owner/name@refs/pr/1", "/cache").unwrap();
        check(&format!("o/n@{}", "x".repeat(255)), "/cache").unwrap();
        for (text, folder, part) in [
            (format!("o/{long}"), "/cache", "expected a name of at most 255 bytes, found 311"),
            (format!("o/n@pr/{long}"), "/cache", "expected a name of at most 255 bytes, found 300"),
            (format!("o/n@{}x", "x/".repeat(2100)), "/cache", "path: expected at most"),
            ("o/n".into(), &"/long".repeat(1000), "path: expected at most"),
        ] {
            let message = check(&text, folder).unwrap_err().to_string();
            assert!(message.contains(part) && message.len() < 200, "{message}");
        }
    }
}
