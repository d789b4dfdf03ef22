use super::*;

fn model(text: &str) -> Option<Repository> {
    Repository::parse(Kind::Model, text)
}

#[test]
fn names_that_lead_elsewhere_are_none() {
    for wrong in ["", "a/b/c", "../x", "a/..", "a b", "/a", "a/", "a?b", "a@", "a@../b", "a@b//c", "a@b#c"] {
        assert_eq!(model(wrong), None, "{wrong}");
    }
    let found = model("FacebookAI/roberta-base@refs/pr/3").unwrap();
    assert_eq!((found.name.as_str(), found.revision.as_str()), ("FacebookAI/roberta-base", "refs/pr/3"));
    assert_eq!(model("roberta-base").unwrap().fetch_command(), "skn-fetch roberta-base");
}

#[test]
fn a_reference_that_is_no_commit_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let repository = model("owner/name").unwrap();
    let refs = cache.repository(&repository).join("refs");
    std::fs::create_dir_all(&refs).unwrap();
    std::fs::create_dir_all(cache.repository(&repository).join("snapshots/0123abcd")).unwrap();
    std::fs::write(refs.join("main"), "0123abcd\n").unwrap();
    assert!(cache.snapshot(&repository).unwrap().is_some_and(|path| path.ends_with("0123abcd")));
    std::fs::write(refs.join("main"), "../../elsewhere").unwrap();
    assert_eq!(cache.snapshot(&repository).unwrap(), None);
    assert!(cache.snapshot(&model("owner/name@0123abcd").unwrap()).unwrap().is_some());
}

#[cfg(unix)]
#[test]
fn links_stay_inside_the_repository() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::at(folder.path());
    let repository = model("owner/name@0123abcd").unwrap();
    let snapshot = cache.repository(&repository).join("snapshots/0123abcd");
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(cache.repository(&repository).join("blobs")).unwrap();
    std::fs::write(cache.repository(&repository).join("blobs/x"), "").unwrap();
    std::os::unix::fs::symlink("../../blobs/x", snapshot.join("config.json")).unwrap();
    std::os::unix::fs::symlink("../../blobs/lost", snapshot.join("lost.bin")).unwrap();
    assert!(cache.snapshot(&repository).unwrap().is_some());
    std::fs::write(folder.path().join("secret"), "").unwrap();
    std::os::unix::fs::symlink("../../../secret", snapshot.join("vocab.json")).unwrap();
    let message = cache.snapshot(&repository).unwrap_err().to_string();
    assert!(message.contains("vocab.json: leads out of"), "{message}");
}
