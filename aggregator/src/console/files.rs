//! The console's files, as they were built into this program.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{
        Service,
        http::{Method, Request, Response, StatusCode, header},
    },
    server::NamedService,
};

/// Path and content of each; empty where `console/dist` was not there.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/console_files.rs"));

/// Scripts, styles and connections of its own origin, and nothing else; no markup from strings; in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Shown where nothing was built in.
const ABSENT: &[u8] = b"<!doctype html><html lang=en><meta charset=utf-8><title>Vedette</title><h1>This aggregator has no console</h1>\
    <p>It was built from a checkout without <code>console/dist</code>. With npm, <code>make console</code> makes it; then build the \
    aggregator again. The command line, <code>vedette --help</code>, does everything that the console does.</p>";

/// Answers `GET /console/...`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Files;

impl NamedService for Files {
    const NAME: &'static str = "console";
}

impl Service<Request<Body>> for Files {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(answer(FILES, request.method(), request.uri().path())))
    }
}

fn answer(files: &[(&str, &'static [u8])], method: &Method, path: &str) -> Response<Body> {
    if method != Method::GET {
        return page(StatusCode::METHOD_NOT_ALLOWED, "text/plain", b"only GET\n");
    }
    let name = path.strip_prefix("/console/").unwrap_or_default();
    match files.iter().find(|(known, _)| *known == name) {
        Some((_, content)) => page(StatusCode::OK, media_type(name), content),
        None if files.is_empty() && name == "index.html" => page(StatusCode::OK, media_type(name), ABSENT),
        None => page(StatusCode::NOT_FOUND, "text/plain", b"no such file of the console\n"),
    }
}

fn page(status: StatusCode, media_type: &'static str, content: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_of(content)));
    *response.status_mut() = status;
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of the aggregator may answer the next time.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

/// axum's body is the one at hand that holds bytes without copying them.
fn http_body_of(content: &'static [u8]) -> axum::body::Body {
    axum::body::Body::from(content)
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &[(&str, &[u8])] = &[("index.html", b"<p>"), ("assets/console.js", b"1")];

    fn status(files: &[(&str, &'static [u8])], method: &Method, path: &str) -> u16 {
        answer(files, method, path).status().as_u16()
    }

    #[test]
    fn a_file_has_its_type_and_the_strict_policy() {
        let answered = answer(SOME, &Method::GET, "/console/assets/console.js");

        assert_eq!(answered.headers()["content-type"], "text/javascript; charset=utf-8");
        let policy = answered.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn only_what_was_built_in_is_given() {
        assert_eq!(status(SOME, &Method::GET, "/console/index.html"), 200);
        assert_eq!(status(SOME, &Method::GET, "/console/../Cargo.toml"), 404);
        assert_eq!(status(SOME, &Method::GET, "/console/"), 404);
        assert_eq!(status(SOME, &Method::POST, "/console/index.html"), 405);
    }

    #[test]
    fn without_files_a_page_says_how_to_build_them() {
        assert_eq!(status(&[], &Method::GET, "/console/index.html"), 200);
        assert_eq!(status(&[], &Method::GET, "/console/assets/console.js"), 404);
        assert!(String::from_utf8_lossy(ABSENT).contains("make console"));
    }
}
