//! Which requests may come in at all: pure, before any session is looked at.

use std::net::SocketAddr;

use tonic::codegen::http::{HeaderMap, Method, StatusCode, header};

/// Services that a browser may call: what reads, and what people say. The others are for programs.
const SERVICES: [&str; 5] = [
    "/vedette.v1.QueryService/",
    "/vedette.v1.LabelService/",
    "/vedette.v1.ConsoleService/",
    "/vedette.v1.PolicyService/",
    "/vedette.v1.ModelService/",
];
/// Largest request: ten thousand labels would be more, and no person makes these by hand.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

/// Where a request is to go.
#[derive(Debug, PartialEq, Eq)]
pub enum To {
    /// A file of the console, by its path at the aggregator. Nothing secret: no session is needed.
    File(String),
    /// Begin a session.
    Enter,
    /// Say what is known of the session.
    Session,
    /// End the session.
    Leave,
    /// A method of the contract.
    Call,
}

/// A refusal, in words.
pub type Refusal = (StatusCode, &'static str);

/// Checks Host, Origin, method and path. `address` is where this proxy listens.
///
/// A page of another site can make a browser send requests here. Its name for this machine is not ours (Host), it says where it comes from
/// (Origin, Sec-Fetch-Site), and it is never told that it may read an answer: there is no CORS.
pub fn check(address: SocketAddr, method: &Method, path: &str, headers: &HeaderMap) -> Result<To, Refusal> {
    let own = [format!("127.0.0.1:{}", address.port()), format!("localhost:{}", address.port())];
    let host = text(headers, header::HOST.as_str()).unwrap_or_default();
    if !own.contains(&host.to_owned()) || headers.get_all(header::HOST).iter().count() != 1 {
        return Err((StatusCode::MISDIRECTED_REQUEST, "the console answers to 127.0.0.1 and localhost on its own port only"));
    }
    let origin = text(headers, header::ORIGIN.as_str());
    if origin.is_some_and(|origin| origin != format!("http://{host}")) || (origin.is_none() && headers.contains_key(header::ORIGIN)) {
        return Err((StatusCode::FORBIDDEN, "another site may not speak to the console"));
    }
    if text(headers, "sec-fetch-site").is_some_and(|site| !["same-origin", "none"].contains(&site)) {
        return Err((StatusCode::FORBIDDEN, "another site may not speak to the console"));
    }
    let to = match (method, path) {
        (&Method::GET, "/") => return Ok(To::File("/console/index.html".to_owned())),
        (&Method::GET, "/session") => return Ok(To::Session),
        (&Method::GET, path) if is_file(path) => return Ok(To::File(format!("/console{path}"))),
        (&Method::POST, "/session") => To::Enter,
        (&Method::DELETE, "/session") => To::Leave,
        (&Method::POST, path) if SERVICES.iter().any(|service| path.starts_with(service)) => To::Call,
        (&Method::GET | &Method::POST, _) => return Err((StatusCode::NOT_FOUND, "there is nothing here")),
        _ => return Err((StatusCode::METHOD_NOT_ALLOWED, "only GET, POST and DELETE")),
    };
    // Browsers name the origin of whatever is not a GET.
    if origin.is_none() {
        return Err((StatusCode::FORBIDDEN, "a request without an Origin does not come from the console"));
    }
    let length = text(headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse::<u64>().ok());
    if headers.contains_key(header::TRANSFER_ENCODING) || length.unwrap_or(0) > MAX_REQUEST_BYTES {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the request is too large, or does not say how large it is"));
    }
    if to == To::Call && !text(headers, header::CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with("application/grpc-web")) {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "only gRPC-web is spoken here"));
    }
    Ok(to)
}

/// A path as the build makes them; anything else is not looked for.
fn is_file(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    (2..=128).contains(&path.len()) && path.starts_with('/') && path.bytes().all(plain) && !path.contains("..") && path.contains('.')
}

/// A header as text; `None` where it is absent or is none.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The value of one of our cookies.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|line| line.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use tonic::codegen::http::HeaderValue;

    use super::*;

    const HOST: (&str, &str) = ("host", "127.0.0.1:4711");
    const ORIGIN: (&str, &str) = ("origin", "http://127.0.0.1:4711");
    const GRPC_WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");
    const CALL: &str = "/vedette.v1.QueryService/GetStatus";

    fn ask(method: &Method, path: &str, headers: &[(&'static str, &'static str)]) -> Result<To, u16> {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        check(([127, 0, 0, 1], 4711).into(), method, path, &headers).map_err(|(status, _)| status.as_u16())
    }

    #[test]
    fn the_console_itself_comes_in() {
        assert_eq!(ask(&Method::GET, "/", &[HOST]), Ok(To::File("/console/index.html".into())));
        assert_eq!(ask(&Method::GET, "/assets/console.js", &[HOST]), Ok(To::File("/console/assets/console.js".into())));
        assert_eq!(ask(&Method::POST, CALL, &[HOST, ORIGIN, GRPC_WEB]), Ok(To::Call));
        assert_eq!(ask(&Method::POST, "/session", &[HOST, ORIGIN]), Ok(To::Enter));
    }

    #[test]
    fn another_host_or_origin_is_refused() {
        assert_eq!(ask(&Method::GET, "/", &[("host", "evil.example:4711")]), Err(421));
        assert_eq!(ask(&Method::GET, "/", &[("host", "127.0.0.1:80")]), Err(421));
        assert_eq!(ask(&Method::GET, "/", &[]), Err(421));
        assert_eq!(ask(&Method::POST, CALL, &[HOST, ("origin", "http://evil.example"), GRPC_WEB]), Err(403));
        assert_eq!(ask(&Method::POST, CALL, &[HOST, ("origin", "null"), GRPC_WEB]), Err(403));
        assert_eq!(ask(&Method::POST, CALL, &[HOST, GRPC_WEB]), Err(403));
        assert_eq!(ask(&Method::GET, "/", &[HOST, ("sec-fetch-site", "cross-site")]), Err(403));
    }

    #[test]
    fn only_what_people_need_may_be_called() {
        for path in ["/vedette.v1.IngestService/Stream", "/vedette.v1.ExportService/Export", "/grpc.reflection.v1.ServerReflection/X"] {
            assert_eq!(ask(&Method::POST, path, &[HOST, ORIGIN, GRPC_WEB]), Err(404), "{path}");
        }
        assert_eq!(ask(&Method::POST, CALL, &[HOST, ORIGIN, ("content-type", "application/grpc")]), Err(415));
        assert_eq!(ask(&Method::POST, CALL, &[HOST, ORIGIN, GRPC_WEB, ("content-length", "9999999")]), Err(413));
        assert_eq!(ask(&Method::OPTIONS, CALL, &[HOST, ORIGIN]), Err(405));
        assert_eq!(ask(&Method::GET, "/../etc/passwd", &[HOST]), Err(404));
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_static("a=1; vedette-1=x; vedette-2=y"))]);

        assert_eq!(cookie(&headers, "vedette-2"), Some("y"));
        assert_eq!(cookie(&headers, "vedette"), None);
    }
}
