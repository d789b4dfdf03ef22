//! A Hub on this machine: answers as the real one does, and as it should not where a test says so.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "clippy.toml allows it in tests, but not in their helpers")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use sha1::{Digest, Sha1};

/// The commit of every repository here.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A file of a repository.
#[derive(Clone)]
pub struct Stored {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Large files lie elsewhere: the Hub redirects.
    pub large: bool,
}

impl Stored {
    /// The hash that the Hub names the content by.
    pub fn hash(&self) -> String {
        if self.large {
            return skn_artifact::sha256_hex(&self.bytes);
        }
        let mut hash = Sha1::new();
        hash.update(format!("blob {}\0", self.bytes.len()));
        hash.update(&self.bytes);
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What a Hub does. By default all that it should.
#[derive(Clone)]
pub struct Manners {
    /// The path of the repository in the API, such as `models/owner/name`.
    pub repository: String,
    /// The revision that it has.
    pub revision: String,
    pub files: Vec<Stored>,
    /// Who does not send it is refused.
    pub token: Option<String>,
    /// Connections break after so many bytes of a content.
    pub cut: Option<usize>,
    /// Contents are answered so many times, then the server fails.
    pub contents: usize,
    /// Whether the list has lengths and hashes.
    pub lists_hashes: bool,
    /// Whether `Range` is understood.
    pub ranges: bool,
    /// Contents come with one byte changed.
    pub damages: bool,
    /// Contents come with so many bytes more, or less.
    pub length: isize,
    /// `X-Repo-Commit` of contents.
    pub commit: String,
    /// Where the Hub answers from now: it has moved there.
    pub moved_to: Option<String>,
    /// The headers of contents name another hash than the list.
    pub relabels: bool,
    /// Contents stop after the first `cut` bytes and the connection stays open.
    pub stalls: bool,
    /// What comes a byte at a time, 20 a second.
    pub dribbles: Option<Dribble>,
}

/// A part of what a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dribble {
    /// The list of files.
    List,
    /// The headers of contents.
    Heads,
    /// Contents.
    Contents,
}

impl Manners {
    fn label(&self, file: &Stored) -> String {
        if self.relabels { "0".repeat(file.hash().len()) } else { file.hash() }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub host: String,
    pub path: String,
    pub headers: HashMap<String, String>,
}

/// The files below a folder, by their names with slashes.
fn read(folder: &Path, prefix: &str, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        match path.is_dir() {
            true => read(&path, &format!("{name}/"), files),
            false => files.push((name, std::fs::read(path).unwrap())),
        }
    }
}

/// A server that runs as long as the process.
pub struct Hub {
    pub url: String,
    pub manners: Arc<Mutex<Manners>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
}

impl Hub {
    pub fn new(repository: &str, files: &[(&str, &[u8])]) -> Self {
        let large = |name: &str| [".safetensors", ".parquet"].iter().any(|end| name.ends_with(end));
        let stored = |(name, bytes): &(&str, &[u8])| Stored {
            name: (*name).into(),
            bytes: bytes.to_vec(),
            large: large(name),
        };
        Self::with(Manners {
            repository: repository.into(),
            revision: "main".into(),
            files: files.iter().map(stored).collect(),
            token: None,
            cut: None,
            contents: usize::MAX,
            lists_hashes: true,
            ranges: true,
            damages: false,
            length: 0,
            commit: COMMIT.into(),
            moved_to: None,
            relabels: false,
            stalls: false,
            dribbles: None,
        })
    }

    /// With the files of a folder, and of those in it.
    pub fn of_folder(repository: &str, folder: &Path) -> Self {
        let mut files = Vec::new();
        read(folder, "", &mut files);
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        Self::new(repository, &files)
    }

    fn with(manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let manners = Arc::new(Mutex::new(manners));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (shared, log, count) = (Arc::clone(&manners), Arc::clone(&asked), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                let (shared, log) = (Arc::clone(&shared), Arc::clone(&log));
                std::thread::spawn(move || {
                    // A client that goes away is no failure of the server.
                    serve(&stream.unwrap(), &shared, &log).ok();
                });
            }
        });
        Self { url, manners, asked, connections }
    }

    /// Makes it do something else.
    pub fn now(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.manners.lock().unwrap());
    }

    /// What was asked since the last time this was called.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// How often anybody connected, even if nothing was asked then.
    pub fn connections(&self) -> usize {
        // One of our own, behind all others in the queue; when it is answered they have been counted.
        let mut stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        stream.write_all(b"GET /ours HTTP/1.1\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        let mut asked = self.asked.lock().unwrap();
        asked.retain(|asked| asked.path != "/ours");
        self.connections.fetch_sub(1, Ordering::SeqCst) - 1
    }

    pub fn stored(&self, name: &str) -> Stored {
        let manners = self.manners.lock().unwrap();
        manners.files.iter().find(|file| file.name == name).unwrap().clone()
    }
}

/// A command with this Hub and nothing else of the environment's: no token, no proxy, no cache.
pub fn only<'c>(command: &'c mut Command, hub: &Hub) -> &'c mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        let of_python = ["HF_", "HUGGING", "TRANSFORMERS_"].iter().any(|start| text.starts_with(start));
        if of_python || text.ends_with("_PROXY") || text.starts_with("XDG_") {
            command.env_remove(name);
        }
    }
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").env("HF_ENDPOINT", &hub.url)
}

fn serve(stream: &TcpStream, manners: &Mutex<Manners>, log: &Mutex<Vec<Asked>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(()) };
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_string());
    }
    let host = headers.get("host").cloned().unwrap_or_default();
    let asked = Asked { host, path, headers };
    log.lock().unwrap().push(asked.clone());
    let answer = answer(&asked, &mut manners.lock().unwrap());
    let mut stream = stream;
    let dribbles = manners.lock().unwrap().dribbles;
    let of_list = asked.path.starts_with("/api/");
    write(stream, answer.head.as_bytes(), dribbles == Some(Dribble::Heads) && !of_list)?;
    let part = if of_list { Dribble::List } else { Dribble::Contents };
    write(stream, &answer.body, dribbles == Some(part))?;
    stream.flush()?;
    if answer.stalls {
        // Until the client is gone.
        stream.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn write(mut stream: &TcpStream, bytes: &[u8], dribbles: bool) -> std::io::Result<()> {
    if !dribbles {
        return stream.write_all(bytes);
    }
    for byte in bytes {
        stream.write_all(&[*byte])?;
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    Ok(())
}

struct Answer {
    head: String,
    body: Vec<u8>,
    stalls: bool,
}

fn plain(status: &str, headers: &str, body: impl Into<Vec<u8>>) -> Answer {
    let body = body.into();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    Answer { head, body, stalls: false }
}

fn answer(asked: &Asked, manners: &mut Manners) -> Answer {
    if let Some(name) = asked.path.strip_prefix("/elsewhere/") {
        return content(asked, name.split('?').next().unwrap(), manners);
    }
    let sent = asked.headers.get("authorization");
    if manners.token.as_ref().is_some_and(|token| sent != Some(&format!("Bearer {token}"))) {
        return plain("401 Unauthorized", "X-Error-Code: RepoNotFound\r\n", "Invalid username or password.");
    }
    let path = asked.path.split('?').next().unwrap().to_string();
    let Manners { repository, revision, moved_to, .. } = &*manners;
    let (kind, name) = repository.split_once('/').unwrap();
    if let Some(moved) = moved_to.as_ref().filter(|_| path.contains(name)) {
        return plain(
            "307 Temporary Redirect",
            &format!("Location: {}\r\n", asked.path.replace(name, moved)),
            "",
        );
    }
    let name = moved_to.as_deref().unwrap_or(name);
    if let Some(found) = path.strip_prefix(&format!("/api/{kind}/{name}/revision/")) {
        return match found.replace("%2F", "/") == *revision {
            true => plain("200 OK", "Content-Type: application/json\r\n", listing(manners)),
            false => plain("404 Not Found", "X-Error-Code: RevisionNotFound\r\n", ""),
        };
    }
    let name = if kind == "models" { name.to_string() } else { format!("{kind}/{name}") };
    match path.strip_prefix(&format!("/{name}/resolve/{COMMIT}/")) {
        Some(name) => resolve(asked, name, manners),
        None => plain("404 Not Found", "X-Error-Code: RepoNotFound\r\n", ""),
    }
}

fn listing(manners: &Manners) -> String {
    let sibling = |file: &Stored| {
        let (hash, size) = (file.hash(), file.bytes.len());
        match (manners.lists_hashes, file.large) {
            (false, _) => serde_json::json!({"rfilename": file.name}),
            (true, false) => serde_json::json!({"rfilename": file.name, "size": size, "blobId": hash}),
            (true, true) => serde_json::json!({
                "rfilename": file.name, "size": size, "blobId": "f".repeat(40),
                "lfs": {"sha256": hash, "size": size, "pointerSize": 134}
            }),
        }
    };
    let siblings: Vec<_> = manners.files.iter().map(sibling).collect();
    serde_json::json!({"id": "x", "sha": COMMIT, "siblings": siblings}).to_string()
}

fn resolve(asked: &Asked, name: &str, manners: &mut Manners) -> Answer {
    let name = name.replace("%20", " ");
    let Some(file) = manners.files.iter().find(|file| file.name == name).cloned() else {
        return plain("404 Not Found", "X-Error-Code: EntryNotFound\r\n", "Entry not found");
    };
    if !file.large {
        return content(asked, &name, manners);
    }
    // As the Hub's: another host (localhost is one), which must not get the token, and a signature.
    let (hash, size, commit) = (manners.label(&file), file.bytes.len(), &manners.commit);
    let host = asked.host.replace("127.0.0.1", "localhost");
    let headers = format!(
        "Location: http://{host}/elsewhere/{name}?signature=secret\r\nX-Linked-Etag: \"{hash}\"\r\n\
         X-Linked-Size: {size}\r\nX-Repo-Commit: {commit}\r\nETag: \"of-the-redirect\"\r\n"
    );
    plain("302 Found", &headers, "")
}

fn content(asked: &Asked, name: &str, manners: &mut Manners) -> Answer {
    if manners.contents == 0 {
        return plain("503 Service Unavailable", "", "");
    }
    manners.contents -= 1;
    let file = manners.files.iter().find(|file| file.name == name).cloned().unwrap();
    let mut bytes = file.bytes.clone();
    let size = bytes.len().saturating_add_signed(manners.length);
    bytes.resize(size, b'x');
    if manners.damages && !bytes.is_empty() {
        bytes[0] ^= 1;
    }
    let etag = if file.large { "anything".into() } else { manners.label(&file) };
    let mut headers = format!("ETag: \"{etag}\"\r\n");
    if !file.large {
        headers += &format!("X-Repo-Commit: {}\r\n", manners.commit);
    }
    let range = asked.headers.get("range").filter(|_| manners.ranges);
    let from = range.and_then(|text| text.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let mut answer = match from {
        Some(from) if from >= size => plain("416 Range Not Satisfiable", &headers, ""),
        Some(from) => {
            headers += &format!("Content-Range: bytes {from}-{}/{size}\r\n", size - 1);
            plain("206 Partial Content", &headers, &bytes[from..])
        }
        None => plain("200 OK", &headers, bytes),
    };
    if let Some(cut) = manners.cut.filter(|cut| *cut < answer.body.len()) {
        answer.body.truncate(cut);
        answer.stalls = manners.stalls;
    }
    answer
}
