use super::*;

#[test]
fn what_is_read_is_kept_until_its_files_change() {
    let folder = tempfile::tempdir().unwrap();
    let shelf: Shelf<u8, usize> = Shelf::of(4);
    let reads = std::cell::Cell::new(0);
    let read = || {
        reads.set(reads.get() + 1);
        Ok(reads.get())
    };
    std::fs::write(folder.path().join("a"), "1").unwrap();
    assert_eq!(shelf.get(0, &[folder.path().into()], read).unwrap(), 1);
    assert_eq!(shelf.get(0, &[folder.path().into()], read).unwrap(), 1);
    assert_eq!(shelf.get(1, &[folder.path().into()], read).unwrap(), 2, "another key");
    std::fs::write(folder.path().join("a"), "22").unwrap();
    assert_eq!(shelf.get(0, &[folder.path().into()], read).unwrap(), 3);
    for key in 2..10 {
        shelf.get(key, &[folder.path().into()], read).unwrap();
    }
    assert_eq!(shelf.kept.lock().unwrap().len(), 4);
}

#[cfg(unix)]
#[test]
fn what_changes_behind_a_link_is_read_again() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let shelf: Shelf<u8, usize> = Shelf::of(4);
    let reads = std::cell::Cell::new(0);
    let read = || {
        reads.set(reads.get() + 1);
        Ok(reads.get())
    };
    std::fs::write(disk.path().join("a"), "1").unwrap();
    std::os::unix::fs::symlink(disk.path(), folder.path().join("train")).unwrap();
    // One that leads round in a circle.
    std::os::unix::fs::symlink(folder.path(), disk.path().join("up")).unwrap();
    assert_eq!(shelf.get(0, &[folder.path().into()], read).unwrap(), 1);
    assert_eq!(shelf.get(0, &[folder.path().into()], read).unwrap(), 1);
    std::fs::write(disk.path().join("a"), "22").unwrap();
    assert_eq!(shelf.get(0, &[folder.path().into()], read).unwrap(), 2);
}

#[test]
fn what_changes_while_it_is_read_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let shelf: Shelf<u8, usize> = Shelf::of(4);
    let write = || {
        std::fs::write(folder.path().join("a"), "1").unwrap();
        Ok(1)
    };
    assert_eq!(shelf.get(0, &[folder.path().into()], write).unwrap(), 1);
    assert_eq!(shelf.kept.lock().unwrap().len(), 0);
}
