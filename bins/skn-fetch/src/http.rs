//! Headers and addresses.

use ureq::Body;
use ureq::http::{Response, Uri};

/// A header, if it is there and text.
pub(crate) fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// First byte and length of the whole, of a header such as `bytes 5-9/10`.
pub(crate) fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-')?.0.parse().ok()?;
    Some((start, total.parse().ok()))
}

/// Scheme, host and port.
pub(crate) fn origin(url: &str) -> Option<(String, String, Option<u16>)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_string(), uri.host()?.to_ascii_lowercase(), uri.port_u16()))
}

/// Where a redirect from `url` leads; nothing if not to http or https, or from https to http.
pub(crate) fn redirected(url: &str, to: &str) -> Option<String> {
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
pub(crate) fn place_of(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_string()
}

/// A path of a URL; slashes stay.
pub(crate) fn percent_encoded(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) => encoded.push(byte.into()),
            byte => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::Hash;

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
        assert_eq!(percent_encoded("a b/c#?.json"), "a%20b/c%23%3F.json");
        assert_eq!(place_of("https://cdn/b?signature=s"), "https://cdn/b");
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
