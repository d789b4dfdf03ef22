//! The Hub as it is reached: what a repository has, and the content of its files.

use std::io::Read;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use anyhow::Result;
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;
use skn_hub::{self as hub, Kind, Repository};
use skn_program::Failure;
use ureq::http::{Response, StatusCode, Uri};
use ureq::{Agent, Body};

use crate::content::{Expected, Hash};
use crate::settings::Token;

/// A server that says nothing for so long has gone away.
const PATIENCE: Duration = Duration::from_secs(60);

/// A list of files above this size is not of this world.
const MAX_LISTING: u64 = 64 << 20;

/// From one address to the next, at most so often.
const MAX_REDIRECTS: usize = 10;

const USER_AGENT: &str = concat!("skn-fetch/", env!("CARGO_PKG_VERSION"));

/// A failed request, and whether another try may help.
pub(crate) enum Trouble {
    /// The connection or the server failed.
    Passing(anyhow::Error),
    /// The server has no bytes from there on.
    NoSuchRange(anyhow::Error),
    /// It will fail again.
    Lasting(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Lasting(error)
    }
}

impl From<Trouble> for anyhow::Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Passing(error) | Trouble::NoSuchRange(error) | Trouble::Lasting(error) => error,
        }
    }
}

/// What a repository has at a revision.
pub(crate) struct Listing {
    /// The commit of the revision.
    pub(crate) commit: String,
    /// The files.
    pub(crate) files: Vec<Listed>,
}

/// A file of a repository.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// Its name, with slashes.
    pub(crate) name: String,
    /// Its length and hash, if the Hub lists them.
    pub(crate) expected: Option<Expected>,
}

/// A repository on the Hub.
pub(crate) struct Remote<'a> {
    repository: &'a Repository,
    endpoint: &'a str,
    token: Option<Token>,
    api: Api,
    agent: Agent,
}

/// A content that begins to arrive.
pub(crate) struct Arriving {
    /// The byte that it begins with: the one asked for, or 0 where the server knows no ranges.
    pub(crate) from: u64,
    /// Length and hash of the whole, as the headers say.
    pub(crate) expected: Option<Expected>,
    /// The bytes, piece by piece, an empty one at the end. They are read by a thread of their own: a read that waits
    /// for a silent server does not end when a signal comes.
    pub(crate) pieces: Receiver<std::io::Result<Vec<u8>>>,
}

impl<'a> Remote<'a> {
    /// A repository at an endpoint. Nothing is sent yet.
    ///
    /// # Errors
    /// If the client can't be made.
    pub(crate) fn new(
        repository: &'a Repository,
        endpoint: &'a str,
        token: Option<Token>,
        cache: &hub::Cache,
    ) -> Result<Self> {
        let secret = token.as_ref().map(|token| token.reveal().to_string());
        // hf-hub looks for a token beside the cache by itself, and is given ours instead.
        let api = ApiBuilder::from_cache(Cache::new(cache.folder().into()))
            .with_endpoint(endpoint.into())
            .with_token(secret)
            .with_progress(false)
            .with_user_agent("skn-fetch", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|error| Failure::offline(format!("{endpoint}: no client can be made: {error}")))?;
        // Redirects are followed here, one by one: the Hub's own headers come with the first answer, and the token
        // goes to nobody else.
        let agent = Agent::config_builder()
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .build()
            .new_agent();
        Ok(Self { repository, endpoint, token, api, agent })
    }

    /// The commit and the files of the repository's revision.
    ///
    /// # Errors
    /// If the Hub can't be reached, has no such repository or revision, or does not give it to this token.
    pub(crate) fn list(&self) -> Result<Listing> {
        let Self { repository, endpoint, .. } = self;
        let request = self.api.repo(repo(repository, &repository.revision)).info_request();
        let request = request.query("blobs", "true").config().http_status_as_error(false);
        let request = request.timeout_connect(Some(PATIENCE)).timeout_per_read(Some(PATIENCE)).build();
        let mut response = request.call().map_err(|error| unreachable(endpoint, &error))?;
        if response.status() != StatusCode::OK {
            return Err(self.refused(&response, None).into());
        }
        let body = response.body_mut().with_config().limit(MAX_LISTING).read_to_vec();
        let body = body.map_err(|error| unreachable(endpoint, &error))?;
        let wrong = |found: String| {
            let name = &repository.name;
            Failure::offline(format!("{name}: {endpoint}: expected the Hub's list of files, found {found}"))
        };
        let info: Info = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
        if !hub::is_commit(&info.sha) {
            return Err(wrong(format!("commit {:?}", info.sha)));
        }
        let files = info.siblings.into_iter().map(Sibling::listed);
        let files = files.collect::<Result<_, _>>().map_err(|name| wrong(format!("file name {name:?}")))?;
        Ok(Listing { commit: info.sha, files })
    }

    /// Asks for a file from byte `from` on.
    ///
    /// # Errors
    /// If the Hub does not give it.
    pub(crate) fn open(&self, commit: &str, name: &str, from: u64) -> Result<Arriving, Trouble> {
        let at_hub = self.api.repo(repo(self.repository, commit)).url(&percent_encoded(name));
        let mut url = at_hub.clone();
        let mut said = Said::default();
        for _ in 0..MAX_REDIRECTS {
            let response = self.get(&url, from)?;
            if origin(&url) == origin(&at_hub) {
                said.hear(&response, commit, name)?;
            }
            let status = response.status();
            if !status.is_redirection() {
                return self.arriving(response, said, name, from);
            }
            let to = header(&response, "location").and_then(|to| redirected(&url, to));
            url = to.ok_or_else(|| {
                Failure::offline(format!("{name}: {status}: expected a redirect to http or https"))
            })?;
        }
        Err(Failure::offline(format!("{name}: redirected more than {MAX_REDIRECTS} times")).into())
    }

    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Trouble> {
        let mut request = self.agent.get(url).header("accept-encoding", "identity");
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        if let (Some(token), true) = (&self.token, origin(url) == origin(self.endpoint)) {
            request = request.header("authorization", format!("Bearer {}", token.reveal()));
        }
        request.call().map_err(|error| Trouble::Passing(unreachable(&place_of(url), &error)))
    }

    fn arriving(
        &self,
        response: Response<Body>,
        said: Said,
        name: &str,
        from: u64,
    ) -> Result<Arriving, Trouble> {
        let length = header(&response, "content-length").and_then(|text| text.parse::<u64>().ok());
        let (start, total) = match response.status() {
            StatusCode::OK => (0, length),
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&response, "content-range").unwrap_or_default();
                let (start, total) =
                    content_range(range).filter(|(start, _)| *start == from).ok_or_else(|| {
                        Failure::offline(format!("{name}: expected bytes from {from} on, found {range:?}"))
                    })?;
                (start, total)
            }
            StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => {
                let error = Failure::offline(format!("{name}: the server has no bytes from {from} on"));
                return Err(Trouble::NoSuchRange(error));
            }
            _ => return Err(self.refused(&response, Some(name))),
        };
        let expected = said.size.or(total).zip(said.hash).map(|(size, hash)| Expected { size, hash });
        if let (Some(Expected { size, .. }), Some(total)) = (&expected, total)
            && *size != total
        {
            return Err(wrong_length(name, *size, total).into());
        }
        Ok(Arriving { from: start, expected, pieces: pieces(response.into_body().into_reader()) })
    }

    /// Why the Hub does not give a file, or the whole repository.
    fn refused(&self, response: &Response<Body>, file: Option<&str>) -> Trouble {
        let Repository { kind, name, revision } = self.repository;
        let (noun, endpoint, status) = (kind.noun(), self.endpoint, response.status());
        let what = file.map_or_else(|| name.clone(), |file| format!("{name}: {file}"));
        let token = "a token with read access (HF_TOKEN or --token-file FILE)";
        let code = header(response, "x-error-code").unwrap_or_default();
        let reason = match (status.as_u16(), code) {
            (_, "GatedRepo") => {
                format!("access must be asked for on its page, and needs {token}")
            }
            (_, "RevisionNotFound") => format!("the {noun} has no revision {revision}"),
            (_, "EntryNotFound") => "the file is not there".into(),
            (401, _) if self.token.is_none() => {
                format!("there is no such {noun}, or it is private and needs {token}")
            }
            (401, _) => "the token is not valid".into(),
            (403, _) if self.token.is_none() => format!("access needs {token}"),
            (403, _) => "the token gives no access to it".into(),
            (404, _) => {
                format!("there is no such {noun}, no revision {revision} of it, or the token does not see it")
            }
            (429, _) => "too many requests; wait, or log in with a token".into(),
            _ => "the server failed".into(),
        };
        let error = Failure::offline(format!("{what}: {endpoint} answers {status}: {reason}"));
        match status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            true => Trouble::Passing(error),
            false => Trouble::Lasting(error),
        }
    }
}

fn pieces(mut reader: impl Read + Send + 'static) -> Receiver<std::io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(4);
    let read = move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let piece = match reader.read(&mut buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read.map(|count| buffer[..count].to_vec()),
            };
            let last = piece.as_ref().map_or(true, Vec::is_empty);
            // An error here: nobody wants more.
            if sender.send(piece).is_err() || last {
                return;
            }
        }
    };
    std::thread::spawn(read);
    receiver
}

/// A content is of another length than the Hub lists.
pub(crate) fn wrong_length(name: &str, expected: u64, found: impl std::fmt::Display) -> anyhow::Error {
    Failure::offline(format!("{name}: expected {expected} bytes, found {found}"))
}

fn repo(repository: &Repository, revision: &str) -> Repo {
    let kind = match repository.kind {
        Kind::Model => RepoType::Model,
        Kind::Dataset => RepoType::Dataset,
    };
    Repo::with_revision(repository.name.clone(), kind, revision.into())
}

/// What the Hub's own answers say of a content, before others send it.
#[derive(Default)]
struct Said {
    size: Option<u64>,
    hash: Option<Hash>,
}

impl Said {
    fn hear(&mut self, response: &Response<Body>, commit: &str, name: &str) -> Result<()> {
        if let Some(found) = header(response, "x-repo-commit")
            && found != commit
        {
            return Err(Failure::offline(format!("{name}: expected commit {commit}, found {found}")));
        }
        let linked = header(response, "x-linked-etag");
        let etag = linked.or_else(|| header(response, "etag").filter(|_| response.status().is_success()));
        self.hash = etag.and_then(Hash::parse_etag).or(self.hash.take());
        let size = header(response, "x-linked-size").and_then(|text| text.parse().ok());
        self.size = size.or(self.size);
        Ok(())
    }
}

/// The Hub's description of a repository, as `?blobs=true` asks for it.
#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Sibling {
    /// Checked; a name that would lead out of the folder is the error.
    fn listed(self) -> Result<Listed, String> {
        let Self { rfilename: name, size, blob_id, lfs } = self;
        let part = |part: &str| !part.is_empty() && part != "." && part != "..";
        if !name.split('/').all(part) || name.contains(['\\', ':']) || name.contains(char::is_control) {
            return Err(name);
        }
        let (size, hash) = match lfs {
            Some(Large { sha256, size }) => (Some(size), Hash::parse(&sha256)),
            None => (size, blob_id.as_deref().and_then(Hash::parse)),
        };
        Ok(Listed { name, expected: size.zip(hash).map(|(size, hash)| Expected { size, hash }) })
    }
}

fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// First byte and length of the whole, of a header such as `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    Some((start, total.parse().ok()))
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<(String, String, Option<u16>)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_string(), uri.host()?.to_ascii_lowercase(), uri.port_u16()))
}

/// Where a redirect from `url` leads; nothing if not to http or https, or from https to http.
fn redirected(url: &str, to: &str) -> Option<String> {
    let from: Uri = url.parse().ok()?;
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    let to = match to.strip_prefix('/') {
        Some(rest) if rest.starts_with('/') => format!("{scheme}:{to}"),
        Some(_) => format!("{scheme}://{authority}{to}"),
        None => to.to_string(),
    };
    let next: Uri = to.parse().ok()?;
    match next.scheme_str()? {
        "https" => Some(to),
        "http" if scheme == "http" => Some(to),
        _ => None,
    }
}

/// An address without what may be secret in it: the signature in a redirect's query.
fn place_of(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_string()
}

/// A path of a URL; slashes stay.
fn percent_encoded(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) => encoded.push(byte.into()),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

fn unreachable(place: &str, error: &ureq::Error) -> anyhow::Error {
    let hint = "is the network there? without it, what is in the cache is found with --offline";
    Failure::offline(format!("{place}: can't be reached: {error}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_to_the_web_and_never_to_less_safety() {
        let hub = "https://hub/a/resolve/x";
        assert_eq!(redirected(hub, "/b?c=1").unwrap(), "https://hub/b?c=1");
        assert_eq!(redirected(hub, "//cdn/b").unwrap(), "https://cdn/b");
        assert_eq!(redirected(hub, "https://cdn/b").unwrap(), "https://cdn/b");
        assert_eq!(redirected("http://hub:1/a", "/b").unwrap(), "http://hub:1/b");
        for wrong in ["http://cdn/b", "file:///etc/passwd", "b", ""] {
            assert_eq!(redirected(hub, wrong), None, "{wrong}");
        }
        assert_eq!(place_of("https://cdn/b?signature=s"), "https://cdn/b");
    }

    #[test]
    fn file_names_that_lead_elsewhere_are_refused() {
        let listed = |name: &str| {
            Sibling { rfilename: name.into(), size: None, blob_id: None, lfs: None }.listed().is_ok()
        };
        assert!(listed("a/b c.json") && listed("..a"));
        for wrong in ["", "/a", "a//b", "../a", "a/..", "a\\b", "c:x", "a\0"] {
            assert!(!listed(wrong), "{wrong:?}");
        }
        assert_eq!(percent_encoded("a b/c#?.json"), "a%20b/c%23%3F.json");
    }

    #[test]
    fn hashes_and_ranges_are_read_from_headers() {
        let digits = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(Hash::parse_etag(&format!("W/\"{digits}\"")), Some(Hash::Git(digits.into())));
        for wrong in ["", "\"../../x\"", "0123", &digits.to_uppercase()] {
            assert_eq!(Hash::parse_etag(wrong), None);
        }
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
    }
}
