use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::*;
use crate::environment::Environment;

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
fn only_the_path_of_a_snapshot_is_one() {
    let of = |path: &str| Snapshot::around(Path::new(path)).map(|it| it.repository().clone());
    let found = of("/c/models--roberta-base/snapshots/0123abcd/onnx").unwrap();
    assert_eq!(found, model("roberta-base@0123abcd").unwrap());
    let found = of("c/datasets--a--b-c/snapshots/0123abcd").unwrap();
    assert_eq!((found.kind, found.name.as_str()), (Kind::Dataset, "a/b-c"));
    for other in [
        "/c/models--a--b/snapshots",
        "/c/models--a--b/snapshots/mine",
        "/c/mine/snapshots/0123abcd",
        "/c/models--a--b/blobs/0123abcd",
        "/c/spaces--a--b/snapshots/0123abcd",
    ] {
        assert_eq!(of(other), None, "{other}");
    }
}

type Variables<'a> = &'a [(&'a str, &'a str)];

/// The variables of one case, in the home folder `/h/me`.
fn environment(variables: Variables<'_>) -> Environment<impl Fn(&str) -> Option<OsString>> {
    let variables: HashMap<String, OsString> =
        variables.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    Environment::new(move |name: &str| variables.get(name).cloned(), Some("/h/me".into()))
}

/// Expected are `HF_HUB_CACHE` and `HF_TOKEN_PATH` of huggingface_hub's constants.py, run with these variables.
#[test]
fn places_are_those_of_python() {
    const PLAIN: &str = "/h/me/.cache/huggingface";
    let plain_token = &format!("{PLAIN}/token");
    let cases: [(Variables<'_>, &str, &str); 16] = [
        (&[], &format!("{PLAIN}/hub"), plain_token),
        (&[("HF_HOME", "~/hf")], "/h/me/hf/hub", "/h/me/hf/token"),
        (&[("HF_HOME", "~")], "/h/me/hub", "/h/me/token"),
        (&[("HF_HOME", "relative")], "relative/hub", "relative/token"),
        (&[("HF_HUB_CACHE", "$HOME/hf/hub"), ("HOME", "/h/me")], "/h/me/hf/hub", plain_token),
        (&[("HF_HUB_CACHE", "${HOME}/hf/hub"), ("HOME", "/h/me")], "/h/me/hf/hub", plain_token),
        (&[("HUGGINGFACE_HUB_CACHE", "~/old")], "/h/me/old", plain_token),
        (
            &[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/h")],
            "/new",
            "/h/token",
        ),
        (&[("XDG_CACHE_HOME", "~/x")], "/h/me/x/huggingface/hub", "/h/me/x/huggingface/token"),
        (&[("XDG_CACHE_HOME", "$S/x"), ("S", "/s")], "/s/x/huggingface/hub", "/s/x/huggingface/token"),
        (&[("HF_HOME", "$UNSET/hf")], "$UNSET/hf/hub", "$UNSET/hf/token"),
        (
            &[("HF_HOME", "/a/${UNSET}$S$$S/~/$"), ("S", "/s")],
            "/a/${UNSET}/s$/s/~/$/hub",
            "/a/${UNSET}/s$/s/~/$/token",
        ),
        (&[("HF_HOME", "$S_2-$S.x${S"), ("S", "/s"), ("S_2", "/t")], "/t-/s.x${S/hub", "/t-/s.x${S/token"),
        // What comes out is expanded once more below HF_HOME.
        (&[("HF_HOME", "$A"), ("A", "$B"), ("B", "/b")], "/b/hub", "/b/token"),
        (&[("HF_HUB_CACHE", "$A"), ("A", "$B"), ("B", "/b")], "$B", plain_token),
        (&[("HF_TOKEN_PATH", "~/${A}"), ("A", "t")], &format!("{PLAIN}/hub"), "/h/me/t"),
    ];
    for (variables, cache, token) in cases {
        let environment = environment(variables);
        assert_eq!(environment.cache().unwrap(), Some(cache.into()), "{variables:?}");
        assert_eq!(environment.token().unwrap(), Some(token.into()), "{variables:?}");
    }
}

#[test]
fn nothing_makes_a_folder_of_a_tilde() {
    for (name, value, reason) in [
        ("HF_HOME", "~bob/hf", "another user"),
        ("HUGGINGFACE_HUB_CACHE", "~root", "another user"),
        ("HF_HUB_CACHE", "$T/hf", "stands for no home folder"),
    ] {
        let error = environment(&[(name, value), ("T", "~")]).cache().unwrap_err();
        assert_eq!(error.kind(), skn_artifact::ErrorKind::Usage);
        let message = error.to_string();
        assert!(message.starts_with(name) && message.contains(value), "{message}");
        assert!(message.contains(reason), "{message}");
    }
    let homeless = Environment::new(|name: &str| (name == "HF_HOME").then(|| "~/hf".into()), None);
    assert!(homeless.cache().unwrap_err().to_string().contains("HOME is not set"));
    assert_eq!(Environment::new(|_: &str| None, None).cache().unwrap(), None);
    let unset = |name: &str| match name {
        "HF_HUB_CACHE" => Some("$=/$\0/${=}/c".into()),
        name => panic!("{name:?} was asked for"),
    };
    assert_eq!(Environment::new(unset, None).cache().unwrap(), Some("$=/$\0/${=}/c".into()));
}

/// Expected is `HF_HUB_OFFLINE` of huggingface_hub's constants.py, for data also that of datasets' config.py.
#[test]
fn offline_is_what_python_calls_so() {
    let cases: [(Variables<'_>, Option<&str>, Option<&str>); 8] = [
        (&[], None, None),
        (&[("HF_HUB_OFFLINE", "1")], Some("HF_HUB_OFFLINE"), Some("HF_HUB_OFFLINE")),
        (&[("TRANSFORMERS_OFFLINE", "1")], Some("TRANSFORMERS_OFFLINE"), Some("TRANSFORMERS_OFFLINE")),
        (&[("TRANSFORMERS_OFFLINE", "On")], Some("TRANSFORMERS_OFFLINE"), Some("TRANSFORMERS_OFFLINE")),
        (&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")], None, None),
        (&[("HF_DATASETS_OFFLINE", "YES")], None, Some("HF_DATASETS_OFFLINE")),
        // datasets would try then, and huggingface_hub refuse.
        (
            &[("HF_DATASETS_OFFLINE", "0"), ("HF_HUB_OFFLINE", "true")],
            Some("HF_HUB_OFFLINE"),
            Some("HF_HUB_OFFLINE"),
        ),
        (&[("TRANSFORMERS_OFFLINE", "no"), ("HF_DATASETS_OFFLINE", "2")], None, None),
    ];
    for (variables, of_models, of_data) in cases {
        let environment = environment(variables);
        assert_eq!(environment.offline(Kind::Model), of_models, "{variables:?}");
        assert_eq!(environment.offline(Kind::Dataset), of_data, "{variables:?}");
    }
}

/// A cache with `owner/name` in it.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("models--owner--name").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The commit that a name leads to.
    fn commit(&self, name: &str) -> Result<Option<String>> {
        let folder = Cache::at(self.folder.path()).snapshot(&model(name).unwrap())?;
        Ok(folder.map(|folder| folder.file_name().unwrap().to_str().unwrap().to_string()))
    }
}

const ONE: &str = "0123abcd0123abcd0123abcd0123abcd0123abcd";
const OTHER: &str = "0123abcf0123abcd0123abcd0123abcd0123abcd";

#[test]
fn a_reference_that_is_no_commit_leads_nowhere() {
    let desk = Desk::new();
    desk.write("refs/main", "0123abcd\n");
    desk.write("snapshots/0123abcd/config.json", "");
    assert_eq!(desk.commit("owner/name").unwrap().as_deref(), Some("0123abcd"));
    desk.write("refs/main", "../../elsewhere");
    assert_eq!(desk.commit("owner/name").unwrap(), None);
    assert_eq!(desk.commit("owner/name@0123abcd").unwrap().as_deref(), Some("0123abcd"));
}

/// It may say another commit than the one that is here.
#[test]
fn a_reference_that_cannot_be_read_is_not_absent() {
    let desk = Desk::new();
    desk.write(&format!("snapshots/{ONE}/config.json"), "");
    assert_eq!(desk.commit("owner/name").unwrap().as_deref(), Some(ONE));
    desk.write("refs/main", &"0".repeat(5000));
    let message = desk.commit("owner/name").unwrap_err().to_string();
    assert!(message.contains("refs/main") && message.contains("5000 bytes"), "{message}");
    // A folder of references is none.
    std::fs::remove_file(desk.path("refs/main")).unwrap();
    desk.write("refs/pr/1", OTHER);
    desk.write(&format!("snapshots/{OTHER}/config.json"), "");
    assert_eq!(desk.commit("owner/name@pr").unwrap(), None);
    assert_eq!(desk.commit("owner/name@pr/1").unwrap().as_deref(), Some(OTHER));
}

#[test]
fn the_beginning_of_a_commit_is_enough_where_it_is_one() {
    let desk = Desk::new();
    desk.write("refs/main", ONE);
    for commit in [ONE, OTHER] {
        desk.write(&format!("snapshots/{commit}/config.json"), "");
    }
    assert_eq!(desk.commit("owner/name@0123abcd").unwrap().as_deref(), Some(ONE));
    assert_eq!(desk.commit(&format!("owner/name@{OTHER}")).unwrap().as_deref(), Some(OTHER));
    assert_eq!(desk.commit("owner/name@0123abce").unwrap(), None);
    // Too short to be told from a branch.
    assert_eq!(desk.commit("owner/name@0123ab").unwrap(), None);
    let message = desk.commit("owner/name@0123abc").unwrap_err().to_string();
    assert!(message.contains(ONE) && message.contains(OTHER), "{message}");
    // A branch may have such a name.
    desk.write("refs/0123abcd", OTHER);
    assert_eq!(desk.commit("owner/name@0123abcd").unwrap().as_deref(), Some(OTHER));
}

#[test]
fn a_copy_without_refs_is_its_only_snapshot() {
    let desk = Desk::new();
    desk.write(&format!("snapshots/{ONE}/config.json"), "");
    // The file managers of some systems leave such.
    desk.write("snapshots/.DS_Store", "");
    assert_eq!(desk.commit("owner/name").unwrap().as_deref(), Some(ONE));
    assert_eq!(desk.commit("owner/name@v1").unwrap(), None);
    // It is what another revision means, not main.
    desk.write("refs/refs/pr/1", ONE);
    assert_eq!(desk.commit("owner/name").unwrap(), None);
    let cache = Cache::at(desk.folder.path());
    let remains = cache.remains(&model("owner/name").unwrap()).unwrap();
    assert_eq!(remains, format!("here are owner/name@refs/pr/1, owner/name@{ONE}"));
    std::fs::remove_dir_all(desk.path("refs")).unwrap();
    desk.write(&format!("snapshots/{OTHER}/config.json"), "");
    let message = desk.commit("owner/name").unwrap_err().to_string();
    let parts = ["models--owner--name: revision main: expected one commit", ONE, OTHER];
    assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    assert!(message.ends_with(&format!("as in owner/name@{ONE}")), "{message}");
}

#[test]
fn what_remains_of_a_download_is_told() {
    let desk = Desk::new();
    let cache = Cache::at(desk.folder.path());
    assert_eq!(cache.remains(&model("owner/name").unwrap()), None);
    desk.write("refs/main", ONE);
    desk.write("blobs/4d7a.incomplete", "");
    assert_eq!(desk.commit("owner/name").unwrap(), None);
    let remains = cache.remains(&model("owner/name").unwrap()).unwrap();
    assert!(remains.contains("not finished") && remains.ends_with("blobs/4d7a.incomplete"), "{remains}");
}

#[cfg(unix)]
mod links {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A snapshot with one file, whose content is in `blobs`.
    fn snapshot(desk: &Desk) -> PathBuf {
        desk.write("blobs/4d7a", "{}");
        let folder = desk.path("snapshots").join(ONE);
        std::fs::create_dir_all(&folder).unwrap();
        symlink("../../blobs/4d7a", folder.join("config.json")).unwrap();
        folder
    }

    #[test]
    fn of_a_snapshot_stay_inside_the_repository() {
        let desk = Desk::new();
        let folder = snapshot(&desk);
        let blob = desk.path("blobs/4d7a").canonicalize().unwrap();
        assert_eq!(follow(&folder, &folder.join("config.json")).unwrap(), Some(blob));
        assert_eq!(follow(&folder, &folder.join("vocab.json")).unwrap(), None);
        std::fs::write(desk.folder.path().join("secret"), "").unwrap();
        symlink("../../../secret", folder.join("vocab.json")).unwrap();
        let message = follow(&folder, &folder.join("vocab.json")).unwrap_err().to_string();
        assert!(message.contains("vocab.json: leads out of its repository's folder"), "{message}");
        // The snapshot under another name is one all the same.
        let other = desk.folder.path().join("mine");
        symlink(&folder, &other).unwrap();
        assert!(matches!(follow(&other, &other.join("vocab.json")), Err(HubError::LeadsOut { .. })));
    }

    #[test]
    fn to_contents_on_a_larger_disk_are_followed() {
        let desk = Desk::new();
        let folder = snapshot(&desk);
        let disk = tempfile::tempdir().unwrap();
        std::fs::rename(desk.path("blobs/4d7a"), disk.path().join("4d7a")).unwrap();
        std::fs::remove_dir(desk.path("blobs")).unwrap();
        symlink(disk.path(), desk.path("blobs")).unwrap();
        let real = follow(&folder, &folder.join("config.json")).unwrap();
        assert_eq!(real, Some(disk.path().canonicalize().unwrap().join("4d7a")));
    }

    /// As huggingface_hub 2 leaves it: the content of a repository is a link itself.
    #[test]
    fn to_contents_that_all_repositories_share_are_followed() {
        let desk = Desk::new();
        let folder = snapshot(&desk);
        let shared = desk.folder.path().join("blobs/4d");
        std::fs::create_dir_all(&shared).unwrap();
        std::fs::rename(desk.path("blobs/4d7a"), shared.join("4d99")).unwrap();
        symlink("../../blobs/4d/4d99", desk.path("blobs/4d7a")).unwrap();
        let real = follow(&folder, &folder.join("config.json")).unwrap();
        assert_eq!(real, Some(shared.canonicalize().unwrap().join("4d99")));
        // Nothing else of the cache.
        std::fs::create_dir(desk.folder.path().join("models--other--one")).unwrap();
        std::fs::write(desk.folder.path().join("models--other--one/secret"), "").unwrap();
        symlink("../../../models--other--one/secret", folder.join("vocab.json")).unwrap();
        assert!(matches!(follow(&folder, &folder.join("vocab.json")), Err(HubError::LeadsOut { .. })));
    }

    #[test]
    fn of_a_plain_folder_lead_anywhere() {
        let (desk, disk) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(disk.path().join("weights"), "x").unwrap();
        symlink(disk.path().join("weights"), desk.path().join("a")).unwrap();
        symlink(disk.path(), desk.path().join("folder")).unwrap();
        let real = disk.path().canonicalize().unwrap().join("weights");
        for name in ["a", "folder/weights"] {
            assert_eq!(follow(desk.path(), &desk.path().join(name)).unwrap(), Some(real.clone()));
        }
    }

    #[test]
    fn to_nothing_are_named_with_what_helps() {
        let desk = Desk::new();
        let folder = snapshot(&desk);
        std::fs::remove_file(desk.path("blobs/4d7a")).unwrap();
        let broken = |path: &Path| follow(&folder, path).unwrap_err().to_string();
        let message = broken(&folder.join("config.json"));
        let start = format!("{}: a link to ../../blobs/4d7a, which", folder.join("config.json").display());
        assert!(message.starts_with(&start), "{message}");
        let command = format!("`skn-fetch owner/name --revision {ONE} --cache '");
        assert!(message.contains(&command) && !message.contains("incomplete"), "{message}");
        desk.write("blobs/4d7a.incomplete", "");
        assert!(broken(&folder.join("config.json")).contains("not finished (blobs/4d7a.incomplete)"));
        // A folder in the path, and one in a circle.
        symlink("nowhere", folder.join("onnx")).unwrap();
        symlink("circle", folder.join("circle")).unwrap();
        assert!(broken(&folder.join("onnx/config.json")).contains("onnx: a link to nowhere, which"));
        for path in ["circle", "circle/x"] {
            assert!(broken(&folder.join(path)).contains("circle: a link to circle, which"), "{path}");
        }
        let plain = tempfile::tempdir().unwrap();
        symlink("/nowhere/weights", plain.path().join("w")).unwrap();
        let message = follow(plain.path(), &plain.path().join("w")).unwrap_err().to_string();
        assert!(message.contains("w: a link to /nowhere/weights, which"), "{message}");
        assert!(message.ends_with("; mend the link, or put the file there"), "{message}");
    }
}
