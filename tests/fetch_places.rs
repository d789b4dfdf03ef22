//! Where `skn-fetch` looks and what it may do, by its flags, the environment and what is in the cache.

#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use crate::fetching;
use crate::hub;

use std::fs;
use std::path::Path;

use fetching::{Desk, Said, model, names, said, weights};
use hub::{COMMIT, Hub};

const SECRET: &str = "hf_verysecret";

#[test]
fn who_may_not_is_told_how() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| hub.token = Some(SECRET.into()));
    desk.fails(&hub, "owner/name", 4, &["401", "private", "HF_TOKEN", "--token-file"]);
    fs::write(desk.path("token"), format!("{SECRET}\n")).unwrap();
    let said = desk.ok(&hub, "owner/name --token-file token -vv");
    assert!(!(said.stderr + &said.stdout).contains(SECRET));
    let asked = hub.asked();
    let of_contents = |asked: &&hub::Asked| asked.path.contains("/elsewhere/");
    assert!(asked.iter().any(|asked| of_contents(&asked)));
    for asked in asked.iter().filter(of_contents) {
        assert_eq!(asked.headers.get("authorization"), None, "the token goes to the Hub alone");
    }
    // From the environment, and from where the login programs leave it.
    assert_eq!(said_with(&desk, &hub, "HF_TOKEN", SECRET).code, 0);
    assert_eq!(said_with(&desk, &hub, "HUGGING_FACE_HUB_TOKEN", SECRET).code, 0);
    assert_eq!(said_with(&desk, &hub, "HF_TOKEN_PATH", "token").code, 0);
    fs::copy(desk.path("token"), desk.path("home/token")).unwrap();
    desk.ok(&hub, "owner/name");
    let wrong = said_with(&desk, &hub, "HF_TOKEN", "hf_another_secret");
    assert!(wrong.code == 4 && wrong.stderr.contains("not valid"), "{}", wrong.stderr);
    let broken = said_with(&desk, &hub, "HF_TOKEN", "two secrets");
    assert!(broken.code == 3 && broken.stderr.contains("HF_TOKEN: expected a token"), "{}", broken.stderr);
    for stderr in [wrong.stderr, broken.stderr] {
        assert!(!stderr.contains("secret"), "{stderr}");
    }
    desk.fails(&hub, "owner/name --token-file nowhere", 3, &["nowhere"]);
}

#[test]
fn a_token_is_found_where_python_finds_it() {
    let (hub, desk) = (model(), Desk::new());
    hub.now(|hub| hub.token = Some(SECRET.into()));
    fs::write(desk.path("token"), SECRET).unwrap();
    let with = |name: &str, value: &str| {
        said(desk.command(&hub, "owner/name").env(name, value).env("HOME", desk.folder.path()).env("T", "~"))
    };
    assert_eq!(with("HUGGING_FACE_HUB_TOKEN", SECRET).code, 0);
    assert_eq!(with("HF_TOKEN_PATH", "~/token").code, 0);
    assert_eq!(with("HF_TOKEN_PATH", "$HOME/token").code, 0);
    assert_eq!(with("HF_TOKEN_PATH", "$T/token").code, 2, "a tilde from a variable is no home folder");
    // Who has not logged in gets what is public.
    let none = with("HF_TOKEN_PATH", "nowhere");
    assert_eq!(none.code, 4);
    assert!(none.stderr.contains("nowhere: no such file, which HF_TOKEN_PATH names"), "{}", none.stderr);
    hub.now(|hub| hub.token = None);
    assert_eq!(with("HF_TOKEN_PATH", "nowhere").code, 0);
    // A place that the user named and that can't be looked at is an error, the usual one is not.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("loop", desk.path("loop")).unwrap();
        let shut = with("HF_TOKEN_PATH", "loop");
        assert_eq!(shut.code, 3, "{}", shut.stderr);
        assert!(shut.stderr.contains("HF_TOKEN_PATH: loop: can't look at: "), "{}", shut.stderr);
        let usual = desk.path("home/token");
        std::os::unix::fs::symlink("token", &usual).unwrap();
        let said = desk.ok(&hub, "owner/name");
        assert!(said.stderr.contains("home/token: can't look at: "), "{}", said.stderr);
        assert!(said.stderr.contains("no token is sent"), "{}", said.stderr);
        fs::remove_file(usual).unwrap();
    }
    hub.asked();
    assert_eq!(with("HF_TOKEN_PATH", "token").code, 0);
    assert!(hub.asked()[0].headers.contains_key("authorization"));
    fs::copy(desk.path("token"), desk.path("home/token")).unwrap();
    assert_eq!(with("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1").code, 0);
    assert!(hub.asked().iter().all(|asked| !asked.headers.contains_key("authorization")));
}

fn said_with(desk: &Desk, hub: &Hub, name: &str, value: &str) -> Said {
    said(desk.command(hub, "owner/name").env(name, value))
}

#[test]
fn the_cache_and_the_endpoint_are_where_flags_and_environment_say() {
    let (hub, nobody) = (model(), Hub::new("models/x/y", &[]));
    let desk = Desk::new();
    desk.ok(&nobody, &format!("owner/name --endpoint {}/ --cache here", hub.url));
    assert!(desk.path("here/models--owner--name/refs/main").is_file());
    let mut command = desk.command(&hub, "owner/name");
    assert_eq!(said(command.env("HF_HUB_CACHE", desk.path("there"))).code, 0);
    assert!(desk.path("there/models--owner--name/refs/main").is_file());
    assert!(nobody.asked().is_empty() && !desk.path("home").exists());
}

/// Variables of a file for containers, or of a job's, come with `~` and `$` in them: no shell was there.
#[test]
fn places_are_expanded_as_python_does() {
    let hub = model();
    for (name, value, cache) in [
        ("HF_HOME", "~/hf", "me/hf/hub"),
        ("HF_HUB_CACHE", "$SCRATCH/${USER_NAME}/hub", "scratch/bob/hub"),
        ("HUGGINGFACE_HUB_CACHE", "~/old", "me/old"),
        ("XDG_CACHE_HOME", "$SCRATCH", "scratch/huggingface/hub"),
    ] {
        let desk = Desk::new();
        let mut command = desk.command(&hub, "owner/name");
        command.env_remove("HF_HOME").env("HOME", desk.path("me")).env("SCRATCH", desk.path("scratch"));
        let said = said(command.env("USER_NAME", "bob").env(name, value));
        assert_eq!(said.code, 0, "{name}={value}: {}", said.stderr);
        let reference = desk.path(cache).join("models--owner--name/refs/main");
        assert!(reference.is_file(), "{name}={value}: {}", reference.display());
        let top = cache.split('/').next().unwrap();
        assert_eq!(names(desk.folder.path()), [top], "{name}={value}: nothing else");
    }
    let desk = Desk::new();
    let mut command = desk.command(&hub, "owner/name --cache=~/there");
    assert_eq!(said(command.env("HOME", desk.path("me"))).code, 0);
    assert_eq!(names(&desk.path("me/there")), [".locks", "models--owner--name"]);
    // Never a folder of this name.
    let mut command = desk.command(&hub, "owner/name");
    let other = said(command.env("HF_HOME", "~somebody/hf"));
    assert!(other.code == 2 && other.stderr.contains("HF_HOME: expected a path"), "{}", other.stderr);
    assert_eq!(names(desk.folder.path()), ["me"]);
}

#[test]
fn offline_opens_no_connection() {
    let (hub, desk) = (model(), Desk::new());
    let offline = |line: &str| said(desk.command(&hub, line).env("HF_HUB_OFFLINE", "1"));
    let said = offline("owner/name --revision v1");
    assert_eq!(said.code, 4);
    assert!(said.stderr.contains("`skn-fetch owner/name --revision v1`"), "{}", said.stderr);
    desk.fails(&hub, "owner/name --offline", 4, &["not in the cache", "`skn-fetch owner/name`"]);
    assert_eq!(hub.connections(), 0);
    desk.ok(&hub, "owner/name");
    let before = hub.connections();
    let here = offline("owner/name");
    assert_eq!((here.code, Path::new(here.stdout.trim_end())), (0, desk.snapshot().as_path()));
    // A link to itself that nobody asked for, and one that somebody did.
    #[cfg(unix)]
    {
        let link = desk.snapshot().join("loop");
        std::os::unix::fs::symlink("loop", &link).unwrap();
        assert_eq!(offline("owner/name").code, 0);
        let asked = offline("owner/name --include loop");
        assert_eq!(asked.code, 4, "{}", asked.stderr);
        let told = format!("error: {}: a link to loop, which", link.display());
        assert!(asked.stderr.contains(&told), "{}", asked.stderr);
        fs::remove_file(link).unwrap();
    }
    // What is there is checked.
    let blob = desk.blob(&hub.stored("model.safetensors").hash());
    let mut bytes = weights();
    bytes[77] ^= 1;
    fs::write(&blob, bytes).unwrap();
    desk.fails(&hub, "owner/name --offline", 4, &["model.safetensors: expected SHA-256"]);
    assert_eq!(hub.connections(), before);
}

#[test]
fn offline_is_said_in_every_way_of_python() {
    let (hub, desk) = (model(), Desk::new());
    for (name, line) in [
        ("HF_HUB_OFFLINE", "owner/name"),
        ("TRANSFORMERS_OFFLINE", "owner/name"),
        ("TRANSFORMERS_OFFLINE", "--dataset owner/name"),
        ("HF_DATASETS_OFFLINE", "--dataset owner/name"),
    ] {
        let said = said(desk.command(&hub, line).env(name, "YES"));
        assert_eq!(said.code, 4, "{name} {line}");
        assert!(said.stderr.contains(&format!("offline ({name})")), "{}", said.stderr);
    }
    assert_eq!(hub.connections(), 0);
    // That one is about data, and here the first is set.
    let mut command = desk.command(&hub, "owner/name");
    assert_eq!(said(command.env("HF_DATASETS_OFFLINE", "1")).code, 0);
    let mut command = desk.command(&hub, "owner/name");
    assert_eq!(said(command.env("HF_HUB_OFFLINE", "0").env("TRANSFORMERS_OFFLINE", "1")).code, 0);
    assert!(hub.connections() > 0);
}

/// Space is made by removing contents; the links stay.
#[cfg(unix)]
#[test]
fn a_content_that_was_removed_is_missed_and_fetched_again() {
    let (hub, desk) = (model(), Desk::new());
    desk.ok(&hub, "owner/name");
    for name in ["tokenizer.json", "model.safetensors", "config.json"] {
        let hash = hub.stored(name).hash();
        fs::remove_file(desk.blob(&hash)).unwrap();
        let link = format!("{name}: a link to ../../blobs/{hash}, which");
        let command = format!("`skn-fetch owner/name --revision {COMMIT}` fetches what is missing");
        desk.fails(&hub, "owner/name --offline", 4, &[&link, &command]);
        // What that command does.
        hub.now(|hub| hub.revision = COMMIT.into());
        desk.ok(&hub, &format!("owner/name --revision {COMMIT}"));
        hub.now(|hub| hub.revision = "main".into());
        desk.ok(&hub, "owner/name --offline");
    }
}

/// huggingface_hub 2 keeps a large content once for all repositories of a cache, under another name.
#[cfg(unix)]
#[test]
fn a_content_that_repositories_share_is_checked_by_its_own_hash() {
    let (hub, desk) = (model(), Desk::new());
    desk.ok(&hub, "owner/name");
    let blob = desk.blob(&hub.stored("model.safetensors").hash());
    let shared = desk.repository("blobs/ab").join("ab".repeat(32));
    fs::create_dir_all(shared.parent().unwrap()).unwrap();
    fs::rename(&blob, &shared).unwrap();
    std::os::unix::fs::symlink(format!("../../blobs/ab/{}", "ab".repeat(32)), &blob).unwrap();
    desk.ok(&hub, "owner/name --offline");
    hub.asked();
    desk.ok(&hub, "owner/name");
    assert_eq!(fetching::contents(&hub), [""; 0]);
    let mut bytes = weights();
    bytes[77] ^= 1;
    fs::write(&shared, &bytes).unwrap();
    desk.fails(&hub, "owner/name --offline", 4, &["model.safetensors: expected SHA-256"]);
    // Fetched for this repository alone: others may mean what is there.
    desk.ok(&hub, "owner/name");
    assert_eq!(fs::read(&blob).unwrap(), weights());
    assert_eq!(fs::read(&shared).unwrap(), bytes);
}

#[test]
fn a_commit_may_be_short_where_it_is_here() {
    let (hub, desk) = (model(), Desk::new());
    desk.ok(&hub, "owner/name");
    let said = desk.ok(&hub, &format!("owner/name@{} --offline", &COMMIT[..8]));
    assert_eq!(Path::new(said.stdout.trim_end()), desk.snapshot());
    // Copied without what names the commits.
    fs::remove_dir_all(desk.repository("models--owner--name/refs")).unwrap();
    let said = desk.ok(&hub, "owner/name --offline");
    assert_eq!(Path::new(said.stdout.trim_end()), desk.snapshot());
    assert!(said.stderr.contains(&format!("is the only snapshot, {COMMIT}")), "{}", said.stderr);
    let other = format!("f{}", &COMMIT[1..]);
    fs::create_dir(desk.snapshot().with_file_name(&other)).unwrap();
    desk.fails(&hub, "owner/name --offline", 2, &["expected one commit", COMMIT, &other]);
}

#[test]
fn a_cache_made_by_hand_is_enough_offline() {
    let (hub, desk) = (model(), Desk::new());
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::create_dir_all(desk.snapshot()).unwrap();
        fs::write(desk.snapshot().join(name), "{}").unwrap();
    }
    let refs = desk.repository("models--owner--name/refs");
    fs::create_dir_all(&refs).unwrap();
    fs::write(refs.join("main"), format!("{COMMIT}\n")).unwrap();
    desk.ok(&hub, "owner/name --offline");
    fs::remove_file(desk.snapshot().join("model.safetensors")).unwrap();
    desk.fails(&hub, "owner/name --offline", 4, &["model.safetensors", "`skn-fetch owner/name`"]);
    assert!(hub.asked().is_empty());
}

#[test]
fn the_version_says_more_where_it_is_asked_to() {
    let (hub, desk) = (model(), Desk::new());
    let short = format!("skn-fetch {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(desk.ok(&hub, "--version").stdout, short);
    let long = desk.ok(&hub, "--version -v").stdout;
    assert!(long.starts_with(&short) && long.contains("\ntarget: ") && long.contains("\nbuild: "), "{long}");
}
