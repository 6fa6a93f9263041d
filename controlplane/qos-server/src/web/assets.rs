//! The page's files, which are in the program; a debug build reads them from disk.

use std::fmt::Write as _;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "web/"]
struct Files;

/// A file, unless the browser has it.
pub(super) async fn asset(uri: Uri, headers: HeaderMap) -> Response {
    let path = match uri.path().trim_start_matches('/') {
        "" => "index.html",
        path => path,
    };
    let (Some(kind), Some(file)) = (kind(path), Files::get(path)) else {
        return (StatusCode::NOT_FOUND, "there is no such file").into_response();
    };
    let tag = tag(&file.metadata.sha256_hash());
    let known = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|tags| tags.to_str().ok());
    let has_it = known.any(|tags| {
        tags.split(',')
            .any(|it| it.trim().trim_start_matches("W/") == tag)
    });
    let described = [
        (header::ETAG, tag),
        // Ask each time; the answer is short when nothing has changed.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::CONTENT_TYPE, kind.to_owned()),
    ];
    if has_it {
        return (StatusCode::NOT_MODIFIED, described).into_response();
    }
    (described, Body::from(file.data.into_owned())).into_response()
}

fn kind(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

fn tag(hash: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in hash.iter().take(16) {
        // Writing to a String does not fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag.push('"');
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OPERATOR's page may have, bytes.
    const MOST: usize = 110_000;

    #[test]
    fn the_page_is_small_and_what_others_made_is_as_they_made_it() {
        let sizes = Files::iter()
            .filter(|path| kind(path).is_some_and(|kind| !kind.starts_with("text/plain")))
            .map(|path| Files::get(&path).unwrap().data.len());
        let total: usize = sizes.sum();
        assert!(total <= MOST, "{total} bytes");
        let sums = Files::get("vendor/SHA256SUMS").unwrap().data;
        let sums = String::from_utf8(sums.into_owned()).unwrap();
        assert!(sums.lines().count() >= 3);
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            let file = Files::get(&format!("vendor/{name}")).unwrap();
            let mut hash = String::new();
            for byte in file.metadata.sha256_hash() {
                write!(hash, "{byte:02x}").unwrap();
            }
            assert_eq!(hash, sum, "{name}");
        }
    }
}
