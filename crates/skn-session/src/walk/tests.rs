use super::*;

fn visited(place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    walk(place, &mut |path| found.push(path.strip_prefix(place).unwrap().display().to_string()));
    found
}

#[test]
fn everything_is_visited_as_deep_as_readers_look() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("a/b/c/d/e")).unwrap();
    assert_eq!(visited(folder.path()), ["", "a", "a/b", "a/b/c", "a/b/c/d"]);
}

#[cfg(unix)]
#[test]
fn links_to_folders_are_followed_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("data");
    std::fs::create_dir_all(place.join("x")).unwrap();
    for number in 0..50 {
        std::os::unix::fs::symlink(".", place.join(format!("l{number}"))).unwrap();
    }
    assert_eq!(visited(&place).len(), 1 + 50 + 1);
}
