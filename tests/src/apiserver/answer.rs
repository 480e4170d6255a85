//! Answers as an API server words them.

use axum::{
    body::Body,
    http::{StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use serde_json::{Value, json};

/// A JSON answer.
pub fn json(code: StatusCode, value: &Value) -> Response {
    let body = Body::from(value.to_string());
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    response
}

/// A `Status` object.
pub fn status_object(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

/// A `Status` as the whole answer.
pub fn status(code: StatusCode, reason: &str, message: &str) -> Response {
    json(code, &status_object(code, reason, message))
}

/// 404.
pub fn not_found(message: &str) -> Response {
    status(StatusCode::NOT_FOUND, "NotFound", message)
}

/// The object that a request brings.
pub fn object(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok().filter(Value::is_object)
}

/// 400: it brings none.
pub fn no_object() -> Response {
    status(StatusCode::BAD_REQUEST, "BadRequest", "the body is no object")
}
